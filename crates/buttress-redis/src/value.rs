//! Functions that read the answers of Redis.

use redis::Value;

/// Returns an integer, which Redis also writes as text.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

pub(crate) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// Returns the streams that a read has entries of: their names and the entries.
pub(crate) fn streams(value: Value) -> Option<Vec<(Value, Value)>> {
    let pair = |stream: Value| {
        let [name, entries]: [Value; 2] = array(stream)?.try_into().ok()?;
        Some((name, entries))
    };
    match value {
        Value::Map(streams) => Some(streams),
        value => array(value)?.into_iter().map(pair).collect(),
    }
}
