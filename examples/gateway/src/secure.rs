//! The certificate of the listener: the section `tls` of a file.

use buttress_edge::{Secret, Serve};
use serde::Deserialize;
use tower::BoxError;

/// The files of a certificate and its key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "the section is refused"))]
    certificate: std::path::PathBuf,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "the section is refused"))]
    key: Secret,
}

/// The certificate in use, or none.
#[derive(Clone)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    certificate: Option<buttress_edge::Certificate>,
}

#[cfg(feature = "tls")]
impl Tls {
    pub(crate) fn read(section: Option<&Section>) -> Result<Self, BoxError> {
        let certificate = match section {
            Some(Section { certificate: path, key }) => {
                let certificate = std::fs::read(path)
                    .map_err(|error| format!("tls.certificate: {}: {error}", path.display()))?;
                let key = key.read().map_err(|error| format!("tls.key: {error}"))?;
                let read = buttress_edge::Certificate::pem(&certificate, &key);
                Some(read.map_err(|error| format!("tls.{error}"))?)
            }
            None => None,
        };
        Ok(Self { certificate })
    }

    /// Reads the files again, for [`replace`](Self::replace). Nothing changes yet.
    pub(crate) fn next(&self, section: Option<&Section>) -> Result<Self, BoxError> {
        if self.certificate.is_some() != section.is_some() {
            return Err("the section `tls` cannot come or go while the gateway runs".into());
        }
        Self::read(section)
    }

    /// Connections that begin from now on get the certificate of `next`.
    pub(crate) fn replace(&self, next: &Self) {
        if let (Some(present), Some(next)) = (&self.certificate, &next.certificate) {
            present.replace(next);
        }
    }

    pub(crate) fn of<S>(self, serve: Serve<S>) -> Serve<S> {
        match self.certificate {
            Some(certificate) => serve.tls(certificate),
            None => serve,
        }
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn read(section: Option<&Section>) -> Result<Self, BoxError> {
        match section {
            Some(_) => Err("the section `tls` needs a program with the feature `tls`".into()),
            None => Ok(Self {}),
        }
    }

    #[expect(clippy::unused_self, reason = "the same method as with the feature")]
    pub(crate) fn next(&self, section: Option<&Section>) -> Result<Self, BoxError> {
        Self::read(section)
    }

    #[expect(clippy::unused_self, reason = "the same method as with the feature")]
    pub(crate) fn replace(&self, _next: &Self) {}

    pub(crate) fn of<S>(self, serve: Serve<S>) -> Serve<S> {
        serve
    }
}
