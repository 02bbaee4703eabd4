//! What a network driver tells of itself and its card: `ethtool`'s questions.

use std::ptr;

use rustix::ioctl::{Opcode, Updater, ioctl};
use socket2::{Domain, Socket, Type};

/// The ioctl that takes all of them (`linux/sockios.h`).
const SIOCETHTOOL: Opcode = 0x8946;
/// Speed and the like: `struct ethtool_cmd` (`linux/ethtool.h`).
const GET_SETTINGS: u32 = 1;
/// The driver's name and version: `struct ethtool_drvinfo`.
const GET_DRIVER: u32 = 3;
/// Whether it cuts TCP segments: `struct ethtool_value`.
const GET_SEGMENTATION: u32 = 0x1e;
/// More octets than any of these structures has, at most 196.
const ROOM: usize = 256;

/// `struct ifreq`, as this ioctl reads it.
#[repr(C)]
struct Request {
    /// The interface's name, with a NUL behind it.
    name: [u8; 16],
    /// The question, in whose place the answer comes.
    data: *mut u8,
    /// The structure is a union, and longer than this member.
    rest: [u8; 16],
}

/// The name of the interface's driver; `None` when the kernel does not tell.
pub fn driver(interface: &str) -> Option<String> {
    let answer = ask(interface, GET_DRIVER)?;
    let name = answer.get(4..36)?.split(|octet| *octet == 0).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    (!name.is_empty()).then_some(name)
}

/// The speed of the interface in Mb/s; `None` when it has none, or no link.
pub fn speed(interface: &str) -> Option<u32> {
    let answer = ask(interface, GET_SETTINGS)?;
    let half = |at: usize| {
        let octets = answer.get(at..at + 2)?.try_into().ok()?;
        Some(u32::from(u16::from_ne_bytes(octets)))
    };
    let speed = half(12)? | half(28)? << 16;
    // All ones: unknown. Old drivers leave the upper half out.
    (speed != 0 && speed != u32::MAX && speed != 0xffff).then_some(speed)
}

/// Whether the interface sends many TCP segments at a time, and cuts them apart itself (TSO).
pub fn segments(interface: &str) -> bool {
    let answer = ask(interface, GET_SEGMENTATION);
    answer.is_some_and(|answer| answer.get(4..8).is_some_and(|value| value != [0; 4]))
}

fn ask(interface: &str, question: u32) -> Option<[u8; ROOM]> {
    let mut data = [0; ROOM];
    data.get_mut(..4)?.copy_from_slice(&question.to_ne_bytes());
    let mut name = [0; 16];
    name.get_mut(..interface.len())
        .filter(|room| room.len() < 16)?
        .copy_from_slice(interface.as_bytes());
    let mut request = Request { name, data: ptr::from_mut(&mut data).cast(), rest: [0; 16] };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    // SAFETY: the kernel reads the request, whose name ends with a NUL, and writes the answer to
    // one of these questions over `data`, which has room for either and outlives the call.
    #[allow(unsafe_code)]
    unsafe { ioctl(&socket, Updater::<SIOCETHTOOL, Request>::new(&mut request)) }.ok()?;
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_have_no_driver() {
        for name in
            ["", "nonexistent", "a name that is too long for the kernel", "sixteen-letters!"]
        {
            assert_eq!((driver(name), speed(name)), (None, None), "{name}");
        }
    }
}
