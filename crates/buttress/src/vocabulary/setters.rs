//! By-value setters of configurations, each that sets the field of its own name.

/// Writes a setter per line. `=> value` says how the field keeps the argument, where it is not kept unchanged.
macro_rules! setters {
    ($($(#[$doc:meta])+ pub fn $field:ident($given:ident: $type:ty) $(=> $kept:expr)?;)+) => {$(
        $(#[$doc])+
        pub fn $field(mut self, $given: $type) -> Self {
            self.$field = $crate::vocabulary::setters::kept!($given $(, $kept)?);
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
