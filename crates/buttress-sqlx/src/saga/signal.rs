//! Signals to sagas: their bounds, the answers to them, and their rows.

use buttress::StoreError;
use buttress_durable::saga::{LARGEST_SIGNAL, NewSignal, SagaId, Signal, SignalAnswer, SignalId};

use super::{Head, unreadable};
use crate::bounds;
use crate::columns::Columns;

/// The columns of a [`Signal`].
pub(crate) const SIGNAL: &str = "name, id, payload";

/// Refuses a signal that does not fit.
pub(crate) fn prepare(signal: &NewSignal<Vec<u8>>) -> Result<(), StoreError> {
    let what = format!("saga {}: signal", signal.saga);
    bounds::check_name(&what, &signal.name)?;
    let bytes = signal.payload.len();
    if bytes > LARGEST_SIGNAL {
        let (saga, name) = (signal.saga, &signal.name);
        return Err(StoreError::invalid(format!(
            "saga {saga}: the signal \"{name}\" has {bytes} bytes, at most {LARGEST_SIGNAL} are allowed"
        )));
    }
    Ok(())
}

/// Returns the answer to a signal of the saga in `head`, which holds the signal `known` of the same name. Returns
/// `None` if the caller shall write the signal.
pub(crate) fn judge(
    signal: &NewSignal<Vec<u8>>,
    head: &Head,
    known: Option<SignalId>,
) -> Result<Option<SignalAnswer>, StoreError> {
    if known == Some(signal.id) {
        return Ok(Some(SignalAnswer::Duplicate));
    }
    let (version, status) = head
        .version()
        .and_then(|version| Ok((version, head.status()?)))
        .map_err(StoreError::corrupt)?;
    let refusal = SignalAnswer::refusal(signal, (&head.definition, version), status);
    Ok(refusal.or(known.map(|_| SignalAnswer::Later)))
}

/// Reads the signals of a saga, whose columns are [`SIGNAL`].
pub(crate) fn read<R: Columns>(
    saga: SagaId,
    rows: &[R],
) -> Result<Vec<Signal<Vec<u8>>>, StoreError> {
    let signal = |row: &R| -> sqlx::Result<_> {
        Ok(Signal::new(row.text(0)?, SignalId::new(row.id(1)?), row.bytes(2)?))
    };
    let signals = rows.iter().map(signal).collect::<sqlx::Result<_>>();
    signals.map_err(|error| unreadable(saga, "signals", error))
}
