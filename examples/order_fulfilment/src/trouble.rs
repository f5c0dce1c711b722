//! Failures of the services themselves, in addition to the killed worker.

use std::time::Duration;

use buttress::{Clock, Rng};

/// The delay of a slow service: longer than the time limit of every caller.
const SLOW: Duration = Duration::from_millis(800);

/// The failure of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    None,
    /// The service answers with status 500, without an effect.
    Failure,
    /// The effect happens long after the caller has timed out.
    Slow,
    /// The effect happens, and the reply is lost.
    LostReply,
}

impl Trouble {
    /// Draws a failure for one request in nine.
    pub(crate) fn draw(rng: &Rng) -> Self {
        match rng.between(1, 100) {
            1..=5 => Self::Failure,
            6..=8 => Self::Slow,
            9..=11 => Self::LostReply,
            _ => Self::None,
        }
    }

    /// Runs before the work.
    pub(crate) async fn before(self) {
        if self == Self::Slow {
            Clock::default().sleep(SLOW).await;
        }
    }

    /// Runs after the work.
    pub(crate) async fn after(self) {
        if self == Self::LostReply {
            // Waits until the caller disconnects.
            std::future::pending::<()>().await;
        }
    }
}
