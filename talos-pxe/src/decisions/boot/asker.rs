//! Who asks for a script or a config, as far as the network tells.
//!
//! A request says which machine it is from, and anybody can say anything. The kernel knows by which
//! MAC address it reaches a neighbour, so there it is the neighbour that counts.

use std::net::IpAddr;

use crate::wire::MacAddr;

/// A client of the HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its address.
    pub address: IpAddr,
    /// Where it is.
    pub place: Place,
}

/// Where a client is, seen from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the network that we serve, and this is its MAC address.
    Neighbour(MacAddr),
    /// Behind a router on the network that we serve: its MAC address cannot be seen.
    Routed,
    /// On another network of ours, where no machine boots from us, or on this very host.
    Elsewhere,
}

impl Asker {
    /// The machine that this is, if anybody can tell. A machine behind a router is believed what
    /// it says of itself (`claimed`).
    pub fn machine(&self, claimed: Option<MacAddr>) -> Option<MacAddr> {
        match self.place {
            Place::Neighbour(mac) => Some(mac),
            Place::Routed => claimed,
            Place::Elsewhere => None,
        }
    }

    /// Whether this is the machine that has been given a token when it was at `address`. A
    /// neighbour may have another address by now; one behind a router may not.
    pub fn is(&self, machine: MacAddr, address: IpAddr) -> bool {
        match self.place {
            Place::Neighbour(mac) => mac == machine,
            Place::Routed => self.address == address,
            Place::Elsewhere => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn at(last: u8, place: Place) -> Asker {
        Asker { address: IpAddr::from([10, 0, 0, last]), place }
    }

    #[test]
    fn a_neighbour_is_who_the_kernel_says() {
        let neighbour = at(9, Place::Neighbour(ONE));
        assert_eq!(neighbour.machine(Some(OTHER)), Some(ONE));
        assert_eq!(neighbour.machine(None), Some(ONE));
        assert!(neighbour.is(ONE, IpAddr::from([10, 0, 0, 9])));
        assert!(neighbour.is(ONE, IpAddr::from([10, 0, 0, 8])), "it has a new address");
        assert!(!neighbour.is(OTHER, IpAddr::from([10, 0, 0, 9])), "it has taken that address");
    }

    #[test]
    fn behind_a_router_the_address_counts() {
        let routed = at(9, Place::Routed);
        assert_eq!(routed.machine(Some(OTHER)), Some(OTHER));
        assert_eq!(routed.machine(None), None);
        assert!(routed.is(ONE, IpAddr::from([10, 0, 0, 9])));
        assert!(!routed.is(ONE, IpAddr::from([10, 0, 0, 8])));
    }

    #[test]
    fn elsewhere_is_no_machine_of_ours() {
        let elsewhere = at(9, Place::Elsewhere);
        assert_eq!(elsewhere.machine(Some(ONE)), None);
        assert!(!elsewhere.is(ONE, elsewhere.address));
    }
}
