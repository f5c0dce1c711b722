//! All outcomes below each other: the share of successful requests over the time.

use std::fmt::Write;

use super::axis::View;
use super::figures::{number, percent};
use super::html::escaped;
use crate::{Cause, Outcome};

/// Stretched to the available width: all its shapes are rectangles.
const WIDTH: f64 = 1000.0;
const ROW: f64 = 18.0;

/// Draws the whole run, and the enlarged time around the first fault.
pub(super) fn together(outcomes: &[Outcome]) -> String {
    let Some(first) = outcomes.first() else { return String::new() };
    let longest = outcomes.iter().max_by_key(|outcome| outcome.duration()).unwrap_or(first);
    let whole = rows("Successful requests over the whole run", outcomes, View::whole(longest));
    let close_up = View::close_up(first)
        .map(|view| rows("Successful requests around the fault", outcomes, view));
    whole + &close_up.unwrap_or_default()
}

fn rows(title: &str, outcomes: &[Outcome], view: View) -> String {
    let mut html = format!(
        "<figure class=\"heat\"><figcaption><b>{}</b> <span class=\"key\">none<i class=\"ramp\"></i>all\
         </span> <span class=\"key\"><i class=\"swatch block marks\"></i>the fault</span></figcaption>\
         <div class=\"rows\">",
        escaped(title)
    );
    for outcome in outcomes {
        let _ = write!(html, "<span class=\"row\">{}</span>", escaped(outcome.name()));
        html.push_str(&row(outcome, view));
    }
    html.push_str("<span></span><div class=\"times\">");
    for at in view.ticks(8.0) {
        let (left, at) = (view.share(at) * 100.0, number(at.as_secs_f64()));
        let _ = write!(html, "<span style=\"left:{left:.2}%\">{at} s</span>");
    }
    html.push_str("</div></div></figure>");
    html
}

fn row(outcome: &Outcome, view: View) -> String {
    let name = escaped(outcome.name());
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {ROW}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{name}\">"
    );
    let x = |at| view.share(at).clamp(0.0, 1.0) * WIDTH;
    for window in outcome.windows() {
        let (start, end) = (window.start, window.start + window.length);
        if !view.shows(start, end) || window.offered == 0 {
            continue;
        }
        let share = (window.ends.of(Cause::Ok) as f64 / window.offered as f64).min(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"0\" width=\"{:.2}\" height=\"{ROW}\" fill=\"{}\">\
             <title>{name} at {} s: {}</title></rect>",
            x(start),
            x(end) - x(start) + 0.3,
            colour(share),
            number(start.as_secs_f64()),
            percent(share)
        );
    }
    for fault in outcome.faults().iter().filter(|fault| view.shows(fault.from, fault.to)) {
        let _ = write!(
            svg,
            "<rect class=\"marks\" x=\"{:.1}\" y=\"0.5\" width=\"{:.1}\" height=\"{:.1}\"/>",
            x(fault.from),
            (x(fault.to) - x(fault.from)).max(1.0),
            ROW - 1.0
        );
    }
    svg + "</svg>"
}

/// Returns a colour from red over sand to green, in eleven steps.
fn colour(share: f64) -> &'static str {
    const COLOURS: [&str; 11] = [
        "#c04c00", "#cc661f", "#d8803d", "#e3985a", "#ecb281", "#f3e3c3", "#d3dcba", "#abd0b4",
        "#7fbda5", "#3f9f80", "#00805d",
    ];
    COLOURS.get((share * 10.0).round() as usize).copied().unwrap_or("#00805d")
}
