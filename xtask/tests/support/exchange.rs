//! A machine's request, sent until it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::lab::qemu::Machine;
use xtask::load::frame::{Ask, Sender};
use xtask::load::packets::Packets;
use xtask::load::reply::Reply;

/// Asks the server in `machine` again until there is an answer.
pub fn exchange(
    packets: &mut Packets,
    machine: &mut Machine,
    sender: Sender,
    ask: Ask,
    patience: Duration,
) -> Result<Reply> {
    let mut frame = sender.ask(ask);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        machine.serial().check()?;
        let xid = fastrand::u32(..);
        packets.send(&[frame.with_xid(xid)])?;
        let next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < next {
            packets.wait(50);
            while let Some(reply) = packets.receive(Reply::parse) {
                if let Some(reply) = reply.filter(|reply| reply.xid == xid) {
                    return Ok(reply);
                }
            }
        }
    }
    bail!("no answer to {ask:?}")
}

/// A MAC address as octets.
pub fn octets(mac: &str) -> Result<[u8; 6]> {
    let octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let octets: Vec<u8> = octets.collect::<Result<_, _>>()?;
    octets.try_into().ok().with_context(|| format!("{mac} is no MAC address"))
}
