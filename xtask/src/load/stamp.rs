//! An XDP program that notes when a DHCP server's frame came, and hands it to an `AF_XDP` socket
//! before the network stack makes a packet buffer of it.

use std::io;

use super::instruction::*;
use crate::lab::bpf::{Program, Sockets};

/// What the program puts in front of each frame: nanoseconds of the monotonic clock, in the byte
/// order of this machine.
pub const STAMP: usize = size_of::<u64>();

// Helpers.
const REDIRECT_MAP: i32 = 51;
const ADJUST_META: i32 = 54;

// The fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const DATA_META: i16 = 8;

const XDP_PASS: i32 = 2;
/// The place of the last two instructions, which pass the frame on.
const PASS: i16 = 27;

/// Loads it. What is not from UDP port 67, behind an IPv4 header of 20 octets, is passed on.
///
/// # Errors
/// Without root.
pub fn program(sockets: &Sockets) -> io::Result<Program> {
    let map = i32::try_from(sockets.number()).map_err(io::Error::other)?;
    let to_pass = |from: i16| PASS - from - 1;
    Program::load(&[
        instruction(MOVE, 6, 1, 0, 0),
        instruction(SET, 2, 0, 0, -(STAMP as i32)),
        instruction(CALL, 0, 0, 0, ADJUST_META),
        instruction(UNLESS_EQUAL, 0, 0, to_pass(3), 0),
        instruction(CALL, 0, 0, 0, KTIME_GET_NS),
        instruction(LOAD_WORD, 2, 6, DATA_META, 0),
        instruction(LOAD_WORD, 3, 6, DATA, 0),
        instruction(LOAD_WORD, 4, 6, DATA_END, 0),
        instruction(MOVE, 1, 2, 0, 0),
        instruction(ADD, 1, 0, 0, STAMP as i32),
        instruction(IF_GREATER, 1, 3, to_pass(10), 0),
        instruction(STORE_DOUBLE, 2, 0, 0, 0),
        // Ethernet, IPv4 and UDP headers.
        instruction(MOVE, 1, 3, 0, 0),
        instruction(ADD, 1, 0, 0, 42),
        instruction(IF_GREATER, 1, 4, to_pass(14), 0),
        instruction(LOAD_HALF, 1, 3, 12, 0),
        instruction(UNLESS_EQUAL, 1, 0, to_pass(16), u16::to_be(0x0800).into()),
        instruction(LOAD_OCTET, 1, 3, 23, 0),
        instruction(UNLESS_EQUAL, 1, 0, to_pass(18), 17),
        instruction(LOAD_HALF, 1, 3, 34, 0),
        instruction(UNLESS_EQUAL, 1, 0, to_pass(20), u16::to_be(67).into()),
        // The map, by its file descriptor; this instruction takes two places.
        instruction(LOAD_64_BITS, 1, 1, 0, map),
        0,
        instruction(SET, 2, 0, 0, 0),
        instruction(SET, 3, 0, 0, XDP_PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, XDP_PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ])
}
