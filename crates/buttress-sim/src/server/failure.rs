use buttress::{AsRefusal, Error};

/// Why a service under test answered with an error.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ServerError {
    /// The work was done, and went wrong.
    #[error("the service failed")]
    Failed,
    /// The queue was full, or the job was turned away after it had waited.
    #[error("the service is overloaded")]
    Overloaded,
    /// The service is down, or crashed while it had the job.
    #[error("the service is down")]
    Down,
}

/// The error of a [`Station`](super::Station): what a layer around it made of the call, or what the service
/// answered. It is small and made without allocating.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Failure {
    /// A layer refused the call or cut it short.
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
