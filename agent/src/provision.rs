//! Makes a container what its configuration says. Every step is skipped where it is done already, so
//! this also runs whenever the agent starts.

mod game;
mod shop;

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use zlh_agent_protocol::agent::AgentConfig;
use zlh_agent_protocol::config::{DevConfig, GameConfig};
use zlh_ids::Vmid;

use crate::agent::Agent;
use crate::blocking::blocking;
use crate::clock;
use crate::code_server::{CodeServerError, Launch};
use crate::facts::Event;
use crate::install::{InstallError, Store, is_name};
use crate::saved::Saved;
use crate::server::{SpecError, StartError};
use crate::shell::provision_shell;
use crate::workload::{self, WorkloadError};
use shop::Shop;

/// Why the container is not what it shall be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Server(#[from] StartError),
    #[error(transparent)]
    CodeServer(#[from] CodeServerError),
    #[error("the installation was aborted")]
    Aborted,
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Refuses at once what can be refused without asking the artifact store.
pub(crate) fn check(config: &AgentConfig, vmid: Vmid) -> Result<(), String> {
    if config.vmid() != vmid {
        return Err(format!("this is container {vmid}, not {}", config.vmid()));
    }
    let names = match config {
        AgentConfig::Dev(dev) => vec![("runtime", &dev.runtime), ("version", &dev.version)],
        AgentConfig::Game(game) => {
            check_game(game)?;
            vec![("game", &game.game), ("variant", &game.variant), ("version", &game.version)]
        }
    };
    for (field, value) in names {
        if !is_name(value) {
            return Err(format!("`{field}` is not a name that a catalogue can have"));
        }
    }
    Store::new(config.artifact_base_url(), Duration::ZERO)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// What reaches a command line, a file or the name of one.
fn check_game(game: &GameConfig) -> Result<(), String> {
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !(1..=64).contains(&game.world.len()) || !plain(&game.world) || game.world.starts_with('-') {
        return Err("`world` is not 1 to 64 letters, digits, `-` and `_`".to_owned());
    }
    let secrets = game.admin_user.iter().chain(game.admin_pass.iter().map(|pass| &pass.0));
    for text in secrets {
        if text.len() > 128 || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err("`admin_user` and `admin_pass` have no control characters, no leading `-` and at most \
                        128 bytes"
                .to_owned());
        }
    }
    let pauses = &game.crash_policy.restart_after_seconds;
    if pauses.len() > 16 || pauses.iter().any(|pause| *pause > 3600) {
        return Err("`crash_policy` has at most 16 pauses of at most 3600 seconds".to_owned());
    }
    Ok(())
}

/// Brings it all about. `resumed`: an earlier agent was told the same.
///
/// Dropping the future leaves a state from which it can be called again.
pub(crate) async fn provision(agent: &Arc<Agent>, resumed: bool) -> Result<(), ProvisionError> {
    let Some(saved) = agent.saved.get() else { return Ok(()) };
    match saved.config.clone() {
        AgentConfig::Dev(config) => dev(agent, saved, &config).await,
        AgentConfig::Game(config) => game::provision(agent, saved, config, resumed).await,
    }
}

async fn dev(agent: &Arc<Agent>, saved: Saved, config: &DevConfig) -> Result<(), ProvisionError> {
    let mut shop = Shop::new(agent, &config.artifact_base_url)?;

    agent.facts.post(Event::Step(format!("prepare user {} and workspace", agent.config.user)));
    let workload = {
        let agent = Arc::clone(agent);
        blocking(move || {
            let workload = workload::resolve(&agent.config)?;
            agent
                .layout
                .prepare_home(workload.ids)
                .map_err(io_error("prepare home and workspace"))?;
            Ok::<_, ProvisionError>(workload)
        })
        .await?
    };

    let runtime = shop.runtime(&config.runtime, &config.version).await?;
    agent.facts.post(Event::RuntimeInstalled);
    provision_shell(agent, workload, &runtime)
        .await
        .map_err(io_error("make the folder of the shell"))?;

    let launch = if config.enable_code_server {
        let code_server = shop.code_server(saved.code_server_version.as_deref()).await?;
        agent.facts.post(Event::CodeServerInstalled);
        let how = (&agent.config.code_server_listen, &agent.config.code_server_args);
        let user = &agent.config.user;
        let launch = Launch::new(
            agent.config.vmid,
            &agent.layout,
            how,
            workload,
            user,
            &code_server,
            &runtime,
        );
        Some(Arc::new(launch))
    } else {
        None
    };
    agent.facts.post(Event::Provisioned);
    let now = clock::text(&agent.clock);
    agent
        .save(|saved| saved.dev_ready_at = saved.dev_ready_at.take().or(Some(now)))
        .await
        .map_err(io_error("save that the container is provisioned"))?;

    let before = {
        let mut current = agent.launch.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, launch.clone())
    };
    match (launch, before) {
        (Some(launch), _) if saved.code_server_stopped => agent.code_server.stop(&launch).await?,
        (Some(launch), _) => {
            agent.facts.post(Event::Step("start code-server".to_owned()));
            agent.code_server.ensure(&launch).await?;
        }
        (None, Some(before)) => agent.code_server.stop(&before).await?,
        (None, None) => {}
    }
    Ok(())
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ProvisionError {
    move |source| ProvisionError::Io { doing, source }
}
