//! A process that dies at every durable boundary of a saga, and of a relay, in turn: what it leaves
//! behind is finished by the next one, each effect is there once or not at all, and keys never change.

mod claims;
mod outbox;
mod owners;
mod relays;
mod saga;
mod store;
