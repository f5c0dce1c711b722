//! [`ResponseCodec`]: stored responses as bytes.

use std::sync::Arc;

use buttress::{Codec, CodecError, Format};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::stored::StoredResponse;

/// The version of the format. The codec reads and writes only this version.
const VERSION: u8 = 1;

/// Whether a header value is marked as sensitive.
const PLAIN: u8 = 0;
const SENSITIVE: u8 = 1;

/// A codec that encodes [`StoredResponse`]s for stores that keep bytes:
/// [`Encoded::new(store, ResponseCodec)`](buttress::idempotency::Encoded).
///
/// The format is a version byte (1), the status (2 bytes), the header, and a byte that is 1 if
/// trailers follow. Then come the trailers, and the length (8 bytes) and bytes of the body. All
/// numbers are big-endian. Header and trailers begin with their number of fields (4 bytes). Each
/// field has a lower-case name, after its length (2 bytes), and a value, after its length (4
/// bytes). A byte follows that is 1 if the value is sensitive.
///
/// Decoding is strict. Another version, a length that does not fit, an invalid name, value or
/// status, and left-over bytes are errors. The store reports them as `Corrupt`. A decoded response
/// encodes to the same bytes if fields of one name are adjacent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseCodec;

impl Format for ResponseCodec {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "http-response";
}

impl Codec<StoredResponse> for ResponseCodec {
    fn encode(&self, response: &Arc<StoredResponse>) -> Result<Vec<u8>, CodecError> {
        let StoredResponse { status, headers, body, trailers } = &**response;
        let mut bytes = vec![VERSION];
        bytes.extend(status.as_u16().to_be_bytes());
        write_fields(&mut bytes, headers)?;
        bytes.push(u8::from(trailers.is_some()));
        if let Some(trailers) = trailers {
            write_fields(&mut bytes, trailers)?;
        }
        bytes.extend((body.len() as u64).to_be_bytes());
        bytes.extend_from_slice(body);
        Ok(bytes)
    }

    fn decode(&self, encoded: &Vec<u8>) -> Result<Arc<StoredResponse>, CodecError> {
        let mut rest = Rest(encoded);
        let version = rest.byte()?;
        if version != VERSION {
            return Err(wrong(format_args!(
                "version {version} is not supported, only version {VERSION} is"
            )));
        }
        let status = u16::from_be_bytes(rest.array()?);
        let status = StatusCode::from_u16(status)
            .map_err(|error| wrong(format_args!("{status} is not a status")).with_source(error))?;
        let headers = rest.fields()?;
        let trailers = if rest.flag()? { Some(rest.fields()?) } else { None };
        let length = u64::from_be_bytes(rest.array()?);
        let body = rest.take(length)?;
        if !rest.0.is_empty() {
            return Err(wrong(format_args!("{} bytes follow the body", rest.0.len())));
        }
        let body = Bytes::copy_from_slice(body);
        Ok(Arc::new(StoredResponse { status, headers, body, trailers }))
    }
}

fn write_fields(bytes: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), CodecError> {
    let too_long = |error| wrong("the header is too long").with_source(error);
    bytes.extend(u32::try_from(fields.len()).map_err(too_long)?.to_be_bytes());
    for (name, value) in fields {
        let name: &[u8] = name.as_ref();
        bytes.extend(u16::try_from(name.len()).map_err(too_long)?.to_be_bytes());
        bytes.extend_from_slice(name);
        bytes.extend(u32::try_from(value.len()).map_err(too_long)?.to_be_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(if value.is_sensitive() { SENSITIVE } else { PLAIN });
    }
    Ok(())
}

/// The bytes that are still unread.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], CodecError> {
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let Some((taken, rest)) = split else {
            let left = self.0.len();
            return Err(wrong(format_args!("{length} bytes are announced, {left} are left")));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| wrong("the bytes end too early"))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(wrong(format_args!("found {byte}, expected 0 or 1"))),
        }
    }

    fn fields(&mut self) -> Result<HeaderMap, CodecError> {
        let number = u32::from_be_bytes(self.array()?);
        // The number is untrusted, so nothing is allocated in advance.
        let mut fields = HeaderMap::new();
        for _ in 0..number {
            let length = u16::from_be_bytes(self.array()?);
            let name = HeaderName::from_lowercase(self.take(length.into())?)
                .map_err(|error| wrong("the name of a field is invalid").with_source(error))?;
            let length = u32::from_be_bytes(self.array()?);
            let mut value =
                HeaderValue::from_bytes(self.take(length.into())?).map_err(|error| {
                    wrong(format_args!("the value of `{name}` is invalid")).with_source(error)
                })?;
            value.set_sensitive(self.flag()?);
            fields
                .try_append(name, value)
                .map_err(|error| wrong("the header has too many fields").with_source(error))?;
        }
        Ok(fields)
    }
}

fn wrong(message: impl std::fmt::Display) -> CodecError {
    CodecError::new(ResponseCodec::NAME, message)
}
