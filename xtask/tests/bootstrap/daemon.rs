//! The whole daemon, in a network of its own with a machine that gets its address and role there.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use talos_pxe::edges::bootstrap::PORT;
use xtask::exec;
use xtask::lab::Lab;
use xtask::lab::server::{self, Server};

use super::SOON;
use super::talos::{Answer, Cluster, Talos};

#[test]
#[ignore = "lab: cargo xtask test"]
fn killed_in_the_middle_the_daemon_bootstraps_once() -> Result<()> {
    let lab = Lab::new()?;
    let root = lab.dir().join("root");
    let assets = root.join("assets");
    fs::create_dir_all(&assets)?;
    for name in ["vmlinuz-amd64", "initramfs-amd64.xz"] {
        fs::copy("/usr/lib/ipxe/undionly.kpxe", assets.join(name))?;
    }
    let cluster = Cluster::new()?;
    fs::write(assets.join("talosconfig"), cluster.talosconfig()?)?;
    fs::set_permissions(assets.join("talosconfig"), Permissions::from_mode(0o600))?;

    let (daemon, host) = (server::build()?, lab.host("talos-pxe")?);
    let start = || {
        let root = root.as_os_str();
        Server::start(
            &daemon,
            &host,
            ["--mode".as_ref(), "server".as_ref(), "--root".as_ref(), root],
        )
    };
    let mut server = start()?;
    let machine = lab.host("m1")?;
    // A plain DHCP client gets a record only by its role.
    let mut assign = host.command(&daemon);
    assign.args(["machines", "assign", machine.mac(), "init"]);
    exec::output(&mut assign)?;
    let mut udhcpc = machine.command("udhcpc");
    udhcpc.args(["-f", "-q", "-i", "eth0", "-s", "/bin/true"]);
    machine.start(udhcpc)?.wait_for("lease of 192.168.123.2 obtained", SOON)?;
    machine.add_address("192.168.123.2/24")?;

    let listener = machine.netns().inside(|| Ok(TcpListener::bind(("192.168.123.2", PORT))?))?;
    let talos = Talos::start(&cluster, listener, &[Answer::NotReady, Answer::SilentlyAccepted])?;
    let told = talos.wait_until(|seen| seen.accepted == 1);
    told.with_context(|| format!("the daemon's log:\n{}", server.process().text()))?;
    // As `kill -9`.
    drop(server);
    let mut server = start()?;
    server.process().wait_for("the cluster is bootstrapped", SOON)?;
    server.stop()?;
    let seen = talos.seen();
    assert_eq!((seen.told, seen.accepted), (2, 1));

    let server = start()?;
    server.stop()?;
    assert_eq!(talos.seen(), seen, "nobody is asked once it is done");
    Ok(())
}
