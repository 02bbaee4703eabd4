//! The DHCP client (RFC 2131 section 4.4): finds out whether the network has a DHCP server, takes
//! an address from it, renews and releases it.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::{Message, MessageType, Opcode, OptionCode};

/// The first wait for an answer; each following one is twice as long. RFC 2131 section 4.1
/// suggests 4 s; we ask servers on the same segment and a person waits for us.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait for an answer while there is no lease (RFC 2131 section 4.1).
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// A lease is not asked to be extended more often than this (RFC 2131 section 4.4.5).
const SHORTEST_RENEWAL_WAIT: Duration = Duration::from_secs(60);
/// How often an offer is asked for before another one is looked for.
const REQUEST_ATTEMPTS: u32 = 4;
/// Larger replies could not reach us in one frame.
const MAX_MESSAGE: u16 = 1400;

/// The options that we want to know.
const PARAMETERS: [OptionCode; 6] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// An address that a server offers or has given us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address with its prefix.
    pub address: Ipv4Net,
    /// The server's identifier.
    pub server: Ipv4Addr,
    /// Where the server's frames come from: itself, or the relay that leads to it.
    pub server_mac: MacAddr,
    /// The first router.
    pub router: Option<Ipv4Addr>,
    /// The DNS servers.
    pub dns: Vec<Ipv4Addr>,
    /// When to ask the same server to extend it (T1).
    pub renew_at: BootTime,
    /// When to ask any server to extend it (T2).
    pub rebind_at: BootTime,
    /// When it ends.
    pub ends_at: BootTime,
}

impl Lease {
    /// Reads an offer or acknowledgement that answers a request of the moment `asked`, from which
    /// the lease time counts (RFC 2131 section 4.4.1). `None` when it gives no usable address, as
    /// the offers of proxyDHCP servers do.
    fn read(message: &Message, server_mac: MacAddr, asked: BootTime) -> Option<Self> {
        let ip = message.yiaddr;
        if ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback() {
            return None;
        }
        let options = &message.options;
        let address = match options.address(OptionCode::SubnetMask) {
            Some(mask) => Ipv4Net::with_netmask(ip, mask).ok()?,
            None => Ipv4Net::new(ip, natural_prefix(ip)).ok()?,
        };
        let seconds = |code| options.seconds(code).map(|s| Duration::from_secs(s.into()));
        // No lease time: a BOOTP server's address, which is for ever.
        let length = seconds(OptionCode::AddressLeaseTime)
            .unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let rebind = seconds(OptionCode::Rebinding)
            .filter(|rebind| *rebind < length)
            .unwrap_or(length / 8 * 7);
        let renew =
            seconds(OptionCode::Renewal).filter(|renew| *renew < rebind).unwrap_or(length / 2);
        Some(Self {
            address,
            server: options.address(OptionCode::ServerIdentifier)?,
            server_mac,
            router: options.addresses(OptionCode::Router).first().copied(),
            dns: options.addresses(OptionCode::DomainNameServer),
            renew_at: asked + renew.min(rebind),
            rebind_at: asked + rebind,
            ends_at: asked + length,
        })
    }
}

/// The prefix of an address whose server names none: that of its class.
fn natural_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}

/// A message to send now from UDP port 68 to port 67.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What to send.
    pub message: Message,
    /// From which address; unspecified before there is a lease.
    pub source: Ipv4Addr,
    /// To which address.
    pub destination: Ipv4Addr,
    /// In a frame to whom.
    pub destination_mac: MacAddr,
}

/// Where the exchange stands (RFC 2131 figure 5).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Looking for a server.
    Selecting,
    /// A server made an offer that is not taken yet.
    Offered(Lease),
    /// The offer is taken; the server has to confirm.
    Requesting(Lease),
    /// Nothing to do until the lease has to be renewed.
    Bound(Lease),
    /// Asking the lease's server to extend it.
    Renewing(Lease),
    /// Asking any server to extend it.
    Rebinding(Lease),
}

/// The client's side of the exchange.
///
/// Call [`tick`](Self::tick) when [`due`](Self::due) has come, and [`receive`](Self::receive)
/// with what arrives; then look at [`offer`](Self::offer) and [`lease`](Self::lease).
#[derive(Debug)]
pub struct Client {
    mac: MacAddr,
    phase: Phase,
    /// The address that we were given. Once there is one, no other will do: the services hold on
    /// to it, so after the loss of a lease we ask for the same address again.
    ours: Option<Ipv4Addr>,
    /// Transaction identifier of this phase's messages.
    xid: u32,
    /// When this phase began; its messages carry the time since in `secs`.
    began: BootTime,
    /// When the last message was sent.
    asked: BootTime,
    /// Messages sent in this phase.
    attempts: u32,
    /// When to send the next one.
    due: BootTime,
}

impl Client {
    /// Begins to look for a server.
    pub fn new(mac: MacAddr, now: BootTime) -> Self {
        Self {
            mac,
            phase: Phase::Selecting,
            ours: None,
            xid: 0,
            began: now,
            asked: now,
            attempts: 0,
            due: now,
        }
    }

    /// When to call [`tick`](Self::tick) next.
    pub fn due(&self) -> BootTime {
        self.due
    }

    /// The offer that waits to be [taken](Self::accept).
    pub fn offer(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Offered(offer) => Some(offer),
            _ => None,
        }
    }

    /// The lease that we hold.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Bound(lease) | Phase::Renewing(lease) | Phase::Rebinding(lease) => Some(lease),
            _ => None,
        }
    }

    /// Takes the offer; the request is due at once.
    pub fn accept(&mut self, now: BootTime) {
        if let Phase::Offered(offer) = &self.phase {
            self.enter(Phase::Requesting(offer.clone()), now);
        }
    }

    /// What to send at `now`, if anything. `random` makes transaction identifiers unpredictable
    /// and keeps machines that started together from asking together for ever.
    pub fn tick(&mut self, now: BootTime, random: u32) -> Option<Outgoing> {
        if now < self.due {
            return None;
        }
        if let Some(next) = self.outlived(now) {
            self.enter(next, now);
        }
        // An offer and the request that takes it are one transaction.
        if self.attempts == 0 && !matches!(self.phase, Phase::Requesting(_)) {
            self.xid = random;
        }
        let outgoing = self.ask(now)?;
        self.asked = now;
        self.due = now + self.wait(now, random);
        self.attempts = self.attempts.saturating_add(1);
        Some(outgoing)
    }

    /// Takes in a message from a server.
    pub fn receive(&mut self, now: BootTime, from: MacAddr, message: &Message) {
        let for_us = message.op == Opcode::BootReply
            && message.chaddr == self.mac
            && message.xid == self.xid
            && self.attempts > 0;
        let Some(server) = message.options.address(OptionCode::ServerIdentifier) else { return };
        if !for_us {
            return;
        }
        let next = match (&self.phase, message.kind) {
            (Phase::Selecting, MessageType::Offer) => {
                let Some(offer) = Lease::read(message, from, self.asked) else { return };
                match self.ours {
                    None => Phase::Offered(offer),
                    Some(ours) if ours == offer.address.addr() => Phase::Requesting(offer),
                    Some(_) => return,
                }
            }
            (Phase::Requesting(lease) | Phase::Renewing(lease), _) if server != lease.server => {
                return;
            }
            (
                Phase::Requesting(lease) | Phase::Renewing(lease) | Phase::Rebinding(lease),
                MessageType::Ack,
            ) => {
                let Some(given) = Lease::read(message, from, self.asked) else { return };
                if given.address.addr() != lease.address.addr() {
                    return;
                }
                Phase::Bound(Lease { address: lease.address, ..given })
            }
            (Phase::Requesting(_) | Phase::Renewing(_) | Phase::Rebinding(_), MessageType::Nak) => {
                Phase::Selecting
            }
            _ => return,
        };
        self.enter(next, now);
    }

    /// Gives the lease back, when there is one.
    pub fn release(&self, random: u32) -> Option<Outgoing> {
        let lease = self.lease()?;
        let mut message = self.request(MessageType::Release);
        message.xid = random;
        message.ciaddr = lease.address.addr();
        message.options.append(OptionCode::ServerIdentifier, &lease.server.octets());
        Some(to_server(message, lease))
    }

    fn enter(&mut self, phase: Phase, now: BootTime) {
        self.due = match &phase {
            Phase::Bound(lease) => lease.renew_at,
            Phase::Offered(offer) => offer.ends_at,
            _ => now,
        };
        if let Phase::Bound(lease) = &phase {
            self.ours = Some(lease.address.addr());
        }
        self.began = now;
        self.attempts = 0;
        self.phase = phase;
    }

    /// The phase that follows when this one's time is over.
    fn outlived(&self, now: BootTime) -> Option<Phase> {
        match &self.phase {
            Phase::Bound(lease) | Phase::Renewing(lease) | Phase::Rebinding(lease)
                if now >= lease.ends_at =>
            {
                Some(Phase::Selecting)
            }
            Phase::Bound(lease) | Phase::Renewing(lease) if now >= lease.rebind_at => {
                Some(Phase::Rebinding(lease.clone()))
            }
            Phase::Bound(lease) => Some(Phase::Renewing(lease.clone())),
            Phase::Requesting(_) if self.attempts >= REQUEST_ATTEMPTS => Some(Phase::Selecting),
            Phase::Offered(_) => Some(Phase::Selecting),
            _ => None,
        }
    }

    /// This phase's message (RFC 2131 table 5).
    fn ask(&self, now: BootTime) -> Option<Outgoing> {
        let mut message = self.request(match self.phase {
            Phase::Selecting => MessageType::Discover,
            _ => MessageType::Request,
        });
        message.secs = u16::try_from(now.since(self.began).as_secs()).unwrap_or(u16::MAX);
        let parameters = PARAMETERS.map(u8::from);
        message.options.append(OptionCode::ParameterRequestList, &parameters);
        message.options.append(OptionCode::MaxMessageSize, &MAX_MESSAGE.to_be_bytes());
        Some(match &self.phase {
            Phase::Selecting => {
                if let Some(ours) = self.ours {
                    message.options.append(OptionCode::RequestedIpAddress, &ours.octets());
                }
                to_all(message)
            }
            Phase::Requesting(offer) => {
                let requested = offer.address.addr().octets();
                message.options.append(OptionCode::RequestedIpAddress, &requested);
                message.options.append(OptionCode::ServerIdentifier, &offer.server.octets());
                to_all(message)
            }
            Phase::Renewing(lease) => {
                message.ciaddr = lease.address.addr();
                to_server(message, lease)
            }
            Phase::Rebinding(lease) => {
                message.ciaddr = lease.address.addr();
                to_all(message)
            }
            Phase::Offered(_) | Phase::Bound(_) => return None,
        })
    }

    /// How long to wait for an answer to what is sent at `now`.
    fn wait(&self, now: BootTime, random: u32) -> Duration {
        let half_of_rest = |until: BootTime| {
            let rest = until.since(now);
            (rest / 2).max(SHORTEST_RENEWAL_WAIT).min(rest)
        };
        match &self.phase {
            Phase::Renewing(lease) => half_of_rest(lease.rebind_at),
            Phase::Rebinding(lease) => half_of_rest(lease.ends_at),
            _ => {
                let doubled = FIRST_WAIT * 2_u32.saturating_pow(self.attempts.min(16));
                let spread = 0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX);
                doubled.min(LONGEST_WAIT).mul_f64(spread)
            }
        }
    }

    fn request(&self, kind: MessageType) -> Message {
        let mut message = Message::new(Opcode::BootRequest, kind, self.xid, self.mac);
        let [a, b, c, d, e, f] = self.mac.0;
        // Hardware type 1: the identifier is an Ethernet address (RFC 2132 section 9.14).
        message.options.append(OptionCode::ClientIdentifier, &[1, a, b, c, d, e, f]);
        message
    }
}

/// Broadcast; a message that renews carries its sender's address (`ciaddr`).
fn to_all(message: Message) -> Outgoing {
    Outgoing {
        source: message.ciaddr,
        message,
        destination: Ipv4Addr::BROADCAST,
        destination_mac: MacAddr::BROADCAST,
    }
}

fn to_server(message: Message, lease: &Lease) -> Outgoing {
    Outgoing {
        source: message.ciaddr,
        message,
        destination: lease.server,
        destination_mac: lease.server_mac,
    }
}

#[cfg(test)]
mod tests;
