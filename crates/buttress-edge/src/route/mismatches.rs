//! [`ShadowMismatches`]: the answers of a mirror that differed, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines the kinds of a mismatch, each with its number.
macro_rules! kinds {
    ($($(#[$doc:meta])* $field:ident: $kind:ident,)+) => {
        /// The answers of a [`RouteShadow`](crate::RouteShadow) that differed from the answers of the route, by the
        /// first difference.
        ///
        /// Their [total](Self::total) is the number `different` of its [handle](crate::RouteShadow::handle), once no copy is
        /// in progress.
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct ShadowMismatches {
            $($(#[$doc])* pub $field: u64,)+
        }

        /// The first difference.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Differing {
            $($kind,)+
        }

        impl ShadowMismatches {
            /// Returns the sum of all kinds.
            #[must_use]
            pub fn total(self) -> u64 {
                [$(self.$field),+].into_iter().sum()
            }
        }

        /// The counters of a mirror.
        #[derive(Debug, Default)]
        pub(crate) struct Mismatches {
            $($field: AtomicU64,)+
        }

        impl Mismatches {
            pub(crate) fn add(&self, differing: Differing) {
                let counter = match differing {
                    $(Differing::$kind => &self.$field,)+
                };
                // The call leaves the number of running calls after this, with an ordering that readers see.
                counter.fetch_add(1, Ordering::Relaxed);
            }

            pub(crate) fn stats(&self) -> ShadowMismatches {
                ShadowMismatches { $($field: self.$field.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

kinds! {
    /// The status.
    status: Status,
    /// A field of [`compare_fields`](crate::RouteShadow::compare_fields), with equal statuses.
    fields: Field,
    /// The body, with equal statuses and fields.
    body: Body,
    /// The mirror failed, and the route's own backends answered.
    mirror_failed: MirrorFailed,
    /// The mirror answered, and the route's own backends failed.
    primary_failed: PrimaryFailed,
}
