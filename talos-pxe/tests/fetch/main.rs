//! Fetching over real connections, from a server that stands in for the Image Factory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod command;
mod disk;
mod server;
mod trouble;

use std::fs;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256, Sha512};
use talos_pxe::decisions::fetch::{Algorithm, Arch, Plan, Schematic, Source, Sum, Wanted};
use talos_pxe::edges::fetch::{Fetched, Fetcher, Patience};
use tempfile::TempDir;

use server::{Answer, Server};

/// Some bytes that no other call with another seed makes.
fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|n| seed ^ (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

fn kernel() -> Vec<u8> {
    content(1, 300_000)
}

fn initramfs() -> Vec<u8> {
    content(2, 500_000)
}

/// The file that a path names, in any source's way of naming.
fn file(path: &str) -> Option<Vec<u8>> {
    let name = path.rsplit('/').next()?;
    match name {
        "kernel-amd64" | "vmlinuz-amd64" => Some(kernel()),
        "initramfs-amd64.xz" => Some(initramfs()),
        "metal-amd64-uki.efi" => Some(content(3, 1000)),
        "undionly.kpxe" => Some(content(4, 1000)),
        "snponly.efi" => Some(content(5, 1000)),
        _ => None,
    }
}

/// A server without fault.
fn good(_: usize, request: &server::Request) -> Answer {
    match file(&request.path) {
        Some(content) => Answer::file(request, "\"one\"", &content),
        None => Answer::status("404 Not Found"),
    }
}

/// Waits for nothing for long: three more attempts, at once.
fn fetcher(root: &TempDir, stall: Duration) -> Fetcher {
    Fetcher::new(root.path(), Patience { stall, pauses: vec![Duration::from_millis(1); 3] })
}

/// Longer than any test takes.
const NO_STALL: Duration = Duration::from_secs(60);

fn wanted() -> Wanted {
    let version = "v1.13.9".parse().unwrap();
    Wanted { version, archs: vec![Arch::Amd64], uki: false, ipxe: None }
}

fn factory(server: &Server) -> Plan {
    let base = server.url.parse().unwrap();
    Plan::new(&Source::Factory { base, schematic: Schematic::plain() }, &wanted())
}

fn mirror(server: &Server) -> Plan {
    Plan::new(&Source::Release(server.url.parse().unwrap()), &wanted())
}

/// Only the kernel, for tests of one file's way.
fn kernel_only(plan: Plan) -> Plan {
    Plan { items: plan.items.into_iter().take(1).collect(), ..plan }
}

fn asset(root: &TempDir, name: &str) -> Option<Vec<u8>> {
    fs::read(root.path().join("assets").join(name)).ok()
}

/// All files of a folder, sorted by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sha256(bytes: &[u8]) -> Sum {
    Sum::new(Algorithm::Sha256, &Sha256::digest(bytes))
}

fn said(fetched: anyhow::Result<Vec<Fetched>>) -> String {
    format!("{:#}", fetched.unwrap_err())
}

#[test]
fn fetches_once_and_keeps_what_is_there() {
    let server = Server::start(good);
    let root = TempDir::new().unwrap();
    let fetched = fetcher(&root, NO_STALL).fetch(&factory(&server)).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
    assert_eq!(asset(&root, "initramfs-amd64.xz").unwrap(), initramfs());
    assert_eq!((fetched[0].length, &fetched[0].sha256), (300_000, &sha256(&kernel())));
    assert_eq!((fetched[0].verified, fetched[0].already_there), (None, false));

    let again = fetcher(&root, NO_STALL).fetch(&factory(&server)).unwrap();
    assert!(again.iter().all(|file| file.already_there));
    assert_eq!(
        names(&root.path().join("assets")),
        [".initramfs-amd64.xz.note", ".vmlinuz-amd64.note", "initramfs-amd64.xz", "vmlinuz-amd64"]
    );

    // What was changed here, or there, is fetched anew.
    fs::write(root.path().join("assets/vmlinuz-amd64"), content(9, 300_000)).unwrap();
    let repaired = fetcher(&root, NO_STALL).fetch(&factory(&server)).unwrap();
    assert_eq!(repaired.iter().map(|f| f.already_there).collect::<Vec<_>>(), [false, true]);
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
}

#[test]
fn verifies_by_either_list_of_checksums() {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let server = Server::start(move |before, request| {
            let list = |bytes: &[u8]| match algorithm {
                Algorithm::Sha256 => Sum::new(algorithm, &Sha256::digest(bytes)).hex,
                Algorithm::Sha512 => Sum::new(algorithm, &Sha512::digest(bytes)).hex,
            };
            if request.path == format!("/{}", algorithm.file_name()) {
                let (kernel, initramfs) = (list(&kernel()), list(&initramfs()));
                return Answer::text(&format!(
                    "{kernel}  vmlinuz-amd64\n{initramfs}  initramfs-amd64.xz\n"
                ));
            }
            good(before, request)
        });
        let root = TempDir::new().unwrap();
        let fetched = fetcher(&root, NO_STALL).fetch(&mirror(&server)).unwrap();
        assert!(fetched.iter().all(|file| file.verified == Some(algorithm)));
        let asked = server.requests().len();

        let again = fetcher(&root, NO_STALL).fetch(&mirror(&server)).unwrap();
        assert!(again.iter().all(|file| file.already_there));
        let new: Vec<_> = server.paths().split_off(asked);
        assert!(new.iter().all(|path| path.ends_with("sum.txt")), "{new:?}");
    }
}

#[test]
fn goes_on_where_a_connection_broke() {
    let server = Server::start(|before, request| {
        let answer = good(before, request);
        match before {
            0 => answer.without_last(200_000),
            1 => answer.without_last(50_000),
            _ => answer,
        }
    });
    let root = TempDir::new().unwrap();
    fetcher(&root, NO_STALL).fetch(&kernel_only(factory(&server))).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
    let from: Vec<_> = server.requests().iter().map(server::Request::from).collect();
    assert_eq!(from, [None, Some(100_000), Some(250_000)]);
}

#[test]
fn keeps_what_came_for_the_next_run() {
    let server = Server::start(|before, request| match before {
        0 => good(before, request).without_last(200_000),
        1..4 => Answer::status("503 Service Unavailable"),
        _ => good(before, request),
    });
    let root = TempDir::new().unwrap();
    let plan = kernel_only(factory(&server));
    let error = said(fetcher(&root, NO_STALL).fetch(&plan));
    assert!(error.contains("HTTP status 503, 4 times in a row"), "{error}");
    assert!(error.contains(&server.url), "{error}");
    assert_eq!(asset(&root, "vmlinuz-amd64"), None, "no half file under the final name");

    fetcher(&root, NO_STALL).fetch(&plan).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
    assert_eq!(server.requests()[4].from(), Some(100_000));
}

#[test]
fn starts_over_when_the_file_changed() {
    let server = Server::start(|before, request| match before {
        0 => Answer::file(request, "\"one\"", &kernel()).without_last(200_000),
        _ => Answer::file(request, "\"two\"", &content(7, 200_000)),
    });
    let root = TempDir::new().unwrap();
    fetcher(&root, NO_STALL).fetch(&kernel_only(factory(&server))).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), content(7, 200_000));
    assert_eq!(server.requests()[1].fields["if-range"], "\"one\"");
}

#[test]
fn a_part_of_another_version_is_not_gone_on_with() {
    let server = Server::start(|before, request| match before {
        0 => good(before, request).without_last(200_000),
        1..4 => Answer::status("503 Service Unavailable"),
        _ => Answer::file(request, "\"one\"", &content(7, 200_000)),
    });
    let root = TempDir::new().unwrap();
    let plan = kernel_only(factory(&server));
    fetcher(&root, NO_STALL).fetch(&plan).unwrap_err();
    let mut other = plan.clone();
    other.items[0].url = plan.items[0].url.replace("v1.13.9", "v1.13.8");
    fetcher(&root, NO_STALL).fetch(&other).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), content(7, 200_000));
    assert_eq!(server.requests()[4].from(), None);
}

#[test]
fn moves_nothing_before_all_is_there() {
    let server = Server::start(|before, request| {
        if request.path.ends_with(".xz") {
            Answer::status("404 Not Found")
        } else {
            good(before, request)
        }
    });
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("assets")).unwrap();
    fs::write(root.path().join("assets/vmlinuz-amd64"), "the kernel before").unwrap();
    fetcher(&root, NO_STALL).fetch(&factory(&server)).unwrap_err();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), b"the kernel before");
}
