//! Writing of JSON texts, without a dependency.

use std::fmt::Write;

/// Appends `text` as a JSON string, quotes included (RFC 8259, section 7).
pub(crate) fn push_text(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str(r#"\""#),
            '\\' => json.push_str(r"\\"),
            '\n' => json.push_str(r"\n"),
            '\r' => json.push_str(r"\r"),
            '\t' => json.push_str(r"\t"),
            c if c < ' ' => {
                let _ = write!(json, r"\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_json_demands_and_no_further() {
        let cases = [
            ("", r#""""#),
            ("db", r#""db""#),
            (r#"a "b" \c/"#, r#""a \"b\" \\c/""#),
            ("1\n2\r3\t4", r#""1\n2\r3\t4""#),
            ("\u{0}\u{8}\u{c}\u{1f} \u{7f}", "\"\\u0000\\u0008\\u000c\\u001f \u{7f}\""),
            ("größe \u{2028} 🦀", "\"größe \u{2028} 🦀\""),
        ];
        for (text, json) in cases {
            let mut written = String::new();
            push_text(&mut written, text);
            assert_eq!(written, json, "{text:?}");
        }
    }
}
