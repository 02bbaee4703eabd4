//! The maps: what the daemon tells the program, and what the program tells the daemon.
//!
//! IP addresses, MAC addresses and ports are octets in network order; times are nanoseconds on
//! the boot-time clock (`CLOCK_BOOTTIME`).

use bytemuck::{Pod, Zeroable};

use crate::class::Class;
use crate::frame::{FIRST_OPTION, SHORTEST_REPLY};
use crate::machines::Choice;

/// The name of the array whose only element is the [`Config`].
pub const CONFIG: &str = "CONFIG";
/// The name of the array of machines' [`Bucket`](crate::machines::Bucket)s.
pub const MACHINES: &str = "MACHINES";
/// The name of the array of [`Template`]s; see [`Answer::template`].
pub const TEMPLATES: &str = "TEMPLATES";
/// The name of the per-CPU array that counts frames by the number of their
/// [`Outcome`](crate::outcome::Outcome).
pub const COUNTERS: &str = "COUNTERS";
/// The name of the array of [`Event`]s: a ring for each CPU, one after the other.
pub const EVENTS: &str = "EVENTS";

/// How many machines the program can know, unless another number is set when it is loaded.
pub const DEFAULT_CAPACITY: u32 = 65_536;
/// How many events a CPU can record before the daemon takes them: what it answers in 30 ms at
/// 500,000 replies a second. A power of two.
pub const EVENTS_PER_CPU: u32 = 16_384;

/// Who answers on the DHCP port.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody: every frame is passed on.
    Off = 0,
    /// The DHCP server.
    Server = 1,
    /// The proxyDHCP server.
    Proxy = 2,
}

/// What the program needs to know of the network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// An OFFER needs a horizon at least this many nanoseconds ahead.
    pub offer_span: u64,
    /// An ACK needs a horizon at least this many nanoseconds ahead.
    pub lease_span: u64,
    /// Where machines stand.
    pub choice: Choice,
    /// Our own address, which is the server identifier.
    pub address: [u8; 4],
    /// The served subnet's address.
    pub subnet: [u8; 4],
    /// Its mask.
    pub netmask: [u8; 4],
    /// Its broadcast address.
    pub broadcast: [u8; 4],
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// UDP port of the DHCP service.
    pub dhcp_port: [u8; 2],
    /// UDP port of the boot server.
    pub boot_server_port: [u8; 2],
    /// A [`Mode`].
    pub mode: u16,
    /// Zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<Config>() == 72);

/// The kinds of answers.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An OFFER from the DHCP port.
    Offer = 0,
    /// An ACK from the DHCP port.
    Ack = 1,
    /// An ACK from the boot server's port.
    BootServer = 2,
}

impl Answer {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Offer, Self::Ack, Self::BootServer];
    /// How many templates there are.
    pub const TEMPLATES: u32 = Class::COUNT * 4;

    /// The number of the template for this kind of answer to this class of client.
    #[inline(always)]
    pub const fn template(self, class: Class) -> u32 {
        Self::template_of(self as u32, class)
    }

    /// The same for the kind of this number.
    #[inline(always)]
    pub const fn template_of(answer: u32, class: Class) -> u32 {
        class.index() * 4 + answer
    }
}

/// The part of a reply's frame that is the same for all clients of a class: everything before
/// the options that are echoed. Fields that differ are zero.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Template {
    /// How many octets of `frame` count; zero when the daemon does not answer such a request.
    pub length: u32,
    /// Sum of the IPv4 header, by [`word16`](crate::frame::word16), not folded.
    pub ip_sum: u32,
    /// The same of the UDP header, its pseudo header and what it carries up to the options.
    pub udp_sum: u32,
    /// Zero.
    pub padding: u32,
    /// The frame.
    pub frame: [u8; Template::FRAME],
}

const _: () = assert!(size_of::<Template>() == 1024);
const _: () = assert!(Template::FRAME >= Template::LONGEST + 32);
const _: () = assert!(Template::FRAME >= SHORTEST_REPLY);

impl Template {
    /// Octets of `frame`.
    pub const FRAME: usize = 1008;
    /// The longest template, in octets: there is room to read on behind it.
    pub const LONGEST: usize = FIRST_OPTION + 256;
}

/// An answer that was sent.
///
/// Each CPU has a ring of [`EVENTS_PER_CPU`] of them. It writes the next when that is free, which
/// is when its time is zero; the daemon takes it when none of its words is zero, and frees it by
/// making them zero, the time last. A word is a word to all processors, so neither needs to know
/// how far the other is, nor in which order an event's words are written. The program's stores
/// are not made before the check that they depend on, so they follow what the daemon has zeroed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// When; never zero.
    pub time: u64,
    /// The client's MAC address.
    pub mac: [u8; 6],
    /// An [`Answer`], and one.
    pub answer: u8,
    /// The number of a [`Class`].
    pub class: u8,
    /// The address that was offered or leased; 0.0.0.0 for an answer without one.
    pub address: [u8; 4],
    /// One.
    pub written: u32,
}

const _: () = assert!(size_of::<Event>() == 8 * Event::WORDS);

impl Event {
    /// How many words an event has.
    pub const WORDS: usize = 3;
}

/// The name of the array whose only element is the [`Sample`] that is measured with.
pub const SAMPLE: &str = "SAMPLE";

/// A request to be answered again and again by the programs for measuring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Sample {
    /// Its length in octets.
    pub length: u32,
    /// How many machines ask in turn, less one; a power of two, less one. The last two octets of
    /// their MAC addresses count.
    pub machines: u32,
    /// The frame.
    pub frame: [u8; Sample::FRAME],
}

const _: () = assert!(size_of::<Sample>() == 1024);

impl Sample {
    /// The longest frame.
    pub const FRAME: usize = 1016;
}

/// aya has a marker trait of its own.
#[cfg(not(target_arch = "bpf"))]
#[expect(unsafe_code, reason = "a promise about the types' layout")]
mod aya_pod {
    // SAFETY: they are `bytemuck::Pod`: every bit pattern is a value and there is no padding.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Template {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sample {}
}
