//! Reads the trace of lackey: the writes of two threads, between the marks of the program.
//!
//! The program stores to one address, its mark, where the calls of a thread begin and where they end. Each
//! candidate has four marks: the first thread's two, then the second thread's two. Valgrind runs one thread at a
//! time, so the trace between two marks of one thread is of that thread.

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

/// How often a thread wrote to a cache line.
#[derive(Clone, Copy, Default, Debug)]
struct Writes {
    locked: u64,
    plain: u64,
}

type Lines = HashMap<u64, Writes>;

/// The writes of the calls of one candidate, on both threads together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// Locked read-modify-writes.
    pub locked: u64,
    /// Locked read-modify-writes on cache lines that both threads wrote.
    pub locked_shared: u64,
    /// Other writes to cache lines that both threads wrote.
    pub plain_shared: u64,
}

impl Written {
    fn of(first: &Lines, second: &Lines) -> Self {
        let mut written = Self::default();
        for (lines, others) in [(first, second), (second, first)] {
            for (line, writes) in lines {
                written.locked += writes.locked;
                if others.contains_key(line) {
                    written.locked_shared += writes.locked;
                    written.plain_shared += writes.plain;
                }
            }
        }
        written
    }
}

/// The position of the trace between the marks of a candidate.
#[derive(Debug)]
enum Section {
    Before,
    First(Lines),
    Between(Lines),
    Second(Lines, Lines),
}

/// A reader for the lines of a trace, in their order.
#[derive(Debug)]
pub struct Trace {
    mark: u64,
    image: Image,
    section: Section,
    /// Whether the last instruction was locked.
    locked: bool,
    candidates: Vec<Written>,
}

impl Trace {
    /// Creates a reader. `mark` is the address of the program's mark.
    pub fn new(mark: u64, image: Image) -> Self {
        Self { mark, image, section: Section::Before, locked: false, candidates: Vec::new() }
    }

    /// # Errors
    ///
    /// If a thread executed an instruction that no mapped file holds.
    pub fn line(&mut self, line: &str) -> Result<(), String> {
        match Event::of(line) {
            Some(Event::Store(address)) if address == self.mark => self.marked(),
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

    fn marked(&mut self) {
        self.section = match std::mem::replace(&mut self.section, Section::Before) {
            Section::Before => Section::First(Lines::new()),
            Section::First(lines) => Section::Between(lines),
            Section::Between(first) => Section::Second(first, Lines::new()),
            Section::Second(first, second) => {
                self.candidates.push(Written::of(&first, &second));
                Section::Before
            }
        };
    }

    fn lines(&mut self) -> Option<&mut Lines> {
        match &mut self.section {
            Section::First(lines) | Section::Second(_, lines) => Some(lines),
            Section::Before | Section::Between(_) => None,
        }
    }

    fn instruction(&mut self, address: u64) -> Result<(), String> {
        if self.lines().is_some() {
            let locked = self.image.locked_at(address);
            self.locked =
                locked.ok_or_else(|| format!("no file holds the code at {address:#x}"))?;
        }
        Ok(())
    }

    fn wrote(&mut self, address: u64, locked: bool) {
        if let Some(lines) = self.lines() {
            let writes = lines.entry(address >> LINE).or_default();
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
