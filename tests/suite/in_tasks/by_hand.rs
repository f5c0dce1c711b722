//! Use without tower in a task: closures that capture, over a service whose error is boxed.

use buttress::bulkhead::BulkheadLayer;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::RateLimitLayer;
use buttress::retry::RetryLayer;
use buttress::time_limit::TimeLimitLayer;
use tower::BoxError;

use crate::support::ms;

async fn length(name: &str) -> Result<usize, BoxError> {
    Ok(name.len())
}

#[tokio::test]
async fn a_retry_whose_closure_borrows() {
    let (retry, name) = (RetryLayer::default(), String::from("prices"));
    let task = tokio::spawn(async move { retry.run(async |_| length(&name).await).await });
    assert_eq!(task.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn a_retry_whose_closure_returns_a_block() {
    let (retry, name) = (RetryLayer::default(), String::from("prices"));
    let task = tokio::spawn(async move {
        let borrows = retry.run(|_| async { length(&name).await }).await?;
        let clones = |_| {
            let name = name.clone();
            async move { length(&name).await }
        };
        Ok::<_, BoxError>(borrows + retry.run(clones).await?)
    });
    assert_eq!(task.await.unwrap().unwrap(), 12);
}

#[tokio::test]
async fn the_composition_of_the_guide() {
    let circuit = CircuitBreakerLayer::default().handle();
    let retry = RetryLayer::default();
    let limit = TimeLimitLayer::after(ms(60_000)).handle();
    let name = String::from("prices");
    let task = tokio::spawn(async move {
        let call = circuit.try_acquire()?;
        let answer: Result<usize, BoxError> =
            retry.run(async |_| limit.run(length(&name)).await?).await;
        match &answer {
            Ok(_) => call.success(),
            Err(_) => call.failure(),
        }
        answer
    });
    assert_eq!(task.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn a_fallback_whose_closure_captures() {
    let (fallback, name) = (FallbackLayer::value(0usize), String::from("prices"));
    let task = tokio::spawn(async move { fallback.run((), async |()| length(&name).await).await });
    assert_eq!(task.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn permits_and_tokens() {
    let bulkhead = BulkheadLayer::default().handle();
    let limiter = RateLimitLayer::default().handle();
    let name = String::from("prices");
    let task = tokio::spawn(async move {
        let _permit = bulkhead.acquire().await?;
        limiter.acquire(1).await?;
        length(&name).await
    });
    assert_eq!(task.await.unwrap().unwrap(), 6);
}
