//! Panels of dots on a logarithmic scale, as SVG. They are readable on a light and on a dark page.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const COLUMNS: usize = 2;
const MARGIN: f64 = 16.0;
const HEAD: f64 = 62.0;
/// The space for names at the left of a panel.
const NAMES: f64 = 156.0;
/// The space for figures at the right of a panel.
const FIGURES: f64 = 104.0;
const TITLE: f64 = 24.0;
const LINE: f64 = 18.0;
const AXIS: f64 = 26.0;
const DOT: f64 = 4.5;
/// The longest name that fits, in characters.
const LONGEST: usize = 22;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.head{font-size:16px;font-weight:600}.title{font-weight:600}.small{font-size:11px;fill:#57606a}\
.grid{stroke:#d0d7de;stroke-width:1}.track{stroke:#8c959f;stroke-width:2}\
.dot{fill:#8c959f;stroke:#8c959f}.floor{fill:#b58900;stroke:#b58900}.ours{fill:#0969da;stroke:#0969da}\
.ring{fill:#fff}.page{fill:#fff}.bold{font-weight:600}circle{stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.grid{stroke:#30363d}\
.track{stroke:#6e7681}.dot{fill:#8b949e;stroke:#8b949e}.floor{fill:#d29922;stroke:#d29922}\
.ours{fill:#4493f8;stroke:#4493f8}.ring,.page{fill:#0d1117}}";

/// A candidate: one dot, or a ring and a dot.
pub(super) struct Line {
    pub label: String,
    pub ours: bool,
    pub floor: bool,
    pub values: Vec<f64>,
}

impl Line {
    /// Returns the figure that sorts the lines.
    pub(super) fn last(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }

    fn class(&self) -> &'static str {
        match (self.ours, self.floor) {
            (true, _) => "ours",
            (_, true) => "floor",
            _ => "dot",
        }
    }
}

pub(super) struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

impl Panel {
    fn height(&self) -> f64 {
        TITLE + LINE * self.lines.len() as f64 + AXIS
    }
}

pub(super) struct Chart {
    pub title: String,
    pub note: String,
    pub panels: Vec<Panel>,
}

/// The powers of ten that enclose every value of a chart.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Scale {
    from: i32,
    to: i32,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut from, mut to) = (i32::MAX, i32::MIN);
        for power in values.map(f64::log10) {
            from = from.min(power.floor() as i32);
            to = to.max(power.ceil() as i32);
        }
        Self { from, to: to.max(from.saturating_add(1)) }
    }

    /// Returns the position of a value, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from)
    }
}

impl Chart {
    pub(super) fn to_svg(&self) -> String {
        let values =
            self.panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.values);
        let scale = Scale::of(values.copied());
        let column = (WIDTH - MARGIN * (COLUMNS as f64 + 1.0)) / COLUMNS as f64;
        let (mut body, mut y) = (String::new(), HEAD);
        for row in self.panels.chunks(COLUMNS) {
            for (at, panel) in row.iter().enumerate() {
                let x = MARGIN + at as f64 * (column + MARGIN);
                draw(&mut body, panel, scale, [x, y], column);
            }
            y += row.iter().map(Panel::height).fold(0.0, f64::max) + MARGIN;
        }
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
             height=\"{y}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n",
            title = escaped(&self.title),
        );
        text(&mut svg, "head", "start", [MARGIN, 26.0], &self.title);
        text(&mut svg, "small", "start", [MARGIN, 45.0], &self.note);
        svg + &body + "</svg>\n"
    }
}

fn draw(svg: &mut String, panel: &Panel, scale: Scale, [x, y]: [f64; 2], width: f64) {
    let (left, wide) = (x + NAMES, width - NAMES - FIGURES);
    let bottom = y + panel.height() - AXIS;
    text(svg, "title", "start", [x, y + 12.0], &panel.title);
    for power in scale.from..=scale.to {
        let at = left + wide * scale.place(10f64.powi(power));
        let top = y + TITLE - 4.0;
        line(svg, "grid", [at, top], [at, bottom]);
        text(svg, "small", "middle", [at, bottom + 14.0], &power_of_ten(power));
    }
    for (each, number) in panel.lines.iter().zip(0u16..) {
        let middle = y + TITLE + LINE * (f64::from(number) + 0.5);
        let places: Vec<f64> =
            each.values.iter().map(|value| left + wide * scale.place(*value)).collect();
        let bold = if each.ours { "bold" } else { "" };
        text(svg, bold, "end", [left - 10.0, middle + 4.0], &shortened(&each.label));
        if let [first, .., last] = places.as_slice() {
            line(svg, "track", [*first, middle], [*last, middle]);
        }
        for (at, place) in places.iter().enumerate() {
            let ring = if at + 1 < places.len() { " ring" } else { "" };
            let class = each.class();
            let _ = writeln!(
                svg,
                "<circle class=\"{class}{ring}\" cx=\"{place:.1}\" cy=\"{middle:.1}\" r=\"{DOT}\"/>"
            );
        }
        let figures: Vec<String> = each.values.iter().map(|value| figure(*value)).collect();
        let right = x + width;
        text(svg, bold, "end", [right, middle + 4.0], &figures.join(" → "));
    }
}

fn line(svg: &mut String, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, [x, y]: [f64; 2], text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    );
}

/// Formats a value: two digits below ten, and spaces between thousands from ten thousand on.
fn figure(value: f64) -> String {
    if value < 9.95 {
        return format!("{value:.1}");
    }
    let whole = format!("{value:.0}");
    match whole.split_at_checked(whole.len().saturating_sub(3)) {
        Some((thousands, rest)) if thousands.len() > 1 => format!("{thousands} {rest}"),
        _ => whole,
    }
}

fn power_of_ten(power: i32) -> String {
    if power < 0 {
        format!("{}", 10f64.powi(power))
    } else {
        figure(10f64.powi(power)).replace(".0", "")
    }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    label.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Chart, Line, Panel, Scale, figure, power_of_ten, shortened};

    #[test]
    fn a_scale_holds_every_value() {
        let scale = Scale::of([8.0, 1228.0].into_iter());
        assert_eq!(scale, Scale { from: 0, to: 4 });
        assert!((scale.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!(Scale::of([10.0].into_iter()), Scale { from: 1, to: 2 });
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(["1.3", "10", "1228", "12 177"], [1.34, 9.96, 1228.4, 12177.0].map(figure));
        assert_eq!(["0.1", "1", "10", "10 000"], [-1, 0, 1, 4].map(power_of_ten));
        assert_eq!(shortened("tower-resilience, fixed window"), "tower-resilience, fix…");
    }

    #[test]
    fn a_candidate_has_its_dots_and_its_name_escaped() {
        let line =
            |label: &str, values| Line { label: label.into(), ours: false, floor: false, values };
        let lines = vec![line("a & b", vec![1.0, 10.0]), line("c", vec![5.0])];
        let panels = vec![Panel { title: "x < y".into(), lines }];
        let svg = Chart { title: "t".into(), note: "n".into(), panels }.to_svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("ring\"").count(), 1);
        assert_eq!(svg.matches("class=\"track\"").count(), 1);
        assert!(svg.contains(">a &amp; b<") && svg.contains(">x &lt; y<"));
    }
}
