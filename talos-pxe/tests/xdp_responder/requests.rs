//! Requests, as clients send them and as they should not.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::frame::UdpFrame;

use super::reference::{ALICE, ALICES, BOB, SERVER, SERVER_MAC};

pub const RELAY: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 254);
pub const RELAY_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 1, 0]);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 9);
pub const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// A request, octet by octet.
#[derive(Clone, Debug)]
pub struct Request {
    pub source_mac: MacAddr,
    pub destination_mac: MacAddr,
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    /// `op`, `htype`, `hlen` and `hops`.
    pub head: [u8; 4],
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: MacAddr,
    /// The file that is asked for.
    pub file: &'static [u8],
    /// Code and value, and how many pads stand before.
    pub options: Vec<(u8, Vec<u8>, usize)>,
    /// Whether the options are ended.
    pub ended: bool,
    /// The least octets of the message.
    pub length: usize,
}

impl Request {
    /// A broadcast of this message type (option 53) from Alice.
    pub fn new(kind: u8) -> Self {
        Self {
            source_mac: ALICE,
            destination_mac: MacAddr::BROADCAST,
            source: SocketAddrV4::new(NONE, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            head: [1, 1, 6, 0],
            xid: 0xc0ff_ee00,
            secs: 0,
            flags: 0,
            ciaddr: NONE,
            giaddr: NONE,
            chaddr: ALICE,
            file: b"",
            options: vec![(53, vec![kind], 0)],
            ended: true,
            length: 300,
        }
    }

    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec(), 0));
        self
    }

    /// As a relay agent sends it on.
    pub fn relayed(mut self) -> Self {
        self.source_mac = RELAY_MAC;
        self.destination_mac = SERVER_MAC;
        self.source = SocketAddrV4::new(RELAY, 67);
        self.destination = SocketAddrV4::new(SERVER, 67);
        self.head[3] = 1;
        self.giaddr = RELAY;
        self.with(82, b"\x01\x04port\x02\x06remote")
    }

    pub fn message(&self) -> Vec<u8> {
        let mut message = self.head.to_vec();
        message.extend(self.xid.to_be_bytes());
        message.extend(self.secs.to_be_bytes());
        message.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, NONE, NONE, self.giaddr] {
            message.extend(address.octets());
        }
        message.extend(self.chaddr.0);
        message.resize(108, 0);
        message.extend(self.file);
        message.resize(236, 0);
        message.extend(MAGIC);
        for (code, value, pads) in &self.options {
            message.resize(message.len() + pads, 0);
            message.extend([*code, u8::try_from(value.len()).unwrap()]);
            message.extend(value);
        }
        if self.ended {
            message.push(255);
        }
        message.resize(message.len().max(self.length), 0);
        message
    }

    pub fn frame(&self) -> Vec<u8> {
        UdpFrame {
            source_mac: self.source_mac,
            destination_mac: self.destination_mac,
            source: self.source,
            destination: self.destination,
            payload: &self.message(),
        }
        .encode()
    }
}

/// The options of a client of each kind.
pub fn clients() -> Vec<Vec<(u8, Vec<u8>)>> {
    let list = (55, vec![1, 3, 6, 15, 66, 43]);
    let mut clients = vec![
        vec![],
        vec![(60, b"udhcp 1.35.0".to_vec()), list.clone()],
        vec![(55, vec![1, 3, 6, 12, 15, 66, 67])],
        vec![(55, (68..140).chain([67]).collect())],
        vec![(77, b"iPXE".to_vec())],
        vec![(77, b"\x04iPXE".to_vec()), (175, vec![0xb1, 1, 0x13, 0x13, 1, 1])],
        vec![(77, b"iPXE".to_vec()), (175, vec![0xb1, 1, 0x13, 0x24, 1, 1])],
        vec![(77, b"iPXE".to_vec()), (175, vec![0xb1, 9, 0x13])],
        vec![(60, b"PXEClient".to_vec()), list.clone()],
        vec![(60, b"HTTPClient:Arch:00016".to_vec())],
        vec![(60, b"vendor:Arch:00007".to_vec())],
        vec![(60, b"PXEClien".to_vec())],
    ];
    for code in [0u16, 6, 7, 9, 10, 11, 15, 16, 18, 19, 25, 31, 32, 0x1007] {
        let architecture = (93, code.to_be_bytes().to_vec());
        let class = |name: &str| (60, format!("{name}:Arch:{code:05}:UNDI:003016").into_bytes());
        let interface = (94, vec![1, 3, 16]);
        clients.extend([
            vec![architecture.clone(), (60, b"U-Boot.armv8".to_vec())],
            vec![class("PXEClient"), architecture.clone(), interface.clone(), list.clone()],
            vec![class("HTTPClient"), architecture.clone(), interface.clone()],
            vec![
                class("PXEClient"),
                architecture.clone(),
                (77, b"iPXE".to_vec()),
                (175, vec![0xb1, 5, 1, 2, 3, 4, 5, 0x18, 1, 1, 0x13, 1, 1, 0x15, 1, 1]),
            ],
        ]);
    }
    clients
}

prop_compose! {
    /// Where the address and the server stand in a REQUEST, rightly or not.
    fn state()(
        server in prop::sample::select(vec![None, Some(SERVER), Some(SERVER), Some(OTHER_SERVER)]),
        wanted in prop::sample::select(vec![None, Some(ALICES), Some(ALICES), Some(RELAY)]),
        ciaddr in prop::sample::select(vec![NONE, NONE, NONE, ALICES, ALICES, RELAY]),
    ) -> (Option<Ipv4Addr>, Option<Ipv4Addr>, Ipv4Addr) {
        (server, wanted, ciaddr)
    }
}

/// Values of the options that are echoed: often short, sometimes as long as can be.
fn echoed() -> impl Strategy<Value = Option<Vec<u8>>> {
    let value = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..40),
        1 => prop::collection::vec(any::<u8>(), 1..=255),
    ];
    prop::option::of(value)
}

prop_compose! {
    /// A well-formed request in any state, of any client, in any order of options.
    pub fn well_formed()(
        kind in prop::sample::select(vec![1u8, 1, 1, 3, 3, 3, 3, 4, 7, 8, 2]),
        (server, wanted, ciaddr) in state(),
        client in prop::sample::select(clients()),
        echoed in [echoed(), echoed(), echoed()],
        (xid, secs, flags, hops) in any::<(u32, u16, u16, u8)>(),
        giaddr in prop::sample::select(vec![NONE, NONE, NONE, RELAY, RELAY, Ipv4Addr::new(10, 1, 1, 1)]),
        chaddr in prop::sample::select(vec![ALICE, ALICE, ALICE, ALICE, ALICE, BOB]),
        source_ip in prop::sample::select(vec![NONE, ALICES, RELAY]),
        source_port in prop::sample::select(vec![68u16, 67, 4011, 30_000]),
        port in prop::sample::select(vec![67u16, 67, 67, 4011]),
        unicast in any::<bool>(),
        file in prop::sample::select(vec![&b""[..], b"", b"", b"bzImage"]),
        others in prop::collection::vec(
            (prop::sample::select(vec![12u8, 57, 94, 116, 145, 224]), any::<[u8; 2]>()), 0..3),
        length in 300usize..1472,
    )(
        options in Just({
            let mut options = vec![(53, vec![kind])];
            options.extend(server.map(|address| (54, address.octets().to_vec())));
            options.extend(wanted.map(|address| (50, address.octets().to_vec())));
            options.extend(client.clone());
            options.extend([97, 61, 82].into_iter().zip(echoed.clone())
                .filter_map(|(code, value)| Some((code, value?))));
            for (code, value) in &others {
                if options.iter().all(|(known, _)| known != code) {
                    options.push((*code, value.to_vec()));
                }
            }
            options
        }).prop_shuffle(),
        pads in prop::collection::vec(prop_oneof![4 => Just(0usize), 1 => 0usize..4], 16),
        (ciaddr, xid, secs, flags, hops, giaddr, chaddr) in
            Just((ciaddr, xid, secs, flags, hops, giaddr, chaddr)),
        (source_ip, source_port, port, unicast, length, file) in
            Just((source_ip, source_port, port, unicast, length, file)),
    ) -> Request {
        let (destination_mac, destination) =
            if unicast { (SERVER_MAC, SERVER) } else { (MacAddr::BROADCAST, Ipv4Addr::BROADCAST) };
        Request {
            source_mac: if giaddr == NONE { chaddr } else { RELAY_MAC },
            destination_mac,
            source: SocketAddrV4::new(source_ip, source_port),
            destination: SocketAddrV4::new(destination, port),
            head: [1, 1, 6, hops],
            xid, secs, flags, ciaddr, giaddr, chaddr, file,
            options: options.into_iter().zip(pads)
                .map(|((code, value), pads)| (code, value, pads)).collect(),
            ended: true,
            length,
        }
    }
}

/// What is done to a request to spoil it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An option once more, with another value.
    Again(prop::sample::Index, Vec<u8>),
    /// An option in another length.
    Length(prop::sample::Index, Vec<u8>),
    /// Option overload, with options in `file` and `sname`.
    Overload(u8),
    /// No end mark.
    Unended,
    /// Another octet in the fixed fields' head.
    Head(usize, u8),
    /// Pads without end.
    Pads(usize),
}

pub fn fault() -> impl Strategy<Value = Fault> {
    let value = || prop::collection::vec(any::<u8>(), 0..20);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), value()).prop_map(|(index, value)| Fault::Again(index, value)),
        (index(), value()).prop_map(|(index, value)| Fault::Length(index, value)),
        (0u8..5).prop_map(Fault::Overload),
        Just(Fault::Unended),
        (0usize..4, any::<u8>()).prop_map(|(at, value)| Fault::Head(at, value)),
        (0usize..300).prop_map(Fault::Pads),
    ]
}

impl Request {
    pub fn spoil(&mut self, fault: &Fault) {
        let count = self.options.len();
        match fault {
            Fault::Again(index, value) => {
                let (code, ..) = self.options[index.index(count)];
                self.options.push((code, value.clone(), 0));
            }
            Fault::Length(index, value) => self.options[index.index(count)].1.clone_from(value),
            Fault::Overload(value) => self.options.push((52, vec![*value], 0)),
            Fault::Unended => self.ended = false,
            Fault::Head(at, value) => self.head[*at] = *value,
            Fault::Pads(pads) => self.options[count - 1].2 = *pads,
        }
    }
}
