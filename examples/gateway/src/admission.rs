//! Who may use the routes of orders: the holder of a key. Tokens (`Jwt`, feature `jwt`) would bring RSA and elliptic
//! curves into the first build.

use std::time::SystemTime;

use buttress::InvalidConfig;
use buttress_edge::{ApiKey, ApiKeys};

/// The keys of the demonstration. A real gateway has only their SHA-256.
pub(crate) const ANN: &str = "key-of-ann-0123456789abcdef";
pub(crate) const BOB: &str = "key-of-bob-0123456789abcdef";
/// A key that has ended.
pub(crate) const ENDED: &str = "key-of-eve-0123456789abcdef";
/// The field of the key.
pub(crate) const FIELD: &str = "x-api-key";

/// Admits a request with a key that has not ended.
pub(crate) fn by_key() -> Result<ApiKeys, InvalidConfig> {
    let ended = ApiKey::new(ENDED, "eve")?.until(SystemTime::UNIX_EPOCH);
    ApiKeys::new(FIELD, [ApiKey::new(ANN, "ann")?, ApiKey::new(BOB, "bob")?, ended])
}
