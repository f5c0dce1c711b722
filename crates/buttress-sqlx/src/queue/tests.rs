use super::*;

type Numbers = Job<(u128, usize), u128>;

struct Number(Numbers);

impl Op for Number {
    fn subject(&self) -> u128 {
        self.0.input.0
    }
    fn rows(&self) -> usize {
        1
    }
    fn bytes(&self) -> usize {
        self.0.input.1
    }
    fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }
    fn reset(&mut self) {
        self.0.reset();
    }
    fn answer(self, committed: Result<(), &StoreError>) {
        self.0.answer(committed);
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn queue(places: usize, rows: usize, bytes: usize) -> (Queue<Number>, Intake<Number>) {
    Queue::new(places, SECOND, Limits { rows, bytes })
}

fn subjects(batch: &mut Batch<Number>) -> Vec<Vec<u128>> {
    let waves = batch.waves();
    waves.iter().map(|wave| wave.iter().map(|op| op.subject()).collect()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_what_waits_as_far_as_its_limits_go() {
    let (queue, mut intake) = queue(16, 3, 100);
    let asks = [(1, 1), (2, 1), (1, 1), (4, 1), (5, 99), (6, 2)];
    let mut callers: Vec<_> =
        asks.into_iter().map(|ask| Box::pin(queue.submit("test", ask, Number))).collect();
    for caller in &mut callers {
        assert!(futures_poll(caller).await.is_none());
    }
    let mut batches = Vec::new();
    for _ in 0..3 {
        let mut batch = intake.begin().await.unwrap();
        intake.fill(&mut batch);
        batches.push(subjects(&mut batch));
    }
    assert_eq!(
        batches,
        [
            vec![vec![1, 2], vec![1]], // three rows; the second operation on 1 waits for the first
            vec![vec![4, 5]],          // 100 bytes
            vec![vec![6]],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_left_is_not_served_and_every_other_is_answered_once() {
    let (queue, mut intake) = queue(16, 10, 100);
    let mut first = Box::pin(queue.submit("test", (1, 1), Number));
    let mut gone = Box::pin(queue.submit("test", (2, 1), Number));
    let mut failed = Box::pin(queue.submit("test", (3, 1), Number));
    for caller in [&mut first, &mut gone, &mut failed] {
        assert!(futures_poll(caller).await.is_none());
    }
    drop(gone);
    let mut batch = intake.begin().await.unwrap();
    intake.fill(&mut batch);
    assert_eq!(subjects(&mut batch), [[1, 3]]);
    for op in batch.waves().into_iter().flatten() {
        let answer = match op.subject() {
            3 => Err(StoreError::fenced("three")),
            n => Ok(n * 10),
        };
        op.0.settle(answer);
    }
    batch.answer(Ok(()));
    assert_eq!(first.await.unwrap(), 10);
    assert!(failed.await.unwrap_err().is_fenced());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_answers_everybody_whatever_their_verdicts_were() {
    let (queue, mut intake) = queue(16, 10, 100);
    let mut caller = Box::pin(queue.submit("test", (1, 1), Number));
    assert!(futures_poll(&mut caller).await.is_none());
    let mut batch = intake.begin().await.unwrap();
    for op in batch.waves().into_iter().flatten() {
        op.0.settle(Ok(1));
    }
    batch.answer(Err(&StoreError::transient("disk full")));
    assert!(caller.await.unwrap_err().is_transient());
}

#[tokio::test(start_paused = true)]
async fn waits_have_an_end() {
    let (queue, intake) = queue(1, 10, 100);
    let start = buttress::Clock::default().now();
    let mut waiting = Box::pin(queue.submit("test", (1, 1), Number));
    assert!(futures_poll(&mut waiting).await.is_none());
    // The first operation has the only place.
    assert!(queue.submit("test", (2, 1), Number).await.unwrap_err().is_transient());
    assert!(waiting.await.unwrap_err().is_transient());
    assert_eq!(buttress::Clock::default().now() - start, SECOND);
    drop(intake);
    assert!(queue.submit("test", (3, 1), Number).await.unwrap_err().is_transient());
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
