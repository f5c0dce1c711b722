//! The data of the system about this process and this machine.

use std::fs;

/// Returns the nanoseconds that the living threads of this process have run, if the system reports
/// them.
pub fn cpu_nanos() -> Option<f64> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let run = threads.map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    run.sum()
}

/// Returns the nanoseconds that this thread was ready without a core, if the system reports them.
pub fn waited_nanos() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the model of the CPU and the number of available cores.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.map_or("unknown", str::trim))
}
