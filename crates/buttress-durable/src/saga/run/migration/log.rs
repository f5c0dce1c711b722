//! [`MigratedLog`]: the log of a saga, in the hands of a user's function.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use buttress::{Codec, CodecError, Format};

use crate::saga::model::entry::{Entry, Status};
use crate::saga::model::shape;
use crate::saga::store::{Record, SagaId};

/// The reason why a change of a [`MigratedLog`] is not possible.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The names of the old steps are not known.
    #[error("the log does not hold the names of its steps; name them with `steps_were`")]
    StepsUnknown,
    /// The log has no step with this name.
    #[error("the log has no step \"{step}\"; it has {known}")]
    UnknownStep {
        /// The name that was given.
        step: String,
        /// The names of the steps of the log.
        known: String,
    },
    /// The given names differ from the names in the log.
    #[error("the steps were {known}, not {given}")]
    OtherSteps {
        /// The names that were given.
        given: String,
        /// The names in the log, or how many steps it has at least.
        known: String,
    },
    /// The step has no output that could be replaced.
    #[error("the step \"{step}\" has no output in the log")]
    NoOutput {
        /// The name of the step.
        step: String,
    },
    /// A value cannot be encoded or decoded.
    #[error("{what}")]
    Codec {
        /// The value: `input`, or the output of a step by its name.
        what: String,
        /// The error of the codec.
        #[source]
        error: CodecError,
    },
}

/// A step of the old version.
#[derive(Clone, Debug)]
pub(super) struct OldStep {
    /// Its name in the new version.
    pub name: String,
    /// Its name in the old version.
    pub recorded: String,
    /// The letter of its sort; `None` if the shape in the log is a digest.
    pub sort: Option<char>,
}

/// The log of one saga of another version. A function of the user's [moves](crate::saga::Executor::migrate) it to the
/// version of the executor.
///
/// Steps are mapped by their names. Without a change a step of the log belongs to the step of the new version with
/// the same name. A change is only made if the whole saga moves.
pub struct MigratedLog<F: Format> {
    pub(super) record: Record<F::Encoded>,
    pub(super) codec: F,
    /// `None` if the names are not known.
    pub(super) steps: Option<Vec<OldStep>>,
    pub(super) input: Option<F::Encoded>,
    /// Replaced outputs by the number of the old step.
    pub(super) outputs: HashMap<usize, F::Encoded>,
    /// The old steps of which no entry is kept.
    pub(super) forgotten: BTreeSet<usize>,
    /// Steps of the new version that are done, with their outputs.
    pub(super) done: Vec<(String, F::Encoded)>,
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn codec(what: impl Into<String>) -> impl FnOnce(CodecError) -> MigrationError {
    let what = what.into();
    move |error| MigrationError::Codec { what, error }
}

impl<F: Format> MigratedLog<F> {
    pub(super) fn new(record: Record<F::Encoded>, codec: F) -> Self {
        let steps = record.beginning.shape.as_deref().and_then(shape::steps);
        let old = |step: shape::ShapeStep| OldStep {
            name: step.name.clone(),
            recorded: step.name,
            sort: Some(step.sort),
        };
        let steps = steps.map(|steps| steps.into_iter().map(old).collect());
        Self {
            record,
            codec,
            steps,
            input: None,
            outputs: HashMap::new(),
            forgotten: BTreeSet::new(),
            done: Vec::new(),
        }
    }

    /// Returns the id of the saga.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.record.id
    }

    /// Returns the status of the saga.
    #[must_use]
    pub fn status(&self) -> Status {
        self.record.status
    }

    /// Names the steps of the old version, in the order of its definition.
    ///
    /// The log itself holds the names if the shape of the old definition had up to 200 characters. The shape is one
    /// text of the names, kinds and edges of all steps. The log of a larger definition holds a digest only, so the
    /// function must name the steps. Nothing can check these names then, except that there are enough of them. A step
    /// that has begun, and is not a wait, can then be neither renamed nor forgotten: it may be a child saga. Keep such
    /// a step of the same sort.
    ///
    /// # Errors
    /// Returns [`OtherSteps`](MigrationError::OtherSteps) if the log holds other names, or entries of more steps.
    pub fn steps_were<N: Into<String>>(
        &mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<(), MigrationError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let given = || listed(names.iter().map(String::as_str));
        if let Some(steps) = &self.steps {
            if steps.iter().map(|step| &step.recorded).eq(&names) {
                return Ok(());
            }
            let known = listed(steps.iter().map(|step| step.recorded.as_str()));
            return Err(MigrationError::OtherSteps { given: given(), known });
        }
        let last = self.record.entries.iter().map(|entry| usize::from(entry.step())).max();
        let least = last.map_or(0, |last| last + 1);
        if names.len() < least {
            let known = format!("at least {least} steps");
            return Err(MigrationError::OtherSteps { given: given(), known });
        }
        let old = |name: String| OldStep { name: name.clone(), recorded: name, sort: None };
        self.steps = Some(names.into_iter().map(old).collect());
        Ok(())
    }

    /// Returns the names of the steps of the log, as far as they are known, with the renamed ones under their new
    /// names.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flatten().map(|step| step.name.as_str())
    }

    /// Returns the number of a step.
    fn number(&self, step: &str) -> Result<usize, MigrationError> {
        let steps = self.steps.as_ref().ok_or(MigrationError::StepsUnknown)?;
        let number = steps.iter().position(|known| known.name == step);
        number.ok_or_else(|| MigrationError::UnknownStep {
            step: step.to_owned(),
            known: listed(self.steps()),
        })
    }

    /// Returns the entry with the output of a step.
    fn output_of(&self, number: usize) -> Option<&F::Encoded> {
        let own = |entry: &&Entry<_>| usize::from(entry.step()) == number;
        self.record.entries.iter().rev().filter(own).find_map(Entry::payload)
    }

    /// Decodes the input of the saga.
    ///
    /// # Errors
    /// Returns [`Codec`](MigrationError::Codec) if the input is not a `T`.
    pub fn input<T>(&self) -> Result<Arc<T>, MigrationError>
    where
        F: Codec<T>,
    {
        let input = self.input.as_ref().unwrap_or(&self.record.beginning.input);
        self.codec.decode(input).map_err(codec("input"))
    }

    /// Replaces the input of the saga.
    ///
    /// # Errors
    /// Returns [`Codec`](MigrationError::Codec) if the input cannot be encoded.
    pub fn set_input<T>(&mut self, input: T) -> Result<(), MigrationError>
    where
        F: Codec<T>,
    {
        self.input = Some(self.codec.encode(&Arc::new(input)).map_err(codec("input"))?);
        Ok(())
    }

    /// Decodes the output of a step; `None` if the step has none.
    ///
    /// # Errors
    /// Returns an error if the log has no such step, or if the output is not a `T`.
    pub fn output<T>(&self, step: &str) -> Result<Option<Arc<T>>, MigrationError>
    where
        F: Codec<T>,
    {
        let number = self.number(step)?;
        let output = self.outputs.get(&number).or_else(|| self.output_of(number));
        output.map(|output| self.codec.decode(output)).transpose().map_err(codec(step))
    }

    /// Replaces the output of a step.
    ///
    /// # Errors
    /// Returns an error if the log has no such step or no output of it, or if the output cannot be encoded.
    pub fn set_output<T>(&mut self, step: &str, output: T) -> Result<(), MigrationError>
    where
        F: Codec<T>,
    {
        let number = self.number(step)?;
        if self.output_of(number).is_none() {
            return Err(MigrationError::NoOutput { step: step.to_owned() });
        }
        let output = self.codec.encode(&Arc::new(output)).map_err(codec(step))?;
        self.outputs.insert(number, output);
        Ok(())
    }

    /// Maps a step of the log to the step `to` of the new version.
    ///
    /// The [key](crate::saga::Call::key) of a call contains the name of its step. So the undo of a renamed step has
    /// another key than its action. A [`Barrier`](crate::saga::Barrier) of the service then skips the undo. A step
    /// whose action or undo is in progress or in doubt cannot be renamed, nor can a step with a child saga that has begun.
    ///
    /// # Errors
    /// Returns an error if the log has no such step.
    pub fn rename(&mut self, step: &str, to: impl Into<String>) -> Result<(), MigrationError> {
        let number = self.number(step)?;
        if let Some(step) = self.steps.as_mut().and_then(|steps| steps.get_mut(number)) {
            step.name = to.into();
        }
        Ok(())
    }

    /// Removes a step from the log, as if it had never begun. The new version may have a step of this name.
    ///
    /// The saga then neither undoes the step nor remembers its output. So forget only a step whose effect does not
    /// matter any more, or whose effect another step undoes.
    ///
    /// # Errors
    /// Returns an error if the log has no such step.
    pub fn forget(&mut self, step: &str) -> Result<(), MigrationError> {
        let number = self.number(step)?;
        self.forgotten.insert(number);
        Ok(())
    }

    /// Marks a step of the new version as done, with its output. The step does not run.
    ///
    /// The output of a step that waits for a time is `()`.
    ///
    /// # Errors
    /// Returns [`Codec`](MigrationError::Codec) if the output cannot be encoded.
    pub fn done<T>(&mut self, step: impl Into<String>, output: T) -> Result<(), MigrationError>
    where
        F: Codec<T>,
    {
        let step = step.into();
        let output = self.codec.encode(&Arc::new(output)).map_err(codec(step.as_str()))?;
        self.done.push((step, output));
        Ok(())
    }
}

impl<F: Format> std::fmt::Debug for MigratedLog<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigratedLog")
            .field("saga", &self.record.id)
            .field("status", &self.record.status)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
