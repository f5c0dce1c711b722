//! `settings!`, `document!` and `configuration!`: the fields of a configuration. `setters!`: the by-value setters of a
//! configuration. Each sets the field with the same name.

/// Makes one setter per line. `sets part.field` names the field that is set, if it has another name than the setter or
/// is a field of a part. `=> value` converts the argument for the field. Without it, the field keeps the argument
/// unchanged.
///
/// The crates of the workspace use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! __setters {
    ($(
        $(#[$attribute:meta])+
        $setter:ident($given:ident: $type:ty) $(sets $($field:ident).+)? $(=> $kept:expr)?;
    )+) => {$(
        $(#[$attribute])+
        pub fn $setter(mut self, $given: $type) -> Self {
            $crate::__set!(self, [$setter $(, $($field).+)?], [$given $(, $kept)?]);
            self
        }
    )+};
}
pub(crate) use __setters as setters;

/// Makes one setter per line that constants can use. It sets the field with its name.
///
/// The crates of the workspace use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! __const_setters {
    ($($(#[$attribute:meta])+ $field:ident($given:ident: $type:ty);)+) => {$(
        $(#[$attribute])+
        pub const fn $field(mut self, $given: $type) -> Self {
            self.$field = $given;
            self
        }
    )+};
}

/// Assigns the last value to the last field.
#[doc(hidden)]
#[macro_export]
macro_rules! __set {
    ($this:tt, [$setter:ident], $value:tt) => {
        $crate::__set!($this, [$setter, $setter], $value)
    };
    ($this:tt, [$setter:ident, $($field:ident).+], [$given:ident]) => {
        $this.$($field).+ = $given
    };
    ($this:tt, [$setter:ident, $($field:ident).+], [$given:ident, $kept:expr]) => {
        $this.$($field).+ = $kept
    };
}

/// Makes a struct of settings with its `Default` and its `new`. The default of a field is behind
/// its type.
///
/// The crates of the workspace use it. It is no part of the API.
#[doc(hidden)]
#[macro_export]
macro_rules! __settings {
    (
        $(#[$meta:meta])+
        pub struct $name:ident {
            $($(#[$attribute:meta])* $field:ident: $type:ty = $default:expr,)+
        }
    ) => {
        $(#[$meta])+
        #[must_use]
        pub struct $name {
            $($(#[$attribute])* pub(super) $field: $type,)+
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            /// Creates a configuration with the defaults.
            pub fn new() -> Self {
                Self::default()
            }
        }
    };
}
pub(crate) use __settings as settings;

/// Makes a struct of [`settings!`] that a document can hold. A document does not have the fields
/// behind `and in code`.
macro_rules! document {
    (
        $(#[$meta:meta])+
        pub struct $name:ident {
            $($(#[$attribute:meta])* $field:ident: $type:ty = $default:expr,)+
        } $(and in code {
            $($(#[$code_doc:meta])* $code:ident: $code_type:ty = $code_default:expr,)+
        })?
    ) => {
        $crate::vocabulary::setters::settings! {
            $(#[$meta])+
            #[cfg_attr(feature = "serde", derive(serde::Deserialize))]
            #[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
            pub struct $name {
                $($(#[$attribute])* $field: $type = $default,)+
                $($(
                    $(#[$code_doc])*
                    #[cfg_attr(feature = "serde", serde(skip))]
                    $code: $code_type = $code_default,
                )+)?
            }
        }
    };
}
pub(crate) use document;

/// Makes the configuration of a layer: a [`document!`], and the settings that every layer has,
/// which are only in code.
macro_rules! configuration {
    (
        $(#[$meta:meta])+
        pub struct $name:ident { $($fields:tt)+ } $(and in code { $($code:tt)+ })?
    ) => {
        $crate::vocabulary::setters::document! {
            $(#[$meta])+
            pub struct $name { $($fields)+ } and in code {
                $($($code)+)?
                common: Common = Common::default(),
            }
        }
    };
}
pub(crate) use configuration;
