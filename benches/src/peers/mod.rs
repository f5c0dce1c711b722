//! The peers, each as the thinnest service that its interface allows. Tower services are used
//! unchanged. Others get a call that queries them and a future that notifies them, without a box.
//! They have no events and no metrics, and of each peer the configuration that is fastest for a
//! row's guarantee.

pub mod backon;
pub mod failsafe;
mod gate;
pub mod governor;
pub mod leaky_bucket;
pub mod moka;
pub mod recloser;
pub mod seatbelt;
pub mod tokio;
pub mod tower;
pub mod tower_resilience;

pub const BACKON: &str = "backon";
pub const FAILSAFE: &str = "failsafe";
pub const GOVERNOR: &str = "governor";
pub const LEAKY_BUCKET: &str = "leaky-bucket";
pub const MOKA: &str = "moka";
pub const RECLOSER: &str = "recloser";
pub const SEATBELT: &str = "seatbelt";
pub const TOKIO: &str = "tokio";
pub const TOWER: &str = "tower";
pub const TOWER_RESILIENCE: &str = "tower-resilience";

/// The packages whose versions a report lists.
pub const PACKAGES: [&str; 19] = [
    "buttress",
    "backon",
    "failsafe",
    "governor",
    "leaky-bucket",
    "moka",
    "recloser",
    "seatbelt",
    "tick",
    "tokio",
    "tower",
    "tower-resilience-bulkhead",
    "tower-resilience-cache",
    "tower-resilience-circuitbreaker",
    "tower-resilience-core",
    "tower-resilience-fallback",
    "tower-resilience-ratelimiter",
    "tower-resilience-retry",
    "tower-resilience-timelimiter",
];
