//! Developer commands: `cargo xtask <command>`.

#![expect(clippy::print_stderr, reason = "a command line tool speaks to the person in front of it")]

mod artifacts;
mod build;
mod check;
mod coverage;
mod kubernetes;
mod layout;
mod new_component;
mod openapi;
mod setup;
mod shell;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of zlh")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and run the whole system here. What follows `--` goes to `zlh up`.
    Up {
        /// Flags of `zlh up`, such as `--listen 127.0.0.1:8080`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Build the components that spin.toml names, and the programs `zlh` and `zlh-agent`.
    Build {
        /// Optimised programs, in target/release.
        #[arg(long)]
        release: bool,
    },
    /// Fill the artifact store: code-server, Node and games, with their catalogues and hashes.
    Artifacts {
        /// Make them again even if they are there.
        #[arg(long)]
        force: bool,
    },
    /// Check, build, and run every kind of test; with a filter, only the tests whose name contains it.
    Test {
        /// Part of a test's name.
        filter: Option<String>,
    },
    /// Format, clippy natively and for wasm, docs, layout.
    Check,
    /// Write docs/openapi.json from the components' code.
    Openapi,
    /// Write the SpinApps and routes of deploy/kubernetes from spin.toml.
    Kubernetes,
    /// Exactly what CI runs.
    Ci,
    /// Write a component's folder, its stanza in spin.toml and its contract test.
    NewComponent {
        /// Lower-case letters, digits and `-`.
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Up { flags } => up::run(&workspace, &flags),
        Command::Build { release } => {
            setup::wasm_target()?;
            build::components(&workspace)?;
            build::programs(&workspace, release)
        }
        Command::Artifacts { force } => artifacts::make(&workspace, force),
        Command::Test { filter } => test::run(&workspace, filter.as_deref()),
        Command::Check => check::run(&workspace),
        Command::Openapi => openapi::run(&workspace),
        Command::Kubernetes => kubernetes::run(&workspace),
        Command::Ci => test::run(&workspace, None),
        Command::NewComponent { name } => new_component::run(&workspace, &name),
    }
}
