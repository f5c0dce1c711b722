//! [`Scope`]: who is asking, and what becomes of a request of which that is unknown.

use std::fmt;

/// Who sent a request with a key: a stored response is given to the same scope only.
///
/// What `scope` of [`IdempotencyKeyLayer::new`](super::IdempotencyKeyLayer::new) returns. A known user or tenant
/// is [`Of`](Self::Of), and a `String` or `&str` becomes that. Where the user may be unknown, the closure has to
/// say what happens then:
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
/// A name that is empty is no name: the request is refused as [`Unauthenticated`](Self::Unauthenticated).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This user or tenant, and no other.
    Of(String),
    /// It is unknown who is asking: the request is answered 401, kind `unauthenticated`.
    Unauthenticated,
    /// It is unknown who is asking: the request is answered 400, kind `principal-missing`. For
    /// APIs without a login whose clients have to name themselves.
    Unnamed,
    /// It is unknown who is asking: the request passes, and nothing of it is stored or replayed. A
    /// repetition does its work **again**.
    Unprotected,
    /// **All requests with this name share their responses**, whoever sends them: whoever sends the key and the
    /// request of another gets that other's response. Only where all callers may read each other's responses.
    Shared(&'static str),
}

impl Scope {
    /// The text before a key, or what becomes of a request without one. A shared name begins with `*`, and a user
    /// that would begin like that begins with `@`, so that no user can call itself by a shared name.
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

/// What becomes of a request of an unknown caller.
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
    /// Leaves the name of the user out: it ends up in logs.
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
