//! Real connections: images over sockets, clients that dawdle, files that change meanwhile.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::decisions::boot::origin::Origin;
use crate::decisions::transfers::Limit;
use crate::edges::http::{Site, router};
use crate::edges::rules::{Source, Watch};
use crate::state::machines::Machines;

/// Larger than what all buffers on the way hold.
const IMAGE: usize = 8 << 20;

/// A server on the loopback interface with one image.
struct Lab {
    root: TempDir,
    address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<Result<()>>,
}

impl Lab {
    async fn start() -> Self {
        Self::with_transfers(Limit::Off).await
    }

    async fn with_transfers(limit: Limit) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("assets")).unwrap();
        fs::write(root.path().join("assets/image"), vec![b'a'; IMAGE]).unwrap();
        fs::write(root.path().join("assets/vmlinuz-amd64"), "").unwrap();
        fs::write(root.path().join("assets/small"), "0123456789").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Origin { address: Ipv4Addr::LOCALHOST, port: address.port() };
        let source = Source { root: root.path().to_owned(), origin, served: None };
        let rules = Watch::start(source).unwrap().in_force();
        let machines = Arc::new(Machines::in_memory());
        let site = Site::new(root.path(), root.path(), origin, rules, machines);
        let site = Arc::new(site.with_transfers(limit));
        let shutdown = CancellationToken::new();
        // On the test's own thread, whose clock can be wound forward.
        let images = site.images.clone();
        let server = tokio::spawn(serve_images(
            listener,
            router(site),
            images,
            Buffers::default(),
            Threads::here(),
            shutdown.clone(),
        ));
        Self { root, address, shutdown, server }
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("assets/image")
    }

    async fn send(&self, requests: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut client = socket.connect(self.address).await.unwrap();
        client.write_all(requests.as_bytes()).await.unwrap();
        client
    }
}

fn request(method: &str, path: &str, more: &str) -> String {
    format!("{method} /assets/{path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

/// The body of an answer, as much of it as came.
fn body(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &answer[head + 4..]
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let lab = Lab::start().await;
    let requests = [
        request("HEAD", "image", ""),
        request("GET", "image", ""),
        request("GET", "small", "Range: bytes=2-4\r\n"),
        request("GET", "none", ""),
        request("GET", "image", "Range: bytes=-3\r\nConnection: close\r\n"),
    ];
    let mut client = lab.send(&requests.concat()).await;
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.unwrap();
    let image = vec![b'a'; IMAGE];
    let lengths = [IMAGE, IMAGE, 3, 10, 3].map(|length| format!("content-length: {length}\r\n"));
    let bodies: [&[u8]; 5] = [b"", &image, b"234", b"not found\n", b"aaa"];
    let mut rest = answers.as_slice();
    for (length, expected) in lengths.iter().zip(bodies) {
        let start = body(rest);
        let head = String::from_utf8_lossy(&rest[..rest.len() - start.len()]).into_owned();
        assert!(head.contains(length), "{head}");
        assert!(start.starts_with(expected), "{head}");
        rest = &start[expected.len()..];
    }
    assert!(rest.is_empty());

    lab.shutdown.cancel();
    lab.server.await.unwrap().unwrap();
}

/// Whatever happens to the file, a client has the old image, or an incomplete one.
#[tokio::test]
async fn a_file_changes_in_the_middle_of_a_hundred_downloads() {
    type Change = fn(&Lab);
    let changes: [(&str, bool, Change); 4] = [
        ("replaced", true, |lab| {
            let new = lab.root.path().join("new");
            fs::write(&new, vec![b'b'; IMAGE]).unwrap();
            fs::rename(new, lab.image()).unwrap();
        }),
        ("deleted", true, |lab| fs::remove_file(lab.image()).unwrap()),
        ("truncated", false, |lab| File::create(lab.image()).map(drop).unwrap()),
        ("written to", false, |lab| {
            let mut file = File::options().write(true).open(lab.image()).unwrap();
            file.write_all(&vec![b'b'; IMAGE]).unwrap();
        }),
    ];
    let image = vec![b'a'; IMAGE];
    for (name, completes, change) in changes {
        let lab = Lab::start().await;
        let mut clients = Vec::new();
        for _ in 0..100 {
            let get = request("GET", "image", "Connection: close\r\n");
            let mut client = lab.send(&get).await;
            let mut answer = vec![0; 1 << 10];
            client.read_exact(&mut answer).await.unwrap();
            clients.push((client, answer));
        }
        change(&lab);
        for (mut client, mut answer) in clients {
            let end = client.read_to_end(&mut answer).await;
            let body = body(&answer);
            assert_eq!(body.len() == IMAGE, completes, "{name}: {end:?}");
            let consistent = image.starts_with(body);
            assert!(consistent || !completes, "{name}: two images in one");
        }
        let mut later = lab.send(&request("GET", "small", "Connection: close\r\n")).await;
        let mut answer = Vec::new();
        later.read_to_end(&mut answer).await.unwrap();
        assert_eq!(body(&answer), b"0123456789", "{name}");
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_cut_off() {
    let lab = Lab::start().await;
    let mut silent = lab.send("").await;
    let mut dawdling = lab.send("GET /assets/small HTTP/1.1\r\nHost:").await;
    let mut resting = lab.send(&request("GET", "small", "")).await;
    let mut endless = lab.send(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * HEAD_SIZE))).await;
    // What is on its way arrives before the clock is wound forward.
    let mut answer = vec![0; 64];
    resting.read_exact(&mut answer).await.unwrap();
    endless.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    tokio::time::pause();
    for client in [&mut silent, &mut dawdling, &mut resting] {
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_gets_the_whole_image_too() {
    let lab = Lab::with_transfers(Limit::Most(2)).await;
    let get = request("GET", "image", "Connection: close\r\n");
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(lab.send(&get).await);
    }
    let mut gone = clients.remove(0);
    gone.read_exact(&mut [0; 1 << 10]).await.unwrap();
    drop(gone);
    // The head and the first octets come to each at once, whoever's turn it is.
    for client in &mut clients {
        client.read_exact(&mut [0; 512]).await.unwrap();
    }
    let read = |mut client: TcpStream| async move {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let answers: Vec<_> = clients.into_iter().map(|client| tokio::spawn(read(client))).collect();
    for answer in answers {
        let rest = answer.await.unwrap();
        assert!(rest.len() > IMAGE - 512 && rest.ends_with(b"aaaa"));
    }
}
