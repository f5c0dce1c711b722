//! What a refusal becomes, kind by kind.

use std::convert::Infallible;

use buttress::gateway::Decision;
use buttress::{Error, ErrorKind, Reject};
use bytes::Bytes;
use http::Response;
use http_body_util::Empty;
use tonic::{Code, Status};

use crate::grpc::RespondGrpc;
use crate::{Refusal, testing};

fn answer(error: &Error) -> Response<Empty<Bytes>> {
    let answer: Result<_, Infallible> = RespondGrpc.reject(error.clone());
    answer.unwrap()
}

fn field<'a>(response: &'a Response<Empty<Bytes>>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn every_kind_has_its_code_and_its_pushback() {
    let cases = [
        (testing::circuit_open(), Code::Unavailable, Some("1500"), Some("2")),
        (testing::circuit_forced_open(), Code::Unavailable, None, None),
        (testing::rate_limited(), Code::ResourceExhausted, Some("2500"), Some("3")),
        (testing::rate_limited_for_ever(), Code::ResourceExhausted, Some("-1"), None),
        (testing::bulkhead_full("db"), Code::ResourceExhausted, None, None),
        (testing::queue_timeout(), Code::ResourceExhausted, None, None),
        (testing::too_many_keys(), Code::ResourceExhausted, None, None),
        (testing::timed_out(), Code::DeadlineExceeded, None, None),
        (testing::no_route(), Code::Unimplemented, None, None),
        (testing::denied(Decision::Unauthenticated), Code::Unauthenticated, None, None),
        (testing::denied(Decision::Deny), Code::PermissionDenied, None, None),
    ];
    for (error, code, pushback, retry_after) in cases {
        let response = answer(&error);
        assert_eq!(response.status(), 200, "{error}");
        assert_eq!(field(&response, "content-type"), Some("application/grpc"));
        assert_eq!(field(&response, "cache-control"), Some("no-store"));
        // As tonic reads it.
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!((status.code(), status.message()), (code, error.kind().summary()));
        assert_eq!(field(&response, "grpc-retry-pushback-ms"), pushback, "{error}");
        assert_eq!(field(&response, "retry-after"), retry_after, "{error}");
        assert_eq!(Refusal::of(&response).map(Refusal::error), Some(&error));
    }
}

#[test]
fn every_code_of_the_table_is_one_that_tonic_knows() {
    for kind in ErrorKind::ALL {
        let code = Code::from_i32(kind.grpc_code());
        assert_ne!(code, Code::Ok, "{kind}");
        assert_ne!(code, Code::Unknown, "{kind}");
        assert_eq!(code as i32, kind.grpc_code(), "{kind}");
    }
}

#[test]
fn an_answer_names_no_layer() {
    let response = answer(&testing::bulkhead_full("secret-db"));
    let text = format!("{:?}", response.headers());
    assert!(!text.contains("secret") && !text.contains("bulkhead"), "{text}");
}
