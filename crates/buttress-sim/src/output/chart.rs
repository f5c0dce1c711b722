//! One chart as inline SVG.

use std::fmt::Write;
use std::time::Duration;

use super::figures::number;
use super::html::escaped;

/// Measures of a chart, in the units of its view box.
const WIDTH: f64 = 640.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;

/// A line, by its values at even steps over the time.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// The class that gives it its colour.
    pub(super) class: &'a str,
    pub(super) values: Vec<f64>,
    /// Whether what is below it is coloured too.
    pub(super) filled: bool,
}

/// A span on the time axis: a fault behind the lines, or a state in a band.
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) class: String,
    pub(super) title: String,
}

pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) height: f64,
    pub(super) duration: Duration,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) faults: Vec<Span>,
    /// A logarithmic scale, for times.
    pub(super) logarithmic: bool,
    /// How a value is written on the axis.
    pub(super) label: fn(f64) -> String,
}

impl Chart<'_> {
    pub(super) fn svg(&self) -> String {
        let scale = Scale::of(&self.lines, self.logarithmic, self.height);
        let mut svg = open(self.height + 24.0, self.title);
        for fault in &self.faults {
            span(&mut svg, fault, self.duration, 0.0, self.height);
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
        time_axis(&mut svg, self.duration, self.height);
        for line in &self.lines {
            self.line(&mut svg, line, &scale);
        }
        self.hover(&mut svg);
        svg.push_str("</svg>");
        format!("<figure><figcaption>{}</figcaption>{svg}</figure>", self.caption())
    }

    /// The title, the unit, and what each colour means.
    fn caption(&self) -> String {
        let mut text = format!("<b>{}</b>", escaped(self.title));
        if !self.unit.is_empty() {
            let _ = write!(text, " <span class=\"unit\">{}</span>", escaped(self.unit));
        }
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            let _ = write!(
                text,
                " <span class=\"key\"><i class=\"swatch {}\"></i>{}</span>",
                line.class,
                escaped(line.name)
            );
        }
        text
    }

    fn line(&self, svg: &mut String, line: &Line<'_>, scale: &Scale) {
        let mut path = String::new();
        let mut started = false;
        let mut ends = (0.0, 0.0);
        for (index, value) in line.values.iter().enumerate() {
            // A time of zero on a logarithmic scale is no time: nothing ended well.
            if !value.is_finite() || (self.logarithmic && *value <= 0.0) {
                started = false;
                continue;
            }
            let (x, y) = (self.x(index, line.values.len()), scale.y(*value));
            if ends.0 == 0.0 {
                ends.0 = x;
            }
            ends.1 = x;
            let _ = write!(path, "{}{x:.1} {y:.1}", if started { "L" } else { "M" });
            started = true;
        }
        if line.filled && !path.is_empty() && !self.logarithmic {
            let bottom = self.height;
            let _ = write!(
                svg,
                "<path class=\"area {}\" d=\"{path}L{:.1} {bottom}L{:.1} {bottom}Z\"/>",
                line.class, ends.1, ends.0
            );
        }
        let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
    }

    /// What a pointer over the chart is told.
    fn hover(&self, svg: &mut String) {
        let Some(count) = self.lines.iter().map(|line| line.values.len()).max() else { return };
        // So many that a pointer can tell them apart.
        let each = count.div_ceil(120);
        let step = (WIDTH - LEFT - RIGHT) / count as f64;
        for index in (0..count).step_by(each) {
            let at = self.duration.mul_f64(index as f64 / count as f64);
            let mut text = format!("at {} s", number(at.as_secs_f64()));
            for line in &self.lines {
                if let Some(value) = line.values.get(index) {
                    let name = if line.name.is_empty() { self.title } else { line.name };
                    let _ = write!(text, "\n{name}: {}", (self.label)(*value));
                }
            }
            let (x, wide) = (LEFT + index as f64 * step, step * each as f64);
            let _ = write!(
                svg,
                "<rect class=\"hover\" x=\"{x:.1}\" y=\"0\" width=\"{wide:.2}\" height=\"{}\">\
                 <title>{}</title></rect>",
                self.height,
                escaped(&text)
            );
        }
    }

    fn x(&self, index: usize, count: usize) -> f64 {
        LEFT + (index as f64 + 0.5) / count as f64 * (WIDTH - LEFT - RIGHT)
    }
}

/// A strip of states over the time.
pub(super) fn strip(
    title: &str,
    spans: &[Span],
    duration: Duration,
    keys: &[(&str, &str)],
) -> String {
    const HEIGHT: f64 = 14.0;
    let mut svg = open(HEIGHT, title);
    spans.iter().for_each(|one| span(&mut svg, one, duration, 0.0, HEIGHT));
    svg.push_str("</svg>");
    let mut caption = format!("<b>{}</b>", escaped(title));
    for (name, class) in keys {
        let _ = write!(
            caption,
            " <span class=\"key\"><i class=\"swatch block {class}\"></i>{}</span>",
            escaped(name)
        );
    }
    format!("<figure class=\"strip\"><figcaption>{caption}</figcaption>{svg}</figure>")
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 -6 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        height + 6.0,
        escaped(title)
    )
}

fn span(svg: &mut String, span: &Span, duration: Duration, top: f64, height: f64) {
    let width = WIDTH - LEFT - RIGHT;
    let share = |at: Duration| at.as_secs_f64() / duration.as_secs_f64();
    let from = LEFT + share(span.from.min(duration)) * width;
    // What is too short to be seen is drawn as wide as can be seen.
    let wide = ((share(span.to.min(duration)) - share(span.from.min(duration))) * width).max(1.5);
    let _ = write!(
        svg,
        "<rect class=\"{}\" x=\"{from:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{height}\">\
         <title>{}</title></rect>",
        span.class,
        escaped(&span.title)
    );
}

fn time_axis(svg: &mut String, duration: Duration, height: f64) {
    let whole = duration.as_secs_f64();
    let step = round_step(whole / 6.0);
    let mut at = 0.0;
    while at <= whole * 1.0001 {
        let x = LEFT + at / whole * (WIDTH - LEFT - RIGHT);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{height}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            height + 4.0,
            height + 16.0,
            number(at)
        );
        at += step;
    }
}

/// Where values are, between the top and the bottom.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    height: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn of(lines: &[Line<'_>], logarithmic: bool, height: f64) -> Self {
        let values =
            || lines.iter().flat_map(|line| &line.values).copied().filter(|v| v.is_finite());
        let most = values().fold(0.0, f64::max);
        if logarithmic {
            let least = values().filter(|v| *v > 0.0).fold(f64::MAX, f64::min).min(most);
            let (least, most) = if most > 0.0 { (least, most) } else { (1e-3, 1.0) };
            let (low, high) = (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()));
            let high = if high > low { high } else { low * 10.0 };
            let mut ticks = Vec::new();
            let mut tick = low;
            while tick <= high * 1.001 {
                ticks.push(tick);
                tick *= 10.0;
            }
            return Self { low, high, logarithmic, height, ticks };
        }
        let step = round_step(if most > 0.0 { most / 3.0 } else { 1.0 });
        let high = (most * 1.04 / step).ceil().max(1.0) * step;
        let ticks = (0..=(high / step).round() as u32).map(|n| f64::from(n) * step).collect();
        Self { low: 0.0, high, logarithmic, height, ticks }
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.height * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// 1, 2 or 5 times a power of ten, about `step`.
pub(super) fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}
