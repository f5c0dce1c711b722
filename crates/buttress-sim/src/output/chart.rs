//! One chart as inline SVG: of the whole run, and of a part of it.

use std::fmt::Write;
use std::time::Duration;

use super::axis::{LEFT, RIGHT, Span, View, WIDTH, open, span, time_axis};
use super::figures::number;
use super::html::escaped;
use super::scale::Scale;

/// The most windows that are drawn as steps. More steps would be unreadable.
const MOST_STEPS: usize = 90;

/// A line, with a value for each window of the run.
pub(super) struct Line<'a> {
    pub name: &'a str,
    /// The CSS class that sets its colour.
    pub class: &'a str,
    pub values: Vec<f64>,
    /// Whether the area below it is coloured too.
    pub filled: bool,
}

pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub unit: &'a str,
    pub height: f64,
    /// The beginning and end of each window.
    pub windows: Vec<(Duration, Duration)>,
    pub lines: Vec<Line<'a>>,
    pub faults: Vec<Span>,
    /// Whether the scale is logarithmic, for times.
    pub logarithmic: bool,
    /// Formats a value on the axis.
    pub label: fn(f64) -> String,
}

impl Chart<'_> {
    /// Returns the chart for each of the views, on one scale.
    pub(super) fn figure(&self, views: &[View]) -> String {
        let values = self.lines.iter().flat_map(|line| line.values.iter().copied());
        let scale = Scale::of(values, self.logarithmic, self.height);
        let charts: String = views.iter().map(|view| self.svg(*view, &scale)).collect();
        let lines = self.lines.iter().filter(|line| !line.name.is_empty());
        let keys: String = lines.map(|line| key("", line.class, line.name)).collect();
        figure("", self.title, self.unit, &keys, &charts)
    }

    fn svg(&self, view: View, scale: &Scale) -> String {
        let mut svg = open(self.height + 24.0, self.title);
        for fault in &self.faults {
            span(&mut svg, fault, view, self.height);
        }
        for value in &scale.ticks {
            let y = scale.y(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                escaped(&(self.label)(*value)),
            );
        }
        time_axis(&mut svg, view, self.height);
        for line in &self.lines {
            self.line(&mut svg, line, view, scale);
        }
        self.hover(&mut svg, view);
        svg.push_str("</svg>");
        svg
    }

    fn line(&self, svg: &mut String, line: &Line<'_>, view: View, scale: &Scale) {
        let mut path = String::new();
        let mut started = false;
        let mut ends: Option<(f64, f64)> = None;
        let shown = self.shown(view);
        let steps = shown.len() <= MOST_STEPS;
        for (index, from, to) in shown {
            let value = line.values.get(index).copied().unwrap_or(f64::NAN);
            // Zero has no place on a logarithmic scale. The window has no successful request.
            if !value.is_finite() || (self.logarithmic && value <= 0.0) {
                started = false;
                continue;
            }
            let y = scale.y(value);
            let (from, to) =
                if steps { (from, to) } else { ((from + to) / 2.0, (from + to) / 2.0) };
            let _ = write!(path, "{}{from:.1} {y:.1}", if started { "L" } else { "M" });
            if steps {
                let _ = write!(path, "H{to:.1}");
            }
            ends = Some((ends.map_or(from, |(first, _)| first), to));
            started = true;
        }
        if let (Some((first, last)), true, false) = (ends, line.filled, self.logarithmic) {
            let bottom = self.height;
            let _ = write!(
                svg,
                "<path class=\"area {}\" d=\"{path}L{last:.1} {bottom}L{first:.1} {bottom}Z\"/>",
                line.class
            );
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
    }

    /// Returns the windows in view: number, and beginning and end in the chart.
    fn shown(&self, view: View) -> Vec<(usize, f64, f64)> {
        let all = self.windows.iter().enumerate().map(|(index, (from, to))| (index, *from, *to));
        let shown = all.filter(|(_, from, to)| view.shows(*from, *to));
        let place = |(index, from, to): (usize, Duration, Duration)| {
            (index, view.x(from.max(view.from)), view.x(to.min(view.to)))
        };
        shown.map(place).collect()
    }

    /// Adds the tooltips of the chart.
    fn hover(&self, svg: &mut String, view: View) {
        let shown = self.shown(view);
        // The number of areas that a pointer can distinguish.
        for some in shown.chunks(shown.len().div_ceil(120).max(1)) {
            let ([(index, from, _), ..], [.., (_, _, to)]) = (some, some) else { continue };
            let at = self.windows.get(*index).map(|(from, _)| *from).unwrap_or_default();
            let mut text = format!("at {} s", number(at.as_secs_f64()));
            for line in &self.lines {
                if let Some(value) = line.values.get(*index) {
                    let name = if line.name.is_empty() { self.title } else { line.name };
                    let _ = write!(text, "\n{name}: {}", (self.label)(*value));
                }
            }
            let _ = write!(
                svg,
                "<rect class=\"hover\" x=\"{from:.1}\" y=\"0\" width=\"{:.2}\" height=\"{}\">\
                 <title>{}</title></rect>",
                to - from,
                self.height,
                escaped(&text)
            );
        }
    }
}

/// Draws a strip of states over the time.
pub(super) fn strip(
    title: &str,
    unit: &str,
    spans: &[Span],
    views: &[View],
    keys: &[(&str, &str)],
) -> String {
    const HEIGHT: f64 = 14.0;
    let strip = |view: &View| {
        let mut svg = open(HEIGHT, title);
        spans.iter().for_each(|one| span(&mut svg, one, *view, HEIGHT));
        svg + "</svg>"
    };
    let strips: String = views.iter().map(strip).collect();
    let keys: String = keys.iter().map(|(name, class)| key("block ", class, name)).collect();
    figure("strip", title, unit, &keys, &strips)
}

/// Returns the legend entry of a colour.
fn key(shape: &str, class: &str, name: &str) -> String {
    let name = escaped(name);
    format!(" <span class=\"key\"><i class=\"swatch {shape}{class}\"></i>{name}</span>")
}

fn figure(class: &str, title: &str, unit: &str, keys: &str, charts: &str) -> String {
    let mut caption = format!("<b>{}</b>", escaped(title));
    if !unit.is_empty() {
        let _ = write!(caption, " <span class=\"unit\">{}</span>", escaped(unit));
    }
    format!(
        "<figure class=\"{class}\"><figcaption>{caption}{keys}</figcaption>\
         <div class=\"views\">{charts}</div></figure>"
    )
}
