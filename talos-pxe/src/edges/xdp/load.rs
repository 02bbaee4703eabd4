//! Loads the XDP program that the build embedded and tells it all but the machines, so that it
//! never runs without.

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use talos_pxe_ebpf::PROGRAM;
use talos_pxe_ebpf::maps::MACHINES;

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
        ensure!(
            !OBJECT.is_empty(),
            "this talos-pxe was built without the XDP program: run `cargo xtask setup`, then build again"
        );
        let mut ebpf = EbpfLoader::new().map_max_entries(MACHINES, capacity).load(OBJECT)?;
        let maps = Maps::take(&mut ebpf, answers, capacity)?;
        let mut loaded = Self { ebpf, maps };
        loaded.program()?.load()?;
        Ok(loaded)
    }

    /// The program itself.
    ///
    /// # Errors
    /// None that can occur with the embedded object.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(PROGRAM).context("the object has no XDP program")?;
        Ok(program.try_into()?)
    }
}
