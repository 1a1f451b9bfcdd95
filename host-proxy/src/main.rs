//! The `zlh` command: flags, logging, signals and exit codes.

mod component_command;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use zlh_agent_protocol::internal::{CreateUser, CreatedUser};
use zlh_authn::token::random_base64;
use zlh_host_proxy::app::{self, App, Backend, ComponentsApp};
use zlh_host_proxy::bootstrap::{self, Credentials};
use zlh_host_proxy::config::{
    Config, ConfigError, Flags, LogSettings, TraceSettings, process_environment,
};
use zlh_host_proxy::doctor;
use zlh_host_proxy::hand_over::{self, Named, Program};
use zlh_host_proxy::shutdown::Shutdown;
use zlh_host_proxy::traces::{self, Traces};

/// How long threads may take to end before another program goes on.
const LAST_THREADS: Duration = Duration::from_secs(5);

/// Hosting control plane: game servers and dev containers on your own hardware.
#[derive(Parser)]
#[command(name = "zlh", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole control plane on this machine.
    Up {
        #[command(flatten)]
        flags: CommonFlags,
        /// Writes one line of JSON once everything answers.
        #[arg(long)]
        json: bool,
    },
    /// Runs everything but the components, which are at a URL.
    Proxy {
        /// Base URL of the components, such as `http://127.0.0.1:3000`.
        #[arg(long)]
        api: String,
        #[command(flatten)]
        flags: CommonFlags,
        /// Writes one line of JSON once everything answers.
        #[arg(long)]
        json: bool,
    },
    /// Runs only the components, as `spin up` would. Keep the listener private: it serves `/internal`.
    Components {
        #[command(flatten)]
        flags: CommonFlags,
        /// Writes one line of JSON once it listens.
        #[arg(long)]
        json: bool,
    },
    /// Prints what an external Spin must be told, as the lines of an environment file. Secrets are in it.
    Variables {
        #[command(flatten)]
        flags: CommonFlags,
    },
    /// Brings the database up to date.
    Migrate {
        /// Base URL of the components; without it they run in this process.
        #[arg(long)]
        api: Option<String>,
        #[command(flatten)]
        flags: CommonFlags,
    },
    /// Accounts.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Shows and swaps the components of a running zlh.
    Component {
        #[command(subcommand)]
        command: component_command::ComponentCommand,
    },
    /// Says of each thing that `zlh up` needs whether it is right, and if not, what to do.
    Doctor {
        #[command(flatten)]
        flags: CommonFlags,
        /// Writes the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stops every container of this machine. zlh itself must not run.
    Down {
        #[command(flatten)]
        flags: CommonFlags,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Makes an account.
    Create {
        /// Address to log in with.
        #[arg(long)]
        email: String,
        /// Name to log in with.
        #[arg(long)]
        username: String,
        /// `user` or `admin`.
        #[arg(long, default_value = "user")]
        role: String,
        /// Reads the password from standard input; without it one is generated and shown.
        #[arg(long)]
        password_stdin: bool,
        /// Base URL of the components; without it they run in this process.
        #[arg(long)]
        api: Option<String>,
        #[command(flatten)]
        flags: CommonFlags,
    },
}

/// Each stands for a variable and wins over it.
#[derive(Args)]
struct CommonFlags {
    /// Folder of everything that lasts (ZLH_DATA_DIR; default `.zlh`).
    #[arg(long)]
    data_dir: Option<String>,
    /// Public listener (ZLH_LISTEN; default 127.0.0.1:8080).
    #[arg(long)]
    listen: Option<String>,
    /// Listener of IDEs below `/__ide/`, or `off` (ZLH_IDE_LISTEN; default `off`, and 127.0.0.1:8081 with
    /// DEV_IDE_RETURN_HOSTED_URL=false).
    #[arg(long)]
    ide_listen: Option<String>,
    /// Private listener of health and metrics (ZLH_ADMIN_LISTEN; default 127.0.0.1:8082).
    #[arg(long)]
    admin_listen: Option<String>,
    /// Private listener of artifacts (ZLH_ARTIFACT_LISTEN; default 127.0.0.1:8083).
    #[arg(long)]
    artifact_listen: Option<String>,
    /// Private listener for those who cannot reach agents themselves, or `off` (ZLH_GATEWAY_LISTEN; default
    /// `off`).
    #[arg(long)]
    gateway_listen: Option<String>,
    /// Folder of artifacts (ZLH_ARTIFACTS; default `artifacts`).
    #[arg(long)]
    artifacts: Option<String>,
    /// Spin manifest of the components (ZLH_MANIFEST; default `spin.toml`).
    #[arg(long)]
    manifest: Option<String>,
    /// Spin's runtime configuration: databases and key-value stores by label (ZLH_RUNTIME_CONFIG).
    #[arg(long)]
    runtime_config: Option<String>,
}

impl CommonFlags {
    fn read(self) -> Result<Config, ConfigError> {
        let flags = Flags::default()
            .with("--data-dir", "ZLH_DATA_DIR", self.data_dir)
            .with("--listen", "ZLH_LISTEN", self.listen)
            .with("--ide-listen", "ZLH_IDE_LISTEN", self.ide_listen)
            .with("--admin-listen", "ZLH_ADMIN_LISTEN", self.admin_listen)
            .with("--artifact-listen", "ZLH_ARTIFACT_LISTEN", self.artifact_listen)
            .with("--gateway-listen", "ZLH_GATEWAY_LISTEN", self.gateway_listen)
            .with("--artifacts", "ZLH_ARTIFACTS", self.artifacts)
            .with("--manifest", "ZLH_MANIFEST", self.manifest)
            .with("--runtime-config", "ZLH_RUNTIME_CONFIG", self.runtime_config);
        let (environment, variable) = process_environment();
        Config::from_vars(&flags, &environment, variable)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = in_runtime(cli.command);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "zlh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(command: Command) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
        .and_then(|runtime| {
            let done = runtime.block_on(async {
                let traces = start_log()?;
                let done = run(command).await;
                if let Some(traces) = traces {
                    traces.end().await;
                }
                done
            });
            let Some((program, listeners)) = done? else {
                // What still runs has been given its time.
                runtime.shutdown_background();
                return Ok(());
            };
            // No other thread may close a file meanwhile: its number may be one that is handed over.
            runtime.shutdown_timeout(LAST_THREADS);
            Err(program.become_it(listeners)).context("the program on disk does not start")
        })
}

/// The program that goes on, and the listeners that were kept for it.
type Successor = Option<(Program, Named)>;

async fn run(command: Command) -> anyhow::Result<Successor> {
    match command {
        Command::Up { flags, json } => return up(flags.read()?, Backend::Embedded, json).await,
        Command::Proxy { api, flags, json } => {
            return up(flags.read()?, Backend::Remote(api), json).await;
        }
        Command::Components { flags, json } => return components(flags.read()?, json).await,
        Command::Variables { flags } => variables(&flags.read()?),
        Command::Migrate { api, flags } => migrate(&flags.read()?, &backend(api)).await,
        Command::User { command } => create_user(command).await,
        Command::Component { command } => print(&component_command::run(command).await?),
        Command::Doctor { flags, json } => doctor(flags, json).await,
        Command::Down { flags } => down(&flags.read()?).await,
    }
    .map(|()| None)
}

/// What scripts wait for; the fields stay in this order.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    url: String,
    admin_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ide_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<&'a Credentials>,
}

async fn up(config: Config, backend: Backend, json: bool) -> anyhow::Result<Successor> {
    let program = Program::of_this_process()?;
    tokio::spawn(hand_over::collect_children(hand_over::inherited_children()));
    let shutdown = Shutdown::on_signal(config.limits.drain_delay, program.clone())?;
    raise_file_limit();
    let app = tokio::select! {
        app = App::bind(config, backend) => app?,
        () = shutdown.ended() => return Ok(None),
    };
    let addresses = app.addresses();
    let (url, ide_url) = (app::url(addresses.public), addresses.tunnel.map(app::url));
    let admin_url = app::url(addresses.admin);
    if json {
        let credentials = app.credentials();
        let line = Ready { ready: true, url, admin_url, ide_url, credentials };
        print(&serde_json::to_string(&line)?)?;
    } else {
        print(&format!("zlh is at {url}"))?;
        if let Some(credentials) = app.credentials() {
            print(&format!(
                "Log in as {} with the password {} (it is not shown again)",
                credentials.email, credentials.password
            ))?;
        }
    }
    app.credentials_shown()?;
    let kept = app.serve(shutdown).await;
    tracing::info!("ended; containers keep running, `zlh down` would stop them");
    Ok(kept.map(|listeners| (program, listeners)))
}

async fn components(config: Config, json: bool) -> anyhow::Result<Successor> {
    let program = Program::of_this_process()?;
    let shutdown = Shutdown::on_signal(config.limits.drain_delay, program.clone())?;
    raise_file_limit();
    let app = ComponentsApp::bind(config).await?;
    let url = app::url(app.address());
    print(&match json {
        true => format!(r#"{{"ready":true,"url":"{url}"}}"#),
        false => format!("components are at {url}"),
    })?;
    Ok(app.serve(shutdown).await.map(|listeners| (program, listeners)))
}

fn variables(config: &Config) -> anyhow::Result<()> {
    for (name, value) in app::spin_variables(config)? {
        print(&format!("SPIN_VARIABLE_{}='{value}'", name.to_ascii_uppercase()))?;
    }
    Ok(())
}

async fn migrate(config: &Config, backend: &Backend) -> anyhow::Result<()> {
    let api = app::internal_api(config, backend).await?;
    let migrated = bootstrap::migrate(&api).await?;
    for name in &migrated.applied {
        print(&format!("applied {name}"))?;
    }
    print(&format!("the schema is at version {}", migrated.version))
}

async fn create_user(command: UserCommand) -> anyhow::Result<()> {
    let UserCommand::Create { email, username, role, password_stdin, api, flags } = command;
    let config = flags.read()?;
    if !matches!(role.as_str(), "user" | "admin") {
        bail!("`--role` is wrong: it must be `user` or `admin`");
    }
    let password = match password_stdin {
        true => {
            let mut text = String::new();
            std::io::stdin()
                .take(1024)
                .read_to_string(&mut text)
                .context("no password on stdin")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        false => random_base64::<18>()?,
    };
    let api = app::internal_api(&config, &backend(api)).await?;
    bootstrap::migrate(&api).await?;
    let user = CreateUser { email, username, password, role };
    let created: CreatedUser = api.post("/internal/users", &user).await?;
    print(&format!("made the {} {} ({})", user.role, user.email, created.user_id))?;
    if !password_stdin {
        print(&format!("its password is {} (it is not shown again)", user.password))?;
    }
    Ok(())
}

async fn doctor(flags: CommonFlags, json: bool) -> anyhow::Result<()> {
    let report = doctor::examine(flags.read()).await;
    print(&if json { serde_json::to_string(&report)? } else { report.table() })?;
    if !report.ok {
        bail!("something is wrong");
    }
    Ok(())
}

async fn down(config: &Config) -> anyhow::Result<()> {
    let (_data, driver) = app::local_containers(config)?;
    let count = driver.stop_all().await?;
    print(&format!("stopped the containers of this machine: {count}"))
}

fn backend(api: Option<String>) -> Backend {
    api.map_or(Backend::Embedded, Backend::Remote)
}

/// For the user, on standard output; everything else is log, on standard error.
fn print(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}

fn start_log() -> anyhow::Result<Option<Traces>> {
    let LogSettings { filter, json } = LogSettings::from_environment()?;
    let traces = Traces::start(&TraceSettings::from_environment())?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match json {
        true => lines.json().boxed(),
        false => lines.boxed(),
    };
    // Without the hint, spans are made for every call between guest and host, only to be filtered out.
    let no_traces = filter_fn(|metadata| metadata.target() != traces::TARGET)
        .with_max_level_hint(LevelFilter::TRACE);
    let mut layers = vec![lines.with_filter(filter.and(no_traces)).boxed()];
    // An absent layer in place of none would ask for every span, too.
    layers.extend(traces.as_ref().map(|traces| traces.layer().boxed()));
    tracing_subscriber::registry().with(layers).init();
    Ok(traces)
}

/// Every connection is a file; the soft limit is often 1024 where the hard one is not.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
