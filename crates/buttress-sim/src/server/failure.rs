use buttress::{AsRefusal, Error};

/// Why a service under test answered with an error.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ServerError {
    /// The service did the work, and the work failed.
    #[error("the service failed")]
    Failed,
    /// The queue was full, or the service rejected the job after it had waited.
    #[error("the service is overloaded")]
    Overloaded,
    /// The service is down, or crashed while it had the job.
    #[error("the service is down")]
    Down,
}

/// The error of a [`Station`](super::Station): the refusal of a layer around it, or the error of
/// the service. It is small, and making it allocates nothing.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Failure {
    /// A layer refused the call or interrupted it.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The service answered with an error.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl AsRefusal for Failure {
    fn as_refusal(&self) -> Option<&Error> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Server(_) => None,
        }
    }
}
