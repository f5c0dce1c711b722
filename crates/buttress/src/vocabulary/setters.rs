//! `settings!`, `document!` and `configuration!`: the fields of a configuration. `setters!`: the by-value setters of a
//! configuration. Each sets the field with the same name.

/// Makes one setter per line. `in part` names the field that has the set field. `=> value` converts
/// the argument for the field. Without it, the field keeps the argument unchanged.
macro_rules! setters {
    ($(
        $(#[$doc:meta])+
        pub fn $field:ident($given:ident: $type:ty) $(in $part:ident)? $(=> $kept:expr)?;
    )+) => {$(
        $(#[$doc])+
        pub fn $field(mut self, $given: $type) -> Self {
            self.$($part.)?$field = $crate::vocabulary::setters::kept!($given $(, $kept)?);
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

/// Makes a struct of settings with its `Default` and its `new`. The default of a field is behind
/// its type.
macro_rules! settings {
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

        impl Default for $name {
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
pub(crate) use settings;

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
