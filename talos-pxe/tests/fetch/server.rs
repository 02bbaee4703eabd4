//! An HTTP server that answers as a test wants, also badly.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// By lower-case name.
    pub fields: HashMap<String, String>,
    pub body: String,
}

impl Request {
    /// From which byte on the file is wanted.
    pub fn from(&self) -> Option<usize> {
        let range = self.fields.get("range")?;
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent back: head and body, and whether the connection then stays open in silence.
pub struct Answer {
    bytes: Vec<u8>,
    stall: bool,
}

impl Answer {
    pub fn new(head: &str, body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, stall: false }
    }

    pub fn status(status: &str) -> Self {
        Self::new(&format!("{status}\r\nContent-Length: 0"), b"")
    }

    pub fn text(text: &str) -> Self {
        Self::new(&format!("200 OK\r\nContent-Length: {}", text.len()), text.as_bytes())
    }

    /// A file as a good server sends it: whole, or the rest that is asked for.
    pub fn file(request: &Request, etag: &str, content: &[u8]) -> Self {
        let same = request.fields.get("if-range").is_some_and(|tag| tag == etag);
        match request.from().filter(|_| same) {
            Some(from) => {
                let all = content.len();
                let range = format!("Content-Range: bytes {from}-{}/{all}", all - 1);
                let length = format!("Content-Length: {}", all - from);
                let head = format!("206 Partial Content\r\n{range}\r\n{length}\r\nETag: {etag}");
                Self::new(&head, &content[from..])
            }
            None => Self::new(
                &format!("200 OK\r\nContent-Length: {}\r\nETag: {etag}", content.len()),
                content,
            ),
        }
    }

    /// The same answer, but for its last bytes.
    pub fn without_last(mut self, count: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - count);
        self
    }

    /// The same answer, after which the server neither sends nor closes.
    pub fn then_silence(self) -> Self {
        Self { stall: true, ..self }
    }
}

/// The server; it ends with the process.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers the requests by `answer`, which also gets how many came before.
    pub fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (heard, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heard, answer) = (heard.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &heard, &*answer));
            }
        });
        Self { url, requests }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Their paths.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }
}

fn serve(
    stream: TcpStream,
    heard: &Mutex<Vec<Request>>,
    answer: &dyn Fn(usize, &Request) -> Answer,
) {
    let mut reader = BufReader::new(&stream);
    let request = read_request(&mut reader);
    let before = {
        let mut heard = heard.lock().unwrap();
        heard.push(request.clone());
        heard.len() - 1
    };
    let answer = answer(before, &request);
    // A client that has seen enough may be gone.
    let _ = (&stream).write_all(&answer.bytes);
    if answer.stall {
        // Until the client gives up.
        let _ = reader.read(&mut [0]);
    }
}

fn read_request(reader: &mut impl BufRead) -> Request {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    let mut fields = HashMap::new();
    loop {
        let field = line();
        let Some((name, value)) = field.split_once(": ") else { break };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = fields.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Request { method, path, fields, body: String::from_utf8(body).unwrap() }
}
