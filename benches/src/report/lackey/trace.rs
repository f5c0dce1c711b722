//! Reads the trace of lackey: the writes of each call of two threads, between the marks of the program.
//!
//! The program stores to one address where the calls of a thread begin and where they end, and to another one after
//! each call. Each candidate has four marks of the first kind: the first thread's two, then the second thread's two.
//! Valgrind runs one thread at a time, so the trace between two marks of one thread is of that thread.
//!
//! Each figure is the median over the calls of both threads. On a slow or busy machine a few calls differ from the
//! others, because another thread of the program still ran.

use std::collections::HashMap;

use super::image::Image;

/// Bytes of a cache line, as a power of two.
const LINE: u32 = 6;

/// One line of the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Instruction(u64),
    Store(u64),
    Modify(u64),
}

impl Event {
    /// Returns `None` for a load, and for text that is not a line of the trace.
    fn of(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_at_checked(3)?;
        let (address, _) = rest.split_once(',')?;
        let address = u64::from_str_radix(address, 16).ok()?;
        match kind {
            "I  " => Some(Self::Instruction(address)),
            " S " => Some(Self::Store(address)),
            " M " => Some(Self::Modify(address)),
            _ => None,
        }
    }
}

/// Where the program stores to between calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Before the first call of a thread, and after its last one.
    pub thread: u64,
    /// After each call.
    pub call: u64,
}

/// How often a call wrote to a cache line.
#[derive(Clone, Copy, Default, Debug)]
struct Writes {
    locked: u64,
    plain: u64,
}

/// The writes of a call to each cache line.
type Lines = HashMap<u64, Writes>;

/// The calls of one thread.
#[derive(Default, Debug)]
struct Calls {
    ended: Vec<Lines>,
    /// The writes since the last mark.
    lines: Lines,
}

impl Calls {
    fn next(&mut self) {
        self.ended.push(std::mem::take(&mut self.lines));
    }

    fn wrote(&self, line: u64) -> bool {
        self.ended.iter().any(|lines| lines.contains_key(&line))
    }
}

/// The writes of a call of one candidate: the median of the calls on both threads.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Written {
    /// The number of calls on each thread.
    pub calls: usize,
    /// Locked read-modify-writes.
    pub locked: f64,
    /// Locked read-modify-writes on cache lines that both threads wrote.
    pub locked_shared: f64,
    /// Other writes to cache lines that both threads wrote.
    pub plain_shared: f64,
}

impl Written {
    /// # Errors
    ///
    /// If one thread made more calls than the other.
    fn of(first: &Calls, second: &Calls) -> Result<Self, String> {
        let calls = first.ended.len();
        if second.ended.len() != calls {
            let second = second.ended.len();
            return Err(format!("{calls} calls on one thread and {second} on the other"));
        }
        let [mut locked, mut locked_shared, mut plain_shared] = [(); 3].map(|()| Vec::new());
        for (one, other) in [(first, second), (second, first)] {
            for lines in &one.ended {
                let shared = || lines.iter().filter(|(line, _)| other.wrote(**line));
                locked.push(lines.values().map(|writes| writes.locked).sum());
                locked_shared.push(shared().map(|(_, writes)| writes.locked).sum());
                plain_shared.push(shared().map(|(_, writes)| writes.plain).sum());
            }
        }
        Ok(Self {
            calls,
            locked: median(locked),
            locked_shared: median(locked_shared),
            plain_shared: median(plain_shared),
        })
    }
}

/// Returns the mean of the two counts in the middle, or zero if there are no counts.
fn median(mut counts: Vec<u64>) -> f64 {
    counts.sort_unstable();
    let last = counts.len().saturating_sub(1);
    let middle = [last / 2, last.div_ceil(2)].map(|place| counts.get(place).copied().unwrap_or(0));
    middle.iter().sum::<u64>() as f64 / 2.0
}

/// The position of the trace between the marks of a candidate.
#[derive(Debug)]
enum Section {
    Before,
    First(Calls),
    Between(Calls),
    Second(Calls, Calls),
}

/// A reader for the lines of a trace, in their order.
#[derive(Debug)]
pub struct Trace {
    marks: Marks,
    image: Image,
    section: Section,
    /// Whether the last instruction was locked.
    locked: bool,
    candidates: Vec<Written>,
}

impl Trace {
    /// Creates a reader. `marks` are the addresses of the program's marks.
    pub fn new(marks: Marks, image: Image) -> Self {
        Self { marks, image, section: Section::Before, locked: false, candidates: Vec::new() }
    }

    /// # Errors
    ///
    /// If a thread executed an instruction that no mapped file holds, or one thread made more calls than the other.
    pub fn line(&mut self, line: &str) -> Result<(), String> {
        match Event::of(line) {
            Some(Event::Store(address)) if address == self.marks.thread => return self.marked(),
            Some(Event::Store(address)) if address == self.marks.call => {
                if let Some(calls) = self.calls() {
                    calls.next();
                }
            }
            Some(Event::Instruction(address)) => return self.instruction(address),
            Some(Event::Store(address)) => self.wrote(address, false),
            // An instruction that is not locked modifies memory too.
            Some(Event::Modify(address)) => self.wrote(address, self.locked),
            None => {}
        }
        Ok(())
    }

    /// Returns the writes of each candidate, in the order of their marks.
    ///
    /// # Errors
    ///
    /// If the trace ends between the marks of a candidate.
    pub fn end(self) -> Result<Vec<Written>, String> {
        match self.section {
            Section::Before => Ok(self.candidates),
            _ => Err("the trace ends between the marks of a candidate".to_owned()),
        }
    }

    fn marked(&mut self) -> Result<(), String> {
        self.section = match std::mem::replace(&mut self.section, Section::Before) {
            Section::Before => Section::First(Calls::default()),
            Section::First(calls) => Section::Between(calls),
            Section::Between(first) => Section::Second(first, Calls::default()),
            Section::Second(first, second) => {
                self.candidates.push(Written::of(&first, &second)?);
                Section::Before
            }
        };
        Ok(())
    }

    fn calls(&mut self) -> Option<&mut Calls> {
        match &mut self.section {
            Section::First(calls) | Section::Second(_, calls) => Some(calls),
            Section::Before | Section::Between(_) => None,
        }
    }

    fn instruction(&mut self, address: u64) -> Result<(), String> {
        if self.calls().is_some() {
            let locked = self.image.locked_at(address);
            self.locked =
                locked.ok_or_else(|| format!("no file holds the code at {address:#x}"))?;
        }
        Ok(())
    }

    fn wrote(&mut self, address: u64, locked: bool) {
        if let Some(calls) = self.calls() {
            let writes = calls.lines.entry(address >> LINE).or_default();
            if locked {
                writes.locked += 1;
            } else {
                writes.plain += 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
