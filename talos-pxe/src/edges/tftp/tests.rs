//! The TFTP server over a real socket.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::wire::MacAddr;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("undionly.kpxe"), vec![7; 3000]).unwrap();
    fs::write(folder.path().join("snponly.efi"), "MZ\0").unwrap();
    folder
}

/// A server on a free port of the loopback interface, and a client.
struct Lab {
    server: JoinHandle<anyhow::Result<()>>,
    shutdown: CancellationToken,
    client: tokio::net::UdpSocket,
    address: SocketAddr,
    machines: Arc<Machines>,
}

impl Lab {
    async fn new() -> Self {
        let files = BootFiles::load(folder().path(), &["undionly.kpxe", "snponly.efi"]).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let script = "#!ipxe\n".to_owned();
        let machines = Arc::new(Machines::in_memory());
        let shared = Arc::clone(&machines);
        let server = tokio::spawn(serve(socket, files, script, shared, shutdown.clone()));
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { server, shutdown, client, address, machines }
    }

    /// Sends a request of this kind (1 reads, 2 writes) and returns the first answer.
    async fn ask(&self, kind: u8, name: &str, options: &str) -> Vec<u8> {
        let mut request = vec![0, kind];
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b"\0octet\0");
        request.extend_from_slice(options.as_bytes());
        self.client.send_to(&request, self.address).await.unwrap();
        let mut answer = vec![0; 2000];
        let (length, _) = self.client.recv_from(&mut answer).await.unwrap();
        answer.truncate(length);
        answer
    }
}

#[tokio::test]
async fn grants_no_more_than_the_caps() {
    let lab = Lab::new().await;
    let options = "tsize\x000\0blksize\x0065464\0windowsize\x0065535\0timeout\x00255\0";
    let answer = lab.ask(1, "/UNDIONLY.KPXE", options).await;
    assert_eq!(answer, b"\0\x06tsize\x003000\0blksize\x001432\0windowsize\x008\0");
    lab.shutdown.cancel();
    lab.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn serves_the_script() {
    let lab = Lab::new().await;
    assert_eq!(lab.ask(1, "boot.ipxe", "").await, b"\0\x03\0\x01#!ipxe\n");
}

#[tokio::test]
async fn notes_who_loads_a_boot_file() {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    for (file, stage) in
        [("boot.ipxe", None), ("missing", None), ("snponly.efi", Some(Stage::BootFile))]
    {
        let lab = Lab::new().await;
        let here = lab.client.local_addr().unwrap().ip();
        let seen = Observation { address: Some(here), ..Observation::at(WallTime(1)) };
        lab.machines.observe(mac, seen);
        lab.ask(1, file, "").await;
        assert_eq!(lab.machines.get(mac).unwrap().stage, stage, "{file}");
    }
}

#[tokio::test]
async fn refuses_at_once() {
    let lab = Lab::new().await;
    for name in ["autoexec.ipxe", "../undionly.kpxe", "a/undionly.kpxe", "..\\x", "", "/"] {
        assert_eq!(lab.ask(1, name, "").await[..4], [0, 5, 0, 1], "{name}");
    }
    assert_eq!(lab.ask(2, "undionly.kpxe", "").await[..4], [0, 5, 0, 2]);
}

#[tokio::test]
async fn netascii_would_change_a_program() {
    let lab = Lab::new().await;
    lab.client.send_to(b"\0\x01snponly.efi\0netascii\0", lab.address).await.unwrap();
    let mut answer = [0; 100];
    lab.client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..4], [0, 5, 0, 4]);
}

/// EDK2 learns a file's size by a request that it ends with an error, and asks again.
#[tokio::test]
async fn a_transfer_ends_with_the_clients_error() {
    let lab = Lab::new().await;
    let request = b"\0\x01snponly.efi\0octet\0tsize\x000\0";
    let options = b"\0\x06tsize\x003\0";
    let mut answer = [0; 2000];
    lab.client.send_to(request, lab.address).await.unwrap();
    let (length, server) = lab.client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..length], *options);
    lab.client.send_to(b"\0\x05\0\x08aborted\0", server).await.unwrap();
    // Another client is silent. It is sent to again later than the first would have been.
    let other = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    other.send_to(request, lab.address).await.unwrap();
    for _ in 0..2 {
        let (length, _) = other.recv_from(&mut answer).await.unwrap();
        assert_eq!(answer[..length], *options);
    }
    let late = lab.client.try_recv(&mut answer).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
}

/// Requests that were repeated while the first one waited are read after the transfer has begun.
#[tokio::test]
async fn a_transfer_goes_on_when_its_request_comes_again() {
    let lab = Lab::new().await;
    let request = b"\0\x01snponly.efi\0octet\0tsize\x000\0";
    let mut answer = [0; 2000];
    lab.client.send_to(request, lab.address).await.unwrap();
    let (length, server) = lab.client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..length], *b"\0\x06tsize\x003\0");
    lab.client.send_to(b"\0\x04\0\0", server).await.unwrap();
    let (length, _) = lab.client.recv_from(&mut answer).await.unwrap();
    assert_eq!(answer[..4], [0, 3, 0, 1], "{:?}", &answer[..length]);
    lab.client.send_to(request, lab.address).await.unwrap();
    // Whoever is answered after that knows that it was read.
    let other = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    other.send_to(request, lab.address).await.unwrap();
    other.recv_from(&mut answer).await.unwrap();
    // Block 1 may come again, the options do not.
    while let Ok(length) = lab.client.try_recv(&mut answer) {
        assert_eq!(answer[..4], [0, 3, 0, 1], "{:?}", &answer[..length]);
    }
}

#[test]
fn follows_a_packages_links_but_holds_no_secret() {
    let folder = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("ipxe.efi"), "MZ\0").unwrap();
    fs::write(elsewhere.path().join("worker.yaml"), "machine:\n").unwrap();
    symlink(elsewhere.path().join("ipxe.efi"), folder.path().join("ipxe.efi")).unwrap();
    symlink(elsewhere.path().join("worker.yaml"), folder.path().join("x.efi")).unwrap();
    symlink("nowhere", folder.path().join("dangling.efi")).unwrap();
    fs::create_dir(folder.path().join("qemu")).unwrap();
    let files = BootFiles::load(folder.path(), &["snponly.efi"]).unwrap();
    let names: Vec<_> = files.0.keys().map(String::as_str).collect();
    assert_eq!(names, ["ipxe.efi", "snponly.efi", "undionly.kpxe"]);
}

#[test]
fn a_missing_boot_file_is_named_with_the_next_step() {
    for (folder, needed) in [(folder().path(), "ipxe.efi"), (Path::new("/nowhere"), "x")] {
        let error = format!("{:#}", BootFiles::load(folder, &[needed]).unwrap_err());
        assert!(error.contains("install the package ipxe"), "{error}");
        assert!(error.contains(folder.to_str().unwrap()) && !error.contains('\n'), "{error}");
    }
}
