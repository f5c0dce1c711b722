//! The proxies that are measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::idle::with_all_descriptors;
use crate::server::{Server, free_address};
use crate::{Error, build, built, peers};

pub const BARE: &str = "bare hyper";
pub const ONE_ROUTE: &str = "buttress, 1 route";
pub const ROUTES: &str = "buttress, 100 routes";
pub const MANY_ROUTES: &str = "buttress, 500 routes";
pub const FULL: &str = "buttress, all limits, 3 backends";
pub const PINGORA: &str = "pingora";
pub const AXUM: &str = "axum-reverse-proxy";
pub const ENVOY: &str = "Envoy";

/// A running proxy.
pub struct Candidate {
    pub name: &'static str,
    pub server: Server,
}

/// The backend of all proxies, and where it listens.
pub struct Backend {
    pub addresses: Vec<SocketAddr>,
    _server: Server,
}

impl Backend {
    pub fn start() -> Result<Self, Error> {
        build(&["servers"])?;
        Self::start_built()
    }

    /// Starts the program that was built before.
    pub fn start_built() -> Result<Self, Error> {
        let addresses = (0..3).map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
        let first = *addresses.first().ok_or("no address")?;
        let command = program("backend", &[&list(&addresses)])?;
        Ok(Self { _server: Server::start(command, first)?, addresses })
    }

    fn first(&self) -> Result<SocketAddr, Error> {
        Ok(*self.addresses.first().ok_or("no address")?)
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    addresses.join(",")
}

/// The command of a program that cargo built here.
fn program(name: &str, arguments: &[&str]) -> Result<Command, Error> {
    let path = built()?.join(name);
    Ok(with_all_descriptors(path.to_str().ok_or("a path that is not text")?, arguments))
}

/// The name of a program of this workspace, and its arguments.
pub fn arguments(name: &str, listen: SocketAddr, backend: &Backend) -> Result<Vec<String>, Error> {
    let backends = if name == FULL { &*backend.addresses } else { &[backend.first()?] };
    let mut arguments = vec![listen.to_string(), list(backends)];
    let (program, what) = match name {
        BARE => ("bare", None),
        ONE_ROUTE => ("gateway", Some("1")),
        ROUTES => ("gateway", Some("100")),
        MANY_ROUTES => ("gateway", Some("500")),
        FULL => ("gateway", Some("full")),
        PINGORA => ("pingora_proxy_peer", None),
        AXUM => ("axum_reverse_proxy_peer", None),
        other => (other, None),
    };
    arguments.extend(what.map(str::to_owned));
    arguments.insert(0, program.to_owned());
    Ok(arguments)
}

/// Starts one of the programs of this workspace.
pub fn start(name: &'static str, backend: &Backend) -> Result<Candidate, Error> {
    let listen = free_address()?;
    let arguments = arguments(name, listen, backend)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (first, rest) = arguments.split_first().ok_or("no program")?;
    Ok(Candidate { name, server: Server::start(program(first, rest)?, listen)? })
}

/// The started candidates, what was left out and why, and the versions of the peers.
pub struct All {
    pub candidates: Vec<Candidate>,
    pub skipped: Vec<String>,
    pub versions: Vec<String>,
}

/// Starts every candidate but the peers of `without`. A peer that is not installed or does not build is left out.
pub fn start_all(backend: &Backend, folder: &Path, without: &[&str]) -> Result<All, Error> {
    let mut all = All { candidates: Vec::new(), skipped: Vec::new(), versions: Vec::new() };
    for name in [BARE, ONE_ROUTE, ROUTES, MANY_ROUTES, FULL] {
        all.candidates.push(start(name, backend)?);
    }
    for (name, package) in [(PINGORA, "pingora_proxy_peer"), (AXUM, "axum_reverse_proxy_peer")] {
        if all.takes(name, without) {
            let started = build(&[package]).and_then(|()| start(name, backend));
            all.add(name, started);
        }
    }
    type Configure = fn(&Path, SocketAddr, SocketAddr) -> Result<Command, Error>;
    let installed: [(&'static str, &str, &str, Configure); 3] = [
        ("nginx", "nginx", "-v", peers::nginx),
        ("HAProxy", "haproxy", "-v", peers::haproxy),
        (ENVOY, "envoy", "--version", peers::envoy),
    ];
    for (name, program, argument, configure) in installed {
        if !all.takes(name, without) {
            continue;
        }
        let Some(version) = peers::version(program, argument) else {
            all.skipped.push(format!("{name}: not installed"));
            continue;
        };
        let folder: PathBuf = folder.join(program);
        std::fs::create_dir_all(&folder)?;
        let listen = free_address()?;
        let started = configure(&folder, listen, backend.first()?)
            .and_then(|command| Server::start(command, listen));
        if all.add(name, started.map(|server| Candidate { name, server })) {
            all.versions.push(version);
        }
    }
    Ok(all)
}

impl All {
    fn takes(&mut self, name: &str, without: &[&str]) -> bool {
        let takes = !without.contains(&name);
        if !takes {
            self.skipped.push(format!("{name}: left out by an argument"));
        }
        takes
    }

    fn add(&mut self, name: &str, started: Result<Candidate, Error>) -> bool {
        match started {
            Ok(candidate) => {
                self.candidates.push(candidate);
                true
            }
            Err(error) => {
                self.skipped.push(format!("{name}: {error}"));
                false
            }
        }
    }
}
