//! ICMPv6 router solicitations and advertisements (RFC 4861 sections 4.1 and 4.2).
//!
//! A message here starts at the ICMPv6 type; the kernel adds and checks the IPv6 header and the
//! checksum, which stays zero.

use std::net::Ipv6Addr;

use super::MacAddr;

/// ICMPv6 type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// The hop limit that every neighbour discovery message is sent with: it proves that no router
/// forwarded it.
pub const HOP_LIMIT: u8 = 255;

/// Every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every router on the link: where solicitations go.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Option type of the sender's link-layer address.
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Type, code, checksum and the four reserved bytes of a solicitation.
const SOLICITATION_HEADER: usize = 8;

/// A valid router solicitation: a node asks for a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterSolicitation {
    /// Who asks; `None` when it has no address yet and can only be answered by multicast.
    pub source: Option<Ipv6Addr>,
}

/// Why a message is not a valid router solicitation (RFC 4861 section 6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSolicitation {
    /// Shorter than its header.
    #[error("shorter than a router solicitation")]
    Short,
    /// Another type or code.
    #[error("no router solicitation")]
    OtherType,
    /// A source that is neither a link-local nor the unspecified address.
    #[error("not from this link")]
    Source,
    /// An option with length zero, or one that passes the end.
    #[error("malformed option")]
    Option,
    /// The unspecified address cannot have a link-layer address to go with it.
    #[error("link-layer address without a source address")]
    UnexpectedLinkLayerAddress,
}

impl RouterSolicitation {
    /// Reads the message `bytes` (from the ICMPv6 type on) that came from `source`. The hop limit
    /// and the checksum are the receiver's to check.
    ///
    /// Global sources are valid by the RFC; they are refused because only neighbours ask us.
    pub fn parse(source: Ipv6Addr, bytes: &[u8]) -> Result<Self, InvalidSolicitation> {
        let (header, mut options) =
            bytes.split_at_checked(SOLICITATION_HEADER).ok_or(InvalidSolicitation::Short)?;
        if !header.starts_with(&[ROUTER_SOLICITATION, 0]) {
            return Err(InvalidSolicitation::OtherType);
        }
        if !source.is_unspecified() && !source.is_unicast_link_local() {
            return Err(InvalidSolicitation::Source);
        }
        while let [kind, units, ..] = *options {
            // Lengths count units of eight bytes, the option's own two bytes included.
            let length = usize::from(units) * 8;
            options = match options.get(length..) {
                Some(rest) if length > 0 => rest,
                _ => return Err(InvalidSolicitation::Option),
            };
            if kind == SOURCE_LINK_LAYER_ADDRESS && source.is_unspecified() {
                return Err(InvalidSolicitation::UnexpectedLinkLayerAddress);
            }
        }
        if !options.is_empty() {
            return Err(InvalidSolicitation::Option);
        }
        Ok(Self { source: (!source.is_unspecified()).then_some(source) })
    }
}

/// The router advertisement of a node that is no router and has no prefix to offer: lifetime 0,
/// nothing managed, only the sender's link-layer address. It tells a waiting client at once that
/// there is no IPv6 to be had here.
pub fn no_router_advertisement(mac: MacAddr) -> [u8; 24] {
    let [a, b, c, d, e, f] = mac.0;
    #[rustfmt::skip]
    let message = [
        ROUTER_ADVERTISEMENT, 0, 0, 0, // type, code, checksum
        0, 0, 0, 0,                    // hop limit unspecified; no flags; router lifetime 0
        0, 0, 0, 0,                    // reachable time unspecified
        0, 0, 0, 0,                    // retransmission timer unspecified
        SOURCE_LINK_LAYER_ADDRESS, 1, a, b, c, d, e, f,
    ];
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);
    const BARE: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

    fn with_options(options: &[u8]) -> Vec<u8> {
        [&BARE, options].concat()
    }

    #[test]
    fn reads_solicitations_with_and_without_options() {
        let asked = Ok(RouterSolicitation { source: Some(NODE) });
        assert_eq!(RouterSolicitation::parse(NODE, &BARE), asked);
        let link_layer = with_options(&[1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(RouterSolicitation::parse(NODE, &link_layer), asked);
        assert_eq!(
            RouterSolicitation::parse(Ipv6Addr::UNSPECIFIED, &BARE),
            Ok(RouterSolicitation { source: None })
        );
    }

    #[test]
    fn refuses_what_the_rfc_tells_to_discard() {
        use InvalidSolicitation as Invalid;
        let unspecified = Ipv6Addr::UNSPECIFIED;
        let global = "2001:db8::1".parse().unwrap();
        for (source, message, reason) in [
            (NODE, vec![], Invalid::Short),
            (NODE, BARE[..7].to_vec(), Invalid::Short),
            (NODE, vec![134, 0, 0, 0, 0, 0, 0, 0], Invalid::OtherType),
            (NODE, vec![133, 1, 0, 0, 0, 0, 0, 0], Invalid::OtherType),
            (global, BARE.to_vec(), Invalid::Source),
            (NODE, with_options(&[1, 0, 0, 0, 0, 0, 0, 0]), Invalid::Option),
            (NODE, with_options(&[1, 2, 0, 0, 0, 0, 0, 0]), Invalid::Option),
            (NODE, with_options(&[1]), Invalid::Option),
            (
                unspecified,
                with_options(&[1, 1, 2, 0, 0, 0, 0, 1]),
                Invalid::UnexpectedLinkLayerAddress,
            ),
        ] {
            assert_eq!(RouterSolicitation::parse(source, &message), Err(reason), "{message:?}");
        }
    }

    #[test]
    fn advertises_no_router_and_no_prefix() {
        let message = no_router_advertisement(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        let expected = [
            134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56,
        ];
        assert_eq!(message, expected);
    }

    proptest::proptest! {
        #[test]
        fn reads_any_bytes_without_panic(bytes: Vec<u8>) {
            let _ = RouterSolicitation::parse(NODE, &with_options(&bytes));
            let _ = RouterSolicitation::parse(NODE, &bytes);
        }
    }
}
