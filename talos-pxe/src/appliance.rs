//! The one place where the parts are made and joined.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
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
use crate::decisions::interface::{ChooseError, Mode, PlanError, Settings};
use crate::edges::http::Site;
use crate::edges::interface::{self, Network};
use crate::edges::xdp::{self, Attachment, FastPath};
use crate::edges::{dhcp, http, port_error, ra, rules, tftp};
use crate::state::leases::{Leases, Reservations};
use crate::state::store::{BootId, Held, Store};
use crate::time::BootTime;

/// Serves the network until `shutdown`, then puts the interface back as it was.
///
/// # Errors
/// A [`UsageError`] when the flags do not fit each other or the machine, else what failed, with
/// the next step.
pub async fn run(serve: &Serve, shutdown: CancellationToken) -> anyhow::Result<()> {
    // What needs no network is checked before anything of it is changed.
    let boot_files = tftp::BootFiles::load(&serve.firmware, &[&serve.bios_file, &serve.uefi_file])?;
    rules::read(&serve.root)?;
    let prepared = interface::prepare(&Settings::from(serve), &shutdown).await;
    let Some(network) = prepared.map_err(usage_errors)? else { return Ok(()) };
    let served = serve_on(&network, serve, boot_files, shutdown).await;
    network.restore().await;
    served
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
    let rules = rules::Watch::start(rules_source(network, serve, origin))?;
    let site = Arc::new(Site::new(&serve.root, &serve.firmware, origin, rules.in_force()));
    let loaders = Loaders { origin, bios: serve.bios_file.clone(), uefi: serve.uefi_file.clone() };
    let fast_path = attach_xdp(network, serve, &loaders).await?;

    let in_force = rules.in_force();
    let reservations = in_force.borrow().inventory.addresses().collect();
    let dhcp = dhcp_service(network, serve, loaders, reservations, fast_path)?;
    let tftp = udp_socket(SocketAddrV4::new(address, serve.ports.tftp_port))?;
    let http = tcp_listener(SocketAddrV4::new(address, serve.ports.http_port)).await?;

    // When one service fails or ends, all do.
    let mut services = JoinSet::new();
    services.spawn(dhcp.serve(in_force, shutdown.clone()));
    let script = script::boot_ipxe(&origin);
    services.spawn(tftp::serve(tftp, boot_files, script, shutdown.clone()));
    services.spawn(http::serve(http, http::router(site), shutdown.clone()));
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
    outcome
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
            info!(mode = %fast_path.mode(), "XDP program attached");
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
        dns: serve.dns.clone(),
        lease_time: Duration::from_secs(serve.lease_time.into()),
        loaders: loaders.clone(),
    }
}

fn dhcp_service(
    network: &Network,
    serve: &Serve,
    loaders: Loaders,
    reservations: Reservations,
    mut fast_path: Option<Box<FastPath>>,
) -> anyhow::Result<dhcp::Service> {
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
            let (store, held) = open_store(serve)?;
            info!(addresses = pool.size(), held = held.len(), "leasing");
            let leases = Leases::restore(pool, held).renewed_elsewhere(fast_path.is_some());
            let server = Server::new(settings, leases);
            let leasing =
                dhcp::Leasing::start(server, store, reservations, fast_path.as_deref_mut())?;
            dhcp::Responder::Server(Box::new(leasing))
        }
    };
    let ports = serve.ports;
    dhcp::Service::open(
        network.interface.clone(),
        own,
        loaders,
        responder,
        fast_path,
        ports.dhcp_port,
        ports.pxe_port,
    )
}

/// The durable state, and the leases in it.
fn open_store(serve: &Serve) -> anyhow::Result<(Store, Vec<Held>)> {
    let folder = serve.state.clone().unwrap_or_else(|| serve.root.join("state"));
    let boot = BootId::current().context("cannot tell which boot this is")?;
    Ok(Store::open(&folder, boot, BootTime::now())?)
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
    std::net::UdpSocket::bind(address).map_err(|error| port_error("UDP", address, &error))
}

async fn tcp_listener(address: SocketAddrV4) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| port_error("TCP", address, &error))
}
