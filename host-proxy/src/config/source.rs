//! Looks settings up by name and says which one is wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A setting is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is wrong: it must be {want}")]
pub struct ConfigError {
    /// The flag or variable. Its value is left out, since it may be a secret.
    pub setting: String,
    /// What would be right.
    pub want: String,
}

/// Values of command-line flags, by the name of the variable that each stands for.
#[derive(Debug, Clone, Default)]
pub struct Flags(BTreeMap<&'static str, (&'static str, String)>);

impl Flags {
    /// Notes what a flag says, if it was given.
    #[must_use]
    pub fn with(
        mut self,
        flag: &'static str,
        variable: &'static str,
        value: Option<String>,
    ) -> Self {
        if let Some(value) = value {
            self.0.insert(variable, (flag, value));
        }
        self
    }
}

pub(super) struct Source<'a, F> {
    pub(super) flags: &'a Flags,
    pub(super) var: &'a F,
}

impl<F: Fn(&str) -> Option<String>> Source<'_, F> {
    /// The setting as `read` understands it, or the default when it is absent or empty.
    pub(super) fn parse<T>(
        &self,
        variable: &'static str,
        default: T,
        want: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let (setting, text) = match self.flags.0.get(variable) {
            Some((flag, text)) => (*flag, text.clone()),
            None => match (self.var)(variable).filter(|text| !text.is_empty()) {
                Some(text) => (variable, text),
                None => return Ok(default),
            },
        };
        read(&text)
            .ok_or_else(|| ConfigError { setting: setting.to_owned(), want: want.to_owned() })
    }

    pub(super) fn path(
        &self,
        variable: &'static str,
        default: &str,
    ) -> Result<PathBuf, ConfigError> {
        self.parse(variable, PathBuf::from(default), "a path", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        })
    }

    pub(super) fn address(
        &self,
        variable: &'static str,
        port: u16,
    ) -> Result<SocketAddr, ConfigError> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.parse(variable, default, "an IP address and port such as `127.0.0.1:8080`", |text| {
            text.parse().ok()
        })
    }

    /// A base URL; its final slash is left off.
    pub(super) fn url(&self, variable: &'static str) -> Result<Option<String>, ConfigError> {
        self.parse(variable, None, "a URL such as `https://ide.example.com`", |text| {
            base_url(text).map(Some)
        })
    }

    pub(super) fn number<T>(
        &self,
        variable: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let want = format!("a number from {} to {}", range.start(), range.end());
        self.parse(variable, default, &want, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    pub(super) fn seconds(
        &self,
        variable: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        self.number(variable, default, range).map(Duration::from_secs)
    }
}

/// An `http` or `https` URL without query, its final slash left off.
pub(crate) fn base_url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    (plain && authority.is_some()).then(|| text.trim_end_matches('/').to_owned())
}
