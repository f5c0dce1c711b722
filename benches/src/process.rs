//! What the system says about this process and this machine.

use std::fs;

/// Nanoseconds that the living threads of this process have run; none where the system does not say.
pub fn cpu_nanos() -> Option<f64> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let run = threads.map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    run.sum()
}

/// Nanoseconds that this thread was ready to run and had no core; none where the system does not say.
pub fn waited_nanos() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// The model of the CPU and how many cores there are to use.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.map_or("unknown", str::trim))
}
