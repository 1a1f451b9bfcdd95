//! The running agent.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::clock::{Clock, pause};
use crate::code_server::supervise;
use crate::config::{Config, ConfigError};
use crate::install::{Cache, Installer};
use crate::layout::Layout;
use crate::listener;
use crate::lock::Lock;
use crate::readiness;
use crate::routes::router;
use crate::saved::SavedFile;
use crate::server::{supervise_server, watch_readiness};
use crate::shell::watch_shell;

/// An agent that was killed may have been starting a process, which holds the lock until it becomes
/// another program: a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another agent serves this root.
    #[error("another agent{} already serves {root}", holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken {
        /// The root folder.
        root: PathBuf,
        /// Its process, where that can be known.
        holder: Option<i32>,
    },
    /// A folder or file cannot be used.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An agent that listens, and has not yet answered anything.
pub struct App {
    listener: TcpListener,
    router: Router,
    agent: Arc<Agent>,
    _lock: Lock,
}

impl App {
    /// Takes the root for itself and starts to listen.
    ///
    /// # Errors
    ///
    /// Another agent has the root, or a setting, a folder or the address cannot be used.
    pub async fn bind(config: Config, clock: Clock) -> Result<Self, StartError> {
        let io_error = |doing| move |source| StartError::Io { doing, source };

        let token = config.token.read()?;
        let layout = Layout::new(config.root.clone());
        layout.prepare().map_err(io_error("prepare the root folder"))?;
        let lock = lock(&layout).await?;
        layout
            .remove_leftovers()
            .map_err(io_error("remove what an interrupted installation left"))?;
        let saved =
            SavedFile::load(layout.saved()).map_err(io_error("read the saved configuration"))?;
        let listener = TcpListener::bind(config.listen).await.map_err(io_error("listen"))?;

        let installer = Installer {
            downloads: layout.downloads(),
            cache: config.artifact_cache.as_deref().and_then(Cache::open),
            stopping: CancellationToken::new(),
            turn: Arc::default(),
        };
        let agent = Arc::new(Agent::new(config, layout, clock, saved, installer));
        Ok(Self { listener, router: router(Arc::clone(&agent), token), agent, _lock: lock })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Goes on with the saved configuration and serves until `stop` is done. The workload keeps running: the
    /// next agent finds it.
    ///
    /// Dropping the future ends the agent's work without waiting for requests that are being answered.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let agent = self.agent;
        let stopping = agent.stopping.clone();
        let _guard = stopping.clone().drop_guard();

        let watchers = futures::future::join5(
            supervise(Arc::clone(&agent)),
            readiness::watch(Arc::clone(&agent)),
            supervise_server(Arc::clone(&agent)),
            watch_readiness(Arc::clone(&agent)),
            watch_shell(Arc::clone(&agent)),
        );
        let watchers_stop = stopping.clone();
        agent.tasks.spawn(async move { watchers_stop.run_until_cancelled(watchers).await });
        agent.resume();

        listener::serve(self.listener, self.router, stop).await;
        stopping.cancel();
        agent.tasks.close();
        agent.tasks.wait().await;
    }
}

async fn lock(layout: &Layout) -> Result<Lock, StartError> {
    let mut waited = Duration::ZERO;
    loop {
        let tried = Lock::try_acquire(&layout.lock());
        match tried.map_err(|source| StartError::Io { doing: "lock the root folder", source })? {
            Ok(lock) => return Ok(lock),
            Err(held) if waited >= LOCK_PATIENCE => {
                return Err(StartError::Taken {
                    root: layout.root().to_owned(),
                    holder: held.holder,
                });
            }
            Err(_) => pause(LOCK_POLL).await,
        }
        waited += LOCK_POLL;
    }
}
