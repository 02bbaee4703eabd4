//! Requests, and which troubles with them may pass.

use std::io;
use std::time::Duration;

use anyhow::{Error, anyhow};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::decisions::fetch::{Head, Validator, pause};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The longest answer to a customization, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Why an attempt failed.
pub(super) enum Trouble {
    /// It may go better the next time.
    Passing {
        /// What happened.
        why: String,
        /// Whether the attempt brought us nearer all the same.
        progress: bool,
    },
    /// It will not.
    Lasting(Error),
}

impl Trouble {
    /// Trouble that may pass, and brought nothing.
    pub(super) fn passing(why: impl ToString) -> Self {
        Self::Passing { why: why.to_string(), progress: false }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// Attempts until one succeeds, trouble lasts, or the pauses are used up; `report` hears of each
/// trouble that may pass.
pub(super) fn patiently<T>(
    pauses: &[Duration],
    mut attempt: impl FnMut() -> Result<T, Trouble>,
    report: impl Fn(&str, Duration),
) -> anyhow::Result<T> {
    let mut failures = 0;
    loop {
        let why = match attempt() {
            Ok(done) => return Ok(done),
            Err(Trouble::Lasting(error)) => return Err(error),
            Err(Trouble::Passing { why, progress }) => {
                failures = if progress { 1 } else { failures + 1 };
                why
            }
        };
        let Some(pause) = pause(pauses, failures) else {
            return Err(anyhow!(
                "{why}, {failures} times in a row: check the connection and run it again; it goes \
                 on where it stopped"
            ));
        };
        report(&why, pause);
        std::thread::sleep(pause);
    }
}

/// An HTTP client.
pub(super) struct Client {
    agent: Agent,
}

impl Client {
    /// One that gives a server up that is silent for `stall`.
    pub(super) fn new(stall: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            .user_agent(concat!("talos-pxe/", env!("CARGO_PKG_VERSION")))
            // The bytes are wanted as they are, and ranges count them so.
            .accept_encoding("identity")
            .build();
        Self { agent: config.new_agent() }
    }

    /// Asks for what is at `url`. No redirect leads from HTTPS to plain HTTP.
    pub(super) fn get(
        &self,
        url: &str,
        fields: &[(&'static str, String)],
    ) -> Result<(Head, Body), Trouble> {
        let mut request = self.agent.get(url).config().https_only(is_https(url)).build();
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        let response = request.call().map_err(trouble)?;
        Ok((head(&response), response.into_body()))
    }

    /// A text of at most `limit` bytes; `None` when there is none.
    pub(super) fn text(&self, url: &str, limit: u64) -> Result<Option<String>, Trouble> {
        let (head, body) = self.get(url, &[])?;
        match head.status {
            200 => text(body, limit).map(Some),
            404 | 410 => Ok(None),
            status => Err(refused(status)),
        }
    }

    /// Sends a YAML document and returns the answer.
    pub(super) fn post(&self, url: &str, document: &str) -> Result<String, Trouble> {
        let request = self.agent.post(url).config().https_only(is_https(url)).build();
        let sent = request.content_type("application/yaml").send(document);
        let response = sent.map_err(trouble)?;
        match response.status().as_u16() {
            200 | 201 => text(response.into_body(), MAX_ANSWER),
            400 => {
                let cause = text(response.into_body(), MAX_ANSWER)?;
                let cause = cause.lines().next().unwrap_or_default().to_owned();
                Err(anyhow!("the factory refuses the schematic: {}", cause.escape_debug()).into())
            }
            status => Err(refused(status)),
        }
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

fn text(body: Body, limit: u64) -> Result<String, Trouble> {
    let read = body.into_with_config().limit(limit).lossy_utf8(true).read_to_string();
    read.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => {
            anyhow!("the answer is longer than {limit} bytes: is this the right URL?").into()
        }
        error => trouble(error),
    })
}

fn refused(status: u16) -> Trouble {
    let why = format!("the server answers HTTP status {status}");
    match status {
        408 | 429 | 500 | 502..=504 => Trouble::passing(why),
        _ => anyhow!("{why}: check the URL").into(),
    }
}

fn head<T>(response: &Response<T>) -> Head {
    let fields = response.headers();
    let etag = field(fields, "etag").map(Validator::Etag);
    Head {
        status: response.status().as_u16(),
        length: field(fields, "content-length").and_then(|length| length.parse().ok()),
        range: field(fields, "content-range"),
        page: field(fields, "content-type").is_some_and(|kind| kind.starts_with("text/html")),
        validator: etag.or_else(|| field(fields, "last-modified").map(Validator::LastModified)),
    }
}

fn field(fields: &HeaderMap, name: &str) -> Option<String> {
    fields.get(name)?.to_str().ok().map(str::to_owned)
}

/// Sorts what went wrong with a request.
fn trouble(error: ureq::Error) -> Trouble {
    use ureq::Error as E;
    match error {
        E::Timeout(_) => Trouble::passing("the server is silent"),
        // So TLS tells of a certificate that does not hold, or of a server that speaks no TLS.
        E::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            anyhow!("no secure connection ({error}): check the URL and this machine's clock").into()
        }
        E::Io(error) => Trouble::passing(io_cause(&error)),
        E::HostNotFound => Trouble::passing("the host's name is not found"),
        E::ConnectionFailed | E::Protocol(_) | E::BodyStalled => Trouble::passing(error),
        E::RequireHttpsOnly(to) => {
            anyhow!("the server redirects from HTTPS to plain HTTP, {to}: not followed").into()
        }
        E::TooManyRedirects => anyhow!("the server redirects in circles: check the URL").into(),
        error => Trouble::Lasting(error.into()),
    }
}

/// What went wrong while reading, in words.
pub(super) fn io_cause(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match (error.kind(), inner) {
        (_, Some(ureq::Error::Timeout(_))) | (io::ErrorKind::TimedOut, _) => {
            "the server is silent".to_owned()
        }
        (io::ErrorKind::UnexpectedEof, _) => "the connection ended early".to_owned(),
        _ => error.to_string(),
    }
}
