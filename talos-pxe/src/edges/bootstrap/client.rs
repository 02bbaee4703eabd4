//! A client of Talos's secure API: gRPC over mutual TLS.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as Certified};
use tonic::{Code, Response, Status};

use super::api::common::Metadata;
use super::api::machine::machine_service_client::MachineServiceClient;
use super::api::machine::{BootstrapRequest, EtcdMemberListRequest, EtcdMembers};
use crate::decisions::bootstrap::{Etcd, Outcome};
use crate::wire::talosconfig::Identity;

/// How long the connection may take: the machine is on our network, or still off.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a question may take. A machine without etcd tries for a while to find some.
const QUESTION: Duration = Duration::from_secs(10);
/// How long telling may take: the machine waits for its clock to be set first.
const ORDER: Duration = Duration::from_secs(30);
/// The longest part of a machine's own words that is passed on, in characters.
const LONGEST_MESSAGE: usize = 200;

/// A connection to a machine that has proved to be of the cluster.
#[derive(Debug)]
pub struct Machine {
    service: MachineServiceClient<Channel>,
}

impl Machine {
    /// Connects, to the machine itself: no proxy is asked.
    ///
    /// # Errors
    /// When nobody answers there, or not with a certificate of the cluster's CA for this address,
    /// or our own certificate cannot be used; one line that says which.
    pub async fn connect(
        identity: &Identity,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<Self, String> {
        let tls = ClientTlsConfig::new()
            .domain_name(address.to_string())
            .ca_certificate(Certificate::from_pem(&identity.ca))
            .identity(Certified::from_pem(&identity.certificate, &identity.key));
        let endpoint = Endpoint::from_shared(format!("https://{address}:{port}"))
            .map(|endpoint| endpoint.connect_timeout(CONNECT))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| causes(&error))?;
        let connected = timeout(CONNECT, endpoint.connect()).await;
        let channel =
            connected.map_err(|_| "no answer".to_owned())?.map_err(|error| causes(&error))?;
        Ok(Self { service: MachineServiceClient::new(channel) })
    }

    /// Asks what etcd the machine has.
    ///
    /// # Errors
    /// When it does not answer, or not to us.
    pub async fn etcd(&mut self) -> Result<Etcd, String> {
        // Not only its own etcd: a machine that has none may know that others do.
        let request = EtcdMemberListRequest { query_local: false };
        match in_time(QUESTION, self.service.etcd_member_list(request)).await {
            Ok(list) => {
                let parts = list.messages;
                if parts.iter().any(|part| !part.members.is_empty()) {
                    Ok(Etcd::Member)
                } else if parts.iter().any(EtcdMembers::has_failed) {
                    Ok(Etcd::Unclear)
                } else {
                    Ok(Etcd::Waits)
                }
            }
            Err(status) if status.code() == Code::FailedPrecondition => Ok(Etcd::Waits),
            // Without etcd most versions fail in one way or another: the service tells more.
            Err(_) => self.etcd_service().await,
        }
    }

    /// Judges by the state of the service, as `talosctl service etcd` shows it.
    async fn etcd_service(&mut self) -> Result<Etcd, String> {
        let list = in_time(QUESTION, self.service.service_list(())).await.map_err(|s| words(&s))?;
        let mut services = list.messages.iter().flat_map(|part| &part.services);
        Ok(match services.find(|service| service.id == "etcd").map(|etcd| etcd.state.as_str()) {
            Some("Running") => Etcd::Member,
            Some("Preparing") => Etcd::Waits,
            _ => Etcd::Unclear,
        })
    }

    /// Tells the machine to begin etcd; returns what came of it, and the machine's words.
    pub async fn bootstrap(&mut self) -> (Outcome, String) {
        match in_time(ORDER, self.service.bootstrap(BootstrapRequest::default())).await {
            Ok(answer) => {
                match answer.messages.iter().find_map(|part| error_of(part.metadata.as_ref())) {
                    Some(error) => (Outcome::Unknown, shortened(error)),
                    None => (Outcome::Accepted, "accepted".to_owned()),
                }
            }
            Err(status) => (outcome(status.code()), words(&status)),
        }
    }
}

/// What came of an order that was answered with this code. Most codes may come from the way
/// there or back, or from this side, and leave open whether the machine accepted.
fn outcome(code: Code) -> Outcome {
    match code {
        Code::AlreadyExists => Outcome::AlreadyExists,
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

impl EtcdMembers {
    fn has_failed(&self) -> bool {
        error_of(self.metadata.as_ref()).is_some()
    }
}

fn error_of(metadata: Option<&Metadata>) -> Option<&str> {
    metadata.map(|metadata| metadata.error.as_str()).filter(|error| !error.is_empty())
}

async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let answer = timeout(limit, call).await;
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))).map(Response::into_inner)
}

/// The code, and what the machine says of it, on one short line.
fn words(status: &Status) -> String {
    // Only a status that was made on this side has a source.
    match std::error::Error::source(status) {
        // A certificate is judged after the connection is made, and then there is no more to see
        // than its end.
        Some(source) => format!(
            "it ended the connection ({}): if it keeps doing so, the talosconfig is not of its \
             cluster, or has expired",
            causes(source)
        ),
        None => format!("{:?}: {}", status.code(), shortened(status.message())),
    }
}

fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LONGEST_MESSAGE).collect()
}

/// The innermost cause: what surrounds it says no more than "transport error".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    shortened(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_machine_says_itself_is_a_refusal() {
        assert_eq!(outcome(Code::AlreadyExists), Outcome::AlreadyExists);
        assert_eq!(outcome(Code::FailedPrecondition), Outcome::Refused);
        for code in [
            Code::Cancelled,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::Unavailable,
            Code::Internal,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Ok,
        ] {
            assert_eq!(outcome(code), Outcome::Unknown, "{code:?}");
        }
    }

    #[test]
    fn a_machines_words_stay_on_one_short_line() {
        let status = Status::failed_precondition(format!("time\n\x1b[1m{}", "x".repeat(999)));
        let words = words(&status);
        assert!(words.starts_with("FailedPrecondition: time  [1mxx"), "{words}");
        assert!(words.chars().count() < 230);
    }
}
