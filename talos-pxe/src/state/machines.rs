//! The machines that have asked for a script, and their roles.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::time::BootTime;
use crate::wire::MacAddr;

/// Known machines, by MAC address.
#[derive(Debug, Default)]
pub struct Machines(HashMap<MacAddr, Machine>);

#[derive(Debug)]
struct Machine {
    /// The role chosen for it.
    role: Option<String>,
    /// Where it asked from, to tell whose later downloads are.
    address: IpAddr,
    seen: BootTime,
}

impl Machines {
    /// More machines than one boot network holds. MAC addresses are free to invent, so memory
    /// must not grow with them.
    pub const CAPACITY: usize = 4096;

    /// Records that a machine asks from this address. When the table is full the machine that
    /// asked longest ago makes room.
    pub fn seen(&mut self, now: BootTime, mac: MacAddr, address: IpAddr) {
        if self.0.len() >= Self::CAPACITY && !self.0.contains_key(&mac) {
            let oldest = self.0.iter().min_by_key(|(mac, m)| (m.seen, **mac)).map(|(mac, _)| *mac);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        let machine = self.0.entry(mac).or_insert(Machine { role: None, address, seen: now });
        machine.address = address;
        machine.seen = now;
    }

    /// Remembers the role chosen for a machine that was seen.
    pub fn choose(&mut self, mac: MacAddr, role: &str) {
        if let Some(machine) = self.0.get_mut(&mac) {
            machine.role = Some(role.to_owned());
        }
    }

    /// A machine's role.
    pub fn role(&self, mac: MacAddr) -> Option<&str> {
        self.0.get(&mac)?.role.as_deref()
    }

    /// The machine that last asked from this address.
    pub fn at(&self, address: IpAddr) -> Option<MacAddr> {
        let there = self.0.iter().filter(|(_, machine)| machine.address == address);
        there.max_by_key(|(mac, machine)| (machine.seen, **mac)).map(|(mac, _)| *mac)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mac(n: usize) -> MacAddr {
        let [.., a, b] = n.to_be_bytes();
        MacAddr([2, 0, 0, 0, a, b])
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::BOOT + Duration::from_secs(seconds)
    }

    #[test]
    fn remembers_role_and_address() {
        let (home, mut machines) = (IpAddr::from([10, 0, 0, 9]), Machines::default());
        machines.choose(mac(1), "worker");
        assert_eq!(machines.role(mac(1)), None, "never seen");
        machines.seen(at(1), mac(1), home);
        machines.choose(mac(1), "worker");
        machines.seen(at(2), mac(1), home);
        assert_eq!(machines.role(mac(1)), Some("worker"));
        machines.seen(at(3), mac(2), home);
        assert_eq!(machines.at(home), Some(mac(2)), "the address went to another machine");
        assert_eq!(machines.at(IpAddr::from([10, 0, 0, 8])), None);
    }

    #[test]
    fn the_machine_unseen_for_longest_makes_room() {
        let (home, mut machines) = (IpAddr::from([10, 0, 0, 9]), Machines::default());
        for n in 0..Machines::CAPACITY {
            machines.seen(at(n as u64), mac(n), home);
            machines.choose(mac(n), "worker");
        }
        machines.seen(at(9999), mac(0), home);
        machines.seen(at(9999), mac(Machines::CAPACITY), home);
        assert_eq!(machines.0.len(), Machines::CAPACITY);
        assert_eq!(machines.role(mac(0)), Some("worker"));
        assert_eq!(machines.role(mac(1)), None);
    }
}
