//! Which sides of a route its readiness depends on, and what their answers mean.

use buttress::health::Finding;

/// The sides that a share sends requests to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Needs {
    pub old: bool,
    pub new: bool,
}

impl Needs {
    /// Returns the sides that the share of the new side needs.
    pub(super) fn of(share: f64) -> Self {
        Self { old: share < 1.0, new: share > 0.0 }
    }
}

/// The answer of a side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// `None` for a route with one side.
    pub side: Option<&'static str>,
    /// Why the side is not ready otherwise. `None` if it was not asked.
    pub ready: Option<Result<(), String>>,
}

/// Returns UP if all sides that were asked are ready, DEGRADED if only some are, and DOWN if none is.
pub(super) fn finding(answers: impl IntoIterator<Item = Answer>) -> Finding {
    let (mut is_ready, mut failed) = (false, Vec::new());
    for Answer { side, ready } in answers {
        match (ready, side) {
            (None, _) => {}
            (Some(Ok(())), _) => is_ready = true,
            (Some(Err(why)), None) => failed.push(why),
            (Some(Err(why)), Some(side)) => failed.push(format!("the {side} side: {why}")),
        }
    }
    match (is_ready, failed.is_empty()) {
        (true, true) => Finding::up(),
        (true, false) => Finding::degraded(failed.join("; ")),
        (false, _) => Finding::down(failed.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use buttress::health::Status;

    use super::*;

    #[test]
    fn edge_7_10_a_share_of_0_needs_the_old_side_a_share_of_1_the_new_one_and_others_both() {
        for (share, old, new) in [
            (0.0, true, false),
            (f64::MIN_POSITIVE, true, true),
            (0.999, true, true),
            (1.0, false, true),
        ] {
            assert_eq!(Needs::of(share), Needs { old, new }, "{share}");
        }
    }

    #[test]
    fn edge_7_10_one_ready_side_of_two_is_degraded_and_none_is_down() {
        let (ready, failed) = (|| Some(Ok(())), || Some(Err(String::from("busy"))));
        for (old, new, status, text) in [
            (ready(), ready(), Status::Up, None),
            (ready(), None, Status::Up, None),
            (None, ready(), Status::Up, None),
            (ready(), failed(), Status::Degraded, Some("the new side: busy")),
            (failed(), ready(), Status::Degraded, Some("the old side: busy")),
            (failed(), None, Status::Down, Some("the old side: busy")),
            (None, failed(), Status::Down, Some("the new side: busy")),
            (failed(), failed(), Status::Down, Some("the old side: busy; the new side: busy")),
        ] {
            let answer = |side, ready| Answer { side: Some(side), ready };
            let found = finding([answer("old", old.clone()), answer("new", new.clone())]);
            assert_eq!((found.status(), found.text()), (status, text), "{old:?} {new:?}");
        }
        let one = |ready| finding([Answer { side: None, ready }]);
        assert_eq!(one(ready()).status(), Status::Up);
        assert_eq!(one(failed()).text(), Some("busy"));
    }
}
