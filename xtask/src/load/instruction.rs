//! Instructions of small XDP programs, in the kernel's format (linux/bpf.h). Registers are numbered
//! from 0, jumps count instructions.

/// To a register from another.
pub const MOVE: u8 = 0xbf;
/// To a register, the immediate value.
pub const SET: u8 = 0xb7;
/// To a register, plus the immediate value.
pub const ADD: u8 = 0x07;
/// To a register, 64 bits or a map; takes two places.
pub const LOAD_64_BITS: u8 = 0x18;
/// Loads 8 bits.
pub const LOAD_OCTET: u8 = 0x71;
/// Loads 16 bits.
pub const LOAD_HALF: u8 = 0x69;
/// Loads 32 bits.
pub const LOAD_WORD: u8 = 0x61;
/// Stores 64 bits.
pub const STORE_DOUBLE: u8 = 0x7b;
/// Jumps if the register is not the immediate value.
pub const UNLESS_EQUAL: u8 = 0x55;
/// Jumps if the register is greater than the other.
pub const IF_GREATER: u8 = 0x2d;
/// Calls a helper.
pub const CALL: u8 = 0x85;
/// Ends the program.
pub const EXIT: u8 = 0x95;
/// To a register, plus another.
pub const ADD_REGISTER: u8 = 0x0f;
/// To a register, the bits that the immediate value has too.
pub const AND: u8 = 0x57;
/// Shifts a register left.
pub const SHIFT: u8 = 0x67;
/// Loads 64 bits.
pub const LOAD_DOUBLE: u8 = 0x79;
/// Jumps if the register is less than the immediate value.
pub const IF_LESS: u8 = 0xa5;

/// The helper that says how many nanoseconds the monotonic clock shows.
pub const KTIME_GET_NS: i32 = 5;

/// An instruction.
pub fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = immediate.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}
