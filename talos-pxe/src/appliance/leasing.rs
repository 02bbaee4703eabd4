//! The DHCP service, with its leases and the XDP program.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::State;
use crate::cli::{Serve, UsageError};
use crate::decisions::boot::loader::Loaders;
use crate::decisions::dhcp::pool::pool;
use crate::decisions::dhcp::server::{self, Server};
use crate::decisions::dhcp::templates;
use crate::decisions::interface::Mode;
use crate::edges::dhcp;
use crate::edges::interface::Network;
use crate::edges::xdp::{self, Attachment, FastPath};
use crate::state::leases::{Leases, Reservations};
use crate::time::BootTime;

/// Attaches the XDP program, if it is wanted and can be; and says why it does not run in the
/// driver, when it does not.
pub(super) async fn attach_xdp(
    network: &Network,
    serve: &Serve,
    loaders: &Loaders,
) -> anyhow::Result<(Option<Box<FastPath>>, Option<String>)> {
    let answers = answers(network, serve, loaders);
    match xdp::attach(&network.interface, serve.xdp, &answers, serve.xdp_machines).await? {
        Attachment::Attached(fast_path) => {
            let logs = fast_path.logs();
            info!(mode = %fast_path.mode(), logs, "XDP program attached");
            let why = fast_path.why_generic().map(str::to_owned);
            Ok((Some(fast_path), why))
        }
        Attachment::Unavailable(error) => {
            warn!("no XDP: {error:#}");
            Ok((None, Some(format!("{error:#}"))))
        }
        Attachment::Off => Ok((None, Some("as --xdp says".to_owned()))),
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

/// The service of this network, and how others ask it for what it knows.
pub(super) fn service(
    network: &Network,
    serve: &Serve,
    loaders: Loaders,
    reservations: Reservations,
    mut fast_path: Option<Box<FastPath>>,
    state: &State,
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
            let (lease_time, held) = (settings.lease_time, state.held()?);
            state.machines.restore_leases(&held, BootTime::now() + lease_time);
            info!(addresses = pool.size(), held = held.len(), "leasing");
            let leases = Leases::restore(pool, held).renewed_elsewhere(fast_path.is_some());
            let server = Server::new(settings, leases);
            let leasing = dhcp::Leasing::start(
                server,
                Arc::clone(&state.store),
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
        Arc::clone(&state.machines),
        serve.ports,
    )
}
