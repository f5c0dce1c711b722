//! The log of the new version, and what must hold before it replaces the old one.

use std::time::Duration;

use buttress::{Codec, Format};

use super::log::{MigratedLog, OldStep};
use crate::caught::caught;
use crate::saga::define::definition::Inner;
use crate::saga::model::entry::{Entry, EntryKind, Status};
use crate::saga::model::plan::{Kind, StepPlan, Wait};
use crate::saga::model::state::{Hold, Phase, State, Step};
use crate::saga::store::{NewLog, Signal};

/// Returns the log of the new version, whose added entries have the time `now`.
///
/// # Errors
/// Returns the reason why the saga cannot move, with the name of the step.
pub(super) fn new_log<I, F: Codec<I>>(
    definition: &Inner<I, F>,
    log: &MigratedLog<F>,
    signals: &[Signal<F::Encoded>],
    now: Duration,
) -> Result<NewLog<F::Encoded>, String> {
    let record = &log.record;
    if record.codec != F::NAME {
        return Err(format!("its payloads are {}, not {}", record.codec, F::NAME));
    }
    let mut new = NewLog::new(record, definition.version);
    new.beginning.shape = Some(definition.shape.clone());
    if let Some(input) = &log.input {
        new.beginning.input = input.clone();
    }
    (new.entries, new.times) = entries(definition, log)?;
    for (step, output) in &log.done {
        let added = done(definition, &new.entries, step, output)?;
        // A saga is held after all its steps.
        let held = new.entries.iter().position(|entry| matches!(entry, Entry::Held));
        let at = held.unwrap_or(new.entries.len());
        new.times.splice(at..at, added.iter().map(|_| Some(now)));
        new.entries.splice(at..at, added);
    }
    check_held(definition, &new)?;
    check_payloads(definition, &new)?;
    let version = definition.version;
    let state = State::fold(definition.steps.len(), &new.entries);
    let state = state.map_err(|why| format!("its log does not fit version {version}: {why}"))?;
    check_state(definition, &state, record.status)?;
    check_renamed(definition, log, &state)?;
    check_signals(definition, log, &state, signals)?;
    Ok(new)
}

/// Whether an entry is about the whole saga.
fn is_whole(kind: EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::Unwinding
            | EntryKind::Completed
            | EntryKind::Compensated
            | EntryKind::ChildOf
            | EntryKind::Held
            | EntryKind::Committed
    )
}

type Entries<P> = (Vec<Entry<P>>, Vec<Option<Duration>>);

/// Returns the entries of the log under the numbers of the new version, with their times.
fn entries<I, F: Format>(
    definition: &Inner<I, F>,
    log: &MigratedLog<F>,
) -> Result<Entries<F::Encoded>, String> {
    let record = &log.record;
    let (mut entries, mut times) = (Vec::new(), Vec::new());
    let mut owners: Vec<Option<usize>> = vec![None; definition.plan.steps.len()];
    for (position, entry) in record.entries.iter().enumerate() {
        let time = record.times.get(position).copied().flatten();
        if is_whole(entry.kind()) {
            entries.push(entry.clone());
            times.push(time);
            continue;
        }
        let number = usize::from(entry.step());
        if log.forgotten.contains(&number) {
            let old = log.steps.as_ref().and_then(|steps| steps.get(number));
            let acted = entry.kind() == EntryKind::ActionStarted;
            match old.map(|old| (old.sort, &old.name)) {
                Some((Some('C' | 'P'), name)) => {
                    return Err(format!(
                        "the step \"{name}\" has begun, and its child saga cannot be forgotten"
                    ));
                }
                Some((None, name)) if acted => {
                    return Err(format!(
                        "the step \"{name}\" has begun, and cannot be forgotten: the log of a long definition does not \
                         say whether it is a child saga"
                    ));
                }
                _ => continue,
            }
        }
        let steps = log
            .steps
            .as_ref()
            .ok_or("the log does not hold the names of its steps; name them with `steps_were`")?;
        let old =
            steps.get(number).ok_or_else(|| format!("step {number} of its log has no name"))?;
        let (at, plan) = find(definition, &old.name).ok_or_else(|| {
            format!(
                "the step \"{}\" has begun, and version {} has no such step; rename or forget it",
                old.name, definition.version
            )
        })?;
        check_sort(old, plan, entry.kind())?;
        match owners.get_mut(usize::from(at)) {
            Some(owner) if owner.is_some_and(|owner| owner != number) => {
                return Err(format!("two steps of its log are the step \"{}\"", old.name));
            }
            Some(owner) => *owner = Some(number),
            None => {}
        }
        let replaced = log.outputs.get(&number).filter(|_| entry.payload().is_some());
        let payload = replaced.or(entry.payload()).cloned();
        let note = entry.note().map(str::to_owned);
        let moved = Entry::from_parts(entry.kind(), at, payload, note);
        entries.push(moved.ok_or_else(|| format!("entry {position} of its log cannot be read"))?);
        times.push(time);
    }
    Ok((entries, times))
}

/// Refuses a held saga with a step that is not done: its parent counts on all of them.
fn check_held<I, F: Format>(
    definition: &Inner<I, F>,
    new: &NewLog<F::Encoded>,
) -> Result<(), String> {
    let held = new.entries.iter().position(|entry| matches!(entry, Entry::Held));
    let Some(before) = held.and_then(|held| new.entries.get(..held)) else { return Ok(()) };
    let has_entry =
        |step: u16| before.iter().any(|entry| !is_whole(entry.kind()) && entry.step() == step);
    let missing = (0u16..).zip(&definition.plan.steps).find(|(step, _)| !has_entry(*step));
    missing.map_or(Ok(()), |(_, step)| {
        let (from, to, name) = (new.from, definition.version, step.name);
        Err(format!(
            "a parent holds the saga, and the step \"{name}\" of version {to} is not done; mark it with `done`, or run \
             version {from} with `also_run`"
        ))
    })
}

/// Returns a step of the definition by its name, with its number.
fn find<'a, I, F: Format>(definition: &'a Inner<I, F>, name: &str) -> Option<(u16, &'a StepPlan)> {
    (0u16..).zip(&definition.plan.steps).find(|(_, step)| step.name.as_str() == name)
}

/// Refuses a step that was of another sort: a wait for a time, a wait for a signal, or anything else.
fn check_sort(old: &OldStep, new: &StepPlan, kind: EntryKind) -> Result<(), String> {
    let waited =
        matches!(kind, EntryKind::WaitStarted | EntryKind::WaitEnded | EntryKind::Signalled);
    let acted = matches!(
        kind,
        EntryKind::ActionStarted
            | EntryKind::ActionDone
            | EntryKind::ActionInDoubt
            | EntryKind::UndoStarted
    );
    let same = match old.sort {
        Some('c' | 'p' | 'r') => new.waits.is_none() && !new.runs_child,
        Some('C') => new.holds_child(),
        Some('P') => new.runs_child && !new.holds_child(),
        Some('w') => new.waits == Some(Wait::Time),
        Some('s' | 'o') => new.takes_signal(),
        // The other sorts are known by what the log says of them.
        _ => {
            (!waited || new.waits.is_some())
                && (!acted || new.waits.is_none())
                && (kind != EntryKind::Signalled || new.takes_signal())
        }
    };
    match same {
        true => Ok(()),
        false => Err(format!(
            "the step \"{}\" has begun, and was of another sort: an action, a child saga, a wait for a time or one for a signal",
            old.name
        )),
    }
}

/// Returns the entries of a step that counts as done.
fn done<I, F: Format>(
    definition: &Inner<I, F>,
    entries: &[Entry<F::Encoded>],
    name: &str,
    output: &F::Encoded,
) -> Result<Vec<Entry<F::Encoded>>, String> {
    let version = definition.version;
    let (step, plan) = find(definition, name)
        .ok_or_else(|| format!("version {version} has no step \"{name}\" that could be done"))?;
    if plan.runs_child {
        return Err(format!(
            "the step \"{name}\" cannot be marked as done, because it is a child saga"
        ));
    }
    if entries.iter().any(|entry| !is_whole(entry.kind()) && entry.step() == step) {
        return Err(format!("the step \"{name}\" cannot be marked as done, because it has begun"));
    }
    let output = output.clone();
    Ok(match plan.waits {
        None => vec![Entry::ActionStarted { step }, Entry::ActionDone { step, output }],
        Some(wait) => {
            let began = Entry::wait_started(step, Duration::ZERO);
            let ended = match wait.is_for_signal() {
                true => Entry::Signalled { step, output },
                false => Entry::WaitEnded { step },
            };
            vec![began, ended]
        }
    })
}

/// Refuses an input or an output that the new definition cannot read.
fn check_payloads<I, F: Codec<I>>(
    definition: &Inner<I, F>,
    new: &NewLog<F::Encoded>,
) -> Result<(), String> {
    let codec = &definition.codec;
    // The codec is user code.
    let input = caught(|| codec.decode(&new.beginning.input).map(drop));
    let input = input.and_then(|input| input.map_err(|error| error.to_string()));
    input.map_err(|why| format!("version {} cannot read the input: {why}", definition.version))?;
    for entry in &new.entries {
        let Some(payload) = entry.payload() else { continue };
        check_output(definition, entry.step(), payload)?;
    }
    Ok(())
}

fn check_output<I, F: Format>(
    definition: &Inner<I, F>,
    step: u16,
    payload: &F::Encoded,
) -> Result<(), String> {
    let Some(code) = definition.steps.get(usize::from(step)) else { return Ok(()) };
    let output = caught(|| (code.decode)(&definition.codec, payload).map(drop));
    let output = output.and_then(|output| output.map_err(|error| error.to_string()));
    output.map_err(|why| {
        let (version, name) = (definition.version, definition.step_name(step));
        format!("version {version} cannot read the output of the step \"{name}\": {why}")
    })
}

/// Refuses a state from which the new definition cannot continue.
fn check_state<I, F: Format>(
    definition: &Inner<I, F>,
    state: &State,
    status: Status,
) -> Result<(), String> {
    let (plan, version) = (&definition.plan, definition.version);
    let after = state.status();
    let waits = status == Status::Waiting && after == Status::Running;
    if after != status && !waits {
        let (status, after) = (status.as_str(), after.as_str());
        return Err(format!("the saga is {status}, and would be {after} in version {version}"));
    }
    if state.phase == Phase::Unwinding && state.is_committed(plan) {
        return Err(format!(
            "the saga unwinds, and is past the point of no return of version {version}"
        ));
    }
    let last = plan.steps.iter().find(|step| step.kind != Kind::Compensatable);
    if let Some(last) = last.filter(|_| state.hold != Hold::Free) {
        let name = last.name;
        return Err(format!(
            "a parent holds the saga, and the step \"{name}\" of version {version} cannot be undone"
        ));
    }
    for (step, now) in plan.steps.iter().zip(&state.steps) {
        let name = step.name;
        if *now == Step::Pending {
            continue;
        }
        let was_done = |parent: &&u16| {
            matches!(
                state.steps.get(usize::from(**parent)),
                Some(Step::Done | Step::Undoing { .. } | Step::Undone | Step::UndoFailed { .. })
            )
        };
        if let Some(parent) = step.parents.iter().find(|parent| !was_done(parent)) {
            let parent = definition.step_name(*parent);
            return Err(format!(
                "the step \"{name}\" has begun, and the step \"{parent}\" before it in version {version} is not done"
            ));
        }
        let undoes = matches!(now, Step::Undoing { .. } | Step::UndoFailed { .. });
        if undoes && !step.has_undo {
            return Err(format!(
                "the step \"{name}\" is being undone, and has no undo in version {version}"
            ));
        }
    }
    Ok(())
}

/// Refuses a new name, and so new keys, for a step whose call may be repeated.
fn check_renamed<I, F: Format>(
    definition: &Inner<I, F>,
    log: &MigratedLog<F>,
    state: &State,
) -> Result<(), String> {
    let renamed = log.steps.iter().flatten().filter(|step| step.name != step.recorded);
    for step in renamed {
        let Some((number, plan)) = find(definition, &step.name) else { continue };
        let now = state.steps.get(usize::from(number));
        if plan.runs_child && now.is_some_and(|now| *now != Step::Pending) {
            return Err(format!(
                "the step \"{}\" cannot be renamed: the id of its child saga is made of the name",
                step.recorded
            ));
        }
        let has_begun = now.is_some_and(|now| *now != Step::Pending);
        if step.sort.is_none() && plan.waits.is_none() && has_begun {
            return Err(format!(
                "the step \"{}\" cannot be renamed: the log of a long definition does not say whether it is a child \
                 saga, whose id is made of the name",
                step.recorded
            ));
        }
        if matches!(
            now,
            Some(Step::Acting | Step::InDoubt | Step::Undoing { .. } | Step::UndoFailed { .. })
        ) {
            return Err(format!(
                "the step \"{}\" cannot be renamed: its call may be repeated, and its key contains the name",
                step.recorded
            ));
        }
    }
    Ok(())
}

/// Refuses signals that are recorded, and that the new definition cannot take.
fn check_signals<I, F: Format>(
    definition: &Inner<I, F>,
    log: &MigratedLog<F>,
    state: &State,
    signals: &[Signal<F::Encoded>],
) -> Result<(), String> {
    for signal in signals {
        let is_open = |step: u16| {
            matches!(state.steps.get(usize::from(step)), Some(Step::Pending | Step::Waiting))
        };
        let mut steps = log.steps.iter().flatten();
        let renamed = steps.find(|step| step.recorded == signal.name && step.name != step.recorded);
        if let Some(step) = renamed {
            if find(definition, &step.name).is_some_and(|(number, _)| is_open(number)) {
                let (name, new) = (&signal.name, &step.name);
                return Err(format!(
                    "the signal \"{name}\" has come already, and the step \"{new}\" does not take it under the old name; run version {} with `also_run`",
                    log.record.version
                ));
            }
        }
        if let Some((number, _)) = find(definition, &signal.name)
            .filter(|(number, plan)| plan.takes_signal() && is_open(*number))
        {
            check_output(definition, number, &signal.payload)?;
        }
    }
    Ok(())
}
