//! The instruction bytes at an address of the measured process, read from the files that it had mapped.

use std::collections::HashMap;
use std::path::PathBuf;

use super::opcode::{LONGEST, locked};

/// One mapping of a file: the addresses `start..end`, which begin at `offset` in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: PathBuf,
}

impl Mapping {
    /// Reads a line of `/proc/self/maps`. `None` unless the line is executable code of a file.
    pub fn of_code(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let executable = fields.next()?.contains('x');
        let offset = fields.next()?;
        let path = fields.nth(2)?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        (executable && path.starts_with('/')).then_some(Self {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(offset)?,
            path: path.into(),
        })
    }
}

/// The code of a process. It caches its answers, because a trace repeats its instructions.
#[derive(Debug)]
pub struct Image {
    mappings: Vec<Mapping>,
    files: HashMap<PathBuf, Vec<u8>>,
    known: HashMap<u64, bool>,
}

impl Image {
    /// # Errors
    ///
    /// If a mapped file cannot be read.
    pub fn new(mappings: Vec<Mapping>) -> std::io::Result<Self> {
        let mut files = HashMap::new();
        for mapping in &mappings {
            if !files.contains_key(&mapping.path) {
                files.insert(mapping.path.clone(), std::fs::read(&mapping.path)?);
            }
        }
        Ok(Self { mappings, files, known: HashMap::new() })
    }

    /// Whether the instruction at `address` is a locked read-modify-write; `None` outside of every mapping.
    pub fn locked_at(&mut self, address: u64) -> Option<bool> {
        if let Some(known) = self.known.get(&address) {
            return Some(*known);
        }
        let found = locked(self.bytes(address)?);
        self.known.insert(address, found);
        Some(found)
    }

    fn bytes(&self, address: u64) -> Option<&[u8]> {
        let covers = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&address);
        let mapping = self.mappings.iter().find(covers)?;
        let from = usize::try_from(mapping.offset + (address - mapping.start)).ok()?;
        let file = self.files.get(&mapping.path)?;
        file.get(from..file.len().min(from + LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::{Image, Mapping};

    #[test]
    fn only_executable_code_of_files_is_a_mapping() {
        let code = "0040a000-0041b000 r-xp 00002000 fe:00 123   /usr/bin/program";
        let expected = Mapping {
            start: 0x40_a000,
            end: 0x41_b000,
            offset: 0x2000,
            path: "/usr/bin/program".into(),
        };
        assert_eq!(Mapping::of_code(code), Some(expected));
        let data = "0040a000-0041b000 rw-p 00002000 fe:00 123   /usr/bin/program";
        assert_eq!(Mapping::of_code(data), None);
        assert_eq!(Mapping::of_code("7ff00000-7ff01000 r-xp 00000000 00:00 0   [vdso]"), None);
        assert_eq!(Mapping::of_code("7ff00000-7ff01000 rwxp 00000000 00:00 0"), None);
        assert_eq!(Mapping::of_code(""), None);
    }

    #[test]
    fn an_instruction_is_read_where_the_file_was_mapped() {
        let path = std::env::temp_dir().join(format!("image-{}", std::process::id()));
        // A page that is mapped 0x10 bytes into the file: `nop`, `lock inc dword ptr [rax]`.
        let mut file = vec![0; 0x10];
        file.extend([0x90, 0xF0, 0xFF, 0x00]);
        std::fs::write(&path, file).expect("a file");
        let line = format!("1000-1004 r-xp 00000010 00:00 0 {}", path.display());
        let mut image =
            Image::new(vec![Mapping::of_code(&line).expect("code")]).expect("the file is there");
        std::fs::remove_file(&path).expect("it was there");
        assert_eq!(image.locked_at(0x1000), Some(false));
        assert_eq!(image.locked_at(0x1001), Some(true));
        assert_eq!(image.locked_at(0x1001), Some(true));
        assert_eq!(image.locked_at(0x1004), None);
        assert_eq!(image.locked_at(0xFFF), None);
    }
}
