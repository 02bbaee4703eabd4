//! The program: a frame comes in, and either its answer goes out or it is passed on as it was.
//!
//! Everything that could prevent the answer is checked before the first write. What the answer
//! is, the daemon's decisions say (`decisions::dhcp`): it makes the templates, and a test holds
//! every answer to the same bytes.

#![expect(unsafe_code, reason = "packet and map memory are reached through raw pointers")]

mod client;
mod compose;
mod events;
mod machines;
mod maps;
mod options;
mod reply;
mod request;
mod walk;
mod words;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use talos_pxe_ebpf::maps::{Answer, Config, Mode};
use talos_pxe_ebpf::outcome::Outcome;

use options::Options;
use reply::Promise;
use request::{Request, Service};

/// The program that is attached.
#[xdp]
pub fn talos_pxe(ctx: XdpContext) -> u32 {
    run(ctx.ctx)
}

/// Answers the frame or not, and counts what became of it.
#[inline(always)]
pub fn run(ctx: *mut xdp_md) -> u32 {
    let (Ok(outcome) | Err(outcome)) = respond(ctx);
    maps::count(outcome);
    match outcome {
        Outcome::Broken => XDP_DROP,
        outcome if outcome.is_answer() => XDP_TX,
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn respond(ctx: *mut xdp_md) -> Result<Outcome, Outcome> {
    let config = maps::config().ok_or(Outcome::Other)?;
    let request = Request::parse(ctx, config)?;
    let scratch = maps::scratch().ok_or(Outcome::Other)?;
    let serving = config.mode == Mode::Server as u16 && request.service == Service::Dhcp;
    // Before the options are looked at, so that strangers cost little.
    let machine = if serving { Some(request.machine(config)?) } else { None };
    let options = Options::read(ctx, scratch, request.options_length)?;
    let (answer, promise) = match machine {
        Some(machine) => {
            let answer = from_server(config, &request, &options, machine.address)?;
            let span = match answer {
                Answer::Offer => config.offer_span,
                _ => config.lease_span,
            };
            let now = maps::now(scratch);
            if now.wrapping_add(span) > machine.horizon {
                return Err(Outcome::Horizon);
            }
            (answer, Promise { address: machine.address, time: now })
        }
        None => {
            let answer = match request.service {
                Service::Dhcp => from_proxy(config, &options)?,
                Service::BootServer => from_boot_server(&options)?,
            };
            (answer, Promise { address: [0; 4], time: maps::now(scratch) })
        }
    };
    reply::send(ctx, &request, scratch, answer, promise)
}

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const INFORM: u8 = 8;

/// What the DHCP server answers (RFC 2131 section 4.3). The four kinds of REQUEST differ in where
/// the address stands, and only the first names the server.
#[inline(always)]
fn from_server(
    config: &Config,
    request: &Request,
    options: &Options,
    address: [u8; 4],
) -> Result<Answer, Outcome> {
    match options.kind() {
        DISCOVER => Ok(Answer::Offer),
        REQUEST => {
            if options.server().is_some_and(|server| server != config.address) {
                return Err(Outcome::OtherServer);
            }
            if options.requested_address().unwrap_or(request.ciaddr) != address {
                return Err(Outcome::OtherAddress);
            }
            Ok(Answer::Ack)
        }
        _ => Err(Outcome::OtherKind),
    }
}

/// What the proxyDHCP server answers. It promises no address, so it answers any machine.
#[inline(always)]
fn from_proxy(config: &Config, options: &Options) -> Result<Answer, Outcome> {
    match options.kind() {
        DISCOVER => Ok(Answer::Offer),
        REQUEST if options.server() == Some(config.address) => Ok(Answer::Ack),
        REQUEST => Err(Outcome::OtherServer),
        _ => Err(Outcome::OtherKind),
    }
}

/// What the boot server answers, any machine as well.
#[inline(always)]
fn from_boot_server(options: &Options) -> Result<Answer, Outcome> {
    match options.kind() {
        DISCOVER | REQUEST | INFORM => Ok(Answer::BootServer),
        _ => Err(Outcome::OtherKind),
    }
}

/// The kernel reads here that the program may call GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier refuses a program that could get here and not end.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
