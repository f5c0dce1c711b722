//! The HTML of the status page: sections, rows and buttons. Every text that is not of this file is escaped.

use std::fmt::{self, Display, Write};

use super::act::{Action, actions};
use super::board::StatusBoard;
use super::columns::{Column, Format, columns, text};
use super::row::{Row, by_section};

pub(super) const SCRIPT: &str = include_str!("page.js");
pub(super) const STYLE: &str = include_str!("page.css");

/// A text between tags or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Directions of the text around them would change.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                    f.write_char('\u{fffd}')?;
                }
                letter if letter.is_control() => f.write_char('\u{fffd}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// The page; with buttons if `operator` names who sees it.
pub(super) fn page(status: &StatusBoard, operator: Option<&str>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a string cannot fail.
    let _ = write(&mut out, status, operator);
    out
}

fn write(out: &mut String, status: &StatusBoard, operator: Option<&str>) -> fmt::Result {
    let title = Escaped(status.title());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><link rel=\"icon\" href=\"?icon\">\
         <link rel=\"stylesheet\" href=\"?style\"><script src=\"?script\" defer></script></head>\n\
         <body><header><h1><bdi>{title}</bdi></h1><p id=\"fresh\">Reload the page for new numbers.</p>"
    )?;
    if let Some(operator) = operator {
        write!(
            out,
            "<p>Changes are logged with your name: <bdi>{}</bdi></p>\
             <p id=\"said\" role=\"status\"></p><pre id=\"shown\" hidden></pre>",
            Escaped(operator)
        )?;
    }
    out.write_str("</header>\n<main>")?;
    let rows = status.rows();
    let sections = by_section(&rows);
    if sections.is_empty() {
        out.write_str("<p>There are no parts.</p>")?;
    }
    for (title, rows) in sections {
        section(out, title, &rows, operator.is_some())?;
    }
    out.write_str("</main></body></html>\n")
}

fn section(out: &mut String, title: &str, rows: &[&Row], operated: bool) -> fmt::Result {
    let columns = columns(title, rows);
    let operated = operated && rows.iter().any(|row| !actions(row).is_empty());
    let title = Escaped(title);
    write!(
        out,
        "\n<section data-id=\"{title}\"><h2><bdi>{title}</bdi></h2><table><thead><tr>\
         <th scope=\"col\" class=\"name\">Name</th>"
    )?;
    for column in &columns {
        let class = class(column.format);
        write!(out, "<th scope=\"col\"{class}>{}</th>", Escaped(&column.heading))?;
    }
    if operated {
        out.write_str("<th scope=\"col\" class=\"act\">Change</th>")?;
    }
    out.write_str("</tr></thead><tbody>")?;
    for row in rows {
        line(out, row, &columns, operated)?;
    }
    out.write_str("</tbody></table></section>")
}

fn line(out: &mut String, row: &Row, columns: &[Column], operated: bool) -> fmt::Result {
    let name = Escaped(&row.name);
    write!(
        out,
        "\n<tr data-id=\"{name}\"><th scope=\"row\" class=\"name\"><bdi>{name}</bdi></th>"
    )?;
    match &row.numbers {
        Ok(numbers) => {
            for column in columns {
                let text = text(numbers.get(&column.key), column.format);
                let (text, heading) = (Escaped(&text), Escaped(&column.heading));
                let class = class(column.format);
                write!(out, "<td{class} data-is=\"{text}\" data-of=\"{heading}\">{text}</td>")?;
            }
        }
        Err(error) => {
            let width = columns.len().max(1);
            write!(out, "<td class=\"bad\" colspan=\"{width}\">{}</td>", Escaped(error))?;
        }
    }
    if operated {
        out.write_str("<td class=\"act\">")?;
        for action in actions(row) {
            control(out, row, &action)?;
        }
        out.write_str("</td>")?;
    }
    out.write_str("</tr>")
}

fn control(out: &mut String, row: &Row, action: &Action) -> fmt::Result {
    let (section, name) = (Escaped(&row.section), Escaped(&row.name));
    write!(
        out,
        "<form data-section=\"{section}\" data-name=\"{name}\" data-action=\"{}\"",
        Escaped(&action.name)
    )?;
    if let Some(question) = action.confirm {
        write!(out, " data-confirm=\"{}: {name}?\"", Escaped(question))?;
    }
    out.write_str(">")?;
    if let Some(field) = &action.value {
        let now = field.now.as_deref().unwrap_or_default();
        let inputs = if field.now.is_some() { " inputmode=\"numeric\"" } else { "" };
        write!(
            out,
            "<label>{} <input name=\"value\" autocomplete=\"off\" required{inputs} value=\"{}\"></label>",
            Escaped(&field.label),
            Escaped(now)
        )?;
    }
    write!(out, "<button>{}</button></form>", Escaped(&action.label))
}

fn class(format: Format) -> &'static str {
    if format == Format::Word { " class=\"word\"" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_could_leave_their_place_are_escaped() {
        let hostile = "<script>alert('1')</script>&\"\u{202e}x\u{0}\n";
        let expected =
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}x\u{fffd}\u{fffd}";
        assert_eq!(Escaped(hostile).to_string(), expected);
        assert_eq!(Escaped("שלום").to_string(), "שלום");
    }
}
