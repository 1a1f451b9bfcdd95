//! What an account is made of.

use std::fmt;

/// An e-mail address that could be one: something, an `@`, a domain, 3 to 254 characters (RFC 5321 section
/// 4.5.3.1), nothing invisible. Whether it is the user's is for a message to it to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

/// A user name: 3 to 32 letters, digits, `.`, `_` or `-`, the first a letter or digit. Without an `@`, so it
/// is never another's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

/// A person's name as shown: 1 to 100 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonName(String);

impl Email {
    /// None when the text cannot be an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let sane = (3..=254).contains(&text.len())
            && !local.is_empty()
            && !domain.is_empty()
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        sane.then(|| Self(text.to_owned()))
    }

    /// What accounts are looked up by: case does not make another address.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl Username {
    /// None when the text cannot be a user name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sane = (3..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        sane.then(|| Self(text.to_owned()))
    }

    /// What accounts are looked up by.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PersonName {
    /// None when the text cannot be shown as a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sane = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        sane.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_two_sides_and_nothing_invisible() {
        for good in ["a@b", "Ann.O'Neil+x@example.com", "\"a@b\"@c.d", "ü@ü.de"] {
            assert!(Email::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "ab",
            "a b@c",
            "a@b\n",
            "a@.b",
            "a@b.",
            &format!("{}@b", "a".repeat(300)),
        ] {
            assert!(Email::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_user_name_is_never_an_address() {
        for good in ["ann", "Ann-1", "0.a_b"] {
            assert!(Username::parse(good).is_some(), "{good}");
        }
        for bad in ["ab", "a@b", "-ab", "ann ", "änn", &"a".repeat(33)] {
            assert!(Username::parse(bad).is_none(), "{bad}");
        }
    }
}
