//! Clients that ask for too much, or oddly.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

use super::{OUTSIDER, OWN, Site, UPSTREAM};
use crate::namespace::in_namespace;

/// A client in the subnet.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 50);

/// A question for the address of a name, as it goes over the wire.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

async fn connect(client: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((client, 0).into()).unwrap();
    socket.connect((OWN, 53).into()).await.unwrap()
}

async fn send(connection: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    connection.write_all(&[&length.to_be_bytes(), message].concat()).await.unwrap();
}

/// The identifier and response code of the next answer; `None` at the end of the connection.
async fn receive(connection: &mut TcpStream) -> Option<(u16, u8)> {
    let length = connection.read_u16().await.ok()?;
    let mut answer = vec![0; length.into()];
    connection.read_exact(&mut answer).await.unwrap();
    Some((u16::from_be_bytes([answer[0], answer[1]]), answer[3] & 15))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn answers_requests_on_one_connection_as_soon_as_it_can() {
    in_namespace(false, async || {
        let _site = Site::start(&[UPSTREAM]).await;
        let _silent = UdpSocket::bind((UPSTREAM, 53)).await.unwrap();
        let mut connection = connect(CLIENT).await;
        // The first waits for a server that says nothing; those behind it do not.
        send(&mut connection, &question(1, "www.example.com")).await;
        for id in 2..=100 {
            send(&mut connection, &question(id, "n1.talos")).await;
        }
        let mut answered = Vec::new();
        for _ in 1..=100 {
            answered.push(receive(&mut connection).await.unwrap());
        }
        assert_eq!(answered.pop(), Some((1, 2)), "SERVFAIL at the end");
        answered.sort_unstable();
        assert!(answered.iter().copied().eq((2..=100).map(|id| (id, 0))), "{answered:?}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn ends_connections_that_send_no_requests() {
    in_namespace(false, async || {
        let _site = Site::start(&[]).await;
        let mut answer = question(1, "n1.talos");
        answer[2] |= 0x80;
        for nonsense in [&[][..], &[1, 2, 3], &answer] {
            let mut connection = connect(CLIENT).await;
            send(&mut connection, nonsense).await;
            assert_eq!(receive(&mut connection).await, None, "{nonsense:?}");
        }
        let mut connection = connect(CLIENT).await;
        connection.write_all(&[0xff, 0xff]).await.unwrap();
        assert_eq!(receive(&mut connection).await, None, "longer than any request");
        // What came before is answered; what is malformed is, too.
        let mut connection = connect(CLIENT).await;
        send(&mut connection, &question(1, "n1.talos")).await;
        send(&mut connection, &question(2, "n1.talos")[..20]).await;
        connection.shutdown().await.unwrap();
        let mut answers = [receive(&mut connection).await, receive(&mut connection).await];
        answers.sort_unstable();
        assert_eq!(answers, [Some((1, 0)), Some((2, 1))]);
        assert_eq!(receive(&mut connection).await, None);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn ends_connections_that_fall_silent() {
    in_namespace(true, async || {
        let _site = Site::start(&[]).await;
        let request = question(1, "n1.talos");
        // Nothing, half a length, and half a request.
        for beginning in [&[][..], &[0], &[&[0, 26], &request[..13]].concat()] {
            let start = Instant::now();
            let mut connection = connect(CLIENT).await;
            connection.write_all(beginning).await.unwrap();
            assert_eq!(receive(&mut connection).await, None, "{beginning:?}");
            assert!(start.elapsed() >= Duration::from_secs(10), "not before: {beginning:?}");
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_client_cannot_keep_others_out() {
    in_namespace(false, async || {
        let _site = Site::start(&[UPSTREAM]).await;
        let _silent = UdpSocket::bind((UPSTREAM, 53)).await.unwrap();
        let mut greedy = Vec::new();
        for _ in 0..9 {
            greedy.push(connect(CLIENT).await);
        }
        assert_eq!(receive(&mut greedy.pop().unwrap()).await, None, "the ninth is closed");
        let mut outsiders = [connect(OUTSIDER).await, connect(OUTSIDER).await];
        assert_eq!(receive(&mut outsiders[1]).await, None);
        send(&mut outsiders[0], &question(1, "n1.talos")).await;
        assert_eq!(receive(&mut outsiders[0]).await, Some((1, 5)));

        // Of 40 questions for other servers, those above the client's share fail at once.
        let socket = UdpSocket::bind((CLIENT, 0)).await.unwrap();
        for id in 0..40 {
            let question = question(id, &format!("n{id}.example.com"));
            socket.send_to(&question, (OWN, 53)).await.unwrap();
        }
        for id in 32..40 {
            let mut answer = [0; 512];
            socket.recv(&mut answer).await.unwrap();
            assert_eq!((u16::from_be_bytes([answer[0], answer[1]]), answer[3] & 15), (id, 2));
        }
        let mut other = connect(UPSTREAM).await;
        send(&mut other, &question(1, "n1.talos")).await;
        assert_eq!(receive(&mut other).await, Some((1, 0)));
        send(&mut greedy[0], &question(2, "n1.talos")).await;
        assert_eq!(receive(&mut greedy[0]).await, Some((2, 0)), "it keeps what it has");
    });
}
