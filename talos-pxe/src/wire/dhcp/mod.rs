//! DHCP messages (RFC 2131, RFC 2132), with dhcproto as the codec.

mod options;

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message as View;
use dhcproto::v4::{self, DhcpOption, HType, MAGIC, UnknownOption};
use dhcproto::{Encodable, Encoder};

use options::Overload;

pub use dhcproto::v4::{MessageType, Opcode, OptionCode};
pub use options::Options;

use super::MacAddr;

/// Octets before the options: the fixed fields and the magic cookie (RFC 2131 section 2).
pub const FIXED: usize = 240;
/// Shorter messages are padded to this length: relays and boot ROMs drop shorter ones
/// (RFC 1542 section 2.1).
pub const MINIMUM: usize = 300;
/// The `file` field's length in octets, with the NUL that ends the name.
pub const FILE: usize = 128;
/// The `sname` field's length in octets, with the NUL that ends the name.
pub const SNAME: usize = 64;

/// Why a message was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed fields, or without the magic cookie: no DHCP.
    #[error("no DHCP message")]
    NotDhcp,
    /// Another link layer than Ethernet.
    #[error("hardware type or address length is not Ethernet's")]
    NotEthernet,
    /// No message type (option 53): BOOTP, which we do not serve.
    #[error("no DHCP message type")]
    NoMessageType,
    /// An option's length does not fit its type.
    #[error("option {0} has a wrong length")]
    OptionLength(u8),
}

/// A DHCP message, received or to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request or reply.
    pub op: Opcode,
    /// Message type (option 53).
    pub kind: MessageType,
    /// Relay hops.
    pub hops: u8,
    /// Transaction identifier, chosen by the client.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client cannot receive unicast before it has an address (RFC 2131 section 4.1).
    pub broadcast: bool,
    /// The client's address, when it has one.
    pub ciaddr: Ipv4Addr,
    /// "Your" address: what the server gives.
    pub yiaddr: Ipv4Addr,
    /// Next server: where the boot file is.
    pub siaddr: Ipv4Addr,
    /// The relay agent that forwarded the request; 0.0.0.0 for none.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: MacAddr,
    /// Server name field, without its NUL.
    pub sname: Vec<u8>,
    /// Boot file field, without its NUL.
    pub file: Vec<u8>,
    /// All options but the message type.
    pub options: Options,
}

impl Message {
    /// A message with empty fields, for `chaddr`.
    pub fn new(op: Opcode, kind: MessageType, xid: u32, chaddr: MacAddr) -> Self {
        Self {
            op,
            kind,
            hops: 0,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
        }
    }

    /// Parses the payload of a UDP datagram.
    ///
    /// Options that end early are read as far as they go, as other servers do; a known option
    /// of a wrong length is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.get(236..FIXED) != Some(&MAGIC[..]) {
            return Err(Malformed::NotDhcp);
        }
        let view = View::new(bytes).map_err(|_| Malformed::NotDhcp)?;
        if view.htype() != HType::Eth || view.hlen() != 6 {
            return Err(Malformed::NotEthernet);
        }
        let chaddr = view.chaddr().try_into().map_err(|_| Malformed::NotEthernet)?;
        let overload = Overload::of(bytes);
        let mut options = Options::parse(bytes, overload);
        options.check_lengths()?;
        options.take(OptionCode::OptionOverload);
        let kind = match options.take(OptionCode::MessageType).as_deref() {
            Some(&[kind]) => MessageType::from(kind),
            _ => return Err(Malformed::NoMessageType),
        };
        Ok(Self {
            op: view.opcode(),
            kind,
            hops: view.hops(),
            xid: view.xid(),
            secs: view.secs(),
            broadcast: view.flags().broadcast(),
            ciaddr: view.ciaddr(),
            yiaddr: view.yiaddr(),
            siaddr: view.siaddr(),
            giaddr: view.giaddr(),
            chaddr: MacAddr(chaddr),
            sname: if overload.sname { Vec::new() } else { view.sname().to_vec() },
            file: if overload.file { Vec::new() } else { view.fname().to_vec() },
            options,
        })
    }

    /// The payload of a UDP datagram: message type first, the other options in their order,
    /// the end mark, then zeros up to [`MINIMUM`] and to a multiple of four octets, so that the
    /// XDP program can copy it by words.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MINIMUM);
        // Writing to a Vec cannot fail; names that do not fit their field are cut by `header`.
        let written = self.write(&mut Encoder::new(&mut bytes));
        debug_assert!(written.is_ok(), "{written:?}");
        bytes.resize(bytes.len().max(MINIMUM).next_multiple_of(4), 0);
        bytes
    }

    fn write(&self, encoder: &mut Encoder<'_>) -> Result<(), dhcproto::error::EncodeError> {
        self.header().encode(encoder)?;
        DhcpOption::MessageType(self.kind).encode(encoder)?;
        for (code, value) in self.options.iter() {
            let empty = value.is_empty().then_some(value);
            for part in value.chunks(255).chain(empty) {
                UnknownOption::new(code, part.to_vec()).encode(encoder)?;
            }
        }
        DhcpOption::End.encode(encoder)
    }

    /// The fixed fields; dhcproto writes its options in the order of their codes, so ours, whose
    /// order is fixed, follow separately.
    fn header(&self) -> v4::Message {
        let mut header = v4::Message::new_with_id(
            self.xid,
            self.ciaddr,
            self.yiaddr,
            self.siaddr,
            self.giaddr,
            &self.chaddr.0,
        );
        let flags = if self.broadcast {
            v4::Flags::default().set_broadcast()
        } else {
            v4::Flags::default()
        };
        header
            .set_opcode(self.op)
            .set_htype(HType::Eth)
            .set_hops(self.hops)
            .set_secs(self.secs)
            .set_flags(flags);
        let cut =
            |name: &[u8], field: usize| name.iter().copied().take(field - 1).collect::<Vec<u8>>();
        header.set_sname(&cut(&self.sname, SNAME));
        header.set_fname(&cut(&self.file, FILE));
        header
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn discover() -> Message {
        let chaddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        let mut message = Message::new(Opcode::BootRequest, MessageType::Discover, 7, chaddr);
        message.options.append(OptionCode::ClassIdentifier, b"PXEClient");
        message
    }

    #[test]
    fn is_padded_to_the_shortest_message_that_relays_take() {
        assert_eq!(discover().encode().len(), MINIMUM);
    }

    #[test]
    fn options_continue_in_the_file_and_sname_fields() {
        let mut bytes = discover().encode();
        // Option 60 begins where the others are, goes on in `file` and ends in `sname`.
        let end = FIXED + 3 + 11;
        assert_eq!(bytes[end], 255);
        bytes.splice(end..end + 4, [52, 1, 3, 255]);
        bytes[108..115].copy_from_slice(&[60, 4, b':', b'A', b'r', b'c', 255]);
        bytes[44..49].copy_from_slice(&[60, 2, b'h', b':', 255]);
        let parsed = Message::parse(&bytes).unwrap();
        assert_eq!(parsed.options.get(OptionCode::ClassIdentifier).unwrap(), b"PXEClient:Arch:");
        assert!(parsed.file.is_empty() && parsed.sname.is_empty());
    }

    #[test]
    fn a_name_that_does_not_fit_is_cut() {
        let message = Message { file: vec![b'x'; 300], ..discover() };
        assert_eq!(Message::parse(&message.encode()).unwrap().file, vec![b'x'; 127]);
    }

    #[test]
    fn wrong_lengths_are_named() {
        for (code, length) in [(50, 3), (54, 5), (57, 1), (61, 0), (93, 3)] {
            let mut message = discover();
            message.options.append(OptionCode::from(code), &vec![0; length]);
            assert_eq!(Message::parse(&message.encode()), Err(Malformed::OptionLength(code)));
        }
        let mut twice = discover().encode();
        twice.splice(FIXED..FIXED, [53, 1, 1]);
        assert_eq!(Message::parse(&twice), Err(Malformed::OptionLength(53)));
    }

    #[test]
    fn other_messages_are_refused() {
        let good = discover().encode();
        for (offset, value, error) in [
            (1, 6, Malformed::NotEthernet),
            (2, 16, Malformed::NotEthernet),
            (2, 255, Malformed::NotEthernet),
            (236, 0, Malformed::NotDhcp),
            (FIXED, 0, Malformed::NoMessageType),
        ] {
            let mut bytes = good.clone();
            bytes[offset] = value;
            if offset == FIXED {
                bytes[FIXED..FIXED + 3].fill(0);
            }
            assert_eq!(Message::parse(&bytes), Err(error));
        }
        assert_eq!(Message::parse(&good[..FIXED - 1]), Err(Malformed::NotDhcp));
    }

    fn any_options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        // Codes whose length is free; a value longer than 255 octets is written in parts.
        let code = prop::sample::select(vec![12u8, 15, 43, 60, 66, 67, 77, 175, 224]);
        prop::collection::vec((code, prop::collection::vec(any::<u8>(), 0..300)), 0..6)
    }

    proptest! {
        #[test]
        fn round_trips(
            xid: u32, secs: u16, broadcast: bool, addresses: [u32; 4], mac: [u8; 6],
            file in "[a-z/.:0-9]{0,127}", options in any_options(),
        ) {
            let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
            let mut message = Message {
                secs, broadcast, ciaddr, yiaddr, siaddr, giaddr, file: file.into_bytes(),
                ..Message::new(Opcode::BootReply, MessageType::Ack, xid, MacAddr(mac))
            };
            for (code, value) in options {
                message.options.append(OptionCode::from(code), &value);
            }
            prop_assert_eq!(Message::parse(&message.encode()), Ok(message));
        }

        #[test]
        fn any_bytes_are_refused_or_parsed(
            bytes in prop::collection::vec(any::<u8>(), 0..1500), overload in 0u8..4,
        ) {
            let _ = Message::parse(&bytes);
            let mut message = discover().encode();
            message.truncate(FIXED);
            message.extend([53, 1, 1, 52, 1, overload]);
            message.extend(&bytes);
            let _ = Message::parse(&message);
        }
    }
}
