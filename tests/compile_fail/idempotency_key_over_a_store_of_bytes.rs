use buttress::Clock;
use buttress::idempotency::MemoryStore;
use buttress_http::idempotency_key::IdempotencyKeyLayer;

fn main() {
    let bytes = MemoryStore::<Vec<u8>>::new(Clock::default());
    let _layer = IdempotencyKeyLayer::unscoped(IdempotencyKeyLayer::config(), bytes);
}
