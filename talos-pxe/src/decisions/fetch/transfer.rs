//! One file's way from a server: what to ask for, and what an answer means.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// By what a server tells one state of a file from another (RFC 9110 section 8.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validator {
    /// Its entity tag, with its quotes.
    Etag(String),
    /// When it was changed, as the server wrote it.
    LastModified(String),
}

impl Validator {
    /// Whether equal validators mean equal bytes: not so for a weak entity tag.
    fn is_strong(&self) -> bool {
        !matches!(self, Self::Etag(tag) if tag.starts_with("W/"))
    }

    fn text(&self) -> &str {
        match self {
            Self::Etag(text) | Self::LastModified(text) => text,
        }
    }
}

/// What is kept beside a file, or the part of one, to know later what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where it comes from.
    pub url: String,
    /// The server's mark for this state of it.
    pub validator: Option<Validator>,
    /// Its whole length in bytes.
    pub length: Option<u64>,
    /// Its SHA-256 in hexadecimal, once it is whole.
    pub sha256: Option<String>,
}

/// What to ask a server for.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// From which byte on.
    pub from: u64,
    /// The request's fields that say so.
    pub fields: Vec<(&'static str, String)>,
}

/// Asks for the rest of the `have` bytes that `note` tells of: only if the file at `url` is still
/// the same one, else for all of it (`If-Range`, RFC 9110 section 13.1.5).
pub fn ask(note: Option<&Note>, have: u64, url: &str) -> Ask {
    let same = note.filter(|note| note.url == url && note.length.is_none_or(|all| have <= all));
    let validator = same.and_then(|note| note.validator.as_ref()).filter(|v| v.is_strong());
    match validator {
        Some(validator) if have > 0 => Ask {
            from: have,
            fields: vec![
                ("range", format!("bytes={have}-")),
                ("if-range", validator.text().to_owned()),
            ],
        },
        _ => Ask { from: 0, fields: Vec::new() },
    }
}

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// `Content-Range`.
    pub range: Option<String>,
    /// `ETag`, or else `Last-Modified`.
    pub validator: Option<Validator>,
    /// Whether `Content-Type` says that this is a web page.
    pub page: bool,
}

impl Head {
    /// The note on a file that comes whole with this answer.
    pub fn note(&self, url: &str) -> Note {
        let (validator, length) = (self.validator.clone(), self.length);
        Note { url: url.to_owned(), validator, length, sha256: None }
    }
}

/// What an answer's body is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The file from its start.
    Whole,
    /// What was asked for: the rest. The file has `total` bytes in all.
    Rest {
        /// Length of the whole file.
        total: u64,
    },
}

/// Why an answer is not the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such file.
    #[error("the server has no such file (HTTP status {0})")]
    NotFound(u16),
    /// A web page comes instead: to sign in, or to say that something is wrong.
    #[error("the server sends a web page instead of the file")]
    Page,
    /// No kernel and no initramfs is empty.
    #[error("the server sends an empty file")]
    Empty,
    /// The part that we have does not fit the file: begin anew.
    #[error("the server cannot go on where we stopped")]
    BadPart,
    /// It may go better the next time.
    #[error("the server answers HTTP status {0}")]
    Busy(u16),
    /// It will not.
    #[error("the server answers HTTP status {0}")]
    Other(u16),
}

/// Says what the answer to `ask` is.
///
/// # Errors
/// When it is not the file.
pub fn answered(ask: &Ask, note: Option<&Note>, head: &Head) -> Result<Body, Refused> {
    match head.status {
        200 if head.page => Err(Refused::Page),
        200 if head.length == Some(0) => Err(Refused::Empty),
        200 => Ok(Body::Whole),
        206 => {
            let range = head.range.as_deref().and_then(content_range);
            let known = note.and_then(|note| note.length);
            match range {
                Some((from, total))
                    if ask.from > 0
                        && from == ask.from
                        && known.is_none_or(|known| known == total) =>
                {
                    Ok(Body::Rest { total })
                }
                _ => Err(Refused::BadPart),
            }
        }
        // Asked for nothing but the rest, the server finds that there is none.
        416 if ask.from > 0 => Err(Refused::BadPart),
        404 | 410 => Err(Refused::NotFound(head.status)),
        408 | 429 | 500 | 502..=504 => Err(Refused::Busy(head.status)),
        status => Err(Refused::Other(status)),
    }
}

/// First byte and whole length in `bytes 5-9/10` (RFC 9110 section 14.4), of a range that goes
/// to the file's end.
fn content_range(field: &str) -> Option<(u64, u64)> {
    let (range, total) = field.strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    let (from, last): (u64, u64) = (from.parse().ok()?, last.parse().ok()?);
    let total: u64 = total.parse().ok()?;
    (from <= last && last.checked_add(1) == Some(total)).then_some((from, total))
}

/// Whether the file that `note` tells of, with this length and SHA-256 now, is what the server
/// has. Without the server's mark, equal lengths have to do: what is published under one version
/// does not change.
pub fn is_current(note: &Note, length: u64, sha256: &str, url: &str, head: &Head) -> bool {
    let same_on_server = match (&note.validator, &head.validator) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => head.length == Some(length),
    };
    head.status == 200
        && note.url == url
        && note.sha256.as_deref() == Some(sha256)
        && same_on_server
}

/// How long to wait after so many attempts in a row without progress; `None` to give up.
pub fn pause(pauses: &[Duration], failures: usize) -> Option<Duration> {
    failures.checked_sub(1).and_then(|index| pauses.get(index)).copied()
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
