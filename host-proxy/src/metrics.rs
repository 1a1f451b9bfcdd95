//! Counters in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::StatusCode;

/// What host-proxy counts.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: [AtomicU64; 5],
    polls: AtomicU64,
    failed_polls: AtomicU64,
    operations_done: AtomicU64,
    operations_undone: AtomicU64,
    agents_started: AtomicU64,
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// An agent was polled.
    pub fn polled(&self, online: bool) {
        self.polls.fetch_add(1, Relaxed);
        if !online {
            self.failed_polls.fetch_add(1, Relaxed);
        }
    }

    /// An operation came to its end.
    pub fn operation_ended(&self, undone: bool) {
        let counter = if undone { &self.operations_undone } else { &self.operations_done };
        counter.fetch_add(1, Relaxed);
    }

    /// A dead agent was started again.
    pub fn agent_restarted(&self) {
        self.agents_started.fetch_add(1, Relaxed);
    }

    /// All of it, with the number of streams that are open now.
    #[must_use]
    pub fn render(&self, open_streams: usize) -> String {
        let mut text = String::from("# TYPE zlh_http_responses_total counter\n");
        for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&self.answers) {
            let count = counter.load(Relaxed);
            let _ = writeln!(text, "zlh_http_responses_total{{class=\"{class}\"}} {count}");
        }
        for (name, counter) in [
            ("zlh_agent_polls_total", &self.polls),
            ("zlh_agent_polls_failed_total", &self.failed_polls),
            ("zlh_operations_completed_total", &self.operations_done),
            ("zlh_operations_undone_total", &self.operations_undone),
            ("zlh_agent_restarts_total", &self.agents_started),
        ] {
            let _ = writeln!(text, "# TYPE {name} counter\n{name} {}", counter.load(Relaxed));
        }
        let _ = writeln!(text, "# TYPE zlh_ide_streams gauge\nzlh_ide_streams {open_streams}");
        text
    }
}
