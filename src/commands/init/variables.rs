//! The environment variables that the new configuration names, and the secrets that they stand for while it is made.

use std::collections::HashSet;

use indexmap::IndexSet;

use crate::commands::settings::{process_environment, variable_name, variables};
use crate::name::unused;
use crate::secret::Secret;

/// What stands for a variable that is not set where nobody connects: a legal port, host, name and password.
pub(super) const SAMPLE: &str = "1";
/// Another one, to see what depends on it.
const OTHER_SAMPLE: &str = "2";

/// Names and secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    secrets: Vec<(String, Secret)>,
    /// Names that the user wrote.
    written: HashSet<String>,
    /// The value of variables that are not set; `None` where they have to be set.
    unset: Option<&'static str>,
    /// The value of all variables, also of those that are set.
    all: Option<&'static str>,
}

impl Variables {
    /// `is_offline`: nobody connects, so that the user's variables need not be set.
    pub(super) fn new(typed: &[&str], is_offline: bool) -> Variables {
        let written =
            typed.iter().flat_map(|text| variables(text)).map(|(name, _)| name.to_owned()).collect();
        Variables { written, unset: is_offline.then_some(SAMPLE), ..Variables::default() }
    }

    /// With one value for all variables, whatever the environment has.
    pub(super) fn samples() -> Variables {
        Variables { all: Some(SAMPLE), ..Variables::default() }
    }

    /// The same ones, with another value for what is not set.
    pub(super) fn with_other_sample(&self) -> Variables {
        Variables { unset: self.unset.map(|_| OTHER_SAMPLE), ..self.clone() }
    }

    /// `${SHOP_PASSWORD}` for a secret of the target `shop`.
    pub(super) fn add(&mut self, target: &str, what: &str, secret: Secret) -> String {
        let base = variable_name(&format!("{target}_{what}"));
        let name = unused(&base, "_", |name| {
            !self.written.contains(name) && self.secrets.iter().all(|(known, _)| known != name)
        });
        self.secrets.push((name.clone(), secret));
        format!("${{{name}}}")
    }

    /// The variable `inside` the braces as the file has it: a default would be a secret there. It holds while the
    /// variable is not set.
    pub(super) fn without_default(&mut self, inside: &str) -> String {
        let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
        if !default.is_empty() && process_environment(name).is_none_or(|value| value.is_empty()) {
            self.secrets.push((name.to_owned(), Secret::new(default.to_owned())));
        }
        format!("${{{name}}}")
    }

    /// The value of a variable.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        if let Some(value) = self.all {
            return Some(value.to_owned());
        }
        let own = self.secrets.iter().find(|(known, _)| known == name);
        let own = own.map(|(_, secret)| secret.expose().to_owned()).or_else(|| process_environment(name));
        own.or_else(|| self.unset.map(str::to_owned))
    }

    /// The variables of the targets' entries that the user has to set: they are not set, or to something else.
    pub(super) fn missing(&self, text: &str) -> Vec<String> {
        let mut missing = IndexSet::new();
        for (name, has_default) in variables(text) {
            let set = process_environment(name).filter(|value| !value.is_empty());
            let own = self.secrets.iter().find(|(known, _)| known == name).map(|(_, secret)| secret);
            let is_right = match (set, own) {
                (Some(set), Some(own)) => set == own.expose(),
                (set, _) => set.is_some() || has_default,
            };
            if !is_right {
                missing.insert(name.to_owned());
            }
        }
        missing.into_iter().collect()
    }
}

/// The names of the variables in a text, each once.
pub(super) fn names_in(text: &str) -> Vec<&str> {
    variables(text).map(|(name, _)| name).collect::<IndexSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_variable_of_its_own() {
        let mut variables = Variables::new(&["postgres://u:${A_B_PASSWORD}@h/d"], false);
        let mut add = |target| variables.add(target, "password", Secret::new("hunter2".to_owned()));
        assert_eq!(add("shop"), "${SHOP_PASSWORD}");
        assert_eq!(add("a-b"), "${A_B_PASSWORD_2}");
        assert_eq!(add("a.b"), "${A_B_PASSWORD_3}");
        assert_eq!(add("1é"), "${DB_1__PASSWORD}");
        assert_eq!(variables.value("SHOP_PASSWORD").as_deref(), Some("hunter2"));
        assert_eq!(variables.missing("${SHOP_PASSWORD} ${X:-y} ${SHOP_PASSWORD}"), ["SHOP_PASSWORD"]);
        assert!(!format!("{variables:?}").contains("hunter2"));
    }

    #[test]
    fn a_default_holds_and_is_not_written() {
        let mut variables = Variables::default();
        assert_eq!(variables.without_default("NOT_SET_HERE:-hunter2"), "${NOT_SET_HERE}");
        assert_eq!(variables.value("NOT_SET_HERE").as_deref(), Some("hunter2"));
        assert_eq!(variables.missing("${NOT_SET_HERE}"), ["NOT_SET_HERE"]);
    }
}
