//! Where a route goes: to backends, or to a service of this process.

use std::sync::Arc;

use buttress::{InvalidConfig, circuit_breaker, split};
use http::Method;

use super::local::LocalService;
use super::shadow::{self, RouteShadow};
use super::split::{Choice, RouteSplit};
use crate::forward::{Again, Sending};
use crate::upstream::Upstream;

/// Where a route goes.
#[derive(Debug)]
pub(crate) enum To {
    Backends(Arc<Backends>),
    Service(LocalService),
}

/// The backends of a route.
#[derive(Debug)]
pub(crate) struct Backends {
    pub sending: Sending,
    /// `None` if all requests go to the same backends.
    pub split: Option<Sides>,
    /// `None` if no request is copied.
    pub shadow: Option<shadow::Checked>,
}

/// The new side of a route.
#[derive(Debug)]
pub(crate) struct Sides {
    pub choice: Choice,
    pub sending: Sending,
    pub handle: split::Handle,
    pub falls_back: bool,
    pub circuit: Option<circuit_breaker::Handle>,
}

/// The target of a route, before the check.
pub(super) struct Stated {
    pub upstream: Option<Upstream>,
    pub service: Option<LocalService>,
    pub split: Option<RouteSplit>,
    pub shadow: Option<RouteShadow>,
    pub again: Option<Again>,
    pub replay_buffer: usize,
    pub honours_keys: bool,
}

impl Stated {
    /// Checks the ends of a route with these methods. `methods` is empty for all methods. `field` returns the path of a key.
    pub(super) fn check(
        self,
        methods: &[Method],
        field: impl Fn(&str) -> String,
    ) -> Result<To, InvalidConfig> {
        let invalid = |name: &str, value: &str, bound: &'static str| {
            InvalidConfig::new(field(name), value.to_owned(), bound)
        };
        match (&self.upstream, &self.service) {
            (None, None) => Err(invalid("to", "nothing", "an upstream or a service")),
            (Some(_), Some(_)) => Err(invalid("to", "an upstream and a service", "one of the two")),
            (None, Some(service)) => {
                let of_backends = [
                    ("retry", self.again.is_some()),
                    ("split", self.split.is_some()),
                    ("shadow", self.shadow.is_some()),
                ];
                match of_backends.into_iter().find(|(_, is_set)| *is_set) {
                    Some((name, _)) => {
                        let bound = "unset on a route to a service: put a layer around the service";
                        Err(invalid(name, "set", bound))
                    }
                    None => Ok(To::Service(service.clone())),
                }
            }
            (Some(upstream), None) => {
                let upstream = upstream.clone();
                Ok(To::Backends(Arc::new(self.backends(upstream, methods, field)?)))
            }
        }
    }

    fn backends(
        self,
        upstream: Upstream,
        methods: &[Method],
        field: impl Fn(&str) -> String,
    ) -> Result<Backends, InvalidConfig> {
        let Self { split, shadow, again, replay_buffer, honours_keys, .. } = self;
        let is_http2 = upstream.is_http2();
        let versions = [
            ("split.upstream.http2", split.as_ref().map(|split| split.upstream.is_http2())),
            ("shadow.upstream.http2", shadow.as_ref().map(|shadow| shadow.upstream.is_http2())),
        ];
        for (name, other) in versions {
            if other.is_some_and(|other| other != is_http2) {
                let bound = "the version of the route's own backends";
                return Err(InvalidConfig::new(field(name), "another version of HTTP", bound));
            }
        }
        let sending = |upstream| Sending {
            upstream: Arc::new(upstream),
            again: again.clone(),
            replay_buffer,
            honours_keys,
        };
        let split = match split {
            None => None,
            Some(split) => Some(Sides {
                choice: split.choice().map_err(|error| {
                    InvalidConfig::new(field(error.field()), error.value(), error.bound())
                })?,
                sending: sending(split.upstream),
                handle: split.handle,
                falls_back: split.falls_back,
                circuit: split.circuit,
            }),
        };
        let shadow = shadow.map(|shadow| {
            shadow.check(methods).map_err(|error| {
                InvalidConfig::new(field(error.field()), error.value(), error.bound())
            })
        });
        Ok(Backends { sending: sending(upstream), split, shadow: shadow.transpose()? })
    }
}
