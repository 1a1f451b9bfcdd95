//! What host-proxy counts, in the [OpenMetrics] text format that Prometheus reads.
//!
//! [OpenMetrics]: https://prometheus.io/docs/specs/om/open_metrics_spec/

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::ComponentApi;

/// Upper bounds of the latency buckets, in seconds: from an answer out of memory to the longest request.
const LATENCY_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A histogram of latencies in seconds.
pub(crate) fn latency() -> Histogram {
    Histogram::new(LATENCY_SECONDS)
}

/// Class of a status, by its first digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl Class {
    pub(crate) const ALL: [Self; 5] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// As a label says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What `/metrics` answers with.
pub(crate) const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    answer_seconds: Histogram,
    polls: Family<Outcome, Counter>,
    operations: Family<Outcome, Counter>,
    agent_restarts: Counter,
    streams: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("zlh"),
            answers: Family::default(),
            answer_seconds: latency(),
            polls: Family::default(),
            operations: Family::default(),
            agent_restarts: Counter::default(),
            streams: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "http_responses",
            "Answers of the public listeners by class of status",
            metrics.answers.clone(),
        );
        registry.register_with_unit(
            "http_response",
            "Time to the head of an answer",
            Unit::Seconds,
            metrics.answer_seconds.clone(),
        );
        registry.register("agent_polls", "Polls of agents", metrics.polls.clone());
        registry.register("operations", "Operations that ended", metrics.operations.clone());
        registry.register(
            "agent_restarts",
            "Dead agents that were started again",
            metrics.agent_restarts.clone(),
        );
        registry.register("streams", "Streams that are open", metrics.streams.clone());
        let started: Gauge = Gauge::default();
        started.set(crate::clock::unix_ms());
        registry.register(
            "start_time_milliseconds",
            "When this process began, in Unix milliseconds",
            started,
        );
        metrics
    }
}

impl Metrics {
    /// With those of the components, where they run in this process.
    #[must_use]
    pub fn of(api: &ComponentApi) -> Self {
        let mut metrics = Self::default();
        if let ComponentApi::Embedded(host) = api {
            host.metrics().register(&mut metrics.registry);
        }
        metrics
    }

    /// A request was answered, so long after it came.
    pub fn answered(&self, status: StatusCode, after: Duration) {
        self.answers.get_or_create(&Answer { class: Class::of(status).name() }).inc();
        self.answer_seconds.observe(after.as_secs_f64());
    }

    /// An agent was polled.
    pub fn polled(&self, online: bool) {
        let outcome = if online { "online" } else { "offline" };
        self.polls.get_or_create(&Outcome { outcome }).inc();
    }

    /// An operation came to its end.
    pub fn operation_ended(&self, undone: bool) {
        let outcome = if undone { "undone" } else { "completed" };
        self.operations.get_or_create(&Outcome { outcome }).inc();
    }

    /// A dead agent was started again.
    pub fn agent_restarted(&self) {
        self.agent_restarts.inc();
    }

    /// All of it, with the number of streams that are open now.
    ///
    /// # Errors
    ///
    /// None that is known; the encoder's signature has one.
    pub fn render(&self, open_streams: usize) -> Result<String, std::fmt::Error> {
        self.streams.set(i64::try_from(open_streams).unwrap_or(i64::MAX));
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted_under_its_name() {
        let metrics = Metrics::default();
        metrics.answered(StatusCode::NOT_FOUND, Duration::from_millis(3));
        metrics.polled(false);
        metrics.operation_ended(true);
        metrics.agent_restarted();

        let text = metrics.render(7).unwrap();

        for line in [
            "zlh_http_responses_total{class=\"4xx\"} 1",
            "zlh_http_response_seconds_bucket{le=\"0.0025\"} 0",
            "zlh_http_response_seconds_bucket{le=\"0.005\"} 1",
            "zlh_agent_polls_total{outcome=\"offline\"} 1",
            "zlh_operations_total{outcome=\"undone\"} 1",
            "zlh_agent_restarts_total 1",
            "zlh_streams 7",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
