//! The DHCP and boot server ports: frames in, decisions, frames out.

mod handle;
mod records;
mod responder;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::Ipv4Net;
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

pub use handle::{Counters, Handle, Report};
pub use responder::{Leasing, Responder};

use handle::Ask;
use records::Records;

use super::packet::{Filter, PacketSocket};
use super::port_error;
use super::rules::InForce;
use super::xdp::FastPath;
use crate::cli::Ports;
use crate::decisions::boot::loader::Loaders;
use crate::decisions::dhcp::server::Step;
use crate::decisions::dhcp::{Ingress, Reply, Silence, proxy};
use crate::decisions::interface::Interface;
use crate::state::machines::Machines;
use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType};
use crate::wire::frame::{Arp, MAX_FRAME, UdpFrame};

/// How often the XDP program's events are taken, which wakes nobody for them.
const HEAR: Duration = Duration::from_millis(20);
/// The most events that are taken from the XDP program at a time.
const EVENTS: usize = 16_384;
/// The most ARP frames that are read before an address is offered.
const ANSWERS: usize = 64;
/// How often fixed addresses are looked after, and the next ones asked about ahead.
const UPHOLD: Duration = Duration::from_secs(1);

/// The DHCP service of one interface.
pub struct Service {
    interface: Interface,
    own: Ipv4Net,
    loaders: Loaders,
    responder: Responder,
    fast_path: Option<Box<FastPath>>,
    dhcp: Port,
    pxe: Port,
    arp: PacketSocket,
    records: Records,
    counters: Counters,
    asks: mpsc::Receiver<Ask>,
}

/// A UDP port whose frames we read.
#[derive(Debug)]
struct Port {
    number: u16,
    socket: PacketSocket,
    /// Owns the port, so that no other server takes it and the kernel sends no "port
    /// unreachable"; frames are never read from it.
    _owner: Socket,
}

impl Service {
    /// Opens the sockets. What is seen of machines goes into their records.
    ///
    /// # Errors
    /// A port that is in use, or missing rights; the error says what to do.
    pub fn open(
        interface: Interface,
        own: Ipv4Net,
        loaders: Loaders,
        responder: Responder,
        fast_path: Option<Box<FastPath>>,
        machines: Arc<Machines>,
        ports: Ports,
    ) -> anyhow::Result<(Self, Handle)> {
        let (handle, asks) = mpsc::channel(16);
        let service = Self {
            dhcp: Port::open(&interface, ports.dhcp_port)?,
            pxe: Port::open(&interface, ports.pxe_port)?,
            arp: PacketSocket::open(interface.index, Filter::Arp).context(NEEDS_RAW)?,
            interface,
            own,
            loaders,
            records: Records { machines, lease_time: responder.lease_time() },
            responder,
            fast_path,
            counters: Counters::default(),
            asks,
        };
        Ok((service, Handle(handle)))
    }

    /// Answers until `shutdown`, and gives out the fixed addresses of the rules in force.
    pub async fn serve(
        mut self,
        mut rules: InForce,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (mut dhcp, mut pxe, mut arp) = ([0; MAX_FRAME], [0; MAX_FRAME], [0; MAX_FRAME]);
        let mut hear = interval(HEAR);
        hear.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut uphold = interval(UPHOLD);
        uphold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.responder.next_deadline();
            tokio::select! {
                frame = self.dhcp.socket.receive(&mut dhcp) => {
                    if let Some((from, request)) = self.parse(frame) {
                        self.on_dhcp(from, request).await;
                    }
                }
                frame = self.pxe.socket.receive(&mut pxe) => {
                    if let Some((from, request)) = self.parse(frame) {
                        self.on_pxe(from, &request).await;
                    }
                }
                frame = self.arp.receive(&mut arp) => self.on_arp(frame).await,
                () = until(deadline) => self.on_deadline().await,
                reply = self.responder.stored(self.fast_path.as_deref_mut()) => {
                    self.send_some(reply?).await;
                }
                _ = hear.tick(), if self.fast_path.is_some() => self.hear(),
                Some(ask) = self.asks.recv() => self.tell(ask),
                Ok(()) = rules.changed() => self.reserve(&mut rules),
                _ = uphold.tick() => self.uphold().await,
                () = shutdown.cancelled() => break,
            }
        }
        info!(counters = ?self.counters, "DHCP stopped");
        if let Some(fast_path) = self.fast_path {
            info!(counters = ?fast_path.maps.counters()?, "XDP program detached");
        }
        Ok(())
    }

    /// The request in a frame, when it is one for us.
    fn parse(&mut self, frame: io::Result<&[u8]>) -> Option<(Ingress, Message)> {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                warn!(%error, interface = self.interface.name, "cannot receive");
                return None;
            }
        };
        let parsed = UdpFrame::parse(frame).map_err(|error| error.to_string()).and_then(|udp| {
            let message = Message::parse(udp.payload).map_err(|error| error.to_string())?;
            Ok((udp, message))
        });
        match parsed {
            Ok((udp, message)) if self.is_for_us(*udp.destination.ip()) => {
                trace!(?message, "received");
                Some((Ingress { mac: udp.source_mac, source: udp.source }, message))
            }
            // Somebody else's traffic, seen because the interface is promiscuous.
            Ok(_) => None,
            Err(error) => {
                self.counters.malformed += 1;
                debug!(error, "malformed frame dropped");
                None
            }
        }
    }

    fn is_for_us(&self, destination: Ipv4Addr) -> bool {
        [Ipv4Addr::BROADCAST, self.own.broadcast(), self.own.addr()].contains(&destination)
    }

    async fn on_dhcp(&mut self, from: Ingress, request: Message) {
        let mac = request.chaddr;
        self.records.asked(&request);
        match &mut self.responder {
            Responder::Server(leasing) if leasing.is_busy() => {
                self.stay_silent(Silence::Busy, mac);
            }
            Responder::Server(leasing) => {
                let step = leasing.server.answer(BootTime::now(), from, request);
                let should_look_ahead = leasing.server.should_look_ahead();
                self.take(step, mac).await;
                if should_look_ahead {
                    self.look_ahead().await;
                }
            }
            Responder::Proxy => match proxy::answer(from, &request, &self.loaders) {
                Ok(reply) => self.send(reply, self.dhcp.number).await,
                Err(reason) => self.stay_silent(reason, mac),
            },
        }
    }

    async fn on_pxe(&mut self, from: Ingress, request: &Message) {
        self.records.asked(request);
        match proxy::boot_server(from, request, &self.loaders) {
            Ok(reply) => self.send(reply, self.pxe.number).await,
            Err(reason) => self.stay_silent(reason, request.chaddr),
        }
    }

    async fn on_arp(&mut self, frame: io::Result<&[u8]>) {
        let Responder::Server(leasing) = &mut self.responder else { return };
        let Some(arp) = frame.ok().and_then(|frame| Arp::parse(frame).ok()) else { return };
        let in_use = leasing.server.in_use(BootTime::now(), arp.sender_ip, arp.sender_mac);
        if let Some((machine, step)) = in_use {
            warn!(address = %arp.sender_ip, by = %arp.sender_mac, "address is in use: not leased");
            self.take(step, machine).await;
        }
    }

    async fn on_deadline(&mut self) {
        // Whoever has answered in time must be heard before.
        let mut frame = [0; MAX_FRAME];
        for _ in 0..ANSWERS {
            let Some(answer) = self.arp.try_receive(&mut frame) else { break };
            self.on_arp(Ok(answer)).await;
        }
        let Responder::Server(leasing) = &mut self.responder else { return };
        for offer in leasing.server.expired_probes(BootTime::now()) {
            self.send(offer, self.dhcp.number).await;
        }
    }

    fn hear(&mut self) {
        let Some(fast_path) = &mut self.fast_path else { return };
        let sent = fast_path.maps.events(EVENTS);
        self.records.sent(&sent);
        if let Responder::Server(leasing) = &mut self.responder {
            leasing.hear(&sent, fast_path);
        }
    }

    fn tell(&mut self, ask: Ask) {
        // Whoever asked may have given up waiting.
        match ask {
            Ask::Report(back) => {
                let _ = back.send(self.report());
            }
            Ask::Leases(back) => {
                let _ = back.send(self.responder.leases().into_iter().flatten().collect());
            }
            Ask::Adopt(leases, back) => self.responder.adopt(leases, back),
        }
    }

    fn report(&self) -> Report {
        let of_xdp = |fast_path: &FastPath| {
            let counters = fast_path.maps.counters();
            let counters = counters.inspect_err(|error| debug!("no XDP counters: {error:#}"));
            Some((fast_path.mode(), counters.ok()?))
        };
        let leases = self.responder.leases().map(Iterator::count);
        let xdp = self.fast_path.as_deref().and_then(of_xdp);
        Report { counters: self.counters, xdp, leases }
    }

    fn reserve(&mut self, rules: &mut InForce) {
        if let Responder::Server(leasing) = &mut self.responder {
            let reservations = rules.borrow_and_update().inventory.addresses().collect();
            leasing.reserve(reservations, self.fast_path.as_deref_mut());
        }
    }

    async fn uphold(&mut self) {
        if let Responder::Server(leasing) = &mut self.responder {
            leasing.uphold(self.fast_path.as_deref_mut());
        }
        self.look_ahead().await;
    }

    async fn look_ahead(&mut self) {
        let Responder::Server(leasing) = &mut self.responder else { return };
        for address in leasing.server.look_ahead(BootTime::now()) {
            self.probe(address).await;
        }
    }

    async fn probe(&mut self, address: Ipv4Addr) {
        let probe = Arp::probe(self.interface.mac, address).encode();
        if let Err(error) = self.arp.send(&probe).await {
            warn!(%error, %address, "cannot ask if the address is in use");
        }
    }

    async fn take(&mut self, step: Step, mac: MacAddr) {
        let reply = match step {
            Step::Reply(reply) => Some(reply),
            Step::Silent(reason) => {
                self.stay_silent(reason, mac);
                None
            }
            Step::Probe(address) => {
                self.probe(address).await;
                None
            }
        };
        let reply = match &mut self.responder {
            Responder::Server(leasing) => leasing.keep(reply, self.fast_path.as_deref_mut()),
            Responder::Proxy => reply,
        };
        self.send_some(reply).await;
    }

    async fn send_some(&mut self, reply: Option<Reply>) {
        if let Some(reply) = reply {
            self.send(reply, self.dhcp.number).await;
        }
    }

    async fn send(&mut self, reply: Reply, port: u16) {
        let Reply { message, mac, destination } = reply;
        let frame = UdpFrame {
            source_mac: self.interface.mac,
            destination_mac: mac,
            source: SocketAddrV4::new(self.own.addr(), port),
            destination,
            payload: &message.encode(),
        };
        trace!(?message, %mac, %destination, "sending");
        match self.dhcp.socket.send(&frame.encode()).await {
            Ok(()) => {
                self.counters.answered += 1;
                self.records.answered(&message);
                log_answer(&message);
            }
            Err(error) => {
                self.counters.failed += 1;
                warn!(%error, machine = %message.chaddr, "cannot send");
            }
        }
    }

    fn stay_silent(&mut self, reason: Silence, mac: MacAddr) {
        self.counters.unanswered += 1;
        if let Silence::Released(_) | Silence::Declined(_) = reason {
            self.records.left(mac);
        }
        match reason {
            Silence::PoolExhausted
            | Silence::OtherSubnet(_)
            | Silence::NoBootFile(_)
            | Silence::Declined(_) => {
                warn!(machine = %mac, "no answer: {reason}");
            }
            _ => debug!(machine = %mac, "no answer: {reason}"),
        }
    }
}

fn log_answer(message: &Message) {
    let Message { kind, chaddr: machine, yiaddr: address, file, .. } = message;
    let file = String::from_utf8_lossy(file);
    match kind {
        MessageType::Ack => info!(%machine, %address, %file, "acknowledged"),
        MessageType::Nak => info!(%machine, "refused"),
        _ => debug!(%machine, %address, %file, "offered"),
    }
}

async fn until(deadline: Option<BootTime>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(BootTime::now())).await,
        None => std::future::pending().await,
    }
}

const NEEDS_RAW: &str = "cannot open a packet socket: run as root, or \
    `setcap cap_net_raw,cap_net_admin,cap_net_bind_service,cap_bpf+eip` the talos-pxe binary";

impl Port {
    fn open(interface: &Interface, number: u16) -> anyhow::Result<Self> {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number);
        let owner = own_port(interface, address)
            .map_err(|error| port_error("UDP", address.into(), &error))?;
        let socket =
            PacketSocket::open(interface.index, Filter::UdpPort(number)).context(NEEDS_RAW)?;
        Ok(Self { number, socket, _owner: owner })
    }
}

/// Binds a UDP port on the interface without ever receiving on it.
pub(crate) fn own_port(interface: &Interface, address: SocketAddrV4) -> io::Result<Socket> {
    const DROP_ALL: SockFilter = SockFilter::new(libc::BPF_RET as u16, 0, 0, 0);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.attach_filter(&[DROP_ALL])?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.bind(&address.into())?;
    Ok(socket)
}
