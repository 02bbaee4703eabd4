//! What the daemon tells the running XDP program, and what it hears from it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::MapData;
use aya::maps::{Array, Map, PerCpuArray};
use talos_pxe_ebpf::machines::Choice;
use talos_pxe_ebpf::maps::{CONFIG, COUNTERS, Config, EVENTS, MACHINES, TEMPLATES, Template};
use talos_pxe_ebpf::outcome::{Counters, Outcome};

use super::events::{self, Events, Sent};
use super::machines::{self, Machines};
use super::shared::Words;
use crate::decisions::dhcp::templates::Answers;
use crate::time::BootTime;
use crate::wire::MacAddr;

/// The maps of a loaded program.
pub struct Maps {
    machines: Machines<Words>,
    counters: PerCpuArray<MapData, u64>,
    events: Events<Words>,
}

/// Why a machine is not answered by the program. The daemon answers it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// There is no room for it.
    #[error("the XDP program knows {0} machines already, the most it was loaded for")]
    Full(u32),
}

impl Maps {
    /// Takes the maps of a program that does not run yet, and fills in what it is to know.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        answers: &Answers,
        capacity: u32,
        cpus: usize,
    ) -> Result<Self> {
        // These two stay with the object until the program is loaded, which then keeps them.
        let mut templates: Array<_, Template> = lend(ebpf, TEMPLATES)?.try_into()?;
        for (number, template) in &answers.templates {
            templates.set(*number, template, 0).context("cannot write a template")?;
        }
        let mut config: Array<_, Config> = lend(ebpf, CONFIG)?.try_into()?;
        let buckets = machines::buckets(capacity);
        let choice =
            Choice { seed: random()?, factor: random()? | 1, mask: u64::from(buckets) - 1 };
        let told = Config { choice, ..answers.config };
        config.set(0, told, 0).context("cannot write the configuration")?;
        let table = Words::map(take(ebpf, MACHINES)?, machines::words(buckets))?;
        Ok(Self {
            machines: Machines::new(table, choice, capacity),
            counters: take(ebpf, COUNTERS)?.try_into()?,
            events: Events::new(Words::map(take(ebpf, EVENTS)?, cpus * events::RING)?),
        })
    }

    /// Lets the program promise `address` to the machine, but not beyond `horizon`; replaces
    /// what it knew of the machine. It must have been stored that the machine has the address
    /// until then.
    ///
    /// # Errors
    /// A full map. A machine that is known can always be given another horizon.
    pub fn insert(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        horizon: BootTime,
    ) -> Result<(), InsertError> {
        let horizon = horizon.since(BootTime::BOOT).as_nanos();
        let horizon = u64::try_from(horizon).unwrap_or(u64::MAX);
        self.machines.insert(mac.0, address.octets(), horizon)
    }

    /// Makes the program forget the machine. A run that has begun may still answer it: its event
    /// follows within microseconds. Forgetting an unknown machine is no error.
    pub fn remove(&mut self, mac: MacAddr) {
        self.machines.remove(mac.0);
    }

    /// The answers sent since the last call, those of each CPU in their order, but no more than
    /// `limit`. The program does not wake anybody for them: ask often enough that
    /// [`EVENTS_PER_CPU`](talos_pxe_ebpf::maps::EVENTS_PER_CPU) of them never gather. When they do,
    /// that CPU passes everything up until some have been taken.
    pub fn events(&mut self, limit: usize) -> Vec<Sent> {
        self.events.take(limit)
    }

    /// What became of all frames since the program was attached, on all CPUs.
    ///
    /// # Errors
    /// When the kernel does not let us read the map.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::default();
        for outcome in Outcome::ALL {
            let per_cpu = self.counters.get(&(*outcome as u32), 0);
            let per_cpu = per_cpu.context("cannot read the XDP counters")?;
            counters.add(*outcome, per_cpu.iter().sum());
        }
        Ok(counters)
    }
}

fn lend<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
}

fn random() -> Result<u64> {
    getrandom::u64().context("no random numbers")
}
