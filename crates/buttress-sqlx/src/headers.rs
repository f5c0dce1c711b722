//! Headers of messages as bytes. Each name and each value follows its length in four bytes,
//! big-endian.

/// Returns `None` if there are no headers.
pub(crate) fn encode(headers: &[(String, String)]) -> Option<Vec<u8>> {
    if headers.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        // Messages were checked before: all headers together are far shorter.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Some(bytes)
}

/// Returns the headers that [`encode`] encoded; `None` if they cannot be read.
pub(crate) fn decode(bytes: Option<&[u8]>) -> Option<Vec<(String, String)>> {
    let mut rest = bytes.unwrap_or_default();
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let name = text(&mut rest)?;
        headers.push((name, text(&mut rest)?));
    }
    Some(headers)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let headers = vec![("a".to_owned(), String::new()), ("ä\0".to_owned(), "x=1".to_owned())];
        let bytes = encode(&headers).unwrap();
        assert_eq!(decode(Some(&bytes)), Some(headers));
        assert_eq!(encode(&[]), None);
        assert_eq!(decode(None), Some(Vec::new()));
        for length in 1..bytes.len() {
            // A cut anywhere except between two headers is not read as other headers.
            assert_eq!(decode(Some(&bytes[..length])).is_some(), length == 9, "{length}");
        }
        assert_eq!(decode(Some(&[0xff; 12])), None);
    }
}
