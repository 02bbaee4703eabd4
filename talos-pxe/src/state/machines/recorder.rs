//! The thread that stores machines: roles at once, many in one transaction; records when there is
//! time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::warn;

use super::record::Machine;
use super::table::Table;
use super::{AssignError, lock, rows};
use crate::state::store::{Store, StoreError};
use crate::wire::{MacAddr, Role};

/// How long a record may wait to be stored.
const FLUSH: Duration = Duration::from_secs(3);
/// The most records in one transaction, so that a lease never waits for long behind it.
const RECORDS: usize = 256;
/// The most orders in one transaction.
const ORDERS: usize = 1024;

/// What has to be stored before somebody goes on.
#[derive(Debug)]
pub(super) enum Order {
    /// A machine's role.
    Assign(MacAddr, Role),
    /// That a machine is forgotten.
    Forget(MacAddr),
    /// Whole records, roles included.
    Put(Vec<(MacAddr, Machine)>),
    /// Everything there is.
    Flush,
}

/// An order, and where its end is told.
pub(super) type Placed = (Order, SyncSender<Result<(), AssignError>>);

/// Stores until nobody can place an order any more.
pub(super) fn run(store: &Store, table: &Mutex<Table>, orders: &Receiver<Placed>) {
    let mut flushed = Instant::now();
    loop {
        let wait = FLUSH.saturating_sub(flushed.elapsed());
        match orders.recv_timeout(wait) {
            Ok(first) => {
                let rest = orders.try_iter().take(ORDERS);
                carry_out(store, table, std::iter::once(first).chain(rest).collect());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return flush(store, table),
        }
        if flushed.elapsed() >= FLUSH {
            flush(store, table);
            flushed = Instant::now();
        }
    }
}

fn carry_out(store: &Store, table: &Mutex<Table>, placed: Vec<Placed>) {
    if placed.iter().any(|(order, _)| matches!(order, Order::Flush)) {
        flush(store, table);
    }
    let (accepted, refused) = within_room(&lock(table), placed);
    let stored = write(store, accepted.iter().map(|(order, _)| order)).map_err(Arc::new);
    for (order, done) in accepted {
        if stored.is_ok() {
            apply(&mut lock(table), order);
        }
        // Whoever waited may have given up.
        let _ = done.send(stored.clone().map_err(AssignError::Store));
    }
    for (_, done) in refused {
        let _ = done.send(Err(AssignError::Full));
    }
}

/// Divides orders into those for whose roles there is room, and the others.
fn within_room(table: &Table, placed: Vec<Placed>) -> (Vec<Placed>, Vec<Placed>) {
    let mut room = table.room();
    placed.into_iter().partition(|(order, _)| {
        let new = match order {
            Order::Assign(mac, _) => usize::from(!table.has_role(*mac)),
            Order::Put(records) => {
                let with_role = records.iter().filter(|(_, machine)| machine.role.is_some());
                with_role.filter(|(mac, _)| !table.has_role(*mac)).count()
            }
            Order::Forget(_) | Order::Flush => 0,
        };
        let fits = new <= room;
        room -= if fits { new } else { 0 };
        fits
    })
}

fn write<'a>(
    store: &Store,
    orders: impl Iterator<Item = &'a Order> + Clone,
) -> Result<(), StoreError> {
    if orders.clone().all(|order| matches!(order, Order::Flush)) {
        return Ok(());
    }
    store.transact(|transaction| {
        for order in orders {
            match order {
                Order::Assign(mac, role) => rows::write_role(transaction, *mac, Some(role))?,
                Order::Forget(mac) => {
                    rows::write_role(transaction, *mac, None)?;
                    rows::write_records(transaction, &[(*mac, None)])?;
                }
                Order::Put(records) => {
                    for (mac, machine) in records {
                        rows::write_role(transaction, *mac, machine.role.as_ref())?;
                    }
                }
                Order::Flush => {}
            }
        }
        Ok(())
    })
}

/// What is stored now counts.
fn apply(table: &mut Table, order: Order) {
    match order {
        Order::Assign(mac, role) => table.assign(mac, role),
        Order::Forget(mac) => table.remove(mac),
        Order::Put(records) => {
            for (mac, machine) in records {
                table.put(mac, machine);
            }
        }
        Order::Flush => {}
    }
}

/// Stores the records that have changed. Should that fail, they are lost at a power cut: a role
/// never is, and for the rest nobody has to wait.
fn flush(store: &Store, table: &Mutex<Table>) {
    if let Err(error) = write_records(store, table) {
        warn!("records of machines are not stored: {error}");
    }
}

/// Leases are stored between one lot of records and the next, and only the last waits for the
/// disk.
fn write_records(store: &Store, table: &Mutex<Table>) -> Result<(), StoreError> {
    // No more than there are now: others may come faster than these are stored.
    let lots = lock(table).unstored().div_ceil(RECORDS);
    for _ in 0..lots {
        let records = lock(table).take_unstored(RECORDS);
        store.transact_soon(|transaction| rows::write_records(transaction, &records))?;
    }
    if lots > 0 {
        store.transact(|_| Ok(()))?;
    }
    Ok(())
}
