//! The DHCP server (RFC 2131), as a state machine over `(now, request)`.
//!
//! Before an address is offered for the first time the segment is asked by ARP whether someone
//! uses it (RFC 2131 section 2.2). [`Server::answer`] then returns [`Step::Probe`]; the offer
//! follows from [`Server::expired_probes`], or another probe from [`Server::in_use`]. So that few
//! machines wait long for it, it is asked about the next addresses ahead: [`Server::look_ahead`].

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::ahead::Ahead;
use super::probes::Probes;
use super::reply::{self, Service};
use super::{Ingress, Reply, Silence};
use crate::decisions::boot::loader::{Client, Loaders};
use crate::state::leases::{Leases, Reservations, Upkeep};
use crate::state::store::{Change, Held};
use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};

/// What the server tells its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The subnet that is served; relay agents must be in it.
    pub subnet: Ipv4Net,
    /// Default router.
    pub router: Ipv4Addr,
    /// DNS servers; none leave the option out.
    pub dns: Vec<Ipv4Addr>,
    /// How long an address is leased.
    pub lease_time: Duration,
    /// Our own address, which is the server identifier, and the boot files.
    pub loaders: Loaders,
}

impl Settings {
    /// A reply that gives `address`; the lease's part of the decision has been made.
    pub(super) fn give(
        &self,
        from: Ingress,
        request: &Message,
        kind: MessageType,
        address: Ipv4Addr,
    ) -> Reply {
        let mut message = self.with_times(reply::reply_to(request, kind, self.own_address()));
        message.yiaddr = address;
        if kind == MessageType::Ack {
            message.ciaddr = request.ciaddr;
        }
        self.finish(message, from, request)
    }

    fn with_times(&self, mut message: Message) -> Message {
        let lease = u32::try_from(self.lease_time.as_secs()).unwrap_or(u32::MAX);
        // T1 and T2 as section 4.4.5 sets them: half and seven eighths of the lease.
        for (code, seconds) in [
            (OptionCode::AddressLeaseTime, lease),
            (OptionCode::Renewal, lease / 2),
            (OptionCode::Rebinding, lease - lease / 8),
        ] {
            message.options.append(code, &seconds.to_be_bytes());
        }
        message
    }

    fn finish(&self, mut message: Message, from: Ingress, request: &Message) -> Reply {
        let Settings { subnet, router, dns, loaders, .. } = self;
        message.options.add_addresses(OptionCode::SubnetMask, &[subnet.netmask()]);
        message.options.add_addresses(OptionCode::Router, &[*router]);
        message.options.add_addresses(OptionCode::DomainNameServer, dns);
        let client = Client::of(request);
        if let Some(file) = loaders.file_for(client) {
            reply::add_boot(&mut message, client, file, loaders.origin.address, Service::Server);
        }
        reply::echo(&mut message, request);
        reply::address(message, from)
    }

    fn own_address(&self) -> Ipv4Addr {
        self.loaders.origin.address
    }
}

/// The next thing to do for a request.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Reply(Reply),
    /// Ask the segment by ARP if someone uses this address.
    Probe(Ipv4Addr),
    /// Nothing, and why.
    Silent(Silence),
}

/// The DHCP server.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    leases: Leases,
    probes: Probes,
    ahead: Ahead,
}

impl Server {
    /// A server with these leases.
    pub fn new(settings: Settings, leases: Leases) -> Self {
        Self { settings, leases, probes: Probes::default(), ahead: Ahead::default() }
    }

    /// Answers a request to the DHCP port.
    pub fn answer(&mut self, now: BootTime, from: Ingress, request: Message) -> Step {
        if let Err(reason) = self.check(&request) {
            return Step::Silent(reason);
        }
        let answer = match request.kind {
            MessageType::Discover => return self.discover(now, from, request),
            MessageType::Request => self.request(now, from, &request),
            MessageType::Inform => Ok(self.inform(from, &request)),
            MessageType::Decline => Err(self.decline(now, &request)),
            MessageType::Release => Err(self.release(now, &request)),
            kind => Err(Silence::NoAnswer(kind)),
        };
        match answer {
            Ok(reply) => Step::Reply(reply),
            Err(reason) => Step::Silent(reason),
        }
    }

    /// Tells that `mac` uses `address`. If that address was about to be offered to another
    /// machine, it rests; returned are that machine and the next thing to do for it.
    pub fn in_use(
        &mut self,
        now: BootTime,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Option<(MacAddr, Step)> {
        self.ahead.heard(address);
        let (from, request) = self.probes.take_if(address, |machine| machine != mac)?;
        self.leases.quarantine(now, address);
        let machine = request.chaddr;
        Some((machine, self.discover(now, from, request)))
    }

    /// Whether [`Server::look_ahead`] should be asked before its time.
    pub fn should_look_ahead(&self) -> bool {
        self.ahead.is_low()
    }

    /// The addresses that the segment is to be asked about now, ahead of need; wanted about once a
    /// second.
    pub fn look_ahead(&mut self, now: BootTime) -> Vec<Ipv4Addr> {
        self.ahead.fill(now, self.leases.unused())
    }

    /// When [`Server::expired_probes`] has something to return.
    pub fn next_deadline(&self) -> Option<BootTime> {
        self.probes.next_deadline()
    }

    /// The offers of addresses of which nobody has said, in time, that they are in use.
    pub fn expired_probes(&mut self, now: BootTime) -> Vec<Reply> {
        let expired = self.probes.take_expired(now);
        expired.iter().filter_map(|(from, request)| self.offer(*from, request)).collect()
    }

    /// Takes the changes of leases that must be stored before a reply decided later is sent; see
    /// [`Leases::take_changes`].
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.leases.take_changes()
    }

    /// Tells that the XDP program has leased the machine its address again, which it does within
    /// what is stored.
    pub fn leased_again(&mut self, now: BootTime, mac: MacAddr) {
        self.leases.extend(now, mac, self.settings.lease_time);
    }

    /// Takes a lease over that was granted elsewhere; returns what is held of it.
    pub fn adopt(&mut self, now: BootTime, held: &Held) -> Option<Held> {
        self.leases.adopt(now, held, self.settings.lease_time)
    }

    /// How long an address is leased.
    pub fn lease_time(&self) -> Duration {
        self.settings.lease_time
    }

    /// Whether this is still what is stored of the machine, or about to be.
    pub fn holds(&self, held: &Held) -> bool {
        self.leases.holds(held)
    }

    /// The leases that are stored and have not ended.
    pub fn held(&self, now: BootTime) -> impl Iterator<Item = Held> {
        self.leases.held(now)
    }

    /// Puts other reservations of addresses in force.
    pub fn reserve(&mut self, now: BootTime, reservations: Reservations) -> Upkeep {
        self.leases.reserve(now, reservations, self.settings.lease_time)
    }

    /// Looks after the reservations, about once a second; see [`Leases::uphold`].
    pub fn uphold(&mut self, now: BootTime) -> Upkeep {
        self.leases.uphold(now, self.settings.lease_time)
    }

    fn check(&self, request: &Message) -> Result<(), Silence> {
        if request.op != Opcode::BootRequest {
            return Err(Silence::NotARequest);
        }
        let relay = request.giaddr;
        if !relay.is_unspecified() && !self.settings.subnet.contains(&relay) {
            return Err(Silence::OtherSubnet(relay));
        }
        Ok(())
    }

    fn discover(&mut self, now: BootTime, from: Ingress, request: Message) -> Step {
        if self.probes.is_full() {
            return Step::Silent(Silence::Busy);
        }
        let wanted = request.options.address(OptionCode::RequestedIpAddress);
        let Some(candidate) = self.leases.choose(now, request.chaddr, wanted) else {
            return Step::Silent(Silence::PoolExhausted);
        };
        if self.probes.update(candidate.address, from, &request) {
            return Step::Silent(Silence::Checking);
        }
        if candidate.unverified {
            let deadline = self.ahead.take(now, candidate.address);
            self.probes.start(deadline, candidate.address, from, request);
            return Step::Probe(candidate.address);
        }
        self.offer(from, &request).map_or(Step::Silent(Silence::NoRecord), Step::Reply)
    }

    fn offer(&self, from: Ingress, request: &Message) -> Option<Reply> {
        let address = self.leases.address_of(request.chaddr)?;
        Some(self.settings.give(from, request, MessageType::Offer, address))
    }

    /// The four kinds of REQUEST (RFC 2131 section 4.3.2, table 4).
    fn request(
        &mut self,
        now: BootTime,
        from: Ingress,
        request: &Message,
    ) -> Result<Reply, Silence> {
        let held = self.leases.address_of(request.chaddr);
        let server = request.options.address(OptionCode::ServerIdentifier);
        let wanted = request.options.address(OptionCode::RequestedIpAddress);
        let address = match (server, wanted) {
            // Selecting another server's offer: ours is free again.
            (Some(other), _) if other != self.own_address() => {
                self.leases.release(now, request.chaddr);
                return Err(Silence::OtherServer(other));
            }
            // Selecting ours.
            (Some(_), Some(wanted)) => wanted,
            (Some(_), None) => request.ciaddr,
            // Init-reboot, on our subnet or after a move to it.
            (None, Some(wanted)) => {
                if held.is_none() && self.settings.subnet.contains(&wanted) {
                    return Err(Silence::NoRecord);
                }
                wanted
            }
            // Renewing and rebinding.
            (None, None) => {
                if held.is_none() && self.settings.subnet.contains(&request.ciaddr) {
                    return Err(Silence::NoRecord);
                }
                request.ciaddr
            }
        };
        if held != Some(address) {
            return Ok(self.refuse(from, request));
        }
        self.leases.bind(now, request.chaddr, self.settings.lease_time);
        Ok(self.settings.give(from, request, MessageType::Ack, address))
    }

    /// Configuration without an address (RFC 2131 section 4.3.5).
    fn inform(&self, from: Ingress, request: &Message) -> Reply {
        let mut message = reply::reply_to(request, MessageType::Ack, self.own_address());
        message.ciaddr = match request.ciaddr {
            Ipv4Addr::UNSPECIFIED => *from.source.ip(),
            address => address,
        };
        self.settings.finish(message, from, request)
    }

    fn refuse(&self, from: Ingress, request: &Message) -> Reply {
        let mut message = reply::reply_to(request, MessageType::Nak, self.own_address());
        // The relay must broadcast it: the client's address is wrong (section 4.3.2).
        message.broadcast |= !message.giaddr.is_unspecified();
        reply::echo(&mut message, request);
        reply::address(message, from)
    }

    /// The client found its address in use.
    fn decline(&mut self, now: BootTime, request: &Message) -> Silence {
        let declined = request.options.address(OptionCode::RequestedIpAddress);
        match self.leases.address_of(request.chaddr) {
            Some(address) if declined == Some(address) => {
                self.leases.quarantine(now, address);
                Silence::Declined(address)
            }
            _ => Silence::NoRecord,
        }
    }

    fn release(&mut self, now: BootTime, request: &Message) -> Silence {
        match self.leases.address_of(request.chaddr) {
            Some(address) if address == request.ciaddr => {
                self.leases.release(now, request.chaddr);
                Silence::Released(address)
            }
            _ => Silence::NoRecord,
        }
    }

    fn own_address(&self) -> Ipv4Addr {
        self.settings.own_address()
    }
}
