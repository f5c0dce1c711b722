//! The sources of `buttress` and `buttress-durable`, and the paths in them.

use std::fmt;
use std::fs;
use std::path::Path as FilePath;

/// One source file without its comments and its tests.
pub(crate) struct File {
    /// `rate_limit/state/bucket.rs` is `[rate_limit, state, bucket]`; `mod.rs` adds nothing,
    /// `lib.rs` is `[lib]`.
    pub module: Vec<String>,
    /// The paths of `use` lines, and the paths from `crate`, relative to the root of the crate.
    pub paths: Vec<Path>,
    pub code: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    pub segments: Vec<String>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}

pub(crate) fn read_all() -> Vec<File> {
    let mut files = Vec::new();
    for (member, at_least) in [("buttress", 50), ("buttress-durable", 30)] {
        let before = files.len();
        let root =
            FilePath::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(member).join("src");
        each_file(&root, "", &mut |name, text| {
            if !name.ends_with("tests.rs") && !name.starts_with("guide") {
                files.push(File::parse(name, text));
            }
        });
        let found = files.len() - before;
        assert!(found > at_least, "only {found} files of {member} were found");
    }
    files
}

/// Calls `file` with the name and the text of each source file below `folder`, in order.
pub(crate) fn each_file(folder: &FilePath, name: &str, file: &mut impl FnMut(&str, &str)) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{name}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            each_file(&entry.path(), &format!("{name}/"), file);
        } else if name.ends_with(".rs") {
            file(&name, &fs::read_to_string(entry.path()).unwrap());
        }
    }
}

impl File {
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let mut module: Vec<String> =
            name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let code = code(text);
        let mut paths = Vec::new();
        for statement in uses(&code) {
            expand(statement, &[], &mut paths);
        }
        let mut paths: Vec<Path> =
            paths.into_iter().filter_map(|path| absolute(&module, path)).collect();
        for rest in code.split("crate::").skip(1).filter(|rest| !rest.starts_with('{')) {
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let segments = rest[..end].trim_end_matches(':').split("::").map(str::to_owned);
            let path = Path { segments: segments.collect() };
            if !paths.iter().any(|known| known.segments.starts_with(&path.segments)) {
                paths.push(path);
            }
        }
        Self { module, paths, code }
    }

    pub(crate) fn name(&self) -> String {
        self.module.join("/")
    }
}

/// Returns the text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let is_test =
        |line: &&str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
    text.lines()
        .take_while(|line| !is_test(line))
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |code, line| code + line + "\n")
}

/// Returns the texts between `use` and `;` at the beginning of a line.
fn uses(code: &str) -> impl Iterator<Item = &str> {
    let begins = |line: &str| {
        let after = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) "));
        after.or_else(|| line.strip_prefix("pub ")).unwrap_or(line).strip_prefix("use ").is_some()
    };
    let mut at = 0;
    let starts: Vec<usize> = code
        .split_inclusive('\n')
        .filter_map(|line| {
            let start = at;
            at += line.len();
            begins(line).then_some(start)
        })
        .collect();
    starts.into_iter().filter_map(|start| {
        let statement = &code[start..];
        let end = statement.find(';')?;
        let begin = statement.find("use ")? + 4;
        Some(&statement[begin..end])
    })
}

/// Expands `a::{b, c::{d, self}}` to `a::b`, `a::c::d` and `a::c`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let own = tree.split("::").map(|part| part.split(" as ").next().unwrap_or(part).trim());
        let own = own.filter(|part| !part.is_empty() && *part != "*");
        let mut path: Vec<String> = prefix.iter().cloned().chain(own.map(str::to_owned)).collect();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if path.len() > prefix.len() || tree == "self" {
            paths.push(path);
        }
        return;
    };
    let head = head.trim().trim_end_matches("::").split("::").map(str::trim);
    let head = head.filter(|part| !part.is_empty()).map(str::to_owned);
    let prefix: Vec<String> = prefix.iter().cloned().chain(head).collect();
    let rest = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in rest.char_indices().chain([(rest.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&rest[start..at], &prefix, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns the path from the root of the crate, or `None` for other crates.
fn absolute(module: &[String], path: Vec<String>) -> Option<Path> {
    let mut base = module.to_vec();
    let mut path = path.into_iter().peekable();
    match path.next()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while path.next_if(|part| part == "super").is_some() {
                base.pop();
            }
        }
        _ => return None,
    }
    let segments: Vec<String> = base.into_iter().chain(path).collect();
    (!segments.is_empty()).then_some(Path { segments })
}

#[test]
fn use_lines_are_read() {
    let text = "use std::fmt;\npub(crate) use super::{\n    a::{self, B as C},\n    *,\n};\n\
                use crate::x;\n";
    let file = File::parse("retry/state.rs", text);
    let paths: Vec<_> = file.paths.iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["retry::a", "retry::a::B", "x"]);
}
