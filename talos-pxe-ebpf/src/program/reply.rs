//! The reply: the class's template, what differs, and the options that are echoed.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
};
use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::frame::{
    CLIENT_PORT, ETHERNET, IPV4, LONGEST_REPLY, SERVER_PORT, fold, word16, word32,
};
use talos_pxe_ebpf::maps::{Answer, Event, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::maps::{self, EVENTS, Scratch, launder};
use super::options::{Options, Slot};
use super::request::{Request, frame};

/// How far a frame's start is moved back at most: drivers leave 256 octets before a frame, of
/// which the kernel keeps some to itself.
const HEADROOM: u64 = 192;
/// The octets that are copied at a time.
type Piece = [u64; 4];
const END: u32 = 255;

/// What a reply promises.
#[derive(Clone, Copy)]
pub struct Promise {
    /// The address, if any.
    pub address: [u8; 4],
    /// Now.
    pub time: u64,
}

/// Where a reply goes.
struct Destination {
    mac: [u8; 6],
    ip: [u8; 4],
    port: [u8; 2],
}

/// Turns the request into its reply.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one call, always inlined")]
pub fn send(
    ctx: *mut xdp_md,
    request: &Request,
    scratch: *mut Scratch,
    options: &Options,
    answer: Answer,
    class: Class,
    promise: Promise,
) -> Result<Outcome, Outcome> {
    let template = maps::template(answer.template(class)).ok_or(Outcome::NoTemplate)?;
    let (fixed, written) = (u64::from(template.length), u64::from(template.written));
    if fixed == 0 || fixed > Template::FRAME as u64 {
        return Err(Outcome::NoTemplate);
    }
    if written < fixed || written > Template::FRAME as u64 {
        return Err(Outcome::NoTemplate);
    }
    let tail = copy_tail(scratch, options)?;
    let length = (fixed + tail).max(written);
    if length > LONGEST_REPLY as u64 {
        return Err(Outcome::TooLong);
    }

    let ciaddr = match answer {
        Answer::Offer if promise.address != [0; 4] => [0; 4],
        _ => request.ciaddr,
    };
    let to = destination(request, answer, ciaddr, promise.address);
    let changes = Changes {
        to: &to,
        packet_length: ((length - ETHERNET as u64) as u16).to_be_bytes(),
        datagram_length: ((length - (ETHERNET + IPV4) as u64) as u16).to_be_bytes(),
        ciaddr,
        yiaddr: promise.address,
        request,
    };
    let ip_checksum = !fold(changes.ip_sum(template));
    let udp_checksum = match !fold(changes.udp_sum(template) + tail_sum(scratch, tail, fixed)) {
        0 => 0xffff,
        sum => sum,
    };

    let event = EVENTS.reserve::<Event>(0).ok_or(Outcome::EventsFull)?;
    if !resize(ctx, request.frame_length, length) {
        event.discard(BPF_RB_NO_WAKEUP.into());
        return Err(Outcome::NoRoom);
    }
    let mut event = event;
    event.write(Event {
        time: promise.time,
        mac: request.chaddr,
        answer: answer as u8,
        class: class.index() as u8,
        address: promise.address,
        padding: [0; 4],
    });
    event.submit(BPF_RB_NO_WAKEUP.into());

    // SAFETY: both lengths are within their arrays, of which the verifier makes sure.
    let stored = unsafe {
        let fixed_part = template.frame.as_ptr().cast_mut().cast::<c_void>();
        let tail_part = (&raw mut (*scratch).tail).cast::<c_void>();
        bpf_xdp_store_bytes(ctx, 0, fixed_part, written as u32) == 0
            && bpf_xdp_store_bytes(ctx, fixed as u32, tail_part, tail as u32) == 0
    };
    let frame = frame(ctx).ok_or(Outcome::Broken)?;
    if !stored {
        return Err(Outcome::Broken);
    }
    frame.ethernet_destination = to.mac;
    frame.ip.total_length = changes.packet_length;
    frame.ip.checksum = ip_checksum.to_ne_bytes();
    frame.ip.destination = to.ip;
    frame.udp_destination = to.port;
    frame.udp_length = changes.datagram_length;
    frame.udp_checksum = udp_checksum.to_ne_bytes();
    frame.xid = request.xid;
    frame.flags = [request.broadcast, 0];
    frame.ciaddr = ciaddr;
    frame.yiaddr = promise.address;
    frame.giaddr = request.giaddr;
    frame.chaddr = request.chaddr;
    Ok(match answer {
        Answer::Offer => Outcome::Offered,
        Answer::Ack => Outcome::Acknowledged,
        Answer::BootServer => Outcome::BootServer,
    })
}

/// Copies the options that are echoed to the scratch's tail and ends them; returns its length.
#[inline(always)]
fn copy_tail(scratch: *mut Scratch, options: &Options) -> Result<u64, Outcome> {
    let length = tail_length(scratch, 0)?;
    let length = echo(scratch, options, Slot::MachineIdentifier, length)?;
    let length = echo(scratch, options, Slot::ClientIdentifier, length)?;
    let length = echo(scratch, options, Slot::RelayInformation, length)?;
    // SAFETY: the length has been checked.
    unsafe {
        let to = (&raw mut (*scratch).tail).cast::<u8>().add(length as usize);
        to.cast::<u32>().write_unaligned(END.to_le());
    }
    Ok(length + 1)
}

/// Appends an option, if it is there, to the tail of this length, and returns the new length.
#[inline(always)]
fn echo(scratch: *mut Scratch, options: &Options, slot: Slot, length: u64) -> Result<u64, Outcome> {
    let at = options.place(slot);
    if at == 0 {
        return Ok(length);
    }
    let whole = 2 + u64::from(options.octet(at + 1));
    // SAFETY: there is room for the longest option in whole pieces behind the longest tail.
    unsafe {
        let from = (&raw const (*scratch).options).cast::<u8>().add(at as usize);
        let to = (&raw mut (*scratch).tail).cast::<u8>().add(length as usize);
        copy_pieces(from.cast(), to.cast(), whole);
    }
    tail_length(scratch, length + whole)
}

/// Checks a tail's length, of which the verifier then knows no more than that it is checked.
#[inline(always)]
fn tail_length(scratch: *mut Scratch, length: u64) -> Result<u64, Outcome> {
    let length = launder(scratch, length);
    if length > (Scratch::TAIL - 4) as u64 { Err(Outcome::TooLong) } else { Ok(length) }
}

/// Copies `octets` octets, no more than an option has, and up to a whole piece.
///
/// # Safety
///
/// Both must have room for nine pieces.
#[inline(always)]
unsafe fn copy_pieces(from: *const Piece, to: *mut Piece, octets: u64) {
    // Not a loop: the verifier wants to know where each piece is without counting.
    macro_rules! piece {
        ($piece:literal) => {
            // SAFETY: the caller's promise.
            unsafe { to.add($piece).write_unaligned(from.add($piece).read_unaligned()) };
            if octets <= ($piece + 1) * size_of::<Piece>() as u64 {
                return;
            }
        };
    }
    piece!(0);
    piece!(1);
    piece!(2);
    piece!(3);
    piece!(4);
    piece!(5);
    piece!(6);
    piece!(7);
    piece!(8);
}

/// The sum of the tail, which follows `fixed` octets.
#[inline(always)]
fn tail_sum(scratch: *mut Scratch, length: u64, fixed: u64) -> u64 {
    // The end mark is followed by zeros up to a multiple of four.
    let words = (length + 3) & !3;
    // SAFETY: the tail is longer than that.
    let sum = unsafe {
        let tail = (&raw mut (*scratch).tail).cast::<u32>();
        bpf_csum_diff(null_mut(), 0, tail, words as u32, 0)
    };
    let sum = fold(sum as u64 & 0xffff_ffff);
    let sum = if fixed % 2 == 0 { sum } else { sum.swap_bytes() };
    sum.into()
}

/// The fields that are not the template's.
struct Changes<'a> {
    to: &'a Destination,
    packet_length: [u8; 2],
    datagram_length: [u8; 2],
    ciaddr: [u8; 4],
    yiaddr: [u8; 4],
    request: &'a Request,
}

impl Changes<'_> {
    #[inline(always)]
    fn ip_sum(&self, template: &Template) -> u64 {
        u64::from(template.ip_sum) + word16(self.packet_length) + word32(self.to.ip)
    }

    #[inline(always)]
    fn udp_sum(&self, template: &Template) -> u64 {
        let Request { xid, broadcast, giaddr, chaddr, .. } = *self.request;
        let [a, b, c, d, e, f] = chaddr;
        u64::from(template.udp_sum)
            + word32(self.to.ip)
            // Once in the header, once in the pseudo header.
            + 2 * word16(self.datagram_length)
            + word16(self.to.port)
            + word32(xid)
            + word16([broadcast, 0])
            + word32(self.ciaddr)
            + word32(self.yiaddr)
            + word32(giaddr)
            + word32([a, b, c, d])
            + word16([e, f])
    }
}

/// Where the daemon's `reply::address` and the boot server send a reply.
#[inline(always)]
fn destination(request: &Request, answer: Answer, ciaddr: [u8; 4], yiaddr: [u8; 4]) -> Destination {
    let mac = request.source_mac;
    let client = CLIENT_PORT.to_be_bytes();
    if matches!(answer, Answer::BootServer) && request.source_ip != [0; 4] {
        Destination { mac, ip: request.source_ip, port: request.source_port }
    } else if request.is_relayed() {
        Destination { mac, ip: request.giaddr, port: SERVER_PORT.to_be_bytes() }
    } else if ciaddr != [0; 4] {
        Destination { mac, ip: ciaddr, port: client }
    } else if request.broadcast != 0 || yiaddr == [0; 4] {
        Destination { mac: [0xff; 6], ip: [0xff; 4], port: client }
    } else {
        Destination { mac: request.chaddr, ip: yiaddr, port: client }
    }
}

/// Makes the frame `to` octets long, without touching those it has, or leaves it as it was.
///
/// It grows at its end, or where the driver left too little there, first at its start.
#[inline(always)]
fn resize(ctx: *mut xdp_md, from: u64, to: u64) -> bool {
    let more = to as i32 - from as i32;
    // SAFETY: the context is the one that the kernel handed over, and no pointer into the frame
    // is used after.
    unsafe {
        if more == 0 || bpf_xdp_adjust_tail(ctx, more) == 0 {
            return true;
        }
        let front = more.min(HEADROOM as i32);
        if more < 0 || bpf_xdp_adjust_head(ctx, -front) != 0 {
            return false;
        }
        if more == front || bpf_xdp_adjust_tail(ctx, more - front) == 0 {
            return true;
        }
        // Cannot fail: there is the whole request behind.
        bpf_xdp_adjust_head(ctx, front);
        false
    }
}
