use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One instance of a service: its id, address, weight and metadata. Cheap to clone.
///
/// ```
/// use buttress::discover::Instance;
/// let instance = Instance::new("orders-1", "10.0.0.1:8001").with_weight(3).with_metadata("zone", "a");
/// assert_eq!(instance.address(), "10.0.0.1:8001");
/// assert_eq!((instance.weight(), instance.metadata("zone")), (3, Some("a")));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Instance {
    id: Arc<str>,
    address: Arc<str>,
    weight: u32,
    /// `None` without metadata, which is the common case.
    metadata: Option<Arc<BTreeMap<String, String>>>,
}

impl Instance {
    /// The largest weight.
    pub const MAX_WEIGHT: u32 = 1_000_000;

    /// Creates an instance of weight 1 without metadata.
    ///
    /// `id` names the instance for as long as it exists, also while its address changes. Where a registry has no ids,
    /// use the address. `address` is a text that only your code reads: a host and a port, or a URL.
    pub fn new(id: impl Into<Arc<str>>, address: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), address: address.into(), weight: 1, metadata: None }
    }

    /// Creates an instance whose id is its address.
    pub fn at(address: impl Into<Arc<str>>) -> Self {
        let address = address.into();
        Self::new(address.clone(), address)
    }

    /// Sets the weight, the capacity of this instance in comparison with other instances. Default: 1. A weight of 0
    /// counts as 1, and a weight above [`MAX_WEIGHT`](Self::MAX_WEIGHT) as that number.
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, Self::MAX_WEIGHT);
        self
    }

    /// Adds a pair of metadata, such as a zone or a version. A later value of the same key replaces the earlier one.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let metadata = self.metadata.get_or_insert_with(Arc::default);
        Arc::make_mut(metadata).insert(key.into(), value.into());
        self
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the weight. At least 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Returns the value of a metadata key, or `None` if the instance does not have the key.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// Returns `true` if a stack that was made for `self` also serves `other`: only the weights may differ.
    pub(crate) fn is_served_like(&self, other: &Self) -> bool {
        self.id == other.id && self.address == other.address && self.metadata == other.metadata
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("address", &self.address)
            .field("weight", &self.weight)
            .field("metadata", &self.metadata.as_deref())
            .finish()
    }
}
