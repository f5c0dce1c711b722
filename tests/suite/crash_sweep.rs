//! A process that crashes at every durable boundary of a saga, and of a relay, in turn. The next
//! process finishes its work, each effect happens at most once, and keys never change.

mod children;
mod claims;
mod migration;
mod outbox;
mod owners;
mod relays;
mod saga;
mod steps;
mod store;
mod ways;
