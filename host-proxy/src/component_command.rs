//! `zlh component`: what the private listener of a running `zlh` knows and does, for people and scripts.

mod client;
mod new;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use zlh_host_proxy::config::{Config, Flags, process_environment};

use self::client::Client;

#[derive(Subcommand)]
pub(crate) enum ComponentCommand {
    /// Lists what serves.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Shows one component: its file, imports, exports, and what it can go back to.
    Inspect {
        /// Its id in the manifest.
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Looks at a file without using it.
    Check {
        /// The `.wasm` file.
        file: PathBuf,
        /// Checks everything that a swap of this component would.
        #[arg(long = "as")]
        component: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Lets a file serve in the place of the present one, without dropping a request.
    Swap {
        /// Id of the component in the manifest.
        name: String,
        /// The `.wasm` file.
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Goes back to the file that served before.
    Rollback {
        /// Id of the component in the manifest.
        name: String,
        /// Goes back to the manifest's file as it is now, and forgets all swaps.
        #[arg(long)]
        to_manifest: bool,
        #[command(flatten)]
        at: At,
    },
    /// Writes a starting point that builds outside zlh's repository.
    New {
        /// Lower-case letters, digits and `-`; the folder gets this name.
        name: String,
        /// Another `identity`, for others to be composed with, in place of a component with routes.
        #[arg(long)]
        dependency: bool,
    },
}

/// Which `zlh` to speak to.
#[derive(Args)]
pub(crate) struct At {
    /// Data folder of the running `zlh` (ZLH_DATA_DIR; default `.zlh`): where its token and address are.
    #[arg(long)]
    data_dir: Option<String>,
    /// Private listener (ZLH_ADMIN_LISTEN; default what the data folder says).
    #[arg(long)]
    admin_listen: Option<String>,
    /// Writes the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl At {
    fn client(self) -> anyhow::Result<Client> {
        let flags = Flags::default().with("--data-dir", "ZLH_DATA_DIR", self.data_dir).with(
            "--admin-listen",
            "ZLH_ADMIN_LISTEN",
            self.admin_listen,
        );
        let (environment, variable) = process_environment();
        Client::new(&Config::from_vars(&flags, &environment, variable)?)
    }
}

/// Does it, and answers what to print.
pub(crate) async fn run(command: ComponentCommand) -> anyhow::Result<String> {
    let (json, answer, shown): (_, _, fn(&Value) -> String) = match command {
        ComponentCommand::New { name, dependency } => return new::write(&name, dependency),
        ComponentCommand::List { at } => (at.json, at.client()?.get("").await?, table::list),
        ComponentCommand::Inspect { name, at } => {
            let path = format!("/{}", client::checked(&name)?);
            (at.json, at.client()?.get(&path).await?, table::detail)
        }
        ComponentCommand::Check { file, component, at } => {
            let path = match component {
                Some(component) => format!("/check?as={}", client::checked(&component)?),
                None => "/check".to_owned(),
            };
            let wasm = client::read(&file).await?;
            (at.json, at.client()?.post(&path, wasm).await?, table::file)
        }
        ComponentCommand::Swap { name, file, at } => {
            let path = format!("/{}/swap", client::checked(&name)?);
            let wasm = client::read(&file).await?;
            (at.json, at.client()?.post(&path, wasm).await?, table::swapped)
        }
        ComponentCommand::Rollback { name, to_manifest, at } => {
            let query = if to_manifest { "?to=manifest" } else { "" };
            let path = format!("/{}/rollback{query}", client::checked(&name)?);
            (at.json, at.client()?.post(&path, Vec::new()).await?, table::swapped)
        }
    };
    Ok(if json { answer.to_string() } else { shown(&answer) })
}
