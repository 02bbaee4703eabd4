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
use talos_pxe_ebpf::maps::{Answer, Config, Event, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::maps::{self, EVENTS, Scratch, launder};
use super::options::{ECHOED, Options};
use super::request::{Request, frame};

/// How far a frame's start is moved back at most: drivers leave 256 octets before a frame, of
/// which the kernel keeps some to itself.
const HEADROOM: u64 = 192;
/// Octets that are copied at a time.
const PIECE: usize = 32;
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
    config: &Config,
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
    let _ = config;
    Ok(match answer {
        Answer::Offer => Outcome::Offered,
        Answer::Ack => Outcome::Acknowledged,
        Answer::BootServer => Outcome::BootServer,
    })
}

/// Copies the options that are echoed to the scratch's tail and ends them; returns its length.
#[inline(always)]
fn copy_tail(scratch: *mut Scratch, options: &Options) -> Result<u64, Outcome> {
    let mut length = 0;
    for slot in ECHOED {
        let from = options.place(slot);
        if from == 0 {
            continue;
        }
        let whole = 2 + u64::from(options.octet(from + 1));
        for piece in (0..2 + 255).step_by(PIECE) {
            if piece >= whole {
                break;
            }
            let octets: [u8; PIECE] = options.octets(from + piece);
            // SAFETY: see below; there is room for one more option, and more.
            unsafe {
                let to = (&raw mut (*scratch).tail).cast::<u8>();
                to.add((length + piece) as usize).cast::<[u8; PIECE]>().write_unaligned(octets);
            }
        }
        length = launder(scratch, length + whole);
        if length > (Scratch::TAIL - 4) as u64 {
            return Err(Outcome::TooLong);
        }
    }
    // SAFETY: the length has just been checked.
    unsafe {
        let to = (&raw mut (*scratch).tail).cast::<u8>().add(length as usize);
        to.cast::<u32>().write_unaligned(END.to_le());
    }
    Ok(length + 1)
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
