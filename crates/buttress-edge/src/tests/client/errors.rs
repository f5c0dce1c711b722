//! What an error of the client says, and what it does not say.

use std::error::Error;
use std::time::Duration;

use buttress::{AsRefusal, ErrorKind};
use tower::BoxError;

use super::{SECOND, answer, client, one, plain, spawn};
use crate::client::{ClientRequest, Config, Direct, ServiceClient};

#[tokio::test(start_paused = true)]
async fn edge_6_5_a_box_of_an_error_shows_its_refusal_and_the_text_its_reason() {
    let (client, _network, mut backend) = one(plain());
    client.circuit().unwrap().force_open();
    let error = client.get("/orders/7").send().await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/orders/7: the request was refused: circuit breaker is not taking calls")
    );
    assert!(error.source().is_none(), "the text has it");
    let boxed = BoxError::from(error);
    assert_eq!(boxed.as_refusal().unwrap().kind(), ErrorKind::CircuitOpen);
    // An error that is not a refusal is none in a box either, and keeps its source.
    client.circuit().unwrap().reset();
    let call = spawn(client.get("/").bytes());
    answer(&mut backend, "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nx").await;
    drop(backend);
    let error = call.await.unwrap().unwrap_err();
    assert!(error.source().is_some());
    assert!(BoxError::from(error).as_refusal().is_none());
}

#[tokio::test(start_paused = true)]
async fn edge_6_5_a_text_has_no_query_and_names_what_is_wrong() {
    let (client, _network) = client(plain(), &["http://orders:8001/v1"]);
    let text = async |request: ClientRequest<Direct>| request.send().await.unwrap_err().to_string();
    let error = text(client.get("/o?token=s3cret#x")).await;
    assert_eq!(
        error,
        "GET orders:8001/o: the path has a query or a fragment: use `.query(name, value)`"
    );
    let error = text(client.get("http://evil/o")).await;
    assert!(error.starts_with("GET orders:8001 \"http://evil/o\": "), "{error}");
    for (value, why) in [
        ("a/b", "the path has an encoded slash"),
        ("%2f", "the path is percent-encoded twice"),
        ("..", "the path has a dot segment"),
        ("a;b", "the path has a path parameter"),
    ] {
        let error = text(client.get("/o/{id}").param("id", value)).await;
        assert_eq!(error, format!("GET orders:8001/o/{{id}}: with the value of {{id}}, {why}"));
    }
    let error = text(client.get("/o").header("x y", "1")).await;
    assert!(error.ends_with("a name that no field can have"), "{error}");
    let error = text(client.get("/o").header("x", "a\nb")).await;
    assert!(error.ends_with("a value that no field can have, for x"), "{error}");
}

#[test]
fn a_short_attempt_limit_shortens_the_default_connect_limit_and_bounds_a_given_one() {
    let with = |config| ServiceClient::with("http://orders:8001", config).map(drop);
    let short = Config::new().attempt_limit(SECOND / 2);
    with(short.clone()).unwrap();
    let error = with(short.connect_limit(SECOND)).unwrap_err();
    assert_eq!(error.field(), "connect-limit");
    assert_eq!(error.bound(), "at most the attempt limit, 500ms");
    let error = with(Config::new().attempt_limit(Duration::ZERO)).unwrap_err();
    assert_eq!(error.field(), "attempt-limit");
}
