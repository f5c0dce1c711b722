//! Sagas between the trait and the tables: the operations of the writer, rows as records, and the
//! answers to writes that met unexpected rows.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::{
    Append, Appended, Entry, EntryKind, NewSaga, Record, SagaId, Status, Summary, WorkerId,
};

use crate::bounds;
use crate::epoch;
use crate::number::signed;
use crate::queue::{Job, Op, operations, pass_on};
use crate::time;

pub(crate) mod barrier;
pub(crate) mod beginning;
pub(crate) mod delegated;
pub(crate) mod found;
pub(crate) mod migration;
pub(crate) mod passes;
mod row;
pub(crate) mod signal;
mod status;

pub(crate) use row::{HEAD, LINE, head};
pub(crate) use status::{ENDED, WAITING, WORKING};
#[cfg(feature = "sqlite")]
pub(crate) use status::{OPEN, STUCK};

pub(crate) type Create = Job<NewSaga<Vec<u8>>, ()>;
pub(crate) type Add = Job<Append<Vec<u8>>, Appended>;
pub(crate) type Renew = Job<(WorkerId, Duration), ()>;

operations!(LogOp {
    Create(Create) in creates,
    Append(Add) in appends,
    Renew(Renew) in renews,
});

impl Op for LogOp {
    fn subject(&self) -> u128 {
        match self {
            Self::Create(job) => job.input.id.get(),
            Self::Append(job) => job.input.saga.get(),
            Self::Renew(job) => job.input.0.get(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Create(job) => 2 + job.input.entries.len(),
            Self::Append(job) => 1 + job.input.entries.len(),
            Self::Renew(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Create(job) => {
                beginning::bytes(&job.input.beginning) + bounds::bytes_of(&job.input.entries)
            }
            Self::Append(job) => bounds::bytes_of(&job.input.entries),
            Self::Renew(_) => 0,
        }
    }

    pass_on!(Create Append Renew);
}

/// Refuses a saga that does not fit, and replaces U+0000 in its texts.
pub(crate) fn prepare_create(saga: &mut NewSaga<Vec<u8>>) -> Result<(), StoreError> {
    let what = format!("saga {}", saga.id);
    bounds::check_name(&what, &saga.definition)?;
    bounds::check_name(&what, saga.codec)?;
    bounds::check_entries(&what, &saga.entries)?;
    beginning::check(&what, &saga.beginning)?;
    bounds::check_size(&what, beginning::bytes(&saga.beginning) + bounds::bytes_of(&saga.entries))?;
    make_readable(&mut saga.entries);
    Ok(())
}

/// Refuses an append that does not fit, and replaces U+0000 in its texts.
pub(crate) fn prepare_append(append: &mut Append<Vec<u8>>) -> Result<(), StoreError> {
    let what = format!("saga {}", append.saga);
    if append.entries.is_empty() {
        return Err(StoreError::invalid(format!("{what}: an append without entries")));
    }
    bounds::check_entries(&what, &append.entries)?;
    if append.status != Status::Waiting {
        append.due_in = None;
    } else if append.due_in.is_none() {
        return Err(StoreError::invalid(format!(
            "{what}: a wait without the time until it is over"
        )));
    }
    // No row has such an epoch, and no position can be added to.
    if append.epoch >= i64::MAX as u64 {
        return Err(StoreError::fenced(format!("{what}: not owned under epoch {}", append.epoch)));
    }
    if append.position > (i64::MAX - bounds::MOST_ENTRIES as i64) as u64 {
        return Err(StoreError::conflict(format!(
            "{what}: no log can be as long as position {}",
            append.position
        )));
    }
    make_readable(&mut append.entries);
    Ok(())
}

fn make_readable(entries: &mut [Entry<Vec<u8>>]) {
    for note in entries.iter_mut().filter_map(Entry::note_mut).flatten() {
        if note.contains('\0') {
            *note = bounds::readable(note);
        }
    }
}

/// How long a damaged saga whose wait is over waits again. Meanwhile others are taken before it.
pub(crate) const DAMAGED_WAITS: Duration = Duration::from_secs(60);

/// The row of a saga, without its log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub number: i64,
    pub id: SagaId,
    definition: String,
    version: i64,
    codec: String,
    epoch: i64,
    status: i64,
    length: i64,
    cancel: bool,
    deadline: Option<i64>,
    pub worker: WorkerId,
    /// When the saga is due. A row whose saga does not wait any more may keep the time.
    due_at: Option<i64>,
    /// How many signals the saga has.
    pub signals: i64,
}

/// The row and the log of a saga that was looked up; `Corrupt` if they are damaged.
pub(crate) type FoundHead = Result<Head, StoreError>;
pub(crate) type FoundLines = Result<Vec<Line>, StoreError>;

/// Returns the error of a saga whose row or log cannot be read.
pub(crate) fn unreadable(saga: SagaId, what: &str, error: sqlx::Error) -> StoreError {
    StoreError::corrupt(format!("saga {saga}: its {what} cannot be read: {error}"))
        .with_source(error)
}

/// A row of a log. The first entry is at [`FIRST`] with kind 0; the others count from 0.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    position: i64,
    kind: i64,
    step: i64,
    payload: Option<Vec<u8>>,
    note: Option<String>,
    recorded_at: Option<i64>,
}

/// The position of the first entry of a log, which holds the input.
pub(crate) const FIRST: i64 = -1;

impl Head {
    /// Returns the status, or why it cannot be read.
    pub(crate) fn status(&self) -> Result<Status, String> {
        u8::try_from(self.status)
            .ok()
            .and_then(Status::from_code)
            .ok_or_else(|| format!("saga {}: unknown status {}", self.id, self.status))
    }

    pub(crate) fn summary(&self) -> Result<Summary, String> {
        let definition = (self.definition.as_str(), self.version()?);
        let mut summary = Summary::new(self.id, definition, self.status()?, self.epoch()?);
        summary.due_at = self.due_at(summary.status);
        Ok(summary)
    }

    /// Returns when the saga is due, if it waits.
    fn due_at(&self, status: Status) -> Option<Duration> {
        self.due_at.filter(|_| status == Status::Waiting).map(time::duration)
    }

    /// Returns the whole saga under its next epoch, which the caller writes to the row. The store has read the
    /// row at `now`.
    pub(crate) fn taken(
        mut self,
        lines: impl IntoIterator<Item = Line>,
        now: i64,
    ) -> Result<Record<Vec<u8>>, String> {
        self.epoch = epoch::next(self.epoch)
            .ok_or_else(|| format!("saga {}: no epoch follows epoch {}", self.id, self.epoch))?;
        let mut record = self.record(lines)?;
        record.taken_at = Some(time::duration(now));
        Ok(record)
    }

    /// Makes a saga that waits run. The caller writes the change to the row.
    pub(crate) fn wake(&mut self) {
        self.status = Status::Running.code().into();
    }

    /// Returns the whole saga, from all lines of its log in order.
    pub(crate) fn record(
        self,
        lines: impl IntoIterator<Item = Line>,
    ) -> Result<Record<Vec<u8>>, String> {
        let id = self.id;
        let mut lines = lines.into_iter().peekable();
        let (mut beginning, created_at) = match lines.next() {
            Some(Line { position: FIRST, payload: Some(input), note, recorded_at, .. }) => {
                (beginning::read(input, note), recorded_at)
            }
            _ => return Err(format!("saga {id}: its input is missing")),
        };
        if beginning.shape.is_none() {
            beginning.shape = lines.peek().and_then(Line::old_shape);
        }
        let (mut entries, mut times) = (Vec::new(), Vec::new());
        for (position, line) in (0..).zip(lines) {
            if line.position != position {
                return Err(format!("saga {id}: entry {position} of its log is missing"));
            }
            times.push(line.recorded_at.map(time::duration));
            entries.push(line.entry().map_err(|what| format!("saga {id}: {what}"))?);
        }
        if i64::try_from(entries.len()) != Ok(self.length) {
            let (found, wanted) = (entries.len(), self.length);
            return Err(format!("saga {id}: {found} of the {wanted} entries of its log are there"));
        }
        let (deadline, version) = (self.deadline()?, self.version()?);
        let (epoch, status) = (self.epoch()?, self.status()?);
        let signals = self.signals()?;
        let due_at = self.due_at(status);
        let definition = (self.definition, version);
        let mut record = Record::new(id, definition, self.codec, beginning, entries);
        (record.epoch, record.status) = (epoch, status);
        (record.cancel_requested, record.deadline) = (self.cancel, deadline);
        (record.due_at, record.signals) = (due_at, signals);
        (record.created_at, record.times) = (created_at.map(time::duration), times);
        Ok(record)
    }

    fn deadline(&self) -> Result<Option<Duration>, String> {
        match self.deadline {
            Some(deadline) if deadline < 0 => {
                Err(format!("saga {}: deadline {deadline} is negative", self.id))
            }
            deadline => Ok(deadline.map(time::duration)),
        }
    }

    fn version(&self) -> Result<u32, String> {
        let version = self.version;
        u32::try_from(version)
            .map_err(|_| format!("saga {}: version {version} is out of range", self.id))
    }

    fn signals(&self) -> Result<u64, String> {
        let signals = self.signals;
        u64::try_from(signals)
            .map_err(|_| format!("saga {}: the count of signals {signals} is negative", self.id))
    }

    fn epoch(&self) -> Result<u64, String> {
        let epoch = self.epoch;
        epoch::read(epoch).ok_or_else(|| format!("saga {}: epoch {epoch} is out of range", self.id))
    }
}

impl Line {
    fn entry(self) -> Result<Entry<Vec<u8>>, String> {
        let position = self.position;
        let kind = u8::try_from(self.kind)
            .ok()
            .and_then(EntryKind::from_code)
            .ok_or_else(|| format!("entry {position}: unknown kind {}", self.kind))?;
        let step = u16::try_from(self.step)
            .map_err(|_| format!("entry {position}: step {} is out of range", self.step))?;
        Entry::from_parts(kind, step, self.payload, self.note).ok_or_else(|| match kind {
            EntryKind::WaitStarted => format!("entry {position}: {kind:?} without a length"),
            _ => format!("entry {position}: {kind:?} without an output"),
        })
    }

    /// Returns the shape of the definition from an entry at position 0 of an older release. That
    /// release kept the shape in the note of the first step's start.
    fn old_shape(&self) -> Option<String> {
        let is_start = self.kind == i64::from(EntryKind::ActionStarted.code());
        self.note.clone().filter(|_| is_start && self.position == 0)
    }

    fn says(&self, entry: &Entry<Vec<u8>>) -> bool {
        self.kind == i64::from(entry.kind().code())
            && self.step == i64::from(entry.step())
            && self.payload.as_ref() == entry.payload()
            && self.note.as_deref() == entry.note()
    }
}

/// Returns the answer to an append that found no matching row. `lines` are those of the log from
/// its position on, up to as many as the append has.
pub(crate) fn judge_append(
    append: &Append<Vec<u8>>,
    head: Option<FoundHead>,
    lines: FoundLines,
) -> Result<Appended, StoreError> {
    let id = append.saga;
    let (head, lines) = (head.transpose()?, lines?);
    let Some(head) = head else {
        return Err(StoreError::fenced(format!("saga {id}: unknown")));
    };
    if u64::try_from(head.epoch) != Ok(append.epoch) {
        return Err(StoreError::fenced(format!(
            "saga {id}: owned under epoch {}, not {}",
            head.epoch, append.epoch
        )));
    }
    // The same owner, and the entries are there: the answer was lost.
    let there = lines.len() == append.entries.len()
        && lines.iter().zip(&append.entries).all(|(line, entry)| line.says(entry));
    let is_last = u64::try_from(head.length)
        .is_ok_and(|length| append.position.saturating_add(append.entries.len() as u64) == length);
    if there && (!is_last || head.status == i64::from(append.status.code())) {
        return Ok(Appended::new(head.cancel));
    }
    let is_open = head.status().is_ok_and(|status| !status.is_ended());
    let is_unseen = append.seen_signals.is_some_and(|seen| head.signals > signed(seen));
    if u64::try_from(head.length) == Ok(append.position) && is_open && is_unseen {
        return Ok(Appended::unseen_signals(head.cancel));
    }
    if u64::try_from(head.length) == Ok(append.position)
        && is_open
        && append.overlooks_cancel(head.cancel)
    {
        return Ok(Appended::unseen_cancel());
    }
    if u64::try_from(head.length) == Ok(append.position) {
        return Err(StoreError::fenced(format!("saga {id}: it has ended, and has no owner")));
    }
    Err(StoreError::conflict(format!(
        "saga {id}: its log holds {} entries, the append is for position {}",
        head.length, append.position
    )))
}

/// Returns the answer to the creation of a saga whose id is known. `lines` are its first entry and
/// up to as many entries as the creation has.
pub(crate) fn judge_create(
    saga: &NewSaga<Vec<u8>>,
    head: Option<FoundHead>,
    lines: FoundLines,
) -> Result<(), StoreError> {
    let (head, lines) = (head.transpose()?, lines?);
    let there = head.is_some_and(|head| {
        head.definition == saga.definition
            && head.version == i64::from(saga.version)
            && head.codec == saga.codec
            && head.deadline == saga.deadline.map(time::nanos)
            && (head.worker, head.epoch) == (saga.worker, 1)
            && head.length == signed(saga.entries.len() as u64)
    });
    let same = match lines.split_first() {
        Some((first, lines)) => {
            first.position == FIRST
                && first.payload.as_ref() == Some(&saga.beginning.input)
                && first.note == beginning::note(&saga.beginning)
                && lines.len() == saga.entries.len()
                && lines.iter().zip(&saga.entries).all(|(line, entry)| line.says(entry))
        }
        None => false,
    };
    if there && same {
        return Ok(());
    }
    Err(StoreError::conflict(format!("saga {} exists with other content", saga.id)))
}
