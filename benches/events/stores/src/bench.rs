//! What the measurements share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Any failure of a measurement.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Concurrent writers.
pub const WRITERS: u64 = 16;
/// Events of a stream. A writer then begins another one.
pub const LENGTH: u64 = 10;
/// How long a candidate writes in each round.
pub const TIME: Duration = Duration::from_secs(4);
/// Bytes of the data of an event.
const DATA: usize = 200;

/// Returns the middle of the figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Returns the figure that 99 of 100 do not exceed.
pub fn p99(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() * 99 / 100).copied().unwrap_or(0.0)
}

/// The data of an event: the microseconds since `begun` in the first eight bytes.
pub fn data(begun: Instant) -> Vec<u8> {
    let mut data = vec![b'x'; DATA];
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    if let Some(first) = data.first_chunk_mut() {
        *first = micros.to_be_bytes();
    }
    data
}

/// Returns how many milliseconds ago the data of an event was made.
pub fn age(begun: Instant, data: &[u8]) -> f64 {
    let made = data.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    begun.elapsed().as_secs_f64() * 1e3 - made as f64 / 1e3
}

/// An append: the event `version` of a stream.
#[derive(Clone, Copy)]
pub struct Append {
    pub stream: u64,
    pub version: u64,
    /// No other event of the run has it.
    pub id: u128,
}

/// Appends with [`WRITERS`] at the same time for [`TIME`]. Returns the appends per second.
pub async fn write<F, A>(streams: u64, append: F) -> Result<f64, Error>
where
    F: Fn(Append) -> A + Clone + Send + 'static,
    A: Future<Output = Result<(), Error>> + Send,
{
    let (done, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (append, done, is_over) = (append.clone(), done.clone(), is_over.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let stream = streams + (number / LENGTH) * WRITERS + writer;
                    let version = number % LENGTH + 1;
                    let id = u128::from(stream) << 64 | u128::from(version);
                    append(Append { stream, version, id }).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    tokio::time::sleep(TIME).await;
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    Ok(rate)
}
