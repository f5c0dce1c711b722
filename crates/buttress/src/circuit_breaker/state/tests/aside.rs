//! A probe that steps aside.

use super::*;

#[test]
fn a_probe_that_steps_aside_frees_its_place_and_still_decides() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100)).successes_to_close(2);
    for (outcome, state) in [
        (Success, CircuitState::Closed),
        (Failure, CircuitState::Open),
        (Ignored, CircuitState::HalfOpen),
    ] {
        let mut rig = Rig::new(&config);
        let counted = rig.admit().unwrap();
        assert_eq!(rig.state.step_aside(counted), None, "no probe");
        rig.settle(counted, Failure);
        let slow = rig.at(100).admit().unwrap();
        assert!(rig.admit().is_err());
        let aside = rig.state.step_aside(slow).unwrap();
        assert_eq!(rig.state.step_aside(aside), None, "it has no place any more");
        let quick = rig.admit().unwrap();
        assert!(rig.admit().is_err(), "one place, and not two");
        rig.settle(quick, Success);
        assert_eq!(rig.state.state(), CircuitState::HalfOpen);
        rig.settle(aside, outcome);
        assert_eq!(rig.state.state(), state, "{outcome:?}");
    }
    // The circuit has left the state in which the probe began.
    let mut rig = Rig::new(&config.successes_to_close(1));
    rig.run(Failure);
    let slow = rig.at(100).admit().unwrap();
    let aside = rig.state.step_aside(slow).unwrap();
    rig.run(Success);
    assert_eq!(rig.settle(aside, Failure), Settled::default());
    assert_eq!(rig.state.state(), CircuitState::Closed);
}
