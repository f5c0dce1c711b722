//! `setters!`: by-value setters of configurations. Each sets the field with the same name.

/// Makes one setter per line. `=> value` converts the argument for the field. Without it, the field
/// keeps the argument unchanged.
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

/// Expands to its last argument.
macro_rules! kept {
    ($given:ident) => {
        $given
    };
    ($given:ident, $kept:expr) => {
        $kept
    };
}
pub(crate) use kept;
