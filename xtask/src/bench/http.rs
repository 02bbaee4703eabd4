//! What else a boot server does: it sends a large file to many clients at once.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{RecvFlags, recv};

use crate::lab::Host;
use crate::lab::process::Process;
use crate::load::cpu;

/// The file's path below the server's root.
pub const FILE: &str = "assets/vmlinuz-amd64";
/// Its size in bytes.
pub const SIZE: u64 = 100 << 20;
/// Where every server listens.
const PORT: u16 = 8080;
const CLIENTS: usize = 64;

/// Clients that fetch the file again and again until this is dropped.
#[derive(Debug)]
pub struct Downloads {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

/// What was transferred in a while.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Megabytes a second.
    pub megabytes_per_second: f64,
    /// The share of all CPUs that was busy, for whatever reason; 1 is all of it.
    pub busy: f64,
}

impl Downloads {
    /// Starts the clients on a host, and waits until each has got something.
    ///
    /// # Errors
    /// When the server does not serve the file.
    pub fn start(host: &Host, server: [u8; 4]) -> Result<Downloads> {
        let server = SocketAddr::from((server, PORT));
        let mut downloads =
            Downloads { stop: Arc::default(), bytes: Arc::default(), clients: Vec::new() };
        for _ in 0..CLIENTS {
            let first = host.netns().inside(|| get(server))?;
            let (stop, bytes, netns) =
                (Arc::clone(&downloads.stop), Arc::clone(&downloads.bytes), host.netns().clone());
            downloads.clients.push(thread::spawn(move || {
                let mut connection = Some(first);
                while let Some(stream) = connection.take()
                    && drain(&stream, &stop, &bytes).is_ok()
                    && !stop.load(Ordering::Relaxed)
                {
                    connection = netns.inside(|| get(server)).ok();
                }
            }));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while downloads.bytes.load(Ordering::Relaxed) < CLIENTS as u64 * (1 << 20) {
            ensure!(Instant::now() < deadline, "{server} does not send /{FILE}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(downloads)
    }

    /// Does `work` and says what was transferred meanwhile.
    ///
    /// # Errors
    /// Those of `work`, and when a client got no file.
    pub fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Traffic)> {
        let (before, start, idle) =
            (self.bytes.load(Ordering::Relaxed), Instant::now(), cpu::idle()?);
        let done = work()?;
        let seconds = start.elapsed().as_secs_f64();
        let bytes = self.bytes.load(Ordering::Relaxed) - before;
        let ended = self.clients.iter().filter(|client| client.is_finished()).count();
        ensure!(ended == 0, "{ended} of {CLIENTS} clients got no file");
        let busy = 1.0 - (cpu::idle()? - idle) / (seconds * cpu::count());
        Ok((done, Traffic { megabytes_per_second: bytes as f64 / 1e6 / seconds, busy }))
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

fn get(server: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))
        .with_context(|| format!("cannot fetch a file from {server}"))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    write!(stream, "GET /{FILE} HTTP/1.1\r\nHost: boot\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

/// Reads to the end of a response, or until `stop`.
fn drain(stream: &TcpStream, stop: &AtomicBool, bytes: &AtomicU64) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        // Truncated TCP is thrown away without being copied: the clients are not what is measured.
        match recv(stream, buffer.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((_, 0)) => break,
            Ok((_, received)) => {
                bytes.fetch_add(received as u64, Ordering::Relaxed);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts nginx on a host: one process a CPU, each on its own, because the workers of a master
/// process would outlive it when it is killed.
///
/// # Errors
/// Without nginx.
pub fn nginx(host: &Host, root: &Path, state: &Path) -> Result<Vec<Process>> {
    let folder = state.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    // The file with the process ID is not /dev/null: nginx deletes it when it ends.
    let config = format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {folder}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\naccess_log off;\nsendfile on;\ntcp_nopush on;\n{temporary}\
         server {{ listen {PORT} reuseport; root {}; }}\n}}\n",
        root.display()
    );
    let file = state.join("nginx.conf");
    std::fs::write(&file, config)?;
    let start = |_| {
        let mut command = host.command("nginx");
        command.arg("-p").arg(state).arg("-c").arg(&file).args(["-e", "stderr"]);
        host.start(command)
    };
    let processes: Vec<Process> = (0..cpu::count() as usize).map(start).collect::<Result<_>>()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while host.netns().inside(|| Ok(TcpStream::connect(("127.0.0.1", PORT))?)).is_err() {
        ensure!(Instant::now() < deadline, "nginx does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(processes)
}
