//! A Talos machine as bootstrapping sees it: the secure API, over mutual TLS.

use std::collections::VecDeque;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use talos_pxe::edges::bootstrap::api::machine::machine_service_server::{
    MachineService, MachineServiceServer,
};
use talos_pxe::edges::bootstrap::api::machine::{
    Bootstrap, BootstrapRequest, BootstrapResponse, EtcdMember, EtcdMemberListRequest,
    EtcdMemberListResponse, EtcdMembers, ServiceInfo, ServiceList, ServiceListResponse,
};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// How long [`Talos::wait_until`] waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster: who is a machine of it, and who may administer it.
pub struct Cluster {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Cluster {
    /// A new cluster with keys of its own.
    pub fn new() -> Result<Cluster> {
        let mut params = named("talos");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let ca = params.self_signed(&key)?.pem();
        Ok(Cluster { issuer: Issuer::new(params, key), ca })
    }

    /// The talosconfig of its administrator, as `talosctl gen config` writes it.
    pub fn talosconfig(&self) -> Result<String> {
        self.talosconfig_for(self)
    }

    /// The talosconfig of this cluster's administrator for the machines of another.
    pub fn talosconfig_for(&self, other: &Cluster) -> Result<String> {
        let (certificate, key) =
            self.issue(named("os:admin"), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(format!(
            "context: lab\ncontexts:\n    lab:\n        endpoints: []\n        ca: {}\n        \
             crt: {}\n        key: {}\n",
            BASE64.encode(&other.ca),
            BASE64.encode(certificate),
            // The label that Talos gives it.
            BASE64.encode(key.replace(" PRIVATE KEY", " ED25519 PRIVATE KEY")),
        ))
    }

    /// A certificate of this cluster's CA, and its key.
    fn issue(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn named(organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params
}

/// What a machine answers when it is told to bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its clock is not set yet: `FailedPrecondition`.
    NotReady,
    /// It has etcd, although it does not say so when asked: `AlreadyExists`.
    AlreadyExists,
    /// It does nothing, and never answers.
    Silence,
    /// It begins etcd, and never answers.
    SilentlyAccepted,
}

/// What came to a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections, whoever they were from.
    pub connections: usize,
    /// Times that it was asked what etcd it has.
    pub asked: usize,
    /// Times that it was told to bootstrap.
    pub told: usize,
    /// Times that it accepted.
    pub accepted: usize,
}

/// A machine; switched off on drop.
pub struct Talos {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    seen: Seen,
    /// For the times that it is told; after these it answers as Talos does.
    answers: VecDeque<Answer>,
    has_etcd: bool,
}

impl Talos {
    /// A machine of `cluster` that answers on `listener`, wherever that was made: for a machine in
    /// a network namespace, inside it, on port 50000.
    pub fn start(cluster: &Cluster, listener: TcpListener, answers: &[Answer]) -> Result<Talos> {
        let IpAddr::V4(address) = listener.local_addr()?.ip() else { bail!("not IPv4") };
        let mut params = named("machine");
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        let (certificate, key) = cluster.issue(params, ExtendedKeyUsagePurpose::ServerAuth)?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(&cluster.ca));

        let state = Arc::new(State::default());
        state.inner().answers.extend(answers);
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&state);
        let thread = thread::spawn(move || serve(listener, tls, served, stopped));
        Ok(Talos { state, stop: Some(stop), thread: Some(thread) })
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        self.state.inner().seen
    }

    /// Somebody else bootstraps it.
    pub fn begin_etcd(&self) {
        self.state.change(|inner| inner.has_etcd = true);
    }

    /// Waits until what came is as wished.
    pub fn wait_until(&self, wished: impl Fn(&Seen) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut inner = self.state.inner();
        while !wished(&inner.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("only {:?} came in {PATIENCE:?}", inner.seen);
            }
            let waited = self.state.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Talos {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the machine failed: {error:#}");
        }
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.inner());
        self.changed.notify_all();
        result
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(
    listener: TcpListener,
    tls: ServerTlsConfig,
    state: Arc<State>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let counter = Arc::clone(&state);
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?)
        .inspect(move |_| counter.change(|inner| inner.seen.connections += 1));
    let server = Server::builder()
        .tls_config(tls)?
        .add_service(MachineServiceServer::new(Api(state)))
        .serve_with_incoming(incoming);
    tokio::select! {
        served = server => served.context("the API ended"),
        _ = stopped => Ok(()),
    }
}

struct Api(Arc<State>);

#[tonic::async_trait]
impl MachineService for Api {
    async fn bootstrap(
        &self,
        _: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        let (answer, accepted) = self.0.change(|inner| {
            inner.seen.told += 1;
            let answer = inner.answers.pop_front();
            let accepted =
                matches!(answer, None | Some(Answer::SilentlyAccepted)) && !inner.has_etcd;
            if accepted {
                inner.seen.accepted += 1;
                inner.has_etcd = true;
            }
            (answer, accepted)
        });
        match answer {
            Some(Answer::NotReady) => Err(Status::failed_precondition("time is not in sync yet")),
            Some(Answer::Silence | Answer::SilentlyAccepted) => std::future::pending().await,
            None if accepted => {
                Ok(Response::new(BootstrapResponse { messages: vec![Bootstrap::default()] }))
            }
            None | Some(Answer::AlreadyExists) => {
                Err(Status::already_exists("etcd data directory is not empty"))
            }
        }
    }

    async fn etcd_member_list(
        &self,
        _: Request<EtcdMemberListRequest>,
    ) -> Result<Response<EtcdMemberListResponse>, Status> {
        if !self.0.change(|inner| {
            inner.seen.asked += 1;
            inner.has_etcd
        }) {
            return Err(Status::unknown("error building etcd client: context deadline exceeded"));
        }
        let member = EtcdMember { id: 1, hostname: "machine".to_owned() };
        let messages = vec![EtcdMembers { metadata: None, members: vec![member] }];
        Ok(Response::new(EtcdMemberListResponse { messages }))
    }

    async fn service_list(&self, _: Request<()>) -> Result<Response<ServiceListResponse>, Status> {
        let state = if self.0.inner().has_etcd { "Running" } else { "Preparing" };
        let services = [("apid", "Running"), ("etcd", state)];
        let services =
            services.map(|(id, state)| ServiceInfo { id: id.into(), state: state.into() });
        let messages = vec![ServiceList { metadata: None, services: services.into() }];
        Ok(Response::new(ServiceListResponse { messages }))
    }
}
