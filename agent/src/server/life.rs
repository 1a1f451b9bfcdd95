//! What is remembered of a game server from one agent to the next, and what follows from a crash.

use serde::{Deserialize, Serialize};
use zlh_agent_protocol::agent::LastCrash;
use zlh_agent_protocol::config::CrashPolicy;

/// Crashes in a row, the customer's wish, and the run that is or was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Life {
    /// It was stopped on purpose, and stays so until it is started.
    pub(crate) stopped: bool,
    /// An end that was asked for is under way; it is no crash.
    pub(crate) ending: bool,
    /// In a row.
    pub(crate) crashes: u32,
    pub(crate) last_crash: Option<LastCrash>,
    /// When it is started again: Unix time in milliseconds.
    pub(crate) next_start_ms: Option<i64>,
    /// Why it is not started again.
    pub(crate) gave_up: Option<String>,
    /// The last run that was begun.
    pub(crate) run: u64,
    /// That run has not been seen to end.
    pub(crate) running: bool,
    /// Where it was begun: all that ran before the machine or the container was started has ended.
    pub(crate) boot: String,
    /// That run was ready once.
    pub(crate) was_ready: bool,
}

impl Life {
    /// Somebody starts it: what was before does not count any more.
    pub(crate) fn begin_anew(&mut self) {
        self.stopped = false;
        self.crashes = 0;
        self.next_start_ms = None;
        self.gave_up = None;
    }

    /// A run begins.
    pub(crate) fn begin_run(&mut self, boot: String) {
        self.run += 1;
        self.running = true;
        self.boot = boot;
        self.was_ready = false;
        self.ending = false;
        self.next_start_ms = None;
        self.gave_up = None;
    }

    /// It has run long enough for earlier crashes not to count.
    pub(crate) fn settle(&mut self) {
        self.crashes = 0;
    }

    /// The run ended without being asked to. `ended_ms` is when: the pause counts from there.
    pub(crate) fn crash(&mut self, policy: &CrashPolicy, crash: LastCrash, ended_ms: i64) {
        self.running = false;
        if crash.uptime_seconds >= u64::from(policy.reset_after_seconds) {
            self.settle();
        }
        let pause = usize::try_from(self.crashes)
            .ok()
            .and_then(|crashes| policy.restart_after_seconds.get(crashes));
        self.crashes = self.crashes.saturating_add(1);
        let times = match self.crashes {
            1 => "once".to_owned(),
            crashes => format!("{crashes} times in a row"),
        };
        match pause {
            _ if policy.give_up_on.contains(&crash.class) => {
                self.give_up("the server ended in a way that another start would not mend");
            }
            None => self.give_up(&format!("the server ended by itself {times}")),
            Some(seconds) => {
                self.next_start_ms = Some(ended_ms.saturating_add(i64::from(*seconds) * 1000));
            }
        }
        self.last_crash = Some(crash);
    }

    pub(crate) fn give_up(&mut self, why: &str) {
        self.next_start_ms = None;
        self.gave_up = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use zlh_agent_protocol::config::CrashClass;

    use super::*;

    fn crash(uptime_seconds: u64, class: CrashClass) -> LastCrash {
        LastCrash {
            time: "2026-11-20T22:00:00Z".to_owned(),
            exit_code: Some(1),
            signal: None,
            uptime_seconds,
            class,
            log_tail: Vec::new(),
        }
    }

    /// Runs that last so many seconds each, and the pauses that follow in milliseconds.
    fn pauses(policy: &CrashPolicy, uptimes: &[u64]) -> Vec<Option<i64>> {
        let (mut life, mut now) = (Life::default(), 1_000_000);
        let mut pauses = Vec::new();
        for uptime in uptimes {
            life.begin_run(String::new());
            now += i64::try_from(*uptime).unwrap() * 1000;
            life.crash(policy, crash(*uptime, CrashClass::NonzeroExit), now);
            pauses.push(life.next_start_ms.map(|next| next - now));
            now = life.next_start_ms.unwrap_or(now);
        }
        pauses
    }

    #[test]
    fn a_server_is_started_again_after_30_60_and_120_seconds_and_then_no_more() {
        let policy = CrashPolicy::default();

        assert_eq!(
            pauses(&policy, &[0, 29, 1, 0]),
            [Some(30_000), Some(60_000), Some(120_000), None]
        );
    }

    #[test]
    fn thirty_seconds_of_uptime_make_earlier_crashes_undone() {
        let policy = CrashPolicy::default();

        assert_eq!(
            pauses(&policy, &[0, 0, 0, 30, 29, 30]),
            [Some(30_000), Some(60_000), Some(120_000), Some(30_000), Some(60_000), Some(30_000)]
        );
    }

    #[test]
    fn each_server_may_have_its_own_policy() {
        let never = CrashPolicy { restart_after_seconds: Vec::new(), ..CrashPolicy::default() };
        assert_eq!(pauses(&never, &[100]), [None]);

        let short = CrashPolicy {
            restart_after_seconds: vec![5],
            reset_after_seconds: 600,
            ..CrashPolicy::default()
        };
        assert_eq!(pauses(&short, &[599, 599]), [Some(5_000), None]);
        assert_eq!(pauses(&short, &[600, 600]), [Some(5_000), Some(5_000)]);
    }

    #[test]
    fn what_another_start_would_not_mend_is_given_up_at_once() {
        let policy = CrashPolicy {
            give_up_on: vec![CrashClass::MissingDependency],
            ..CrashPolicy::default()
        };
        let mut life = Life::default();

        life.crash(&policy, crash(0, CrashClass::MissingDependency), 0);

        assert_eq!((life.next_start_ms, life.crashes), (None, 1));
        assert!(life.gave_up.is_some());
    }

    #[test]
    fn a_start_by_hand_begins_to_count_anew() {
        let policy = CrashPolicy::default();
        let mut life = Life::default();
        for _ in 0..4 {
            life.crash(&policy, crash(0, CrashClass::NonzeroExit), 0);
        }
        assert_eq!(life.gave_up.as_deref(), Some("the server ended by itself 4 times in a row"));

        life.begin_anew();
        life.begin_run("here".to_owned());
        life.crash(&policy, crash(0, CrashClass::NonzeroExit), 0);

        assert_eq!((life.crashes, life.next_start_ms), (1, Some(30_000)));
    }
}
