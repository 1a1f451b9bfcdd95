//! Makes a game container what its configuration says.

use std::sync::Arc;

use zlh_agent_protocol::config::GameConfig;

use super::shop::Shop;
use super::{ProvisionError, io_error};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::facts::Event;
use crate::saved::Saved;
use crate::server::Launch;
use crate::workload;

pub(super) async fn provision(
    agent: &Arc<Agent>,
    saved: Saved,
    config: GameConfig,
    resumed: bool,
) -> Result<(), ProvisionError> {
    let mut shop = Shop::new(agent, &config.artifact_base_url)?;
    shop.step("prepare the server's user and folder".to_owned());
    let workload = {
        let agent = Arc::clone(agent);
        blocking(move || {
            let workload = workload::resolve(&agent.config)?;
            agent
                .layout
                .prepare_server(workload.ids)
                .map_err(io_error("prepare the server's folder"))?;
            Ok::<_, ProvisionError>(workload)
        })
        .await?
    };

    let (version, artifact) = shop.game(&config, saved.game).await?;
    let runtime = match &version.runtime {
        Some(runtime) => Some(shop.runtime(&runtime.id, &runtime.version).await?),
        None => None,
    };
    agent.facts.post(Event::RuntimeInstalled);
    let user = (workload, agent.config.user.as_str());
    let known = version.clone();
    let launch = Launch::new(config, version, &agent.layout, user, &artifact, runtime.as_ref())?;
    agent
        .save(|saved| saved.game = Some(known))
        .await
        .map_err(io_error("save what was installed"))?;

    if !resumed && let Some(before) = agent.server.launch() {
        shop.step("end the server as it was".to_owned());
        agent.end_server(&before, false).await?;
    }
    agent.server.set_launch(launch);
    let Some(launch) = agent.server.launch() else { return Ok(()) };
    shop.step("start the server".to_owned());
    if resumed {
        agent.resume_server(&launch).await?;
    } else {
        agent.start_server(&launch).await?;
    }
    Ok(())
}
