//! The account: what must have happened, and what did.

use buttress_edge::RouteStats;

/// All lines of the account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Act(&'static str),
    Check { what: String, expected: u64, found: u64 },
}

impl Account {
    /// Begins an act.
    pub(crate) fn act(&mut self, what: &'static str) {
        self.lines.push(Line::Act(what));
    }

    /// Adds a number that must be `expected`.
    pub(crate) fn check(&mut self, what: impl Into<String>, expected: u64, found: u64) {
        self.lines.push(Line::Check { what: what.into(), expected, found });
    }

    /// Adds the sum of a route: every request that began has ended, in exactly one way.
    pub(crate) fn sum(&mut self, gateway: &str, route: &str, stats: RouteStats) {
        let RouteStats { begun, answered, failed, refused, abandoned, in_flight, .. } = stats;
        let ended = answered + failed + refused.total() + abandoned;
        let open = begun.abs_diff(ended) + in_flight;
        self.check(format!("{gateway} gateway, {route}: begun and not ended"), 0, open);
    }

    /// Prints all lines. Returns whether every number is the expected one.
    pub(crate) fn print(&self) -> bool {
        let mut adds_up = true;
        for line in &self.lines {
            match line {
                Line::Act(what) => println!("\n{what}"),
                Line::Check { what, expected, found } if expected == found => {
                    println!("  {what:<58} {found:>6}");
                }
                Line::Check { what, expected, found } => {
                    adds_up = false;
                    println!("  {what:<58} {found:>6}  WRONG: must be {expected}");
                }
            }
        }
        println!("\n{}", if adds_up { "The account adds up." } else { "The account is WRONG." });
        adds_up
    }
}
