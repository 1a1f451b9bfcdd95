//! What components do and use, each under the name of its stanza.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{Class, latency};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Component {
    component: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    component: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    component: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Swap {
    component: String,
    outcome: &'static str,
}

/// Of all components.
#[derive(Debug, Clone)]
pub struct ComponentMetrics {
    responses: Family<Answer, Counter>,
    response_seconds: Family<Component, Histogram, fn() -> Histogram>,
    refusals: Family<Refused, Counter>,
    instances: Family<Component, Gauge>,
    instances_started: Family<Component, Counter>,
    memory_bytes: Family<Component, Gauge>,
    swaps: Family<Swap, Counter>,
}

impl Default for ComponentMetrics {
    fn default() -> Self {
        Self {
            responses: Family::default(),
            response_seconds: Family::new_with_constructor(latency),
            refusals: Family::default(),
            instances: Family::default(),
            instances_started: Family::default(),
            memory_bytes: Family::default(),
            swaps: Family::default(),
        }
    }
}

impl ComponentMetrics {
    /// Puts them among all that are shown.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("component");
        registry.register("responses", "Answers by class of status", self.responses.clone());
        registry.register_with_unit(
            "response",
            "Time to the head of an answer, waiting for an instance included",
            Unit::Seconds,
            self.response_seconds.clone(),
        );
        registry.register(
            "refusals",
            "Answers that the host gave in place of the component",
            self.refusals.clone(),
        );
        registry.register("instances", "Instances that are alive", self.instances.clone());
        registry.register(
            "instances_started",
            "Instances that were made",
            self.instances_started.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Linear memory of the instances that are alive",
            Unit::Bytes,
            self.memory_bytes.clone(),
        );
        registry.register("swaps", "Swaps and rollbacks that were tried", self.swaps.clone());
    }

    /// Those of one component.
    pub(super) fn of(&self, component: &str) -> Counters {
        let name = Component { component: component.to_owned() };
        Counters {
            responses: Class::ALL.map(|class| {
                let answer = Answer { component: component.to_owned(), class: class.name() };
                self.responses.get_or_create_owned(&answer)
            }),
            response_seconds: self.response_seconds.get_or_create_owned(&name),
            refusals: self.refusals.clone(),
            instances: self.instances.get_or_create_owned(&name),
            instances_started: self.instances_started.get_or_create_owned(&name),
            memory_bytes: self.memory_bytes.get_or_create_owned(&name),
            name,
        }
    }

    /// A swap or a rollback ended.
    pub(super) fn swapped(&self, component: &str, done: bool) {
        let outcome = if done { "done" } else { "refused" };
        self.swaps.get_or_create(&Swap { component: component.to_owned(), outcome }).inc();
    }
}

/// Of one component, looked up once.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    name: Component,
    responses: [Counter; Class::ALL.len()],
    response_seconds: Histogram,
    refusals: Family<Refused, Counter>,
    instances: Gauge,
    instances_started: Counter,
    memory_bytes: Gauge,
}

impl Counters {
    /// A request was answered, so long after it came.
    pub(super) fn answered(&self, status: StatusCode, after: Duration) {
        if let Some(counter) = self.responses.get(Class::of(status) as usize) {
            counter.inc();
        }
        self.response_seconds.observe(after.as_secs_f64());
    }

    /// The host answered in place of the component.
    pub(super) fn refused(&self, reason: &'static str) {
        let component = self.name.component.clone();
        self.refusals.get_or_create(&Refused { component, reason }).inc();
    }

    /// An instance is made; it is alive until the guard drops.
    pub(super) fn instance(&self) -> InstanceCount {
        self.instances_started.inc();
        self.instances.inc();
        InstanceCount(self.instances.clone())
    }

    /// What the linear memories of an instance are added to.
    pub(super) fn memory(&self) -> Gauge {
        self.memory_bytes.clone()
    }
}

/// One living instance.
#[derive(Debug)]
pub(super) struct InstanceCount(Gauge);

impl Drop for InstanceCount {
    fn drop(&mut self) {
        self.0.dec();
    }
}
