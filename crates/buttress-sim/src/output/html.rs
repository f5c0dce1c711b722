use std::fmt::Write;

use super::axis::View;
use super::figures::{after_the_fault, number, of_all, of_ok, percent};
use super::{heat, panels, style};
use crate::{Cause, Outcome};

pub(super) fn page(title: &str, intro: &str, outcomes: &[Outcome]) -> String {
    let mut html = String::new();
    let title = escaped(title);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{}</style></head><body><main><h1>{title}</h1>",
        style::CSS
    );
    for paragraph in intro.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let _ = write!(html, "<p>{}</p>", escaped(paragraph));
    }
    html.push_str(&table(outcomes));
    if outcomes.len() > 1 {
        let _ = write!(html, "<section class=\"card\">{}</section>", heat::together(outcomes));
    }
    let wide = outcomes.iter().any(|outcome| View::close_up(outcome).is_some());
    html.push_str(if wide { "<div class=\"cards wide\">" } else { "<div class=\"cards\">" });
    outcomes.iter().enumerate().for_each(|(n, outcome)| html.push_str(&card(n, outcome)));
    html.push_str("</div>");
    html.push_str(&foot(outcomes));
    html.push_str("</main></body></html>\n");
    html
}

fn table(outcomes: &[Outcome]) -> String {
    let mut html = "<div class=\"scroll\"><table><thead><tr><th></th><th>At the end</th><th>After the fault</th>\
        <th>Offered /s</th><th>Goodput /s</th><th>Succeeded</th><th>p50 of succeeded</th>\
        <th>p99 of succeeded</th><th>p99 of all</th>\
        <th>Calls per request</th><th>Wasted work</th><th>Other ends</th></tr></thead><tbody>"
        .to_owned();
    for (n, outcome) in outcomes.iter().enumerate() {
        let end = outcome.ended_in();
        let _ = write!(
            html,
            "<tr><th><a href=\"#o{n}\">{}</a></th>\
             <td class=\"words\"><span class=\"badge {}\">{}</span></td><td class=\"words\">{}</td>",
            escaped(outcome.name()),
            panels::badge(end),
            end.as_str(),
            after_the_fault(outcome)
        );
        let ok = outcome.share(Cause::Ok);
        let _ = write!(
            html,
            "<td>{}</td><td>{}</td><td><span class=\"bar\" style=\"--share:{ok:.4}\"></span>{}</td>",
            number(outcome.offered()),
            number(outcome.goodput()),
            percent(ok)
        );
        for cell in [
            of_ok(outcome, 0.5),
            of_ok(outcome, 0.99),
            of_all(outcome, 0.99),
            format!("{:.2}", outcome.amplification()),
            percent(outcome.wasted_work()),
        ] {
            let _ = write!(html, "<td>{cell}</td>");
        }
        let _ = write!(html, "<td class=\"words\">{}</td></tr>", rest(outcome));
    }
    html.push_str("</tbody></table></div>");
    html
}

/// Lists the causes of the requests that did not succeed.
fn rest(outcome: &Outcome) -> String {
    let mut parts: Vec<(u64, String)> = Cause::ALL
        .iter()
        .filter(|cause| **cause != Cause::Ok && outcome.ends().of(**cause) > 0)
        .map(|cause| {
            let share = percent(outcome.share(*cause));
            (outcome.ends().of(*cause), format!("{cause} {share}"))
        })
        .collect();
    parts.sort_by(|(a, _), (b, _)| b.cmp(a));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    texts.join(", ")
}

fn card(n: usize, outcome: &Outcome) -> String {
    let end = outcome.ended_in();
    format!(
        "<section class=\"card\" id=\"o{n}\"><h2>{} <span class=\"badge {}\">{}</span></h2>{}</section>",
        escaped(outcome.name()),
        panels::badge(end),
        end.as_str(),
        panels::charts(outcome)
    )
}

fn foot(outcomes: &[Outcome]) -> String {
    let mut html = "<footer><p>Grey bars are faults. <b>Stable</b>: the system serves the offered load. \
        <b>Overloaded</b>: it is not served, because of a fault or of more load than the system carries. \
        <b>Recovering</b>: the trigger is over, and the system is stable soon. <b>Metastable</b>: the trigger is \
        over, and the system keeps itself down.</p><p>Reproduce: "
        .to_owned();
    for (n, outcome) in outcomes.iter().enumerate() {
        let separator = if n == 0 { "" } else { ", " };
        let _ = write!(
            html,
            "{separator}{} <code>seed {} trace {:016x}</code>",
            escaped(outcome.name()),
            outcome.seed(),
            outcome.trace_hash()
        );
    }
    html.push_str("</p></footer>");
    html
}

/// Escapes text for an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
