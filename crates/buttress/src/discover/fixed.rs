use std::future::pending;

use super::instance::Instance;
use super::resolve::Resolve;
use crate::vocabulary::store_error::StoreError;

/// A resolver with one set that never changes. [`fixed`] makes it.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// `None` once it was returned.
    instances: Option<Vec<Instance>>,
}

/// Makes a resolver of `instances`, which never change.
#[must_use]
pub fn fixed(instances: impl IntoIterator<Item = Instance>) -> Fixed {
    Fixed { instances: Some(instances.into_iter().collect()) }
}

impl Resolve for Fixed {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        match self.instances.take() {
            Some(instances) => Ok(instances),
            None => pending().await,
        }
    }
}
