//! One type per kind of identifier, so that a session can never be passed where a user is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier from 122 random bits.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Accepts the hyphenated lower-case form only, so that one thing has one spelling.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text)
                    .ok()
                    .map(Self)
                    .filter(|id| id.to_string() == text)
                    .ok_or_else(|| ParseIdError { kind: $kind, text: text.to_owned() })
            }
        }
    };
}

uuid_id!(
    /// A customer or operator account.
    UserId,
    "user id"
);
uuid_id!(
    /// One login: everything that came of it ends with it.
    SessionId,
    "session id"
);
uuid_id!(
    /// One life of an instance. A vmid is used again after deletion, this is not.
    InstanceId,
    "instance id"
);
uuid_id!(
    /// A piece of provisioning work that goes on after its request was answered.
    OperationId,
    "operation id"
);
uuid_id!(
    /// A host-proxy's right to work on one operation until it expires.
    LeaseId,
    "lease id"
);

/// The number of a container: 5000–5999 for games and 6000–6999 for dev containers by default.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(try_from = "u32", into = "u32")]
#[schema(value_type = u32, minimum = 1, maximum = 999_999_999)]
pub struct Vmid(u32);

impl Vmid {
    /// The largest number that Proxmox VE gives to a guest.
    pub const MAX: u32 = 999_999_999;

    /// A vmid from a number between 1 and [`Vmid::MAX`].
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vmid {
    type Error = ParseIdError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number).ok_or_else(|| ParseIdError { kind: "vmid", text: number.to_string() })
    }
}

impl From<Vmid> for u32 {
    fn from(vmid: Vmid) -> Self {
        vmid.0
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vmid {
    type Err = ParseIdError;

    /// Accepts canonical decimal only: `007`, `+7` and `7 ` would be other names for the same container.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .filter(|vmid| vmid.to_string() == text)
            .ok_or_else(|| ParseIdError { kind: "vmid", text: text.to_owned() })
    }
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContainerType {
    /// A game server.
    Game,
    /// A dev container with a workspace and, when wanted, code-server.
    Dev,
}

impl ContainerType {
    /// The word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Game => "game",
            Self::Dev => "dev",
        }
    }
}

impl FromStr for ContainerType {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "game" => Ok(Self::Game),
            "dev" => Ok(Self::Dev),
            _ => Err(ParseIdError { kind: "container type", text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmid_has_exactly_one_spelling() {
        for text in ["6001", "1", "999999999"] {
            assert_eq!(text.parse::<Vmid>().unwrap().to_string(), text);
        }
        for text in ["", "0", "007", "+7", "-7", "7 ", " 7", "7.0", "1000000000", "0x7", "٧"] {
            assert!(text.parse::<Vmid>().is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn a_uuid_has_exactly_one_spelling() {
        let id = UserId::random();
        assert_eq!(id.to_string().parse::<UserId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<UserId>().is_err());
        assert!(id.to_string().replace('-', "").parse::<UserId>().is_err());
    }
}
