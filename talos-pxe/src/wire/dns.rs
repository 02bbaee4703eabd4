//! DNS messages (RFC 1035), as far as a server needs them: what was asked, and an answer of the
//! size that the asker can take. hickory-proto reads and writes the fields.

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::serialize::binary::{
    BinDecodable, BinDecoder, BinEncodable, BinEncoder, EncodedSize,
};

/// The largest answer by UDP, in bytes: it passes in one piece wherever packets of 1280 bytes do,
/// as servers have agreed on ("DNS Flag Day 2020").
pub const MAX_UDP_ANSWER: u16 = 1232;
/// The largest answer to a UDP client that names no size (RFC 1035 section 4.2.1).
const MIN_UDP_ANSWER: u16 = 512;
/// Where the header's second byte of flags has the mark of a truncated answer.
const TRUNCATED: u8 = 0b10;

/// How a message came, and how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message a datagram.
    Udp,
    /// Messages with their length before them.
    Tcp,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// Identifier, opcode and flags.
    pub metadata: Metadata,
    /// The question. `None` when the message does not parse or has not exactly one question, and
    /// for every opcode other than QUERY, whose bodies are of other kinds.
    pub question: Option<Query>,
    /// What the client says of itself (RFC 6891).
    pub edns: Option<Edns>,
}

impl Request {
    /// Reads a message. `None` for what must not be answered: what is too short to have a header,
    /// and answers, so that no two servers answer each other for ever.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
        if header.metadata.message_type == MessageType::Response {
            return None;
        }
        let unread = Self { metadata: header.metadata, question: None, edns: None };
        // A second question is malformed (RFC 9619), and there might be thousands.
        if header.metadata.op_code != OpCode::Query || header.counts.queries != 1 {
            return Some(unread);
        }
        let Ok(mut message) = Message::from_vec(bytes) else { return Some(unread) };
        Some(Self { question: message.queries.pop(), edns: message.edns, ..unread })
    }

    /// An answer without records.
    pub fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.metadata.id, self.metadata.op_code);
        reply.metadata = Metadata::response_from_request(&self.metadata);
        reply.metadata.response_code = code;
        reply.queries.extend(self.question.clone());
        reply.edns = self.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_ANSWER).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        reply
    }

    /// The bytes of `reply`, the answer to this request. What is too long for the client becomes
    /// an answer without records that says so; the client then asks again by TCP.
    pub fn encode(&self, reply: &Message, transport: Transport) -> Vec<u8> {
        let limit = match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => MIN_UDP_ANSWER,
            (Transport::Udp, Some(edns)) => {
                edns.max_payload().clamp(MIN_UDP_ANSWER, MAX_UDP_ANSWER)
            }
        };
        encode(reply, limit)
            .filter(|bytes| bytes.get(2).is_some_and(|flags| flags & TRUNCATED == 0))
            .or_else(|| encode(&reply.truncate(), limit))
            .unwrap_or_default()
    }
}

/// At most `limit` bytes; hickory-proto leaves out what does not fit and marks the message.
fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(Header::LEN);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
