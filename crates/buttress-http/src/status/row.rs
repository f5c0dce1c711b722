//! [`Row`]: the numbers of one part, and its actions for operators.

use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use buttress::{bulkhead, circuit_breaker, rate_limit, retry, time_limit};
use serde::Serialize;
use serde_json::{Map, Value};

/// The text of a row whose numbers could not be read.
const NOT_READ: &str = "the numbers could not be read";

/// One line of the page: a part and its numbers.
pub(super) struct Row {
    /// The title of the section.
    pub section: Cow<'static, str>,
    /// Names the row within its section.
    pub name: String,
    /// The numbers by name, or why there are none.
    pub numbers: Result<Map<String, Value>, &'static str>,
    pub operated: Operated,
    pub custom: Vec<Arc<Custom>>,
}

/// The part that the actions of a row change.
pub(super) enum Operated {
    Nothing,
    CircuitBreaker(circuit_breaker::Handle),
    Bulkhead(bulkhead::Handle),
    RateLimit(rate_limit::Handle),
    Retry(retry::Handle),
    TimeLimit(time_limit::Handle),
}

/// The result of an action of the application.
pub(super) type Outcome = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// An action of the application.
pub(super) struct Custom {
    pub section: Cow<'static, str>,
    pub row: String,
    /// Names the action in requests.
    pub name: Cow<'static, str>,
    /// The text of the button.
    pub label: Cow<'static, str>,
    /// The input of the operator. `None` for an action without a value.
    pub value: Option<Cow<'static, str>>,
    /// Whether it changes nothing, and its text is shown as it is written.
    pub is_lookup: bool,
    pub run: Box<dyn Fn(String) -> Outcome + Send + Sync>,
}

impl Row {
    /// Reads the numbers of a part. The row reports a panic, and a value that is not an object of numbers.
    pub(super) fn read<T: Serialize>(
        section: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        operated: Operated,
        read: impl FnOnce() -> T,
    ) -> Self {
        // A closure of the application that panics must not remove the other rows.
        let value = catch_unwind(AssertUnwindSafe(|| serde_json::to_value(read())));
        let numbers = match value {
            Ok(Ok(Value::Object(numbers))) => Ok(numbers),
            Ok(Ok(_) | Err(_)) | Err(_) => Err(NOT_READ),
        };
        Self { section: section.into(), name: name.into(), numbers, operated, custom: Vec::new() }
    }

    /// A row whose part panicked.
    pub(super) fn not_read(section: &'static str, name: &str) -> Self {
        let (section, name) = (section.into(), name.to_owned());
        let (numbers, operated) = (Err(NOT_READ), Operated::Nothing);
        Self { section, name, numbers, operated, custom: Vec::new() }
    }

    /// A row that has only actions.
    pub(super) fn of_actions(custom: &Custom) -> Self {
        let (section, name) = (custom.section.clone(), custom.row.clone());
        let operated = Operated::Nothing;
        Self { section, name, numbers: Ok(Map::new()), operated, custom: Vec::new() }
    }
}

/// Rows by their sections, in the order of the first row of each.
pub(super) fn by_section(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut sections: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match sections.iter_mut().find(|(title, _)| *title == row.section) {
            Some((_, own)) => own.push(row),
            None => sections.push((&row.section, vec![row])),
        }
    }
    sections
}
