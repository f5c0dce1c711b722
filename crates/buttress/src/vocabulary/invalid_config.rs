//! [`InvalidConfig`]: a configuration that cannot work, and the checks that find it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The error of a configuration that cannot work, returned when a layer is built or reconfigured.
///
/// It names the field, the given value and the accepted values. A configuration with a name adds the name, so that the
/// reader finds the layer among several.
///
/// ```
/// use buttress::bulkhead::{BulkheadLayer, Config};
/// let error = BulkheadLayer::new(Config::new().max_concurrent(0)).unwrap_err();
/// assert_eq!(error.field(), "max-concurrent");
/// assert_eq!(error.to_string(), "max-concurrent: 0 is not at least 1");
///
/// let error = Config::new().name("db").max_concurrent(0).build().unwrap_err();
/// assert_eq!(error.layer(), Some("db"));
/// assert_eq!(error.to_string(), "\"db\": max-concurrent: 0 is not at least 1");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{field}: {value} is not {bound}", OfLayer(.layer.as_deref()))]
pub struct InvalidConfig {
    /// The name of the layer, if the field has no path that names it.
    layer: Option<Box<str>>,
    field: Box<str>,
    value: Box<str>,
    bound: Box<str>,
}

impl InvalidConfig {
    /// Creates an error that says that `field` was given `value`, which is not `bound` ("at least
    /// 1").
    #[must_use]
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        bound: impl Into<String>,
    ) -> Self {
        let (field, bound): (String, String) = (field.into(), bound.into());
        let value = value.to_string().into();
        Self { layer: None, field: field.into(), value, bound: bound.into() }
    }

    /// Refuses a number or a duration outside of `bounds`. Use it for configurations outside of this crate, e.g. of a
    /// transport.
    ///
    /// ```
    /// use buttress::InvalidConfig;
    /// use std::time::Duration;
    ///
    /// let lease = Duration::from_millis(20);
    /// let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    /// let error = InvalidConfig::check_range("lease", lease, bounds).unwrap_err();
    /// assert_eq!(error.to_string(), "lease: 20ms is not between 100ms and 60s");
    /// ```
    ///
    /// # Errors
    /// Returns an error that names `field`, the value and the bounds. A NaN is outside of every range.
    pub fn check_range<T: PartialOrd + fmt::Debug>(
        field: impl Into<String>,
        value: T,
        bounds: RangeInclusive<T>,
    ) -> Result<(), Self> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let bound = format!("between {:?} and {:?}", bounds.start(), bounds.end());
        Err(Self::new(field, format!("{value:?}"), bound))
    }

    /// Returns the [name](crate::bulkhead::Config::name) of the layer, or of another configuration, e.g. of a relay. `None`
    /// if the configuration has no name, and in a document, whose fields have a path.
    #[must_use]
    pub fn layer(&self) -> Option<&str> {
        self.layer.as_deref()
    }

    /// Returns the name of the field in kebab case, as in documents. The name includes the path of
    /// a field in a document.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the rejected value as text.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns a text that describes the accepted values, e.g. "at least 1".
    #[must_use]
    pub fn bound(&self) -> &str {
        &self.bound
    }

    /// Returns this error with the name of the layer or of the configuration. An error that has a name keeps it, and an
    /// empty `name` adds none. Use it for configurations outside of this crate that have a name.
    ///
    /// ```
    /// use buttress::InvalidConfig;
    ///
    /// let error = InvalidConfig::new("lease", "0s", "longer than zero").of_layer("orders");
    /// assert_eq!(error.layer(), Some("orders"));
    /// assert_eq!(error.to_string(), "\"orders\": lease: 0s is not longer than zero");
    /// ```
    #[must_use]
    pub fn of_layer(self, name: &str) -> Self {
        let own = (!name.is_empty()).then(|| name.into());
        Self { layer: self.layer.or(own), ..self }
    }

    /// Returns this error for the field inside `path`. The path names the layer.
    #[cfg(feature = "serde")]
    pub(crate) fn within(self, path: &str) -> Self {
        Self { layer: None, field: format!("{path}.{}", self.field).into(), ..self }
    }
}

/// The part of the message that names the layer.
struct OfLayer<'a>(Option<&'a str>);

impl fmt::Display for OfLayer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "{name:?}: "))
    }
}

/// Refuses values outside `low..=high`.
pub(crate) fn check_range<T: PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), InvalidConfig> {
    // A NaN compares as false, so the check accepts values instead of rejecting them.
    if value >= low && value <= high {
        return Ok(());
    }
    let bound = format!("between {low} and {high}");
    Err(InvalidConfig::new(field, value, bound))
}

/// Refuses values below `low`.
pub(crate) fn check_at_least<T: PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    low: T,
) -> Result<(), InvalidConfig> {
    if value >= low {
        return Ok(());
    }
    Err(InvalidConfig::new(field, value, format!("at least {low}")))
}

/// Refuses zero, and durations that a monotonic clock cannot add.
pub(crate) fn check_duration(field: &str, value: Duration) -> Result<(), InvalidConfig> {
    if value.is_zero() {
        return Err(InvalidConfig::new(field, "0s", "longer than zero"));
    }
    check_not_endless(field, value)
}

/// Refuses durations beyond [`LONGEST`].
pub(crate) fn check_not_endless(field: &str, value: Duration) -> Result<(), InvalidConfig> {
    if value > LONGEST {
        return Err(InvalidConfig::new(field, format!("{value:?}"), "at most 365 days"));
    }
    Ok(())
}

/// The longest duration that a configuration accepts. A longer one is probably a mistake.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bulkhead, circuit_breaker, rate_limit, retry, time_limit};

    #[test]
    fn an_error_names_the_layer_of_its_configuration() {
        let zero = Duration::ZERO;
        let errors = [
            bulkhead::Config::new().name("db").max_concurrent(0).build().unwrap_err(),
            circuit_breaker::Config::new().name("db").open_for(zero).build().unwrap_err(),
            rate_limit::Config::new().name("db").max_tokens(0).build().unwrap_err(),
            retry::Config::new().name("db").attempts(0).build().unwrap_err(),
            time_limit::Config::new(zero).name("db").build().unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.layer(), Some("db"), "{error}");
            assert!(error.to_string().starts_with(&format!("\"db\": {}: ", error.field())));
        }
        let unnamed = retry::Config::new().attempts(0).build().unwrap_err();
        assert_eq!(
            (unnamed.layer(), unnamed.to_string().as_str()),
            (None, "attempts: 0 is not at least 1")
        );
    }

    #[test]
    fn a_change_of_a_running_layer_names_the_given_configuration() {
        let limiter = rate_limit::Config::new().name("api").build().unwrap().handle();
        let refused = limiter.reconfigure(&limiter.config().max_tokens(0)).unwrap_err();
        assert_eq!(refused.layer(), Some("api"));
    }

    #[test]
    fn the_name_that_an_error_has_stays() {
        let error = InvalidConfig::new("lease", "0s", "longer than zero");
        assert_eq!(error.clone().of_layer(""), error);
        let inner = error.of_layer("").of_layer("inner");
        assert_eq!(inner.layer(), Some("inner"));
        assert_eq!(inner.clone().of_layer("outer"), inner);
    }

    #[test]
    fn not_a_number_is_out_of_every_range() {
        assert!(check_range("share", f64::NAN, 0.0, 1.0).is_err());
        assert!(InvalidConfig::check_range("share", f64::NAN, 0.0..=1.0).is_err());
        assert!(check_at_least("factor", f64::NAN, 1.0).is_err());
    }
}
