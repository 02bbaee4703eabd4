//! A file as an HTTP response: whole, a part, or not modified (RFC 9110, sections 13 and 14).

use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{
    AcceptRanges, ContentLength, ContentRange, ETag, HeaderMapExt, IfModifiedSince, IfNoneMatch,
    IfRange, LastModified,
};
use tracing::warn;

use super::Refusal;
use super::image::Images;
use super::turns::Ticket;
use crate::edges::folder::OpenFile;
use crate::wire::AssetPath;

/// The type of a file by its name. UEFI decides by it whether it got a program or a disk image.
pub(super) fn content_type(path: &AssetPath) -> &'static str {
    let is_program = path.as_str().to_ascii_lowercase().ends_with(".efi");
    if is_program { "application/efi" } else { "application/octet-stream" }
}

/// Answers GET and HEAD with a file, or with as much of it as was asked for. Whoever has to wait for
/// its turn gets a `ticket` for that many octets.
pub(super) fn respond(
    images: &Images,
    opened: OpenFile,
    method: &Method,
    request: &HeaderMap,
    content_type: &'static str,
    ticket: impl FnOnce(u64) -> Option<Ticket>,
) -> Response {
    let OpenFile { file, metadata, .. } = opened;
    let length = metadata.len();
    let (inode, seconds, nanos) = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
    let etag: Option<ETag> = format!("\"{inode:x}-{seconds:x}.{nanos:x}-{length:x}\"").parse().ok();
    let modified = metadata.modified().ok().map(LastModified::from);
    let plan = plan(method, request, etag.as_ref(), modified.as_ref(), length);

    let mut headers = HeaderMap::new();
    headers.typed_insert(AcceptRanges::bytes());
    etag.into_iter().for_each(|etag| headers.typed_insert(etag));
    modified.into_iter().for_each(|modified| headers.typed_insert(modified));
    let (status, part) = match plan {
        Plan::NotModified => return (StatusCode::NOT_MODIFIED, headers).into_response(),
        Plan::Unsatisfiable => {
            headers.typed_insert(ContentRange::unsatisfied_bytes(length));
            let line = format!("the file has {length} bytes\n");
            return (StatusCode::RANGE_NOT_SATISFIABLE, headers, line).into_response();
        }
        Plan::Whole => (StatusCode::OK, 0..length),
        Plan::Part(part) => match ContentRange::bytes(part.clone(), length) {
            Ok(range) => {
                headers.typed_insert(range);
                (StatusCode::PARTIAL_CONTENT, part)
            }
            Err(error) => {
                warn!(%error, "no Content-Range for a part of a file");
                return Refusal::Internal.into_response();
            }
        },
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.typed_insert(ContentLength(part.end - part.start));
    if *method == Method::HEAD {
        return (status, headers).into_response();
    }
    let ticket = ticket(part.end - part.start);
    match images.body(file, &metadata, part, ticket) {
        Ok(body) => (status, headers, Body::from(body)).into_response(),
        Err(error) => {
            warn!(%error, "cannot send a file");
            Refusal::Internal.into_response()
        }
    }
}

#[derive(Debug, PartialEq)]
enum Plan {
    NotModified,
    Unsatisfiable,
    Whole,
    Part(Range<u64>),
}

/// What to send, by the request's preconditions in the order of RFC 9110, section 13.2.2.
fn plan(
    method: &Method,
    request: &HeaderMap,
    etag: Option<&ETag>,
    modified: Option<&LastModified>,
    length: u64,
) -> Plan {
    let changed = match (request.typed_get::<IfNoneMatch>(), etag) {
        (Some(condition), Some(etag)) => condition.precondition_passes(etag),
        _ => match (request.typed_get::<IfModifiedSince>(), modified) {
            (Some(since), Some(modified)) => since.is_modified((*modified).into()),
            _ => true,
        },
    };
    if !changed {
        return Plan::NotModified;
    }
    let outdated = match request.typed_try_get::<IfRange>() {
        Ok(condition) => condition.is_some_and(|condition| condition.is_modified(etag, modified)),
        Err(_) => true,
    };
    let range = request.get(RANGE).and_then(|range| range.to_str().ok());
    match range.and_then(ByteRange::parse) {
        Some(range) if *method == Method::GET && !outdated => {
            range.within(length).map_or(Plan::Unsatisfiable, Plan::Part)
        }
        _ => Plan::Whole,
    }
}

/// One range of bytes, as a client asks for it (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRange {
    /// From a first byte to a last one, both included, or to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

impl ByteRange {
    /// Reads `bytes=1-2`, `bytes=1-` or `bytes=-2`. Anything else, several ranges included, is
    /// answered with the whole file, as a server is free to.
    fn parse(value: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // A number too large for us is beyond every file's end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let (unit, range) = value.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        match (unit.eq_ignore_ascii_case("bytes"), first, last) {
            (false, ..) => None,
            (true, "", last) => number(last).map(Self::Last),
            (true, first, "") => Some(Self::From(number(first)?, None)),
            (true, first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The part of a file of this length; none when it would be empty.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let part = match self {
            Self::From(first, last) => {
                first..last.map_or(length, |last| last.saturating_add(1).min(length))
            }
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges() {
        for (value, range) in [
            ("bytes=0-0", Some(ByteRange::From(0, Some(0)))),
            ("BYTES=5-", Some(ByteRange::From(5, None))),
            ("bytes=-7", Some(ByteRange::Last(7))),
            ("bytes=0-99999999999999999999", Some(ByteRange::From(0, Some(u64::MAX)))),
            ("bytes=0-1,3-4", None),
            ("bytes=2-1", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("lines=0-1", None),
            ("", None),
        ] {
            assert_eq!(ByteRange::parse(value), range, "{value}");
        }
    }

    #[test]
    fn cuts_ranges_to_the_file() {
        for (value, part) in [
            ("bytes=0-3", Some(0..4)),
            ("bytes=8-", Some(8..10)),
            ("bytes=8-99", Some(8..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-99", Some(0..10)),
            ("bytes=-0", None),
            ("bytes=10-", None),
            ("bytes=99999999999999999999-", None),
        ] {
            assert_eq!(ByteRange::parse(value).unwrap().within(10), part, "{value}");
        }
        assert_eq!(ByteRange::From(0, None).within(0), None);
    }
}
