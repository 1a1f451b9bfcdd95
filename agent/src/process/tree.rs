//! Everything that one start brought to life, found and ended however far it wandered.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Entry, signal};
use crate::blocking::blocking;
use crate::clock::pause;

/// How long processes may take to end by themselves: code-server needs up to 3 s and its helpers up to 5 s
/// more, but they have nothing to lose.
const TERM_GRACE: Duration = Duration::from_secs(6);
/// How long killed processes may take to vanish.
const KILL_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Processes survived SIGKILL, or are born faster than they can be killed.
#[derive(Debug, thiserror::Error)]
#[error("{count} processes could not be ended, among them {example}")]
pub(crate) struct StillAlive {
    count: usize,
    example: i32,
}

/// What belongs together.
///
/// A process is a member if its environment has all marks, or if its parent is a member, or if its process
/// group or session was founded by one: a terminal's shell has a session of its own, and a program that
/// cleared its environment still has a parent, a group or a session.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    marks: Vec<String>,
    everything_of: Option<u32>,
    children_of: Option<i32>,
    founders: HashSet<i32>,
}

impl Tree {
    /// What carries all of these `NAME=value` marks, and all that came of it.
    pub(crate) fn marked(marks: Vec<String>) -> Self {
        Self { marks, everything_of: None, children_of: None, founders: HashSet::new() }
    }

    /// And every process of a user that exists for this container alone.
    pub(crate) fn and_everything_of(mut self, uid: u32) -> Self {
        self.everything_of = Some(uid);
        self
    }

    /// What this process started and inherited.
    pub(crate) fn children_of_this() -> Self {
        let own = i32::try_from(std::process::id()).ok();
        Self { children_of: own, ..Self::marked(Vec::new()) }
    }

    /// The members that are alive now. Remembers them, so that what they founded is known after they ended.
    pub(crate) fn members(&mut self) -> Vec<Entry> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let (mut members, mut others): (Vec<_>, Vec<_>) = Entry::all()
            .into_iter()
            .filter(|entry| entry.pid > 1 && entry.pid != own)
            .partition(|entry| self.is_seed(entry));
        let mut known: HashSet<i32> = members.iter().map(|entry| entry.pid).collect();
        loop {
            self.founders.extend(&known);
            let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|entry| {
                known.contains(&entry.parent)
                    || self.founders.contains(&entry.group)
                    || self.founders.contains(&entry.session)
            });
            if found.is_empty() {
                return members;
            }
            known.extend(found.iter().map(|entry| entry.pid));
            members.extend(found);
            others = rest;
        }
    }

    /// [`members`](Self::members), which reads all of `/proc`.
    async fn scan(mut self) -> (Self, Vec<Entry>) {
        blocking(move || {
            let members = self.members();
            (self, members)
        })
        .await
    }

    fn is_seed(&self, entry: &Entry) -> bool {
        if self.everything_of == Some(entry.uid) || self.children_of == Some(entry.parent) {
            return true;
        }
        let environment = entry.environment();
        !self.marks.is_empty() && self.marks.iter().all(|mark| environment.contains(mark))
    }

    /// Asks all members to end, then kills until none is left.
    ///
    /// Dropping the future leaves those alive that had not ended by then.
    ///
    /// # Errors
    ///
    /// Some are still there after [`KILL_LIMIT`].
    pub(crate) async fn end(mut self) -> Result<(), StillAlive> {
        let members;
        (self, members) = self.scan().await;
        for member in &members {
            signal(member, Signal::TERM);
        }
        self.kill_after(TERM_GRACE).await
    }

    /// Kills all members until none is left.
    ///
    /// # Errors
    ///
    /// Some are still there after [`KILL_LIMIT`].
    pub(crate) async fn kill(self) -> Result<(), StillAlive> {
        self.kill_after(Duration::ZERO).await
    }

    async fn kill_after(mut self, grace: Duration) -> Result<(), StillAlive> {
        let asked = Instant::now();
        let mut members;
        loop {
            (self, members) = self.scan().await;
            let Some(first) = members.first() else { return Ok(()) };
            if asked.elapsed() > grace + KILL_LIMIT {
                return Err(StillAlive { count: members.len(), example: first.pid });
            }
            if asked.elapsed() >= grace {
                for member in &members {
                    signal(member, Signal::KILL);
                }
            }
            pause(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_process_that_left_group_session_and_environment_is_ended_too() {
        let mark = format!("ZLH_TEST_MARK={}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        // The last one ignores SIGTERM as well.
        let script = "setsid sleep 3601 & env -i sleep 3602 & \
                      setsid env -i sh -c 'trap \"\" TERM; sleep 3603; sleep 3604' & wait";
        let mut shell = Command::new("sh").args(["-c", script]).env(name, value).spawn().unwrap();
        let mut tree = Tree::marked(vec![mark.clone()]);
        while tree.members().len() < 5 {
            pause(POLL).await;
        }

        let ended = tokio::join!(tree.end(), async {
            tokio::task::spawn_blocking(move || shell.wait()).await
        });

        ended.0.unwrap();
        let left: Vec<_> = Entry::all()
            .into_iter()
            .filter(|entry| {
                entry.arguments().iter().any(|word| word.starts_with("360") && word.len() == 4)
            })
            .collect();
        assert_eq!(left, []);
    }
}
