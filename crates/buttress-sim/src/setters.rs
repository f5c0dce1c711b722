//! By-value setters. Each sets the field with its name.

/// Writes a setter per line.
macro_rules! setters {
    ($($(#[$doc:meta])+ pub const fn $field:ident($given:ident: $type:ty);)+) => {$(
        $(#[$doc])+
        pub const fn $field(mut self, $given: $type) -> Self {
            self.$field = $given;
            self
        }
    )+};
}
pub(crate) use setters;
