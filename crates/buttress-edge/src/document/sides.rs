//! The sections of a split and of a shadow. Their shares change in the running route.

use std::time::Duration;

use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::{InvalidConfig, Name, circuit_breaker, shadow, split};
use serde_json::Value;

use super::backends::Backends;
use super::before::Before;
use crate::Config;
use crate::route::{Route, RouteShadow, RouteSplit};

/// The keys of a split.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Split {
    upstream: Backends,
    #[serde(default)]
    share: f64,
    salt: Option<String>,
    #[serde(default)]
    stick_by_subject: bool,
    stick_by_header: Option<String>,
    force_by_header: Option<String>,
    #[serde(default)]
    fall_back: bool,
    circuit_breaker: Option<circuit_breaker::Config>,
}

/// The keys of a shadow.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Shadow {
    upstream: Backends,
    #[serde(default)]
    share: f64,
    max_running: Option<u64>,
    #[serde(default, deserialize_with = "buttress::duration_text::optional")]
    within: Option<Duration>,
    #[serde(default)]
    forward_credentials: bool,
    keep_one_in: Option<u64>,
    #[serde(default)]
    compare_fields: Vec<String>,
    max_compared_body: Option<u64>,
}

/// Returns an error with its path below `part`.
fn within(part: &'static str) -> impl Fn(InvalidConfig) -> InvalidConfig {
    move |error| {
        let path = format!("{part}.{}", error.field());
        InvalidConfig::new(path, error.value(), error.bound())
    }
}

impl Split {
    pub(super) fn add_to(
        self,
        route: Route,
        before: Before<'_>,
        proxy: &Config,
    ) -> Result<Route, InvalidConfig> {
        let clock = &proxy.clock;
        let same = |paths: &[&str]| before.same(paths).and_then(|route| route.split.as_ref());
        let label = Name::from(format!("{}/new", route.name));
        let upstream = match same(&["/split/upstream"]) {
            Some(kept) => kept.upstream.clone(),
            None => self.upstream.upstream(label, proxy).map_err(within("split"))?,
        };
        let name = Name::from(route.name.clone());
        let mut config = split::Config::new().share(self.share).name(name).clock(clock.clone());
        config = self.salt.into_iter().fold(config, split::Config::salt);
        let handle = match same(&["/split/salt"]) {
            Some(kept) => kept.handle.clone(),
            None => split::Handle::new(&config).map_err(within("split"))?,
        };
        let mut split = RouteSplit::new(upstream, &handle);
        split = match (self.stick_by_subject, self.stick_by_header) {
            (false, None) => split,
            (true, None) => split.stick_by_subject(),
            (false, Some(field)) => split.stick_by_header(field),
            (true, Some(_)) => {
                let bound = "set without `stick-by-subject`";
                return Err(InvalidConfig::new("split.stick-by-header", "set", bound));
            }
        };
        split = self.force_by_header.into_iter().fold(split, RouteSplit::force_by_header);
        if self.fall_back {
            split = split.fall_back();
        }
        if let Some(config) = self.circuit_breaker {
            let same = same(&["/split/circuit-breaker", "/split/upstream"]);
            let kept = same.and_then(|split| split.circuit.clone());
            let config = config.name(label).clock(clock.clone());
            let new = || CircuitBreakerLayer::new(config).map(|layer| layer.handle());
            let circuit = kept.map_or_else(new, Ok).map_err(within("split.circuit-breaker"))?;
            split = split.circuit_breaker(circuit);
        }
        Ok(route.split(split))
    }
}

impl Shadow {
    pub(super) fn add_to(
        self,
        route: Route,
        before: Before<'_>,
        proxy: &Config,
    ) -> Result<Route, InvalidConfig> {
        let clock = &proxy.clock;
        let same = |paths: &[&str]| before.same(paths).and_then(|route| route.shadow.as_ref());
        let label = Name::from(format!("{}/mirror", route.name));
        let upstream = match same(&["/shadow/upstream"]) {
            Some(kept) => kept.upstream.clone(),
            None => self.upstream.upstream(label, proxy).map_err(within("shadow"))?,
        };
        // An operator may have changed the share that the document leaves unchanged.
        let live = same(&["/shadow/share"]).map(|shadow| shadow.handle().stats().share);
        let name = Name::from(route.name.clone());
        let share = live.unwrap_or(self.share);
        let mut config = shadow::Config::new().share(share).name(name).clock(clock.clone());
        config = self.max_running.into_iter().fold(config, shadow::Config::max_running);
        config = self.within.into_iter().fold(config, shadow::Config::within);
        config = self.keep_one_in.into_iter().fold(config, shadow::Config::keep_one_in);
        let rules = ["/shadow/max-running", "/shadow/within", "/shadow/keep-one-in"];
        let shadow = match same(&rules) {
            Some(kept) => RouteShadow::continuing(upstream, kept),
            None => RouteShadow::new(upstream, config).map_err(within("shadow"))?,
        };
        let shadow = shadow.compare_fields(self.compare_fields);
        let shadow =
            self.max_compared_body.into_iter().fold(shadow, RouteShadow::max_compared_body);
        Ok(route.shadow(if self.forward_credentials {
            shadow.forward_credentials()
        } else {
            shadow
        }))
    }
}

/// The shares of a section. They are live: another share is no other route.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Shares {
    split: f64,
    shadow: f64,
}

impl Shares {
    pub(super) fn of(section: &Value) -> Self {
        let share = |path| section.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        Self { split: share("/split/share"), shadow: share("/shadow/share") }
    }

    /// Checks the shares before anything changes.
    pub(super) fn check(self) -> Result<(), InvalidConfig> {
        split::Handle::new(&split::Config::new().share(self.split)).map_err(within("split"))?;
        split::Handle::new(&split::Config::new().share(self.shadow)).map_err(within("shadow"))?;
        Ok(())
    }

    /// Sets the shares that differ from the previous document. An operator can have changed the other shares.
    pub(super) fn apply(self, before: Self, route: &Route) -> Result<(), InvalidConfig> {
        if let Some(split) = route.split.as_ref().filter(|_| self.split != before.split) {
            split.handle.share(self.split)?;
        }
        if let Some(shadow) = route.shadow.as_ref().filter(|_| self.shadow != before.shadow) {
            shadow.handle().share(self.shadow)?;
        }
        Ok(())
    }
}

/// Returns a section without its shares.
pub(super) fn lasting(section: &Value) -> Value {
    let mut section = section.clone();
    for part in ["split", "shadow"] {
        if let Some(part) = section.get_mut(part).and_then(Value::as_object_mut) {
            part.remove("share");
        }
    }
    section
}
