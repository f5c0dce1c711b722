//! The operations of a store of sagas that have a file of their own on each database.

/// The operations of [`saga::Store`](buttress_durable::saga::Store) on sagas that wait, on signals and on other versions,
/// over the functions of `waits`, `signals`, `versions` and `migration` of a database.
macro_rules! delegated {
    () => {
        fn keeps_waits(&self) -> bool {
            true
        }

        async fn has_due(&self, name: &str, version: u32) -> Answer<bool> {
            self.has_due_wait(name, version).await
        }

        async fn take_due(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Vec<u8>>> {
            self.take_due_waits(sagas).await
        }

        fn keeps_signals(&self) -> bool {
            true
        }

        async fn signal(&self, signal: NewSignal<Vec<u8>>) -> Answer<SignalAnswer> {
            self.send_signal(signal).await
        }

        async fn signals(&self, saga: SagaId) -> Answer<Vec<Signal<Vec<u8>>>> {
            self.signals_of(saga).await
        }

        async fn take_saga(
            &self,
            worker: WorkerId,
            saga: SagaId,
        ) -> Answer<Option<Record<Vec<u8>>>> {
            self.take_one(worker, saga, $crate::saga::delegated::Wanted::Free).await
        }

        async fn take_unowned(
            &self,
            worker: WorkerId,
            saga: SagaId,
        ) -> Answer<Option<Record<Vec<u8>>>> {
            self.take_one(worker, saga, $crate::saga::delegated::Wanted::Unowned).await
        }

        async fn other_versions(
            &self,
            of: &str,
            known: &[u32],
            limit: usize,
        ) -> Answer<Vec<Summary>> {
            self.of_other_versions(of, known, limit).await
        }

        fn migrates(&self) -> bool {
            true
        }

        async fn migrate(&self, log: NewLog<Vec<u8>>) -> Answer<Moved> {
            self.move_saga(log).await
        }
    };
}
pub(crate) use delegated;

/// Which saga is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// One that is stuck, that the worker owns, or whose worker has no live lease.
    Free,
    /// One that no worker has taken yet.
    Unowned,
}
