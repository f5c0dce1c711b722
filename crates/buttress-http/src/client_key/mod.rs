#![doc = include_str!("guide.md")]

mod address;
mod forwarded;
mod header;
mod network;
mod peer;

pub use address::AddressKey;
pub use forwarded::AddressKeys;
pub(crate) use forwarded::forwarded_for;
pub use header::{HeaderKey, HeaderKeys};
pub(crate) use network::Network;
pub(crate) use peer::{FindPeer, find_peer};
pub use peer::{IntoPeer, PeerAddr};

#[cfg(test)]
mod tests;
