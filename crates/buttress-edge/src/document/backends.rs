//! The section of backends: where they come from, and how they are chosen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use buttress::discover::{Instance, Resolve};
use buttress::{Clock, InvalidConfig, Name, balance, discover};

use crate::Config;
use crate::discover::{Dns, dns};
use crate::upstream::Upstream;

/// The bounds of the time between two lookups.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The keys of backends.
#[derive(serde::Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table with the key `urls`, `file`, `dns`, `dns-srv` or `registry`"
)]
pub(super) struct Backends {
    urls: Option<Vec<String>>,
    file: Option<PathBuf>,
    dns: Option<String>,
    dns_srv: Option<String>,
    registry: Option<Registry>,
    #[serde(default, deserialize_with = "buttress::duration_text::optional")]
    every: Option<Duration>,
    servers: Option<Vec<SocketAddr>>,
    #[serde(default)]
    http2: bool,
    http2_streams: Option<u32>,
    #[serde(default)]
    balance: balance::Config,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(
    not(feature = "registry"),
    expect(dead_code, reason = "the feature that reads it is off")
)]
struct Registry {
    url: String,
    service: String,
}

/// Returns an error with a path in the section.
fn within(path: &'static str) -> impl Fn(InvalidConfig) -> InvalidConfig {
    move |error| InvalidConfig::new(path, error.value(), error.bound())
}

#[cfg(not(all(feature = "srv", feature = "registry")))]
fn without(path: &'static str, feature: &str) -> InvalidConfig {
    let bound = format!("possible: buttress-edge is built without its feature `{feature}`");
    InvalidConfig::new(path, "set", bound)
}

impl Backends {
    /// Makes the backends of a proxy with this configuration. An error has its path in the section of the route, below
    /// `upstream`.
    pub(super) fn upstream(self, label: Name, proxy: &Config) -> Result<Upstream, InvalidConfig> {
        let clock = &proxy.clock;
        let config = self.balance.clone().name(label).clock(clock.clone());
        let Self { every, http2, http2_streams, .. } = self;
        let lookups = (every, self.servers.clone());
        let source = self.source()?;
        check_lookups(&source, &lookups)?;
        let (every, servers) = lookups;
        let upstream = match source {
            Source::Urls(urls) => Upstream::balanced(urls.into_iter().map(Instance::at), config)
                .map_err(of_balance("upstream.urls"))?,
            Source::File(path) => {
                let file = discover::file(path).clock(clock.clone());
                found("upstream.file", every.into_iter().fold(file, discover::File::every), config)?
            }
            Source::Dns(name) => named(&name, every, config, clock)?,
            Source::DnsSrv(name) => {
                by_srv(&name, (every, servers.unwrap_or_default()), config, clock)?
            }
            Source::Registry(registry) => registry.upstream(config, proxy)?,
        };
        let streams = |value: &'static str, bound: &'static str| {
            Err(InvalidConfig::new("upstream.http2-streams", value, bound))
        };
        match (http2, http2_streams) {
            (true, None) => Ok(upstream.http2()),
            (true, Some(0)) => streams("0", "at least 1"),
            (true, Some(requests)) => Ok(upstream.http2_streams(requests)),
            (false, None) => Ok(upstream),
            (false, Some(_)) => streams("without http2", "set with http2"),
        }
    }

    /// Returns where the backends come from.
    fn source(self) -> Result<Source, InvalidConfig> {
        let Self { urls, file, dns, dns_srv, registry, .. } = self;
        let given = [
            ("urls", urls.map(Source::Urls)),
            ("file", file.map(Source::File)),
            ("dns", dns.map(Source::Dns)),
            ("dns-srv", dns_srv.map(Source::DnsSrv)),
            ("registry", registry.map(Source::Registry)),
        ];
        let mut given = given.into_iter().filter_map(|(name, source)| Some((name, source?)));
        let refused = |value: String| {
            let bound = "exactly one of `urls`, `file`, `dns`, `dns-srv` and `registry`";
            Err(InvalidConfig::new("upstream", value, bound))
        };
        let Some((first, source)) = given.next() else { return refused("nothing".into()) };
        let others: Vec<&str> = given.map(|(name, _)| name).collect();
        if others.is_empty() {
            return Ok(source);
        }
        refused(format!("{first}, {}", others.join(", ")))
    }
}

/// Where backends come from.
enum Source {
    Urls(Vec<String>),
    File(PathBuf),
    Dns(String),
    DnsSrv(String),
    Registry(Registry),
}

/// Checks the time between two lookups, and the name servers.
fn check_lookups(
    source: &Source,
    (every, servers): &(Option<Duration>, Option<Vec<SocketAddr>>),
) -> Result<(), InvalidConfig> {
    if let Some(servers) = servers {
        let refused = |value: String, bound: &'static str| {
            Err(InvalidConfig::new("upstream.servers", value, bound))
        };
        if !matches!(source, Source::DnsSrv(_)) {
            return refused("set without `dns-srv`".into(), "set with `dns-srv`");
        }
        if servers.is_empty() {
            let bound = "at least one address, or unset for the servers of the operating system";
            return refused("no address".into(), bound);
        }
        if let Some(server) = servers.iter().find(|server| server.port() == 0) {
            return refused(server.to_string(), "addresses with a port from 1 to 65535");
        }
    }
    if matches!(source, Source::File(path) if path.as_os_str().is_empty()) {
        return Err(InvalidConfig::new("upstream.file", "\"\"", "the path of a file"));
    }
    let Some(every) = every else { return Ok(()) };
    let refused = |value: String, bound: &'static str| {
        Err(InvalidConfig::new("upstream.every", value, bound))
    };
    if matches!(source, Source::Urls(_) | Source::Registry(_)) {
        let value = format!("{every:?} without one of these");
        return refused(value, "set with `file`, `dns` or `dns-srv`");
    }
    if !(SHORTEST..=LONGEST).contains(every) {
        return refused(format!("{every:?}"), "from 1s to 365d");
    }
    Ok(())
}

/// Returns an error of backends with the path of their key, or one of their balancer with its path.
fn of_balance(key: &'static str) -> impl Fn(InvalidConfig) -> InvalidConfig {
    move |error| {
        let path = match error.field() {
            "upstream" => key.to_owned(),
            field => format!("upstream.balance.{field}"),
        };
        InvalidConfig::new(path, error.value(), error.bound())
    }
}

/// Makes backends that `resolve` finds.
fn found(
    path: &'static str,
    resolve: impl Resolve + 'static,
    config: balance::Config,
) -> Result<Upstream, InvalidConfig> {
    if tokio::runtime::Handle::try_current().is_err() {
        let bound = "applied inside of a tokio runtime, whose task looks for the backends";
        return Err(InvalidConfig::new(path, "outside of a tokio runtime", bound));
    }
    Upstream::resolving(resolve, config).map_err(of_balance(path))
}

fn named(
    name: &str,
    every: Option<Duration>,
    config: balance::Config,
    clock: &Clock,
) -> Result<Upstream, InvalidConfig> {
    let path = "upstream.dns";
    let dns = dns(name).map_err(within(path))?.clock(clock.clone());
    found(path, every.into_iter().fold(dns, Dns::every), config)
}

#[cfg(feature = "srv")]
fn by_srv(
    name: &str,
    (every, servers): (Option<Duration>, Vec<SocketAddr>),
    config: balance::Config,
    clock: &Clock,
) -> Result<Upstream, InvalidConfig> {
    use crate::discover::{Srv, srv};

    let path = "upstream.dns-srv";
    let srv = srv(name).map_err(within(path))?.servers(servers).clock(clock.clone());
    found(path, every.into_iter().fold(srv, Srv::every), config)
}

#[cfg(not(feature = "srv"))]
fn by_srv(
    _: &str,
    _: (Option<Duration>, Vec<SocketAddr>),
    _: balance::Config,
    _: &Clock,
) -> Result<Upstream, InvalidConfig> {
    Err(without("upstream.dns-srv", "srv"))
}

impl Registry {
    #[cfg(feature = "registry")]
    fn upstream(self, config: balance::Config, proxy: &Config) -> Result<Upstream, InvalidConfig> {
        let clock = || proxy.clock.clone();
        let client = crate::discover::registry_config().clock(clock());
        #[cfg(feature = "tls")]
        let client = proxy.roots.iter().fold(client, |client, roots| client.roots(roots.clone()));
        let client = crate::client::ServiceClient::with(&self.url, client)
            .map_err(within("upstream.registry.url"))?;
        let resolve = crate::discover::RegistryClient::over(client, &self.service)
            .map_err(within("upstream.registry.service"))?;
        found("upstream.registry", resolve.clock(clock()), config)
    }

    #[cfg(not(feature = "registry"))]
    fn upstream(self, _: balance::Config, _: &Config) -> Result<Upstream, InvalidConfig> {
        Err(without("upstream.registry", "registry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_5_14_a_document_sets_the_time_between_lookups() {
        let read = |text: &str| toml::from_str::<Backends>(text).unwrap().every;
        assert_eq!(read("dns = \"b:80\"\nevery = \"1.5s\""), Some(Duration::from_millis(1500)));
        assert_eq!(read("dns = \"b:80\""), None);
    }
}
