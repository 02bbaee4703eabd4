//! `cargo xtask bench`: how fast talos-pxe is, beside other servers.

pub mod generator;
pub mod servers;

use anyhow::Result;
use clap::Args;
use std::time::Duration;

use crate::lab::{Lab, server};
use crate::load::{fleet, frame::Client};

/// Measures.
#[derive(Debug, Args)]
pub struct Bench {
    /// which
    what: String,
    /// rate
    rate: u32,
    #[arg(long)]
    relayed: bool,
    #[arg(long, default_value_t = 10000)]
    machines: u32,
}

/// Does it.
pub fn main(bench: &Bench) -> Result<()> {
    let lab = Lab::new()?;
    let root = lab.dir().join("root");
    std::fs::create_dir_all(root.join("assets"))?;
    std::fs::File::create(root.join("assets/vmlinuz-amd64"))?.set_len(100 << 20)?;
    std::fs::File::create(root.join("assets/initramfs-amd64.xz"))?;
    let daemon = server::build_release()?;
    for kind in servers::Kind::ALL {
        if !kind.name().contains(&bench.what) {
            continue;
        }
        eprintln!("== {}", kind.name());
        let mut bed = servers::start(&lab, kind, &daemon, &root, (Client::Pxe, bench.relayed))?;
        let t = std::time::Instant::now();
        let mut machines = fleet::bind(
            &mut bed.packets,
            bed.sender,
            kind.machines(bench.machines),
            kind.window(),
            |_| (),
        )?;
        eprintln!("bound {} in {:?}", machines.len(), t.elapsed());
        if kind == servers::Kind::Dnsmasq && !bench.relayed {
            servers::neighbours(&bed.host, machines.iter().map(|m| (m.mac, m.address)))?;
        }
        let mut xid = 1;
        for k in [generator::Kind::Discover, generator::Kind::Renew, generator::Kind::Both] {
            let load = generator::Load { kind: k, rate: bench.rate, time: Duration::from_secs(2) };
            let o = generator::run(&mut bed.packets, &mut machines, load, &mut xid)?;
            let q = |h: &hdrhistogram::Histogram<u64>| {
                format!(
                    "{:.1}/{:.1}/{:.1}",
                    h.value_at_quantile(0.5) as f64 / 1e3,
                    h.value_at_quantile(0.99) as f64 / 1e3,
                    h.max() as f64 / 1e3
                )
            };
            eprintln!(
                "{k:?} sent {} answered {} wrong {} {:?} s {:.3} latency {} service {} late {}",
                o.sent,
                o.answered,
                o.wrong,
                o.fault,
                o.seconds,
                q(&o.latency),
                q(&o.service),
                q(&o.late)
            );
        }
        bed.process.check()?;
    }
    Ok(())
}
