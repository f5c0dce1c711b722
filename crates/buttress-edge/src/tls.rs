//! TLS: the certificate of a listener, and the authorities that vouch for backends.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use buttress::InvalidConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    self, ClientConfig, ConfigBuilder, ConfigSide, RootCertStore, ServerConfig, WantsVerifier,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The certificate authorities that vouch for backends. Cheap to clone.
///
/// ```no_run
/// use buttress_edge::{Config, Roots};
///
/// let own = std::fs::read("authority.pem")?;
/// let config = Config::new().roots(Roots::pem(&own)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Returns the authorities of the operating system. They include the authority of a company, and are updated
    /// without a new build of the gateway.
    ///
    /// # Errors
    /// Returns an error if the system has no usable authority.
    pub fn system() -> Result<Self, InvalidConfig> {
        let mut store = RootCertStore::empty();
        let (usable, _) =
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::of(store, usable)
    }

    /// Returns the authorities of a text in PEM, and no others.
    ///
    /// # Errors
    /// Returns an error if the text has no certificate, or one that does not belong to an authority.
    pub fn pem(certificates: &[u8]) -> Result<Self, InvalidConfig> {
        let mut store = RootCertStore::empty();
        for certificate in chain("roots", certificates)? {
            store.add(certificate).map_err(|error| {
                InvalidConfig::new("roots", error, "certificates of authorities")
            })?;
        }
        let usable = store.len();
        Self::of(store, usable)
    }

    fn of(store: RootCertStore, usable: usize) -> Result<Self, InvalidConfig> {
        if usable == 0 {
            return Err(InvalidConfig::new("roots", "no certificate", "at least one certificate"));
        }
        Ok(Self(Arc::new(store)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("authorities", &self.0.len()).finish()
    }
}

/// The certificate of a listener, with its key. Cheap to clone; clones are the same certificate, so a clone that the
/// program keeps renews the certificate of the listener. Debug output omits both.
///
/// ```no_run
/// use buttress_edge::Certificate;
///
/// let certificate = Certificate::pem(&std::fs::read("edge.pem")?, &std::fs::read("edge.key")?)?;
/// // Give a clone to `Serve::tls`, and later, e.g. at SIGHUP:
/// certificate.renew(&std::fs::read("edge.pem")?, &std::fs::read("edge.key")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    /// Reads a certificate and its key from texts in PEM. Intermediate certificates follow the certificate, as
    /// certificate authorities deliver them. The key is PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// Returns an error if a text has no certificate or key, or the key does not belong to the certificate. The error
    /// has no text of either.
    pub fn pem(certificates: &[u8], key: &[u8]) -> Result<Self, InvalidConfig> {
        Ok(Self(Arc::new(RwLock::new(Self::config(certificates, key)?))))
    }

    /// Replaces the certificate and its key, here and in all clones. Connections that begin from now on get the new
    /// certificate, and open ones keep theirs. A client cannot resume a session of the old certificate: it makes a
    /// whole handshake.
    ///
    /// # Errors
    /// Returns the errors of [`pem`](Self::pem). Nothing changes then.
    pub fn renew(&self, certificates: &[u8], key: &[u8]) -> Result<(), InvalidConfig> {
        self.replace(&Self::pem(certificates, key)?);
        Ok(())
    }

    /// Replaces the certificate and its key with the certificate and key of `new`, here and in all clones. Otherwise
    /// like [`renew`](Self::renew), but it cannot fail: read a new certificate first, change other things, and replace
    /// it last.
    pub fn replace(&self, new: &Self) {
        let new = new.present();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, InvalidConfig> {
        let chain = chain("certificate", certificates)?;
        let refused = |value: &str| InvalidConfig::new("key", value, "the key of the certificate");
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| refused("no private key in PEM"))?;
        let mut config = builder(ServerConfig::builder_with_provider)
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|_| refused("another key"))?;
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(Arc::new(config))
    }

    fn present(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Negotiates no protocol.
    #[cfg(test)]
    pub(crate) fn without_protocols(self) -> Self {
        let mut config = ServerConfig::clone(&self.present());
        config.alpn_protocols.clear();
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// Accepts a connection. Returns the connection, and whether its client has chosen HTTP/2.
    pub(crate) async fn accept<Io>(
        &self,
        io: Io,
    ) -> io::Result<(tokio_rustls::server::TlsStream<Io>, bool)>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let io = TlsAcceptor::from(self.present()).accept(io).await?;
        let is_h2 = io.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok((io, is_h2))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Reads certificates in PEM.
fn chain(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidConfig> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => {
            let value = format!("a text of {} bytes", pem.len());
            Err(InvalidConfig::new(field, value, "certificates in PEM"))
        }
    }
}

/// The versions and ciphers that rustls calls safe, from ring by name: without a name rustls panics if another crate
/// switches a second provider on.
fn builder<S: ConfigSide>(
    side: fn(Arc<rustls::crypto::CryptoProvider>) -> ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    let builder = side(Arc::new(rustls::crypto::ring::default_provider()));
    #[expect(clippy::expect_used, reason = "ring has ciphers for TLS 1.2 and 1.3")]
    builder.with_safe_default_protocol_versions().expect("ring speaks TLS")
}

/// The protocol that is spoken on connections to backends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Alpn {
    #[default]
    Http1,
    Http2,
}

/// Opens secure connections to backends. Cheap to clone; clones share sessions.
#[derive(Clone, Default)]
pub(crate) struct Upstreams {
    roots: Option<Roots>,
    alpn: Alpn,
    /// Made with the first connection: most gateways have none, and to read the authorities of a system takes
    /// milliseconds.
    config: Arc<OnceLock<Result<Arc<ClientConfig>, InvalidConfig>>>,
}

impl Upstreams {
    /// Believes backends that `roots` vouch for. Without them the authorities of the system count.
    pub(crate) fn new(roots: Option<Roots>) -> Self {
        Self { roots, ..Self::default() }
    }

    /// Speaks HTTP/2 and nothing else.
    pub(crate) fn http2(self) -> Self {
        Self { roots: self.roots, alpn: Alpn::Http2, ..Self::default() }
    }

    /// Opens a secure connection to `host` on `io`.
    pub(crate) async fn connect<Io>(&self, host: &str, io: Io) -> io::Result<TlsStream<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config.get_or_init(|| self.make()).clone().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let io = TlsConnector::from(config).connect(name, io).await?;
        let agreed = io.get_ref().1.alpn_protocol();
        if self.alpn == Alpn::Http2 && agreed != Some(HTTP2) {
            return Err(io::Error::other("the backend does not speak HTTP/2 over TLS"));
        }
        Ok(io)
    }

    fn make(&self) -> Result<Arc<ClientConfig>, InvalidConfig> {
        let Roots(store) = self.roots.clone().map_or_else(Roots::system, Ok)?;
        let mut config = builder(ClientConfig::builder_with_provider)
            .with_root_certificates(store)
            .with_no_client_auth();
        let protocol = match self.alpn {
            Alpn::Http1 => HTTP1,
            Alpn::Http2 => HTTP2,
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { roots, alpn, .. } = self;
        f.debug_struct("Upstreams")
            .field("roots", roots)
            .field("alpn", alpn)
            .finish_non_exhaustive()
    }
}
