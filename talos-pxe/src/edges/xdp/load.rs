//! Loads the XDP program that the build embedded and tells it all but the machines, so that it
//! never runs without.

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::Map;
use aya::programs::Xdp;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use talos_pxe_ebpf::PROGRAM;
use talos_pxe_ebpf::maps::{EVENTS, EVENTS_PER_CPU, MACHINES};

use super::log::{self, Forwarder};
use super::machines;
use super::maps::Maps;
use crate::decisions::dhcp::templates::Answers;

/// The object file of the XDP program; empty when there was no BPF toolchain to compile it.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp.o"));

/// A program that the kernel has accepted. It is not attached to any interface.
pub struct Loaded {
    ebpf: Ebpf,
    /// Its maps.
    pub maps: Maps,
}

impl Loaded {
    /// Loads the program for up to `capacity` machines.
    ///
    /// # Errors
    /// Missing rights, a kernel that refuses the program, or a build without it.
    pub fn new(answers: &Answers, capacity: u32) -> Result<Self> {
        let mut loaded = Self::from_object(OBJECT, answers, capacity)?;
        loaded.program(PROGRAM)?.load()?;
        Ok(loaded)
    }

    /// Loads the program that does the same and logs each frame to one of our ports. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn logging(answers: &Answers, capacity: u32) -> Result<(Self, Forwarder)> {
        let mut loaded = Self::from_object(log::OBJECT, answers, capacity)?;
        let forwarder = Forwarder::start(&mut loaded.ebpf)?;
        loaded.program(PROGRAM)?.load()?;
        Ok((loaded, forwarder))
    }

    /// Takes an object that has the program's maps, and leaves it to the caller to load the
    /// program that is wanted.
    ///
    /// # Errors
    /// Missing rights, or a build without the program.
    pub fn from_object(object: &[u8], answers: &Answers, capacity: u32) -> Result<Self> {
        ensure!(
            !object.is_empty(),
            "this talos-pxe was built without the XDP program: run `cargo xtask setup`, then build again"
        );
        let cpus = nr_cpus().map_err(|(file, error)| anyhow!("cannot read {file}: {error}"))?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(MACHINES, machines::buckets(capacity))
            .map_max_entries(EVENTS, u32::try_from(cpus)? * EVENTS_PER_CPU)
            .load(object)?;
        let maps = Maps::take(&mut ebpf, answers, capacity, cpus)?;
        Ok(Self { ebpf, maps })
    }

    /// A program of the object.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name);
        Ok(program.with_context(|| format!("the object has no program {name}"))?.try_into()?)
    }

    /// A map of the object that is not one of [`Maps`].
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}
