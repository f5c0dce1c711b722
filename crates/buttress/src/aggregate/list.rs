//! The parts of an aggregate as a tuple, and their calls as a chain.

use std::pin::Pin;
use std::task::Context;

use pin_project_lite::pin_project;

use super::part::{ErrorOf, Part, Run, Sealed, Turn, Unanswered};
use crate::vocabulary::error::Error;

/// The parts of an aggregate: tuples of up to 12 [`Part`]s.
///
/// This trait is sealed.
pub trait PartList<Req>: Sealed {
    /// The error of the last required part, or [`Error`] without one.
    type Error;
    /// The values in the answer, as a tuple.
    type Values;
    /// The calls of all parts.
    #[doc(hidden)]
    type Calls: Calls<Self::Error>;

    #[doc(hidden)]
    fn begin(&self, request: Req) -> Self::Calls;

    #[doc(hidden)]
    fn values(values: <Self::Calls as Calls<Self::Error>>::Values) -> Self::Values;
}

/// A tuple of parts that takes one more: tuples of up to 11 parts.
///
/// This trait is sealed.
pub trait Append<P>: Sealed {
    /// The tuple with the part at its end.
    type Longer;

    #[doc(hidden)]
    fn append(self, part: P) -> Self::Longer;
}

/// The calls of all parts. The methods go through them in the order of the definition.
#[doc(hidden)]
pub trait Calls<E> {
    /// How many calls there are.
    const COUNT: usize;
    type Values;

    /// Polls the calls that have not ended, until a required one fails.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, turn: &mut Turn<'_, E>);

    /// Ends the calls that have not ended.
    fn close(self: Pin<&mut Self>, turn: &mut Turn<'_, E>);

    /// Returns why the call at `place` has not ended.
    fn open(&self, place: usize) -> Option<Unanswered>;

    /// Drops the calls that have not ended.
    fn clear(self: Pin<&mut Self>);

    /// Returns the values, if each call has one.
    fn take(self: Pin<&mut Self>) -> Option<Self::Values>;
}

/// The end of a chain: no calls.
#[doc(hidden)]
#[derive(Debug)]
pub struct End;

pin_project! {
    /// The calls of the first parts, and the call of the last one.
    #[doc(hidden)]
    pub struct Chain<B, P, Req, E>
    where
        P: Part<Req, E>,
    {
        #[pin]
        before: B,
        #[pin]
        last: Run<P, Req, E>,
    }
}

impl<E> Calls<E> for End {
    const COUNT: usize = 0;
    type Values = ();

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut Turn<'_, E>) {}

    fn close(self: Pin<&mut Self>, _: &mut Turn<'_, E>) {}

    fn open(&self, _: usize) -> Option<Unanswered> {
        None
    }

    fn clear(self: Pin<&mut Self>) {}

    #[inline(always)]
    fn take(self: Pin<&mut Self>) -> Option<()> {
        Some(())
    }
}

impl<B: Calls<E>, P: Part<Req, E>, Req, E> Calls<E> for Chain<B, P, Req, E> {
    const COUNT: usize = B::COUNT + 1;
    type Values = (B::Values, P::Value);

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, turn: &mut Turn<'_, E>) {
        let this = self.project();
        this.before.poll(cx, turn);
        if turn.failed.is_none() && turn.progress.is_open(B::COUNT) {
            this.last.poll(cx, B::COUNT, turn);
        }
    }

    fn close(self: Pin<&mut Self>, turn: &mut Turn<'_, E>) {
        let this = self.project();
        this.before.close(turn);
        this.last.close(B::COUNT, turn);
    }

    fn open(&self, place: usize) -> Option<Unanswered> {
        if place == B::COUNT { self.last.open() } else { self.before.open(place) }
    }

    fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        this.before.clear();
        this.last.clear();
    }

    #[inline(always)]
    fn take(self: Pin<&mut Self>) -> Option<Self::Values> {
        let this = self.project();
        Some((this.before.take()?, this.last.take()?))
    }
}

/// Nests a list to the left: `nested!(a b)` is `(((), a), b)`, as a pattern.
macro_rules! nested {
    (@ $before:tt) => { $before };
    (@ $before:tt $next:ident $($rest:ident)*) => { nested!(@ ($before, $next) $($rest)*) };
    ($($all:ident)*) => { nested!(@ () $($all)*) };
}

/// The type of a chain of calls.
macro_rules! chain {
    (@ [$($before:tt)*]) => { $($before)* };
    (@ [$($before:tt)*] $next:ident $($rest:ident)*) => {
        chain!(@ [Chain<$($before)*, $next, Req, Self::Error>] $($rest)*)
    };
    ($($all:ident)*) => { chain!(@ [End] $($all)*) };
}

/// The error that the parts choose.
macro_rules! error {
    (@ [$($before:tt)*]) => { $($before)* };
    (@ [$($before:tt)*] $next:ident $($rest:ident)*) => {
        error!(@ [<$next as ErrorOf<Req>>::Error<$($before)*>] $($rest)*)
    };
    ([$($all:ident)*]) => { error!(@ [Error] $($all)*) };
}

/// Implements the traits for a tuple of parts. Without a part there is nothing to call.
macro_rules! list {
    ([]) => {
        impl Sealed for () {}
    };
    ($all:tt $($part:ident $value:ident),*) => {
        impl<$($part: Sealed),*> Sealed for ($($part,)*) {}

        impl<Req: Clone, $($part: ErrorOf<Req>),*> PartList<Req> for ($($part,)*)
        where
            $($part: Part<Req, error!($all)>),*
        {
            type Error = error!($all);
            type Values = ($(<$part as Part<Req, Self::Error>>::Value,)*);
            type Calls = chain!($($part)*);

            #[inline(always)]
            fn begin(&self, request: Req) -> Self::Calls {
                let ($($value,)*) = self;
                let calls = End;
                $(let calls = Chain { before: calls, last: Run::new($value, request.clone()) };)*
                calls
            }

            #[inline(always)]
            fn values(nested!($($value)*): <Self::Calls as Calls<Self::Error>>::Values) -> Self::Values {
                ($($value,)*)
            }
        }
    };
}

/// Implements the traits for a tuple of parts and all shorter ones.
macro_rules! lists {
    (@ [$($part:ident $value:ident),*]) => { list!([$($part)*] $($part $value),*); };
    (@ [$($part:ident $value:ident),*] $next:ident $name:ident $($rest:ident)*) => {
        list!([$($part)*] $($part $value),*);

        impl<$($part: Sealed,)* $next: Sealed> Append<$next> for ($($part,)*) {
            type Longer = ($($part,)* $next,);

            fn append(self, $name: $next) -> Self::Longer {
                let ($($value,)*) = self;
                ($($value,)* $name,)
            }
        }

        lists!(@ [$($part $value,)* $next $name] $($rest)*);
    };
    ($($all:ident)*) => { lists!(@ [] $($all)*); };
}

lists!(A a B b C c D d F f G g H h I i J j K k L l M m);
