//! Child sagas: their ids, the entry that names their parent, and how far their logs are.

use crate::saga::model::drawing::digest;
use crate::saga::model::entry::Entry;
use crate::saga::model::id::SagaId;
use crate::text;

/// The words between the id of a parent and its step.
const HOLDS: &str = "holds";
const AWAITS: &str = "awaits";

/// The parent of a child saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::saga) struct Parent {
    /// The id of the parent.
    pub saga: u128,
    /// The name of the step that runs the child, up to the length that a store keeps.
    pub step: String,
    /// Whether the child waits for the decision of the parent when its steps are done.
    pub holds: bool,
}

impl Parent {
    /// Returns the first entry of the child.
    pub(in crate::saga) fn entry<P>(&self) -> Entry<P> {
        Entry::ChildOf { parent: self.text() }
    }

    fn text(&self) -> String {
        let word = if self.holds { HOLDS } else { AWAITS };
        text::cut(format_args!("{} {word} {}", SagaId::new(self.saga), self.step))
    }

    /// Whether a log is of a child of this parent and step.
    pub(in crate::saga) fn owns<P>(&self, entries: &[Entry<P>]) -> bool {
        matches!(entries.first(), Some(Entry::ChildOf { parent }) if *parent == self.text())
    }

    /// Reads the parent from the first entry of a log. `None` if the saga is not a child.
    pub(in crate::saga) fn of<P>(entries: &[Entry<P>]) -> Option<Self> {
        match entries.first()? {
            Entry::ChildOf { parent } => Self::parse(parent),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (saga, rest) = text.split_once(' ')?;
        let (word, step) = rest.split_once(' ')?;
        let holds = match word {
            HOLDS => true,
            AWAITS => false,
            _ => return None,
        };
        let saga = saga.parse::<SagaId>().ok()?.get();
        Some(Self { saga, step: step.to_owned(), holds })
    }

    /// Whether `text` names a parent that holds the child.
    pub(in crate::saga) fn holds(text: &str) -> Result<bool, String> {
        let parent = Self::parse(text).ok_or("the parent cannot be read")?;
        Ok(parent.holds)
    }
}

/// Returns the number of the id of a child. It depends only on the parent and the name of its step, so a repeated start
/// finds the same child. It never changes.
pub(in crate::saga) fn number(parent: u128, step: &str) -> u128 {
    digest(format!("{}/{step}", SagaId::new(parent)).as_bytes())
}

/// How far the log of a child is, whatever its definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Stage {
    /// The steps of the child run.
    Running,
    /// The steps of the child are done, and it waits for the decision of its parent.
    Held,
    /// The steps of the child are done, and no step is undone from here on.
    Committed,
    /// The child undoes its steps, or has undone them.
    Unwinding,
}

impl Stage {
    pub(in crate::saga) fn of<P>(entries: &[Entry<P>]) -> Self {
        let last = entries.iter().rev().find_map(|entry| match entry {
            Entry::Held => Some(Self::Held),
            Entry::Committed | Entry::Completed => Some(Self::Committed),
            Entry::Unwinding { .. } | Entry::Compensated => Some(Self::Unwinding),
            _ => None,
        });
        last.unwrap_or(Self::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_child_never_changes() {
        assert_eq!(number(7, "ship"), 0xbe43_20ba_dca3_e18f_3932_a22a_a38c_c753);
        assert_ne!(number(7, "ship"), number(7, "pack"));
        assert_ne!(number(7, "ship"), number(8, "ship"));
    }

    #[test]
    fn a_parent_is_read_as_it_was_written() {
        for (step, holds) in [("ship", true), ("ship it now", false), ("", true)] {
            let parent = Parent { saga: 7, step: step.to_owned(), holds };
            assert_eq!(Parent::of(&[parent.entry::<()>(), Entry::Held]), Some(parent));
        }
        let long = Parent { saga: 7, step: "x".repeat(3000), holds: true };
        let read = Parent::of(&[long.entry::<()>()]);
        assert_eq!(read.map(|parent| (parent.saga, parent.holds)), Some((7, true)));
        let id = "00000000-0000-0000-0000-000000000007";
        for text in ["", "7 holds ship", id, &format!("{id} owns ship"), &format!("{id} holds")] {
            let entry = Entry::<()>::ChildOf { parent: text.to_owned() };
            assert_eq!(Parent::of(&[entry]), None, "{text:?}");
        }
        assert_eq!(Parent::of(&[Entry::<()>::Held]), None);
    }

    #[test]
    fn the_stage_of_a_child_is_its_last_decision() {
        let began = Entry::<()>::ActionStarted { step: 0 };
        assert_eq!(Stage::of(std::slice::from_ref(&began)), Stage::Running);
        assert_eq!(Stage::of(&[began.clone(), Entry::Held, Entry::Held]), Stage::Held);
        assert_eq!(Stage::of(&[Entry::<()>::Held, Entry::Committed]), Stage::Committed);
        let unwinds = Entry::Unwinding { why: None };
        let undone = Entry::UndoStarted { step: 0 };
        assert_eq!(Stage::of(&[began, Entry::Held, unwinds, undone]), Stage::Unwinding);
    }
}
