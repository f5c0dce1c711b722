//! Asks name servers, through hickory.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::proto::{ProtoError, ProtoErrorKind};
use hickory_resolver::{ResolveError, TokioResolver};

use super::state::Record;
use crate::race::both;

/// An answer, and how long it is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer<T> {
    pub found: Vec<T>,
    pub valid: Duration,
}

/// Makes the resolver: of the operating system's configuration, unless servers are given.
pub(super) fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, ResolveError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let mut config = ResolverConfig::new();
        for server in servers {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                config.add_name_server(NameServerConfig::new(*server, protocol));
            }
        }
        TokioResolver::builder_with_config(config, TokioConnectionProvider::default())
    };
    // The pace of the lookups heeds the time to live of the answers.
    builder.options_mut().cache_size = 0;
    // As the resolver of the operating system answers.
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    Ok(builder.build())
}

/// Asks for the SRV records of a name.
pub(super) async fn records(
    resolver: &TokioResolver,
    name: &str,
) -> Result<Answer<Record>, ResolveError> {
    let answer = resolver.srv_lookup(name).await?;
    let found = answer.iter().map(|srv| Record {
        priority: srv.priority(),
        weight: srv.weight(),
        port: srv.port(),
        target: srv.target().to_ascii(),
    });
    let ttls = answer.as_lookup().record_iter();
    // Records of another type may stand beside them.
    let ttls = ttls.filter(|record| record.record_type() == RecordType::SRV);
    Ok(Answer { found: found.collect(), valid: least(ttls.map(|record| record.ttl())) })
}

/// The answer to a question for the addresses of a target.
#[derive(Debug)]
pub(super) enum Addresses {
    Known(Answer<IpAddr>),
    /// A server says that the target has no address.
    None(ResolveError),
    /// The servers did not answer, or failed. The target may have addresses.
    Unknown(ResolveError),
}

/// Asks for the addresses of a target.
pub(super) async fn addresses(resolver: &TokioResolver, target: &str) -> Addresses {
    let error = match resolver.lookup_ip(target).await {
        Ok(answer) => {
            let ttls = answer.as_lookup().record_iter().map(|record| record.ttl());
            let valid = least(ttls);
            return Addresses::Known(Answer { found: answer.iter().collect(), valid });
        }
        Err(error) if !says_none(&error) => return Addresses::Unknown(error),
        Err(error) => error,
    };
    // The error may be the one of a family without addresses, while the lookup of the other family failed.
    let (v4, v6) = both(
        pin!(resolver.lookup(target, RecordType::A)),
        pin!(resolver.lookup(target, RecordType::AAAA)),
    )
    .await;
    match (v4, v6) {
        (Err(other), _) | (_, Err(other)) if !says_none(&other) => Addresses::Unknown(other),
        (Err(_), Err(_)) => Addresses::None(error),
        // The addresses have come since. The next lookup finds them.
        _ => Addresses::Unknown(error),
    }
}

/// Returns `true` if a server says that the name, or an address of it, does not exist.
fn says_none(error: &ResolveError) -> bool {
    matches!(
        error.proto().map(ProtoError::kind),
        Some(ProtoErrorKind::NoRecordsFound {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })
    )
}

fn least(ttls: impl Iterator<Item = u32>) -> Duration {
    Duration::from_secs(ttls.min().unwrap_or_default().into())
}
