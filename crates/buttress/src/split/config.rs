use crate::machinery::share::Share;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::setters::{configuration, setters};

configuration! {
    /// The configuration of a split. The default share of the new side is 0.
    ///
    /// Setters take the configuration by value. The constructor of the split checks it.
    #[derive(Clone, Debug)]
    pub struct Config {
        share: f64 = 0.0,
        salt: Option<String> = None,
    } and in code {
        rng: Option<Rng> = None,
    }
}

impl Config {
    setters! {
        /// Sets the share of the requests that the new side gets. Default: 0, so that a split changes nothing until an
        /// operator raises the share. From 0 to 1, and both are exact.
        share(share: f64);

        /// Sets the source of random draws, for requests without a key. Default: a source with a different seed in
        /// every process.
        rng(rng: Rng) => Some(rng);
    }

    /// Sets the salt of the keys. Default: the name of the split.
    ///
    /// Splits with the same salt send the same keys over first. So two splits need different salts, or one group of
    /// users meets every new side first. All processes that serve one split need the same salt.
    pub fn salt(mut self, salt: impl Into<String>) -> Self {
        self.salt = Some(salt.into());
        self
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<Share, InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<Share, InvalidConfig> {
        Share::checked("share", self.share)
    }

    /// Returns the salt in force.
    pub(super) fn salt_text(&self) -> &str {
        self.salt.as_deref().unwrap_or_else(|| self.common.name.as_str())
    }
}
