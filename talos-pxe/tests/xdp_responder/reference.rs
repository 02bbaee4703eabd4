//! The same network twice: the daemon's decisions, and the program in the kernel.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};
use ipnet::Ipv4Net;
use talos_pxe::decisions::boot::loader::{Architecture, Client, Loaders, Ukis};
use talos_pxe::decisions::boot::origin::Origin;
use talos_pxe::decisions::dhcp::server::{Server, Settings, Step};
use talos_pxe::decisions::dhcp::templates::{self, Answers, Sender};
use talos_pxe::decisions::dhcp::{Ingress, Reply, proxy};
use talos_pxe::edges::xdp::{Forwarder, Loaded, Sent};
use talos_pxe::state::leases::{Leases, Pool};
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe_ebpf::PROGRAM;
use talos_pxe_ebpf::maps::Answer;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
pub const SERVER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);
/// The machine that both sides know, and its address.
pub const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
pub const ALICES: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 2);
/// A machine that neither knows.
pub const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
pub const LEASE: Duration = Duration::from_secs(300);

const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;

/// What became of a frame in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answered with this frame.
    Answered(Vec<u8>),
    /// Passed on, as this frame.
    Passed(Vec<u8>),
}

/// Which of the two DHCP services runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Server,
    Proxy,
}

/// A network of one of the services, with one machine that both sides know.
pub struct Network {
    service: Service,
    settings: Settings,
    sender: Sender,
    machine: (MacAddr, Ipv4Addr),
    /// The program, in the kernel.
    pub loaded: Loaded,
}

impl Network {
    /// One that knows Alice.
    pub fn new(service: Service) -> Self {
        Self::with(service, settings(SERVER), SERVER_MAC, (ALICE, ALICES))
    }

    pub fn with(
        service: Service,
        settings: Settings,
        mac: MacAddr,
        machine: (MacAddr, Ipv4Addr),
    ) -> Self {
        let sender = Sender { mac, own: settings.subnet, dhcp_port: 67, pxe_port: 4011 };
        let answers = answers(service, &settings, &sender);
        let mut loaded = Loaded::new(&answers, 16).unwrap();
        loaded.maps.insert(machine.0, machine.1, BootTime::now() + 100 * LEASE).unwrap();
        Self { service, settings, sender, machine, loaded }
    }

    /// The same network with the program that logs. Must be called within a runtime.
    pub fn logging(mut self) -> (Self, Forwarder) {
        let (loaded, log) =
            Loaded::logging(&answers(self.service, &self.settings, &self.sender), 16).unwrap();
        self.loaded = loaded;
        let (mac, address) = self.machine;
        self.loaded.maps.insert(mac, address, BootTime::now() + 100 * LEASE).unwrap();
        (self, log)
    }

    /// Runs the program on the frame.
    pub fn kernel(&mut self, frame: &[u8]) -> Verdict {
        let mut after = vec![0; 4096];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut after);
        let run = self.loaded.program(PROGRAM).unwrap().test_run(options).unwrap();
        after.truncate(run.data_size_out as usize);
        match run.return_value {
            XDP_TX => Verdict::Answered(after),
            XDP_PASS => Verdict::Passed(after),
            verdict => panic!("XDP verdict {verdict}"),
        }
    }

    /// The frame that the daemon sends back, if any.
    pub fn daemon(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let udp = UdpFrame::parse(frame).ok()?;
        let request = Message::parse(udp.payload).ok()?;
        let own = self.sender.own;
        if ![Ipv4Addr::BROADCAST, own.broadcast(), own.addr()].contains(udp.destination.ip()) {
            return None;
        }
        let from = Ingress { mac: udp.source_mac, source: udp.source };
        let loaders = &self.settings.loaders;
        let reply = match (udp.destination.port(), self.service) {
            (4011, _) => proxy::boot_server(from, &request, loaders).ok()?,
            (67, Service::Proxy) => proxy::answer(from, &request, loaders).ok()?,
            (67, Service::Server) => match self.server().answer(hour(), from, request) {
                Step::Reply(reply) => reply,
                Step::Probe(_) | Step::Silent(_) => return None,
            },
            _ => return None,
        };
        Some(self.encode(&reply, udp.destination.port()))
    }

    /// The DHCP server, after it has leased the machine its address.
    fn server(&self) -> Server {
        let (mac, address) = self.machine;
        let leases = Leases::new(Pool::new(address, address, &[]));
        let mut server = Server::new(self.settings.clone(), leases);
        let from = Ingress { mac, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68) };
        let message = |kind| Message::new(Opcode::BootRequest, kind, 1, mac);
        let step = server.answer(BootTime::BOOT, from, message(MessageType::Discover));
        assert_eq!(step, Step::Probe(address));
        assert_eq!(server.expired_probes(hour()).len(), 1);
        let mut request = message(MessageType::Request);
        request.options.add_addresses(OptionCode::RequestedIpAddress, &[address]);
        let step = server.answer(hour(), from, request);
        assert!(matches!(step, Step::Reply(_)), "{step:?}");
        server
    }

    fn encode(&self, reply: &Reply, port: u16) -> Vec<u8> {
        UdpFrame {
            source_mac: self.sender.mac,
            destination_mac: reply.mac,
            source: SocketAddrV4::new(self.sender.own.addr(), port),
            destination: reply.destination,
            payload: &reply.message.encode(),
        }
        .encode()
    }

    /// Runs the frame through both sides: the kernel sends what the daemon would, or leaves the
    /// frame as it was. Returns whether the kernel answered it.
    pub fn compare(&mut self, frame: &[u8]) -> bool {
        match self.kernel(frame) {
            Verdict::Passed(after) => {
                assert!(after == frame, "passed on, but touched: {frame:02x?}");
                false
            }
            Verdict::Answered(reply) => {
                let expected = self.daemon(frame);
                assert_eq!(Some(&reply), expected.as_ref(), "another reply to {frame:02x?}");
                let sent = self.loaded.maps.events(usize::MAX);
                let [event] = &sent[..] else { panic!("{} events", sent.len()) };
                let request = UdpFrame::parse(frame).unwrap();
                let request = Message::parse(request.payload).unwrap();
                let udp = UdpFrame::parse(&reply).unwrap();
                let reply = Message::parse(udp.payload).unwrap();
                let answer = match (udp.source.port(), reply.kind) {
                    (4011, MessageType::Ack) => Answer::BootServer,
                    (67, MessageType::Ack) => Answer::Ack,
                    (67, MessageType::Offer) => Answer::Offer,
                    other => panic!("the kernel sent {other:?}"),
                };
                let expected = Sent {
                    time: event.time,
                    mac: request.chaddr,
                    answer,
                    class: event.class,
                    address: Some(reply.yiaddr).filter(|address| !address.is_unspecified()),
                };
                assert_eq!(*event, expected);
                let client = match Client::of(&request) {
                    Client::Pxe(Architecture::Other(_)) => Client::Pxe(OTHER),
                    Client::Http(Architecture::Other(_)) => Client::Http(OTHER),
                    Client::Bootp(Architecture::Other(_)) => Client::Bootp(OTHER),
                    client => client,
                };
                assert_eq!(templates::client(event.class), client);
                assert!(BootTime::now().since(event.time) < LEASE, "{event:?}");
                true
            }
        }
    }
}

fn answers(service: Service, settings: &Settings, sender: &Sender) -> Answers {
    match service {
        Service::Server => templates::of_server(settings, sender),
        Service::Proxy => templates::of_proxy(&settings.loaders, sender),
    }
}

const OTHER: Architecture = Architecture::Other(u16::MAX);

fn hour() -> BootTime {
    BootTime::BOOT + Duration::from_secs(3600)
}

pub fn settings(own: Ipv4Addr) -> Settings {
    Settings {
        subnet: Ipv4Net::new(own, 24).unwrap(),
        router: own,
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        lease_time: LEASE,
        loaders: Loaders {
            origin: Origin { address: own, port: 8080 },
            bios: "undionly.kpxe".into(),
            uefi: "snponly.efi".into(),
            arm64: Some("snponly-arm64.efi".into()),
            ukis: Ukis::default(),
        },
    }
}
