//! [`Scope`]: the caller of a request, and the answer to a request of an unknown caller.

use std::fmt;

/// The caller of a request with a key. The layer replays a stored response only within its scope.
///
/// The closure `scope` of [`IdempotencyKeyLayer::new`](super::IdempotencyKeyLayer::new) returns a
/// scope. A known user or tenant is [`Of`](Self::Of); a `String` or `&str` converts into `Of`. If
/// the user may be unknown, the closure chooses what happens to the request:
///
/// ```
/// use buttress_http::idempotency_key::Scope;
/// use http::request::Parts;
///
/// #[derive(Clone)]
/// struct User(String);
///
/// fn scope(head: &Parts) -> Scope {
///     match head.extensions.get::<User>() {
///         Some(user) => Scope::Of(user.0.clone()),
///         None => Scope::Unauthenticated, // 401
///     }
/// }
/// ```
///
/// The layer refuses a request with an empty name as [`Unauthenticated`](Self::Unauthenticated).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Only this user or tenant shares the stored responses.
    Of(String),
    /// The caller is unknown: the layer answers 401, kind `unauthenticated`.
    Unauthenticated,
    /// The caller is unknown: the layer answers 400, kind `principal-missing`. For APIs without a
    /// login whose clients have to name themselves.
    Unnamed,
    /// The caller is unknown: the request passes, and the layer neither stores nor replays its
    /// response. A repetition runs the handler **again**.
    Unprotected,
    /// **All requests with this name share their responses.** A caller that sends another caller's
    /// key and request receives the other caller's response. Use it only where all callers may read
    /// each other's responses.
    Shared(&'static str),
}

impl Scope {
    /// Returns the text that precedes a key, or why there is none. A shared name begins with `*`. A
    /// user name that begins with `*` or `@` gets the prefix `@`, so that no user can take a shared
    /// name.
    pub(super) fn text(self) -> Result<String, NoScope> {
        match self {
            Self::Of(name) if name.is_empty() => Err(NoScope::Unauthenticated),
            Self::Of(name) if name.starts_with(['*', '@']) => Ok(format!("@{name}")),
            Self::Of(name) => Ok(name),
            Self::Shared("") => Ok(String::new()),
            Self::Shared(name) => Ok(format!("*{name}")),
            Self::Unauthenticated => Err(NoScope::Unauthenticated),
            Self::Unnamed => Err(NoScope::Unnamed),
            Self::Unprotected => Err(NoScope::Unprotected),
        }
    }
}

/// The answer to a request of an unknown caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoScope {
    Unauthenticated,
    Unnamed,
    Unprotected,
}

impl From<String> for Scope {
    fn from(name: String) -> Self {
        Self::Of(name)
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self::Of(name.to_owned())
    }
}

impl fmt::Debug for Scope {
    /// Omits the name of the user: debug output reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Of(_) => "Of(..)",
            Self::Unauthenticated => "Unauthenticated",
            Self::Unnamed => "Unnamed",
            Self::Unprotected => "Unprotected",
            Self::Shared(name) => return write!(f, "Shared({name:?})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_can_be_taken_for_a_shared_name_or_for_nobody() {
        let text = |scope: Scope| scope.text();
        assert_eq!(text(Scope::from("ann")), Ok("ann".to_owned()));
        assert_eq!(text(Scope::Shared("ann")), Ok("*ann".to_owned()));
        assert_eq!(text(Scope::from("*ann")), Ok("@*ann".to_owned()));
        assert_eq!(text(Scope::from("@*ann")), Ok("@@*ann".to_owned()));
        assert_eq!(text(Scope::Shared("")), Ok(String::new()));
        assert_eq!(text(Scope::from(String::new())), Err(NoScope::Unauthenticated));
        assert_eq!(text(Scope::Unauthenticated), Err(NoScope::Unauthenticated));
        assert_eq!(text(Scope::Unnamed), Err(NoScope::Unnamed));
        assert_eq!(text(Scope::Unprotected), Err(NoScope::Unprotected));
        assert_eq!(format!("{:?}", Scope::from("ann")), "Of(..)");
    }
}
