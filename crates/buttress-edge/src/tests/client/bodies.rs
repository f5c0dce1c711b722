//! How long a client reads the body of an answer.

use buttress::Clock;
use buttress::context::Context;

use super::{SECOND, one, plain, spawn};
use crate::client::ClientErrorKind;

/// Regression: no limit ended the body but the time between two parts of it.
#[tokio::test(start_paused = true)]
async fn edge_6_2_the_time_limit_ends_also_the_body_that_the_client_reads() {
    let (client, _network, mut backend) = one(plain());
    let endless = "HTTP/1.1 200 x\r\nContent-Length: 999\r\n\r\n";
    for (deadline, expected) in [(None, 12 * SECOND), (Some(SECOND), SECOND)] {
        let start = Clock::default().now();
        let context = deadline.map(|deadline| start + deadline);
        let context = context.into_iter().fold(Context::new(), Context::with_deadline);
        let call = spawn(context.scope(client.clone().get("/").bytes()));
        let (mut connection, _) = backend.accept_request().await;
        connection.write(endless).await;
        // It arrives slowly, and never stops.
        let slow = tokio::spawn(async move {
            while connection.try_write("x").await {
                Clock::default().sleep(SECOND * 7 / 10).await;
            }
        });
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(Clock::default().now() - start, expected);
        assert_eq!((error.kind(), error.is_unsent()), (ClientErrorKind::Body, false), "{error}");
        slow.await.unwrap();
    }
}

/// Regression: the error waited for a body that never came, and the caller's circuit breaker with it.
#[tokio::test(start_paused = true)]
async fn edge_6_5_a_status_that_is_an_error_does_not_wait_for_its_body() {
    let (client, _network, mut backend) = one(plain().no_retry());
    let start = Clock::default().now();
    let call = spawn(client.clone().get("/").bytes());
    let (mut connection, _) = backend.accept_request().await;
    connection.write("HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(call.await.unwrap().unwrap_err().status().unwrap(), 503);
    assert!(Clock::default().now() - start <= SECOND / 10);
}
