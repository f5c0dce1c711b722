//! All outcomes below each other: what share of the requests was answered well, when.

use std::fmt::Write;
use std::time::Duration;

use super::figures::{number, percent};
use super::html::escaped;
use crate::{Cause, Outcome};

const WIDTH: f64 = 1320.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 12.0;
const ROW: f64 = 22.0;

/// The whole run, and the time around the first fault as through a glass.
pub(super) fn together(outcomes: &[Outcome]) -> String {
    let Some(first) = outcomes.first() else { return String::new() };
    let end = first.duration();
    let mut html =
        rows("Requests answered well, over the whole run", outcomes, Duration::ZERO, end);
    if let Some(fault) = first.faults().iter().min_by_key(|fault| fault.from) {
        let window = first.windows().first().map(|window| window.length).unwrap_or_default();
        let margin = (fault.to - fault.from).max(window) * 5;
        let to = (fault.to + margin * 4).min(end);
        let from = fault.from.saturating_sub(margin);
        if to - from < end / 2 {
            html.push_str(&rows("The same around the fault", outcomes, from, to));
        }
    }
    html
}

fn rows(title: &str, outcomes: &[Outcome], from: Duration, to: Duration) -> String {
    let height = ROW * outcomes.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        height + 22.0,
        escaped(title)
    );
    let span = (to - from).as_secs_f64();
    let x = |at: Duration| {
        let since = at.clamp(from, to).as_secs_f64() - from.as_secs_f64();
        LEFT + since / span * (WIDTH - LEFT - RIGHT)
    };
    for (n, outcome) in outcomes.iter().enumerate() {
        let y = n as f64 * ROW;
        let _ = write!(
            svg,
            "<text class=\"row\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + ROW * 0.66,
            escaped(outcome.name())
        );
        for window in outcome.windows() {
            let (start, end) = (window.start, window.start + window.length);
            if end <= from || start >= to || window.offered == 0 {
                continue;
            }
            let share = (window.ends.of(Cause::Ok) as f64 / window.offered as f64).min(1.0);
            let _ = write!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{:.1}\" fill=\"{}\">\
                 <title>{} at {} s: {}</title></rect>",
                x(start),
                y + 1.0,
                x(end) - x(start) + 0.3,
                ROW - 3.0,
                colour(share),
                escaped(outcome.name()),
                number(start.as_secs_f64()),
                percent(share)
            );
        }
        for fault in outcome.faults() {
            let _ = write!(
                svg,
                "<rect class=\"marks\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                x(fault.from),
                (x(fault.to) - x(fault.from)).max(1.0),
                ROW - 1.0
            );
        }
    }
    axis(&mut svg, from, to, height, &x);
    svg.push_str("</svg>");
    format!(
        "<figure class=\"heat\"><figcaption><b>{}</b> <span class=\"key\">none<i class=\"ramp\"></i>all\
         </span> <span class=\"key\">dashed: the fault</span></figcaption>{svg}</figure>",
        escaped(title)
    )
}

fn axis(svg: &mut String, from: Duration, to: Duration, height: f64, x: &dyn Fn(Duration) -> f64) {
    let step = super::chart::round_step((to - from).as_secs_f64() / 8.0);
    let mut at = (from.as_secs_f64() / step).ceil() * step;
    while at <= to.as_secs_f64() * 1.000_1 {
        let place = x(Duration::try_from_secs_f64(at).unwrap_or_default());
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            height + 14.0,
            number(at)
        );
        at += step;
    }
}

/// From red over sand to green, in eleven steps.
fn colour(share: f64) -> &'static str {
    const COLOURS: [&str; 11] = [
        "#c04c00", "#cc661f", "#d8803d", "#e3985a", "#ecb281", "#f3e3c3", "#d3dcba", "#abd0b4",
        "#7fbda5", "#3f9f80", "#00805d",
    ];
    COLOURS.get((share * 10.0).round() as usize).copied().unwrap_or("#00805d")
}
