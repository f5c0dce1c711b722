//! [`StatusBoard`]: the parts that a status page shows.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use buttress::telemetry::{Sample, Sampler};
use serde::Serialize;
use serde_json::{Value, json};

use super::act::actions;
use super::columns::heading;
use super::row::{Custom, Operated, Row, by_section};

type Source = Box<dyn Fn(&mut Vec<Row>) + Send + Sync>;

/// The parts that a status page shows: circuits, limits, queues, and any numbers of the application.
///
/// Give it the handles, then make a [`StatusPage`](super::StatusPage) or a [`StatusButtons`](super::StatusButtons) from
/// it. The parts are read when the page is asked for. See the [module](super).
///
/// ```
/// use buttress::{bulkhead, circuit_breaker};
/// use buttress_http::status::{StatusBoard, StatusPage};
///
/// let circuit = circuit_breaker::CircuitBreakerLayer::default();
/// let bulkhead = bulkhead::BulkheadLayer::default();
/// let status = StatusBoard::new("shop")
///     .circuit_breaker("payment", circuit.handle())
///     .bulkhead("db", bulkhead.handle());
/// let page = StatusPage::new(status);
/// # let _ = page;
/// ```
#[must_use]
pub struct StatusBoard {
    title: String,
    path: String,
    sources: Vec<Source>,
    custom: Vec<Arc<Custom>>,
}

impl StatusBoard {
    /// Creates a page without parts. `title` is its heading, for example the name of the service.
    pub fn new(title: impl Into<String>) -> Self {
        let (sources, custom) = (Vec::new(), Vec::new());
        Self { title: title.into(), path: String::from("/"), sources, custom }
    }

    /// Sets the path of the requests that the page answers. Default: `/`, which is right under a router that
    /// strips its own part of the path, for example `Router::nest_service` of axum. Other paths are answered
    /// with 404.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Shows the numbers that `read` returns: an object of numbers and texts, for example a `Stats`.
    ///
    /// `read` runs for each request of the page, and must not block. If it panics, the row says that its
    /// numbers could not be read. Rows with the same `section` are one table.
    pub fn numbers<T: Serialize>(
        self,
        section: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        read: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        let (section, name) = (section.into(), name.into());
        self.source(move |rows| {
            let row = Row::read(section.clone(), name.clone(), Operated::Nothing, &read);
            rows.push(row);
        })
    }

    /// Shows every number of `sampler`: the sagas of a store, the backlog of an outbox, the connections of a
    /// pool. A section is a part of the library, a row is the values of the labels.
    ///
    /// The page shows the numbers of the last [`Sampler::refresh`]. The page asks no store by itself: spawn
    /// [`Sampler::refresh_every`].
    pub fn sampler(self, sampler: Sampler) -> Self {
        self.source(move |rows| {
            for sample in sampler.read().samples() {
                add_sample(rows, sample);
            }
        })
    }

    /// Adds a button to the row `row` of `section`, for a page with buttons. `action` names it in requests and
    /// logs, `label` is its text.
    ///
    /// The [module](super#parts) lists the sections, for example `Rate limits by key`. If there is no such row, the page
    /// shows one with the button alone.
    ///
    /// `run` gets the text that the operator entered, if `value` names one, and an empty text otherwise. It
    /// returns the text that the operator sees: `Ok` says what changed, and `Err` says why nothing did.
    ///
    /// ```
    /// use buttress_http::status::StatusBoard;
    /// let status = StatusBoard::new("shop").action(
    ///     ("Sagas of this process", "orders"),
    ///     ("run-again", "Run again"),
    ///     Some("number of the saga"),
    ///     |saga| async move { Ok(format!("saga {saga} runs again")) },
    /// );
    /// # let _ = status;
    /// ```
    pub fn action<F>(
        self,
        place: (&'static str, &'static str),
        action: (&'static str, &'static str),
        value: Option<&'static str>,
        run: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.custom(place, action, value, false, run)
    }

    /// Adds a look-up to the row `row` of `section`, for a page with buttons: the operator enters a text, e.g. an id,
    /// and sees the text that `find` returns, with its lines. `lookup` names it in requests, `label` is the text of its
    /// button, and `value` names what the operator enters.
    ///
    /// `find` must change nothing: a look-up is not logged. `Err` says why there is nothing to show. Otherwise like
    /// [`action`](Self::action).
    ///
    /// With sagas, the `Tree` of [`Executor::state`] is such a text. It has the steps of the saga, their errors, and the
    /// ids of its children. This look-up takes the number of an order, whose saga has the id `SagaId::new(number)`. A
    /// look-up by the id of a log line reads it with `id.trim().parse::<SagaId>()`, and returns the text of the error:
    ///
    /// ```
    /// use buttress_http::status::StatusBoard;
    /// # async fn state(_: u128) -> Result<Option<String>, std::io::Error> { Ok(None) }
    /// let status = StatusBoard::new("shop").lookup(
    ///     ("Sagas of this process", "orders"),
    ///     ("show", "Show"),
    ///     "number of the order",
    ///     |order| async move {
    ///         let number = order.trim().parse::<u128>();
    ///         let number = number.map_err(|error| format!("{order:?} is not a number: {error}"))?;
    ///         let tree = state(number).await.map_err(|error| error.to_string())?;
    ///         tree.map(|tree| tree.to_string()).ok_or_else(|| format!("there is no order {number}"))
    ///     },
    /// );
    /// # let _ = status;
    /// ```
    ///
    /// [`Executor::state`]: https://docs.rs/buttress-durable/latest/buttress_durable/saga/struct.Executor.html#method.state
    pub fn lookup<F>(
        self,
        place: (&'static str, &'static str),
        lookup: (&'static str, &'static str),
        value: &'static str,
        find: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.custom(place, lookup, Some(value), true, find)
    }

    fn custom<F>(
        mut self,
        (section, row): (&'static str, &'static str),
        (name, label): (&'static str, &'static str),
        value: Option<&'static str>,
        is_lookup: bool,
        run: impl Fn(String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        let custom = Custom {
            section: section.into(),
            row: row.to_owned(),
            name: name.into(),
            label: label.into(),
            value: value.map(Cow::from),
            is_lookup,
            run: Box::new(move |value| Box::pin(run(value))),
        };
        self.custom.push(Arc::new(custom));
        self
    }

    pub(super) fn source(mut self, add: impl Fn(&mut Vec<Row>) + Send + Sync + 'static) -> Self {
        self.sources.push(Box::new(add));
        self
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Checks whether `path` is the path of the page.
    pub(super) fn is_at(&self, path: &str) -> bool {
        let plain = |path: &str| path.trim_end_matches('/').to_owned();
        plain(path) == plain(&self.path)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reads every part.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for source in &self.sources {
            // The rows before a panic stay: each was pushed whole.
            let read = catch_unwind(AssertUnwindSafe(|| source(&mut rows)));
            if read.is_err() {
                rows.push(Row::not_read("Other parts", "a part"));
            }
        }
        for custom in &self.custom {
            let of = |row: &&mut Row| row.section == custom.section && row.name == custom.row;
            match rows.iter_mut().find(of) {
                Some(row) => row.custom.push(custom.clone()),
                None => {
                    let mut row = Row::of_actions(custom);
                    row.custom.push(custom.clone());
                    rows.push(row);
                }
            }
        }
        rows
    }

    /// The page as JSON; with the actions of each row if `operated`.
    pub(super) fn json(&self, operated: bool) -> Value {
        let rows = self.rows();
        let row = |row: &&Row| {
            let mut one = match &row.numbers {
                Ok(numbers) => json!({ "name": row.name, "numbers": numbers }),
                Err(error) => json!({ "name": row.name, "error": error }),
            };
            if let (true, Value::Object(one)) = (operated, &mut one) {
                let names = actions(row).into_iter().map(|action| Value::from(&*action.name));
                one.insert(String::from("actions"), names.collect());
            }
            one
        };
        let section = |(title, rows): &(&str, Vec<&Row>)| {
            let rows: Vec<Value> = rows.iter().map(row).collect();
            json!({ "title": title, "rows": rows })
        };
        let sections: Vec<Value> = by_section(&rows).iter().map(section).collect();
        json!({ "title": self.title, "sections": sections })
    }
}

/// Adds a number of a sampler to its row.
fn add_sample(rows: &mut Vec<Row>, sample: &Sample) {
    let name = sample.instrument.name;
    let name = name.strip_prefix("buttress.").unwrap_or(name);
    let (part, number) = name.split_once('.').unwrap_or((name, name));
    let labels = sample.labels.join(" · ");
    let section = match (part, number) {
        // A monitor reads these numbers from the store. The others of the part are of this process.
        ("saga", "stored" | "oldest_age") => Cow::from("Stored sagas"),
        ("saga", _) => Cow::from("Sagas of this process"),
        ("outbox", "backlog" | "backlog.oldest_age" | "dead" | "held_keys") => {
            Cow::from("Stored messages")
        }
        ("outbox", _) => Cow::from("Messages of this process"),
        ("pool", _) => Cow::from("Pools"),
        (other, _) => Cow::from(heading(other)),
    };
    let is_own = |row: &&mut Row| row.section == section && row.name == labels;
    if let Some(Row { numbers: Ok(numbers), .. }) = rows.iter_mut().find(is_own) {
        numbers.insert(number.to_owned(), number_of(sample.value));
        return;
    }
    let read = || json!({ number: number_of(sample.value) });
    rows.push(Row::read(section, labels, Operated::Nothing, read));
}

/// A count without a fraction.
fn number_of(value: f64) -> Value {
    // Whole numbers up to 2^53 are exact.
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) {
        Value::from(value as u64)
    } else {
        Value::from(value)
    }
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusBoard")
            .field("title", &self.title)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
