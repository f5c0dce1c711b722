//! What an operator can change, and how.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use http::StatusCode;
use serde::Deserialize;

use super::board::StatusBoard;
use super::row::{Custom, Operated, Row};

/// One action of a row.
pub(super) struct Action {
    /// Names the action in requests and logs.
    pub name: Cow<'static, str>,
    /// The text of the button.
    pub label: Cow<'static, str>,
    /// The input of the operator.
    pub value: Option<Field>,
    /// The question before an action that stops or unprotects every call.
    pub confirm: Option<&'static str>,
}

/// A value that the operator enters.
pub(super) struct Field {
    pub label: Cow<'static, str>,
    /// The value in force.
    pub now: Option<String>,
}

/// The body of a change.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    pub section: String,
    pub name: String,
    pub action: String,
    #[serde(default)]
    pub value: String,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(super) struct NotDone {
    pub status: StatusCode,
    pub why: String,
}

impl NotDone {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

/// The progress of a command: done, or an action of the application that has still to run.
pub(super) enum Begun {
    Done(String),
    Custom(Arc<Custom>),
}

fn button(name: &'static str, label: &'static str, confirm: Option<&'static str>) -> Action {
    Action { name: name.into(), label: label.into(), value: None, confirm }
}

fn setting(name: &'static str, label: &'static str, now: u128) -> Action {
    let value = Some(Field { label: label.into(), now: Some(now.to_string()) });
    Action { name: name.into(), label: "Set".into(), value, confirm: None }
}

/// The actions of a row.
pub(super) fn actions(row: &Row) -> Vec<Action> {
    let mut actions = match &row.operated {
        Operated::Nothing => Vec::new(),
        Operated::CircuitBreaker(_) => vec![
            button("force-open", "Force open", Some("Refuse every call")),
            button("disable", "Let all pass", Some("Let every call pass, whatever fails")),
            button("reset", "Reset", None),
        ],
        Operated::Bulkhead(handle) => {
            vec![setting("set-max-concurrent", "limit", handle.stats().max_concurrent.into())]
        }
        Operated::RateLimit(handle) => {
            let stats = handle.stats();
            vec![
                setting("set-max-tokens", "size", stats.max_tokens.into()),
                setting("set-refill-tokens", "per period", stats.refill_tokens.into()),
            ]
        }
        Operated::Retry(handle) => {
            vec![setting("set-attempts", "attempts", handle.stats().attempts.into())]
        }
        Operated::TimeLimit(handle) => {
            vec![setting("set-limit-ms", "ms", handle.stats().limit.as_millis())]
        }
    };
    actions.extend(row.custom.iter().map(|custom| Action {
        name: custom.name.clone(),
        label: custom.label.clone(),
        value: custom.value.clone().map(|label| Field { label, now: None }),
        confirm: None,
    }));
    actions
}

impl StatusBoard {
    /// Does what `command` says, or finds the action of the application that does.
    pub(super) fn begin(&self, command: &Command) -> Result<Begun, NotDone> {
        let rows = self.rows();
        let is_meant = |row: &&Row| row.section == command.section && row.name == command.name;
        let Some(row) = rows.iter().find(is_meant) else {
            return Err(NotDone::new(StatusCode::NOT_FOUND, "there is no such row"));
        };
        if let Some(custom) = row.custom.iter().find(|custom| custom.name == command.action) {
            return Ok(Begun::Custom(custom.clone()));
        }
        let action = command.action.as_str();
        match (&row.operated, action) {
            (Operated::CircuitBreaker(handle), "force-open") => handle.force_open(),
            (Operated::CircuitBreaker(handle), "disable") => handle.disable(),
            (Operated::CircuitBreaker(handle), "reset") => handle.reset(),
            (Operated::Bulkhead(handle), "set-max-concurrent") => {
                taken(handle.resize(number(command)?))?;
            }
            (Operated::RateLimit(handle), "set-max-tokens") => {
                taken(handle.reconfigure(&handle.config().max_tokens(number(command)?)))?;
            }
            (Operated::RateLimit(handle), "set-refill-tokens") => {
                let period = handle.stats().refill_period;
                taken(handle.reconfigure(&handle.config().refill(number(command)?, period)))?;
            }
            (Operated::Retry(handle), "set-attempts") => {
                taken(handle.reconfigure(&handle.config().attempts(number(command)?)))?;
            }
            (Operated::TimeLimit(handle), "set-limit-ms") => {
                let limit = Duration::from_millis(number(command)?.into());
                taken(handle.reconfigure(&buttress::time_limit::Config::new(limit)))?;
            }
            _ => return Err(NotDone::new(StatusCode::NOT_FOUND, "the row has no such action")),
        }
        Ok(Begun::Done(match command.value.as_str() {
            "" => format!("{action}: {}", command.name),
            value => format!("{action} {value}: {}", command.name),
        }))
    }
}

fn number(command: &Command) -> Result<u32, NotDone> {
    command.value.trim().parse().map_err(|_| {
        let why = format!("the value must be a whole number up to {}", u32::MAX);
        NotDone::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })
}

/// Rules that the part refused.
fn taken(result: Result<(), InvalidConfig>) -> Result<(), NotDone> {
    result.map_err(|error| NotDone::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}
