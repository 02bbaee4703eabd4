//! The options of a DHCP message, wherever in the message they stand.

use std::net::Ipv4Addr;
use std::ops::Range;

use dhcproto::v4::borrowed::DhcpOptionIterator;

use super::{FIXED, Malformed, OptionCode};

/// The SNAME and FILE fields within a message, where options continue under option overload.
const SNAME_FIELD: Range<usize> = 44..108;
const FILE_FIELD: Range<usize> = 108..236;

/// Options in the order they are written; each code once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(OptionCode, Vec<u8>)>);

impl Options {
    /// The raw value of an option.
    pub fn get(&self, code: OptionCode) -> Option<&[u8]> {
        self.0.iter().find(|(c, _)| *c == code).map(|(_, value)| value.as_slice())
    }

    /// The value of an option that is one address.
    pub fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(octets.into())
    }

    /// The value of an option that is a list of addresses.
    pub fn addresses(&self, code: OptionCode) -> Vec<Ipv4Addr> {
        let (addresses, _) = self.get(code).unwrap_or_default().as_chunks::<4>();
        addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
    }

    /// The value of an option that is a 32-bit number of seconds.
    pub fn seconds(&self, code: OptionCode) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    /// Appends to the value of `code`, which is added at the end if it is not there: the parts of
    /// a long option are one option (RFC 3396).
    pub fn append(&mut self, code: OptionCode, value: &[u8]) {
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some((_, whole)) => whole.extend(value),
            None => self.0.push((code, value.to_vec())),
        }
    }

    /// Adds an option that is a list of addresses; nothing for an empty list.
    pub fn add_addresses(&mut self, code: OptionCode, addresses: &[Ipv4Addr]) {
        if !addresses.is_empty() {
            self.append(code, &addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>());
        }
    }

    /// Codes and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (OptionCode, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// Every field that holds options is read, in the order that RFC 3396 section 5 sets:
    /// options, file, sname.
    pub(super) fn parse(bytes: &[u8], overload: Overload) -> Self {
        let mut options = Self::default();
        options.read(bytes.get(FIXED..).unwrap_or_default());
        if overload.file {
            options.read(bytes.get(FILE_FIELD).unwrap_or_default());
        }
        if overload.sname {
            options.read(bytes.get(SNAME_FIELD).unwrap_or_default());
        }
        options
    }

    pub(super) fn take(&mut self, code: OptionCode) -> Option<Vec<u8>> {
        let place = self.0.iter().position(|(c, _)| *c == code)?;
        Some(self.0.remove(place).1)
    }

    fn read(&mut self, field: &[u8]) {
        for option in DhcpOptionIterator::new(field) {
            self.append(option.code(), option.data());
        }
    }

    /// Refuses lengths that would make a later reading of the value ambiguous.
    pub(super) fn check_lengths(&self) -> Result<(), Malformed> {
        for (code, value) in self.iter() {
            let fits = match code {
                OptionCode::SubnetMask
                | OptionCode::RequestedIpAddress
                | OptionCode::AddressLeaseTime
                | OptionCode::ServerIdentifier
                | OptionCode::Renewal
                | OptionCode::Rebinding => value.len() == 4,
                OptionCode::MaxMessageSize => value.len() == 2,
                OptionCode::MessageType | OptionCode::OptionOverload => value.len() == 1,
                // RFC 3046 section 2.0: one octet at the least; and these come back in replies,
                // where one option is what clients expect.
                OptionCode::RelayAgentInformation
                | OptionCode::ClientIdentifier
                | OptionCode::ClientMachineIdentifier => (1..=255).contains(&value.len()),
                OptionCode::ClientSystemArchitecture => {
                    !value.is_empty() && value.len().is_multiple_of(2)
                }
                _ => true,
            };
            if !fits {
                return Err(Malformed::OptionLength(code.into()));
            }
        }
        Ok(())
    }
}

/// Which fields hold options instead of names (option 52, RFC 2132 section 9.3).
#[derive(Clone, Copy)]
pub(super) struct Overload {
    pub(super) file: bool,
    pub(super) sname: bool,
}

impl Overload {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let options = Options::parse(bytes, Self { file: false, sname: false });
        let value = options.get(OptionCode::OptionOverload).and_then(|value| value.first());
        Self { file: matches!(value, Some(1 | 3)), sname: matches!(value, Some(2 | 3)) }
    }
}
