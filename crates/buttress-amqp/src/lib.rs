#![doc = include_str!("guide/rabbitmq.md")]
#![forbid(unsafe_code)]
// docs.rs shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod check;
mod connecting;
mod dead;
mod declare;
mod error;
mod message;
mod mismatch;
mod publisher;
mod rabbit;
mod subscribe;
mod subscription;
mod topic;

pub use dead::Dead;
pub use error::{PublishError, SetupError};
#[doc(no_inline)]
pub use lapin;
pub use publisher::{Publish, PublishErrors, Publisher};
pub use rabbit::Rabbit;
pub use subscribe::Subscribe;
pub use subscription::{Subscription, Token};
pub use topic::Topic;
