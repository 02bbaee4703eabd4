//! dnsmasq: the DHCP server that a network already has, or a complete boot server to compare with.

use std::time::Duration;

use anyhow::Result;

use super::process::Process;
use super::{Host, Lab};

/// A host that runs dnsmasq at [`Dnsmasq::ADDRESS`].
#[derive(Debug)]
pub struct Dnsmasq {
    host: Host,
    process: Process,
}

impl Dnsmasq {
    /// Its address.
    pub const ADDRESS: &str = "10.77.0.1";

    /// A DHCP server that knows nothing of PXE: it leases 10.77.0.100 to 10.77.0.199 and says
    /// that it is the router.
    ///
    /// # Errors
    /// Without dnsmasq.
    pub fn start(lab: &Lab) -> Result<Dnsmasq> {
        Dnsmasq::start_with(lab, &[])
    }

    /// As [`Dnsmasq::start`], with further arguments.
    ///
    /// # Errors
    /// Without dnsmasq, and when it refuses an argument.
    pub fn start_with(lab: &Lab, arguments: &[&str]) -> Result<Dnsmasq> {
        let host = lab.host("dnsmasq")?;
        host.add_address(&format!("{}/24", Dnsmasq::ADDRESS))?;
        let mut command = host.command("dnsmasq");
        command.args(["--conf-file=/dev/null", "--pid-file=", "--keep-in-foreground"]);
        // Giving up root would also give up the parent-death signal.
        command.args(["--user=root", "--group=root"]);
        command.args(["--port=0", "--interface=eth0", "--bind-interfaces"]);
        command.args(["--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,5m"]);
        // Probing an address by ping delays each offer by 3 s.
        command.args(["--no-ping", "--dhcp-authoritative", "--log-dhcp", "--log-facility=-"]);
        command.arg(format!("--dhcp-leasefile={}", lab.dir().join("dnsmasq.leases").display()));
        command.args(arguments);
        let mut process = host.start(command)?;
        process.wait_for("DHCP, sockets bound", Duration::from_secs(10))?;
        Ok(Dnsmasq { host, process })
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.text()
    }
}
