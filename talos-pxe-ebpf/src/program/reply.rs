//! The reply: the class's template, what differs, and the options that are echoed.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::frame::{
    CLIENT_PORT, ETHERNET, FIRST_OPTION, IPV4, SERVER_PORT, SHORTEST_REPLY, fold, word16, word32,
};
use talos_pxe_ebpf::maps::{Answer, Event, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::compose::Composed;
use super::events;
use super::maps::{self, Scratch, launder};
use super::request::{Request, frame};
use super::words;

/// How far a frame's start is moved back at most: drivers leave 256 octets before a frame, of
/// which the kernel keeps some to itself.
const HEADROOM: u64 = 192;

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

impl Destination {
    /// The same, of which the verifier knows nothing.
    #[inline(always)]
    fn forget(self, scratch: *mut Scratch) -> Self {
        let [a, b, c, d, e, f] = self.mac;
        let mac = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        let [a, b, c, d, e, f, ..] = launder(scratch, mac).to_ne_bytes();
        let port = launder(scratch, u16::from_ne_bytes(self.port).into()) as u16;
        Self {
            mac: [a, b, c, d, e, f],
            ip: forget_word(scratch, self.ip),
            port: port.to_ne_bytes(),
        }
    }
}

#[inline(always)]
fn forget_word(scratch: *mut Scratch, word: [u8; 4]) -> [u8; 4] {
    (launder(scratch, u32::from_ne_bytes(word).into()) as u32).to_ne_bytes()
}

/// Turns the request into its reply.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one call, always inlined")]
pub fn send(
    ctx: *mut xdp_md,
    request: &Request,
    scratch: *mut Scratch,
    frame_length: u64,
    composed: Composed,
    promise: Promise,
) -> Result<Outcome, Outcome> {
    let Composed { answer, class, length } = composed;
    let number = Answer::template_of(answer as u32, Class::from_number(class));
    let template = maps::template(number).ok_or(Outcome::NoTemplate)?;
    // As the daemon pads its messages (`wire::dhcp::Message::encode`).
    let length = (FIRST_OPTION as u64 + length).max(SHORTEST_REPLY as u64);
    let length = length + (SHORTEST_REPLY as u64).wrapping_sub(length) % 4;
    // Or the verifier would look at all that follows twice: for the shortest and for others.
    let length = launder(scratch, length);

    let ciaddr = match answer {
        Answer::Offer if promise.address != [0; 4] => [0; 4],
        _ => request.ciaddr,
    };
    let to = destination(request, answer, ciaddr, promise.address);
    // Or the verifier would look at all that follows once for each kind of destination.
    let ciaddr = forget_word(scratch, ciaddr);
    let to = to.forget(scratch);
    let changes = Changes {
        to: &to,
        packet_length: ((length - ETHERNET as u64) as u16).to_be_bytes(),
        datagram_length: ((length - (ETHERNET + IPV4) as u64) as u16).to_be_bytes(),
        ciaddr,
        yiaddr: promise.address,
        request,
    };
    let ip_checksum = !fold(changes.ip_sum(template));

    let event = events::next(scratch).ok_or(Outcome::EventsFull)?;
    if !resize(ctx, frame_length, length) {
        return Err(Outcome::NoRoom);
    }
    event.record(
        scratch,
        Event {
            time: promise.time,
            mac: request.chaddr,
            answer: answer as u8 + 1,
            class,
            address: promise.address,
            written: 1,
        },
    );

    // SAFETY: the scratch has room for as many options as are copied.
    let options_sum = unsafe {
        let options = (&raw const (*scratch).reply).cast();
        let sum = &raw mut (*scratch).sum;
        words::write_reply(ctx, template, options, sum).ok_or(Outcome::Broken)?;
        sum.read_volatile()
    };
    let udp_checksum = match !fold(changes.udp_sum(template) + options_sum) {
        0 => 0xffff,
        sum => sum,
    };
    let frame = frame(ctx).ok_or(Outcome::Broken)?;
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
