use async_trait::async_trait;
use http::StatusCode;
use zlh_agent_protocol::agent::{AgentConfig, Ready, Status};
use zlh_agent_protocol::internal::{HostPower, Machine};
use zlh_ids::{ContainerType, InstanceId, Vmid};

use super::*;
use crate::agent_client::AgentFault;

struct Scripted {
    health: Result<(), AgentFault>,
    ready: Result<bool, AgentFault>,
}

#[async_trait]
impl AgentApi for Scripted {
    async fn health(&self, _: &AgentAddress) -> Result<(), AgentFault> {
        self.health.clone()
    }

    async fn ready(&self, agent: &AgentAddress) -> Result<Ready, AgentFault> {
        self.ready.clone().map(|ready| Ready {
            vmid: agent.vmid,
            ready,
            ready_source: None,
            ready_error: (!ready).then(|| "code-server is down".to_owned()),
        })
    }

    async fn status(&self, _: &AgentAddress) -> Result<Status, AgentFault> {
        Err(AgentFault::Refused { status: StatusCode::NOT_FOUND, message: "no".to_owned() })
    }

    async fn configure(&self, _: &AgentAddress, _: &AgentConfig) -> Result<(), AgentFault> {
        unreachable!("a poller changes nothing")
    }

    async fn halt(&self, _: &AgentAddress) -> Result<bool, AgentFault> {
        unreachable!("a poller changes nothing")
    }
}

async fn observed(health: Result<(), AgentFault>, ready: Result<bool, AgentFault>) -> Observation {
    let route = AgentRoute {
        vmid: Vmid::new(6001).unwrap(),
        instance_id: InstanceId::random(),
        ctype: ContainerType::Dev,
        agent_address: "127.0.0.1:1".to_owned(),
        power: HostPower::default(),
        ide_address: None,
        machine: Machine::default(),
    };
    observe(Arc::new(Scripted { health, ready }), route).await
}

#[tokio::test]
async fn only_semantic_readiness_is_readiness() {
    let wrong = AgentFault::Wrong("the agent of container 7 answered".to_owned());

    assert!(observed(Ok(()), Ok(true)).await.ready);
    assert!(!observed(Ok(()), Ok(false)).await.ready);
    assert!(!observed(Ok(()), Err(wrong.clone())).await.ready);
    let silent = observed(Err(wrong), Ok(true)).await;
    assert!(!silent.ready && !silent.online);
}

#[test]
fn jitter_stays_within_a_tenth() {
    for _ in 0..1000 {
        let interval = jittered(Duration::from_secs(10));
        assert!((9_000..=11_000).contains(&interval.as_millis()), "{interval:?}");
    }
}
