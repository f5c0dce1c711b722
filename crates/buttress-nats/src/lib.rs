#![doc = include_str!("guide/nats.md")]
#![forbid(unsafe_code)]
// docs.rs shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ack;
mod check;
mod driver;
mod error;
mod flow;
mod headers;
mod lease;
mod nats;
mod publisher;
mod redelivery;
mod reply;
mod state;
mod subscribe;
mod subscription;
mod topic;

#[doc(no_inline)]
pub use async_nats;
#[doc(no_inline)]
pub use buttress_durable::consume::Start;
pub use error::{PublishError, SetupError};
pub use nats::Nats;
pub use publisher::{Publish, PublishErrors, Published, Publisher};
pub use subscribe::Subscribe;
pub use subscription::{Subscription, Token};
pub use topic::{Retain, Storage, Topic};
