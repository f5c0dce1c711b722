//! Compares the circuit with a naive state machine.

use proptest::prelude::*;

use super::*;

/// A naive state machine: an enum and a list.
#[derive(Debug)]
enum Naive {
    Closed(u32),
    Open(u64),
    HalfOpen { running: u32, successes: u32 },
}

proptest! {
    #[test]
    fn behaves_like_the_machine_one_would_first_write(
        steps in prop::collection::vec((0u64..80, 0u8..6), 1..200),
    ) {
        let config = Config::new().consecutive_failures(3).open_for(ms(100));
        let config = config.half_open_calls(2).successes_to_close(2);
        let mut rig = Rig::new(&config);
        let mut naive = Naive::Closed(0);
        // Tickets, each with the life of the naive machine that it belongs to.
        let mut running: Vec<(Ticket, u32)> = Vec::new();
        let (mut now, mut life) = (0, 0);
        for (pause, step) in steps {
            now += pause;
            rig.at(now);
            if step < 3 {
                if let Naive::Open(until) = naive {
                    if now >= until {
                        naive = Naive::HalfOpen { running: 0, successes: 0 };
                        life += 1;
                    }
                }
                let expected = match &mut naive {
                    Naive::Closed(_) => true,
                    Naive::Open(_) => false,
                    Naive::HalfOpen { running, .. } => {
                        let free = *running < 2;
                        *running += u32::from(free);
                        free
                    }
                };
                let admitted = rig.admit();
                prop_assert_eq!(admitted.is_ok(), expected, "{:?} at {}", naive, now);
                running.extend(admitted.ok().map(|ticket| (ticket, life)));
            } else if !running.is_empty() {
                let (ticket, born) = running.remove(now as usize % running.len());
                let outcome = [Success, Failure, Ignored][usize::from(step) - 3];
                rig.settle(ticket, outcome);
                if born != life {
                    continue;
                }
                match (&mut naive, outcome) {
                    (Naive::Closed(failures), Success) => *failures = 0,
                    (Naive::Closed(failures), Failure) => {
                        *failures += 1;
                        if *failures == 3 {
                            naive = Naive::Open(now + 100);
                            life += 1;
                        }
                    }
                    (Naive::HalfOpen { running, successes }, Success) => {
                        *running -= 1;
                        *successes += 1;
                        if *successes == 2 {
                            naive = Naive::Closed(0);
                            life += 1;
                        }
                    }
                    (Naive::HalfOpen { .. }, Failure) => {
                        naive = Naive::Open(now + 100);
                        life += 1;
                    }
                    (Naive::HalfOpen { running, .. }, Ignored) => *running -= 1,
                    _ => {}
                }
            }
        }
    }
}
