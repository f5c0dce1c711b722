use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buttress::Rng;

use super::points::Side;

/// A fault that can happen to a process at an operation of its store.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trouble {
    /// The whole process freezes for this time. All other processes continue.
    Freeze(Duration),
    /// The message takes this time: the request if it is [`Before`](Side::Before) the effect, the
    /// answer if it is [`After`](Side::After) the effect.
    Late(Duration),
    /// The message is lost: the request before the effect, the answer after it. The operation fails with a
    /// transient error after this time. [`Duration::MAX`] means that it never returns.
    Lost(Duration),
    /// The wall clock of the process jumps by this number of seconds.
    Jump(i64),
    /// The caller drops the future that waits for the operation. The effect takes place. Only a future that
    /// [`Process::call`](super::Process::call) runs can be dropped.
    Drop,
    /// The process crashes and never restarts.
    Crash,
}

/// One [`Trouble`] and its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Strike {
    /// The number of the process.
    pub process: u32,
    /// The number of the operation of that process. The first is 1.
    pub operation: u64,
    /// Before the effect of the operation, or after it.
    pub side: Side,
    /// The trouble.
    pub trouble: Trouble,
}

/// All troubles of one run.
///
/// Its text can be parsed. For example, `1/7/after/freeze/11000,2/3/before/lost/0` freezes process
/// 1 for 11 seconds after the effect of its seventh operation. It also loses the request of the
/// third operation of process 2.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Schedule(pub Vec<Strike>);

impl Trouble {
    /// Returns the troubles of a sweep with leases of length `lease`: each kind. A kind with a
    /// length occurs with a shorter and a longer one than the lease.
    #[must_use]
    pub fn around(lease: Duration) -> Vec<Self> {
        let longer = lease + lease / 10;
        let clock = i64::try_from(lease.as_secs()).unwrap_or(i64::MAX / 16).saturating_mul(3);
        vec![
            Self::Freeze(longer),
            Self::Freeze(lease * 3),
            Self::Late(lease / 2),
            Self::Late(longer),
            Self::Lost(Duration::ZERO),
            Self::Lost(longer),
            Self::Lost(Duration::MAX),
            Self::Jump(clock),
            Self::Jump(-clock),
            Self::Drop,
            Self::Crash,
        ]
    }

    fn random(rng: &Rng, lease: Duration) -> Self {
        let most = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX / 4).saturating_mul(2);
        let time = Duration::from_millis(rng.between(0, most));
        let seconds = i64::try_from(time.as_secs()).unwrap_or_default();
        match rng.between(0, 8) {
            0..=2 => Self::Freeze(time),
            3 => Self::Late(time),
            4 => Self::Lost(time),
            7 => Self::Lost(Duration::MAX),
            5 => Self::Jump(if rng.between(0, 1) == 0 { seconds } else { -seconds }),
            6 => Self::Drop,
            _ => Self::Crash,
        }
    }
}

impl Schedule {
    /// Returns a schedule without trouble.
    #[must_use]
    pub const fn calm() -> Self {
        Self(Vec::new())
    }

    /// Draws up to `most` strikes from `rng`, among the first `operations` of each of `processes`
    /// processes. Their leases have the length `lease`. One process never crashes, so that work can
    /// end.
    #[must_use]
    pub fn random(rng: &Rng, processes: u32, operations: u64, lease: Duration, most: u64) -> Self {
        let survivor = rng.between(1, processes.into());
        let strike = |_| {
            let process = rng.between(1, processes.into());
            let side = if rng.between(0, 1) == 0 { Side::Before } else { Side::After };
            let operation = rng.between(1, operations.max(1));
            let trouble = match Trouble::random(rng, lease) {
                Trouble::Crash if process == survivor => Trouble::Freeze(lease * 2),
                trouble => trouble,
            };
            Strike { process: process as u32, operation, side, trouble }
        };
        Self((0..rng.between(1, most.max(1))).map(strike).collect())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Freeze(time) => write!(f, "freeze/{}", time.as_millis()),
            Self::Late(time) => write!(f, "late/{}", time.as_millis()),
            Self::Lost(Duration::MAX) => f.write_str("lost/forever"),
            Self::Lost(time) => write!(f, "lost/{}", time.as_millis()),
            Self::Jump(seconds) => write!(f, "jump/{seconds}"),
            Self::Drop => f.write_str("drop/0"),
            Self::Crash => f.write_str("crash/0"),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "after" };
        write!(f, "{}/{}/{side}/{}", self.process, self.operation, self.trouble)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strikes: Vec<String> = self.0.iter().map(Strike::to_string).collect();
        f.write_str(&strikes.join(","))
    }
}

/// The text is not a [`Schedule`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "\"{0}\" is not a strike, write process/operation/before|after/freeze|late|lost|jump|drop|crash/number"
)]
pub struct InvalidSchedule(String);

impl FromStr for Strike {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let invalid = || InvalidSchedule(text.to_owned());
        let parts: Vec<&str> = text.trim().split('/').collect();
        let [process, operation, side, kind, number] = parts.as_slice() else {
            return Err(invalid());
        };
        let millis = || number.parse().map(Duration::from_millis).map_err(|_| invalid());
        let trouble = match *kind {
            "freeze" => Trouble::Freeze(millis()?),
            "late" => Trouble::Late(millis()?),
            "lost" if *number == "forever" => Trouble::Lost(Duration::MAX),
            "lost" => Trouble::Lost(millis()?),
            "jump" => Trouble::Jump(number.parse().map_err(|_| invalid())?),
            "drop" => Trouble::Drop,
            "crash" => Trouble::Crash,
            _ => return Err(invalid()),
        };
        let side = match *side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return Err(invalid()),
        };
        let process = process.parse().map_err(|_| invalid())?;
        let operation = operation.parse().map_err(|_| invalid())?;
        Ok(Self { process, operation, side, trouble })
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        if text.trim().is_empty() {
            return Ok(Self::calm());
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}
