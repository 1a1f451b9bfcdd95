//! Application variables and the `{{ name }}` templates that use them.

use std::collections::BTreeMap;

use super::manifest::{App, ManifestError};

/// The value of every application variable.
#[derive(Debug)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Takes each declared variable from the runtime configuration's providers, else from `given` under its
    /// own name, else under `SPIN_VARIABLE_<NAME>`, else from its default.
    pub(crate) fn resolve(
        app: &App,
        given: &BTreeMap<String, String>,
        provided: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ManifestError> {
        let value = |name: &str| {
            let environment = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
            provided(name).or_else(|| given.get(name).or_else(|| given.get(&environment)).cloned())
        };
        app.variables
            .iter()
            .map(|(name, variable)| {
                let value = value(name).or_else(|| variable.default.clone()).ok_or_else(|| {
                    ManifestError::invalid(
                        format!("variables.{name}"),
                        "is required and has no value",
                    )
                })?;
                Ok((name.clone(), value))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Replaces every `{{ name }}` of `template`; `key` is where the template stands, for the error.
    pub(crate) fn expand(&self, key: &str, template: &str) -> Result<String, ManifestError> {
        let mut expanded = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(ManifestError::invalid(key, "a `{{` is not closed"));
            };
            let name = name.trim();
            let value = self.0.get(name).ok_or_else(|| {
                ManifestError::invalid(key, format!("there is no variable `{name}`"))
            })?;
            expanded.push_str(before);
            expanded.push_str(value);
            rest = after;
        }
        if rest.contains("}}") {
            return Err(ManifestError::invalid(key, "a `}}` was not opened"));
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

/// Checks that a name is lower snake case, as Spin wants it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let snake = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if snake && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(())
    } else {
        Err(format!("`{name}` is not lower_snake_case"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(given: &[(&str, &str)]) -> Variables {
        Variables(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn every_occurrence_is_replaced_and_values_are_not_expanded_again() {
        let variables = variables(&[("a", "{{ b }}"), ("b", "2")]);

        let expanded = variables.expand("k", "{{a}}-{{ b }}-{{ b}}");

        assert_eq!(expanded.ok().as_deref(), Some("{{ b }}-2-2"));
    }

    #[test]
    fn a_broken_template_names_its_key() {
        let variables = variables(&[("a", "1")]);

        for template in ["{{ a", "a }}", "{{ nope }}", "{{}}"] {
            let error =
                variables.expand("component.x.variables.y", template).map_err(|e| e.to_string());
            assert!(
                matches!(&error, Err(text) if text.starts_with("`component.x.variables.y`")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_provider_wins_over_a_name_that_over_the_environment_and_that_over_the_default() {
        let manifest = "spin_manifest_version = 2\napplication = { name = 'a' }\n[variables]\n\
            zero = { default = 'd' }\none = { default = 'd' }\ntwo = { default = 'd' }\n\
            three = { default = 'd' }";
        let app = App::parse(manifest, std::path::Path::new("")).unwrap();
        let given =
            [("zero", "g"), ("one", "g"), ("SPIN_VARIABLE_ONE", "e"), ("SPIN_VARIABLE_TWO", "e")];
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();

        let provided = |name: &str| (name == "zero").then(|| "p".to_owned());
        let variables = Variables::resolve(&app, &given, provided).unwrap();

        assert_eq!(variables.expand("k", "{{zero}}{{one}}{{two}}{{three}}").unwrap(), "pged");
    }
}
