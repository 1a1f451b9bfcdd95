//! What is wrong with variables that components would only stumble over when they are asked.

use std::collections::BTreeMap;

use super::ConfigError;

/// Our components' variables that are not free text: name, what is right, and whether a text is.
const TYPED: &[(&str, &str, IsRight)] = &[
    ("api_auth_ttl_seconds", SECONDS, is_seconds),
    ("refresh_ttl_seconds", SECONDS, is_seconds),
    ("session_ttl_seconds", SECONDS, is_seconds),
    ("api_auth_ide_ttl_seconds", SECONDS, is_seconds),
    ("ide_session_ttl_seconds", SECONDS, is_seconds),
    ("max_instances_per_user", "a number", |text| text.parse::<u32>().is_ok()),
    ("dev_ide_return_hosted_url", "`true` or `false`", |text| text.parse::<bool>().is_ok()),
    ("dev_ide_public_scheme", "`http` or `https`", |text| matches!(text, "http" | "https")),
    ("port_range", "two ports, as in `50000-50999`", is_port_range),
];

type IsRight = fn(&str) -> bool;

const SECONDS: &str = "a number of seconds, at least 1";

fn is_seconds(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|seconds| seconds > 0)
}

fn is_port_range(text: &str) -> bool {
    let ports = text.split_once('-').map(|(first, last)| (first.parse::<u16>(), last.parse()));
    matches!(ports, Some((Ok(first), Ok(last))) if first > 0 && first <= last)
}

/// Refuses the first that is wrong.
pub(super) fn check(variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let wrong = TYPED.iter().find(|(name, _, is_right)| {
        variables.get(*name).is_some_and(|text| !is_right(text.trim()))
    });
    match wrong {
        None => Ok(()),
        Some((name, want, _)) => Err(ConfigError {
            setting: format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase()),
            want: (*want).to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, text: &str) -> Option<String> {
        check(&BTreeMap::from([(name.to_owned(), text.to_owned())])).err().map(|e| e.setting)
    }

    #[test]
    fn what_a_component_could_not_read_is_named() {
        for (name, text) in [
            ("refresh_ttl_seconds", "1h"),
            ("session_ttl_seconds", "0"),
            ("ide_session_ttl_seconds", ""),
            ("max_instances_per_user", "-1"),
            ("dev_ide_return_hosted_url", "yes"),
            ("port_range", "50999-50000"),
        ] {
            let wanted = format!("SPIN_VARIABLE_{}", name.to_ascii_uppercase());
            assert_eq!(refused(name, text), Some(wanted), "{text:?}");
        }
        for (name, text) in
            [("refresh_ttl_seconds", "60"), ("port_range", "1-2"), ("somebody_elses", "1h")]
        {
            assert_eq!(refused(name, text), None, "{name}");
        }
    }
}
