//! The DHCP client on the wire.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::netlink::NEEDS_RIGHTS;
use super::packet::{Filter, PacketSocket};
use crate::decisions::dhcp::client::{Client, Lease, Outgoing};
use crate::decisions::interface::Interface;
use crate::time::BootTime;
use crate::wire::MacAddr;
use crate::wire::dhcp::Message;
use crate::wire::frame::{MAX_FRAME, UdpFrame};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// A DHCP client on one interface.
#[derive(Debug)]
pub struct DhcpClient {
    client: Client,
    mac: MacAddr,
    socket: PacketSocket,
    frame: Box<[u8; MAX_FRAME]>,
}

impl DhcpClient {
    /// Gets ready to ask; [`offer`](Self::offer) asks.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when the interface is gone.
    pub fn open(interface: &Interface) -> anyhow::Result<Self> {
        let socket =
            PacketSocket::open(interface.index, Filter::UdpPort(CLIENT_PORT)).map_err(|error| {
                match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        anyhow!("no right to ask for a DHCP lease: {NEEDS_RIGHTS}")
                    }
                    _ => anyhow!("cannot ask for a DHCP lease on {}: {error}", interface.name),
                }
            })?;
        let client = Client::new(interface.mac, BootTime::now());
        Ok(Self { client, mac: interface.mac, socket, frame: Box::new([0; MAX_FRAME]) })
    }

    /// Waits for the first offer; `None` when there is none within `limit`.
    ///
    /// # Errors
    /// When the interface goes down.
    pub async fn offer(&mut self, limit: Duration) -> anyhow::Result<Option<Lease>> {
        let offered = async {
            loop {
                if let Some(offer) = self.client.offer() {
                    return anyhow::Ok(offer.clone());
                }
                self.step().await?;
            }
        };
        timeout(limit, offered).await.ok().transpose()
    }

    /// Takes the offer, or another one should the server take that one back; `None` when no
    /// server confirms one within `limit`.
    ///
    /// # Errors
    /// When the interface goes down.
    pub async fn take(&mut self, limit: Duration) -> anyhow::Result<Option<Lease>> {
        let confirmed = async {
            loop {
                self.client.accept(BootTime::now());
                self.step().await?;
                if let Some(lease) = self.client.lease() {
                    return anyhow::Ok(lease.clone());
                }
            }
        };
        timeout(limit, confirmed).await.ok().transpose()
    }

    /// Keeps the lease by renewing it in time, until `shutdown`; then gives it back.
    pub async fn keep(mut self, shutdown: CancellationToken) {
        // Nothing is read from this socket: renewals are answered to our address, and without a
        // socket there the kernel would tell the server that the port is closed.
        let lease = self.client.lease();
        let _open_port =
            lease.map(|lease| UdpSocket::bind((lease.address.addr(), CLIENT_PORT)).ok());
        loop {
            let before = self.client.lease().cloned();
            match shutdown.run_until_cancelled(self.step()).await {
                Some(Ok(())) => self.report(before.as_ref()),
                Some(Err(error)) => warn!("DHCP client: {error:#}"),
                None => break,
            }
        }
        if let Err(error) = self.release().await {
            warn!("DHCP client: cannot release the lease: {error:#}");
        }
    }

    fn report(&self, before: Option<&Lease>) {
        match (before, self.client.lease()) {
            (Some(lost), None) => error!(
                address = %lost.address, server = %lost.server,
                "our DHCP lease ended; asking for the same address again. If it stays away, check \
                 the DHCP server and start anew, or give an own address with --addr"
            ),
            (None, Some(lease)) => info!(address = %lease.address, "our DHCP lease is back"),
            (Some(old), Some(new)) if old.ends_at != new.ends_at => {
                debug!(address = %new.address, server = %new.server, "renewed our DHCP lease");
            }
            _ => {}
        }
    }

    /// Waits for whatever comes first: a frame, or the time to send one.
    async fn step(&mut self) -> anyhow::Result<()> {
        // The timer stands still while the machine sleeps, leases do not: look at least once a
        // minute.
        let wait = self.client.due().since(BootTime::now()).min(Duration::from_secs(60));
        tokio::select! {
            received = self.socket.receive(&mut self.frame) => {
                let frame = received.context("receiving")?;
                let Ok(datagram) = UdpFrame::parse(frame) else { return Ok(()) };
                if datagram.source.port() != SERVER_PORT {
                    return Ok(());
                }
                match Message::parse(datagram.payload) {
                    Ok(message) => {
                        self.client.receive(BootTime::now(), datagram.source_mac, &message);
                    }
                    Err(reason) => debug!(source = %datagram.source, %reason, "ignored a reply"),
                }
                Ok(())
            }
            () = tokio::time::sleep(wait) => {
                match self.client.tick(BootTime::now(), random()?) {
                    Some(outgoing) => self.send(&outgoing).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn release(&self) -> anyhow::Result<()> {
        match self.client.release(random()?) {
            Some(outgoing) => self.send(&outgoing).await,
            None => Ok(()),
        }
    }

    async fn send(&self, outgoing: &Outgoing) -> anyhow::Result<()> {
        debug!(kind = ?outgoing.message.kind, to = %outgoing.destination, "DHCP client asks");
        let frame = UdpFrame {
            source_mac: self.mac,
            destination_mac: outgoing.destination_mac,
            source: SocketAddrV4::new(outgoing.source, CLIENT_PORT),
            destination: SocketAddrV4::new(outgoing.destination, SERVER_PORT),
            payload: &outgoing.message.encode(),
        };
        self.socket.send(&frame.encode()).await.context("sending")
    }
}

fn random() -> anyhow::Result<u32> {
    getrandom::u32().context("no random numbers")
}
