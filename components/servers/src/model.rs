//! What may be asked for, which vmid is next, and what the agent's last words are worth.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use zlh_agent_protocol::internal::{InstanceSpec, Observation, OperationKind};
use zlh_ids::{ContainerType, InstanceId, OperationId, UserId, Vmid};

/// Numbers of containers of that kind.
#[must_use]
pub fn vmids(ctype: ContainerType) -> RangeInclusive<u32> {
    match ctype {
        ContainerType::Game => 5000..=5999,
        ContainerType::Dev => 6000..=6999,
    }
}

/// How long an observation is believed, in milliseconds: three polls.
const FRESH_MS: u64 = 15_000;

/// The next number after the one given out last that no instance has, so that a number rests after it was
/// freed.
#[must_use]
pub fn next_vmid(
    ctype: ContainerType,
    last_given: Option<u32>,
    taken: &BTreeSet<u32>,
) -> Option<Vmid> {
    let vmids = vmids(ctype);
    let (first, last) = (*vmids.start(), *vmids.end());
    let start = last_given.map(|last| last.saturating_add(1)).filter(|next| vmids.contains(next));
    let start = start.unwrap_or(first);
    (start..=last).chain(first..start).find(|number| !taken.contains(number)).and_then(Vmid::new)
}

/// What an instance is doing as far as the record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being made.
    Creating,
    /// Here.
    Active,
    /// Being removed.
    Deleting,
}

impl State {
    /// The word in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Deleting => "deleting",
        }
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Creating, Self::Active, Self::Deleting]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// Whether a container shall run, whatever runs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It shall run.
    On,
    /// It shall not.
    Off,
}

impl Power {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for Power {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::On, Self::Off].into_iter().find(|power| power.as_str() == text).ok_or(())
    }
}

/// An instance as it is recorded.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its number.
    pub vmid: Vmid,
    /// Which life of that number.
    pub instance_id: InstanceId,
    /// What its owner calls it.
    pub name: String,
    /// What was asked for.
    pub spec: InstanceSpec,
    /// What it is doing.
    pub state: State,
    /// Whether its owner wants the container to run.
    pub power: Power,
    /// It may not be used for the moment.
    pub suspended: bool,
    /// Where its agent is: `host:port`; none until the container is here.
    pub agent_address: Option<String>,
    /// Ports that its game listens on, ascending.
    pub ports: Vec<u16>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// When it was ready first, in Unix milliseconds.
    pub ready_at_ms: Option<i64>,
}

impl Instance {
    /// What the agent last said about this life of the container, whenever that was.
    #[must_use]
    pub fn last_seen<'a>(&self, observation: Option<&'a Observation>) -> Option<&'a Observation> {
        observation.filter(|seen| seen.instance_id == self.instance_id && seen.vmid == self.vmid)
    }

    /// What the agent says now: nothing once it fell silent. A clock that is ahead makes nothing last longer.
    #[must_use]
    pub fn live<'a>(
        &self,
        observation: Option<&'a Observation>,
        now_ms: i64,
    ) -> Option<&'a Observation> {
        self.last_seen(observation)
            .filter(|seen| now_ms.abs_diff(seen.seen_at_ms) <= FRESH_MS && seen.online)
    }

    /// Whether its workload can be used now.
    #[must_use]
    pub fn ready(&self, live: Option<&Observation>) -> bool {
        self.state == State::Active && live.is_some_and(|seen| seen.ready)
    }

    /// One word for people.
    #[must_use]
    pub fn status(&self, live: Option<&Observation>) -> &'static str {
        match (self.state, live) {
            (State::Active, None) if self.suspended => "suspended",
            (State::Active, None) if self.power == Power::Off => "stopped",
            (State::Active, None) => "offline",
            (State::Active, Some(seen)) => {
                seen.status.as_ref().map_or("online", |status| status.state.as_str())
            }
            (state, _) => state.as_str(),
        }
    }
}

/// A creation or deletion.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The operation.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// To which container.
    pub vmid: Vmid,
    /// `queued`, `running`, `undoing`, `succeeded` or `failed`.
    pub status: String,
    /// The step that was begun last.
    pub phase: Option<String>,
    /// What is being done, for people.
    pub message: Option<String>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// An instance to be made.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Whose it will be.
    pub owner: UserId,
    /// What its owner calls it, if they said.
    pub name: Option<String>,
    /// What is asked for.
    pub spec: InstanceSpec,
    /// The client's name for the request, if it gave one.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the request.
    pub request_hash: String,
}

/// The last instance of a page: the next page begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When it was created, in Unix milliseconds.
    pub created_at_ms: i64,
    /// Its number.
    pub vmid: u32,
}

impl Cursor {
    /// Before the first instance.
    pub const START: Self = Self { created_at_ms: i64::MIN, vmid: 0 };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at_ms, self.vmid)
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (created_at, vmid) = text.split_once('.').ok_or(InvalidCursor)?;
        Ok(Self {
            created_at_ms: created_at.parse().map_err(|_| InvalidCursor)?,
            vmid: vmid.parse().map_err(|_| InvalidCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_in_turn_and_wrap_around() {
        let next = |last, taken: &[u32]| {
            next_vmid(ContainerType::Dev, last, &taken.iter().copied().collect()).map(Vmid::get)
        };
        let all: BTreeSet<u32> = vmids(ContainerType::Dev).collect();

        assert_eq!(next(None, &[]), Some(6000));
        assert_eq!(next(Some(6000), &[]), Some(6001));
        assert_eq!(next(Some(6000), &[6001, 6002]), Some(6003));
        assert_eq!(next(Some(6999), &[6000]), Some(6001));
        assert_eq!(next(Some(6998), &[6999]), Some(6000));
        assert_eq!(next(Some(7), &[]), Some(6000));
        let all_but_one: Vec<u32> = all.iter().copied().filter(|n| *n != 6500).collect();
        assert_eq!(next(Some(6500), &all_but_one), Some(6500));
        assert_eq!(next_vmid(ContainerType::Dev, Some(6500), &all), None);
        assert_eq!(next_vmid(ContainerType::Game, None, &all).map(Vmid::get), Some(5000));
    }

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor { created_at_ms: 1_795_132_800_000, vmid: 6001 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", ".", "1.", ".1", "1.x", "1.2.3", "9999999999999999999.1"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }
}
