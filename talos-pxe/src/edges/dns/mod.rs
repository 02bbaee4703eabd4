//! The DNS server: UDP, TCP, and other servers for the names that are not ours.

mod forward;
mod slots;
mod tcp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use hickory_proto::op::Query;
use ipnet::Ipv4Net;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::forward::Forwarder;
use crate::decisions::dns::{self, Decision, Policy, Zone};
use crate::wire::dns::{Request, Transport};

/// The longest request that is read, in bytes: a question with every option that clients send has
/// a tenth of that.
const MAX_REQUEST: usize = 4096;

/// Answers requests, whichever way they come.
struct Server {
    zone: watch::Receiver<Arc<Zone>>,
    policy: Policy,
    /// `None` when there is no server to ask.
    forwarder: Option<Forwarder>,
}

/// A request whose answer is with us, or with another server.
enum Answer {
    Ready(Vec<u8>),
    Forward(Request, Query),
}

/// Serves the current zone to clients of the subnets `served`, and forwards other names to
/// `forwarders`, until `shutdown`.
///
/// # Errors
/// When a socket fails for good.
pub async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    zone: watch::Receiver<Arc<Zone>>,
    served: Vec<Ipv4Net>,
    forwarders: Vec<Ipv4Addr>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let policy = Policy { served, forwards: !forwarders.is_empty() };
    if policy.forwards {
        info!(?forwarders, "DNS server; names that are not ours are forwarded");
    } else {
        info!("DNS server for our own names alone: no server to forward others to (--dns)");
    }
    let forwarder = policy.forwards.then(|| Forwarder::new(&forwarders)).transpose()?;
    let server = Arc::new(Server { zone, policy, forwarder });
    tokio::select! {
        result = serve_udp(udp, &server) => result,
        () = tcp::serve(tcp, &server) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn serve_udp(socket: UdpSocket, server: &Arc<Server>) -> anyhow::Result<()> {
    let socket = Arc::new(socket);
    // Those that wait for other servers; the forwarder limits how many.
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; MAX_REQUEST];
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => received.context("DNS socket failed")?,
            Some(_) = waiting.join_next() => continue,
        };
        let request = buffer.get(..length).unwrap_or_default();
        match server.decide(request, client, Transport::Udp) {
            None => {}
            Some(Answer::Ready(answer)) => send(&socket, &answer, client).await,
            Some(Answer::Forward(request, query)) => {
                let (server, socket) = (server.clone(), socket.clone());
                waiting.spawn(async move {
                    let answer = server.forward(&request, query, client, Transport::Udp).await;
                    send(&socket, &answer, client).await;
                });
            }
        }
    }
}

/// A client that cannot be reached is its own business.
async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        debug!(%client, %error, "DNS answer not sent");
    }
}

impl Server {
    /// `None` when the request gets no answer.
    fn decide(&self, bytes: &[u8], client: SocketAddr, transport: Transport) -> Option<Answer> {
        let request = Request::parse(bytes)?;
        let zone = self.zone.borrow().clone();
        Some(match dns::decide(&request, client.ip(), &zone, &self.policy) {
            Decision::Forward(query) => Answer::Forward(request, query),
            Decision::Answer(answer) => {
                if let Some(question) = &request.question {
                    debug!(%client, %question, code = %answer.metadata.response_code, "DNS");
                }
                Answer::Ready(request.encode(&answer, transport))
            }
        })
    }

    async fn forward(
        &self,
        request: &Request,
        query: Query,
        client: SocketAddr,
        transport: Transport,
    ) -> Vec<u8> {
        let theirs = match &self.forwarder {
            Some(forwarder) => forwarder.ask(query, client.ip()).await,
            None => dns::Forwarded::failed(),
        };
        request.encode(&dns::forwarded(request, theirs), transport)
    }
}
