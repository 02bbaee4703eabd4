//! The machines' end of the cable: one network stack that has all their addresses, and none of
//! their Ethernet addresses.
//!
//! The kernel takes each address that may be leased for its own (a local route) and never says so
//! by ARP; we do, with the Ethernet address of the machine that has it. A program lets the kernel
//! take frames to any Ethernet address, and not just to the interface's own.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

use crate::exec;
use crate::lab::Host;
use crate::lab::bpf::{Link, Program};
use crate::lab::netns::Netns;
use crate::load::frame::{Ask, Mac, Sender, Target};
use crate::load::instruction::*;
use crate::load::packets::Packets;
use crate::load::reply::{self, Reply};

/// Where servers may lease addresses: all of 10.77.0.0/16 above 10.77.16.0.
const LEASES: [&str; 4] = ["10.77.16.0/20", "10.77.32.0/19", "10.77.64.0/18", "10.77.128.0/17"];

const BROADCAST: Mac = [0xff; 6];
/// The helper that changes whom a packet is for (`bpf_skb_change_type`), and the answers: us, and
/// that the packet goes on its way.
const CHANGE_TYPE: i32 = 32;
const PACKET_HOST: i32 = 0;
const TCX_NEXT: i32 = -1;

/// ARP for IPv4 over Ethernet (RFC 826): the type of the frame, and all up to the operation.
const ARP: [u8; 8] = [8, 6, 0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;

/// The machines' network.
#[derive(Debug)]
pub struct Network {
    netns: Netns,
    packets: Packets,
    server: Target,
    /// Who has which address.
    held: HashMap<Ipv4Addr, Mac>,
    /// Gets what the kernel sees of DHCP, which it would refuse otherwise. Nobody reads it.
    _sink: UdpSocket,
    _taker: Link,
}

/// What came for a machine.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A DHCP reply, and the file to start that it names. The machine could have had it at this
    /// time; it may have waited since for the others that are played.
    Reply { reply: Reply, file: Option<(Ipv4Addr, String)>, at: SystemTime },
    /// The answer by ARP: the server is there.
    ServerIsThere,
}

/// A frame.
enum Frame {
    For(Mac, Arrival),
    /// Somebody asks who has `address`.
    Question {
        address: Ipv4Addr,
        from: ArpParty,
    },
    Damaged,
    Other,
}

/// One side of an ARP packet.
type ArpParty = (Mac, Ipv4Addr);

impl Network {
    /// Takes the far end of a server's cable, which has no address; the server's is `address`.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn open(server: &Host, far: &Host, address: Ipv4Addr) -> Result<Network> {
        let target = Target { address, mac: server.mac_bytes()? };
        let mut lines = vec![
            "route add 10.77.0.0/16 dev eth0".to_owned(),
            format!("neigh replace {address} lladdr {} dev eth0 nud permanent", server.mac()),
        ];
        lines.extend(LEASES.map(|range| format!("route add local {range} dev lo")));
        for line in lines {
            exec::output(far.command("ip").args(line.split_whitespace()))?;
        }
        let take = || Program::load_classifier(&take_all())?.attach_ingress(c"eth0");
        let taker = far.netns().inside(|| {
            take().context("cannot attach the program that takes all frames, as Linux 6.6 can")
        })?;
        let sink = far.netns().inside(|| {
            // Never answer by ARP for a local address.
            fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", "8")
                .context("cannot keep the kernel from answering ARP")?;
            Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?)
        })?;
        Ok(Network {
            netns: far.netns().clone(),
            packets: Packets::open_with_arp(far)?,
            server: target,
            held: HashMap::new(),
            _sink: sink,
            _taker: taker,
        })
    }

    /// Where the machines' sockets are.
    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The socket that tells when frames have come.
    pub(super) fn packets(&self) -> &Packets {
        &self.packets
    }

    /// The server.
    pub(super) fn server(&self) -> Target {
        self.server
    }

    /// From now on a machine answers ARP for its address.
    pub(super) fn hold(&mut self, address: Ipv4Addr, mac: Mac) {
        self.held.insert(address, mac);
    }

    /// From now on nobody does.
    pub(super) fn let_go(&mut self, address: Ipv4Addr) {
        self.held.remove(&address);
    }

    /// Sends a DHCP request.
    pub(super) fn ask(&self, sender: &Sender, ask: Ask, xid: u32) -> Result<()> {
        self.packets.send(&[sender.ask(ask).with_xid(xid)]).context("cannot send")
    }

    /// Asks for the server's Ethernet address, as firmware does before it sends anything.
    pub(super) fn ask_for_server(&self, from: ArpParty) -> Result<()> {
        let question = arp(BROADCAST, ARP_REQUEST, from, ([0; 6], self.server.address));
        self.packets.send(&[&question]).context("cannot send")
    }

    /// The next thing that came for a machine, and its Ethernet address.
    ///
    /// # Errors
    /// When a frame is damaged, or the interface is down.
    pub(super) fn receive(&mut self) -> Result<Option<(Mac, Arrival)>> {
        while let Some(frame) = self.packets.receive_timed(read) {
            match frame {
                Frame::For(mac, arrival) => return Ok(Some((mac, arrival))),
                Frame::Question { address, from } => {
                    if let Some(mac) = self.held.get(&address) {
                        let answer = arp(from.0, ARP_REPLY, (*mac, address), from);
                        self.packets.send(&[&answer]).context("cannot send")?;
                    }
                }
                Frame::Damaged => ensure!(false, "a DHCP reply has wrong checksums"),
                Frame::Other => {}
            }
        }
        Ok(None)
    }
}

fn read(frame: &[u8], at: SystemTime) -> Frame {
    if let Some(reply) = Reply::parse(frame) {
        if !reply::sums_are_right(frame) {
            return Frame::Damaged;
        }
        let file = reply::boot_file(frame);
        return Frame::For(reply.mac, Arrival::Reply { reply, file, at });
    }
    read_arp(frame).unwrap_or(Frame::Other)
}

fn read_arp(frame: &[u8]) -> Option<Frame> {
    let (head, arp) = frame.get(12..)?.split_first_chunk()?;
    let [0, operation, rest @ ..] = arp else { return None };
    let (sender, rest) = rest.split_first_chunk::<10>()?;
    let target = rest.first_chunk::<10>()?;
    let party = |[a, b, c, d, e, f, ip @ ..]: [u8; 10]| ([a, b, c, d, e, f], Ipv4Addr::from(ip));
    match (*head == ARP, *operation) {
        (true, ARP_REQUEST) => {
            Some(Frame::Question { address: party(*target).1, from: party(*sender) })
        }
        (true, ARP_REPLY) => Some(Frame::For(party(*target).0, Arrival::ServerIsThere)),
        _ => None,
    }
}

/// An ARP packet in a frame of 60 octets, Ethernet's least.
fn arp(to: Mac, operation: u8, sender: ArpParty, target: ArpParty) -> Vec<u8> {
    let mut frame = [to, sender.0].concat();
    frame.extend(ARP);
    frame.extend([0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame.resize(60, 0);
    frame
}

/// The program that takes all packets as if they were for the interface.
fn take_all() -> [u64; 4] {
    [
        instruction(SET, 2, 0, 0, PACKET_HOST),
        instruction(CALL, 0, 0, 0, CHANGE_TYPE),
        instruction(SET, 0, 0, 0, TCX_NEXT),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_is_read_as_it_is_written() {
        let (machine, server) = (([6; 6], [10, 77, 16, 1].into()), ([2; 6], [10, 77, 0, 1].into()));
        let question = arp(BROADCAST, ARP_REQUEST, server, ([0; 6], machine.1));
        let read = |frame: &[u8]| read(frame, SystemTime::now());
        let Frame::Question { address, from } = read(&question) else { panic!("{question:?}") };
        assert_eq!((address, from), (machine.1, server));
        let answer = arp(machine.0, ARP_REPLY, server, machine);
        assert!(matches!(read(&answer), Frame::For(mac, Arrival::ServerIsThere) if mac == [6; 6]));
        for length in 0..42 {
            assert!(matches!(read(&answer[..length]), Frame::Other));
        }
    }
}
