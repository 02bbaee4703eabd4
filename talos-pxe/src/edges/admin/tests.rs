//! The admin API over real connections, mostly by the subcommands that speak to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ureq::http::Request;

use super::*;
use crate::cli::{Cli, Command};
use crate::decisions::boot::loader::Loaders;
use crate::decisions::boot::origin::Origin;
use crate::decisions::dhcp::server::{self, Server};
use crate::edges::http;
use crate::state::leases::{Leases, Pool, Reservations};
use crate::state::machines::{Observation, Stage, Text};
use crate::state::store::{Held, Store};
use crate::wire::MacAddr;

const ONE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A daemon's admin API on a free port of the loopback interface; it ends with its runtime.
struct Lab {
    address: SocketAddr,
    machines: Arc<Machines>,
    folder: TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn new(leased: &[Held]) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let entered = runtime.enter();
        let machines = Arc::new(Machines::in_memory());
        let subnet = Ipv4Net::new(OWN, 24).unwrap();
        let responder = dhcp::Responder::Server(Box::new(leasing(subnet, leased)));
        let serving = Serving {
            mode: Mode::Server,
            reason: Reason::Unanswered,
            interface: "eth0".to_owned(),
            address: subnet,
            xdp_reason: Some("as --xdp says".to_owned()),
        };
        let handle = dhcp::Handle::to(responder);
        let admin = Arc::new(Admin::new(Arc::clone(&machines), handle, serving));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(http::serve(listener, router(admin), CancellationToken::new()));
        drop(entered);
        Self { address, machines, folder: tempfile::tempdir().unwrap(), _runtime: runtime }
    }

    /// Runs a command line with these words; returns what it prints, or its error.
    fn run(&self, words: &str) -> Result<String, String> {
        run(self.address, words)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Sends a request as a browser might; returns the status and the text of the answer.
    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        self.try_send(method, path, headers, body).unwrap()
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<(u16, String), ureq::Error> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.uri(format!("http://{}{path}", self.address));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let agent: ureq::Agent = agent.into();
        let mut response = agent.run(request.body(body.to_owned()).unwrap())?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }
}

fn leasing(subnet: Ipv4Net, leased: &[Held]) -> dhcp::Leasing {
    let loaders = Loaders {
        origin: Origin { address: OWN, port: 8080 },
        arm64: None,
        ukis: Default::default(),
        bios: "undionly.kpxe".to_owned(),
        uefi: "snponly.efi".to_owned(),
    };
    let lease_time = Duration::from_secs(300);
    let settings = server::Settings { subnet, router: OWN, dns: Vec::new(), lease_time, loaders };
    let pool = Pool::new([10, 0, 0, 2].into(), [10, 0, 0, 99].into(), &[]);
    let server = Server::new(settings, Leases::restore(pool, leased.to_vec()));
    dhcp::Leasing::start(server, Arc::new(Store::in_memory()), Reservations::default(), None)
        .unwrap()
}

fn run(address: SocketAddr, words: &str) -> Result<String, String> {
    let admin = address.to_string();
    let words = ["talos-pxe"].into_iter().chain(words.split(' ')).chain(["--admin", &admin]);
    let mut out = Vec::new();
    let done = match Cli::try_parse_from(words).unwrap().command() {
        Command::Machines(command) => client::machines(command, &mut out),
        Command::Status(command) => client::status(command.target, &mut out),
        _ => panic!("no such test"),
    };
    done.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
}

fn held(n: u8) -> Held {
    let address = [10, 0, 0, n].into();
    let until = BootTime::now() + Duration::from_secs(600);
    Held { mac: MacAddr([2, 0, 0, 0, 0, n]), address, until }
}

fn asks_for_its_script() -> Observation {
    Observation {
        serial: Text::new("<b>\"1\""),
        address: Some([10, 0, 0, 9].into()),
        ..Observation::stage(WallTime::now(), Stage::Script)
    }
}

#[test]
fn roles_are_given_and_machines_forgotten() {
    let lab = Lab::new(&[]);
    assert_eq!(lab.run("machines").unwrap(), "no machine has been seen yet\n");
    lab.machines.observe(ONE, asks_for_its_script());
    let given = lab.run("machines assign 52-54-00-00-00-01 controlplane").unwrap();
    assert!(given.starts_with("52:54:00:00:00:01 has role controlplane: "), "{given}");
    lab.run("machines assign 525400000002 worker").unwrap();

    let list = lab.run("machines list").unwrap();
    let words: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..4], ["MACHINE", "ADDRESS", "ROLE", "STAGE"]);
    assert_eq!(words[1][..4], ["52:54:00:00:00:01", "10.0.0.9", "controlplane", "script"]);
    assert_eq!(words[2][..4], ["52:54:00:00:00:02", "-", "worker", "-"]);
    assert_eq!(words[2].last(), Some(&"never"));
    let json: Vec<types::Listed> =
        serde_json::from_str(&lab.run("machines --json").unwrap()).unwrap();
    assert_eq!(json[0].machine, lab.machines.get(ONE).unwrap());
    assert!(json[0].present && !json[1].present);

    assert_eq!(
        lab.run("machines forget 525400000001").unwrap(),
        "52:54:00:00:00:01 is forgotten\n"
    );
    let again = lab.run("machines forget 525400000001");
    assert_eq!(again.unwrap_err(), "no machine 52:54:00:00:00:01 is known");
    assert_eq!(lab.machines.get(ONE), None);
}

#[test]
fn a_machine_is_told_to_be_up() {
    let lab = Lab::new(&[]);
    let json = [("content-type", "application/json")];
    let up = |mac: &str| lab.send("POST", &format!("/api/machines/{mac}/up"), &json, "").0;
    assert_eq!(up("52:54:00:00:00:01"), 404);
    lab.machines.observe(ONE, asks_for_its_script());
    assert_eq!(up("52:54:00:00:00:01"), 200);
    assert_eq!(lab.machines.get(ONE).unwrap().stage, Some(Stage::Up));
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let lab = Lab::new(&[held(2), held(3), held(4)]);
    lab.machines.observe(ONE, asks_for_its_script());
    lab.machines.assign(ONE, "worker".parse().unwrap()).unwrap();
    let file = lab.file("export.json");
    let written = lab.run(&format!("machines export {file}")).unwrap();
    assert!(written.starts_with("1 machines and 3 leases written to "), "{written}");
    assert_eq!(lab.run("machines export -").unwrap().lines().count(), {
        fs::read_to_string(&file).unwrap().lines().count()
    });

    // There, one of the addresses is another machine's.
    let other = MacAddr([2, 0, 0, 0, 0, 77]);
    let there = Lab::new(&[Held { mac: other, ..held(4) }]);
    let import = format!("machines import {file}");
    assert_eq!(there.run(&import).unwrap(), "1 machines and 2 of 3 leases imported\n");
    assert_eq!(there.run(&import).unwrap(), "1 machines and 0 of 3 leases imported\n");
    let machine = there.machines.get(ONE).unwrap();
    assert_eq!(machine.role, Some("worker".parse().unwrap()));
    assert_eq!(machine.serial, Text::new("<b>\"1\""));
    assert_eq!(machine.present_at(BootTime::now()), None, "it has no lease there");
    let status = there.run("status").unwrap();
    assert!(status.contains("\n  leases    3\n"), "{status}");
}

#[test]
fn a_screen_gets_the_machines_that_were_heard_last() {
    let lab = Lab::new(&[]);
    let macs: Vec<MacAddr> = (1..=3).map(|last| MacAddr([2, 0, 0, 0, 0, last])).collect();
    for (mac, seen) in macs.iter().zip([20, 30, 10]) {
        let seen = Observation::stage(WallTime(seen), Stage::Kernel);
        lab.machines.observe(*mac, seen);
    }
    let overview = client::Overview::ask(lab.address, 2).unwrap();
    let latest: Vec<MacAddr> = overview.latest.iter().map(|listed| listed.mac).collect();
    assert_eq!(latest, [macs[1], macs[0]]);
    assert_eq!(overview.status.reason, "no DHCP server answered");
    assert_eq!(client::xdp(&overview.status), "generic, 0 answered: as --xdp says");
    let wrong = lab.send("GET", "/api/machines?latest=-1", &[], "");
    assert_eq!((wrong.0, wrong.1.starts_with("{\"error\":")), (400, true), "{}", wrong.1);
}

#[test]
fn a_broken_export_changes_nothing() {
    let lab = Lab::new(&[]);
    let file = lab.file("export.json");
    for (text, error) in [
        ("{", "is no export: EOF while parsing"),
        (r#"{"version":1,"machines":[{"mac":"x"}],"leases":[]}"#, "not a MAC address"),
        (r#"{"version":2,"machines":[],"leases":[]}"#, "version 2 of the format; known is 1"),
        (
            r#"{"version":1,"machines":[{"mac":"525400000001","serial":"\u001b[0m"}],"leases":[]}"#,
            "not 1 to 128 printable ASCII characters",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let refused = lab.run(&format!("machines import {file}")).unwrap_err();
        assert!(refused.contains(error), "{text}: {refused}");
    }
    let missing = lab.run("machines import /nonexistent").unwrap_err();
    assert!(missing.starts_with("cannot read /nonexistent: "), "{missing}");
    assert_eq!(lab.machines.count(), 0);
}

#[test]
fn strange_pages_cannot_use_it() {
    let lab = Lab::new(&[]);
    let port = lab.address.port();
    let host = |name: &str| format!("{name}:{port}");
    for (name, status) in
        [("localhost", 200), ("127.0.0.1", 200), ("[::1]", 200), ("evil.example", 421), ("", 421)]
    {
        let answer = lab.send("GET", "/api/status", &[("host", &host(name))], "");
        assert_eq!(answer.0, status, "{name}: {}", answer.1);
    }
    let role = r#"{"role":"worker"}"#;
    let path = "/api/machines/52:54:00:00:00:01";
    for (method, path, content_type) in [
        ("POST", "/api/import", "text/plain"),
        ("POST", "/api/import", "application/x-www-form-urlencoded"),
        ("POST", "/api/import", ""),
        ("PUT", path, "text/plain"),
        ("DELETE", path, ""),
    ] {
        let answer = lab.send(method, path, &[("content-type", content_type)], role);
        assert_eq!(answer.0, 415, "{method} {path} {content_type}: {}", answer.1);
    }
    assert_eq!(lab.machines.count(), 0);
    let json = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(lab.send("PUT", path, &json, role).0, 200);
}

#[test]
fn what_is_not_understood_is_refused_in_one_line() {
    let lab = Lab::new(&[]);
    let json = [("content-type", "application/json")];
    let path = "/api/machines/52:54:00:00:00:01";
    for (method, path, body, status) in [
        ("PUT", path, "", 400),
        ("PUT", path, r#"{"role":"a b"}"#, 400),
        ("PUT", path, r#"{"role":"worker","more":1}"#, 400),
        ("PUT", "/api/machines/x", r#"{"role":"worker"}"#, 400),
        ("GET", "/api/machines/x", "", 400),
        ("GET", path, "", 404),
        ("DELETE", path, "", 404),
        ("GET", "/api/nothing", "", 404),
        ("POST", "/api/status", "", 405),
    ] {
        let answer = lab.send(method, path, &json, body);
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
        assert_eq!(answer.1.lines().count(), 1, "{method} {path}: {}", answer.1);
    }
    // The answer may come, and the connection end, before all of it is sent.
    let long = format!(r#"{{"role":"{}"}}"#, "x".repeat(3 << 20));
    if let Ok(answer) = lab.try_send("PUT", path, &json, &long) {
        assert_eq!(answer.0, 413);
    }
    assert_eq!(lab.machines.count(), 0);
}

#[test]
fn without_a_daemon_the_next_step_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(address, "status").unwrap_err();
    assert!(error.starts_with(&format!("no talos-pxe answers at {address} (")), "{error}");
    assert!(error.contains("name the address of its admin API with --admin"), "{error}");
}

#[test]
fn metrics_are_in_prometheus_format() {
    let lab = Lab::new(&[held(2)]);
    lab.machines.observe(ONE, asks_for_its_script());
    lab.machines.assign(ONE, "worker".parse().unwrap()).unwrap();
    let (status, text) = lab.send("GET", "/metrics", &[], "");
    assert_eq!(status, 200);
    for sample in [
        "talos_pxe_dhcp_leases 1",
        "talos_pxe_dhcp_replies_total 3",
        "talos_pxe_machines{stage=\"script\"} 1",
        "talos_pxe_assigned_machines{role=\"worker\"} 1",
        "talos_pxe_xdp_info{mode=\"generic\"} 1",
        "talos_pxe_xdp_frames_total{outcome=\"offered\"} 0",
        "talos_pxe_info{mode=\"server\",interface=\"eth0\"} 1",
    ] {
        assert!(text.lines().any(|line| line == sample), "no {sample} in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let family = name.split('{').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
    }
}

/// The page shows what machines say of themselves.
#[test]
fn the_page_loads_nothing_from_elsewhere_and_writes_text_only() {
    let lab = Lab::new(&[]);
    let (_, page) = lab.send("GET", "/", &[], "");
    let (_, script) = lab.send("GET", "/page.js", &[], "");
    let (_, style) = lab.send("GET", "/page.css", &[], "");
    assert!(page.contains("src=\"/page.js\"") && page.contains("href=\"/page.css\""));
    for text in [&page, &script, &style] {
        assert!(!text.contains("http"), "{text}");
    }
    for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.contains(way), "{way}");
    }
}
