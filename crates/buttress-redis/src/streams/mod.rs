#![doc = include_str!("../guide/streams.md")]

mod declare;
mod entry;
mod entry_id;
mod fetch;
mod publisher;
mod scripts;
mod source;
mod source_config;
mod state;
mod topic;

#[doc(no_inline)]
pub use buttress_durable::consume::Start;
pub use publisher::{Publish, PublishErrors, Publisher, Trim};
pub use source::{RedisSource, RedisToken};
pub use source_config::{OpenError, SourceConfig};
pub use topic::Topic;
pub(crate) use topic::check_name;
