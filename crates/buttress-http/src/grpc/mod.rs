//! gRPC: refusals as a `grpc-status`, a deadline for the whole call, pushback.
//!
//! A gRPC call that failed is `200 OK`. Its outcome is the code in the field `grpc-status`, in the head of the response
//! or in the trailers after its body.
//!
//! | task | type |
//! |---|---|
//! | set classifier, rejector and retry rules for gRPC on a layer | [`GrpcLayerExt`]: `.grpc()` |
//! | answer refusals with a `grpc-status` and pushback | [`RespondGrpc`] |
//! | give one deadline to a call and all of its attempts | [`DeadlineLayer`] |
//! | serve HTTP and gRPC by one router | [`ByContentTypeLayer`] |
//! | judge the code of a response | [`ByStatus`](crate::ByStatus), [`RetryableStatus`](crate::RetryableStatus) |
//!
//! The types do not depend on a gRPC library. The guide's page on [tonic](crate::guide::tonic) has a client and a
//! server.

mod by_content_type;
mod deadline;
mod ext;
mod failures;
mod pushback;
mod respond;
mod status_code;
#[cfg(test)]
mod tests;

pub use by_content_type::{ByContentType, ByContentTypeFuture, ByContentTypeLayer};
pub use deadline::{Deadline, DeadlineFuture, DeadlineLayer};
pub use ext::GrpcLayerExt;
pub use respond::RespondGrpc;
pub use status_code::ends_in_trailers;

pub(crate) use failures::{is_failure_of_service, is_repeated};
pub(crate) use pushback::Pushback;
pub(crate) use respond::trailers;
pub(crate) use status_code::{
    DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN, code, code_in_trailers,
    is_grpc,
};
