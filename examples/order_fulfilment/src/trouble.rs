//! What goes wrong by itself at the services, apart from the worker that is killed.

use std::time::Duration;

use buttress::{Clock, Rng};

/// How long a slow service thinks: longer than anybody waits for it.
const SLOW: Duration = Duration::from_millis(800);

/// What happens to one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    None,
    /// Answered with status 500, and nothing done.
    Failure,
    /// Done long after the caller has given up.
    Slow,
    /// Done, and nobody hears of it.
    LostReply,
}

impl Trouble {
    /// One request in nine is in trouble.
    pub(crate) fn draw(rng: &Rng) -> Self {
        match rng.between(1, 100) {
            1..=5 => Self::Failure,
            6..=8 => Self::Slow,
            9..=11 => Self::LostReply,
            _ => Self::None,
        }
    }

    /// Before the work.
    pub(crate) async fn before(self) {
        if self == Self::Slow {
            Clock::default().sleep(SLOW).await;
        }
    }

    /// After the work.
    pub(crate) async fn after(self) {
        if self == Self::LostReply {
            // Until the caller hangs up.
            std::future::pending::<()>().await;
        }
    }
}
