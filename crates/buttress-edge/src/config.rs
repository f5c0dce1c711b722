//! [`Config`]: the settings that all routes of a proxy share.

use std::time::Duration;

use buttress::__setters as setters;
use buttress::{Clock, InvalidConfig};
use buttress_http::context::Trust;

/// The configuration of a [`Proxy`](crate::Proxy). The defaults suit services on one network.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(crate) name: String,
    pub(crate) connect: Duration,
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) pool_idle: Duration,
    pub(crate) pool_size: usize,
    pub(crate) trust: Trust,
    pub(crate) clock: Clock,
    #[cfg(feature = "tls")]
    pub(crate) roots: Option<crate::Roots>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::from("buttress"),
            connect: Duration::from_secs(2),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            pool_idle: Duration::from_secs(15),
            pool_size: 32,
            trust: Trust::None,
            clock: Clock::default(),
            #[cfg(feature = "tls")]
            roots: None,
        }
    }
}

impl Config {
    /// Creates the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the name of the proxy in `Via` and `Proxy-Status`: a token that starts with a letter. Default:
        /// `buttress`.
        ///
        /// The proxy answers 508 to a request whose `Via` field already has this name five times.
        /// Proxies in a row need different names.
        name(name: impl Into<String>) => name.into();

        /// Sets the longest time to connect to a backend, name resolution included. Default: 2 seconds. A backend on
        /// the same network answers in milliseconds, and a lost packet is repeated after 1 second.
        connect_limit(limit: Duration) sets connect;

        /// Sets the longest time that a backend takes for the head of its answer. Default: 10 seconds.
        ///
        /// The time starts when the last byte of the request's body was handed to the connection. For a
        /// request without a body it starts with the attempt.
        head_limit(limit: Duration) sets head;

        /// Sets the longest time between two frames of a body, in either direction. Default: 60 seconds. A
        /// slow but steady stream has no limit.
        idle_limit(limit: Duration) sets idle;

        /// Sets how long an unused connection to a backend is kept. Default: 15 seconds, below the 60 to
        /// 75 seconds after which servers close connections.
        pool_idle_limit(limit: Duration) sets pool_idle;

        /// Sets how many unused connections are kept per backend. Default: 32.
        pool_size(connections: usize);

        /// Sets the peers whose `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Real-IP` and `Forwarded`
        /// are kept, and `X-Shadow`, the mark of a [copy](crate::RouteShadow). Default: none, and these fields are
        /// replaced or removed.
        ///
        /// Use [`Trust::gateways`] for a load balancer in front of the proxy: it believes the load balancer, whichever
        /// client is behind it. [`Trust::networks`] believes only requests of your own services.
        ///
        /// The address of the peer is the extension
        /// [`PeerAddr`](buttress_http::client_key::PeerAddr) of the request.
        trust(trust: Trust);

        /// Sets the authorities that vouch for backends of `https`. Default: the authorities of the operating system,
        /// which are read before the first connection. Without usable ones the connection fails, and the request is
        /// answered with 502.
        #[cfg(feature = "tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        roots(roots: crate::Roots) => Some(roots);

        /// Sets the clock of all limits. Default: tokio's.
        clock(clock: Clock);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        for (field, limit) in [
            ("connect-limit", self.connect),
            ("head-limit", self.head),
            ("idle-limit", self.idle),
            ("pool-idle-limit", self.pool_idle),
        ] {
            if limit.is_zero() {
                return Err(InvalidConfig::new(field, "0s", "longer than zero"));
            }
        }
        if self.connect > self.head {
            let value = format!("{:?}", self.connect);
            let bound = format!("at most the head limit, {:?}", self.head);
            return Err(InvalidConfig::new("connect-limit", value, bound));
        }
        Ok(())
    }
}
