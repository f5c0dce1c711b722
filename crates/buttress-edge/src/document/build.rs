//! Builds the routes of a document, or takes those that a proxy has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use buttress::InvalidConfig;
use serde_json::Value;

use super::before::Before;
use super::section::Section;
use super::sides::{self, Shares};
use super::{Document, admission, effect, read};
use crate::Config;
use crate::admission::Admits;
use crate::route::{LocalService, Route};

/// The parts of the document that a proxy has.
#[derive(Debug, Default)]
pub(crate) struct Applied(pub(super) Mutex<Parts>);

#[derive(Debug, Default)]
pub(super) struct Parts {
    pub routes: BTreeMap<String, Built>,
    pub admissions: BTreeMap<String, admission::Built>,
}

/// A route, and the section that it was built of.
#[derive(Clone, Debug)]
pub(super) struct Built {
    section: Value,
    admit: Option<Admits>,
    service: Option<LocalService>,
    pub route: Route,
    /// The shares of the section before. `None` for a new name.
    shares_before: Option<Shares>,
}

impl Built {
    /// Sets the shares that the document has changed.
    pub(super) fn set_shares(&self) -> Result<(), InvalidConfig> {
        match self.shares_before {
            Some(before) => Shares::of(&self.section).apply(before, &self.route),
            None => Ok(()),
        }
    }
}

impl Document {
    /// Builds the admissions of the document.
    pub(super) fn admissions(
        &self,
        before: &BTreeMap<String, admission::Built>,
        config: &Config,
    ) -> Result<BTreeMap<String, admission::Next>, InvalidConfig> {
        let mut admissions = BTreeMap::new();
        for (name, section) in &self.sections {
            let path = format!("admissions.{name}");
            if self.bound.contains_key(name) {
                return Err(InvalidConfig::new(path, "a bound name", "free: rename the admission"));
            }
            let next = admission::build(section, before.get(name), config).map_err(|error| {
                let path = match error.field() {
                    // The section itself.
                    "" => path,
                    field => format!("{path}.{field}"),
                };
                InvalidConfig::new(path, error.value(), error.bound())
            })?;
            admissions.insert(name.clone(), next);
        }
        Ok(admissions)
    }

    /// Builds a route, or takes it from `before` if its section is unchanged.
    pub(super) fn build(
        &self,
        name: &str,
        section: &Value,
        before: Option<&Built>,
        admissions: &BTreeMap<String, admission::Next>,
        config: &Config,
    ) -> Result<Built, InvalidConfig> {
        let invalid = |key: &str, value: String, bound: &str| {
            InvalidConfig::new(format!("routes.{name}.{key}"), value, bound)
        };
        let read = read::<Section>("routes", name, section)
            .map_err(|error| InvalidConfig::new("document", error, "a document of routes"))?;
        let admit = match &read.admit {
            None => None,
            Some(admit) => {
                let own = admissions.get(admit).map(|next| &next.built.admit);
                Some(own.or_else(|| self.bound.get(admit)).cloned().ok_or_else(|| {
                    let known: Vec<&str> =
                        admissions.keys().chain(self.bound.keys()).map(String::as_str).collect();
                    let bound = one_of(
                        "an admission of the document, or one that the program binds",
                        &known,
                    );
                    invalid("admit", format!("{admit:?}"), &bound)
                })?)
            }
        };
        let service = match &read.service {
            None => None,
            Some(name) => Some(self.services.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = self.services.keys().map(String::as_str).collect();
                let bound = one_of("a service that the program binds", &known);
                invalid("service", format!("{name:?}"), &bound)
            })?),
        };
        let shares = Shares::of(section);
        shares
            .check()
            .and_then(|()| effect::check_route(section))
            .map_err(|error| invalid(error.field(), error.value().to_owned(), error.bound()))?;
        let same_service = before.is_some_and(|before| match (&before.service, &service) {
            (None, None) => true,
            (Some(before), Some(service)) => before.is(service),
            _ => false,
        });
        let shares_before = before.map(|before| Shares::of(&before.section));
        let is_same = |before: &&Built| {
            let is_same_admission = match (&before.admit, &admit) {
                (None, None) => true,
                (Some(before), Some(admit)) => Arc::ptr_eq(&before.0, &admit.0),
                _ => false,
            };
            is_same_admission
                && same_service
                && sides::lasting(&before.section) == sides::lasting(section)
        };
        if let Some(before) = before.filter(is_same) {
            return Ok(Built { section: section.clone(), shares_before, ..before.clone() });
        }
        let before = before.map(|before| (&before.section, &before.route));
        let before = Before { section, before, same_service };
        let route = read.route(name, admit.clone(), service.clone(), before, config);
        let route = route.map_err(|error| {
            if error.field().starts_with(&format!("routes.{name}")) {
                return error;
            }
            invalid(error.field(), error.value().to_owned(), error.bound())
        })?;
        Ok(Built { section: section.clone(), admit, service, route, shares_before })
    }
}

/// Returns the bound of a name, with the names that are known.
fn one_of(what: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("{what}; there is none");
    }
    format!("{what}; there are: {}", known.join(", "))
}
