//! By-value setters of configurations, each that sets the field of its own name.

/// Writes a setter per line. `=> value` says how the field keeps the argument, where it is not kept unchanged.
macro_rules! setters {
    ($($(#[$doc:meta])+ pub fn $field:ident($given:ident: $type:ty) $(=> $kept:expr)?;)+) => {$(
        $(#[$doc])+
        pub fn $field(mut self, $given: $type) -> Self {
            self.$field = $crate::setters::kept!($given $(, $kept)?);
            self
        }
    )+};
}
pub(crate) use setters;

/// The last of its arguments.
macro_rules! kept {
    ($given:ident) => {
        $given
    };
    ($given:ident, $kept:expr) => {
        $kept
    };
}
pub(crate) use kept;

/// The setters that the configurations of executors and relays share. `$unnamed` is the name in logs and metrics
/// of one without a name.
macro_rules! common_setters {
    ($unnamed:literal) => {
        /// Returns the name in logs and metrics, also of one without a name.
        pub(super) fn layer(&self) -> buttress::Name {
            if self.name.as_str().is_empty() { buttress::Name::from($unnamed) } else { self.name }
        }

        $crate::setters::setters! {
            #[doc = concat!("Sets the name in logs and metrics. Default: \"", $unnamed, "\".")]
            pub fn name(name: impl Into<buttress::Name>) => name.into();

            /// Sets the clock. Default: tokio's clock.
            pub fn clock(clock: buttress::Clock);

            /// Sets the source of random ids and jitter. Default: a source with a different seed in every
            /// process.
            pub fn rng(rng: buttress::Rng);
        }
    };
}
pub(crate) use common_setters;
