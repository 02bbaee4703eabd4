//! The LinuxKit appliance: keys that LinuxKit knows (it refuses all others), flags that the daemon
//! knows, and no more rights than it needs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

use clap::Parser as _;
use serde::Deserialize;
use serde_yaml_ng::Value;
use talos_pxe::cli::Cli;
use xtask::repository;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    kernel: Kernel,
    init: Vec<String>,
    services: Vec<Service>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    image: String,
    cmdline: String,
}

/// The keys of a service that LinuxKit knows and that could be of use here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    capabilities: BTreeSet<String>,
    #[serde(default)]
    readonly: bool,
    #[serde(default, rename = "env")]
    _env: Vec<String>,
    #[serde(default, rename = "binds")]
    _binds: Vec<String>,
    #[serde(default, rename = "mounts")]
    _mounts: Vec<Value>,
    #[serde(default, rename = "tmpfs")]
    _tmpfs: Vec<String>,
}

fn image() -> Image {
    let text = fs::read_to_string(repository().join("linux.yml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

#[test]
fn linuxkit_knows_every_key_and_every_image_is_pinned() {
    let image = image();
    assert!(image.kernel.cmdline.contains("console="));
    assert!(image.kernel.image.starts_with("linuxkit/kernel:"));
    for reference in &image.init {
        let (name, hash) = reference.split_once(':').unwrap();
        assert!(name.starts_with("linuxkit/"), "{reference}");
        assert!(hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{reference}");
    }
}

#[test]
fn linuxkit_runs_the_daemon_with_the_rights_it_needs_and_no_others() {
    let [daemon] = <[Service; 1]>::try_from(image().services).ok().unwrap();
    assert_eq!((daemon.name.as_str(), daemon.image.as_str()), ("talos-pxe", "talos-pxe:latest"));
    assert!(daemon.readonly);
    let rights = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"];
    assert_eq!(daemon.capabilities, rights.map(String::from).into());
    Cli::try_parse_from(daemon.command).unwrap();
}
