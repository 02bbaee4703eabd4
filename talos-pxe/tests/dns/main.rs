//! The DNS server, asked by dig and by raw sockets, with dnsmasq as the server that it forwards to;
//! each test in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod limits;
#[path = "../interface/namespace.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod namespace;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use talos_pxe::decisions::dns::{Machine, Zone};
use talos_pxe::edges::dns;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use namespace::{in_namespace, run};

/// Us, in 10.9.0.0/24.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The server that we forward to.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// A client outside the subnet.
const OUTSIDER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A running server, and its zone.
struct Site {
    zone: watch::Sender<Arc<Zone>>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Site {
    /// Serves one control plane machine and one worker.
    async fn start(forwarders: &[Ipv4Addr]) -> Self {
        run("ip link set lo up");
        for address in ["10.9.0.1/24", "10.9.0.2/24", "10.9.0.50/24", "198.51.100.1/32"] {
            run(&format!("ip address add {address} dev lo"));
        }
        let own = SocketAddr::from((OWN, 53));
        let udp = UdpSocket::bind(own).await.unwrap();
        let tcp = TcpListener::bind(own).await.unwrap();
        let (zone, current) = watch::channel(Arc::new(zone([
            (Some("n1".parse().unwrap()), Ipv4Addr::new(10, 9, 0, 11), true),
            (Some("n2".parse().unwrap()), Ipv4Addr::new(10, 9, 0, 12), false),
        ])));
        let served = vec!["10.9.0.1/24".parse().unwrap()];
        let shutdown = CancellationToken::new();
        let forwarders = forwarders.to_vec();
        tokio::spawn(dns::serve(udp, tcp, current, served, forwarders, shutdown.clone()));
        Self { zone, _shutdown: shutdown.drop_guard() }
    }
}

fn zone(machines: impl IntoIterator<Item = Machine>) -> Zone {
    Zone::new("10.9.0.1/24".parse().unwrap(), &"controlplane.talos".parse().unwrap(), machines)
}

/// What dig prints of an answer from us, from a client in the subnet.
async fn dig(question: &str) -> String {
    dig_from("10.9.0.50", question).await
}

async fn dig_from(client: &str, question: &str) -> String {
    let arguments = format!("-b {client} @{OWN} +tries=1 +time=8 +nocookie {question}");
    let output = tokio::task::spawn_blocking(move || {
        Command::new("dig").args(arguments.split_whitespace()).output().unwrap()
    });
    String::from_utf8(output.await.unwrap().stdout).unwrap()
}

/// Fails unless each of `parts` is in the text, whatever the white space.
fn assert_says(text: &str, parts: &[&str]) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(words(text).contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dig_finds_the_machines() {
    in_namespace(false, async || {
        let site = Site::start(&[]).await;
        assert_says(
            &dig("n2.Talos A").await,
            &["status: NOERROR", "flags: qr aa rd;", "n2.Talos. 60 IN A 10.9.0.12"],
        );
        assert_says(
            &dig("-x 10.9.0.12").await,
            &["flags: qr aa rd;", "12.0.9.10.in-addr.arpa. 60 IN PTR n2.talos."],
        );
        assert_says(&dig("controlplane.talos").await, &["60 IN A 10.9.0.11", "ANSWER: 1,"]);
        assert_says(&dig("+tcp n1.talos").await, &["flags: qr aa rd;", "(TCP)", "A 10.9.0.11"]);
        assert_says(
            &dig("talos NS").await,
            &["talos. 60 IN NS ns.talos.", "ns.talos. 60 IN A 10.9.0.1"],
        );
        assert_says(&dig_from("127.0.0.1", "n2.talos").await, &["A 10.9.0.12"]);

        site.zone.send(Arc::new(zone([]))).unwrap();
        assert_says(&dig("n2.talos").await, &["status: NXDOMAIN"]);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dig_hears_what_there_is_not() {
    in_namespace(false, async || {
        let site = Site::start(&[]).await;
        let soa = "talos. 5 IN SOA ns.talos. hostmaster.talos. 1 3600 600 86400 5";
        assert_says(
            &dig("n3.talos").await,
            &["status: NXDOMAIN", "flags: qr aa rd;", "AUTHORITY: 1,", soa],
        );
        assert_says(
            &dig("n2.talos AAAA").await,
            &["status: NOERROR", "flags: qr aa rd;", "ANSWER: 0, AUTHORITY: 1,", soa],
        );
        site.zone.send(Arc::new(zone([]))).unwrap();
        assert_says(
            &dig("controlplane.talos").await,
            &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1,", soa],
        );
        for refused in ["talos AXFR", "version.bind CH TXT"] {
            let text = dig(&format!("+tcp {refused}")).await;
            assert!(text.contains("REFUSED") || text.contains("Transfer failed"), "{text}");
        }
        assert_says(&dig("+opcode=UPDATE n1.talos").await, &["status: NOTIMP"]);
        assert_says(&dig("+edns=1 +noednsnegotiation n1.talos").await, &["status: BADVERS"]);
        assert_says(&dig("+header-only").await, &["status: FORMERR"]);
        // Without a server to forward to, at once and not after a while.
        assert_says(&dig("www.example.com").await, &["status: SERVFAIL", "flags: qr rd;"]);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn dig_asks_again_by_tcp_what_is_too_long() {
    in_namespace(false, async || {
        let site = Site::start(&[]).await;
        let address = |last| (None, Ipv4Addr::new(10, 9, 0, last), true);
        site.zone.send(Arc::new(zone((11..91).map(address)))).unwrap();
        // 80 addresses have 1280 bytes and more, 40 fit into 1232 but not into 512.
        let name = "controlplane.talos";
        for options in ["+noedns", "+bufsize=1232", "+bufsize=4096"] {
            let cut = dig(&format!("+ignore {options} {name}")).await;
            assert_says(&cut, &["flags: qr aa tc rd;", "ANSWER: 0,", "(UDP)"]);
            let whole = dig(&format!("{options} {name}")).await;
            assert_says(&whole, &["flags: qr aa rd;", "ANSWER: 80,", "(TCP)"]);
        }
        site.zone.send(Arc::new(zone((11..51).map(address)))).unwrap();
        assert_says(&dig(&format!("+ignore +noedns {name}")).await, &["flags: qr aa tc rd;"]);
        let whole = dig(&format!("+ignore +bufsize=4096 {name}")).await;
        assert_says(&whole, &["flags: qr aa rd;", "ANSWER: 40,", "udp: 1232", "(UDP)"]);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn refuses_clients_outside_the_subnet() {
    in_namespace(false, async || {
        let mut upstream = None;
        let _site = Site::start(&[UPSTREAM]).await;
        upstream.replace(Dnsmasq::start());
        for question in ["n1.talos", "+tcp n1.talos", "www.example.com", "-x 10.9.0.11"] {
            let refusal = dig_from(&OUTSIDER.to_string(), question).await;
            assert_says(&refusal, &["status: REFUSED", "flags: qr rd;", "ANSWER: 0,"]);
        }
        assert_eq!(upstream.unwrap().questions(), [""; 0]);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn forwards_other_names_and_remembers_them() {
    in_namespace(false, async || {
        let _site = Site::start(&[UPSTREAM]).await;
        let upstream = Dnsmasq::start();
        let flags = "flags: qr rd ra;";
        for question in ["www.example.com", "WWW.example.com", "+tcp www.example.com"] {
            assert_says(&dig(question).await, &[flags, "A 192.0.2.80"]);
        }
        for question in ["nobody.example.com", "nobody.example.com"] {
            assert_says(&dig(question).await, &["status: NXDOMAIN", flags]);
        }
        let alias = dig("alias.example.com").await;
        assert_says(&alias, &["CNAME www.example.com.", "www.example.com. 300 IN A 192.0.2.80"]);
        // More than fits a datagram: by TCP from there, and by TCP to the client.
        assert_says(&dig("long.example.com TXT").await, &["ANSWER: 20,", "(TCP)"]);
        // Not recursive, so not for us to forward, nor to tell what others asked.
        assert_says(&dig("+norecurse www.example.com").await, &["status: REFUSED"]);
        // What is ours never leaves.
        for ours in ["nobody.talos", "controlplane.talos AAAA", "-x 10.9.0.99"] {
            assert_says(&dig(ours).await, &["flags: qr aa rd ra;"]);
        }
        let questions = upstream.questions();
        let count = |name: &str| questions.iter().filter(|line| line.contains(name)).count();
        assert_eq!(count("query[A] www.example.com"), 1, "{questions:?}");
        assert_eq!(count("talos") + count("arpa"), 0, "{questions:?}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_dead_server_fails_the_question_and_nothing_else() {
    in_namespace(false, async || {
        let _site = Site::start(&[UPSTREAM]).await;
        // It takes questions and says nothing.
        let _silent = UdpSocket::bind((UPSTREAM, 53)).await.unwrap();
        let (failed, ours) = tokio::join!(dig("www.example.com"), dig("n1.talos"));
        assert_says(&failed, &["status: SERVFAIL"]);
        assert_says(&ours, &["A 10.9.0.11"]);
    });
}

/// A real DNS server at [`UPSTREAM`] that logs what it is asked.
struct Dnsmasq {
    process: Child,
    log: Box<dyn BufRead>,
}

impl Dnsmasq {
    fn start() -> Self {
        let mut command = Command::new("dnsmasq");
        command.args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--bind-interfaces"]);
        command.args(["--no-resolv", "--no-hosts", "--log-queries", "--except-interface=lo"]);
        command.arg(format!("--listen-address={UPSTREAM}"));
        command.args(["--local=/example.com/", "--local-ttl=300"]);
        command.arg("--host-record=www.example.com,192.0.2.80");
        command.arg("--cname=alias.example.com,www.example.com");
        let text = "x".repeat(200);
        command.args((0..20).map(|number| format!("--txt-record=long.example.com,{number}{text}")));
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("started") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "dnsmasq ended");
        }
        Self { process, log: Box::new(log) }
    }

    /// Ends it; what it was asked.
    fn questions(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        let lines = std::mem::replace(&mut self.log, Box::new(std::io::empty())).lines();
        lines.map(Result::unwrap).filter(|line| line.contains("query[")).collect()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
