//! The machines: what is known of each, and the roles that they were given.
//!
//! A role is stored before [`Machines::role`] tells it, so nothing can rest on one that a crash
//! would forget. The rest of a record is for people; it is stored within seconds.

mod record;
mod recorder;
mod rows;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context;

pub use record::{Firmware, Machine, NotPlain, Observation, Stage, Text};

use recorder::{Order, Placed};
use table::Table;

use super::store::{Held, Store, StoreError};
use crate::time::BootTime;
use crate::wire::{MacAddr, Role};

/// Why a role is not given.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AssignError {
    /// There are as many as memory is set aside for.
    #[error("{} machines have roles already: forget some", Table::ASSIGNED)]
    Full,
    /// The disk is full or fails.
    #[error("cannot store it: {0}")]
    Store(Arc<StoreError>),
    /// The thread that stores is gone.
    #[error("cannot store it: talos-pxe is ending")]
    Ending,
}

/// All machines. Every look at them is quick and never waits for the disk, but for the methods
/// that say so. Dropping it stores what is not stored yet.
#[derive(Debug)]
pub struct Machines {
    table: Arc<Mutex<Table>>,
    /// None only while it is dropped.
    orders: Option<Sender<Placed>>,
    recorder: Option<JoinHandle<()>>,
}

impl Machines {
    /// The machines in `store`.
    ///
    /// # Errors
    /// When the store cannot be read, or the kernel has no thread for us.
    pub fn open(store: Arc<Store>) -> anyhow::Result<Self> {
        let mut stored: Vec<_> = rows::read(&store)?.into_iter().collect();
        stored.sort_by_key(|(mac, machine)| (machine.last_seen, *mac));
        let mut table = Table::default();
        for (mac, machine) in stored {
            table.put(mac, machine);
        }
        table.set_stored();
        let table = Arc::new(Mutex::new(table));
        let (orders, placed) = channel();
        let shared = Arc::clone(&table);
        let recorder = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || recorder::run(&store, &shared, &placed))
            .context("cannot start the thread that stores machines")?;
        Ok(Self { table, orders: Some(orders), recorder: Some(recorder) })
    }

    /// What is known of a machine.
    pub fn get(&self, mac: MacAddr) -> Option<Machine> {
        self.table().get(mac).map(|machine| Machine::clone(machine))
    }

    /// All machines, in no order.
    pub fn all(&self) -> Vec<(MacAddr, Machine)> {
        let shared: Vec<_> =
            self.table().all().map(|(mac, machine)| (mac, Arc::clone(machine))).collect();
        // The table is free again while the records are copied.
        shared.into_iter().map(|(mac, machine)| (mac, Machine::clone(&machine))).collect()
    }

    /// How many machines are known.
    pub fn count(&self) -> usize {
        self.table().all().len()
    }

    /// Counts the changes of what [`Machines::all`] tells, as far as it is more than that a
    /// machine still lives.
    pub fn generation(&self) -> u64 {
        self.table().generation()
    }

    /// A machine's role; it is stored.
    pub fn role(&self, mac: MacAddr) -> Option<Role> {
        self.table().get(mac)?.role.clone()
    }

    /// The machine that had this address last.
    pub fn at(&self, address: IpAddr) -> Option<MacAddr> {
        self.table().at(address)
    }

    /// Takes in what was seen of a machine. A new one gets a record; when there are too many
    /// without a role, the one that was not heard of for longest makes room.
    pub fn observe(&self, mac: MacAddr, seen: Observation) {
        self.table().observe(mac, seen);
    }

    /// As [`Machines::observe`], if the machine is known.
    pub fn observe_known(&self, mac: MacAddr, seen: Observation) {
        let mut table = self.table();
        if table.get(mac).is_some() {
            table.observe(mac, seen);
        }
    }

    /// As [`Machines::observe_known`], for the machine that had this address last.
    pub fn observe_at(&self, address: IpAddr, seen: Observation) {
        let mut table = self.table();
        if let Some(mac) = table.at(address) {
            table.observe(mac, seen);
        }
    }

    /// At start in server mode: a machine is there at most as long as the store holds its address,
    /// and it renews within a lease time.
    pub fn restore_leases(&self, held: &[Held], latest: BootTime) {
        let mut table = self.table();
        let known: Vec<MacAddr> = table.all().map(|(mac, _)| mac).collect();
        for mac in known {
            table.set_lease(mac, None, BootTime::BOOT);
        }
        for held in held {
            table.set_lease(held.mac, Some(held.address.into()), held.until.min(latest));
        }
    }

    /// Gives a machine a role. It survives a power cut once this returns; blocks for the disk.
    ///
    /// # Errors
    /// See [`AssignError`]; the machine then has the role that it had.
    pub fn assign(&self, mac: MacAddr, role: Role) -> Result<(), AssignError> {
        self.place(Order::Assign(mac, role))
    }

    /// Forgets a machine and its role, durably; blocks for the disk. Returns whether it was known.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn forget(&self, mac: MacAddr) -> Result<bool, AssignError> {
        let known = self.table().get(mac).is_some();
        self.place(Order::Forget(mac))?;
        Ok(known)
    }

    /// Puts records, roles included, in the place of what is known of these machines, durably;
    /// blocks for the disk.
    ///
    /// # Errors
    /// See [`AssignError`]; then no role has changed.
    pub fn put(&self, records: Vec<(MacAddr, Machine)>) -> Result<(), AssignError> {
        self.place(Order::Put(records))?;
        self.store()
    }

    /// Stores all records now; blocks for the disk.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn store(&self) -> Result<(), AssignError> {
        self.place(Order::Flush)
    }

    fn place(&self, order: Order) -> Result<(), AssignError> {
        let (done, wait) = sync_channel(1);
        let orders = self.orders.as_ref().ok_or(AssignError::Ending)?;
        orders.send((order, done)).map_err(|_| AssignError::Ending)?;
        wait.recv().map_err(|_| AssignError::Ending)?
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

#[cfg(test)]
impl Machines {
    /// Machines in a store that is gone with them.
    pub fn in_memory() -> Self {
        Self::open(Arc::new(Store::in_memory())).unwrap()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(recorder) = self.recorder.take() {
            let _ = recorder.join();
        }
    }
}

/// No holder of the lock can leave the table half changed.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
