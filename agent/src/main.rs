//! The `zlh-agent` command: settings, logging, signals and exit codes.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zlh_agent::config::{Config, ConfigError, LogFormat};
use zlh_agent::{App, StartError, clock, down, hold};

/// Settings are wrong; starting again does not help.
const EXIT_CONFIG: u8 = 2;
/// Another agent serves this root.
const EXIT_TAKEN: u8 = 3;

/// The agent of one container. Its settings come from the environment.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the control plane (the default).
    Serve,
    /// Ends the agent of this root, if one runs, and every process of the container.
    Down,
    /// Owns one run of a game server; for the agent's own use.
    #[command(hide = true)]
    Hold,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whoever starts the agent may have any; folders and programs must be readable by the workload.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if matches!(arguments.command, Some(Command::Hold)) {
        return if hold().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let config = Config::from_env();
    log_to_stderr(config.as_ref().map_or(LogFormat::Text, |config| config.log_format));
    match config.map_err(anyhow::Error::from).and_then(|config| run(arguments.command, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    }
}

fn run(command: Option<Command>, config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // An agent serves one poller; many of them share a machine.
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(async {
        match command.unwrap_or(Command::Serve) {
            Command::Serve => serve(config).await,
            Command::Down => down(&config).await.map_err(Into::into),
            Command::Hold => Ok(()),
        }
    });
    // An unpacking that was interrupted ends with the process; the next start removes what is left.
    runtime.shutdown_background();
    done
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let vmid = config.vmid;
    let app = App::bind(config, clock::system()).await?;
    tracing::info!(container.vmid = %vmid, port = app.local_addr()?.port(), "listening");
    app.serve(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the workload keeps running");
    })
    .await;
    Ok(())
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<StartError>() {
        Some(StartError::Taken { .. }) => ExitCode::from(EXIT_TAKEN),
        Some(StartError::Config(_)) => ExitCode::from(EXIT_CONFIG),
        _ if error.is::<ConfigError>() => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::FAILURE,
    }
}

fn log_to_stderr(format: LogFormat) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}
