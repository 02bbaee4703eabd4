//! TFTP and HTTP with the clients that people have: tftp-hpa, atftp and curl.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use talos_pxe::decisions::boot::{origin::Origin, script};
use talos_pxe::edges::http::Site;
use talos_pxe::edges::rules::{Source, Watch};
use talos_pxe::edges::tftp::{self, BootFiles};
use talos_pxe::state::machines::Machines;
use talos_pxe::state::store::{BootId, Store};
use talos_pxe::time::BootTime;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Longer than one block, no multiple of any block size, and no byte twice in a row.
fn boot_file() -> Vec<u8> {
    (0..300_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Both servers on free ports of the loopback interface. They end with the runtime.
struct Lab {
    folder: TempDir,
    tftp: SocketAddr,
    http: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let firmware = folder.path().join("firmware");
        fs::create_dir_all(folder.path().join("assets")).unwrap();
        fs::create_dir_all(&firmware).unwrap();
        fs::write(firmware.join("undionly.kpxe"), boot_file()).unwrap();
        fs::write(folder.path().join("assets/vmlinuz-amd64"), boot_file()).unwrap();
        fs::write(folder.path().join("assets/worker.yaml"), "machine:\n").unwrap();

        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (http, tftp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        let origin = Origin { address: Ipv4Addr::LOCALHOST, port: http.port() };
        let boot = BootId::current().unwrap();
        let (store, _) = Store::open(&folder.path().join("state"), boot, BootTime::BOOT).unwrap();
        let machines = Arc::new(Machines::open(Arc::new(store)).unwrap());
        let source = Source { root: folder.path().to_owned(), origin, served: None };
        let rules = Watch::start(source).unwrap().in_force();
        let site = Site::new(folder.path(), &firmware, origin, rules, Arc::clone(&machines));
        let site = Arc::new(site);
        let files = BootFiles::load(&firmware, &["undionly.kpxe"]).unwrap();
        let shutdown = CancellationToken::new();
        runtime.spawn(site.serve(listener, shutdown.clone()));
        let script = script::boot_ipxe(&origin);
        runtime.spawn(tftp::serve(socket, files, script, machines, shutdown));
        Self { folder, tftp, http, runtime }
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let _entered = self.runtime.enter();
        let output = Command::new(program).args(args).current_dir(self.folder.path()).output();
        output.unwrap_or_else(|error| panic!("{program}: {error}; run: cargo xtask setup"))
    }

    fn tftp_hpa(&self, remote: &str) -> Output {
        let port = self.tftp.port().to_string();
        self.run("tftp", &["-m", "octet", "127.0.0.1", &port, "-c", "get", remote, "got"])
    }

    fn atftp(&self, remote: &str, options: &[&str]) -> Output {
        let port = self.tftp.port().to_string();
        let mut args = options.to_vec();
        args.extend(["--get", "-r", remote, "-l", "got", "127.0.0.1", &port]);
        self.run("atftp", &args)
    }

    fn curl(&self, path: &str, options: &[&str]) -> Output {
        let url = format!("http://{}{path}", self.http);
        let mut args = vec!["--silent", "--show-error", "--path-as-is", "--max-time", "20"];
        args.extend(options);
        args.push(&url);
        self.run("curl", &args)
    }

    /// The status of a request with curl.
    fn status(&self, path: &str, options: &[&str]) -> String {
        let mut args = vec!["--output", "/dev/null", "--write-out", "%{http_code}"];
        args.extend(options);
        String::from_utf8(self.curl(path, &args).stdout).unwrap()
    }

    /// What a TFTP client wrote, if anything.
    fn take_got(&self) -> Vec<u8> {
        let got: &Path = &self.folder.path().join("got");
        let content = fs::read(got).unwrap_or_default();
        let _ = fs::remove_file(got);
        content
    }
}

#[test]
#[ignore = "needs tftp, atftp and curl: cargo xtask test"]
fn every_client_fetches_the_same_bytes() {
    let lab = Lab::new();
    lab.tftp_hpa("undionly.kpxe");
    assert!(lab.take_got() == boot_file(), "tftp-hpa");
    lab.tftp_hpa("/UNDIONLY.KPXE");
    assert!(lab.take_got() == boot_file(), "tftp-hpa, other spelling");
    for options in [
        &[][..],
        &["--option", "windowsize 8"],
        &["--option", "windowsize 65535", "--option", "blksize 65464"],
        &["--option", "blksize 1468", "--option", "tsize 0"],
    ] {
        let output = lab.atftp("undionly.kpxe", options);
        assert!(lab.take_got() == boot_file(), "atftp {options:?}: {output:?}");
    }
    assert!(lab.curl("/firmware/undionly.kpxe", &[]).stdout == boot_file(), "curl");
}

#[test]
#[ignore = "needs tftp, atftp and curl: cargo xtask test"]
fn curl_fetches_ranges() {
    let (lab, whole) = (Lab::new(), boot_file());
    for (range, part) in [
        ("0-0", 0..1),
        ("0-99", 0..100),
        ("150000-150099", 150_000..150_100),
        ("299990-", 299_990..300_001),
        ("299990-999999", 299_990..300_001),
        ("-5", 299_996..300_001),
        ("-999999", 0..300_001),
    ] {
        let output = lab.curl("/assets/vmlinuz-amd64", &["--range", range]);
        assert!(output.stdout == whole[part], "{range}");
    }
    for range in ["300001-", "999999-", "-0"] {
        assert_eq!(lab.status("/assets/vmlinuz-amd64", &["--range", range]), "416", "{range}");
    }
    let started = lab.folder.path().join("started");
    fs::write(&started, &whole[..1000]).unwrap();
    lab.curl("/assets/vmlinuz-amd64", &["--continue-at", "-", "--output", "started"]);
    assert!(fs::read(&started).unwrap() == whole, "resumed");
}

#[test]
#[ignore = "needs tftp, atftp and curl: cargo xtask test"]
fn no_client_leaves_the_folders() {
    let lab = Lab::new();
    let absolute = lab.folder.path().join("firmware/undionly.kpxe");
    for name in [
        "../firmware/undionly.kpxe",
        "./undionly.kpxe",
        "..//firmware//undionly.kpxe",
        "..\\firmware\\undionly.kpxe",
        "%2e%2e/firmware/undionly.kpxe",
        "..%2ffirmware%2fundionly.kpxe",
        absolute.to_str().unwrap(),
        "../assets/worker.yaml",
        "/etc/passwd",
        "autoexec.ipxe",
    ] {
        lab.tftp_hpa(name);
        assert_eq!(lab.take_got(), b"", "{name}");
        lab.atftp(name, &[]);
        assert_eq!(lab.take_got(), b"", "{name}");
    }
    for path in [
        "/assets/worker.yaml",
        "/assets/../assets/worker.yaml",
        "/assets/../firmware/undionly.kpxe",
        "/assets/../assets/vmlinuz-amd64",
        "/assets/./vmlinuz-amd64",
        "/assets//vmlinuz-amd64",
        "/assets/vmlinuz-amd64/",
        "/assets/vmlinuz-amd64%00",
        "/assets/vmlinuz-amd64%00.txt",
        "/assets/%2e%2e/firmware/undionly.kpxe",
        "/assets/%2e%2e%2ffirmware%2fundionly.kpxe",
        "/assets/..%2ffirmware%2fundionly.kpxe",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/%252e%252e%252fetc%252fpasswd",
        "/assets/%c0%ae%c0%ae/firmware/undionly.kpxe",
        "/assets/..%5cfirmware%5cundionly.kpxe",
        "/assets/..%5c..%5cetc%5cpasswd",
        "/firmware/../assets/worker.yaml",
        "/firmware/../assets/vmlinuz-amd64",
        "/firmware/%2e%2e%2fassets%2fvmlinuz-amd64",
        "/../../etc/passwd",
        "//etc/passwd",
    ] {
        assert_eq!(lab.status(path, &[]), "404", "{path}");
    }
    assert_eq!(lab.status("/assets/vmlinuz-amd64", &[]), "200");
    assert_eq!(lab.status("/assets/vmlinuz%2damd64", &[]), "200");
}
