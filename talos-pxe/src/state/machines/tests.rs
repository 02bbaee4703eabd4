//! What is remembered of machines, what survives, and what is bounded.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::decisions::boot::loader::{Architecture, Client};
use crate::state::store::BootId;
use crate::time::WallTime;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
const ROM: Client = Client::Pxe(Architecture::Bios);
const IPXE: Client = Client::Ipxe { http: true };

fn mac(n: usize) -> MacAddr {
    let [.., a, b, c] = n.to_be_bytes();
    MacAddr([2, 0, 0, a, b, c])
}

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

fn role(name: &str) -> Role {
    name.parse().unwrap()
}

fn alive(time: u64) -> Observation {
    Observation::at(WallTime(time))
}

fn stage(stage: Stage) -> Observation {
    Observation::stage(WallTime(1), stage)
}

fn asks_from(address: IpAddr) -> Observation {
    Observation { address: Some(address), ..stage(Stage::Script) }
}

fn leases(address: IpAddr, until: u64) -> Observation {
    Observation { address: Some(address), lease: Some(at(until)), ..alive(1) }
}

fn open(folder: &Path) -> Machines {
    let boot = BootId::current().unwrap();
    let (store, _) = Store::open(folder, boot, BootTime::BOOT).unwrap();
    Machines::open(Arc::new(store)).unwrap()
}

#[test]
fn a_role_is_on_disk_once_it_is_given() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machines = open(folder.path());
    let file = "talos-pxe.redb";
    let after_a_crash = || {
        fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
        open(crashed.path())
    };
    machines.assign(mac(1), role("worker")).unwrap();
    assert_eq!(after_a_crash().role(mac(1)), Some(role("worker")));
    machines.assign(mac(1), role("init")).unwrap();
    assert_eq!(after_a_crash().role(mac(1)), Some(role("init")));
    assert_eq!(machines.forget(mac(1)).ok(), Some(true));
    assert_eq!(after_a_crash().get(mac(1)), None);
    assert_eq!(machines.forget(mac(1)).ok(), Some(false));
}

#[test]
fn records_are_on_disk_once_that_is_asked_for() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machines = open(folder.path());
    let all = 0..600;
    for n in all.clone() {
        machines.observe(mac(n), stage(Stage::Script));
    }
    machines.store().unwrap();
    let file = "talos-pxe.redb";
    fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
    assert_eq!(open(crashed.path()).all().len(), all.len());
}

#[test]
fn roles_given_at_once_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let machines = open(folder.path());
    std::thread::scope(|scope| {
        for n in 0..64 {
            let machines = &machines;
            scope.spawn(move || machines.assign(mac(n), role("worker")).unwrap());
        }
    });
    drop(machines);
    let machines = open(folder.path());
    assert!((0..64).all(|n| machines.role(mac(n)) == Some(role("worker"))));
}

#[test]
fn records_are_stored_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let machines = open(folder.path());
    machines.observe(
        mac(1),
        Observation {
            client: Some(ROM),
            architecture: Some(Architecture::Bios),
            uuid: Text::new("4c4c4544-0042"),
            serial: Text::new("S N 1"),
            hostname: "node1".parse().ok(),
            profile: Text::new("worker"),
            ..asks_from(HOME)
        },
    );
    machines.assign(mac(1), role("worker")).unwrap();
    machines.observe(mac(2), alive(7));
    let known = [1, 2].map(|n| machines.get(mac(n)).unwrap());
    drop(machines);
    let machines = open(folder.path());
    assert_eq!([1, 2].map(|n| machines.get(mac(n)).unwrap()), known);
    assert_eq!(machines.at(HOME), Some(mac(1)));
    machines.forget(mac(2)).unwrap();
    drop(machines);
    assert_eq!(open(folder.path()).all().len(), 1);
}

#[test]
fn a_row_that_makes_no_sense_is_an_error() {
    let store = Arc::new(Store::in_memory());
    let table = redb::TableDefinition::<[u8; 6], &str>::new("roles");
    let write = |text| {
        store.transact(|transaction| {
            transaction.open_table(table)?.insert(mac(1).0, text)?;
            Ok(())
        })
    };
    write("no role").unwrap();
    let error = Machines::open(Arc::clone(&store)).unwrap_err().to_string();
    assert!(error.contains("damaged (role of 02:00:00:00:00:01: not a role"), "{error}");
    write("worker").unwrap();
    assert_eq!(Machines::open(store).unwrap().role(mac(1)), Some(role("worker")));
}

/// As a BIOS boots: its ROM asks for DHCP, loads iPXE, which asks again.
#[test]
fn a_boot_goes_on_and_the_next_starts_over() {
    let machines = Machines::in_memory();
    let walk = |client, step, expected| {
        machines.observe(mac(1), Observation { client, ..stage(step) });
        assert_eq!(machines.get(mac(1)).unwrap().stage, Some(expected), "{step:?}");
    };
    for _ in 0..2 {
        walk(Some(ROM), Stage::Discovered, Stage::Discovered);
        walk(None, Stage::Offered, Stage::Offered);
        walk(None, Stage::BootFile, Stage::BootFile);
        walk(Some(IPXE), Stage::Discovered, Stage::BootFile);
        walk(None, Stage::Offered, Stage::BootFile);
        for step in [Stage::Script, Stage::Kernel, Stage::Initramfs, Stage::Config, Stage::Up] {
            walk(None, step, step);
        }
    }
    // A machine with iPXE in its ROM.
    walk(Some(IPXE), Stage::Discovered, Stage::Discovered);
    assert_eq!(machines.get(mac(1)).unwrap().firmware, Some(Firmware::Bios));
    machines.observe(mac(2), Observation { client: Some(IPXE), ..alive(1) });
    assert_eq!(machines.get(mac(2)).unwrap().firmware, Some(Firmware::Ipxe));
}

#[test]
fn invented_machines_make_room_and_assigned_ones_stay() {
    let machines = Machines::in_memory();
    machines.observe(mac(0), asks_from(HOME));
    machines.assign(mac(1), role("worker")).unwrap();
    for n in 2..=Table::UNKNOWN {
        machines.observe(mac(n), alive(n as u64));
    }
    machines.observe(mac(0), alive(1));
    machines.observe(mac(Table::UNKNOWN + 1), alive(1));
    assert_eq!(machines.all().len(), Table::UNKNOWN + 1);
    assert!(machines.get(mac(0)).is_some(), "it was heard of lately");
    assert!(machines.get(mac(2)).is_none(), "it was not heard of for longest");
    assert_eq!(machines.role(mac(1)), Some(role("worker")));
    for n in 0..Table::UNKNOWN {
        machines.observe(mac(100_000 + n), alive(1));
    }
    assert_eq!((machines.get(mac(0)), machines.at(HOME)), (None, None));
}

#[test]
fn roles_are_bounded() {
    let mut table = Table::default();
    for n in 0..Table::ASSIGNED {
        assert_eq!(table.room(), Table::ASSIGNED - n);
        table.assign(mac(n), role("worker"));
    }
    let (store, table) = (Arc::new(Store::in_memory()), Arc::new(Mutex::new(table)));
    let (orders, placed) = channel();
    let shared = Arc::clone(&table);
    let recorder = thread::spawn(move || recorder::run(&store, &shared, &placed));
    let machines = Machines { table, orders: Some(orders), recorder: Some(recorder) };
    let another = machines.assign(mac(Table::ASSIGNED), role("worker"));
    assert!(matches!(another, Err(AssignError::Full)));
    machines.assign(mac(0), role("init")).unwrap();
    machines.forget(mac(1)).unwrap();
    machines.assign(mac(Table::ASSIGNED), role("worker")).unwrap();
}

#[test]
fn an_address_is_one_machines() {
    let machines = Machines::in_memory();
    machines.observe(mac(1), asks_from(HOME));
    machines.observe(mac(2), asks_from(HOME));
    assert_eq!(machines.at(HOME), Some(mac(2)));
    assert_eq!(machines.get(mac(1)).unwrap().address, None);
    machines.observe(mac(1), alive(2));
    assert_eq!(machines.at(HOME), Some(mac(2)));
    machines.observe_at(HOME, stage(Stage::Up));
    assert_eq!(machines.get(mac(2)).unwrap().stage, Some(Stage::Up));
}

#[test]
fn nobody_claims_an_address_that_was_leased() {
    let (machines, elsewhere) = (Machines::in_memory(), IpAddr::from([10, 0, 0, 66]));
    machines.observe(mac(1), leases(HOME, 300));
    machines.observe(mac(1), asks_from(elsewhere));
    machines.observe(mac(2), asks_from(HOME));
    assert_eq!(machines.get(mac(1)).unwrap().address, Some(HOME));
    assert_eq!((machines.at(HOME), machines.at(elsewhere)), (Some(mac(1)), None));
    machines.observe(mac(2), leases(HOME, 900));
    assert_eq!(machines.at(HOME), Some(mac(2)), "but another lease counts");
}

#[test]
fn a_machine_is_there_while_its_lease_lasts() {
    let machines = Machines::in_memory();
    let there = |now| machines.get(mac(1)).unwrap().present_at(at(now));
    machines.observe(mac(1), asks_from(HOME));
    assert_eq!(there(1_000_000), Some(HOME), "another server leases");
    machines.observe(mac(1), leases(HOME, 300));
    assert_eq!([299, 300].map(there), [Some(HOME), None]);
    let held = Held { mac: mac(1), address: [10, 0, 0, 9].into(), until: at(900) };
    machines.restore_leases(&[held], at(400));
    assert_eq!([399, 400].map(there), [Some(HOME), None]);
    machines.restore_leases(&[], at(400));
    assert_eq!(there(0), None);
}

#[test]
fn changes_are_counted_and_signs_of_life_are_not() {
    let machines = Machines::in_memory();
    let mut last = machines.generation();
    let mut changes = |change: &dyn Fn()| {
        change();
        std::mem::replace(&mut last, machines.generation()) != machines.generation()
    };
    assert!(changes(&|| machines.observe(mac(1), leases(HOME, 300))));
    assert!(!changes(&|| machines.observe(mac(1), leases(HOME, 450))));
    assert!(changes(&|| machines.observe(mac(1), leases(HOME, 10))), "given back");
    assert!(changes(&|| machines.assign(mac(1), role("worker")).unwrap()));
    assert!(!changes(&|| machines.observe_known(mac(2), stage(Stage::Script))));
    assert!(changes(&|| drop(machines.forget(mac(1)))));
}

#[test]
fn names_are_those_of_json() {
    for stage in Stage::ALL {
        assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
    }
    use Firmware::{Bios, Bootp, Ipxe, Uefi, UefiHttp};
    for firmware in [Bios, Uefi, UefiHttp, Ipxe, Bootp] {
        assert_eq!(serde_json::to_value(firmware).unwrap(), firmware.name());
    }
    for code in [0, 6, 7, 10, 11, 31] {
        let architecture = Architecture::from(code);
        let json = serde_json::to_value(architecture).unwrap();
        assert_eq!(serde_json::from_value::<Architecture>(json).unwrap(), architecture);
    }
}

proptest! {
    #[test]
    fn text_of_machines_is_plain(text in ".{0,9}") {
        let plain = Text::new(&text).is_some();
        prop_assert_eq!(plain, !text.is_empty() && text.bytes().all(|b| (32..127).contains(&b)));
    }
}
