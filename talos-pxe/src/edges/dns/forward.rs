//! Names that are not ours: asked of other servers, with a cache.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::Query;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use tracing::{debug, warn};

use super::slots::Slots;
use crate::decisions::dns::Forwarded;
use crate::time::BootTime;

/// How long a question may take: clients ask again, or elsewhere, after 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many questions may be under way; each has up to two sockets.
const QUESTIONS: usize = 128;
/// How many of them may be one client's.
const QUESTIONS_EACH: usize = 32;
/// The most answers in the cache.
const CACHE: u64 = 1024;
/// How long an answer may stay in it, whatever it says itself.
const CACHE_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it may stay in it that there is no such record.
const NEGATIVE_CACHE_TIME: Duration = Duration::from_secs(5 * 60);
/// How often it is logged that no server answers.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// Asks other servers.
pub struct Forwarder {
    resolver: TokioResolver,
    slots: Slots,
    /// When it was last logged that no server answers.
    complained: Mutex<Option<BootTime>>,
}

impl Forwarder {
    /// Asks `servers`, the fastest first.
    ///
    /// # Errors
    /// When the resolver cannot be made.
    pub fn new(servers: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let servers = servers.iter().map(|server| NameServerConfig::udp_and_tcp((*server).into()));
        let config = ResolverConfig::from_parts(None, vec![], servers.collect());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options();
        let resolver = builder.build().context("cannot make a DNS resolver")?;
        let slots = Slots::new(QUESTIONS, QUESTIONS_EACH);
        Ok(Self { resolver, slots, complained: Mutex::new(None) })
    }

    /// Asks for a client; answers within [`PATIENCE`].
    pub async fn ask(&self, query: Query, client: IpAddr) -> Forwarded {
        let Some(_slot) = self.slots.take(client) else {
            self.complain(&query, "too many questions are under way");
            return Forwarded::failed();
        };
        let lookup = self.resolver.lookup(query.name.clone(), query.query_type);
        let result = tokio::time::timeout(PATIENCE, lookup).await;
        match result.unwrap_or(Err(NetError::Timeout)) {
            Ok(found) => answered(&found),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => absent(none),
            Err(error @ NetError::Dns(_)) => {
                debug!(%query, %error, "DNS question not answered");
                Forwarded::failed()
            }
            Err(error) => {
                self.complain(&query, &error.to_string());
                Forwarded::failed()
            }
        }
    }

    /// Logs it, now and then: clients could fill the log otherwise.
    fn complain(&self, query: &Query, error: &str) {
        debug!(%query, error, "DNS question not answered");
        let now = BootTime::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|before| now.since(before) >= COMPLAINTS) {
            *complained = Some(now);
            warn!(
                name = %query.name,
                error,
                "DNS questions fail; check that the servers of --dns, or of the lease, answer"
            );
        }
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // The servers that do not answer at first come last the second time.
    options.timeout = PATIENCE / 2;
    options.attempts = 1;
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(CACHE_TIME);
    options.negative_max_ttl = Some(NEGATIVE_CACHE_TIME);
    // This machine's own names are not the network's.
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn answered(found: &Lookup) -> Forwarded {
    let message = found.message();
    Forwarded {
        code: message.metadata.response_code,
        answers: message.answers.clone(),
        authorities: vec![],
    }
}

fn absent(none: NoRecords) -> Forwarded {
    let authorities = none.soa.map(|soa| soa.into_record_of_rdata());
    Forwarded {
        code: none.response_code,
        answers: vec![],
        authorities: authorities.into_iter().collect(),
    }
}
