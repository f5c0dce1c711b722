//! [`Definition`]: the steps of a saga.

use std::fmt;
use std::sync::Arc;

use buttress::{CodecError, Format, InMemory, Name};

use crate::saga::define::builder::Builder;
use crate::saga::define::step::StepCode;
use crate::saga::model::entry::Beginning;
use crate::saga::model::plan::Plan;
use crate::saga::run::attempt::Output;
use crate::saga::run::origin;

/// The steps of a saga whose input is an `I`. A [`Builder`] makes it. Cheap to clone.
///
/// `F` is the codec of its payloads. [`InMemory`] keeps payloads unchanged. `Json` makes bytes, for
/// stores that survive the process.
pub struct Definition<I, F: Format = InMemory> {
    pub(in crate::saga) inner: Arc<Inner<I, F>>,
}

pub(in crate::saga) struct Inner<I, F: Format> {
    pub name: Name,
    pub version: u32,
    pub codec: F,
    pub plan: Plan,
    pub steps: Vec<StepCode<I, F>>,
    /// Names, kinds and edges of the steps in one text, recorded with every saga. It reveals a
    /// change of the steps without a new version.
    pub shape: String,
    /// The comparison of inputs; `None` compares their encoded forms.
    pub same_input: Option<fn(&I, &I) -> bool>,
}

impl<I> Definition<I> {
    /// Begins a definition called `name`. Recovery resumes a saga only with the version that
    /// started it, so a change of the steps needs a new `version`.
    pub fn builder(name: impl Into<Name>, version: u32) -> Builder<I> {
        Builder::new(name.into(), version)
    }
}

impl<I, F: Format> Definition<I, F> {
    /// Returns the name of the definition.
    #[must_use]
    pub fn name(&self) -> Name {
        self.inner.name
    }

    /// Returns the version of the definition.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.inner.version
    }

    /// Returns the names of the steps, in the order in which they were added.
    pub fn steps(&self) -> impl Iterator<Item = Name> + '_ {
        self.inner.plan.steps.iter().map(|step| step.name)
    }

    /// Returns a drawing of the steps as a [mermaid](https://mermaid.js.org) flow chart.
    ///
    /// Actions run from top to bottom, and dashed arrows lead to undos. Pivots are diamonds,
    /// retryable steps are rounded.
    #[must_use]
    pub fn mermaid(&self) -> String {
        crate::saga::model::drawing::mermaid(&self.inner.plan)
    }
}

impl<I, F: Format> Inner<I, F> {
    pub(in crate::saga) fn step_name(&self, step: u16) -> Name {
        self.plan.steps.get(usize::from(step)).map(|step| step.name).unwrap_or_default()
    }

    /// Returns the first entry of a new saga, with the context of its caller.
    pub(in crate::saga) fn beginning(&self, input: F::Encoded) -> Beginning<F::Encoded> {
        let mut beginning = Beginning::new(input);
        beginning.shape = Some(self.shape.clone());
        origin::record(&mut beginning);
        beginning
    }

    pub(in crate::saga) fn encode(
        &self,
        step: u16,
        output: &Output,
    ) -> Result<F::Encoded, CodecError> {
        match self.steps.get(usize::from(step)) {
            Some(code) => (code.encode)(&self.codec, output),
            None => Err(CodecError::new(F::NAME, format!("the definition has no step {step}"))),
        }
    }
}

impl<I, F: Format> Clone for Definition<I, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<I, F: Format> fmt::Debug for Definition<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("steps", &self.steps().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
