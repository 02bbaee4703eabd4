//! DNS by TCP (RFC 7766): clients may send many requests on one connection, without waiting.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::slots::Slots;
use super::{Answer, MAX_REQUEST, Server};
use crate::wire::dns::Transport;

/// The most connections at one time.
const CONNECTIONS: usize = 128;
/// The most connections of one client.
const CONNECTIONS_EACH: usize = 8;
/// The most connections of clients that are only refused: they shall not keep others out.
const OUTSIDERS: usize = 8;
/// The most requests of a connection that are worked on at one time.
const REQUESTS: usize = 16;
/// How long a client may take for a request, or to read an answer.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, as when files run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections for as long as it is polled.
pub async fn serve(listener: TcpListener, server: &Arc<Server>) {
    let insiders = Slots::new(CONNECTIONS, CONNECTIONS_EACH);
    let outsiders = Slots::new(OUTSIDERS, 1);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (connection, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "DNS connection not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let slots = if server.policy.serves(client.ip()) { &insiders } else { &outsiders };
        let Some(slot) = slots.take(client.ip()) else {
            debug!(%client, "too many DNS connections");
            continue;
        };
        let server = server.clone();
        connections.spawn(async move {
            if let Err(error) = converse(connection, client, server).await {
                debug!(%client, %error, "DNS connection ended");
            }
            drop(slot);
        });
    }
}

/// Answers the requests of one connection, each as soon as its answer is known, until the client
/// closes it, is silent for too long, or sends what is no request.
async fn converse(
    connection: TcpStream,
    client: SocketAddr,
    server: Arc<Server>,
) -> io::Result<()> {
    let (reader, mut writer) = connection.into_split();
    let answers = requests(reader).map(|request| {
        let server = server.clone();
        async move {
            match server.decide(&request, client, Transport::Tcp)? {
                Answer::Ready(answer) => Some(answer),
                Answer::Forward(request, query) => {
                    Some(server.forward(&request, query, client, Transport::Tcp).await)
                }
            }
        }
    });
    let mut answers = pin!(answers.buffer_unordered(REQUESTS));
    while let Some(Some(answer)) = timeout(IDLE, answers.next()).await? {
        timeout(IDLE, writer.write_all(&framed(&answer))).await??;
    }
    Ok(())
}

/// The requests of a connection; ends with it, and before one of a length that no request has.
fn requests(reader: impl AsyncRead + Unpin) -> impl Stream<Item = Vec<u8>> {
    stream::unfold(reader, |mut reader| async {
        let length = usize::from(reader.read_u16().await.ok()?);
        if length > MAX_REQUEST {
            return None;
        }
        let mut request = vec![0; length];
        reader.read_exact(&mut request).await.ok()?;
        Some((request, reader))
    })
}

/// With the length before it, in one piece: some clients read only the first (RFC 7766 section 8).
fn framed(answer: &[u8]) -> Vec<u8> {
    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), answer].concat()
}
