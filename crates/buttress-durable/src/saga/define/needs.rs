//! [`StepHandle`] and [`Needs`]: the outputs that a step sees.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use buttress::Name;

use crate::saga::run::attempt::Output;

/// A step of a definition, whose output of type `T` later steps may need.
pub struct StepHandle<T> {
    step: StepRef,
    name: Name,
    output: PhantomData<fn() -> T>,
}

/// A step of a definition, with an output of any type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StepRef {
    /// The builder that created it.
    pub(in crate::saga) builder: u64,
    pub(in crate::saga) number: u16,
}

impl<T> StepHandle<T> {
    pub(in crate::saga) fn new(step: StepRef, name: Name) -> Self {
        Self { step, name, output: PhantomData }
    }

    /// Returns the name of the step. The number alone does not identify a step: a handle of another
    /// definition may have the same number.
    pub(in crate::saga) fn name(self) -> Name {
        self.name
    }

    pub(in crate::saga) fn number(self) -> u16 {
        self.step.number
    }
}

impl<T> Clone for StepHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for StepHandle<T> {}

impl<T> From<StepHandle<T>> for StepRef {
    fn from(handle: StepHandle<T>) -> Self {
        handle.step
    }
}

impl<T> fmt::Debug for StepHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StepHandle").field(&self.step.number).finish()
    }
}

/// The outputs of the steps that are done.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub(in crate::saga) steps: Vec<Option<Output>>,
}

impl Outputs {
    pub(in crate::saga) fn new(steps: usize) -> Self {
        Self { steps: vec![None; steps] }
    }

    pub(in crate::saga) fn of(&self, number: u16) -> Option<&Output> {
        self.steps.get(usize::from(number))?.as_ref()
    }

    pub(in crate::saga) fn set(&mut self, number: u16, output: Option<Output>) {
        if let Some(place) = self.steps.get_mut(usize::from(number)) {
            *place = output;
        }
    }

    /// Returns the output of `step`; `None` if the step is not done.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self, step: StepHandle<T>) -> Option<Arc<T>> {
        self.of(step.number())?.clone().downcast().ok()
    }
}

/// The outputs that a step sees: `()`, a [`StepHandle`], or a tuple of up to eight handles.
///
/// No other type implements it:
///
/// ```compile_fail
/// use buttress_durable::saga::{Needs, Outputs, StepRef};
/// struct All;
/// impl Needs for All {
///     type Outputs = ();
///     fn steps(&self) -> Vec<StepRef> {
///         Vec::new()
///     }
///     fn gather(&self, _outputs: &Outputs) -> Option<()> {
///         Some(())
///     }
/// }
/// ```
pub trait Needs: sealed::Sealed + Send + Sync + 'static {
    /// The outputs that the functions of the step receive: `()`, an `Arc` of the output, or a tuple
    /// of `Arc`s.
    type Outputs;

    /// Returns the steps whose outputs are needed. They are done before the step begins.
    fn steps(&self) -> Vec<StepRef>;

    /// Returns the outputs; `None` if one is missing.
    fn gather(&self, outputs: &Outputs) -> Option<Self::Outputs>;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for () {}

impl<T: Send + Sync + 'static> sealed::Sealed for StepHandle<T> {}

impl Needs for () {
    type Outputs = ();

    fn steps(&self) -> Vec<StepRef> {
        Vec::new()
    }

    fn gather(&self, _outputs: &Outputs) -> Option<()> {
        Some(())
    }
}

impl<T: Send + Sync + 'static> Needs for StepHandle<T> {
    type Outputs = Arc<T>;

    fn steps(&self) -> Vec<StepRef> {
        vec![self.step]
    }

    fn gather(&self, outputs: &Outputs) -> Option<Arc<T>> {
        outputs.get(*self)
    }
}

macro_rules! needs_tuples {
    ($(($($name:ident $place:tt),+))*) => {$(
        impl<$($name: Send + Sync + 'static),+> sealed::Sealed for ($(StepHandle<$name>,)+) {}

        impl<$($name: Send + Sync + 'static),+> Needs for ($(StepHandle<$name>,)+) {
            type Outputs = ($(Arc<$name>,)+);

            fn steps(&self) -> Vec<StepRef> {
                vec![$(self.$place.step),+]
            }

            fn gather(&self, outputs: &Outputs) -> Option<Self::Outputs> {
                Some(($(outputs.get(self.$place)?,)+))
            }
        }
    )*};
}

needs_tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
