//! Which addresses are leased, from what the user asked for.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

use crate::state::leases::Pool;

/// A first and a last address, as `--range` takes them: `10.0.0.100-10.0.0.199`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// The text is no range of addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of addresses, such as 10.0.0.100-10.0.0.199, first to last")]
pub struct InvalidRange;

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (first, last) = text.split_once('-').ok_or(InvalidRange)?;
        let parse = |address: &str| address.trim().parse().map_err(|_| InvalidRange);
        let range = Self { first: parse(first)?, last: parse(last)? };
        if range.first <= range.last { Ok(range) } else { Err(InvalidRange) }
    }
}

/// Why there is nothing to lease.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// `--range` reaches outside the subnet.
    #[error("--range {0}-{1} is not inside the subnet {2}: correct --range, or --addr")]
    OutsideSubnet(Ipv4Addr, Ipv4Addr, Ipv4Net),
    /// `--gw` is outside the subnet: no client could reach it.
    #[error("--gw {0} is not inside the subnet {1}: correct --gw, or --addr")]
    RouterOutsideSubnet(Ipv4Addr, Ipv4Net),
    /// No address is left above our own.
    #[error("no address of {0} is left to lease above our own: set --range, or a lower --addr")]
    Empty(Ipv4Net),
}

/// The addresses of `range`, or else all of the subnet above our own address; without our own,
/// the router's and the broadcast address.
pub fn pool(
    own: Ipv4Net,
    router: Ipv4Addr,
    range: Option<AddressRange>,
) -> Result<Pool, PoolError> {
    let subnet = own.trunc();
    if !subnet.contains(&router) {
        return Err(PoolError::RouterOutsideSubnet(router, subnet));
    }
    let default = AddressRange { first: own.addr(), last: own.broadcast() };
    let AddressRange { first, last } = range.unwrap_or(default);
    if !subnet.contains(&first) || !subnet.contains(&last) {
        return Err(PoolError::OutsideSubnet(first, last, subnet));
    }
    let excluded = [own.addr(), own.network(), own.broadcast(), router];
    let pool = Pool::new(first, last, &excluded);
    if pool.size() == 0 { Err(PoolError::Empty(subnet)) } else { Ok(pool) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &str, router: &str, range: Option<&str>) -> Result<Pool, PoolError> {
        let router = router.parse().unwrap();
        pool(own.parse().unwrap(), router, range.map(|range| range.parse().unwrap()))
    }

    #[test]
    fn the_subnet_above_our_own_address_is_leased() {
        let pool = of("10.0.0.5/24", "10.0.0.9", None).unwrap();
        assert_eq!(pool.size(), 248);
        for (address, inside) in [(4, false), (5, false), (6, true), (9, false), (255, false)] {
            assert_eq!(pool.contains(Ipv4Addr::new(10, 0, 0, address)), inside, "{address}");
        }
    }

    #[test]
    fn a_range_is_leased_as_asked() {
        let pool = of("10.0.0.5/24", "10.0.0.5", Some("10.0.0.1-10.0.0.5")).unwrap();
        assert_eq!(pool.size(), 4);
    }

    #[test]
    fn what_cannot_be_leased_is_refused() {
        let range = Some("10.0.0.9-10.0.1.9");
        assert!(matches!(of("10.0.0.5/24", "10.0.0.5", range), Err(PoolError::OutsideSubnet(..))));
        let refused = of("10.0.0.5/24", "10.0.1.1", None);
        assert!(matches!(refused, Err(PoolError::RouterOutsideSubnet(..))));
        assert!(matches!(of("10.0.0.254/24", "10.0.0.254", None), Err(PoolError::Empty(_))));
        for text in ["", "10.0.0.1", "10.0.0.9-10.0.0.1", "10.0.0.1-10.0.0.256"] {
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text}");
        }
    }
}
