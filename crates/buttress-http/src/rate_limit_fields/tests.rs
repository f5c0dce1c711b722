use std::convert::Infallible;

use buttress::rate_limit::{Config, RateLimitLayer};
use http::{Request, StatusCode};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::*;
use crate::HttpLayerExt;

fn limiter(max: u32, tokens: u32, period: Duration) -> RateLimitLayer {
    RateLimitLayer::new(Config::new().max_tokens(max).refill(tokens, period)).unwrap()
}

fn fields(handle: &Handle) -> (String, String) {
    let mut headers = HeaderMap::new();
    RateLimitFieldsLayer::new(handle.clone()).source.append_to(&mut headers);
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    (text("ratelimit-policy"), text("ratelimit"))
}

#[tokio::test(start_paused = true)]
async fn the_fields_follow_the_limiter_to_the_second() {
    let handle = limiter(10, 5, Duration::from_secs(1)).handle();
    let policy = String::from(r#""default";q=10;w=2"#);
    let at = |state: &str| (policy.clone(), format!(r#""default";{state}"#));
    assert_eq!(fields(&handle), at("r=10;t=0"));
    handle.try_acquire(10).unwrap();
    assert_eq!(fields(&handle), at("r=0;t=2"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(fields(&handle), at("r=0;t=2"));
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(fields(&handle), at("r=5;t=1"));
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(fields(&handle), at("r=9;t=1"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(fields(&handle), at("r=10;t=0"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_is_told_at_once() {
    let handle = limiter(10, 10, Duration::from_secs(1)).handle();
    handle.reconfigure(&Config::new().max_tokens(4).refill(1, Duration::from_secs(60))).unwrap();
    assert_eq!(fields(&handle).0, r#""default";q=4;w=240"#);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_rounded_up_and_at_least_a_second() {
    let cases = [
        (1, 1000, Duration::from_secs(1), 1),
        (10, 10, Duration::from_secs(1), 1),
        (11, 10, Duration::from_secs(1), 2),
        (1, 3, Duration::from_secs(1), 1),
        (1, 1, Duration::new(1, 1), 2),
        (1, 1, Duration::from_secs(86_400), 86_400),
        // A number beyond the integers of a structured field.
        (u32::MAX, 1, Duration::from_secs(365 * 86_400), 999_999_999_999_999_u64),
    ];
    for (max, tokens, period, window) in cases {
        let policy = fields(&limiter(max, tokens, period).handle()).0;
        assert_eq!(policy, format!(r#""default";q={max};w={window}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_policy_tells_its_own_length() {
    let minute = Duration::from_secs(60);
    for config in [
        Config::new().fixed_window(100, minute),
        Config::new().sliding_window(100, minute),
        // The last `max_tokens` is the limit; all of its tokens come back in one window.
        Config::new().fixed_window(10, minute).max_tokens(100),
        Config::new().sliding_window(1000, minute).max_tokens(100),
    ] {
        let handle = RateLimitLayer::new(config).unwrap().handle();
        assert_eq!(fields(&handle).0, r#""default";q=100;w=60"#);
        handle.try_acquire(100).unwrap();
        assert_eq!(fields(&handle).1, r#""default";r=0;t=60"#);
        tokio::time::advance(minute).await;
        assert_eq!(fields(&handle).1, r#""default";r=100;t=0"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_window_is_told_at_once() {
    let window = |limit, seconds| Config::new().fixed_window(limit, Duration::from_secs(seconds));
    let handle = RateLimitLayer::new(window(10, 60)).unwrap().handle();
    handle.reconfigure(&window(10, 120).max_tokens(20)).unwrap();
    assert_eq!(fields(&handle).0, r#""default";q=20;w=120"#);
}

#[test]
fn names_are_escaped_or_refused() {
    assert_eq!(structured_string(r#"a "b" \c ~"#).unwrap(), r#""a \"b\" \\c ~""#);
    assert_eq!(structured_string("").unwrap(), r#""""#);
    let handle = RateLimitLayer::default().handle();
    for name in ["größe", "a\nb", "\u{7f}", "\u{1f}"] {
        let error = RateLimitFieldsLayer::named(handle.clone(), name).unwrap_err();
        assert_eq!(error.field(), "name");
        assert_eq!(error.to_string(), format!("name: {name:?} is not printable ASCII"));
    }
    assert!(RateLimitFieldsLayer::named(handle, "per minute").is_ok());
}

#[tokio::test(start_paused = true)]
async fn refused_or_not_every_response_tells() {
    let limiter = limiter(1, 1, Duration::from_secs(5));
    let route = ServiceBuilder::new()
        .layer(RateLimitFieldsLayer::new(limiter.handle()))
        .layer(limiter.http())
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    for (status, retry_after) in
        [(StatusCode::OK, None), (StatusCode::TOO_MANY_REQUESTS, Some("5"))]
    {
        let response = route.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), status);
        let headers = response.headers();
        assert_eq!(headers.get("retry-after").map(|value| value.to_str().unwrap()), retry_after);
        assert_eq!(headers["ratelimit-policy"], r#""default";q=1;w=5"#);
        assert_eq!(headers["ratelimit"], r#""default";r=0;t=5"#);
    }
}

#[tokio::test(start_paused = true)]
async fn two_limiters_are_told_one_after_the_other() {
    let second = limiter(10, 10, Duration::from_secs(1)).handle();
    let minute = limiter(60, 60, Duration::from_secs(60)).handle();
    let route = ServiceBuilder::new()
        .layer(RateLimitFieldsLayer::named(minute, "minute").unwrap())
        .layer(RateLimitFieldsLayer::named(second, "second").unwrap())
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let response = route.oneshot(Request::new(())).await.unwrap();
    let policies: Vec<_> = response.headers().get_all("ratelimit-policy").iter().collect();
    assert_eq!(policies, [r#""second";q=10;w=1"#, r#""minute";q=60;w=60"#]);
    let states: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    assert_eq!(states, [r#""second";r=10;t=0"#, r#""minute";r=60;t=0"#]);
}

#[tokio::test(start_paused = true)]
async fn an_error_passes_unchanged() {
    let route = ServiceBuilder::new()
        .layer(RateLimitFieldsLayer::new(RateLimitLayer::default().handle()))
        .service_fn(async |_: Request<()>| Err::<Response<()>, BoxError>("broken".into()));
    assert_eq!(route.oneshot(Request::new(())).await.unwrap_err().to_string(), "broken");
}
