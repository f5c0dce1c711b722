//! Sagas of several versions of a definition, as a [`Store`] lists them.

use std::time::Duration;

use super::Store;
use super::records::{Page, Summary};
use crate::answer::Answer;
use crate::saga::model::entry::Status;

/// How long a [waiting](Status::Waiting) saga must have been due before [`Store::other_versions`] lists it: 5
/// seconds. A live executor of its version takes it within one second.
pub const OVERDUE: Duration = Duration::from_secs(5);

/// Finds sagas of other versions than `known` in the lists of a store.
pub(super) async fn listed<P, S: Store<P> + ?Sized>(
    store: &S,
    name: &str,
    known: &[u32],
    limit: usize,
) -> Answer<Vec<Summary>> {
    const PAGE: usize = 1000;
    let mut found = Vec::new();
    for status in [Status::Running, Status::Unwinding, Status::Waiting] {
        let mut after = None;
        for _ in 0..5 {
            let page = store.list(Page::first(PAGE).status(status).after(after)).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|saga| saga.id);
            let other = |saga: &Summary| saga.definition == name && !known.contains(&saga.version);
            found.extend(page.into_iter().filter(other));
            if !full || found.len() >= limit {
                break;
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}
