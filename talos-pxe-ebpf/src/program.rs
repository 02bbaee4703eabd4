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
use talos_pxe_ebpf::maps::{Answer, Config, Mode};
use talos_pxe_ebpf::outcome::Outcome;

use options::Options;
use reply::Promise;
use request::{Request, Service};

/// Answers the frame or not, and counts what became of it.
#[inline(always)]
pub fn answer(ctx: *mut xdp_md) -> Outcome {
    let (Ok(outcome) | Err(outcome)) = respond(ctx);
    maps::count(outcome);
    outcome
}

/// What the kernel is to do with the frame.
#[inline(always)]
pub fn verdict(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Broken => XDP_DROP,
        outcome if outcome.is_answer() => XDP_TX,
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn respond(ctx: *mut xdp_md) -> Result<Outcome, Outcome> {
    let config = maps::config().ok_or(Outcome::Other)?;
    request::check_ports(ctx, config)?;
    let scratch = maps::scratch().ok_or(Outcome::Other)?;
    Options::copy(ctx, scratch);
    let request = Request::parse(ctx, config)?;
    let frame_length = Options::copy_rest(ctx, scratch, request.options_length)?;
    let serving = config.mode == Mode::Server as u16 && request.service == Service::Dhcp;
    // Before the options are looked at, so that strangers cost little.
    let machine = if serving { Some(request.machine(config)?) } else { None };
    let composed = compose::compose(&request)?;
    let options = Options(scratch);
    let promise = match machine {
        Some(machine) => {
            let span = match composed.answer {
                Answer::Offer => config.offer_span,
                _ => {
                    check_request(config, &request, options, machine.address)?;
                    config.lease_span
                }
            };
            let now = maps::now(scratch);
            if now.wrapping_add(span) > machine.horizon {
                return Err(Outcome::Horizon);
            }
            Promise { address: machine.address, time: now }
        }
        None => {
            if composed.answer == Answer::Ack && options.server() != Some(config.address) {
                return Err(Outcome::OtherServer);
            }
            Promise { address: [0; 4], time: maps::now(scratch) }
        }
    };
    reply::send(ctx, &request, scratch, frame_length, composed, promise)
}

/// Whether the DHCP server acknowledges a REQUEST (RFC 2131 section 4.3). The four kinds of them
/// differ in where the address stands, and only the first names the server.
#[inline(always)]
fn check_request(
    config: &Config,
    request: &Request,
    options: Options,
    address: [u8; 4],
) -> Result<(), Outcome> {
    if options.server().is_some_and(|server| server != config.address) {
        return Err(Outcome::OtherServer);
    }
    if options.requested_address().unwrap_or(request.ciaddr) != address {
        return Err(Outcome::OtherAddress);
    }
    Ok(())
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
