//! `talos-pxe console` on a real terminal, with a real daemon, in private network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "the interface's tests use the rest")]
#[path = "../interface/namespace.rs"]
mod namespace;
mod terminal;

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use namespace::{Peer, in_namespace, run};
use terminal::{Console, Terminal};

/// A root with as little as can be served.
fn root() -> TempDir {
    let root = TempDir::new().unwrap();
    for folder in ["assets", "firmware"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    for name in ["vmlinuz-amd64", "initramfs-amd64.xz"] {
        fs::write(root.path().join("assets").join(name), "\0").unwrap();
    }
    for name in ["undionly.kpxe", "snponly.efi"] {
        fs::write(root.path().join("firmware").join(name), "\0").unwrap();
    }
    root
}

/// Two network cards; only the second one's cable is plugged in at the other end.
fn two_cards() -> Peer {
    run("ip link set lo up");
    let peer = Peer::new();
    peer.add_cable("second", "far");
    peer.run("ip link set far up");
    peer
}

fn console(root: &Path, terminal: &Terminal, flags: &[&str]) -> Console {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talos-pxe"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALOS_PXE_")) {
        command.env_remove(name);
    }
    command.arg("console").arg("--root").arg(root).arg("--tty").arg(terminal.path());
    Console::start(command.args(flags))
}

fn is_up(interface: &str) -> bool {
    let list = Command::new("ip").args(["link", "show", "up"]).output().unwrap().stdout;
    String::from_utf8(list).unwrap().contains(&format!(" {interface}@"))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_person_chooses_watches_a_boot_and_powers_off() {
    in_namespace(false, async || {
        let (peer, root, mut terminal) = (two_cards(), root(), Terminal::new());
        let (log, config) = (root.path().join("log"), root.path().join("talos-pxe.toml"));
        fs::write(&config, "mode = \"server\"\r\nadmin = \"127.0.0.1:9191\"\r\n").unwrap();
        let files = [config.to_str().unwrap(), log.to_str().unwrap()];
        let flags = ["--config", files[0], "--log", files[1], "--power", "--wait", "3600"];
        let missing = ["--tty", "/nonexistent", "--tty", "/dev/null"];
        let mut console = console(root.path(), &terminal, &[&flags[..], &missing].concat());

        let screen = terminal.wait_for(&["1  ours", "2  second", "it is second"]);
        assert_eq!(screen.lines().count(), 24, "what a terminal of unknown size has");
        terminal.press("\x1b[2~");
        terminal.press("2");
        terminal.wait_for(&["interface  second", "mode       DHCP server: as --mode says"]);
        terminal.wait_for(&["address    192.168.123.1/24", "127.0.0.1:9191", "XDP        generic"]);
        assert!(!is_up("ours"), "it was set up only to see whether it has a link");

        let udhcpc = "busybox udhcpc -i far -n -q -f -s /bin/true -x hostname:rack1-n2 \
                      -V PXEClient:Arch:00000:UNDI:002001";
        peer.run(udhcpc);
        terminal.wait_for(&["192.168.123.2", "/8 ", "rack1-n2"]);

        console.signal_daemon(Signal::KILL);
        terminal.wait_for(&["second is not served:", "signal: 9 (SIGKILL)", "Next try in"]);
        terminal.wait_for(&["mode       DHCP server", ", 1 lease"]);

        terminal.press("px");
        terminal.press("p");
        terminal.wait_for(&["Power off? y: yes"]);
        terminal.press("y");
        terminal.wait_for(&["Powering off."]);
        assert_eq!(console.wait().code(), Some(10));
        assert!(terminal.is_as_before());
        assert!(!is_up("second"), "all is put back");

        let log = fs::read_to_string(log).unwrap();
        for line in [
            "not on /nonexistent: No such file",
            "not on /dev/null: it is no terminal",
            "ready interface=",
        ] {
            assert!(log.contains(line), "{line}\n{log}");
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_a_person_the_card_with_a_link_is_served() {
    in_namespace(false, async || {
        let (_peer, root, mut terminal) = (two_cards(), root(), Terminal::new());
        let mut console =
            console(root.path(), &terminal, &["--mode=server", "--wait=1", "--admin=0.0.0.0:9192"]);
        terminal.wait_for(&["interface  second", "dashboard  http://192.168.123.1:9192"]);

        terminal.press("i");
        terminal.wait_for(&["Which network card are the machines on?"]);
        terminal.wait_for(&["interface  second", "dashboard"]);
        assert!(!terminal.is_as_before());
        console.signal(Signal::TERM);
        assert_eq!(console.wait().code(), Some(0));
        assert!(terminal.is_as_before());
        assert!(!is_up("second"));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_mistake_in_the_config_file_is_shown() {
    in_namespace(false, async || {
        let (root, mut terminal) = (root(), Terminal::new());
        run("ip link set lo up");
        run("ip link add ours type veth peer theirs");
        let config = root.path().join("talos-pxe.toml");
        fs::write(&config, "lease-tim = 600\n").unwrap();
        let flags = ["--config", config.to_str().unwrap(), "--if=ours", "--skip-ifup"];
        let mut console = console(root.path(), &terminal, &flags);
        terminal.wait_for(&["ours is not served:", "toml:1: there is no setting \"lease-tim\""]);

        fs::write(&config, "lease-time = 600\n").unwrap();
        terminal.wait_for(&["ours is down: `ip link set ours up`, or leave out --skip-ifup"]);
        run("ip link set ours up");
        run("ip link set theirs up");
        run("ip address add 10.9.0.1/24 dev ours");
        terminal.wait_for(&["address    10.9.0.1/24", "was taken as it is (--skip-ifup)"]);
        console.signal(Signal::INT);
        assert_eq!(console.wait().code(), Some(0));
    });
}
