use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress_http::client_key::PeerAddr;
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tower::Service;

use crate::forward::Connector;
use crate::serve::connection::{Connections, Stage};
use crate::{Config, Proxy, Route, Upstream};

/// The backends that can be connected to, by authority. All others refuse.
#[derive(Clone, Default)]
pub(crate) struct Network {
    backends: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<DuplexStream>>>>,
    dialled: Arc<Mutex<Vec<String>>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    pub(crate) async fn connect(&self, uri: &Uri) -> io::Result<DuplexStream> {
        let authority = uri.authority().unwrap().to_string();
        self.dialled.lock().unwrap().push(authority.clone());
        if authority == "exhausted" {
            // EMFILE.
            return Err(io::Error::from_raw_os_error(24));
        }
        if authority == "never" {
            return std::future::pending().await;
        }
        let backends = self.backends.lock().unwrap();
        let backend = backends.get(&authority).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = duplex(64 * 1024);
        backend.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    pub(crate) fn listen(&self, authority: &str) -> Backend {
        let (sender, connections) = mpsc::unbounded_channel();
        self.backends.lock().unwrap().insert(authority.to_owned(), sender);
        Backend { connections }
    }

    pub(super) fn dialled(&self) -> Vec<String> {
        self.dialled.lock().unwrap().clone()
    }
}

pub(crate) struct Backend {
    connections: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Backend {
    pub(crate) async fn accept(&mut self) -> Raw {
        let io = in_time(self.connections.recv()).await.unwrap();
        Raw { io, read: Vec::new() }
    }

    /// Accepts a connection, and reads the head of a request.
    pub(crate) async fn accept_request(&mut self) -> (Raw, String) {
        let mut connection = self.accept().await;
        let head = connection.read_head().await;
        (connection, head)
    }

    /// Answers every request on every connection with `answer`, after `wait`.
    pub(super) fn answer_all(mut self, wait: Duration, answer: impl Into<String>) {
        let answer: Arc<str> = answer.into().into();
        tokio::spawn(async move {
            loop {
                let mut connection = self.accept().await;
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    while connection.try_read_head().await {
                        Clock::default().sleep(wait).await;
                        if !connection.try_write(&answer).await {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// Accepts a connection, reads the head of a request and answers 200.
    pub(crate) async fn serve_one(&mut self) -> (Raw, String) {
        let (mut connection, head) = self.accept_request().await;
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        (connection, head)
    }
}

/// Fails instead of waiting forever: a paused clock jumps if nothing else can happen.
pub(super) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::select! {
        output = future => output,
        () = Clock::default().sleep(Duration::from_secs(86_400)) => panic!("nothing happens"),
    }
}

/// A connection on which bytes are written.
pub(crate) struct Raw<Io = DuplexStream> {
    io: Io,
    read: Vec<u8>,
}

impl<Io: AsyncRead + Unpin> Raw<Io> {
    /// Reads more bytes; false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let length = in_time(self.io.read(&mut buffer)).await.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..length]);
        length > 0
    }

    /// Reads up to `end`, which belongs to the result.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.more().await, "ended after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    pub(crate) async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// Reads everything up to the end of the connection.
    pub(super) async fn read_to_end(&mut self) -> String {
        String::from_utf8(self.bytes_to_end().await).unwrap()
    }

    pub(super) async fn bytes_to_end(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    pub(super) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "ended after {} bytes", self.read.len());
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    pub(crate) fn into_io(self) -> Io {
        self.io
    }

    pub(super) async fn read_bytes(&mut self, length: usize) -> String {
        String::from_utf8(self.bytes(length).await).unwrap()
    }
}

impl Raw {
    pub(crate) async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.io.write_all(text.as_ref()).await.unwrap();
    }

    /// Sends a request and reads the whole answer: its head and its body.
    pub(crate) async fn exchange(&mut self, request: impl AsRef<[u8]>) -> (String, String) {
        self.write(request).await;
        self.answer().await
    }

    /// Returns the two directions, to use both at the same time.
    pub(super) fn split(self) -> (Raw<ReadHalf<DuplexStream>>, WriteHalf<DuplexStream>) {
        let (reader, writer) = tokio::io::split(self.io);
        (Raw { io: reader, read: self.read }, writer)
    }

    /// Reads a head; false if the connection ends first.
    pub(super) async fn try_read_head(&mut self) -> bool {
        while !self.read.windows(4).any(|window| window == b"\r\n\r\n") {
            if !self.more().await {
                return false;
            }
        }
        self.read.clear();
        true
    }

    pub(crate) async fn try_write(&mut self, text: &str) -> bool {
        self.io.write_all(text.as_bytes()).await.is_ok()
    }

    /// Reads an answer with a `Content-Length`.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.read_head().await;
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.read_bytes(length).await;
        (head, body)
    }
}

/// The value of a field in the text of a head.
pub(super) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut values = head.lines().filter_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} stands twice: {head}");
    value
}

pub(super) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A proxy whose backends are in memory.
pub(crate) struct Edge {
    pub proxy: Proxy,
    pub network: Network,
    pub peer: Option<IpAddr>,
}

pub(super) fn route(name: &str, backends: &[&str]) -> Route {
    let urls = backends.iter().map(|backend| format!("http://{backend}"));
    Route::new(name).to(Upstream::fixed(urls).unwrap()).public()
}

impl Edge {
    pub(crate) fn new(config: Config, routes: impl IntoIterator<Item = Route>) -> Self {
        let network = Network::default();
        let connector = Connector::new(config.connect, config.clock.clone());
        let connector = connector.memory(network.clone());
        let proxy = Proxy::with_connector(config, routes, connector).unwrap();
        Self { proxy, network, peer: Some([192, 0, 2, 7].into()) }
    }

    /// One route for everything, to the backend `b`.
    pub(super) fn simple() -> (Self, Backend) {
        let edge = Self::new(Config::new(), [route("all", &["b"])]);
        let backend = edge.network.listen("b");
        (edge, backend)
    }

    /// Opens a connection that the code of the listener serves.
    pub(super) fn connect(&self, stages: &watch::Receiver<Stage>) -> (Raw, JoinHandle<bool>) {
        serve(self.connections(stages))
    }

    /// Opens a connection to a listener with TLS.
    #[cfg(feature = "tls")]
    pub(super) fn connect_tls(
        &self,
        stages: &watch::Receiver<Stage>,
        certificate: crate::Certificate,
    ) -> (Raw, JoinHandle<bool>) {
        let connections = self.connections(stages);
        serve(Connections { certificate: Some(certificate), ..connections })
    }

    fn connections(&self, stages: &watch::Receiver<Stage>) -> Connections<Proxy> {
        Connections {
            service: self.proxy.clone(),
            head: Duration::from_secs(10),
            clock: Clock::default(),
            stages: stages.clone(),
            #[cfg(feature = "tls")]
            certificate: None,
        }
    }

    /// Opens a connection of HTTP/1.1 to the proxy.
    pub(crate) fn open(&self) -> Raw {
        let (near, far) = duplex(64 * 1024);
        let (proxy, peer) = (self.proxy.clone(), self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(PeerAddr(peer));
            }
            proxy.clone().call(request)
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .half_close(false)
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades();
            // A client that leaves is not a failure of the test.
            drop(connection.await);
        });
        Raw { io: near, read: Vec::new() }
    }

    /// Writes a request on a new connection. Returns the ends of the client and of the backend, which has read the head.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>, to: &mut Backend) -> (Raw, Raw) {
        let mut client = self.open();
        client.write(request).await;
        let (connection, _) = to.accept_request().await;
        (client, connection)
    }
}

fn serve(connections: Connections<Proxy>) -> (Raw, JoinHandle<bool>) {
    let (near, far) = duplex(64 * 1024);
    let task = tokio::spawn(connections.serve(far, [192, 0, 2, 7].into(), Arc::default()));
    (Raw { io: near, read: Vec::new() }, task)
}

pub(super) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}
