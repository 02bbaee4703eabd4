//! Another machine on the network cannot get a config: with real sockets, MAC addresses and a real
//! neighbour table.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::Arc;

use talos_pxe::decisions::boot::{origin::Origin, script};
use talos_pxe::edges::http::Site;
use talos_pxe::edges::neighbours::Neighbours;
use talos_pxe::edges::netlink::Netlink;
use talos_pxe::edges::rules::{Source, Watch};
use talos_pxe::edges::tftp::{self, BootFiles};
use talos_pxe::state::machines::Machines;
use talos_pxe::state::store::{BootId, Store};
use talos_pxe::time::BootTime;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::namespace::{Peer, in_namespace, run};
use super::ours;

/// The machine `theirs`, and `other`, which would like its config.
const MACHINE: &str = "mac=52-54-00-00-00-01&type=worker";
const SECRET: &str = "c2VjcmV0";
/// A profile whose template is the config itself, by a hard link.
const PROFILE: &str = r#"{"generic_id": "setup.cfg", "boot": {"kernel": "/assets/vmlinuz-amd64",
    "args": ["talos.config=http://${next-server}:8080/assets/worker.yaml"]}}"#;
const GROUP: &str = r#"{"profile": "worker", "selector": {"type": "worker"}}"#;
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

struct Lab {
    peer: Peer,
    root: TempDir,
}

struct Answer {
    status: u16,
    body: String,
}

impl Lab {
    async fn new() -> Self {
        let lab = Self { peer: Peer::new(), root: TempDir::new().unwrap() };
        for folder in ["assets", "firmware", "generic", "groups", "patches", "profiles"] {
            fs::create_dir(lab.root.path().join(folder)).unwrap();
        }
        let config = format!("version: v1alpha1\nmachine:\n    ca:\n        key: {SECRET}\n");
        for name in ["worker.yaml", "controlplane.yaml", "init.yaml", "talosconfig"] {
            lab.write(&format!("assets/{name}"), &config);
        }
        lab.write("assets/vmlinuz-amd64", "kernel");
        lab.write("firmware/undionly.kpxe", "loader");
        lab.write("patches/52-54-00-00-00-01.yaml", "machine: {token: one}");
        lab.write("profiles/worker.json", PROFILE);
        lab.write("groups/worker.json", GROUP);
        let root = lab.root.path();
        fs::hard_link(root.join("assets/worker.yaml"), root.join("generic/setup.cfg")).unwrap();
        lab.connect();
        lab.serve().await;
        lab
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.path().join(path), text).unwrap();
    }

    /// Two machines on one cable, each answering for its own address only.
    fn connect(&self) {
        run("ip address add 10.9.0.1/24 dev ours");
        run("ip link set ours up");
        run("ip link set lo up");
        for command in [
            "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            "ip link set theirs address 52:54:00:00:00:01 up",
            "ip address add 10.9.0.11/24 dev theirs",
            "ip link add other link theirs address 52:54:00:00:00:02 type macvlan mode bridge",
            "ip address add 10.9.0.12/24 dev other",
            "ip link set other up",
        ] {
            self.peer.run(command);
        }
    }

    async fn serve(&self) {
        let (root, firmware) = (self.root.path(), self.root.path().join("firmware"));
        let interface = ours(&Netlink::connect().unwrap()).await.index;
        let origin = Origin { address: OWN, port: 8080 };
        let boot = BootId::current().unwrap();
        let (store, _) = Store::open(&root.join("state"), boot, BootTime::BOOT).unwrap();
        let machines = Arc::new(Machines::open(Arc::new(store)).unwrap());
        let source = Source { root: root.to_owned(), origin, served: None };
        let rules = Watch::start(source).unwrap().in_force();
        let site = Site::new(root, &firmware, origin, rules, Arc::clone(&machines))
            .with_neighbours(Neighbours::connect(interface).unwrap());
        let shutdown = CancellationToken::new();
        let listener = TcpListener::bind((OWN, 8080)).await.unwrap();
        tokio::spawn(Arc::new(site).serve(listener, shutdown.clone()));
        let socket = UdpSocket::bind((OWN, 69)).unwrap();
        let files = BootFiles::load(&firmware, &["undionly.kpxe"]).unwrap();
        let script = script::boot_ipxe(&origin);
        tokio::spawn(tftp::serve(socket, files, script, machines, shutdown));
    }

    /// What a machine gets, by its interface or address; `here` is the host that serves.
    async fn get(&self, machine: &str, url: &str) -> Answer {
        let mut curl = match machine {
            "here" => Command::new("curl"),
            from => {
                let kind = if from.parse::<Ipv4Addr>().is_ok() { "host" } else { "if" };
                let mut curl = self.peer.command();
                curl.args(["curl", "--interface", &format!("{kind}!{from}")]);
                curl
            }
        };
        curl.args([
            "--silent",
            "--path-as-is",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ]);
        curl.arg(url);
        let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = output.rsplit_once('\n').unwrap();
        Answer { status: status.parse().unwrap(), body: body.to_owned() }
    }

    async fn path(&self, machine: &str, path: &str) -> Answer {
        self.get(machine, &format!("http://{OWN}:8080{path}")).await
    }

    /// The link in a machine's script.
    async fn link(&self, machine: &str, query: &str) -> Option<String> {
        let script = self.path(machine, &format!("/ipxe?{query}")).await;
        assert_eq!(script.status, 200);
        let (_, link) = script.body.split_once("talos.config=")?;
        Some(link.split_whitespace().next()?.to_owned())
    }
}

fn with_lab(test: impl AsyncFnOnce(Lab) + Send) {
    in_namespace(false, async || test(Lab::new().await).await);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_link_is_good_for_its_machine_only() {
    with_lab(async |lab| {
        let link = lab.link("theirs", MACHINE).await.unwrap();
        let refused = lab.get("other", &link).await;
        assert_eq!((refused.status, refused.body.as_str()), (404, "not found\n"));
        assert_eq!(lab.get("here", &link).await.status, 404);
        let config = lab.get("theirs", &link).await;
        assert_eq!(config.status, 200);
        assert!(config.body.contains(SECRET) && config.body.contains("token: one"));

        // Another machine takes the address over, and ours comes with a new one.
        lab.peer.run("ip address del 10.9.0.11/24 dev theirs");
        lab.peer.run("ip address add 10.9.0.13/24 dev theirs");
        lab.peer.run("ip address del 10.9.0.12/24 dev other");
        lab.peer.run("ip address add 10.9.0.11/24 dev other");
        run("ip neighbour flush dev ours");
        assert_eq!(lab.get("other", &link).await.status, 404);
        assert_eq!(lab.get("theirs", &link).await.status, 200);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn nobody_gets_the_script_of_another_machine() {
    with_lab(async |lab| {
        let own = lab.link("theirs", MACHINE).await.unwrap();
        let stolen = lab.link("other", MACHINE).await.unwrap();
        assert_ne!(own, stolen);
        let config = lab.get("other", &stolen).await;
        assert_eq!(config.status, 200, "its own config, by its own MAC address");
        assert!(!config.body.contains("token: one"), "not the machine's");
        assert_eq!(lab.get("theirs", &stolen).await.status, 404);
        assert_eq!(lab.link("here", MACHINE).await, None, "no machine boots on this host");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn behind_a_router_a_link_is_good_for_one_address() {
    with_lab(async |lab| {
        run("ip route add 10.77.0.0/24 via 10.9.0.11");
        for address in ["10.77.0.5", "10.77.0.6"] {
            lab.peer.run(&format!("ip address add {address}/32 dev theirs"));
        }
        let link = lab.link("10.77.0.5", "mac=52-54-00-00-00-99&type=worker").await.unwrap();
        assert_eq!(lab.get("10.77.0.6", &link).await.status, 404);
        assert_eq!(lab.get("theirs", &link).await.status, 404);
        assert_eq!(lab.get("10.77.0.5", &link).await.status, 200);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_other_way_is_closed() {
    with_lab(async |lab| {
        lab.link("theirs", MACHINE).await.unwrap();
        for path in [
            "/config/",
            "/config/00000000000000000000000000000000",
            "/config/ffffffffffffffffffffffffffffffff",
            "/config/worker.yaml",
            "/config/..%2fassets%2fworker.yaml",
            "/assets/worker.yaml",
            "/assets/WORKER.YAML",
            "/assets/%77orker.yaml",
            "/assets/worker%2eyaml",
            "/assets/worker.yaml%00",
            "/assets/%2577orker.yaml",
            "/assets/./worker.yaml",
            "/assets/../assets/worker.yaml",
            "/assets/..%2fassets%2fworker.yaml",
            "/assets//worker.yaml",
            "/assets/talosconfig",
            "/assets/controlplane.yaml?mac=52-54-00-00-00-01",
            "/firmware/../assets/worker.yaml",
            "/patches/52-54-00-00-00-01.yaml",
            "/assets/../patches/52-54-00-00-00-01.yaml",
            "/generic?mac=52-54-00-00-00-01&type=worker",
            "/ignition?mac=52-54-00-00-00-01&type=worker",
            "/cloud?mac=52-54-00-00-00-01&type=worker",
        ] {
            let answer = lab.path("other", path).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(!answer.body.contains(SECRET), "{path}");
        }
        let metadata = lab.path("other", &format!("/metadata?{MACHINE}")).await;
        assert_eq!(metadata.status, 200);
        assert!(metadata.body.contains("TYPE=worker\n") && !metadata.body.contains(SECRET));
        for name in ["worker.yaml", "/assets/worker.yaml", "../assets/worker.yaml", "talosconfig"] {
            let answer = lab.get("other", &format!("tftp://{OWN}/{name}")).await;
            assert_eq!(answer.body, "", "{name}");
        }
        let loader = lab.get("other", &format!("tftp://{OWN}/undionly.kpxe")).await;
        assert_eq!(loader.body, "loader", "TFTP works");
    });
}
