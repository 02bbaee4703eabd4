//! The one place where the parts are made and joined.

pub mod assets;
pub mod check;
mod cluster;
pub mod console;
mod leasing;
mod ports;

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use cluster::Names;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::{RaChoice, Serve, UsageError};
use crate::decisions::boot::loader::Loaders;
use crate::decisions::boot::origin::Origin;
use crate::decisions::boot::script;
use crate::decisions::dns::forwarders;
use crate::decisions::interface::{ChooseError, Mode, PlanError, Settings};
use crate::edges::admin::{self, Admin, Serving};
use crate::edges::http::Site;
use crate::edges::interface::{self, Network};
use crate::edges::neighbours::Neighbours;
use crate::edges::thread::{self, OwnThread};
use crate::edges::{bootstrap, configs, dns, folder, http, notify, ra, rules, tftp};
use crate::state::machines::Machines;
use crate::state::store::{BootId, Held, Store};
use crate::time::BootTime;

/// Serves the network until `shutdown`, then puts the interface back as it was. When the interface
/// is replaced by another one of its name, serves that one.
///
/// # Errors
/// A [`UsageError`] when the flags do not fit each other or the machine, else what failed, with
/// the next step.
pub async fn run(serve: &Serve, shutdown: CancellationToken) -> anyhow::Result<()> {
    raise_file_limit();
    // What needs no network is checked before anything of it is changed.
    let firmware = folder::firmware(serve.firmware.as_deref(), &serve.root);
    let boot_files = boot_files(serve, &firmware)?;
    let (_, inventory) = rules::read(&serve.root)?;
    if inventory.is_empty() {
        for stray in configs::strays(&serve.root) {
            warn!("{} is no machine's patch: call it by a MAC address", stray.display());
        }
    }
    let mut kept = None;
    let mut settings = Settings::from(serve);
    loop {
        let prepared = interface::prepare(&settings, &shutdown).await;
        let Some(network) = prepared.map_err(usage_errors)? else { return Ok(()) };
        let serving = shutdown.child_token();
        let served = serve_on(&network, serve, boot_files.clone(), &mut kept, serving).await;
        if served.is_ok() || !network.is_gone().await.unwrap_or(false) {
            notify::stopping();
            network.restore().await;
            return served;
        }
        let name = network.interface.name.clone();
        network.abandon();
        warn!("{name} is gone, or was replaced: all begins anew once there is an interface {name}");
        notify::waiting_for(&name);
        let Some(there) = shutdown.run_until_cancelled(interface::wait_for(&name)).await else {
            return Ok(());
        };
        there?;
        settings.interface = Some(name);
    }
}

/// Each download holds a socket and a file. The usual limit of 1,024 is meant for programs that
/// call `select(2)`.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// Errors of choosing and planning are about the flags.
fn usage_errors(error: anyhow::Error) -> anyhow::Error {
    if error.is::<ChooseError>() || error.is::<PlanError>() {
        return UsageError::new(error).into();
    }
    error
}

async fn serve_on(
    network: &Network,
    serve: &Serve,
    boot_files: tftp::BootFiles,
    kept: &mut Option<State>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // Opened once, and only after it is clear that the interface can be served.
    let state = match kept {
        Some(state) => &*state,
        None => kept.insert(State::open(serve)?),
    };
    let address = network.uplink.address.addr();
    let origin = Origin { address, port: serve.ports.http_port };
    let machines = Arc::clone(&state.machines);
    let rules = rules::Watch::start(rules_source(network, serve, origin))?;
    let in_force = rules.in_force();
    let firmware = folder::firmware(serve.firmware.as_deref(), &serve.root);
    let site = Site::new(&serve.root, &firmware, origin, in_force.clone(), Arc::clone(&machines));
    let site = site.with_transfers(serve.max_transfers).with_interface(&network.interface.name);
    let site = Arc::new(site.with_neighbours(Neighbours::connect(network.interface.index)?));
    let loaders = loaders(serve, &firmware, origin)?;
    let (fast_path, xdp_reason) = leasing::attach_xdp(network, serve, &loaders).await?;

    let reservations = in_force.borrow().inventory.addresses().collect();
    let dhcp_thread = OwnThread::start("dhcp", thread::DHCP)?;
    let (dhcp, handle) = {
        // Its sockets wake that thread.
        let _inside = dhcp_thread.runtime().enter();
        leasing::service(network, serve, loaders, reservations, fast_path, state)?
    };
    let tftp = ports::udp(SocketAddrV4::new(address, serve.ports.tftp_port))?;
    let http = ports::tcp(SocketAddrV4::new(address, serve.ports.http_port).into())?;
    let own_dns = SocketAddrV4::new(address, serve.ports.dns_port);
    let (dns_udp, dns_tcp) = ports::dns(own_dns).await?;
    let names = Names {
        own: network.uplink.address,
        control_plane: serve.controlplane.clone(),
        rules: in_force.clone(),
    };
    let (zone, current_zone) = watch::channel(Arc::new(names.zone(&machines)));

    let admin_port = ports::admin(serve.admin)?;
    let serving = Serving {
        mode: network.uplink.mode,
        reason: network.uplink.reason,
        interface: network.interface.name.clone(),
        address: network.uplink.address,
        xdp_reason,
    };
    let admin = Arc::new(Admin::new(Arc::clone(&machines), handle, serving));

    // When one service fails or ends, all do.
    let mut services = JoinSet::new();
    services.spawn_on(dhcp.serve(in_force.clone(), shutdown.clone()), dhcp_thread.runtime());
    let script = script::boot_ipxe(&origin);
    services.spawn(tftp::serve(tftp, boot_files, script, Arc::clone(&machines), shutdown.clone()));
    services.spawn(site.serve(http, shutdown.clone()));
    services.spawn(http::serve(admin_port, admin::router(admin), shutdown.clone()));
    services.spawn(dns::serve(
        dns_udp,
        dns_tcp,
        current_zone,
        vec![network.uplink.address],
        forwarders(&serve.dns, &network.uplink.dns, own_dns),
        shutdown.clone(),
    ));
    services.spawn(cluster::follow(names, Arc::clone(&machines), zone, shutdown.clone()));
    let (known, planned) = (Arc::clone(&machines), in_force);
    services.spawn(bootstrap::serve(
        bootstrap::Settings::new(serve.bootstrap, &serve.root),
        Arc::clone(&state.store),
        move || cluster::candidates(&known, &planned),
        shutdown.clone(),
    ));
    services.spawn(rules.serve(shutdown.clone()));
    services.spawn(network.upkeep().serve(shutdown.clone()));
    if advertises_router(serve.ra, network.uplink.mode) {
        let (interface, shutdown) = (network.interface.clone(), shutdown.clone());
        services.spawn(async move { ra::serve(&interface, shutdown).await });
    }
    info!(interface = network.interface.name, %address, mode = %network.uplink.mode, "ready");
    let (mode, interface) = (network.uplink.mode, &network.interface.name);
    notify::serving(&format!("{mode} on {interface}, {address}"));

    let mut outcome = Ok(());
    while let Some(ended) = services.join_next().await {
        outcome = outcome.and(ended.context("a service panicked").flatten());
        shutdown.cancel();
    }
    let stored = tokio::task::spawn_blocking(move || machines.store()).await?;
    outcome.and(stored.context("cannot store what is known of the machines"))
}

/// The boot files, after a look at whether those that the answers name are there.
fn boot_files(serve: &Serve, firmware: &Path) -> anyhow::Result<tftp::BootFiles> {
    folder::find_ukis(&serve.root, serve.uefi_http_file.as_ref())?;
    let arm64 = folder::arm64_loader(firmware, serve.arm64_file.as_deref());
    let mut needed = vec![serve.bios_file.as_str(), serve.uefi_file.as_str()];
    needed.extend(arm64.as_deref());
    tftp::BootFiles::load(firmware, &needed)
}

fn loaders(serve: &Serve, firmware: &Path, origin: Origin) -> anyhow::Result<Loaders> {
    Ok(Loaders {
        origin,
        bios: serve.bios_file.clone(),
        uefi: serve.uefi_file.clone(),
        arm64: folder::arm64_loader(firmware, serve.arm64_file.as_deref()),
        ukis: folder::find_ukis(&serve.root, serve.uefi_http_file.as_ref())?,
    })
}

fn rules_source(network: &Network, serve: &Serve, origin: Origin) -> rules::Source {
    let own = network.uplink.address;
    // Beside another DHCP server addresses are that server's to give.
    let served =
        (network.uplink.mode == Mode::Server).then(|| (own, serve.gw.unwrap_or(own.addr())));
    rules::Source { root: serve.root.clone(), origin, served }
}

/// What survives a restart.
struct State {
    store: Arc<Store>,
    machines: Arc<Machines>,
    boot: BootId,
}

impl State {
    fn open(serve: &Serve) -> anyhow::Result<Self> {
        let folder = serve.state.clone().unwrap_or_else(|| serve.root.join("state"));
        let boot = BootId::current().context("cannot tell which boot this is")?;
        let (store, _) = Store::open(&folder, boot, BootTime::now())?;
        let store = Arc::new(store);
        let machines = Arc::new(Machines::open(Arc::clone(&store))?);
        Ok(Self { store, machines, boot })
    }

    /// The leases, as they are stored now.
    fn held(&self) -> anyhow::Result<Vec<Held>> {
        Ok(self.store.leases(self.boot, BootTime::now())?)
    }
}

/// Beside another DHCP server the network's IPv6 is someone else's business.
fn advertises_router(choice: RaChoice, mode: Mode) -> bool {
    match choice {
        RaChoice::Auto => mode == Mode::Server,
        RaChoice::On => true,
        RaChoice::Off => false,
    }
}
