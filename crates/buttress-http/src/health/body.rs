//! The bodies, as JSON.

use std::fmt::Write;
use std::time::Duration;

use buttress::health::{CheckReport, Report, Status};

use crate::json::push_text;

/// A JSON object that grows by one member after another.
struct Object<'a> {
    json: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn begin(json: &'a mut String) -> Self {
        json.push('{');
        Self { json, is_empty: true }
    }

    /// Writes the name of the next member. The caller writes its value.
    fn member(&mut self, name: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.json.push(',');
        }
        push_text(self.json, name);
        self.json.push(':');
        self.json
    }

    fn text(&mut self, name: &str, text: &str) {
        push_text(self.member(name), text);
    }

    fn millis(&mut self, name: &str, time: Duration) {
        // Writing to a `String` cannot fail.
        let _ = write!(self.member(name), "{}", time.as_millis());
    }

    /// Writes a list. `item` writes one item of it.
    fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        item: impl Fn(&mut String, T),
    ) {
        let json = self.member(name);
        json.push('[');
        for (index, it) in items.into_iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            item(json, it);
        }
        json.push(']');
    }

    fn end(self) {
        self.json.push('}');
    }
}

/// Returns the body of a group.
pub(super) fn of_status(status: Status) -> String {
    let mut json = String::new();
    let mut object = Object::begin(&mut json);
    object.text("status", status.as_str());
    object.end();
    json
}

/// Returns the body of the whole service, for anonymous clients.
pub(super) fn of_service(status: Status, name: &str, version: &str) -> String {
    let mut json = String::new();
    let mut object = Object::begin(&mut json);
    object.text("status", status.as_str());
    identify(&mut object, name, version);
    object.end();
    json
}

/// Returns the body with every check, for operators.
pub(super) fn of_report(report: &Report) -> String {
    let mut json = String::new();
    let mut object = Object::begin(&mut json);
    object.text("status", report.status.as_str());
    identify(&mut object, report.name.as_str(), &report.version);
    object.text("live", report.live.as_str());
    object.text("ready", report.ready.as_str());
    object.text("startup", report.startup.as_str());
    object.member("draining").push_str(if report.draining { "true" } else { "false" });
    object.list("checks", &report.checks, push_check);
    object.end();
    json
}

fn identify(object: &mut Object<'_>, name: &str, version: &str) {
    object.text("name", name);
    if !version.is_empty() {
        object.text("version", version);
    }
}

fn push_check(json: &mut String, check: &CheckReport) {
    let mut object = Object::begin(json);
    object.text("name", check.name.as_str());
    object.text("importance", check.importance.as_str());
    object.list("groups", &check.groups, |json, group| push_text(json, group.as_str()));
    object.text("status", check.status.as_str());
    if let Some(text) = &check.text {
        object.text("text", text);
    }
    if let Some(age) = check.age {
        object.millis("age_ms", age);
    }
    if let Some(took) = check.took {
        object.millis("took_ms", took);
    }
    object.end();
}
