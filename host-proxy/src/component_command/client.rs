//! Speaks to the private listener.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use zlh_host_proxy::config::Config;
use zlh_host_proxy::data_dir::ADMIN_ADDRESS;
use zlh_host_proxy::secrets::ADMIN_TOKEN;

const MAX_ANSWER_BYTES: usize = 1 << 20;

pub(super) struct Client {
    address: SocketAddr,
    token: PathBuf,
}

impl Client {
    /// Asks where the settings say, else where the `zlh` of the data folder said that it listens.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let noted = std::fs::read_to_string(config.data_dir.join(ADMIN_ADDRESS));
        let noted = noted.ok().and_then(|text| text.trim().parse().ok());
        let address = config.components_admin_listen.or(noted).unwrap_or(config.admin_listen);
        Ok(Self { address, token: config.data_dir.join(ADMIN_TOKEN) })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let token = std::fs::read_to_string(&self.token).with_context(|| {
            format!("cannot read the admin token {} (`--data-dir`)", self.token.display())
        })?;
        self.call(Method::POST, path, Some(token.trim()), body.into()).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<Value> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/components{path}"))
            .header(HOST, self.address.to_string());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body))?;
        let stream = TcpStream::connect(self.address).await.with_context(|| {
            format!("no zlh listens on {} (`--data-dir`, `--admin-listen`)", self.address)
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.context("zlh did not answer")?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let answer = answer.map_err(anyhow::Error::from_boxed)?.to_bytes();
        let answer: Value =
            serde_json::from_slice(&answer).with_context(|| format!("zlh answered {status}"))?;
        if !status.is_success() {
            bail!(
                "{}",
                answer
                    .get("error")
                    .and_then(Value::as_str)
                    .unwrap_or("zlh refused and gave no reason")
            );
        }
        Ok(answer)
    }
}

pub(super) async fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))
}

/// A name that can stand in a path.
pub(super) fn checked(name: &str) -> anyhow::Result<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        bail!("`{name}` is not a component's name");
    }
    Ok(name)
}
