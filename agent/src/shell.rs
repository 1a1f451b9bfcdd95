//! The shell of a dev container: one, for all who look at its console, and for a minute after the last of
//! them went away.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use zlh_agent_protocol::game::Readiness;
use zlh_ids::Vmid;

use crate::agent::Agent;
use crate::backlog::Backlog;
use crate::blocking::blocking;
use crate::clock::pause;
use crate::code_server::container_mark;
use crate::dev_environment::{dev_environment, shell};
use crate::holder::wire::Order;
use crate::install::Installed;
use crate::layout::Layout;
use crate::server::{Run, RunError};
use crate::workload::Workload;

/// How long a shell waits for a viewer whose connection broke.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between SIGKILL and the end of everything that was started in it.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// A shell has nothing to become ready by.
const NEVER: Readiness = Readiness::Log { contains: Vec::new() };

/// The shell, shared.
#[derive(Debug)]
pub(crate) struct Shell {
    /// How it is started, once the container is provisioned.
    order: Mutex<Option<Order>>,
    open: tokio::sync::Mutex<Option<Arc<Run>>>,
    viewers: watch::Sender<usize>,
    pub(crate) console: Arc<Backlog>,
}

/// Somebody who looks at it; it stays for as long as this does.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) run: Arc<Run>,
    _count: Count,
}

#[derive(Debug)]
struct Count(watch::Sender<usize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            order: Mutex::default(),
            open: tokio::sync::Mutex::default(),
            viewers: watch::Sender::new(0),
            console: Arc::new(Backlog::new(0)),
        }
    }

    /// # Errors
    ///
    /// The folder of its socket cannot be made.
    pub(crate) fn provision(
        &self,
        vmid: Vmid,
        layout: &Layout,
        (workload, user): (Workload, &str),
        runtime: &Installed,
    ) -> io::Result<()> {
        let state = layout.shell_state();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state)?;
        let mut environment: std::collections::BTreeMap<String, String> =
            dev_environment(layout, user, runtime)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned()))
                .collect();
        let mark = container_mark(vmid, layout.root());
        for (name, value) in mark.split_once('=').into_iter().chain([("ZLH_WORKLOAD", "shell")]) {
            environment.insert(name.to_owned(), value.to_owned());
        }
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(Order {
            run: 0,
            program: shell().into(),
            arguments: vec!["-l".to_owned()],
            environment,
            folder: layout.workspace(),
            ids: workload.switch.then_some(workload.ids),
            begin: 0,
            state,
        });
        Ok(())
    }

    pub(crate) fn is_there(&self) -> bool {
        self.order().is_some()
    }

    fn order(&self) -> Option<Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shell that runs, or a new one.
    ///
    /// # Errors
    ///
    /// It cannot be started, or there is nothing to start it by.
    pub(crate) async fn view(&self) -> Result<Viewer, RunError> {
        let refused = || RunError::Refused("the container is not provisioned yet".to_owned());
        let order = self.order().ok_or_else(refused)?;
        // Before the lock: whoever closes it looks at the count within.
        self.viewers.send_modify(|count| *count += 1);
        let count = Count(self.viewers.clone());
        let mut open = self.open.lock().await;
        let alive = open.take().filter(|run| run.ended().now_or_never().is_none());
        let run = match alive {
            Some(run) => run,
            None => match Run::find(&order.state, &self.console, &NEVER).await {
                Some(run) => Arc::new(run),
                None => Arc::new(self.start(order).await?),
            },
        };
        *open = Some(Arc::clone(&run));
        Ok(Viewer { run, _count: count })
    }

    async fn start(&self, order: Order) -> Result<Run, RunError> {
        Run::start(Order { begin: self.console.end(), ..order }, &self.console, &NEVER).await
    }

    /// Ends a shell that nobody looks at, of this agent's or of one before it.
    async fn close(&self) {
        let mut open = self.open.lock().await;
        if *self.viewers.borrow() > 0 {
            return;
        }
        let run = match (open.take(), self.order()) {
            (Some(run), _) => Some(run),
            (None, Some(order)) => {
                Run::find(&order.state, &self.console, &NEVER).await.map(Arc::new)
            }
            (None, None) => None,
        };
        if let Some(run) = run {
            run.kill().await;
            if tokio::time::timeout(KILL_LIMIT, run.ended()).await.is_err() {
                tracing::warn!("a shell that nobody looks at does not end");
                *open = Some(run);
            }
        }
    }
}

/// Ends the shell when nobody has looked at it for [`PATIENCE`], until it is dropped.
pub(crate) async fn watch_shell(agent: Arc<Agent>) {
    let mut viewers = agent.shell.viewers.subscribe();
    loop {
        if viewers.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        tokio::select! {
            () = pause(PATIENCE) => agent.shell.close().await,
            _ = viewers.changed() => continue,
        }
        if viewers.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
    }
}

/// Runs a blocking part of [`Shell::provision`] where that may block.
pub(crate) async fn provision_shell(
    agent: &Arc<Agent>,
    workload: Workload,
    runtime: &Installed,
) -> io::Result<()> {
    let (agent, runtime) = (Arc::clone(agent), runtime.clone());
    blocking(move || {
        let user = (workload, agent.config.user.as_str());
        agent.shell.provision(agent.config.vmid, &agent.layout, user, &runtime)
    })
    .await
}
