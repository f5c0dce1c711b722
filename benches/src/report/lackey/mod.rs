//! Locked read-modify-writes, from the trace of lackey (a tool of valgrind).
//!
//! lackey writes the address of every instruction and of every access to memory. [`image`] finds the bytes of an
//! instruction in the files of the process, [`opcode`] says whether they are a locked read-modify-write, and
//! [`trace`] counts the writes by cache line, thread and candidate.

pub mod image;
pub mod opcode;
pub mod trace;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use image::{Image, Mapping};
use trace::{Marks, Trace, Written};

/// The output of the program `contention`.
#[derive(Debug)]
pub struct Told<'a> {
    marks: Marks,
    mappings: Vec<Mapping>,
    /// Row, candidate and number of calls on each thread.
    pub candidates: Vec<[&'a str; 3]>,
}

impl<'a> Told<'a> {
    /// # Errors
    ///
    /// If the text is not what `contention` writes.
    pub fn of(text: &'a str) -> Result<Self, String> {
        let (mut mark, mut next) = (None, None);
        let (mut mappings, mut candidates) = (Vec::new(), Vec::new());
        let hex = |address| u64::from_str_radix(address, 16).ok();
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["mark", address] => mark = hex(address),
                ["next", address] => next = hex(address),
                ["map", map] => mappings.extend(Mapping::of_code(map)),
                [row, candidate, calls] => candidates.push([*row, *candidate, *calls]),
                _ => return Err(format!("not a line of `contention`: {line:?}")),
            }
        }
        let marks = mark.zip(next).map(|(thread, call)| Marks { thread, call });
        let marks = marks.ok_or("`contention` printed no marks")?;
        Ok(Self { marks, mappings, candidates })
    }

    /// Reads the trace of the same run. Returns the writes of each candidate, in their order.
    ///
    /// # Errors
    ///
    /// If the trace does not belong to this output.
    pub fn trace(&self, file: &Path) -> Result<Vec<Written>, String> {
        let wrong = |error: std::io::Error| error.to_string();
        let image = Image::new(self.mappings.clone()).map_err(wrong)?;
        let mut trace = Trace::new(self.marks, image);
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file).map_err(wrong)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
            if let Ok(text) = std::str::from_utf8(&line) {
                trace.line(text)?;
            }
            line.clear();
        }
        let written = trace.end()?;
        let (found, expected) = (written.len(), self.candidates.len());
        if found != expected {
            return Err(format!("{found} candidates in the trace, {expected} in the output"));
        }
        for (written, [row, candidate, calls]) in written.iter().zip(&self.candidates) {
            if calls.parse() != Ok(written.calls) {
                let calls = written.calls;
                return Err(format!("{calls} calls of {candidate} on each thread in {row:?}"));
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, Told};

    #[test]
    fn the_output_of_the_program_is_read() {
        let text = "mark\t4f0020\nnext\t4f0080\nmap\t1000-2000 r-xp 0 00:00 0 /bin/program\n\
                    map\t1000-2000 rw-p 0 00:00 0 /bin/program\na row\tbuttress\t20\n";
        let told = Told::of(text).expect("it is as `contention` writes it");
        assert_eq!(told.marks, Marks { thread: 0x4f_0020, call: 0x4f_0080 });
        assert_eq!(told.mappings.len(), 1);
        assert_eq!(told.candidates, [["a row", "buttress", "20"]]);
        assert!(Told::of("a row\tbuttress\t20\n").is_err(), "there is no mark");
        assert!(Told::of("mark\t10\na row\tbuttress\t20\n").is_err(), "there is one mark of two");
        assert!(Told::of("mark\t10\nnext\t90\nsomething else\n").is_err());
    }
}
