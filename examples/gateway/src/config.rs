//! Serves the routes of a file, and reads it again on SIGHUP, with the certificate that it names.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use buttress_edge::{Config, Document, Handle, Proxy, Replaced, serve};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower::BoxError;

use crate::log;
use crate::secure::{self, Tls};

/// What a file says besides its routes.
struct File {
    listen: SocketAddr,
    tls: Option<secure::Section>,
    document: Document,
}

impl File {
    fn read(path: &Path) -> Result<Self, BoxError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut table: toml::Table = text.parse().map_err(|error| on_one_line(&error, &text))?;
        let listen = table.remove("listen").ok_or("`listen` is missing, e.g. \"0.0.0.0:8080\"")?;
        let listen = listen.as_str().ok_or("`listen` is an address in quotes")?;
        let listen = listen.parse().map_err(|_| {
            format!("listen = {listen:?}: not an IP address and a port, e.g. \"0.0.0.0:8080\"")
        })?;
        let tls = table.remove("tls").map(secure::Section::deserialize).transpose();
        let tls = tls.map_err(|error| format!("tls: {}", error.message()))?;
        let document = Document::deserialize(table).map_err(|error| on_one_line(&error, &text))?;
        Ok(Self { listen, tls, document })
    }
}

/// Returns the message of an error and its line, without the text of that line: it may have a credential.
fn on_one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', " ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

pub(crate) async fn run(path: &Path) -> Result<ExitCode, BoxError> {
    // Before the routes: a file of instances, or a name server, may fail at the first look.
    log::begin();
    let file = File::read(path)?;
    let tls = Tls::read(file.tls.as_ref())?;
    let proxy = Proxy::new(Config::new(), [])?;
    proxy.handle().apply(&file.document)?;
    let listener = TcpListener::bind(file.listen).await?;
    // Before the first line: what reads it may send a signal.
    let (reload, interrupt) = (signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?);
    let mut terminate = signal(SignalKind::terminate())?;
    println!("serves on {}; SIGHUP reads {} again", listener.local_addr()?, path.display());
    let running = Running { handle: proxy.handle(), tls: tls.clone(), listen: file.listen };
    let reloads = tokio::spawn(reload_on(reload, running, path.to_owned()));
    let stop = async move {
        let mut interrupt = interrupt;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let served = tls.of(serve(listener, proxy.clone())).until(stop).await;
    reloads.abort();
    println!("{} connections, {} of them cut off by the drain", served.accepted, served.cut);
    for (name, stats) in proxy.stats() {
        println!("{name}: {} begun, {} answered", stats.begun, stats.answered);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file changes while the gateway runs.
struct Running {
    handle: Handle,
    tls: Tls,
    /// As the first file said it.
    listen: SocketAddr,
}

impl Running {
    /// Applies the file. Every step that can fail comes before the first change.
    fn apply(&self, path: &Path) -> Result<Replaced, BoxError> {
        let file = File::read(path)?;
        if file.listen != self.listen {
            let (old, new) = (self.listen, file.listen);
            let what =
                format!("listen = \"{new}\": cannot change from \"{old}\" while the gateway runs");
            return Err(what.into());
        }
        let tls = self.tls.next(file.tls.as_ref())?;
        let changes = self.handle.apply(&file.document)?;
        self.tls.replace(&tls);
        Ok(changes)
    }
}

/// Applies the file at each signal. A wrong file, or a certificate that cannot be read, changes nothing.
async fn reload_on(mut signal: Signal, running: Running, path: std::path::PathBuf) {
    while signal.recv().await.is_some() {
        match running.apply(&path) {
            Ok(changes) => println!(
                "read again: added {:?}, continued {:?}, removed {:?}",
                changes.added, changes.continued, changes.removed
            ),
            Err(error) => println!("not read again, nothing changed: {error}"),
        }
    }
}
