//! `cargo xtask bench stick`: how large the stick's image is, and how soon it serves.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Stick;
use super::report::Machine;
use crate::image::{self, Image, Report};
use crate::lab::Lab;
use crate::lab::accel::{Accel, AccelChoice};
use crate::lab::qemu::{By, Firmware, Spec};
use crate::lab::server;
use crate::load::frame::{Ask, Client, Sender, Target};
use crate::load::packets::Packets;
use crate::load::reply::{OFFER, Reply};
use crate::progress;
use crate::setup::{self, Group};

/// What stands for Talos, in octets.
const ASSETS: usize = 100_000_000;
/// How long a machine may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// How soon a machine serves.
struct Boot {
    by: &'static str,
    mode: &'static str,
    /// Until its own first program runs.
    init: Duration,
    /// Until the first DISCOVER is answered.
    answer: Duration,
}

/// Runs the subcommand.
pub fn main(stick: &Stick) -> Result<()> {
    setup::ensure(&[Group::Bpf, Group::Lab, Group::Image])?;
    let machine = Machine::this();
    let accel = AccelChoice::Auto.resolve()?;
    let daemon = server::build_static(true)?;
    let lab = Lab::new()?;
    let assets = lab.dir().join("assets");
    fs::create_dir(&assets)?;
    let mut random = fastrand::Rng::with_seed(1);
    let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(ASSETS).collect();
    fs::write(assets.join("initramfs-amd64.xz"), content)?;
    // Never booted.
    fs::write(assets.join("vmlinuz-amd64"), "a kernel")?;

    let make = |name: &str, flags: &[&str]| {
        let image = Image {
            assets: Some(assets.clone()),
            out: Some(lab.dir().join(name)),
            flags: flags.iter().map(Into::into).collect(),
            ..Image::default()
        };
        image::build(&image, &daemon)
    };
    let auto = make("auto.img", &[])?;
    // Only now all packages are there, and the time is that of making the image.
    let begun = Instant::now();
    let server = make("server.img", &["--mode=server"])?;
    let built = begun.elapsed();
    let mut boots = Vec::new();
    for (name, by) in [("BIOS", By::Bios), ("UEFI", By::Uefi)] {
        for (mode, report) in [("auto", &auto), ("server", &server)] {
            let what = format!("Booting by {name}, mode {mode}");
            let boot = || boot(accel, &report.image, by);
            let (init, answer) = progress::during(&what, boot)?;
            boots.push(Boot { by: name, mode, init, answer });
        }
        if stick.quick {
            break;
        }
    }
    println!("{}", markdown(&machine, accel, &auto, built, &boots));
    if let Some(file) = &stick.json {
        let text = format!("{:#}\n", figures(&auto, built, &boots));
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Boots a machine from the stick in a network without a DHCP server, where another asks for an
/// address twice a second. Returns when its first program ran, and when the first was answered.
fn boot(accel: Accel, image: &Path, by: By) -> Result<(Duration, Duration)> {
    let lab = Lab::new()?;
    let client = lab.host("client")?;
    let mut packets = Packets::open(&client)?;
    // It is asked by broadcast, before it has an address.
    let target = Target { address: Ipv4Addr::BROADCAST, mac: [0xff; 6] };
    let mac = client.mac_bytes()?;
    let mut discover = Sender { mac, client: Client::Pxe, relay: None, target }.ask(Ask::Discover);
    let firmware = Firmware::Stick { image: image.to_owned(), by };
    let mut machine = lab.power_on(Spec::new("stick", firmware, accel))?;
    while machine.serial().age() < PATIENCE {
        machine.serial().check()?;
        packets.send(&[discover.with_xid(1)])?;
        // Longer than the server looks whether the address is in use.
        packets.wait(500);
        while let Some(reply) = packets.receive(Reply::parse) {
            if reply.is_some_and(|reply| reply.kind == OFFER) {
                let answer = machine.serial().age();
                let init = machine.wait_for("talos-pxe: loading drivers", PATIENCE)?.at;
                return Ok((init, answer));
            }
        }
    }
    bail!("it answers nothing in {PATIENCE:?}:\n{}", machine.serial().text())
}

fn markdown(
    machine: &Machine,
    accel: Accel,
    report: &Report,
    built: Duration,
    boots: &[Boot],
) -> String {
    let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
    let emulated = if accel == Accel::Tcg { "emulated" } else { "by KVM" };
    let mut text = format!(
        "{}\n\n| image | MiB |\n| --- | ---: |\n| all of it | {:.0} |\n| kernel | {:.1} |\n\
         | initramfs | {:.1} |\n| assets | {:.1} |\n\nMade in {:.1} s. Its boot, {emulated}:\n\n\
         | firmware | mode | seconds to its first program | seconds to the first OFFER |\n\
         | --- | --- | ---: | ---: |\n",
        machine.line(),
        mib(report.size),
        mib(report.size_of("boot/vmlinuz")),
        mib(report.size_of("boot/initramfs")),
        mib(report.size_of("assets/")),
        built.as_secs_f64(),
    );
    for Boot { by, mode, init, answer } in boots {
        let [init, answer] = [init, answer].map(Duration::as_secs_f64);
        text.push_str(&format!("| {by} | {mode} | {init:.1} | {answer:.1} |\n"));
    }
    text
}

fn figures(report: &Report, built: Duration, boots: &[Boot]) -> Value {
    let boots: Vec<Value> = boots
        .iter()
        .map(|Boot { by, mode, init, answer }| {
            json!({
                "firmware": by,
                "mode": mode,
                "seconds_to_init": init.as_secs_f64(),
                "seconds_to_offer": answer.as_secs_f64(),
            })
        })
        .collect();
    json!({
        "image_octets": report.size,
        "initramfs_octets": report.size_of("boot/initramfs"),
        "assets_octets": report.size_of("assets/"),
        "build_seconds": built.as_secs_f64(),
        "boots": boots,
    })
}
