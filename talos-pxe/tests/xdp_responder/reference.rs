//! The same network twice: the daemon's decisions, and the program in the kernel.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};
use talos_pxe::decisions::boot::loader::Loaders;
use talos_pxe::decisions::boot::origin::Origin;
use talos_pxe::decisions::dhcp::server::{Server, Settings, Step};
use talos_pxe::decisions::dhcp::templates::{self, Sender};
use talos_pxe::decisions::dhcp::{Ingress, Reply, proxy};
use talos_pxe::edges::xdp::Loaded;
use talos_pxe::state::leases::{Leases, Pool};
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
pub const SERVER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);
/// The machine that both sides know, and its address.
pub const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
pub const ALICES: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 2);
/// A machine that neither knows.
pub const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
pub const LEASE: Duration = Duration::from_secs(300);

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

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

/// A network of one of the services.
pub struct Network {
    service: Service,
    settings: Settings,
    sender: Sender,
    /// The program, in the kernel.
    pub loaded: Loaded,
}

impl Network {
    pub fn new(service: Service) -> Self {
        Self::with(service, settings(), 65_536)
    }

    pub fn with(service: Service, settings: Settings, capacity: u32) -> Self {
        let sender =
            Sender { mac: SERVER_MAC, own: settings.subnet, dhcp_port: 67, pxe_port: 4011 };
        let answers = match service {
            Service::Server => templates::of_server(&settings, &sender),
            Service::Proxy => templates::of_proxy(&settings.loaders, &sender),
        };
        let mut loaded = Loaded::new(&answers, capacity).unwrap();
        loaded.maps.insert(ALICE, ALICES, BootTime::now() + 100 * LEASE).unwrap();
        Self { service, settings, sender, loaded }
    }

    /// Runs the program on the frame.
    pub fn kernel(&mut self, frame: &[u8]) -> Verdict {
        let mut after = vec![0; 4096];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut after);
        let run = self.loaded.program().unwrap().test_run(options).unwrap();
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

    /// The DHCP server, after it has leased Alice her address.
    fn server(&self) -> Server {
        let last = Ipv4Addr::new(192, 168, 123, 200);
        let leases = Leases::new(Pool::new(ALICES, last, &[]));
        let mut server = Server::new(self.settings.clone(), leases);
        let from = Ingress { mac: ALICE, source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68) };
        let message = |kind| Message::new(Opcode::BootRequest, kind, 1, ALICE);
        let step = server.answer(BootTime::BOOT, from, message(MessageType::Discover));
        assert_eq!(step, Step::Probe(ALICES));
        assert_eq!(server.expired_probes(hour()).len(), 1);
        let mut request = message(MessageType::Request);
        request.options.add_addresses(OptionCode::RequestedIpAddress, &[ALICES]);
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
}

fn hour() -> BootTime {
    BootTime::BOOT + Duration::from_secs(3600)
}

pub fn settings() -> Settings {
    Settings {
        subnet: "192.168.123.1/24".parse().unwrap(),
        router: SERVER,
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        lease_time: LEASE,
        loaders: Loaders {
            origin: Origin { address: SERVER, port: 8080 },
            bios: "undionly.kpxe".into(),
            uefi: "snponly.efi".into(),
        },
    }
}
