//! The machines of a load, and how they get their addresses.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::frame::{Ask, Frame, Mac, Sender};
use super::packets::Packets;
use super::reply::{ACK, NAK, OFFER, Reply};
use crate::interrupt;

/// How long a machine waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);

/// A machine with an address.
#[derive(Debug)]
pub struct Machine {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The address that it leased.
    pub address: Ipv4Addr,
    /// Its DISCOVER.
    pub discover: Frame,
    /// Its REQUEST for more time.
    pub renew: Frame,
}

/// The Ethernet address of machine `number`: locally administered.
pub fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    [0x06, 0x70, a, b, c, d]
}

/// The number of the machine with this Ethernet address, if it is one of ours.
pub fn number(mac: Mac) -> Option<u32> {
    let [0x06, 0x70, rest @ ..] = mac else { return None };
    Some(u32::from_be_bytes(rest))
}

/// What a machine has asked, and waits for.
struct Pending {
    sender: Sender,
    xid: u32,
}

/// Machines that get their addresses.
struct Binding<'a> {
    packets: &'a mut Packets,
    pending: HashMap<Mac, Pending>,
    /// When each request is given up, in order.
    timeouts: VecDeque<(Instant, Mac, u32)>,
    xid: u32,
}

impl Binding<'_> {
    fn ask(&mut self, sender: Sender, ask: Ask) -> Result<()> {
        self.xid = self.xid.wrapping_add(1);
        self.pending.insert(sender.mac, Pending { sender, xid: self.xid });
        self.timeouts.push_back((Instant::now() + PATIENCE, sender.mac, self.xid));
        self.packets.send(&[sender.ask(ask).with_xid(self.xid)]).context("cannot send")
    }

    /// Lets those begin anew that got no answer.
    fn give_up(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some((_, mac, xid)) = self.timeouts.pop_front_if(|(at, ..)| *at <= now) {
            let silent = self.pending.get(&mac).filter(|pending| pending.xid == xid);
            if let Some(sender) = silent.map(|pending| pending.sender) {
                self.ask(sender, Ask::Discover)?;
            }
        }
        Ok(())
    }

    /// Goes on with what a reply says; returns the machine that has its address then.
    fn take(&mut self, reply: Reply) -> Result<Option<Machine>> {
        let Reply { xid, mac, address, server, .. } = reply;
        let asked = self.pending.get(&mac).filter(|pending| pending.xid == xid);
        let Some(sender) = asked.map(|pending| pending.sender) else { return Ok(None) };
        match reply.kind {
            OFFER => self.ask(sender, Ask::Select { address, server })?,
            ACK => {
                self.pending.remove(&mac);
                let (discover, renew) =
                    (sender.ask(Ask::Discover), sender.ask(Ask::Renew(address)));
                return Ok(Some(Machine { mac, address, discover, renew }));
            }
            NAK => bail!("the server refused {address} to {mac:02x?}, which it had offered"),
            _ => {}
        }
        Ok(None)
    }
}

/// Makes the machines' requests anew, for another way to the server.
pub fn address(machines: &mut [Machine], like: Sender) {
    for machine in machines {
        let sender = Sender { mac: machine.mac, ..like };
        machine.discover = sender.ask(Ask::Discover);
        machine.renew = sender.ask(Ask::Renew(machine.address));
    }
}

/// Gets an address for each of `count` machines, of which at most `window` ask at a time.
///
/// # Errors
/// When the server refuses one, or gives no further machine an address for ten seconds.
pub fn bind(
    packets: &mut Packets,
    like: Sender,
    count: u32,
    window: usize,
) -> Result<Vec<Machine>> {
    // Not the identifiers of the load that follows.
    let xid = 0x8000_0000;
    let mut binding = Binding { packets, pending: HashMap::new(), timeouts: VecDeque::new(), xid };
    let mut machines = Vec::new();
    let mut numbers = 0..count;
    let mut last = Instant::now();
    while machines.len() < count as usize {
        interrupt::check()?;
        if last.elapsed() > Duration::from_secs(10) {
            let bound = machines.len();
            bail!("the server gave {bound} of {count} machines an address, then none for 10 s");
        }
        while binding.pending.len() < window
            && let Some(number) = numbers.next()
        {
            binding.ask(Sender { mac: mac(number), ..like }, Ask::Discover)?;
        }
        binding.give_up()?;
        match binding.packets.receive(Reply::parse) {
            None => binding.packets.wait(10),
            Some(None) => {}
            Some(Some(reply)) => {
                if let Some(machine) = binding.take(reply)? {
                    machines.push(machine);
                    last = Instant::now();
                }
            }
        }
    }
    Ok(machines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_address() {
        for machine in [0, 1, 0x1234_5678, u32::MAX] {
            assert_eq!(number(mac(machine)), Some(machine));
        }
        assert_eq!(number([2, 0, 0, 0, 0, 1]), None);
    }
}
