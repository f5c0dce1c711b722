//! Finds the route of a request. The decision takes a host, a matched path and a method.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use buttress::InvalidConfig;
use http::Method;

use super::{Checked, Host};

/// The routes of a proxy by host and prefix. The time of a search does not depend on their number.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The routes below a wildcard, by the text after the `*`.
    below: HashMap<String, Prefixes, Hash>,
    exact: HashMap<String, Prefixes, Hash>,
    any: Prefixes,
}

type Hash = BuildHasherDefault<Fnv>;

/// FNV-1a: for keys of this length it costs a third of the default. The keys come from the configuration, so a client
/// cannot let them meet in one place.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The routes of a host.
#[derive(Debug, Default)]
struct Prefixes {
    routes: HashMap<Vec<u8>, Vec<Entry>, Hash>,
    /// The length of the longest prefix, so that a long path costs no more than a short one.
    longest: usize,
}

#[derive(Debug)]
struct Entry {
    /// Empty for every method.
    methods: Vec<Method>,
    /// The index of the route.
    route: usize,
}

/// The result of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The index of a route.
    Route(usize),
    /// Routes match, and none has the method. The methods that they have, in order.
    WrongMethod(Vec<Method>),
    Nothing,
}

impl Table {
    /// Refuses two routes that match the same requests with the same rank.
    pub(crate) fn new(routes: &[Checked]) -> Result<Self, InvalidConfig> {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let equal = |other: &str| {
                let value = format!("{:?} and {other:?}", route.name);
                InvalidConfig::new("routes", value, "two routes that differ")
            };
            if let Some(other) = routes.iter().take(index).find(|other| other.name == route.name) {
                return Err(equal(&other.name));
            }
            let prefixes = match &route.host {
                Host::Exact(host) => table.exact.entry(host.clone()).or_default(),
                Host::Below(suffix) => table.below.entry(suffix.clone()).or_default(),
                Host::Any => &mut table.any,
            };
            prefixes.longest = prefixes.longest.max(route.prefix.len());
            let entries = prefixes.routes.entry(route.prefix.clone()).or_default();
            if let Some(other) = entries.iter().find(|other| other.overlaps(&route.methods)) {
                let name = routes.get(other.route).map_or("", |other| &*other.name);
                return Err(equal(name));
            }
            let entry = Entry { methods: route.methods.clone(), route: index };
            // Routes with methods come first.
            let at = if entry.methods.is_empty() { entries.len() } else { 0 };
            entries.insert(at, entry);
        }
        Ok(table)
    }

    /// Finds the route of a request. `host` is normalized, `None` if the request has none. `path`
    /// is in its matched form.
    pub(crate) fn find(&self, host: Option<&str>, path: &[u8], method: &Method) -> Found {
        let mut allowed = Vec::new();
        let found = self.of_host(host).find_map(|prefixes| {
            prefixes.of_path(path).flatten().find_map(|entry| {
                if entry.accepts(method) {
                    return Some(entry.route);
                }
                for method in &entry.methods {
                    if !allowed.contains(method) {
                        allowed.push(method.clone());
                    }
                }
                None
            })
        });
        match found {
            Some(route) => Found::Route(route),
            None if allowed.is_empty() => Found::Nothing,
            None => Found::WrongMethod(allowed),
        }
    }

    /// Returns the routes for a host, the most specific first.
    fn of_host<'t>(&'t self, host: Option<&'t str>) -> impl Iterator<Item = &'t Prefixes> {
        let host = host.unwrap_or_default();
        let exact = self.exact.get(host);
        let dots = host.match_indices('.').filter(|_| !self.below.is_empty());
        let below = dots.filter_map(|(dot, _)| self.below.get(host.get(dot..)?));
        exact.into_iter().chain(below).chain([&self.any])
    }
}

impl Prefixes {
    /// Returns the routes with a prefix of `path`, the longest prefix first.
    fn of_path<'t>(&'t self, path: &'t [u8]) -> impl Iterator<Item = &'t [Entry]> {
        // A prefix ends before a slash or at the end of the path.
        let known = path.get(..=self.longest).unwrap_or(path);
        let whole = (known.len() == path.len()).then_some(path);
        let before_slash = known.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
        let cut = before_slash.filter_map(|(slash, _)| path.get(..slash));
        whole.into_iter().chain(cut).filter_map(|prefix| Some(&**self.routes.get(prefix)?))
    }
}

impl Entry {
    fn accepts(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Whether some method finds both this route and one with `methods`, at the same rank.
    fn overlaps(&self, methods: &[Method]) -> bool {
        if self.methods.is_empty() || methods.is_empty() {
            return self.methods.is_empty() && methods.is_empty();
        }
        self.methods.iter().any(|method| methods.contains(method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Route, Upstream};

    fn route(name: &str) -> Route {
        Route::new(name).to(Upstream::fixed(["http://127.0.0.1:1"]).unwrap()).public()
    }

    fn table(routes: impl IntoIterator<Item = Route>) -> (Vec<Checked>, Table) {
        let routes: Vec<_> = routes.into_iter().map(|route| route.check().unwrap()).collect();
        let table = Table::new(&routes).unwrap();
        (routes, table)
    }

    fn name(routes: &(Vec<Checked>, Table), method: Method, host: &str, path: &str) -> String {
        match routes.1.find(Some(host), path.as_bytes(), &method) {
            Found::Route(index) => routes.0[index].name.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn edge_2_1_host_then_prefix_then_method() {
        let routes = table([
            route("any"),
            route("any-long").prefix("/api/orders"),
            route("below").host("*.example"),
            route("below-longer").host("*.shop.example"),
            route("exact").host("www.shop.example"),
            route("exact-api").host("www.shop.example").prefix("/api"),
            route("exact-api-post").host("www.shop.example").prefix("/api").methods([Method::POST]),
            route("exact-put").host("www.shop.example").prefix("/put").methods([Method::PUT]),
        ]);
        let get = |host, path| name(&routes, Method::GET, host, path);
        assert_eq!(get("other", "/"), "any");
        assert_eq!(get("other", "/api/orders/7"), "any-long");
        assert_eq!(get("a.example", "/api/orders"), "below");
        assert_eq!(get("a.b.example", "/"), "below");
        assert_eq!(get("example", "/"), "any");
        assert_eq!(get("a.shop.example", "/"), "below-longer");
        assert_eq!(get("www.shop.example", "/"), "exact");
        assert_eq!(get("www.shop.example", "/api/orders"), "exact-api");
        let post = name(&routes, Method::POST, "www.shop.example", "/api/orders");
        assert_eq!(post, "exact-api-post");
        // A route whose method does not match does not match.
        assert_eq!(get("www.shop.example", "/put"), "exact");
    }

    #[test]
    fn edge_2_1_a_less_specific_host_serves_what_the_specific_one_does_not_have() {
        let routes = table([route("exact").host("a").prefix("/x"), route("any").prefix("/y")]);
        assert_eq!(name(&routes, Method::GET, "a", "/x"), "exact");
        assert_eq!(name(&routes, Method::GET, "a", "/y"), "any");
        assert_eq!(name(&routes, Method::GET, "a", "/z"), "Nothing");
    }

    #[test]
    fn edge_2_1_two_equal_routes_are_an_error_that_names_both() {
        let equal = [
            [route("one"), route("two")],
            [route("one").host("A.b."), route("two").host("a.b")],
            [route("one").prefix("/%61"), route("two").prefix("/a")],
            [route("one").methods([Method::GET, Method::PUT]), route("two").methods([Method::PUT])],
        ];
        for routes in equal {
            let routes = routes.map(|route| route.check().unwrap());
            let error = Table::new(&routes).unwrap_err().to_string();
            assert!(error.contains("one") && error.contains("two"), "{error}");
        }
        let twice = [route("one"), route("one").prefix("/x")].map(|route| route.check().unwrap());
        assert!(Table::new(&twice).is_err());
        drop(table([route("one"), route("two").methods([Method::GET])]));
    }

    #[test]
    fn edge_2_2_a_prefix_matches_whole_segments() {
        let routes = table([route("api").prefix("/api")]);
        for path in ["/api", "/api/", "/api/x", "/api/x/y/"] {
            assert_eq!(name(&routes, Method::GET, "a", path), "api", "{path}");
        }
        for path in ["/", "/apiary", "/ap", "/x/api", "/api.", "/API"] {
            assert_eq!(name(&routes, Method::GET, "a", path), "Nothing", "{path}");
        }
    }

    #[test]
    fn edge_2_5_one_route_or_five_hundred_behave_alike() {
        let many = |count: usize| {
            table((0..count).flat_map(|n| {
                let host = format!("h{n}.example");
                [
                    route(&format!("a{n}")).host(host.clone()).prefix(format!("/p{n}")),
                    route(&format!("b{n}")).host(host).prefix(format!("/p{n}/deeper")),
                ]
            }))
        };
        for count in [1, 99, 100, 101, 500] {
            let routes = many(count);
            for n in [0, count / 2, count - 1] {
                let host = format!("h{n}.example");
                let get = |path: &str| name(&routes, Method::GET, &host, path);
                assert_eq!(get(&format!("/p{n}")), format!("a{n}"));
                assert_eq!(get(&format!("/p{n}/deeper/x")), format!("b{n}"));
                assert_eq!(get(&format!("/p{}", n + 1)), "Nothing");
            }
        }
    }

    #[test]
    fn a_wrong_method_lists_the_methods_of_all_routes_that_match() {
        let routes = table([
            route("one").prefix("/a").methods([Method::GET, Method::POST]),
            route("two").methods([Method::GET, Method::PUT]),
        ]);
        let found = routes.1.find(None, b"/a", &Method::DELETE);
        assert_eq!(found, Found::WrongMethod(vec![Method::GET, Method::POST, Method::PUT]));
        assert_eq!(
            routes.1.find(None, b"/b", &Method::POST),
            Found::WrongMethod(vec![Method::GET, Method::PUT])
        );
    }

    #[test]
    fn a_route_that_cannot_work_is_refused_with_its_field() {
        let upstream = || Upstream::fixed(["http://127.0.0.1:1"]).unwrap();
        let cases = [
            (Route::new("a").to(upstream()), "routes.a.admit"),
            (Route::new("a").public(), "routes.a.to"),
            (Route::new("").to(upstream()).public(), "routes"),
            (route("a").host("a:80"), "routes.a.host"),
            (route("a").host("*"), "routes.a.host"),
            (route("a").host("*.*.b"), "routes.a.host"),
            (route("a").host(""), "routes.a.host"),
            (route("a").prefix("api"), "routes.a.prefix"),
            (route("a").prefix("/api/"), "routes.a.prefix"),
            (route("a").prefix("/a/../b"), "routes.a.prefix"),
            (route("a").prefix("/a%2fb"), "routes.a.prefix"),
            (route("a").prefix("/api").strip("/ap"), "routes.a.strip"),
            (route("a").prefix("/api").strip("/api/x"), "routes.a.strip"),
            (route("a").methods([Method::TRACE]), "routes.a.methods"),
            (route("a").methods([Method::CONNECT]), "routes.a.methods"),
        ];
        for (route, field) in cases {
            assert_eq!(route.check().unwrap_err().field(), field);
        }
    }
}
