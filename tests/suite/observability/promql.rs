//! A parser for the part of PromQL that shows the metrics and labels of an expression.

use std::collections::BTreeSet;

/// The metrics and labels of an expression.
#[derive(Default, Debug, PartialEq)]
pub(super) struct Asked {
    /// Each metric, with its matchers: label and value.
    pub selected: Vec<(String, Vec<(String, String)>)>,
    /// The labels of `by`, `without`, `on` and `ignoring`.
    pub labels: BTreeSet<String>,
}

/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

pub(super) fn asked(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut rest = expression;
    while let Some(at) = rest.find(is_word) {
        let word: String = rest[at..].chars().take_while(|letter| is_word(*letter)).collect();
        rest = rest[at + word.len()..].trim_start();
        if LISTS.contains(&word.as_str()) {
            let Some((labels, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')'))
            else {
                continue;
            };
            let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
            asked.labels.extend(labels.map(str::to_owned));
            rest = after;
        } else if word.starts_with("buttress_") {
            let mut matchers = Vec::new();
            if let Some(inside) = rest.strip_prefix('{') {
                // No value has a brace or a comma.
                let (inside, after) = inside.split_once('}').unwrap();
                for matcher in inside.split(',') {
                    let (label, value) = matcher.split_once('"').unwrap();
                    let label = label.trim().trim_end_matches(['=', '~', '!']);
                    matchers.push((label.to_owned(), value.trim_end_matches('"').to_owned()));
                }
                rest = after;
            }
            asked.selected.push((word, matchers));
        }
    }
    asked
}

#[test]
fn metrics_matchers_and_labels_are_found() {
    let expression = r#"sum by (layer, le) (rate(buttress_a{job=~"$job", to!="x|y"}[5m])) > 0.5
        and on (layer) buttress_b == 0"#;
    let matcher = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let expected = Asked {
        selected: vec![
            ("buttress_a".to_owned(), vec![matcher("job", "$job"), matcher("to", "x|y")]),
            ("buttress_b".to_owned(), vec![]),
        ],
        labels: ["layer", "le"].map(str::to_owned).into(),
    };
    assert_eq!(asked(expression), expected);
}
