//! The signals that the store keeps.

use std::collections::HashMap;
use std::time::Duration;

use buttress::StoreError;

use super::{MemoryStore, Rows, Transaction};
use crate::answer::Answer;
use crate::saga::store::{
    NewSignal, SagaId, Signal, SignalAnswer, SignalId, check_payload_of_signal,
};

/// The signals that open transactions send, with the transaction and the id.
pub(super) type Signalling = HashMap<(SagaId, String), (Transaction, SignalId)>;

impl<P> Rows<P> {
    /// Returns the answer to a signal that comes now, in `transaction` if it is not committed yet.
    fn answer(&self, signal: &NewSignal<P>, transaction: Option<Transaction>) -> SignalAnswer {
        let own = |by: &Transaction| Some(*by) == transaction;
        let (record, known) = match self.sagas.get(&signal.saga) {
            Some(row) => (&row.record, &row.signals[..]),
            None => match self.reserved.get(&signal.saga) {
                Some((by, record)) if own(by) => (record, &[][..]),
                _ => return SignalAnswer::Unknown,
            },
        };
        let known = known.iter().find(|known| known.name == signal.name).map(|known| known.id);
        let held = self.signalling.get(&(signal.saga, signal.name.clone()));
        let known = known.or(held.filter(|(by, _)| own(by)).map(|(_, id)| *id));
        if known == Some(signal.id) {
            return SignalAnswer::Duplicate;
        }
        let definition = (record.definition.as_str(), record.version);
        match SignalAnswer::refusal(signal, definition, record.status) {
            Some(refusal) => refusal,
            None if known.is_some() => SignalAnswer::Later,
            None => SignalAnswer::Delivered,
        }
    }

    /// Refuses a signal whose name another open transaction has reserved.
    fn check_free(&self, signal: &NewSignal<P>, own: Option<Transaction>) -> Answer<()> {
        let by = self.signalling.get(&(signal.saga, signal.name.clone())).map(|(by, _)| *by);
        if by.is_some() && by != own {
            let (saga, name) = (signal.saga, &signal.name);
            let why = format!("saga {saga}: an open transaction sends the signal \"{name}\"");
            return Err(StoreError::transient(why));
        }
        Ok(())
    }
}

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    pub(super) fn signal_now(&self, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        check_payload_of_signal(&signal)?;
        let mut rows = self.lock();
        rows.check_free(&signal, None)?;
        Ok(self.record_signal(&mut rows, &signal))
    }

    pub(super) fn signals_now(&self, saga: SagaId) -> Vec<Signal<P>> {
        self.lock().sagas.get(&saga).map(|row| row.signals.clone()).unwrap_or_default()
    }

    /// Reserves the name of a signal for a transaction, if the saga takes the signal.
    pub(crate) fn reserve_signal(
        &self,
        transaction: Transaction,
        signal: &NewSignal<P>,
    ) -> Answer<SignalAnswer> {
        check_payload_of_signal(signal)?;
        let mut rows = self.lock();
        rows.check_free(signal, Some(transaction))?;
        let answer = rows.answer(signal, Some(transaction));
        if answer == SignalAnswer::Delivered {
            let name = (signal.saga, signal.name.clone());
            rows.signalling.insert(name, (transaction, signal.id));
        }
        Ok(answer)
    }

    /// Records the signal of a transaction, or forgets it if the transaction was rolled back. A saga that has ended
    /// in the meantime takes no signal.
    pub(crate) fn settle_signal(&self, signal: NewSignal<P>, committed: bool) {
        let mut rows = self.lock();
        rows.signalling.remove(&(signal.saga, signal.name.clone()));
        if committed {
            let _answer = self.record_signal(&mut rows, &signal);
        }
    }

    fn record_signal(&self, rows: &mut Rows<P>, signal: &NewSignal<P>) -> SignalAnswer {
        let answer = rows.answer(signal, None);
        if answer != SignalAnswer::Delivered {
            return answer;
        }
        let saga = signal.saga;
        let Some(row) = rows.sagas.get_mut(&saga) else { return SignalAnswer::Unknown };
        row.signals.push(Signal::new(&*signal.name, signal.id, signal.payload.clone()));
        row.record.signals += 1;
        if row.due.is_some() {
            let (now, at) = (self.inner.clock.now(), self.inner.clock.unix());
            rows.set_due(saga, Some((now, at, Duration::ZERO)));
        }
        answer
    }
}
