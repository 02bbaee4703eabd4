//! The one place where the parts are made and joined.

pub mod assets;
pub mod check;
mod cluster;

use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cluster::Names;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::{RaChoice, Serve, UsageError};
use crate::decisions::boot::loader::Loaders;
use crate::decisions::boot::origin::Origin;
use crate::decisions::boot::script;
use crate::decisions::dhcp::pool::pool;
use crate::decisions::dhcp::server::{self, Server};
use crate::decisions::dhcp::templates;
use crate::decisions::dns::forwarders;
use crate::decisions::interface::{ChooseError, Mode, PlanError, Settings};
use crate::edges::admin::{self, Admin, Serving};
use crate::edges::http::Site;
use crate::edges::interface::{self, Network};
use crate::edges::neighbours::Neighbours;
use crate::edges::xdp::{self, Attachment, FastPath};
use crate::edges::{bootstrap, configs, dhcp, dns, folder, http, port_error, ra, rules, tftp};
use crate::state::leases::{Leases, Reservations};
use crate::state::machines::Machines;
use crate::state::store::{BootId, Held, Store};
use crate::time::BootTime;

/// Serves the network until `shutdown`, then puts the interface back as it was.
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
    let prepared = interface::prepare(&Settings::from(serve), &shutdown).await;
    let Some(network) = prepared.map_err(usage_errors)? else { return Ok(()) };
    let served = serve_on(&network, serve, boot_files, shutdown).await;
    network.restore().await;
    served
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
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = network.uplink.address.addr();
    let origin = Origin { address, port: serve.ports.http_port };
    let (store, held) = open_store(serve)?;
    let machines = Arc::new(Machines::open(Arc::clone(&store))?);
    let rules = rules::Watch::start(rules_source(network, serve, origin))?;
    let in_force = rules.in_force();
    let firmware = folder::firmware(serve.firmware.as_deref(), &serve.root);
    let site = Site::new(&serve.root, &firmware, origin, in_force.clone(), Arc::clone(&machines));
    let site = Arc::new(site.with_neighbours(Neighbours::connect(network.interface.index)?));
    let loaders = loaders(serve, &firmware, origin)?;
    let fast_path = attach_xdp(network, serve, &loaders).await?;

    let reservations = in_force.borrow().inventory.addresses().collect();
    let state = State { store: Arc::clone(&store), held, machines: Arc::clone(&machines) };
    let (dhcp, handle) = dhcp_service(network, serve, loaders, reservations, fast_path, state)?;
    let tftp = udp_socket(SocketAddrV4::new(address, serve.ports.tftp_port))?;
    let http = tcp_listener(SocketAddrV4::new(address, serve.ports.http_port).into()).await?;
    let own_dns = SocketAddrV4::new(address, serve.ports.dns_port);
    let (dns_udp, dns_tcp) = dns_sockets(own_dns).await?;
    let names = Names {
        own: network.uplink.address,
        control_plane: serve.controlplane.clone(),
        rules: in_force.clone(),
    };
    let (zone, current_zone) = watch::channel(Arc::new(names.zone(&machines)));

    let admin_listener = admin_listener(serve.admin).await?;
    let serving = Serving {
        mode: network.uplink.mode,
        interface: network.interface.name.clone(),
        address: network.uplink.address,
    };
    let admin = Arc::new(Admin::new(Arc::clone(&machines), handle, serving));

    // When one service fails or ends, all do.
    let mut services = JoinSet::new();
    services.spawn(dhcp.serve(in_force.clone(), shutdown.clone()));
    let script = script::boot_ipxe(&origin);
    services.spawn(tftp::serve(tftp, boot_files, script, Arc::clone(&machines), shutdown.clone()));
    services.spawn(site.serve(http, shutdown.clone()));
    services.spawn(http::serve(admin_listener, admin::router(admin), shutdown.clone()));
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
        store,
        move || cluster::candidates(&known, &planned),
        shutdown.clone(),
    ));
    services.spawn(rules.serve(shutdown.clone()));
    if advertises_router(serve.ra, network.uplink.mode) {
        let (interface, shutdown) = (network.interface.clone(), shutdown.clone());
        services.spawn(async move { ra::serve(&interface, shutdown).await });
    }
    info!(interface = network.interface.name, %address, mode = %network.uplink.mode, "ready");

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

async fn attach_xdp(
    network: &Network,
    serve: &Serve,
    loaders: &Loaders,
) -> anyhow::Result<Option<Box<FastPath>>> {
    let answers = answers(network, serve, loaders);
    match xdp::attach(&network.interface, serve.xdp, &answers).await? {
        Attachment::Attached(fast_path) => {
            let logs = fast_path.logs();
            info!(mode = %fast_path.mode(), logs, "XDP program attached");
            Ok(Some(fast_path))
        }
        Attachment::Unavailable(error) => {
            warn!("no XDP: {error:#}");
            Ok(None)
        }
        Attachment::Off => Ok(None),
    }
}

/// What the XDP program answers.
fn answers(network: &Network, serve: &Serve, loaders: &Loaders) -> templates::Answers {
    let sender = templates::Sender {
        mac: network.interface.mac,
        own: network.uplink.address,
        dhcp_port: serve.ports.dhcp_port,
        pxe_port: serve.ports.pxe_port,
    };
    match network.uplink.mode {
        Mode::Proxy => templates::of_proxy(loaders, &sender),
        Mode::Server => templates::of_server(&server_settings(network, serve, loaders), &sender),
    }
}

fn server_settings(network: &Network, serve: &Serve, loaders: &Loaders) -> server::Settings {
    let own = network.uplink.address;
    server::Settings {
        subnet: own,
        router: serve.gw.unwrap_or(own.addr()),
        dns: vec![own.addr()],
        lease_time: Duration::from_secs(serve.lease_time.into()),
        loaders: loaders.clone(),
    }
}

/// What survives a restart.
struct State {
    store: Arc<Store>,
    held: Vec<Held>,
    machines: Arc<Machines>,
}

fn dhcp_service(
    network: &Network,
    serve: &Serve,
    loaders: Loaders,
    reservations: Reservations,
    mut fast_path: Option<Box<FastPath>>,
    state: State,
) -> anyhow::Result<(dhcp::Service, dhcp::Handle)> {
    let own = network.uplink.address;
    let responder = match network.uplink.mode {
        Mode::Proxy => {
            if reservations != Reservations::default() {
                warn!("the inventory's addresses are not ours to give: there is a DHCP server");
            }
            dhcp::Responder::Proxy
        }
        Mode::Server => {
            let settings = server_settings(network, serve, &loaders);
            let pool = pool(own, settings.router, serve.range).map_err(UsageError::new)?;
            let State { store, held, machines } = &state;
            let lease_time = settings.lease_time;
            machines.restore_leases(held, BootTime::now() + lease_time);
            info!(addresses = pool.size(), held = held.len(), "leasing");
            let leases = Leases::restore(pool, held.clone()).renewed_elsewhere(fast_path.is_some());
            let server = Server::new(settings, leases);
            let leasing = dhcp::Leasing::start(
                server,
                Arc::clone(store),
                reservations,
                fast_path.as_deref_mut(),
            )?;
            dhcp::Responder::Server(Box::new(leasing))
        }
    };
    dhcp::Service::open(
        network.interface.clone(),
        own,
        loaders,
        responder,
        fast_path,
        state.machines,
        serve.ports,
    )
}

/// The durable state, and the leases in it.
fn open_store(serve: &Serve) -> anyhow::Result<(Arc<Store>, Vec<Held>)> {
    let folder = serve.state.clone().unwrap_or_else(|| serve.root.join("state"));
    let boot = BootId::current().context("cannot tell which boot this is")?;
    let (store, held) = Store::open(&folder, boot, BootTime::now())?;
    Ok((Arc::new(store), held))
}

/// Beside another DHCP server the network's IPv6 is someone else's business.
fn advertises_router(choice: RaChoice, mode: Mode) -> bool {
    match choice {
        RaChoice::Auto => mode == Mode::Server,
        RaChoice::On => true,
        RaChoice::Off => false,
    }
}

fn udp_socket(address: SocketAddrV4) -> anyhow::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind(address).map_err(|error| port_error("UDP", address.into(), &error))
}

async fn dns_sockets(address: SocketAddrV4) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind(address).await;
    let udp = udp.map_err(|error| port_error("UDP", address.into(), &error))?;
    Ok((udp, tcp_listener(address.into()).await?))
}

async fn admin_listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        warn!("the admin API is open to everyone who can reach {address}, without encryption");
    }
    tcp_listener(address).await
}

async fn tcp_listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| port_error("TCP", address, &error))
}
