//! Which ports there are, and which of them are next.

use std::collections::BTreeSet;
use std::str::FromStr;

/// The ports that containers are given, first and last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is not a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPortRange;

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, InvalidPortRange> {
        let (first, last) = text.split_once('-').ok_or(InvalidPortRange)?;
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| InvalidPortRange);
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 || first > last {
            return Err(InvalidPortRange);
        }
        Ok(Self { first, last })
    }
}

impl PortRange {
    /// The next free ports after the one given out last, so that a port rests after it was freed. None when
    /// there are not that many.
    #[must_use]
    pub fn next_free(
        self,
        last_given: Option<u16>,
        taken: &BTreeSet<u16>,
        count: usize,
    ) -> Option<Vec<u16>> {
        let start = last_given
            .and_then(|port| port.checked_add(1))
            .filter(|port| (self.first..=self.last).contains(port))
            .unwrap_or(self.first);
        let in_turn = (start..=self.last).chain(self.first..start);
        let free: Vec<u16> = in_turn.filter(|port| !taken.contains(port)).take(count).collect();
        (free.len() == count).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_ports_in_order() {
        assert_eq!("50000-50999".parse(), Ok(PortRange { first: 50_000, last: 50_999 }));
        for text in ["", "50000", "2-1", "0-5", "1-65536", "a-b", "1-2-3"] {
            assert_eq!(text.parse::<PortRange>(), Err(InvalidPortRange), "{text:?}");
        }
    }

    #[test]
    fn ports_are_given_out_in_turn_and_wrap_around() {
        let range = PortRange { first: 10, last: 14 };
        let taken = BTreeSet::from([11, 14]);

        assert_eq!(range.next_free(None, &taken, 2), Some(vec![10, 12]));
        assert_eq!(range.next_free(Some(12), &taken, 2), Some(vec![13, 10]));
        assert_eq!(range.next_free(Some(14), &taken, 3), Some(vec![10, 12, 13]));
        assert_eq!(range.next_free(Some(14), &taken, 4), None);
        assert_eq!(
            PortRange { first: 1, last: u16::MAX }.next_free(Some(u16::MAX), &taken, 1),
            Some(vec![1])
        );
    }
}
