#![doc = include_str!("guide/kafka.md")]
#![forbid(unsafe_code)]
// docs.rs shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod check;
// To use another client of Kafka, replace this folder.
mod client;
mod error;
mod headers;
mod kafka;
mod member;
mod publisher;
mod start;
mod subscribe;
mod subscription;
mod table;
mod topic;

#[doc(no_inline)]
pub use buttress_durable::consume::Start;
pub use error::{PublishError, SetupError};
pub use kafka::Kafka;
pub use publisher::{Publish, PublishErrors, Published, Publisher};
pub use subscribe::Subscribe;
pub use subscription::Subscription;
pub use table::Token;
pub use topic::Topic;
