//! An application that a test writes, of the components in `tests/components`, in the real embedded host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::Method;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use zlh_host_proxy::component_host::{ComponentHost, HostOptions, Limits};

use crate::http::{self, Reply};
use crate::{config, host};

/// A running application.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// The host itself.
    pub host: Arc<ComponentHost>,
    server: JoinHandle<()>,
    folder: TempDir,
}

/// An application that is not loaded yet.
#[derive(Debug, Default)]
pub struct AppOptions {
    /// `spin.toml` below its first table; `{probe}` and the like stand for components of
    /// `tests/components`.
    pub manifest: String,
    /// Values of its variables.
    pub variables: Vec<(&'static str, String)>,
    /// Files beside the manifest.
    pub files: Vec<(&'static str, &'static str)>,
    /// `runtime-config.toml`, which lies beside the manifest; none if it is empty.
    pub runtime_config: String,
    /// What all components may use.
    pub limits: Limits,
}

impl App {
    /// Loads and serves what a manifest says.
    pub async fn start(manifest: &str) -> Self {
        Self::of(AppOptions { manifest: manifest.to_owned(), ..AppOptions::default() }).await
    }

    /// Why a manifest does not load.
    pub async fn refused(manifest: &str) -> String {
        Self::refused_of(AppOptions { manifest: manifest.to_owned(), ..AppOptions::default() })
            .await
    }

    /// Why an application does not load.
    pub async fn refused_of(options: AppOptions) -> String {
        match Self::load(options).await {
            Ok(_) => panic!("it was loaded"),
            Err(error) => error,
        }
    }

    /// Loads and serves an application.
    pub async fn of(options: AppOptions) -> Self {
        match Self::load(options).await {
            Ok((host, folder)) => {
                let (address, server) = host::serve(Arc::clone(&host)).await;
                Self { address, host, server, folder }
            }
            Err(error) => panic!("the application does not load: {error}"),
        }
    }

    async fn load(options: AppOptions) -> Result<(Arc<ComponentHost>, TempDir), String> {
        let folder = config::scratch("fidelity");
        let app = folder.path().join("app");
        for (name, text) in options.files {
            let path = app.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        std::fs::create_dir_all(&app).expect("a folder");
        let mut manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = 'test'\nversion = '1.2.3'\n{}",
            options.manifest
        );
        for name in ["probe-p2", "probe", "wrapper", "asker", "answer"] {
            let file = component(name);
            manifest = manifest.replace(&format!("{{{name}}}"), &file.display().to_string());
        }
        std::fs::write(app.join("spin.toml"), manifest).expect("a manifest");
        let variables: BTreeMap<String, String> =
            options.variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let runtime_config = app.join("runtime-config.toml");
        std::fs::write(&runtime_config, &options.runtime_config).expect("a configuration");
        let loaded = host::try_load(HostOptions {
            manifest: app.join("spin.toml"),
            runtime_config: (!options.runtime_config.is_empty()).then_some(runtime_config),
            embedded_stores: &[],
            environment: |name| (name == "PROCESS_ONE").then(|| "of the process".to_owned()),
            state_dir: folder.path().join("state"),
            variables,
            limits: options.limits,
            allow_list: None,
        });
        Ok((loaded.await?, folder))
    }

    /// Where its manifest is.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// The answer to a GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, &[], Bytes::new()).await.expect("an answer")
    }

    /// The text of the answer to a GET, which must be 200.
    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.expect(200).text()
    }

    /// One request.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> std::io::Result<Reply> {
        let request = http::request(method, path, headers, None).map(|_| body);
        http::send(self.address, request).await
    }

    /// Begins a GET, and leaves the body to the test.
    pub async fn begin(&self, path: &str) -> Stream {
        let request = http::request(Method::GET, path, &[], None);
        let response = http::start(self.address, request).await.expect("an answer");
        Stream(response.into_body())
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A body on its way.
#[derive(Debug)]
pub struct Stream(Incoming);

impl Stream {
    /// Its next piece as text, nothing at its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn next(&mut self) -> Result<Option<String>, hyper::Error> {
        match self.0.frame().await {
            None => Ok(None),
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Reads to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn end(mut self) -> Result<(), hyper::Error> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// The file of a component in `tests/components`.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    let file = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    let file = config::root().join(file);
    assert!(file.is_file(), "{} is missing: run the tests with `cargo xtask test`", file.display());
    file
}
