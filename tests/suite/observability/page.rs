//! Compares the page with the definitions of the metrics, with the enum of events, and with the log lines in
//! the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use buttress::telemetry::Instrument;

/// The metrics of all crates.
pub(super) fn instruments() -> Vec<&'static Instrument> {
    let lists = [
        buttress::telemetry::INSTRUMENTS,
        buttress_durable::telemetry::INSTRUMENTS,
        buttress_sqlx::INSTRUMENTS,
    ];
    lists.into_iter().flatten().copied().collect()
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn page() -> String {
    let path = root().join("crates/buttress/src/guide/observability.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table below the heading `heading`.
fn rows(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once(&format!("\n# {heading}\n")).unwrap();
    let section = section.split("\n# ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).map(str::to_owned).collect()
}

/// The rows of the table of log lines. The last column is the message.
pub(super) fn log_rows() -> BTreeSet<String> {
    rows(&page(), "Log lines")
}

fn compare(page: &BTreeSet<String>, code: &BTreeSet<String>) {
    let text = |rows: BTreeSet<&String>| rows.into_iter().cloned().collect::<Vec<_>>().join("\n");
    let missing = text(code.difference(page).collect());
    let surplus = text(page.difference(code).collect());
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "\nnot on the page:\n{missing}\n\non the page and not in the code:\n{surplus}\n"
    );
}

#[test]
fn the_page_lists_every_metric() {
    let row = |metric: &Instrument| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, unit) = (metric.kind.as_str(), metric.unit.as_str());
        let (name, says) = (metric.name, metric.description);
        format!("| `{name}` | {kind} | {unit} | {} | {says} |", labels.join(", "))
    };
    let code: BTreeSet<_> = instruments().into_iter().map(row).collect();
    assert_eq!(code.len(), instruments().len(), "two metrics are the same");
    compare(&rows(&page(), "Metrics"), &code);
}

#[test]
fn names_of_metrics_follow_the_conventions() {
    let names: BTreeSet<_> = instruments().into_iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), instruments().len(), "two metrics have one name");
    for metric in instruments() {
        let is_plain = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
        };
        let name = metric.name;
        assert!(name.starts_with("buttress."), "{name}");
        assert!(name.split('.').all(is_plain), "{name}");
        assert!(
            !name.ends_with("_total") && !name.ends_with("seconds"),
            "{name}: unit in the name"
        );
        assert!(metric.labels.iter().all(|label| is_plain(label)), "{name}");
        assert_eq!(metric.labels.first(), Some(&"layer"), "{name}");
        assert!(metric.description.ends_with('.'), "{name}");
    }
}

#[test]
fn the_page_lists_every_event() {
    let path = root().join("crates/buttress/src/vocabulary/observe/event.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let (_, body) = source.split_once("pub enum Event {").unwrap();
    let body = body.split("\n}").next().unwrap();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants =
        variants.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let name =
        |line: &str| line.split(|end: char| !end.is_alphanumeric()).next().unwrap().to_owned();
    let code: BTreeSet<_> = variants.map(name).collect();
    assert!(code.len() > 10, "{code:?}");
    let names = rows(&page(), "Events").into_iter();
    let on_page: BTreeSet<_> =
        names.map(|row| row.split('`').nth(1).unwrap_or_default().to_owned()).collect();
    compare(&on_page, &code);
}

#[test]
fn the_page_lists_every_log_line_with_its_level() {
    let mut code = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap();
        let (name, mut files) = (folder.file_name().into_string().unwrap(), Vec::new());
        sources(&folder.path().join("src"), &mut files);
        for file in files {
            let source = std::fs::read_to_string(&file).unwrap();
            for (level, message) in log_lines(&source) {
                code.insert(format!("| {name} | {level} | {message} |"));
            }
        }
    }
    assert!(code.len() > 40, "{code:?}");
    compare(&log_rows(), &code);
}

/// The text of an error does not repeat its cause.
#[test]
fn a_log_line_has_the_causes_of_its_error() {
    for name in ["buttress", "buttress-durable"] {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        assert!(files.len() > 50, "{files:?}");
        for file in files {
            let source = std::fs::read_to_string(&file).unwrap();
            let has_causes = !source.contains("%error") || source.contains("error = WithCauses(");
            assert!(has_causes, "{}: use the text with causes", file.display());
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The levels and messages of the calls of `tracing` in `source`.
fn log_lines(source: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("tracing::") {
        let rest = &source[at + "tracing::".len()..];
        let Some((level, rest)) = rest.split_once("!(") else { continue };
        if ["trace", "debug", "info", "warn", "error"].contains(&level) {
            let last = literals(rest).pop();
            found.push((level, last.unwrap_or_else(|| panic!("no message: {rest:.80}"))));
        }
    }
    found
}

/// The string literals up to the parenthesis that closes the call.
fn literals(call: &str) -> Vec<String> {
    let (mut depth, mut found, mut letters) = (1, Vec::new(), call.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                    match letter {
                        // A literal that continues on the next line.
                        '\\' => {
                            let rest = letters.as_str().trim_start();
                            letters = rest.chars();
                        }
                        letter => text.push(letter),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn log_lines_are_found_in_sources() {
    let source = r#"
        use tracing::info;
        tracing::warn!(target: "buttress", layer, %error, "store failed");
        tracing::error!(
            target: "buttress", why = caught(|| "x"),
            "one line \
             and another"
        );
    "#;
    let expected = [("warn", "store failed"), ("error", "one line and another")];
    let expected: Vec<_> = expected.map(|(level, text)| (level, text.to_owned())).into();
    assert_eq!(log_lines(source), expected);
}
