//! Messages as fields of an entry.
//!
//! | field | content |
//! |---|---|
//! | `data` | the payload |
//! | `.key` | the key, unless it is the value of the attribute `subject` |
//! | `.topic` | the topic, unless it is the value of the attribute `type` |
//! | `id`, `source` and other names of letters and digits | an attribute of the event |
//! | `:name` | any other header |

use buttress_durable::consume::Content;
use buttress_durable::event::Binding;
use buttress_durable::outbox::Message;
use redis::{Cmd, Value};

use super::entry_id::EntryId;
use crate::error::Error;
use crate::value;

const DATA: &str = "data";
const KEY: &str = ".key";
const TOPIC: &str = ".topic";
const SUBJECT: &str = "ce-subject";
const KIND: &str = "ce-type";

fn header<'a>(headers: &'a [(String, String)], wanted: &str) -> &'a str {
    let found = headers.iter().find(|(name, _)| name == wanted);
    found.map_or("", |(_, value)| value)
}

/// Checks that a consumer reads the headers of a message unchanged.
pub(super) fn check(message: &Message) -> Result<(), Error> {
    for (name, _) in &message.headers {
        let Some(attribute) = name.strip_prefix("ce-") else { continue };
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if attribute.is_empty() || attribute == DATA || !attribute.bytes().all(allowed) {
            return Err(Error::Header { name: name.clone() });
        }
    }
    Ok(())
}

/// Returns the command that adds a message to a stream.
pub(super) fn add(stream: &str, message: &Message) -> Cmd {
    let Message { key, topic, payload, headers, .. } = message;
    let bytes = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let bytes = bytes + stream.len() + key.len() + topic.len() + payload.len() + 64;
    let mut cmd = Cmd::with_capacity(headers.len() * 2 + 10, bytes);
    cmd.arg("XADD").arg(stream).arg("NOMKSTREAM").arg("*").arg(DATA).arg(payload.as_slice());
    for (field, value, known) in [(KEY, key, SUBJECT), (TOPIC, topic, KIND)] {
        if header(headers, known) != value {
            cmd.arg(field).arg(value);
        }
    }
    for (name, value) in headers {
        let (name, value) = Binding::Redis.write(name, value);
        cmd.arg(&*name).arg(&*value);
    }
    cmd
}

/// Reads an entry: its id, its size in bytes, and its content. Returns `None` if the answer has another form.
///
/// Text that is not UTF-8 is read with replacement characters. This library writes UTF-8 only.
pub(super) fn read(entry: Value) -> Option<(EntryId, usize, Content)> {
    let [id, fields]: [Value; 2] = value::array(entry)?.try_into().ok()?;
    let id = value::text(&id)?.parse().ok()?;
    let (mut content, mut size) = (Content::default(), 0);
    let (mut key, mut topic) = (None, None);
    let mut fields = value::array(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (value::bytes(name)?, value::bytes(value)?);
        size += name.len() + value.len();
        let (name, value) = match &*name {
            b"data" => {
                content.payload = value;
                continue;
            }
            _ => (text(name), text(value)),
        };
        match &*name {
            KEY => key = Some(value),
            TOPIC => topic = Some(value),
            // The values of this binding are not encoded, so none is refused.
            _ => content.headers.extend(Binding::Redis.read(&name, &value)),
        }
    }
    content.set_key_and_topic(key, topic, "");
    Some((id, size, content))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
