//! `buttress-kafka` calls the client of Kafka in one small folder, so that another client can replace it.

use std::path::Path;

use super::sources::{File, each_file};

const FOLDER: &str = "client/";
const CLIENT: &str = "rdkafka";
/// The folder has fewer lines of code than this, without comments, empty lines and tests.
const LARGEST: usize = 600;

/// Returns the lines with code, also those of tests.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

/// The lines of code in the folder, and each line outside of it that names the client.
fn measure(files: &[(String, String)]) -> (usize, Vec<String>) {
    let (inside, outside): (Vec<_>, Vec<_>) =
        files.iter().partition(|(name, _)| name.starts_with(FOLDER));
    let code = inside.iter().map(|(name, text)| lines(&File::parse(name, text).code).count());
    let named = outside.iter().flat_map(|(name, text)| {
        let named = lines(text).filter(|line| line.to_ascii_lowercase().contains(CLIENT));
        named.map(move |line| format!("{name}: {line}"))
    });
    (code.sum(), named.collect())
}

#[test]
fn one_small_folder_of_buttress_kafka_calls_the_client() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/buttress-kafka/src");
    let mut files = Vec::new();
    each_file(&root, "", &mut |name, text| files.push((name.to_owned(), text.to_owned())));
    let (code, named) = measure(&files);
    assert!(named.is_empty(), "{CLIENT} outside of {FOLDER}:\n{}", named.join("\n"));
    assert!((200..LARGEST).contains(&code), "{code} lines of code in {FOLDER}");
    assert!(files.len() > 15, "only {} files were found", files.len());
}

#[test]
fn the_client_is_found_outside_of_its_folder() {
    let files = [
        (
            "client/mod.rs",
            "//! The client.\n\nuse rdkafka::Offset;\n\n#[cfg(test)]\nmod tests {}\n",
        ),
        ("client/error.rs", "fn a() {\n    // A comment.\n    b();\n}\n"),
        ("table.rs", "#[cfg(test)]\nmod tests;\n\nfn poll() -> rdkafka::Offset {}\n"),
        ("start.rs", "/// An offset of rdkafka.\nuse crate::client::Code;\n"),
        ("topic.rs", "#[cfg(test)]\nmod tests {\n    use RDKafkaErrorCode as Code;\n}\n"),
    ];
    let (code, named) = measure(&files.map(|(name, text)| (name.to_owned(), text.to_owned())));
    assert_eq!(code, 4);
    let expected =
        ["table.rs: fn poll() -> rdkafka::Offset {}", "topic.rs: use RDKafkaErrorCode as Code;"];
    assert_eq!(named, expected);
}
