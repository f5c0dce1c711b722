//! Copies the bytes of a tunnel in both directions.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use buttress::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::Ended;
use crate::race::first;

/// Copies until both sides have closed, one has failed, or neither has sent anything for `idle`. A side that closes its
/// direction can still receive.
pub(super) async fn both<C, B>(client: C, backend: B, idle: Duration, clock: &Clock) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity { clock, start: clock.now(), last: AtomicU64::new(0) };
    let mut client = Side { io: client, activity: &activity, has_failed: false };
    let mut backend = Side { io: backend, activity: &activity, has_failed: false };
    let copied = {
        let copy = pin!(copy_bidirectional(&mut client, &mut backend));
        first(copy, pin!(activity.idle(idle))).await
    };
    match copied {
        None => Ended::Idle,
        Some(Ok(_)) => Ended::Closed,
        Some(Err(_)) if client.has_failed => Ended::ClientFailed,
        Some(Err(_)) => Ended::BackendFailed,
    }
}

/// The time of the last bytes.
struct Activity<'a> {
    clock: &'a Clock,
    start: Instant,
    /// Nanoseconds since the start.
    last: AtomicU64,
}

impl Activity<'_> {
    fn touch(&self) {
        let since = self.clock.now().saturating_duration_since(self.start);
        // One task reads and writes it.
        self.last.store(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits until nothing has moved for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_nanos(self.last.load(Ordering::Relaxed));
            let due = self.start.checked_add(last).and_then(|last| last.checked_add(limit));
            // A limit beyond the end of time is none.
            let Some(due) = due else { return std::future::pending().await };
            if due <= self.clock.now() {
                return;
            }
            self.clock.sleep_until(due).await;
        }
    }
}

/// One end of a tunnel.
struct Side<'a, Io> {
    io: Io,
    activity: &'a Activity<'a>,
    has_failed: bool,
}

impl<Io> Side<'_, Io> {
    /// Records what a poll has done.
    fn record<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let result = ready!(polled);
        self.activity.touch();
        self.has_failed |= result.is_err();
        Poll::Ready(result)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Side<'_, Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.record(polled)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Side<'_, Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, data);
        self.record(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.record(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.record(polled)
    }
}
