//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address. Written in lower case with colons; read with colons, hyphens (as iPXE's
/// `${mac:hexhyp}` writes it) or without separators.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00
    pub const ZERO: Self = Self([0; 6]);
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no MAC address: six pairs of hexadecimal digits were expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (six pairs of hexadecimal digits, such as 52:54:00:12:34:56)")]
pub struct InvalidMac;

impl FromStr for MacAddr {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let digits: Vec<u8> = match text.len() {
            12 => text.bytes().collect(),
            17 => {
                let separators = text.bytes().skip(2).step_by(3);
                if !separators.clone().all(|b| b == b':') && !separators.clone().all(|b| b == b'-')
                {
                    return Err(InvalidMac);
                }
                text.bytes().enumerate().filter(|(i, _)| i % 3 != 2).map(|(_, b)| b).collect()
            }
            _ => return Err(InvalidMac),
        };
        let mut octets = [0; 6];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidMac)?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidMac);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| InvalidMac)?;
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_and_writes_one() {
        for text in ["52:54:00:AB:cd:ef", "52-54-00-ab-cd-ef", "525400abcdef"] {
            assert_eq!(text.parse::<MacAddr>().unwrap().to_string(), "52:54:00:ab:cd:ef");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54-00:ab:cd:ef",
            "52:54:00:ab:cd:eg",
            "+1:54:00:ab:cd:ef",
            "ééé:54:00:ab:cd:e",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(InvalidMac), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reads_any_text(text in proptest::prop_oneof!["\\PC*", "([0-9a-fA-F]{2}[:-]?|é){6}"]) {
            if let Ok(mac) = text.parse::<MacAddr>() {
                let digits = text.to_lowercase().replace([':', '-'], "");
                proptest::prop_assert_eq!(mac.to_string().replace(':', ""), digits);
            }
        }
    }
}
