//! Fuzzing on the stable compiler: inputs of a committed corpus, and changes of them.
//!
//! A target runs 2 000 inputs. `BUTTRESS_FUZZ_SECONDS` lets each run that many seconds instead, from the seed
//! `BUTTRESS_FIRST_SEED`. A failure prints its input as a line for the corpus.

mod targets;

use std::time::Duration;

use buttress::Clock;

/// How many inputs a target gets without `BUTTRESS_FUZZ_SECONDS`.
const INPUTS: u64 = 2_000;

/// The longest input in bytes. A longer one is cut.
const LONGEST: usize = 300;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Prints the input of a check that panics.
struct Input<'i>(&'static str, &'i [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("corpus/{}.txt: {}", self.0, self.1.escape_ascii());
        }
    }
}

/// Runs `check` with the lines of a corpus, and then with changes of them.
fn fuzz(target: &'static str, corpus: &str, check: impl Fn(&[u8])) {
    let check = |input: &[u8]| {
        let _input = Input(target, input);
        check(input);
    };
    let seeds: Vec<Vec<u8>> = corpus.lines().map(unescaped).collect();
    assert!(seeds.len() > 5, "the corpus of {target} is missing");
    seeds.iter().for_each(|seed| check(seed));
    let mut dice = Dice(number("BUTTRESS_FIRST_SEED").unwrap_or(1));
    let clock = Clock::default();
    let end = number("BUTTRESS_FUZZ_SECONDS").map(|s| clock.now() + Duration::from_secs(s));
    let mut done = 0;
    while end.map_or(done < INPUTS, |end| clock.now() < end) {
        check(&dice.input(&seeds));
        done += 1;
    }
    println!("{target}: {} inputs of the corpus, {done} changed ones", seeds.len());
}

/// Reads a line as `escape_ascii` writes it.
fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other.unwrap(),
            },
            byte => byte,
        });
    }
    bytes
}

/// Random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// Makes an input of one or two lines of the corpus, with up to 4 changes.
    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.place(&input);
            let end = at + self.place(&input[at..]);
            match self.below(7) {
                // Another byte.
                0 if at < input.len() => input[at] = self.below(256) as u8,
                // Another bit: another case of a letter, a neighbour of a digit.
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => input.insert(at, self.below(256) as u8),
                3 => drop(input.drain(at..end)),
                // A part again.
                4 => drop(input.splice(at..at, input[at..end].to_vec())),
                // A part of another line.
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.place(other);
                    let to = from + self.place(&other[from..]);
                    drop(input.splice(at..at, other[from..to].iter().copied()));
                }
                // The end of another line.
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[self.place(other)..]);
                }
            }
        }
        input.truncate(LONGEST);
        input
    }
}
