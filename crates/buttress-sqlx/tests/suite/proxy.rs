//! A TCP proxy in front of PostgreSQL that stops forwarding without closing.

use std::future::pending;
use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    port: u16,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    accepted: Mutex<u64>,
    /// Connections with a smaller number are silent.
    silent: watch::Sender<u64>,
    /// Connections with a smaller number are closed, and lose the held bytes.
    cut: watch::Sender<u64>,
    /// Once a client sends this word, answers are held.
    word: Mutex<Option<&'static str>>,
    held: watch::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy to the server of `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let server: PgConnectOptions = url.parse().unwrap();
        let server = format!("{}:{}", server.get_host(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Rules::default());
        let theirs = rules.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let number = {
                    let mut accepted = theirs.accepted.lock().unwrap();
                    *accepted += 1;
                    *accepted - 1
                };
                let ((ask, reply), (answer, send)) = (client.into_split(), server.into_split());
                tokio::spawn(pump(ask, send, number, theirs.clone(), true));
                tokio::spawn(pump(answer, reply, number, theirs.clone(), false));
            }
        });
        Self { port, rules }
    }

    /// Returns the URL of the database of `url` through the proxy. The sessions are called `name`.
    pub(crate) fn options(&self, url: &str, name: &str) -> PgConnectOptions {
        let options: PgConnectOptions = url.parse().unwrap();
        options.host("127.0.0.1").port(self.port).application_name(name)
    }

    /// Makes the current connections forward nothing, and keeps them open. New connections work.
    pub(crate) fn silence(&self) {
        self.rules.silent.send_replace(*self.rules.accepted.lock().unwrap());
    }

    /// Closes the current connections. Held answers are lost. New connections work.
    pub(crate) fn cut(&self) {
        self.rules.cut.send_replace(*self.rules.accepted.lock().unwrap());
        self.release();
    }

    /// Holds all answers from the next message on that contains `word`.
    pub(crate) fn hold_after(&self, word: &'static str) {
        *self.rules.word.lock().unwrap() = Some(word);
    }

    /// Waits until an answer is held.
    pub(crate) async fn holds(&self) {
        self.rules.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    /// Forwards the held answers.
    pub(crate) fn release(&self) {
        *self.rules.word.lock().unwrap() = None;
        self.rules.held.send_replace(false);
    }
}

impl Rules {
    fn listen(&self, message: &[u8]) {
        let word = self.word.lock().unwrap();
        if let Some(word) = word.map(str::as_bytes)
            && message.windows(word.len()).any(|window| window == word)
        {
            self.held.send_replace(true);
        }
    }
}

/// Waits until the value meets `condition`.
async fn until<T>(value: &mut watch::Receiver<T>, condition: impl FnMut(&T) -> bool) {
    let _ended = value.wait_for(condition).await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    rules: Arc<Rules>,
    is_client: bool,
) {
    let mut buffer = vec![0; 1 << 14];
    let mut silent = rules.silent.subscribe();
    let mut held = rules.held.subscribe();
    let mut cut = rules.cut.subscribe();
    loop {
        let read = tokio::select! {
            biased;
            () = until(&mut cut, |first| number < *first) => return,
            () = until(&mut silent, |first| number < *first) => return pending().await,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        let message = &buffer[..length];
        if is_client {
            rules.listen(message);
        } else {
            tokio::select! {
                biased;
                () = until(&mut cut, |first| number < *first) => return,
                () = until(&mut silent, |first| number < *first) => return pending().await,
                () = until(&mut held, |held| !held) => {}
            }
        }
        if to.write_all(message).await.is_err() {
            return;
        }
    }
}
