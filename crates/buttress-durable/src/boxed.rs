//! `boxed!`: a store trait without its type.

/// Writes `Boxed`, the trait of a `Store` whose methods return boxed futures, so that it can be a trait object. The
/// payload of the store comes first, if it has one. The methods in braces have no future.
macro_rules! boxed {
    (
        $(<$payload:ident>)?
        $({ $($plain:ident($($passed:ident: $kind:ty),*) -> $answer:ty;)+ })?
        $($name:ident($($given:ident: $type:ty),*) -> $future:ty;)+
    ) => {
        trait Boxed$(<$payload>)?: Send + Sync {
            $($(fn $plain(&self, $($passed: $kind),*) -> $answer;)+)?

            $(fn $name<'a>(&'a self, $($given: $type),*) -> $future;)+
        }

        impl<$($payload: 'static,)? S: Store$(<$payload>)?> Boxed$(<$payload>)? for S {
            $($(fn $plain(&self, $($passed: $kind),*) -> $answer {
                Store::$plain(self, $($passed),*)
            })+)?

            $(fn $name<'a>(&'a self, $($given: $type),*) -> $future {
                Box::pin(Store::$name(self, $($given),*))
            })+
        }
    };
}
pub(crate) use boxed;
