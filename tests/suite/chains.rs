//! Every error that wraps another returns it from `source`.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buttress::{Codec, CodecError, InvalidConfig, Json, StoreError};
use buttress_durable::event_store::{AppendError, Failed, Fault, RebuildError};
use buttress_durable::saga::{SagaError, SagaId};
use buttress_http::idempotency_key::{MalformedKey, UnusableRequest};
use buttress_sim::{Diverged, NoRuntime, SimError};

/// The last error of every chain.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the bottom")]
struct Bottom;

/// The texts of an error and of its causes.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let (mut texts, mut next) = (Vec::new(), Some(error));
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

fn store() -> StoreError {
    StoreError::transient("asking").with_source(Bottom)
}

#[test]
fn an_error_that_wraps_another_has_it_as_its_source() {
    let saga = SagaId::new(5);
    let codec = || CodecError::new("bytes", "too short").with_source(Bottom);
    let io = || Arc::new(io::Error::other(Bottom));
    let step = Fault::Upcaster { kind: "paid".into(), version: 1, source: Arc::new(Bottom) };
    let wraps: [(Box<dyn Error>, usize); 12] = [
        (Box::new(AppendError::Store(store())), 3),
        (Box::new(Failed::<Bottom>::Store(store())), 3),
        (Box::new(Failed::Refused(Bottom)), 2),
        (Box::new(RebuildError::Store(store())), 3),
        (Box::new(Fault::Codec(codec())), 3),
        (Box::new(step), 2),
        (Box::new(store()), 2),
        (Box::new(codec()), 2),
        (Box::new(SagaError::Store { saga, error: store() }), 3),
        (Box::new(SagaError::Input { saga, error: codec() }), 3),
        (Box::new(SimError::Runtime(NoRuntime::from(io()))), 2),
        (Box::new(Diverged::Failed(SimError::Runtime(NoRuntime::from(io())))), 2),
    ];
    for (error, length) in wraps {
        let chain = chain(&*error);
        assert_eq!(chain.len(), length, "{chain:?}");
        assert_eq!(chain.last().map(String::as_str), Some("the bottom"), "{chain:?}");
    }
    let unusable = UnusableRequest::Malformed(MalformedKey::Empty);
    assert_eq!(chain(&unusable)[1..], ["the key is empty"]);
    let invalid = SimError::Invalid(InvalidConfig::new("rate", 0, "more than 0"));
    assert_eq!(chain(&invalid), ["rate: 0 is not more than 0"], "it is the error itself");
}

#[test]
fn a_text_does_not_repeat_the_text_of_its_cause() {
    let saga = SagaId::new(5);
    let codec = CodecError::new("bytes", "too short").with_source(Bottom);
    for error in
        [SagaError::Store { saga, error: store() }, SagaError::Input { saga, error: codec }]
    {
        let chain = chain(&error);
        assert!(!chain[0].contains(&chain[1]), "{chain:?}");
    }
}

#[test]
fn what_json_refuses_is_the_cause() {
    let broken = Codec::<u32>::decode(&Json, &b"x".to_vec()).unwrap_err();
    assert!(broken.source().is_some_and(|cause| cause.is::<serde_json::Error>()));
    let table = std::collections::HashMap::from([((1, 2), 3)]);
    let broken = Json.encode(&Arc::new(table)).unwrap_err();
    assert!(broken.source().is_some_and(|cause| cause.is::<serde_json::Error>()));
}

/// The files of all crates.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the fields of error types whose type is an error, without `#[source]` or `#[from]`.
fn without_source(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim_end).peekable();
    while let Some(line) = lines.next() {
        if !(line.starts_with("#[derive(") && line.contains("thiserror::Error")) {
            continue;
        }
        let mut before = String::new();
        let mut head = true;
        for line in lines.by_ref() {
            let code = line.trim().replace("pub(crate) ", "pub ");
            let code = code.as_str();
            if head
                && (code.starts_with("pub")
                    || code.starts_with("enum")
                    || code.starts_with("struct"))
            {
                head = false;
                // The name of the type, and the field of a tuple on one line.
                let field = code.split_once('(').map_or("", |(_, field)| field);
                if is_error(field) && !field.contains("#[") {
                    found.push(code.to_owned());
                }
            } else if !head && !code.starts_with("//") && !code.starts_with("#[error") {
                let field = code.split_once([':', '(']).map_or("", |(_, field)| field);
                let said = |line: &str| line.contains("#[source]") || line.contains("#[from]");
                if is_error(field) && !said(code) && !said(&before) {
                    found.push(code.to_owned());
                }
            }
            before = code.to_owned();
            if line == "}" || (code.starts_with("pub struct") && code.ends_with(';')) {
                break;
            }
        }
    }
    found
}

/// Whether the name of a type is an error name.
fn is_error(field: &str) -> bool {
    let names = field.split(|c: char| !c.is_alphanumeric() && c != '_');
    names.into_iter().any(|name| {
        name.ends_with("Error") || (name.starts_with("Invalid") && name != "InvalidData")
    })
}

#[test]
fn no_field_of_an_error_hides_an_error() {
    let bad = "#[derive(Debug, thiserror::Error)]\npub enum E {\n    #[error(\"a\")]\n    A(io::Error),\n    \
               #[error(\"b\")]\n    B {\n        error: StoreError,\n    },\n    C(#[source] StoreError),\n}\n";
    assert_eq!(without_source(bad), ["A(io::Error),", "error: StoreError,"]);
    let mut files = Vec::new();
    for folder in ["crates", "examples"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    assert!(files.len() > 100, "the sources are there");
    for file in files {
        let hidden = without_source(&fs::read_to_string(&file).unwrap());
        assert!(hidden.is_empty(), "{}: {hidden:?}", file.display());
    }
}
