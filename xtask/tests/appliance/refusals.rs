//! What keeps the daemon from serving: it ends with one line that names the cause and the next
//! step, with exit code 1, or 2 where the command line is to blame.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::exec;
use xtask::lab::process::Process;
use xtask::lab::server;
use xtask::lab::{Host, Lab};

use crate::SOON;

/// A host with the daemon's program and a folder that it can serve.
struct Bench {
    lab: Lab,
    host: Host,
    program: PathBuf,
    root: PathBuf,
}

impl Bench {
    fn new() -> Result<Bench> {
        let lab = Lab::new()?;
        let host = lab.host("talos-pxe")?;
        let root = lab.dir().join("root");
        fs::create_dir_all(root.join("assets"))?;
        fs::write(root.join("assets/vmlinuz-amd64"), "a kernel")?;
        Ok(Bench { lab, host, program: server::build()?, root })
    }

    /// Runs the daemon, which is to end with `code` and one line: `message`, in which `...` stands
    /// for anything.
    fn refuses(&self, flags: &[&str], code: i32, message: &str) -> Result<()> {
        Refusal::start(self.host.command(&self.program), &self.root, flags)?.is(code, message)
    }
}

/// A daemon that is to end.
pub struct Refusal {
    what: String,
    process: Process,
}

impl Refusal {
    /// Starts `program` to serve `root` on eth0, as far as `flags` do not say otherwise.
    pub fn start(mut program: Command, root: &Path, flags: &[&str]) -> Result<Refusal> {
        server::without_settings(&mut program);
        let command = program.args(flags).env("TALOS_PXE_ROOT", root).env("TALOS_PXE_IF", "eth0");
        // In the mode that asks nobody, and so is quick.
        command.env("TALOS_PXE_MODE", "server").env("TALOS_PXE_XDP", "off");
        let what = format!("talos-pxe {}", flags.join(" "));
        let process = Process::start(&what, program, None)?;
        Ok(Refusal { what, process })
    }

    /// Waits for its end; see [`Bench::refuses`].
    pub fn is(mut self, code: i32, message: &str) -> Result<()> {
        let status = self.process.wait(SOON)?;
        let text = self.process.text();
        let what = self.what;
        ensure!(status.code() == Some(code), "{what}: {status}, not {code}\n{text}");
        // Before it come the log's lines.
        let line = text.lines().last().context("it said nothing")?;
        let error = line.strip_prefix("talos-pxe: ").with_context(|| format!("{what}\n{text}"))?;
        eprintln!("exit code {code}: {error}");
        let mut rest = Some(error);
        for part in message.split("...") {
            rest = rest.and_then(|rest| Some(rest.split_once(part)?.1));
        }
        ensure!(rest.is_some(), "{what} says\n  {error}\nnot\n  {message}");
        Ok(())
    }
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn names_the_place_in_a_broken_group_or_profile() -> Result<()> {
    let bench = Bench::new()?;
    for (file, text, message) in [
        (
            "groups/worker.json",
            "{\n  \"profile\": \"worker\",\n  \"selector\": {\"type\": 1}\n}\n",
            "/groups/worker.json: invalid type: ... at line 3 column ...; expected a group: ...",
        ),
        (
            "profiles/worker.json",
            "{\n  \"boot\": {\n    \"kernel\": \"/assets/vmlinuz-amd64\",\n  }\n}\n",
            "/profiles/worker.json: trailing comma at line 4 column 3; expected a profile: ...",
        ),
        (
            "profiles/worker.json",
            "{\"boot\": {\"kernel\": \"/assets/vmlinuz-amd64\", \"args\": [\"a\\nb\"]}}",
            "/profiles/worker.json: ...line break at line 1 column ...",
        ),
        (
            "groups/worker.json",
            "{\"profile\": \"workers\"}",
            "/groups/worker.json: no profile \"workers\"; there are: ...",
        ),
    ] {
        let path = bench.root.join(file);
        let folder = path.parent().context("no folder")?;
        fs::create_dir(folder)?;
        fs::write(&path, text)?;
        bench.refuses(&[], 1, message)?;
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn names_the_place_in_a_broken_inventory() -> Result<()> {
    let bench = Bench::new()?;
    let machine = |rest: &str| format!("machines:\n  - mac: 52:54:00:00:00:01\n    {rest}\n");
    let wrong = "/machines.yaml: machines[0]: unknown field `adress`, ... at line 3 column 5";
    let outside = "/machines.yaml: machine 52:54:00:00:00:01: address 10.0.0.9 is not inside ...";
    for (text, message) in
        [(machine("adress: 10.0.0.9"), wrong), (machine("address: 10.0.0.9"), outside)]
    {
        fs::write(bench.root.join("machines.yaml"), text)?;
        bench.refuses(&[], 1, message)?;
    }
    fs::write(bench.root.join("machines.toml"), "")?;
    bench.refuses(&[], 1, "there are both .../machines.yaml and .../machines.toml: keep one...")
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn wants_files_to_serve() -> Result<()> {
    let bench = Bench::new()?;
    let message = "nothing to boot: there is no .../vmlinuz-amd64; put Talos's kernel ...--root";
    let empty = bench.lab.dir().join("empty");
    let root = empty.to_str().context("a folder's name is no text")?;
    bench.refuses(&["--root", root], 1, message)?;
    fs::create_dir(&empty)?;
    bench.refuses(&["--root", root], 1, message)?;
    let message = "no boot file /nonexistent/undionly.kpxe: ...; install the package ipxe...";
    bench.refuses(&["--firmware", "/nonexistent"], 1, message)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn wants_an_interface_with_carrier() -> Result<()> {
    let bench = Bench::new()?;
    // It waits a while for carrier: the other cases are faster.
    let unplugged = bench.lab.host("unplugged")?;
    exec::output(bench.lab.command("ip").args(["link", "set", "unplugged", "down"]))?;
    let without_carrier = Refusal::start(unplugged.command(&bench.program), &bench.root, &[])?;

    bench.refuses(&["--if", "eth7"], 2, "no interface eth7; there is: lo, eth0")?;
    bench.refuses(&["--if", "lo"], 2, "lo is no Ethernet interface; ...--if: eth0")?;
    let message = "eth0 has no IPv4 address: `ip address add ... dev eth0`, or ...--skip-ifup";
    bench.refuses(&["--skip-ifup"], 2, message)?;
    without_carrier.is(1, "no carrier on eth0: no cable...; connect it, or ...--skip-ifup")
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn wants_addresses_inside_its_subnet() -> Result<()> {
    let bench = Bench::new()?;
    for (flags, message) in [
        (["--addr", "10.0.0.0/24"], "--addr 10.0.0.0/24 is no host's address; ..."),
        (
            ["--range", "10.0.0.2-10.0.0.9"],
            "--range 10.0.0.2-10.0.0.9 is not inside the subnet 192.168.123.0/24: correct ...",
        ),
        (["--gw", "10.0.0.1"], "--gw 10.0.0.1 is not inside the subnet 192.168.123.0/24: ..."),
    ] {
        bench.refuses(&flags, 2, message)?;
    }
    // The interface is as it was.
    let addresses = exec::output(bench.host.command("ip").args(["-4", "addr", "show", "eth0"]))?;
    ensure!(addresses.is_empty(), "{addresses}");
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn wants_its_ports() -> Result<()> {
    let bench = Bench::new()?;
    for port in [53, 67, 69, 4011] {
        let taken = bench.host.netns().inside(|| Ok(UdpSocket::bind(("0.0.0.0", port))?))?;
        let message = format!(
            "cannot take UDP port {port}: it is in use; stop the server that `ss -lunp sport = \
             :{port}` shows"
        );
        bench.refuses(&[], 1, &message)?;
        drop(taken);
    }
    for port in [53, 8080] {
        let taken = bench.host.netns().inside(|| Ok(TcpListener::bind(("0.0.0.0", port))?))?;
        let message = format!("cannot take TCP port {port}: it is in use; stop ...");
        bench.refuses(&[], 1, &message)?;
        drop(taken);
    }
    Ok(())
}
