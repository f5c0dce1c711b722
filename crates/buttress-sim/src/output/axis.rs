//! The time axis, from left to right.

use std::fmt::Write;
use std::time::Duration;

use super::figures::number;
use super::html::escaped;
use crate::{FaultSpan, Outcome};

/// The size of a chart, in the units of its view box.
pub(super) const WIDTH: f64 = 640.0;
pub(super) const LEFT: f64 = 58.0;
pub(super) const RIGHT: f64 = 14.0;

/// A time range of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct View {
    pub from: Duration,
    pub to: Duration,
}

/// A span on the time axis: a fault behind the lines, or a state in a band.
pub(super) struct Span {
    pub from: Duration,
    pub to: Duration,
    pub class: String,
    pub title: String,
}

/// Returns the first fault that begins before the end.
pub(super) fn first_fault(outcome: &Outcome) -> Option<&FaultSpan> {
    let met = outcome.faults().iter().filter(|fault| fault.from < outcome.duration());
    met.min_by_key(|fault| fault.from)
}

impl View {
    /// Returns the whole run.
    pub(super) const fn whole(outcome: &Outcome) -> Self {
        Self { from: Duration::ZERO, to: outcome.duration() }
    }

    /// Returns an enlarged range around the first fault, if it shows more detail than the whole
    /// run.
    pub(super) fn close_up(outcome: &Outcome) -> Option<Self> {
        let fault = first_fault(outcome)?;
        let window = outcome.windows().first().map(|window| window.length).unwrap_or_default();
        let margin = (fault.to.saturating_sub(fault.from)).max(window) * 5;
        let to = (fault.to + margin * 4).min(outcome.duration());
        let from = fault.from.saturating_sub(margin);
        (to.saturating_sub(from) < outcome.duration() / 2).then_some(Self { from, to })
    }

    /// Returns the position of a time, from 0 at the left to 1 at the right; outside of that if it
    /// is not in view.
    pub(super) fn share(self, at: Duration) -> f64 {
        let from = self.from.as_secs_f64();
        (at.as_secs_f64() - from) / (self.to.as_secs_f64() - from)
    }

    /// Returns the horizontal position of a time in a chart.
    pub(super) fn x(self, at: Duration) -> f64 {
        LEFT + self.share(at) * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn shows(self, from: Duration, to: Duration) -> bool {
        from < self.to && to > self.from
    }

    /// Returns round times in view, about `count` of them.
    pub(super) fn ticks(self, count: f64) -> Vec<Duration> {
        let (from, to) = (self.from.as_secs_f64(), self.to.as_secs_f64());
        let step = round_step((to - from) / count);
        let first = (from / step).ceil();
        let ticks = (0..1_000).map(|n| (first + f64::from(n)) * step);
        let ticks = ticks.take_while(|at| *at <= to + step * 0.001);
        ticks.filter_map(|at| Duration::try_from_secs_f64(at).ok()).collect()
    }
}

pub(super) fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 -6 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        height + 6.0,
        escaped(title)
    )
}

pub(super) fn span(svg: &mut String, span: &Span, view: View, height: f64) {
    if !view.shows(span.from, span.to) {
        return;
    }
    let (from, to) = (view.x(span.from.max(view.from)), view.x(span.to.min(view.to)));
    // A span that is too short to be visible is drawn at the least visible width.
    let wide = (to - from).max(2.0);
    let _ = write!(
        svg,
        "<rect class=\"{}\" x=\"{from:.1}\" y=\"0\" width=\"{wide:.1}\" height=\"{height}\">\
         <title>{}</title></rect>",
        span.class,
        escaped(&span.title)
    );
}

pub(super) fn time_axis(svg: &mut String, view: View, height: f64) {
    for at in view.ticks(6.0) {
        let x = view.x(at);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{height}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            height + 4.0,
            height + 16.0,
            number(at.as_secs_f64())
        );
    }
}

/// Returns 1, 2 or 5 times a power of ten, about `step`.
pub(super) fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}
