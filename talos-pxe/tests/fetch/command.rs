//! `talos-pxe assets fetch` as a command: its output, exit code, and a Ctrl-C.

use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn command(root: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talos-pxe"));
    command.args(["assets", "fetch"]).args(flags).arg("--root").arg(root.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALOS_PXE_")) {
        command.env_remove(name);
    }
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn fetches_all_that_the_flags_say_and_notes_the_version() {
    let server = Server::start(good);
    let root = TempDir::new().unwrap();
    let flags = ["--talos", "v1.13.9", "--uki", "--ipxe", "--factory", &server.url];
    let output = command(&root, &flags).args(["--ipxe-mirror", &server.url]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let first = format!(
        "{}/assets/vmlinuz-amd64: 292.97 KiB, {} (no checksum is published to compare with)",
        root.path().display(),
        sha256(&kernel())
    );
    assert_eq!(out.lines().next(), Some(first.as_str()));
    assert_eq!(out.lines().count(), 5);
    assert_eq!(asset(&root, "talos-version").unwrap(), b"v1.13.9\n");
    assert_eq!(asset(&root, "metal-amd64-uki.efi"), file("metal-amd64-uki.efi"));
    let firmware = |name| fs::read(root.path().join("firmware").join(name)).ok();
    assert_eq!(firmware("undionly.kpxe"), file("undionly.kpxe"));
    assert_eq!(firmware("snponly.efi"), file("snponly.efi"));
    assert!(server.paths().contains(&"/x86_64-efi/snponly.efi".to_owned()));

    // Of another version while the files of another architecture stay: they do not fit together.
    fs::write(root.path().join("assets/vmlinuz-arm64"), "older").unwrap();
    let flags = ["--talos", "v1.14.0", "--mirror", &server.url];
    let output = command(&root, &flags).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(!out.contains("already there"), "{out}");
    assert!(err.contains("vmlinuz-arm64 is of another Talos, v1.13.9: fetch --arch arm64 as well"));
    assert_eq!(asset(&root, "talos-version").unwrap(), b"v1.14.0\n");
}

#[test]
fn a_customization_becomes_the_schematic_of_the_urls() {
    let id = "ab".repeat(32);
    let answer = format!("{{\"id\":\"{id}\"}}");
    let server = Server::start(move |before, request| match request.path.as_str() {
        "/schematics" => Answer::text(&answer),
        _ => good(before, request),
    });
    let root = TempDir::new().unwrap();
    let customization = root.path().join("extensions.yaml");
    fs::write(&customization, "customization: {}\n").unwrap();
    let file = format!("--schematic-file={}", customization.display());
    let flags = ["--talos", "v1.13.9", "--factory", &server.url, &file];
    let output = command(&root, &flags).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.starts_with(&format!("schematic {id}\n")), "{out}");
    assert_eq!(server.paths()[1], format!("/image/{id}/v1.13.9/kernel-amd64"));
}

#[test]
fn exit_codes_tell_failure_from_wrong_usage() {
    let server = Server::start(|_, _| Answer::status("404 Not Found"));
    let root = TempDir::new().unwrap();
    let run = |flags: &[&str]| {
        let output = command(&root, flags).output().unwrap();
        (output.status.code(), texts(&output).1)
    };
    let (code, err) = run(&["--talos", "v9.9.9", "--factory", &server.url]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.lines().last().unwrap().starts_with("talos-pxe: cannot fetch http://127.0.0.1"));
    for (flags, cause) in [
        (&["--talos", "1.13"][..], "expected a version such as v1.13.9"),
        (&["--talos", "v1.13.9", "--schematic", "zz"], "64 hexadecimal digits"),
        (&["--talos", "v1.13.9", "--arch", "riscv64"], "amd64, arm64"),
        (&["--talos", "v1.13.9", "--mirror", "ftp://x"], "expected http://HOST/PATH"),
        (&["--talos", "v1.13.9", "--release", "--mirror", "http://x"], "cannot be used with"),
        (&[], "--talos"),
    ] {
        let (code, err) = run(flags);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(cause), "{err}");
    }
}

/// A command that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ctrl_c_keeps_what_came() {
    let server = Server::start(|before, request| match before {
        0 => good(before, request).without_last(200_000).then_silence(),
        _ => good(before, request),
    });
    let root = TempDir::new().unwrap();
    let flags = ["--talos", "v1.13.9", "--factory", &server.url];
    let mut first = Running(command(&root, &flags).stderr(Stdio::null()).spawn().unwrap());
    let part = root.path().join("assets/.vmlinuz-amd64.part");
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 100_000 {
        assert_eq!(first.0.try_wait().unwrap(), None, "it ended");
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(first.0.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(!first.0.wait().unwrap().success());

    let output = command(&root, &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
    assert_eq!(server.requests()[1].from(), Some(100_000));
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
}
