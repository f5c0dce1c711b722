//! [`Pattern`]: which topics a subscription takes.

use std::fmt;
use std::str::FromStr;

use super::error::InvalidPattern;

/// The topics that a subscription takes, by segments between dots.
///
/// `*` stands for one segment. `**` at the end stands for one segment or more. Alone it stands for every topic.
///
/// ```
/// use buttress_durable::bus::Pattern;
/// let users: Pattern = "user.*".parse().unwrap();
/// assert!(users.matches("user.created") && !users.matches("user.address.changed"));
/// let all: Pattern = "user.**".parse().unwrap();
/// assert!(all.matches("user.address.changed") && !all.matches("user"));
/// assert!("user..created".parse::<Pattern>().is_err());
/// assert!("user.#".parse::<Pattern>().is_err(), "a wildcard of RabbitMQ");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
}

const ONE: &str = "*";
const REST: &str = "**";

impl Pattern {
    /// Returns the pattern of every topic, also of an empty one: `**`.
    #[must_use]
    pub fn all() -> Self {
        Self { text: REST.into() }
    }

    /// Returns `true` if a subscription with this pattern takes messages of `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if &*self.text == REST {
            return true;
        }
        let mut segments = topic.split('.');
        for wanted in self.text.split('.') {
            match (wanted, segments.next()) {
                (_, None) => return false,
                (REST, Some(_)) => return true,
                (ONE, Some(_)) => {}
                (wanted, Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| Err(InvalidPattern { text: text.to_owned(), reason });
        let last = text.split('.').count().saturating_sub(1);
        for (at, segment) in text.split('.').enumerate() {
            match segment {
                "" => return wrong("a segment is empty"),
                ONE => {}
                REST if at < last => return wrong("`**` is allowed at the end only"),
                REST => {}
                "#" | ">" => return wrong("`#` and `>` are not wildcards here: use `**`"),
                other if other.contains('*') => {
                    return wrong("`*` is allowed as a whole segment only");
                }
                _ => {}
            }
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}
