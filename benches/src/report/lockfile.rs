//! The versions of the built packages, from `Cargo.lock`.

use crate::peers::PACKAGES;

const LOCK: &str = include_str!("../../Cargo.lock");

/// Returns the version of `package`, or the newest of several.
fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    let mut found = None;
    while let Some(line) = lines.next() {
        if quoted(line, "name") == Some(package) {
            found = lines.next().and_then(|line| quoted(line, "version"));
        }
    }
    found
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}

/// Returns all measured packages with their versions.
pub fn versions() -> Vec<(&'static str, &'static str)> {
    let of = |package| (package, version(LOCK, package).unwrap_or("unknown"));
    PACKAGES.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{version, versions};

    const LOCK: &str = r#"
version = 4

[[package]]
name = "tower"
version = "0.5.3"
source = "registry"
dependencies = [
 "tower-layer",
]

[[package]]
name = "tower-layer"
version = "0.3.3"
"#;

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        assert_eq!(version(LOCK, "tower"), Some("0.5.3"));
        assert_eq!(version(LOCK, "tower-layer"), Some("0.3.3"));
        assert_eq!(version(LOCK, "layer"), None);
    }

    #[test]
    fn every_peer_is_in_the_lock_file() {
        assert!(versions().iter().all(|(_, version)| *version != "unknown"), "{:?}", versions());
    }
}
