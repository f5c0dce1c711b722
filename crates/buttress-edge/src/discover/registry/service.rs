//! [`RegistryService`]: the registry as a tower service.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use buttress::discover::Instance;
use buttress_http::client_key::{AddressKey, PeerAddr};
use buttress_http::context::Trust;
use bytes::Bytes;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::watch;
use tower::{BoxError, Service};

use super::Registry;
use super::answers::{Answer, Refused, bad_request, busy, json, page, refused, unknown};
use super::secret::Secrets;
use super::state::{Full, Rules, Set, State};
use super::wire::{Entry, Record, Taken, is_name};
use crate::Body;
use crate::race::first;
use crate::serve::places::Places;
use crate::upstream::Endpoint;

/// The longest body in bytes.
const LONGEST_BODY: usize = 4096;
/// The longest time until a body has arrived.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// The requests that may wait for a change.
const MAX_POLLS: usize = 1000;
/// The longest wait of a request, in seconds.
const LONGEST_WAIT: u64 = 30;

/// A [`Registry`] as a tower service. Cheap to clone; clones share the instances.
///
/// It never fails, and answers errors as problem documents. The address of a writer is the extension
/// [`PeerAddr`] of its request, which [`serve`](crate::serve()) sets.
///
/// # Cancel safety
/// Dropping the future of a request drops the request. A write has either happened or not.
#[derive(Clone)]
pub struct RegistryService {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Changes with every set.
    changed: watch::Sender<()>,
    polls: Places,
    /// Distinguishes the versions of this registry from the versions of an earlier registry.
    epoch: u128,
    ttl: Duration,
    secrets: Secrets,
    is_open: bool,
    networks: Option<Trust>,
    clock: Clock,
}

/// The numbers of a registry.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RegistryStats {
    /// Services with at least one instance.
    pub services: usize,
    /// Instances of all services.
    pub instances: usize,
    /// Requests that wait for a change.
    pub waiting: usize,
}

/// What a request asks for.
enum Place<'p> {
    Service(&'p str),
    Instance(&'p str, &'p str),
}

impl RegistryService {
    pub(super) fn new(registry: Registry, rules: Rules) -> Self {
        let Registry { ttl, secrets, is_open, networks, waits_per_address, clock } = registry;
        let shared = Shared {
            state: Mutex::new(State::new(rules, clock.now())),
            changed: watch::Sender::new(()),
            polls: Places::new(MAX_POLLS, waits_per_address),
            epoch: clock.unix().as_nanos(),
            ttl,
            secrets,
            is_open,
            networks,
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        let (services, instances) = self.shared.state().counts(self.shared.clock.now());
        RegistryStats { services, instances, waiting: self.shared.polls.total() }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code of a user runs under the lock, so the value is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, head: request::Parts, body: Body) -> Result<Answer, Refused> {
        let place = place(head.uri.path())?;
        let allowed = match place {
            Place::Service(_) => "GET",
            Place::Instance(..) => "GET, PUT, DELETE",
        };
        match (&head.method, place) {
            (&Method::GET, Place::Service(name)) => {
                let caller = head.extensions.get::<PeerAddr>();
                let caller = caller.map_or(AddressKey::Unknown, |PeerAddr(peer)| (*peer).into());
                self.read(name, head.uri.query(), caller).await
            }
            (&Method::GET, Place::Instance(name, id)) => self.one(name, id),
            (&Method::PUT, Place::Instance(name, id)) => {
                self.check_writer(&head.headers)?;
                let record = self.record(&head.extensions, body).await?;
                self.put(name, id, record)
            }
            (&Method::DELETE, Place::Instance(name, id)) => {
                self.check_writer(&head.headers)?;
                let changed = self.state().remove(self.clock.now(), name, id);
                self.announce(changed);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            _ => {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let mut response = refused(status, "bad-request", "the path has no such method");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                Err(response)
            }
        }
    }

    fn check_writer(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if self.is_open || self.secrets.admit(headers) {
            return Ok(());
        }
        let why = "the secret is missing or wrong";
        let mut response = refused(StatusCode::UNAUTHORIZED, "unauthenticated", why);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(response)
    }

    /// Reads the body of a heartbeat, and checks that its sender may announce the address.
    async fn record(&self, extensions: &Extensions, body: Body) -> Result<Record, Refused> {
        let body = pin!(Limited::new(body, LONGEST_BODY).collect());
        let limit = pin!(self.clock.sleep(BODY_LIMIT));
        let body = match first(body, limit).await {
            Some(Ok(body)) => body.to_bytes(),
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                let why = "the body is longer than 4096 bytes";
                return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "bad-request", why));
            }
            Some(Err(_)) => return Err(bad_request("the body broke off")),
            None => {
                let why = "the body did not arrive in time";
                return Err(refused(StatusCode::REQUEST_TIMEOUT, "bad-request", why));
            }
        };
        // The text of the error could repeat the body.
        let record: Record = serde_json::from_slice(&body).map_err(|_| {
            bad_request("the body is not a JSON object with address, weight and metadata")
        })?;
        if !(1..=Instance::MAX_WEIGHT).contains(&record.weight) {
            return Err(bad_request("the weight is not 1 to 1000000"));
        }
        let address = Endpoint::of(&Instance::at(record.address.as_str())).ok();
        let address = address.and_then(|endpoint| endpoint.ip()).ok_or_else(|| {
            bad_request("the address is neither an IP address with a port nor a URL with one")
        })?;
        if self.allows(address, extensions) {
            return Ok(record);
        }
        let why = "the address is not one that the sender may announce";
        Err(refused(StatusCode::FORBIDDEN, "forbidden", why))
    }

    fn allows(&self, address: IpAddr, extensions: &Extensions) -> bool {
        let Some(networks) = &self.networks else {
            let peer = extensions.get::<PeerAddr>();
            return peer.is_some_and(|PeerAddr(peer)| peer.to_canonical() == address);
        };
        let mut as_peer = Extensions::new();
        as_peer.insert(PeerAddr(address));
        networks.believes(&as_peer, &HeaderMap::new())
    }

    fn put(&self, name: &str, id: &str, record: Record) -> Result<Answer, Refused> {
        let put = self.state().put(self.clock.now(), name, id, record);
        let changed = put.map_err(|full| {
            busy(match full {
                Full::Services => "the registry is full: it has no room for another service",
                Full::Instances => "the service is full: it has no room for another instance",
                Full::Bytes => "the registry is full: its instances use all of its memory",
            })
        })?;
        self.announce(changed);
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        json(&Taken { ttl_ms })
    }

    /// Wakes the requests that wait.
    fn announce(&self, changed: bool) {
        if changed {
            self.changed.send_replace(());
        }
    }

    fn one(&self, name: &str, id: &str) -> Result<Answer, Refused> {
        let record = self.state().instance(self.clock.now(), name, id);
        let record = record.ok_or_else(|| {
            refused(StatusCode::NOT_FOUND, "not-found", "the service has no such instance")
        })?;
        json(&Entry { id, record: &record })
    }

    /// Returns the set of a service, now or once it is another one.
    async fn read(
        &self,
        name: &str,
        query: Option<&str>,
        caller: AddressKey,
    ) -> Result<Answer, Refused> {
        let (known, wait) = wait(query)?;
        let known = known.map(str::to_owned);
        let until = self.clock.now() + wait;
        let mut changed = self.changed.subscribe();
        let mut place = None;
        loop {
            changed.mark_unchanged();
            let now = self.clock.now();
            let (set, due) = {
                let mut state = self.state();
                (state.set(now, name), state.next_expiry(now, name))
            };
            let set = set.map_err(unknown)?;
            let version = self.version(&set);
            if known.as_ref() != Some(&version) || now >= until {
                return page(&set, version);
            }
            if place.is_none() {
                let free = self.polls.take(caller);
                place = Some(free.ok_or_else(|| busy("too many requests wait for a change"))?);
            }
            let until = due.map_or(until, |due| due.min(until));
            let mut next = pin!(async {
                // Changes of other services are many, and cost no look at the instances of this one.
                while self.state().version(name) == set.version {
                    if changed.changed().await.is_err() {
                        pending::<()>().await;
                    }
                }
            });
            first(next.as_mut(), pin!(self.clock.sleep_until(until))).await;
        }
    }

    /// Returns the version of a set as callers see it.
    fn version(&self, set: &Set) -> String {
        format!("{:x}-{}", self.epoch, set.version)
    }
}

/// Returns what a path names.
fn place(path: &str) -> Result<Place<'_>, Refused> {
    let none = || refused(StatusCode::NOT_FOUND, "not-found", "the registry has no such path");
    let rest = path.strip_prefix("/services/").ok_or_else(none)?;
    let (name, id) = match rest.split_once('/') {
        Some((name, id)) => (name, Some(id)),
        None => (rest, None),
    };
    if id.is_some_and(|id| id.contains('/')) {
        return Err(none());
    }
    if !is_name(name) || !id.is_none_or(is_name) {
        let why = "names and ids have 1 to 128 letters, digits, dots, underscores and hyphens";
        return Err(bad_request(why));
    }
    Ok(id.map_or(Place::Service(name), |id| Place::Instance(name, id)))
}

/// Returns the version that the caller knows, and how long it waits for another one.
fn wait(query: Option<&str>) -> Result<(Option<&str>, Duration), Refused> {
    let (mut version, mut wait) = (None, None);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let before = match key {
            "version" => version.replace(value),
            "wait" => wait.replace(value),
            _ => return Err(bad_request("the query has other keys than version and wait")),
        };
        if before.is_some() {
            return Err(bad_request("the query has a key twice"));
        }
    }
    let wait = match wait {
        None => LONGEST_WAIT,
        Some(text) => {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = text.parse().ok().filter(|seconds| is_number && *seconds <= LONGEST_WAIT);
            seconds.ok_or_else(|| bad_request("the wait is not 0 to 30 seconds"))?
        }
    };
    Ok((version, Duration::from_secs(wait)))
}

impl<B> Service<Request<B>> for RegistryService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let (head, body) = request.into_parts();
        Box::pin(async move {
            Ok(shared.answer(head, Body::new(body)).await.unwrap_or_else(|refused| *refused))
        })
    }
}

impl fmt::Debug for RegistryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryService").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
