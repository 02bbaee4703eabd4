//! What the daemon tells the running XDP program, and what it hears from it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use rustix::io::Errno;
use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::maps::{
    Answer, CONFIG, COUNTERS, Config, EVENTS, Event, MACHINES, Machine, MachineKey, TEMPLATES,
    Template,
};
use talos_pxe_ebpf::outcome::{Counters, Outcome};

use crate::decisions::dhcp::templates::Answers;
use crate::time::BootTime;
use crate::wire::MacAddr;

/// The maps of a loaded program.
pub struct Maps {
    machines: HashMap<MapData, MachineKey, Machine>,
    counters: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    capacity: u32,
}

/// An answer that the program sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When, to within a clock tick: rather too early than too late.
    pub time: BootTime,
    /// The client.
    pub mac: MacAddr,
    /// What it was answered.
    pub answer: Answer,
    /// What kind of client it is; see [`client`](crate::decisions::dhcp::templates::client).
    pub class: Class,
    /// The address that was offered or leased; none by the proxy and the boot server.
    pub address: Option<Ipv4Addr>,
}

/// Why a machine is not answered by the program. The daemon answers it all the same.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The map is full.
    #[error("the XDP program knows {0} machines already, the most it was loaded for")]
    Full(u32),
    /// The kernel refuses.
    #[error("cannot tell the XDP program of a machine: {0}")]
    Refused(#[from] MapError),
}

impl Maps {
    /// Takes the maps of a program that does not run yet, and fills in what it is to know.
    pub(super) fn take(ebpf: &mut Ebpf, answers: &Answers, capacity: u32) -> Result<Self> {
        // These two stay with the object until the program is loaded, which then keeps them.
        let mut templates: Array<_, Template> = lend(ebpf, TEMPLATES)?.try_into()?;
        for (number, template) in &answers.templates {
            templates.set(*number, template, 0).context("cannot write a template")?;
        }
        let mut config: Array<_, Config> = lend(ebpf, CONFIG)?.try_into()?;
        config.set(0, answers.config, 0).context("cannot write the configuration")?;
        Ok(Self {
            machines: take(ebpf, MACHINES)?.try_into()?,
            counters: take(ebpf, COUNTERS)?.try_into()?,
            events: take(ebpf, EVENTS)?.try_into()?,
            capacity,
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
        let machine = Machine {
            horizon: u64::try_from(horizon).unwrap_or(u64::MAX),
            address: address.octets(),
            padding: [0; 4],
        };
        match self.machines.insert(MachineKey::new(mac.0), machine, 0) {
            Err(error) if errno(&error) == Some(Errno::TOOBIG) => {
                Err(InsertError::Full(self.capacity))
            }
            result => Ok(result?),
        }
    }

    /// Makes the program forget the machine. A run that has begun may still answer it: its event
    /// follows within microseconds. Forgetting an unknown machine is no error.
    ///
    /// # Errors
    /// When the kernel does not let us write to the map.
    pub fn remove(&mut self, mac: MacAddr) -> Result<(), MapError> {
        match self.machines.remove(&MachineKey::new(mac.0)) {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if errno(&error) == Some(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// The answers sent since the last call, oldest first, but no more than `limit`. The program
    /// does not wake anybody for them: ask often enough that
    /// [`EVENTS_SIZE`](talos_pxe_ebpf::maps::EVENTS_SIZE) octets of them never gather. When they
    /// do, it passes everything up until some have been taken.
    pub fn events(&mut self, limit: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        while sent.len() < limit
            && let Some(record) = self.events.next()
        {
            sent.extend(bytemuck::try_pod_read_unaligned(&record).ok().and_then(Sent::of));
        }
        sent
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

impl Sent {
    fn of(event: Event) -> Option<Self> {
        let address = Ipv4Addr::from(event.address);
        Some(Self {
            time: BootTime::BOOT + Duration::from_nanos(event.time),
            mac: MacAddr(event.mac),
            answer: *Answer::ALL.get(usize::from(event.answer))?,
            class: Class::from_index(event.class.into())?,
            address: (!address.is_unspecified()).then_some(address),
        })
    }
}

fn lend<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
}

fn errno(error: &MapError) -> Option<Errno> {
    match error {
        MapError::SyscallError(error) => Errno::from_io_error(&error.io_error),
        MapError::IoError(error) => Errno::from_io_error(error),
        _ => None,
    }
}
