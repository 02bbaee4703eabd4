//! What is stored is read again; what is not ours is refused and kept.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::wire::MacAddr;

const BOOT: BootId = BootId(1);

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

fn held(n: u8, until: u64) -> Held {
    let address = Ipv4Addr::new(10, 0, 0, n);
    Held { mac: MacAddr([2, 0, 0, 0, 0, n]), address, until: at(until) }
}

fn open(folder: &Path, boot: BootId, now: u64) -> (Store, Vec<Held>) {
    let (store, mut all) = Store::open(folder, boot, at(now)).unwrap();
    all.sort_by_key(|held| held.mac);
    (store, all)
}

#[test]
fn what_was_stored_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (store, empty) = open(&state, BOOT, 0);
    assert_eq!(empty, []);
    let changes = [
        Change::Hold(held(1, 300)),
        Change::Hold(held(2, 300)),
        Change::Forget(held(1, 0).mac),
        Change::Hold(held(2, 900)),
    ];
    store.write(at(10), changes).unwrap();
    assert!(matches!(Store::open(&state, BOOT, at(20)), Err(StoreError::InUse(_))));
    drop(store);
    assert_eq!(open(&state, BOOT, 20).1, [held(2, 900)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("talos-pxe.redb"))), (0o700, 0o600));
}

#[test]
fn another_boot_holds_each_lease_for_all_that_it_had_left() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), BOOT, 0);
    store.write(at(1000), [Change::Hold(held(1, 1300))]).unwrap();
    drop(store);
    // And again: the time that passed in a boot of its own does not count twice.
    for (boot, now) in [(2, 5), (2, 100), (3, 7)] {
        let (_, all) = open(folder.path(), BootId(boot), now);
        assert_eq!(all, [held(1, if boot == 2 { 305 } else { 307 })], "boot {boot} at {now}");
    }
}

/// As the first version wrote it, which had these two tables only.
#[test]
fn a_version_1_file_becomes_one_of_this_version() {
    const LEASES: TableDefinition<[u8; 6], (u32, u64, u64)> = TableDefinition::new("leases");
    let folder = tempfile::tempdir().unwrap();
    let old = Database::create(folder.path().join("talos-pxe.redb")).unwrap();
    let transaction = old.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("version", 1).unwrap();
        meta.insert("boot", BOOT.0).unwrap();
        let row = (u32::from(held(1, 0).address), 300_000_000_000, 0);
        transaction.open_table(LEASES).unwrap().insert(held(1, 0).mac.0, row).unwrap();
    }
    transaction.commit().unwrap();
    drop(old);
    let (store, all) = open(folder.path(), BOOT, 10);
    assert_eq!(all, [held(1, 300)]);
    let version = store.transact(|transaction| {
        Ok(transaction.open_table(META)?.get("version")?.map(|found| found.value()))
    });
    assert_eq!(version.unwrap(), Some(2));
    store.write(at(10), [Change::Hold(held(1, 900))]).unwrap();
    drop(store);
    assert_eq!(open(folder.path(), BOOT, 20).1, [held(1, 900)]);
}

#[test]
fn a_damaged_or_future_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talos-pxe.redb");
    let (store, _) = open(folder.path(), BOOT, 0);
    store.write(at(0), [Change::Hold(held(1, 300))]).unwrap();
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("version", VERSION + 1).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let future = Store::open(folder.path(), BOOT, at(0));
    assert!(matches!(future, Err(StoreError::FutureVersion { version: 3, .. })));

    let good = fs::read(&path).unwrap();
    for (name, bytes) in [
        ("text", b"this is no database, whatever its name says".repeat(200)),
        ("cut", good[..good.len() / 3].to_vec()),
        ("zeros", vec![0; good.len()]),
    ] {
        fs::write(&path, &bytes).unwrap();
        let opened = Store::open(folder.path(), BOOT, at(0));
        assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{name}: {opened:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
    }
}
