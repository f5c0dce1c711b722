//! Calls of a client, and what they cost.

use std::future::Future;

use crate::{Error, process, runtime};

/// The calls of a program, by its arguments.
pub struct Calls {
    pub url: String,
    /// All calls. As many run before them, and are not measured, as there are tasks.
    pub count: u64,
    /// The tasks that call at the same time.
    pub tasks: u64,
}

impl Calls {
    /// Reads the arguments: the address of the backend, the calls, the tasks.
    pub fn given() -> Result<Self, Error> {
        let mut arguments = std::env::args().skip(1);
        let mut next = || arguments.next().ok_or("usage: ADDRESS CALLS TASKS ..");
        let (address, count, tasks) = (next()?, next()?, next()?);
        Ok(Self { url: format!("http://{address}/"), count: count.parse()?, tasks: tasks.parse()? })
    }
}

/// The bytes of the backend's answer.
const LENGTH: usize = 1024;

/// Runs the calls on one worker thread, and prints the nanoseconds of CPU of each. `call` returns the length of the answer.
pub fn measure<F>(call: impl Fn() -> F + Clone + Send + Sync + 'static) -> Result<(), Error>
where
    F: Future<Output = Result<usize, Error>> + Send + 'static,
{
    let Calls { count, tasks, .. } = Calls::given()?;
    let runtime = runtime()?;
    let run = |calls: u64| {
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let call = call.clone();
                runtime.spawn(async move {
                    for _ in 0..calls {
                        match call().await? {
                            LENGTH => {}
                            other => return Err(format!("an answer of {other} bytes").into()),
                        }
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        runtime.block_on(async {
            for task in running {
                task.await??;
            }
            Ok::<_, Error>(())
        })
    };
    // Opens the connections.
    run(1)?;
    let each = count / tasks;
    let before = process::cpu_nanos().ok_or("the system reports no CPU time")?;
    run(each)?;
    let after = process::cpu_nanos().ok_or("the system reports no CPU time")?;
    println!("{:.0}", (after - before) / (each * tasks) as f64);
    Ok(())
}
