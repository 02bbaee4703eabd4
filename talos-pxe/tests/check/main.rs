//! `talos-pxe check` as a command, in private network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "the interface's tests use the rest")]
#[path = "../interface/namespace.rs"]
mod namespace;

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use namespace::{DhcpServer, Peer, in_namespace, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_talos-pxe");

/// A root with all that is needed.
fn root() -> TempDir {
    let root = TempDir::new().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    for name in ["vmlinuz-amd64", "initramfs-amd64.xz", "kernel-arm64", "initramfs-arm64.xz"] {
        write(&format!("assets/{name}"), "\0");
    }
    for name in ["controlplane.yaml", "worker.yaml"] {
        write(&format!("assets/{name}"), "version: v1alpha1\nmachine:\n  type: worker\n");
    }
    write("assets/talosconfig", "context: c\ncontexts:\n  c: {}\n");
    for name in ["undionly.kpxe", "snponly.efi"] {
        write(&format!("firmware/{name}"), "\0");
    }
    root
}

/// A cable between `ours` and `theirs`, both up.
fn cable() {
    run("ip link add ours type veth peer theirs");
    run("ip link set ours up");
    run("ip link set theirs up");
}

fn check_by(mut command: Command, root: &Path, flags: &[&str]) -> Output {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALOS_PXE_")) {
        command.env_remove(name);
    }
    command.args(["check", "--if", "ours", "--root"]).arg(root).args(flags).output().unwrap()
}

fn check(root: &Path, flags: &[&str]) -> Output {
    check_by(Command::new(PROGRAM), root, flags)
}

/// Exit code, and the findings by `check` with their status and text.
struct Findings(Option<i32>, Vec<Value>);

impl Findings {
    fn of(output: &Output) -> Self {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        Self(output.status.code(), report["checks"].as_array().unwrap().clone())
    }

    fn get(&self, check: &str) -> (&str, &str) {
        let finding = self.1.iter().find(|finding| finding["check"] == check).unwrap();
        (finding["status"].as_str().unwrap(), finding["text"].as_str().unwrap())
    }

    /// The checks with this status.
    fn with(&self, status: &str) -> Vec<&str> {
        let those = self.1.iter().filter(|finding| finding["status"] == status);
        those.map(|finding| finding["check"].as_str().unwrap()).collect()
    }
}

fn findings(root: &Path, flags: &[&str]) -> Findings {
    Findings::of(&check(root, &[flags, &["--json"]].concat()))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn all_is_well_and_nothing_is_changed() {
    in_namespace(false, async || {
        cable();
        run("ip link set ours down");
        let before = Command::new("ip").args(["-4", "addr"]).output().unwrap().stdout;
        let root = root();
        let output = check(root.path(), &["--mode", "server"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with("ok       ")), "{text}");
        assert_eq!(lines[0], "ok       rights             all that serving takes");
        assert!(lines[1].contains(" down, veth; driver veth, 10000 Mb/s"), "{text}");
        assert_eq!(lines[2], "ok       address            192.168.123.1/24, DHCP server");
        for line in [
            "UDP port 67        free",
            "TCP port 8080      free",
            "XDP                the kernel takes the program; generic, as on every veth device",
            "Talos amd64        vmlinuz-amd64, initramfs-amd64.xz",
            "Talos arm64        kernel-arm64, initramfs-arm64.xz",
            "talosconfig        valid YAML",
        ] {
            assert!(lines.contains(&format!("ok       {line}").as_str()), "{line}\n{text}");
        }
        assert!(!root.path().join("state").exists());
        let after = Command::new("ip").args(["-4", "addr"]).output().unwrap().stdout;
        assert_eq!(before, after);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_taken_port_is_named_with_what_to_do() {
    in_namespace(false, async || {
        cable();
        run("ip link set lo up");
        let root = root();
        let _dhcp = UdpSocket::bind("0.0.0.0:67").unwrap();
        let _http = TcpListener::bind("0.0.0.0:8080").unwrap();
        let found = findings(root.path(), &[]);
        assert_eq!(found.0, Some(1));
        assert_eq!(found.with("failed"), ["UDP port 67", "TCP port 8080"]);
        let cause = "cannot take UDP port 67: it is in use; stop the server that \
            `ss -lunp sport = :67` shows";
        assert_eq!(found.get("UDP port 67").1, cause);
        let output = check(root.path(), &[]);
        let last = String::from_utf8(output.stderr).unwrap();
        assert!(last.starts_with("talos-pxe: could not serve: 2 of "), "{last}");
        let found = findings(root.path(), &["--http-port", "8081", "--dhcp-port", "1067"]);
        assert_eq!((found.0, found.with("failed")), (Some(0), vec![]));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn missing_files_are_named_with_what_to_do() {
    in_namespace(false, async || {
        cable();
        let root = root();
        let remove = |path: &str| fs::remove_file(root.path().join(path)).unwrap();
        remove("assets/initramfs-arm64.xz");
        remove("firmware/snponly.efi");
        let found = findings(root.path(), &[]);
        assert_eq!(found.with("failed"), ["Talos arm64", "boot files"]);
        assert_eq!(
            found.get("Talos arm64").1,
            "there is kernel-arm64 without initramfs-arm64.xz; talos-pxe assets fetch --arch arm64"
        );
        remove("assets/vmlinuz-amd64");
        remove("assets/controlplane.yaml");
        remove("assets/worker.yaml");
        let found = findings(root.path(), &[]);
        assert_eq!(found.0, Some(1));
        assert_eq!(found.with("failed"), ["Talos amd64", "Talos arm64", "boot files"]);
        assert_eq!(found.get("configs").0, "warning");
        assert!(found.get("configs").1.contains("maintenance mode"));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn missing_rights_are_named() {
    in_namespace(false, async || {
        cable();
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps=-all", "--bounding-set=-all", PROGRAM]);
        let root = root();
        let found = Findings::of(&check_by(command, root.path(), &["--json", "--probe"]));
        assert_eq!(found.0, Some(1));
        assert!(found.with("failed").starts_with(&["rights", "DHCP server"]));
        let (_, text) = found.get("rights");
        let start = "without cap_net_admin, cap_net_raw, cap_net_bind_service: run as root, or ";
        assert!(text.starts_with(start), "{text}");
        let (status, text) = found.get("XDP");
        assert_eq!(status, "warning", "{text}");
        assert!(text.starts_with("no right to load the program: "), "{text}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_that_cannot_be_served_is_a_failure() {
    in_namespace(false, async || {
        let found = findings(root().path(), &[]);
        assert_eq!(found.0, Some(1));
        assert_eq!(found.get("interface"), ("failed", "no interface ours; there is: lo"));
        cable();
        run("ip link set theirs down");
        let found = findings(root().path(), &[]);
        assert_eq!(found.get("interface").0, "failed");
        assert!(found.get("interface").1.contains("connect a cable, or start without it"));
        assert_eq!(findings(root().path(), &["--skip-ifup"]).get("address").0, "failed");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn asks_for_a_dhcp_server_only_when_told_to() {
    in_namespace(false, async || {
        let peer = Peer::new();
        let dnsmasq = DhcpServer::dnsmasq(&peer);
        peer.run("ip link set theirs up");
        run("ip link set ours up");
        let root = root();
        let server = |flags: &[&str]| findings(root.path(), flags).get("DHCP server").1.to_owned();
        assert_eq!(server(&["--probe"]), "10.9.0.1; we help it");
        let beside = server(&["--probe", "--mode", "server"]);
        assert!(beside.starts_with("10.9.0.1 is one: two on a network "), "{beside}");
        let log = dnsmasq.stop();
        let asked = log.matches("DHCPDISCOVER").count();
        assert!(asked >= 2 && !log.contains("DHCPREQUEST"), "{log}");

        assert_eq!(server(&[]), "not looked for; --probe asks the network");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn secrets_are_checked_and_never_told() {
    in_namespace(false, async || {
        cable();
        let root = root();
        let write = |name: &str, text: &str| {
            fs::write(root.path().join("assets").join(name), text).unwrap();
        };
        write("worker.yaml", "machine:\n  token: s3cr3t\n  - s3cr3t: [\n");
        write("talosconfig", "s3cr3t\n");
        let open = root.path().join("assets/controlplane.yaml");
        fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
        let output = check(root.path(), &["--json"]);
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        assert!(!text.contains("s3cr3t"), "{text}");
        let found = Findings::of(&output);
        assert_eq!(found.with("failed"), ["worker.yaml", "talosconfig"]);
        let (_, text) = found.get("worker.yaml");
        assert!(text.contains("worker.yaml: no valid YAML at line "), "{text}");
        let (status, text) = found.get("controlplane.yaml");
        assert_eq!(status, "warning");
        assert_eq!(
            text,
            format!("holds keys, and others may read it: chmod 600 {}", open.display())
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flag_counts_more_than_the_environment_and_that_more_than_the_config_file() {
    in_namespace(false, async || {
        cable();
        run("ip address add 10.9.0.1/24 dev ours");
        let root = root();
        let config = root.path().join("talos-pxe.toml");
        fs::write(&config, "mode = \"server\"\naddr = \"10.1.0.1/24\"\n").unwrap();
        let address = |environment: Option<&str>, flags: &[&str]| {
            let mut command = Command::new("env");
            command.args(environment.map(|addr| format!("TALOS_PXE_ADDR={addr}"))).arg(PROGRAM);
            let config = ["--config", config.to_str().unwrap(), "--json"];
            let output = check_by(command, root.path(), &[&config, flags].concat());
            Findings::of(&output).get("address").1.to_owned()
        };
        assert_eq!(address(None, &[]), "10.1.0.1/24, DHCP server");
        assert_eq!(address(Some("10.2.0.1/24"), &[]), "10.2.0.1/24, DHCP server");
        let flag = ["--addr", "10.3.0.1/24"];
        assert_eq!(address(Some("10.2.0.1/24"), &flag), "10.3.0.1/24, DHCP server");
    });
}
