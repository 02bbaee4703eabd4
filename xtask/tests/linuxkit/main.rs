//! The LinuxKit appliance: keys that LinuxKit knows (it refuses all others), flags that the daemon
//! knows, and no more rights than it needs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod schema;

use std::collections::BTreeSet;
use std::fs;

use clap::Parser as _;
use serde_yaml_ng::Value;
use talos_pxe::cli::Cli;
use xtask::repository;

fn appliance() -> Value {
    let text = fs::read_to_string(repository().join("linux.yml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_sequence().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn linuxkit_knows_every_key() {
    assert_eq!(schema::APPLIANCE.faults(&appliance(), ""), Vec::<String>::new());
}

#[test]
fn what_linuxkit_would_refuse_is_found() {
    for (wrong, fault) in [
        ("services: [{name: a, privileged: true}]", ".services[0].privileged: LinuxKit knows"),
        ("services: [{readonly: yes please}]", ".services[0].readonly: "),
        ("services: {name: a}", ".services: "),
        ("init: [7]", ".init[0]: "),
        ("services: [{devices: [{path: /dev/kvm, major: ten}]}]", ".services[0].devices[0].major"),
        ("services: [{sysctl: {a: 1}}]", ".services[0].sysctl.a: "),
        ("kernel: {cmd: quiet}", ".kernel.cmd: LinuxKit knows"),
    ] {
        let faults = schema::APPLIANCE.faults(&serde_yaml_ng::from_str(wrong).unwrap(), "");
        assert!(faults.len() == 1 && faults.concat().starts_with(fault), "{wrong}: {faults:?}");
    }
}

#[test]
fn every_image_of_linuxkit_is_pinned() {
    let appliance = appliance();
    let kernel = &appliance["kernel"];
    assert!(kernel["cmdline"].as_str().unwrap().contains("console="));
    let (name, version) = kernel["image"].as_str().unwrap().split_once(':').unwrap();
    assert_eq!((name, version.split('.').count()), ("linuxkit/kernel", 3));
    let mut names = BTreeSet::new();
    for reference in texts(&appliance["init"]) {
        let (name, hash) = reference.split_once(':').unwrap();
        names.insert(name.strip_prefix("linuxkit/").unwrap());
        assert!(hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{reference}");
    }
    assert!(names.is_superset(&["init", "runc", "containerd"].into()), "{names:?}");
}

#[test]
fn linuxkit_runs_the_daemon_with_the_rights_it_needs_and_no_others() {
    let appliance = appliance();
    let [daemon] = appliance["services"].as_sequence().unwrap().as_slice() else {
        panic!("not one service");
    };
    assert_eq!(daemon["name"], "talos-pxe");
    assert_eq!(daemon["image"], "talos-pxe:latest");
    assert_eq!(daemon["readonly"], true);
    assert_eq!(daemon["noNewPrivileges"], true);
    let rights =
        ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_NICE"];
    assert_eq!(texts(&daemon["capabilities"]), rights);
    for none in ["ambient", "binds", "devices", "mounts", "runtime"] {
        assert!(daemon.get(none).is_none(), "{none}");
    }
    Cli::try_parse_from(texts(&daemon["command"])).unwrap();
}
