//! TFTP packets (RFC 1350), their options (RFC 2347 to 2349, RFC 7440). All numbers are in network
//! byte order.

/// What a client sends. Its text is as it came: names and options in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A wish to read a file, or to write one.
    Request(Request<'a>),
    /// Every block up to this one has come; 0 takes up the options.
    Ack(u16),
    /// The client gives up.
    Error(u16),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Whether the client wants to write.
    pub write: bool,
    /// The file's name.
    pub name: &'a str,
    /// `octet`, `netascii` or `mail`.
    pub mode: &'a str,
    /// The options, unknown ones included.
    pub options: Vec<(&'a str, &'a str)>,
}

/// Why a packet cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is shorter than its kind is.
    #[error("truncated")]
    Truncated,
    /// Only servers send it, or nobody.
    #[error("opcode {0} is not for a server")]
    Opcode(u16),
    /// A text has no end or is no UTF-8.
    #[error("malformed text")]
    Text,
    /// It has more options than there are.
    #[error("too many options")]
    TooManyOptions,
}

/// More options than anybody knows.
const MAX_OPTIONS: usize = 16;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

impl<'a> Packet<'a> {
    /// Reads a packet from a client.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(packet: &'a [u8]) -> Result<Self, ParseError> {
        let (opcode, rest) = word(packet)?;
        match opcode {
            RRQ | WRQ => Request::parse(opcode == WRQ, rest).map(Self::Request),
            ACK => Ok(Self::Ack(word(rest)?.0)),
            ERROR => Ok(Self::Error(word(rest)?.0)),
            other => Err(ParseError::Opcode(other)),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(write: bool, texts: &'a [u8]) -> Result<Self, ParseError> {
        let texts = texts.strip_suffix(b"\0").ok_or(ParseError::Text)?;
        let mut texts = texts.split(|octet| *octet == 0).map(std::str::from_utf8);
        let mut text = || texts.next().transpose().map_err(|_| ParseError::Text);
        let name = text()?.ok_or(ParseError::Truncated)?;
        let mode = text()?.ok_or(ParseError::Truncated)?;
        let mut options = Vec::new();
        while let Some(option) = text()? {
            if options.len() == MAX_OPTIONS {
                return Err(ParseError::TooManyOptions);
            }
            // Padding behind the last option, which some firmware sends.
            let Some(value) = text()? else { break };
            options.push((option, value));
        }
        Ok(Self { write, name, mode, options })
    }
}

fn word(octets: &[u8]) -> Result<(u16, &[u8]), ParseError> {
    let (word, rest) = octets.split_first_chunk().ok_or(ParseError::Truncated)?;
    Ok((u16::from_be_bytes(*word), rest))
}

/// The head of a block of data, which the block follows.
pub fn data_head(block: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (DATA.to_be_bytes(), block.to_be_bytes());
    [a, b, c, d]
}

/// The options that are granted.
pub fn oack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = OACK.to_be_bytes().to_vec();
    for (name, value) in options {
        packet.extend_from_slice(name.as_bytes());
        packet.extend_from_slice(format!("\0{value}\0").as_bytes());
    }
    packet
}

/// A refusal with one of the codes of RFC 1350 section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// The text says it.
    Other = 0,
    /// File not found.
    NotFound = 1,
    /// Access violation.
    Access = 2,
    /// Illegal operation.
    Illegal = 4,
}

/// A refusal and its reason, for people.
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut packet = ERROR.to_be_bytes().to_vec();
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
    packet.push(0);
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let request = b"\0\x01/undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0";
        let Ok(Packet::Request(request)) = Packet::parse(request) else { panic!() };
        assert_eq!((request.write, request.name, request.mode), (false, "/undionly.kpxe", "octet"));
        assert_eq!(request.options, [("blksize", "1432"), ("tsize", "0")]);
        assert_eq!(Packet::parse(b"\0\x04\x01\x02"), Ok(Packet::Ack(0x102)));
        assert_eq!(Packet::parse(b"\0\x05\0\x08User aborted\0"), Ok(Packet::Error(8)));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (packet, error) in [
            (&b""[..], ParseError::Truncated),
            (b"\0", ParseError::Truncated),
            (b"\0\x04\x01", ParseError::Truncated),
            (b"\0\x03\0\x01x", ParseError::Opcode(3)),
            (b"\0\x01name\0octet", ParseError::Text),
            (b"\0\x01name\0", ParseError::Truncated),
            (b"\0\x01\xff\0octet\0", ParseError::Text),
        ] {
            assert_eq!(Packet::parse(packet), Err(error), "{packet:?}");
        }
        let many = format!("\0\x01n\0octet\0{}", "a\x001\0".repeat(17));
        assert_eq!(Packet::parse(many.as_bytes()), Err(ParseError::TooManyOptions));
    }

    #[test]
    fn writes_what_servers_send() {
        assert_eq!(data_head(0x102), [0, 3, 1, 2]);
        assert_eq!(
            oack(&[("tsize", 3000), ("blksize", 8)]),
            b"\0\x06tsize\x003000\0blksize\x008\0"
        );
        assert_eq!(error(ErrorCode::NotFound, "no"), b"\0\x05\0\x01no\0");
    }

    proptest! {
        #[test]
        fn takes_any_packet(packet: Vec<u8>, text in "[a-z\\x00]{0,40}", opcode in 0..8u8) {
            let _ = Packet::parse(&packet);
            let _ = Packet::parse(&[&[0, opcode], text.as_bytes()].concat());
        }
    }
}
