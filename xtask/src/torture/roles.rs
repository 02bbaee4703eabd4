//! Machines that choose a role, over connections of their own, until the daemon is killed.
//!
//! They are behind a router, as far as the daemon can tell: so each is believed what it says of
//! itself, and needs no Ethernet card of its own.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::daemon::Daemon;
use super::ledger::Machine;
use crate::exec;
use crate::lab::Host;
use crate::lab::netns::Netns;
use crate::load::fleet;

/// Where machines choose their roles from; a subnet of nobody else's.
const ROUTED: &str = "10.80.0.0/16";
/// How many choose at a time.
const AT_ONCE: usize = 4;
/// How long a machine waits for its script.
const PATIENCE: Duration = Duration::from_secs(10);

/// The roles that machines have chosen, and whose scripts arrived: never to be forgotten.
#[derive(Debug)]
pub struct Roles {
    netns: Netns,
    server: SocketAddr,
    given: HashMap<String, &'static str>,
    asking: Option<Asking>,
}

/// Those that choose at the moment.
#[derive(Debug)]
struct Asking {
    next: Sender<Machine>,
    threads: Vec<JoinHandle<Vec<Machine>>>,
}

impl Roles {
    /// Lets machines on `far` reach the daemon: `router` is its address then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(daemon: &Daemon, far: &Host, router: Ipv4Addr) -> Result<Roles> {
        far.add_address(&format!("{router}/13"))?;
        let ip = |host: &Host, words: String| {
            exec::output(host.command("ip").args(words.split(' '))).map(drop)
        };
        ip(far, format!("route add local {ROUTED} dev lo"))?;
        // A router asks for neighbours in its own name, not in that of whoever sent the packet.
        let own_name = "net.ipv4.conf.eth0.arp_announce=2";
        exec::output(far.command("sysctl").args(["-qw", own_name]))?;
        // The daemon has no address yet, so the kernel has to be told that the router is near.
        ip(daemon.host(), format!("route add {ROUTED} via {router} dev eth0 onlink"))?;
        let server = SocketAddr::new(daemon.target.address.into(), 8080);
        Ok(Roles { netns: far.netns().clone(), server, given: HashMap::new(), asking: None })
    }

    /// Lets a machine choose its role as soon as one of the others is done.
    pub fn choose(&mut self, machine: Machine) {
        let (netns, server) = (&self.netns, self.server);
        let asking = self.asking.get_or_insert_with(|| Asking::start(netns, server));
        // They end when the daemon does, which is found out elsewhere.
        let _ = asking.next.send(machine);
    }

    /// Waits, after the daemon was killed, for those that are choosing.
    ///
    /// # Errors
    /// When one of them panicked.
    pub fn killed(&mut self) -> Result<()> {
        let Some(Asking { next, threads }) = self.asking.take() else { return Ok(()) };
        drop(next);
        for thread in threads {
            let served = thread.join().map_err(|_| anyhow!("a machine panicked"))?;
            self.given.extend(served.into_iter().map(|machine| (name(machine), role(machine))));
        }
        Ok(())
    }

    /// Checks that the daemon knows every role that was given; says how many there are.
    ///
    /// # Errors
    /// When it has forgotten one.
    pub fn check(&self, daemon: &Daemon) -> Result<u64> {
        let known = daemon.ask(&["machines", "--json"])?;
        let known: Vec<Value> = serde_json::from_str(&known).context("no list of machines")?;
        let text = |machine: &Value, field| Some(machine.get(field)?.as_str()?.to_owned());
        let known: HashMap<String, String> = known
            .iter()
            .filter_map(|machine| Some((text(machine, "mac")?, text(machine, "role")?)))
            .collect();
        for (mac, role) in &self.given {
            match known.get(mac) {
                Some(known) => ensure!(known == role, "{mac} chose {role} and is {known} now"),
                None => bail!("{mac} got a script as {role}, and its role is forgotten"),
            }
        }
        Ok(self.given.len() as u64)
    }
}

impl Asking {
    fn start(netns: &Netns, server: SocketAddr) -> Asking {
        let (next, machines) = channel();
        let machines = Arc::new(Mutex::new(machines));
        let threads = (0..AT_ONCE).map(|_| {
            let (netns, machines) = (netns.clone(), Arc::clone(&machines));
            thread::spawn(move || serve_until_killed(&netns, server, &machines))
        });
        Asking { next, threads: threads.collect() }
    }
}

/// Lets one machine after the other choose its role; returns those whose script arrived.
fn serve_until_killed(
    netns: &Netns,
    server: SocketAddr,
    machines: &Mutex<Receiver<Machine>>,
) -> Vec<Machine> {
    let next = || machines.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    let mut served = Vec::new();
    while let Some(machine) = next() {
        // A connection that breaks is the kill: it is the daemon's end that is waited for.
        let Ok(answer) = netns.inside(|| script(server, machine)) else { break };
        if answer.ends_with("\nboot\n") {
            served.push(machine);
        }
    }
    served
}

/// The script that the machine gets, with its HTTP header, as far as it comes.
fn script(server: SocketAddr, machine: Machine) -> Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let [.., high, low] = machine.to_be_bytes();
    socket.bind(&SocketAddr::from(([10, 80, high, low], 0)).into())?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let mut connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(PATIENCE))?;
    let (mac, role) = (name(machine), role(machine));
    write!(
        connection,
        "GET /ipxe?mac={mac}&type={role} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A machine's MAC address, as the daemon writes it.
fn name(machine: Machine) -> String {
    fleet::mac(machine as u32).map(|byte| format!("{byte:02x}")).join(":")
}

/// What a machine chooses.
fn role(machine: Machine) -> &'static str {
    if machine.is_multiple_of(3) { "controlplane" } else { "worker" }
}
