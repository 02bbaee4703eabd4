//! The tables of machines and roles in the store.
//!
//! A role is a row of its own: it is promised, and so is written at once; the record is for
//! people, and is written when there is time.

use std::collections::HashMap;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::record::Machine;
use super::table::Unstored;
use crate::state::store::{Store, StoreError};
use crate::wire::{MacAddr, Role};

/// By machine: its role.
const ROLES: TableDefinition<[u8; 6], &str> = TableDefinition::new("roles");
/// By machine: its record as JSON, without the role.
const MACHINES: TableDefinition<[u8; 6], &[u8]> = TableDefinition::new("machines");

/// Reads all machines.
pub(super) fn read(store: &Store) -> Result<HashMap<MacAddr, Machine>, StoreError> {
    let read = store.transact(|transaction| {
        let (mut roles, mut records) = (Vec::new(), Vec::new());
        for row in transaction.open_table(ROLES)?.iter()? {
            let (mac, role) = row?;
            roles.push((MacAddr(mac.value()), role.value().to_owned()));
        }
        for row in transaction.open_table(MACHINES)?.iter()? {
            let (mac, record) = row?;
            records.push((MacAddr(mac.value()), record.value().to_vec()));
        }
        Ok((roles, records))
    });
    let (roles, records) = read?;
    let mut machines: HashMap<MacAddr, Machine> = HashMap::new();
    for (mac, record) in records {
        let machine = serde_json::from_slice(&record);
        let machine = machine.map_err(|error| store.damaged(format!("machine {mac}: {error}")))?;
        machines.insert(mac, machine);
    }
    for (mac, role) in roles {
        let role = role.parse();
        let role = role.map_err(|error| store.damaged(format!("role of {mac}: {error}")))?;
        machines.entry(mac).or_default().role = Some(role);
    }
    Ok(machines)
}

/// Writes a machine's role; none takes it away.
pub(super) fn write_role(
    transaction: &WriteTransaction,
    mac: MacAddr,
    role: Option<&Role>,
) -> Result<(), redb::Error> {
    let mut roles = transaction.open_table(ROLES)?;
    match role {
        Some(role) => roles.insert(mac.0, role.as_str())?,
        None => roles.remove(mac.0)?,
    };
    Ok(())
}

/// Writes machines' records; none takes one away.
pub(super) fn write_records(
    transaction: &WriteTransaction,
    records: &[Unstored],
) -> Result<(), redb::Error> {
    let mut machines = transaction.open_table(MACHINES)?;
    for (mac, record) in records {
        match record {
            Some(record) => {
                let record = Machine { role: None, ..Machine::clone(record) };
                let json = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
                machines.insert(mac.0, json.as_slice())?
            }
            None => machines.remove(mac.0)?,
        };
    }
    Ok(())
}
