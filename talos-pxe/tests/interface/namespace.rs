//! Network namespaces, a cable between two of them, and real DHCP servers at its other end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

/// Runs a test in a network namespace of its own, which is gone with the thread. With
/// `virtual_time`, waits end as soon as nothing else is left to do.
pub fn in_namespace(virtual_time: bool, test: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only the namespace of this thread changes; no file descriptors are unshared.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("a network namespace (needs root)");
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(virtual_time)
                .build()
                .unwrap()
                .block_on(test());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A second namespace, at the other end of the cable: `theirs` there, `ours` here.
pub struct Peer {
    holder: Guard,
}

impl Peer {
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What comes back shows that cat runs, hence that its namespace exists.
        holder.stdin.as_mut().unwrap().write_all(b".").unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let peer = Self { holder: Guard(holder) };
        peer.add_cable("ours", "theirs");
        peer
    }

    /// A cable, with one end here and the other end there.
    pub fn add_cable(&self, here: &str, there: &str) {
        run(&format!("ip link add {here} type veth peer {there}"));
        run(&format!("ip link set {there} netns {}", self.holder.0.id()));
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.0.id()));
        command
    }

    pub fn run(&self, command: &str) {
        let status = self.command().args(command.split_whitespace()).status().unwrap();
        assert!(status.success(), "{command}");
    }
}

/// A real DHCP server on `theirs`, 10.9.0.1, that leases 10.9.0.50 to 10.9.0.60.
pub struct DhcpServer {
    process: Guard,
    log: BufReader<ChildStderr>,
    /// Its configuration and leases.
    _folder: TempDir,
}

impl DhcpServer {
    pub fn dnsmasq(peer: &Peer) -> Self {
        let folder = TempDir::new().unwrap();
        let mut dnsmasq = peer.command();
        dnsmasq
            .args(["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root"])
            .args(["--interface=theirs", "--bind-dynamic", "--no-ping", "--dhcp-authoritative"])
            .arg("--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,2m")
            .arg("--dhcp-option=option:router,10.9.0.1")
            .arg("--dhcp-option=option:dns-server,10.9.0.2,10.9.0.3")
            .arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display()));
        Self::start(peer, dnsmasq, folder, "IP range")
    }

    /// With leases of four seconds, which dnsmasq does not give.
    pub fn udhcpd(peer: &Peer) -> Self {
        let folder = TempDir::new().unwrap();
        let (config, leases) = (folder.path().join("config"), folder.path().join("leases"));
        std::fs::write(&leases, "").unwrap();
        let text = format!(
            "interface theirs\nstart 10.9.0.50\nend 10.9.0.60\nlease_file {}\npidfile {}\n\
             min_lease 1\noption lease 4\noption subnet 255.255.255.0\n",
            leases.display(),
            folder.path().join("pid").display(),
        );
        std::fs::write(&config, text).unwrap();
        let mut udhcpd = peer.command();
        udhcpd.args(["busybox", "udhcpd", "-f"]).arg(config);
        Self::start(peer, udhcpd, folder, "started")
    }

    fn start(peer: &Peer, mut command: Command, folder: TempDir, ready: &str) -> Self {
        peer.run("ip address add 10.9.0.1/24 dev theirs");
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut server = Self { process: Guard(process), log, _folder: folder };
        server.wait_for(ready);
        server
    }

    /// Reads the log up to a line with `text`.
    pub fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        while self.log.read_line(&mut seen).unwrap() > 0 {
            if seen.lines().last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
        panic!("the DHCP server ended before it logged {text:?}:\n{seen}");
    }

    /// Ends the server and returns the rest of its log.
    pub fn stop(mut self) -> String {
        drop(self.process);
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        rest
    }
}
