//! [`ResponseCodec`]: stored responses as bytes.

use std::sync::Arc;

use buttress::{Codec, CodecError, Format};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::stored::StoredResponse;

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;

/// What a header value is marked with.
const PLAIN: u8 = 0;
const SENSITIVE: u8 = 1;

/// Encodes [`StoredResponse`]s for stores that keep bytes:
/// [`Encoded::new(store, ResponseCodec)`](buttress::idempotency::Encoded).
///
/// A version byte (1), the status (2 bytes), the header, a byte that is 1 if
/// there are trailers, those if so, and the length (8 bytes) and bytes of the body; all numbers big-endian. Header and
/// trailers are a number of fields (4 bytes), and for each the length (2 bytes) and bytes of its
/// lower-case name, the length (4 bytes) and bytes of its value, and a byte for whether the value is
/// marked as sensitive.
///
/// Decoding is strict: another version, a length that does not fit, what is no name, value or status,
/// and bytes that are left over are all errors, which the store reports as `Corrupt`. What decodes
/// encodes to the same bytes again, if fields of one name stand together.
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
            return Err(wrong(format_args!("version {version}, only {VERSION} can be read")));
        }
        let status = u16::from_be_bytes(rest.array()?);
        let status = StatusCode::from_u16(status)
            .map_err(|error| wrong(format_args!("{status} is not a status")).with_source(error))?;
        let headers = rest.fields()?;
        let trailers = if rest.flag()? { Some(rest.fields()?) } else { None };
        let length = u64::from_be_bytes(rest.array()?);
        let body = rest.take(length)?;
        if !rest.0.is_empty() {
            return Err(wrong(format_args!("{} bytes too many", rest.0.len())));
        }
        let body = Bytes::copy_from_slice(body);
        Ok(Arc::new(StoredResponse { status, headers, body, trailers }))
    }
}

fn write_fields(bytes: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), CodecError> {
    let too_long = |error| wrong("a header that is too long").with_source(error);
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

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], CodecError> {
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let Some((taken, rest)) = split else {
            let left = self.0.len();
            return Err(wrong(format_args!("{length} bytes are announced and {left} are there")));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| wrong("cut short"))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(wrong(format_args!("{byte} where 0 or 1 should be"))),
        }
    }

    fn fields(&mut self) -> Result<HeaderMap, CodecError> {
        let number = u32::from_be_bytes(self.array()?);
        // No room is made in advance: the number may be anything.
        let mut fields = HeaderMap::new();
        for _ in 0..number {
            let length = u16::from_be_bytes(self.array()?);
            let name = HeaderName::from_lowercase(self.take(length.into())?)
                .map_err(|error| wrong("a field without a valid name").with_source(error))?;
            let length = u32::from_be_bytes(self.array()?);
            let mut value =
                HeaderValue::from_bytes(self.take(length.into())?).map_err(|error| {
                    wrong(format_args!("a value of `{name}` that is not valid")).with_source(error)
                })?;
            value.set_sensitive(self.flag()?);
            fields
                .try_append(name, value)
                .map_err(|error| wrong("too many fields").with_source(error))?;
        }
        Ok(fields)
    }
}

fn wrong(message: impl std::fmt::Display) -> CodecError {
    CodecError::new(ResponseCodec::NAME, message)
}
