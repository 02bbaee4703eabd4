//! What to answer to a DNS request: from our own zone, by asking another server, or not at all.

mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use ipnet::Ipv4Net;

use crate::wire::dns::Request;
use crate::wire::{Hostname, NameError};
pub use zone::{Machine, Records, Zone};

/// The most servers to forward to: more only make a failure slower.
const MAX_FORWARDERS: usize = 4;

/// Whom we serve, and how far.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The subnets of our clients. This machine itself is a client, too.
    pub served: Vec<Ipv4Net>,
    /// Whether there is a server to forward other names to.
    pub forwards: bool,
}

/// What to do about a request.
#[must_use]
#[derive(Clone, Debug)]
pub enum Decision {
    /// Send this.
    Answer(Message),
    /// Ask another server, then send [`forwarded`].
    Forward(Query),
}

/// What another server answered.
#[must_use]
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Its result.
    pub code: ResponseCode,
    /// The records asked for.
    pub answers: Vec<Record>,
    /// Why there are none.
    pub authorities: Vec<Record>,
}

impl Forwarded {
    /// No server gave an answer.
    pub fn failed() -> Self {
        Self { code: ResponseCode::ServFail, answers: vec![], authorities: vec![] }
    }
}

impl Policy {
    /// Whether a client of this address is one of ours. To serve everybody would be to lend
    /// ourselves to attacks with forged addresses.
    pub fn serves(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(client) => {
                client.is_loopback() || self.served.iter().any(|subnet| subnet.contains(&client))
            }
            IpAddr::V6(client) => client.is_loopback(),
        }
    }
}

/// Decides about the request of a client.
pub fn decide(request: &Request, client: IpAddr, zone: &Zone, policy: &Policy) -> Decision {
    let query = match acceptable(request, client, policy) {
        Ok(query) => query,
        Err(code) => return Decision::Answer(request.reply(code)),
    };
    let mut answer = match zone.lookup(&query.name, query.query_type) {
        Some(records) => authoritative(request, records),
        // What others asked before is nobody's business, and without recursion there is no more.
        None if !request.metadata.recursion_desired => request.reply(ResponseCode::Refused),
        None if policy.forwards => return Decision::Forward(query.clone()),
        // No way out. A client that has another server goes on to it at once.
        None => request.reply(ResponseCode::ServFail),
    };
    answer.metadata.recursion_available = policy.forwards;
    Decision::Answer(answer)
}

/// The question, if it is one that we answer.
fn acceptable<'a>(
    request: &'a Request,
    client: IpAddr,
    policy: &Policy,
) -> Result<&'a Query, ResponseCode> {
    if !policy.serves(client) {
        return Err(ResponseCode::Refused);
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    let query = request.question.as_ref().ok_or(ResponseCode::FormErr)?;
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    if query.query_class != DNSClass::IN || is_meta(query.query_type) {
        return Err(ResponseCode::Refused);
    }
    Ok(query)
}

fn authoritative(request: &Request, records: Records) -> Message {
    let code = if records.name_exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let mut answer = request.reply(code);
    answer.metadata.authoritative = true;
    answer.answers = records.answers;
    answer.authorities = records.authorities;
    answer.additionals = records.additionals;
    answer
}

/// The answer to a request that was forwarded.
#[must_use]
pub fn forwarded(request: &Request, theirs: Forwarded) -> Message {
    let mut answer = request.reply(theirs.code);
    answer.metadata.recursion_available = true;
    answer.answers = theirs.answers;
    answer.authorities = theirs.authorities;
    answer
}

/// Types that are no records, such as zone transfers (RFC 6895 section 3.1); ANY is a question
/// like others.
fn is_meta(kind: RecordType) -> bool {
    let code = u16::from(kind);
    (code == u16::from(RecordType::OPT) || (128..=255).contains(&code)) && kind != RecordType::ANY
}

/// The servers that names other than our own are forwarded to: those that were asked for, else
/// those of the lease. We, at `own`, are not among them.
#[must_use]
pub fn forwarders(asked_for: &[Ipv4Addr], leased: &[Ipv4Addr], own: SocketAddrV4) -> Vec<Ipv4Addr> {
    let mut servers = Vec::new();
    for server in if asked_for.is_empty() { leased } else { asked_for } {
        let is_host = !server.is_unspecified() && !server.is_multicast() && !server.is_broadcast();
        let is_us = SocketAddrV4::new(*server, 53) == own;
        if is_host && !is_us && !servers.contains(server) && servers.len() < MAX_FORWARDERS {
            servers.push(*server);
        }
    }
    servers
}

/// Reads a DNS name that may end in a dot.
///
/// # Errors
/// When it is no hostname.
pub fn parse_name(text: &str) -> Result<Hostname, NameError> {
    text.strip_suffix('.').unwrap_or(text).parse()
}

#[cfg(test)]
mod tests;
