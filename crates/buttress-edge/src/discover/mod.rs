//! Where the instances of a service come from: DNS, and a registry over HTTP.
//!
//! | source | resolver | feature |
//! |---|---|---|
//! | the addresses of a name | [`dns`](dns()) | |
//! | the SRV records of a name | `srv` | `srv` |
//! | a registry that instances announce themselves to | `registry_client` | `registry` |
//! | a list, or a file | [`buttress::discover::fixed`], [`buttress::discover::file`] | |
//!
//! [`Upstream::resolving`](crate::Upstream::resolving) takes them all, and so does
//! [`Balance::resolving`](buttress::balance::Balance::resolving).

use buttress::StoreError;

mod dns;
mod pace;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "srv")]
mod srv;

pub use dns::{Dns, dns};
#[cfg(all(feature = "registry", feature = "document"))]
pub(crate) use registry::registry_config;
#[cfg(feature = "registry")]
#[cfg_attr(docsrs, doc(cfg(feature = "registry")))]
pub use registry::{
    Announcement, Registry, RegistryClient, RegistryService, RegistryStats, registry_client,
};
#[cfg(feature = "srv")]
#[cfg_attr(docsrs, doc(cfg(feature = "srv")))]
pub use srv::{Srv, srv};

/// The most instances of a set. A registry has at most this number too. The memory of a balancer, and the time of a
/// change, grow with the set, and a wrong answer of a name server or a registry must not decide on them.
pub(crate) const MOST: usize = 1000;

/// Refuses a set, or a list of records, with more than [`MOST`] members.
pub(crate) fn check_size(members: usize) -> Result<(), StoreError> {
    if members <= MOST {
        return Ok(());
    }
    let what = format!("the answer has {members} instances, more than the largest set of {MOST}");
    Err(StoreError::invalid(what))
}
