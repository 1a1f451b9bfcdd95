//! The built components in the real embedded host, without the rest of the system around them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::uri::Scheme;
use ::http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zlh_agent_protocol::artifact::{
    Artifact, DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH, Package,
};
use zlh_authn::token::{Claims, SigningKeys, TokenKind, generate_key};
use zlh_host_proxy::component_host::{ComponentHost, HostOptions, Limits, RequestOrigin};

use crate::api::{Api, PASSWORD, Session, Started, dev_container, game_server};
use crate::config;
use crate::databases::{self, Assigned};
use crate::http::Reply;
use crate::ports::PortSlice;
use crate::stub::Stub;

/// Compiling is done once: the code is shared by all tests of a process, and two at once would be in each
/// other's way.
static LOADING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Components that answer on a listener, with a database of their own and keys that the test has.
pub struct Host {
    /// Every route of the components, internal ones included.
    pub api: Api,
    keys: SigningKeys,
    ports: PortSlice,
    server: JoinHandle<()>,
    /// Where its data is, if not in its folder.
    assigned: Option<Assigned>,
    _artifacts: Stub,
    folder: TempDir,
}

impl Host {
    /// Loads what spin.toml names and brings the schema up to date.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, some variables being others.
    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::start_on(databases::assigned().await, variables).await
    }

    /// The same on these databases; on none of them, its data is in its folder.
    pub async fn start_on(assigned: Option<Assigned>, variables: &[(&str, &str)]) -> Self {
        let host = Self::load_on(assigned, variables).await;
        host.internal(Method::POST, "/internal/migrate", None).await.expect(200);
        host
    }

    /// The same without a schema.
    pub async fn load_on(assigned: Option<Assigned>, variables: &[(&str, &str)]) -> Self {
        let folder = config::scratch("contract");
        let ports = PortSlice::take();
        let artifacts = Stub::start(artifact_store).await;
        let pairs = TokenKind::ALL.map(|kind| (kind, generate_key(kind).expect("a key")));
        let private = |kinds: &[TokenKind]| {
            let keys = pairs.iter().filter(|(kind, _)| kinds.contains(kind));
            Value::from_iter(keys.map(|(_, pair)| pair.signing.clone())).to_string()
        };
        let public: Vec<_> = pairs.iter().map(|(_, pair)| pair.public.clone()).collect();
        let containers = ports.containers();

        let mut all: BTreeMap<String, String> = [
            ("token_public_keys", json!({ "keys": public }).to_string()),
            ("access_signing_keys", private(&[TokenKind::Access])),
            (
                "stream_signing_keys",
                private(&[
                    TokenKind::DevIde,
                    TokenKind::Console,
                    TokenKind::Upload,
                    TokenKind::Codex,
                ]),
            ),
            ("agent_token_secret", "a secret of forty-three characters, for tests".to_owned()),
            (
                "agents_network",
                format!("http://127.0.0.1:{}..{}", containers.start(), containers.end() + 1),
            ),
            ("artifact_base_url", format!("http://{}", artifacts.address)),
            ("port_range", format!("{}-{}", containers.start(), containers.end())),
            ("dev_ide_host_suffix", "ide.localhost:8080".to_owned()),
            ("dev_ide_public_scheme", "http".to_owned()),
            ("dev_ide_return_hosted_url", "true".to_owned()),
            ("api_auth_ttl_seconds", "3600".to_owned()),
            ("api_auth_ide_ttl_seconds", "300".to_owned()),
            ("allowed_origins", String::new()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(assigned) = &assigned {
            all.insert("database_url".to_owned(), assigned.postgres_url.clone());
            all.insert("database_host".to_owned(), assigned.postgres_host.clone());
        }
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));

        let options = HostOptions {
            manifest: config::manifest(),
            runtime_config: assigned.as_ref().map(|to| to.runtime_config(folder.path())),
            embedded_stores: &["agents"],
            environment: |_| None,
            state_dir: folder.path().join("state"),
            variables: all,
            limits: Limits::default(),
            allow_list: None,
        };
        let components = load(options).await;
        let (address, server) = serve(components).await;
        let keys = SigningKeys::from_json(&private(&TokenKind::ALL)).expect("keys");
        Self { api: Api { address }, keys, ports, server, assigned, _artifacts: artifacts, folder }
    }

    /// One call as a host-proxy.
    pub async fn internal(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let token = self.sign(&claims(TokenKind::Internal, "test-proxy"));
        self.api.call(method, path, Some(&token), body).await
    }

    /// A token that these components accept if its claims are right.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        self.keys.sign(claims).expect("a token")
    }

    /// Somebody new, logged in.
    pub async fn somebody(&self, name: &str) -> Session {
        self.api.register(name).await
    }

    /// A new operator, logged in.
    pub async fn operator(&self, name: &str) -> Session {
        let email = format!("{name}@example.com");
        let body =
            json!({ "email": email, "username": name, "password": PASSWORD, "role": "admin" });
        self.internal(Method::POST, "/internal/users", Some(&body)).await.expect(201);
        self.api.login(&email).await
    }

    /// Asks for a dev container, and takes its operation on as a host-proxy would.
    pub async fn claimed(&self, session: &Session) -> (Started, Value) {
        self.claim(session, &dev_container(true), &[]).await
    }

    /// The same, while another operation goes on.
    pub async fn claimed_beside(&self, session: &Session, other: &Value) -> (Started, Value) {
        self.claim(session, &dev_container(true), &[&other["id"]]).await
    }

    async fn claim(
        &self,
        session: &Session,
        what: &Value,
        working_on: &[&Value],
    ) -> (Started, Value) {
        let started = session.start(what).await;
        let body = json!({ "owner": "test-proxy", "leaseSeconds": 60, "workingOn": working_on });
        let reply = self
            .internal(Method::POST, "/internal/operations/claim", Some(&body))
            .await
            .expect(200)
            .json();
        let operation = reply["operation"].clone();
        assert_eq!(operation["id"], started.operation, "{reply}");
        (started, operation)
    }

    /// A dev container whose agent and code-server are said to be at these ports.
    pub async fn created(&self, session: &Session, agent_port: u16, ide_port: u16) -> Started {
        self.made(session, &dev_container(true), agent_port, ide_port).await
    }

    /// A game server whose agent is said to be at this port.
    pub async fn created_game(&self, session: &Session, agent_port: u16) -> Started {
        self.made(session, &game_server(), agent_port, 0).await
    }

    async fn made(
        &self,
        session: &Session,
        what: &Value,
        agent_port: u16,
        ide_port: u16,
    ) -> Started {
        let (started, operation) = self.claim(session, what, &[]).await;
        let path = format!("/internal/operations/{}", started.operation);
        let lease = &operation["lease"];
        let body = json!({ "lease": lease, "count": 2 });
        self.internal(Method::POST, &format!("{path}/ports"), Some(&body)).await.expect(200);
        let body = json!({ "lease": lease, "outcome": { "created": {
            "agentAddress": format!("127.0.0.1:{agent_port}"),
            "ideAddress": format!("127.0.0.1:{ide_port}"),
        }}});
        self.internal(Method::POST, &format!("{path}/finish"), Some(&body)).await.expect(204);
        started
    }

    /// Calls a dev container a game server.
    pub async fn make_game(&self, vmid: u64) {
        let sql = format!("UPDATE instances SET ctype = 'game' WHERE vmid = {vmid}");
        let changed = if let Some(assigned) = &self.assigned {
            assigned.execute(&sql).await
        } else {
            let database = self.folder.path().join("state/sqlite_db.db");
            let connection =
                rusqlite::Connection::open(database).expect("the components' database");
            connection.execute(&sql, []).expect("an update")
        };
        assert_eq!(changed, 1, "there is no container {vmid}");
    }

    /// An agent at a port that the components may reach, answering every call the same.
    pub async fn agent(&self, status: u16, body: &'static str) -> Stub {
        for port in self.ports.containers() {
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                return Stub::on(listener, move |_| (status, body.to_owned()));
            }
        }
        panic!("no port of the test's own is free");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Claims of a token that is valid for five minutes from now.
#[must_use]
pub fn claims(kind: TokenKind, subject: &str) -> Claims {
    Claims::new(kind, subject, now(), Duration::from_secs(300)).expect("claims")
}

/// Unix seconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the components under test read the same clock")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock before the year 292277026596")
}

async fn load(options: HostOptions) -> Arc<ComponentHost> {
    match try_load(options).await {
        Ok(host) => host,
        Err(error) => panic!("the components do not load: {error}"),
    }
}

/// Loads components with the code that all tests share; the error is a sentence with all its causes.
pub(crate) async fn try_load(options: HostOptions) -> Result<Arc<ComponentHost>, String> {
    let _one_at_a_time = LOADING.lock().await;
    config::share_compiled_code(&options.state_dir);
    ComponentHost::load(options).await.map_err(|error| chain(&error))
}

/// Serves components on a port of their own, routes that the edge would hide included.
pub(crate) async fn serve(components: Arc<ComponentHost>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        while let Ok((stream, client)) = listener.accept().await {
            let components = Arc::clone(&components);
            let service = service_fn(move |request: Request<Incoming>| {
                let components = Arc::clone(&components);
                async move {
                    let origin = RequestOrigin { client, scheme: Scheme::HTTP };
                    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                    Ok::<_, Infallible>(components.handle(request, origin).await)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, server)
}

/// A store with Node, code-server and OpenTTD in its catalogues, and no archives.
fn artifact_store(path: &str) -> (u16, String) {
    let package = |id: &str, version: &str, program: &str| Package {
        id: id.to_owned(),
        versions: vec![Artifact {
            version: version.to_owned(),
            path: format!("devcontainer/{id}-{version}.tar.gz"),
            sha256: "0".repeat(64),
            size_bytes: 1,
            unpacked_bytes: 1,
            program: program.to_owned(),
        }],
    };
    let catalog = DevCatalog {
        runtimes: vec![package("node", "24", "bin/node")],
        addons: vec![package("codeserver", "4.139.1", "bin/code-server")],
    };
    let openttd = package("openttd", "13.0", "openttd/openttd").versions.remove(0);
    let games = json!({ "games": [{ "id": "openttd", "variants": [{ "id": "vanilla", "versions": [{
        "artifact": openttd,
        "server": {
            "command": ["{artifact}/openttd/openttd"], "minMemoryMb": 256, "startSeconds": 60, "stop": {},
            "ports": [{ "name": "game", "protocol": "both", "default": 3979 }], "readiness": { "kind": "tcp" },
        },
    }]}]}]});
    match path {
        DEV_CATALOG_PATH => (200, serde_json::to_string(&catalog).expect("JSON")),
        GAME_CATALOG_PATH => (200, games.to_string()),
        _ => (404, String::new()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
