use super::*;
use crate::tests::Edge;
use crate::{Config, Proxy, Route, Upstream};

fn route(jwt: Jwt) -> Route {
    Route::new("orders").to(Upstream::fixed(["http://b"]).unwrap()).admit(jwt)
}

#[tokio::test(start_paused = true)]
async fn edge_2_34_a_proxy_sends_the_subject_of_a_token_and_not_the_token() {
    let edge = Edge::new(Config::new(), [route(of_secret()).forward_identity("x-user")]);
    let mut backend = edge.network.listen("b");
    let token = hs256(&claims(&Clock::default()));
    let request = |token: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX_User: admin\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
    };
    let mut client = edge.open();
    client.write(request(&token)).await;
    let (_connection, head) = backend.serve_one().await;
    assert!(head.contains("\r\nx-user: customer-7\r\n"), "{head}");
    assert!(!head.contains("admin") && !head.contains("Bearer"), "{head}");
    assert!(client.answer().await.0.starts_with("HTTP/1.1 200 OK\r\n"));

    let (head, body) = edge.open().exchange(request("a.b.c")).await;
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}");
    let challenge = r#"Bearer error="invalid_token", error_description="the token is malformed""#;
    assert!(head.contains(&format!("www-authenticate: {challenge}\r\n")), "{head}");
    assert!(body.contains(r#""kind":"unauthenticated""#), "{body}");
    let (head, _) = edge.open().exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.contains("www-authenticate: Bearer\r\n"), "{head}");
}

#[test]
fn edge_2_36_a_proxy_refuses_a_route_whose_tokens_are_for_any_service() {
    let jwt = Jwt::hs256(SECRET).unwrap().issuer("https://id.example");
    let error = Proxy::new(Config::new(), [route(jwt)]).unwrap_err().to_string();
    let bound = "stated: call `.audience(..)` or `.any_audience()`";
    assert_eq!(error, format!("routes.orders.admit.audience: nothing is not {bound}"));
}
