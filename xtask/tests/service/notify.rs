//! What a service manager is told, and when.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, ensure};
use xtask::lab::guest::Guest;
use xtask::lab::process::Process;
use xtask::lab::root::{self, System};
use xtask::lab::{Host, Lab, server};

use crate::SOON;

/// What the daemon sends to a manager.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(lab: &Lab) -> Result<Manager> {
        let socket = UnixDatagram::bind(lab.dir().join("notify"))?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(Manager(socket))
    }

    /// The next message.
    fn hear(&self) -> Result<String> {
        let mut message = [0; 512];
        let length = self.0.recv(&mut message).context("nothing was said")?;
        Ok(String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned())
    }

    /// Whether there is no message.
    fn hears_nothing(&self) -> Result<bool> {
        self.0.set_nonblocking(true)?;
        Ok(self.0.recv(&mut [0; 512]).is_err())
    }
}

fn start(lab: &Lab, host: &Host) -> Result<Process> {
    let served = lab.dir().join("root");
    root::make(&served, &System::Guest(Guest::make()?), None)?;
    let mut command = host.command(server::build()?);
    server::without_settings(&mut command);
    command.env("NOTIFY_SOCKET", lab.dir().join("notify"));
    command.args(["--if", "eth0", "--mode", "server", "--root"]).arg(&served);
    host.start(command)
}

fn connect(address: &str) -> Result<TcpStream> {
    Ok(TcpStream::connect(address)?)
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_manager_is_told_when_we_serve_and_when_we_stop() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("talos-pxe")?;
    let manager = Manager::listen(&lab)?;
    let daemon = start(&lab, &host)?;
    let first = manager.hear()?;
    host.netns().inside(|| connect("192.168.123.1:8080"))?;
    ensure!(first == "READY=1\nSTATUS=DHCP server on eth0, 192.168.123.1\n", "{first:?}");
    daemon.stop(SOON)?;
    let last = manager.hear()?;
    ensure!(last.starts_with("STOPPING=1\n"), "{last:?}");
    ensure!(manager.hears_nothing()?);
    Ok(())
}

#[test]
#[ignore = "lab: cargo xtask test"]
fn the_manager_is_not_told_of_a_daemon_that_cannot_serve() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("talos-pxe")?;
    let manager = Manager::listen(&lab)?;
    let _taken = host.netns().inside(|| Ok(std::net::TcpListener::bind("0.0.0.0:8080")?))?;
    let mut daemon = start(&lab, &host)?;
    ensure!(!daemon.wait(SOON)?.success(), "it serves without its port");
    let said = manager.hear()?;
    ensure!(said.starts_with("STOPPING=1\n"), "{said:?}");
    ensure!(manager.hears_nothing()?);
    Ok(())
}
