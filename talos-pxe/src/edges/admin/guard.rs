//! Keeps the web pages that an administrator's browser shows from using the admin API.
//!
//! There is no password: whoever reaches the port may use it. But a browser reaches it too, and
//! runs the programs of strangers. Two rules stop those. By *DNS rebinding* a page lets its own
//! name lead to us; so we answer only to names that nobody else can own. By *cross-site request
//! forgery* a page sends what a form can send; so writes need a content type that no form has,
//! for which browsers ask us first, and get no leave.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Problem;

/// The page may load and ask nothing but what is ours, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Lets a request through when no strange page can have made it.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refusal(request: &Request) -> Option<Problem> {
    if !host(request.headers()).is_some_and(|host| is_ours(&host)) {
        let advice = "ask by an IP address or as localhost: any other name may be a stranger's";
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, advice));
    }
    if !request.method().is_safe() && !is_json(request.headers()) {
        let advice = "send Content-Type: application/json";
        return Some(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, advice));
    }
    None
}

fn host(headers: &HeaderMap) -> Option<String> {
    let authority: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    Some(authority.host().to_owned())
}

/// An address cannot be made to lead elsewhere, nor can `localhost`.
fn is_ours(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_own_are_ours() {
        for host in ["127.0.0.1", "10.0.0.1", "[::1]", "localhost", "LOCALHOST"] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
