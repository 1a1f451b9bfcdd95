use std::sync::Mutex;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zlh_agents::AgentClient;
use zlh_authn::{AuthFailure, HostProxy, Role, Verifier, with_verifier};
use zlh_ids::{InstanceId, SessionId, UserId};
use zlh_storage::Value as Sql;

use super::*;

mod creation;
mod game;

const SECRET: &str = "c2VjcmV0";
const NOW: i64 = 1_795_132_800_000;

#[derive(Default)]
struct FakeAgents(Mutex<HashMap<Vmid, Observation>>);

#[async_trait]
impl AgentCache for FakeAgents {
    async fn observations(&self, vmids: &[Vmid]) -> HashMap<Vmid, Observation> {
        let known = self.0.lock().unwrap();
        vmids
            .iter()
            .filter_map(|vmid| known.get_key_value(vmid))
            .map(|(v, seen)| (*v, seen.clone()))
            .collect()
    }
}

/// A catalogue, or none: the artifact store is down.
struct FakeCatalog(Option<DevCatalog>);

#[async_trait]
impl Catalog for FakeCatalog {
    async fn dev(&self) -> Result<DevCatalog, ApiError> {
        self.0.clone().ok_or_else(|| ApiError::unavailable("connection refused"))
    }

    async fn games(&self) -> Result<GameCatalog, ApiError> {
        match &self.0 {
            Some(_) => Ok(games()),
            None => Err(ApiError::unavailable("connection refused")),
        }
    }
}

/// Answers every call alike, and keeps the calls. No answer: nobody is there.
#[derive(Default)]
struct FakeCalls {
    answer: Mutex<Option<(u16, &'static str)>>,
    calls: Mutex<Vec<Request<Bytes>>>,
}

#[async_trait]
impl AgentClient for FakeCalls {
    async fn call(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, ApiError> {
        self.calls.lock().unwrap().push(request);
        let answer = *self.answer.lock().unwrap();
        let (status, body) = answer.ok_or_else(|| ApiError::unavailable("connection refused"))?;
        Ok(http::Response::builder().status(status).body(Bytes::from(body)).unwrap())
    }
}

/// A user's id is their token; with `admin:` before it they are an operator.
struct FakeVerifier;

#[async_trait]
impl Verifier for FakeVerifier {
    async fn actor(&self, token: &str) -> Result<Actor, AuthFailure> {
        let (role, token) = match token.strip_prefix("admin:") {
            Some(token) => (Role::Admin, token),
            None => (Role::User, token),
        };
        let user_id = token.parse().map_err(|_| AuthFailure::Rejected)?;
        Ok(Actor { user_id, session_id: SessionId::random(), role })
    }

    async fn host_proxy(&self, _: &str) -> Result<HostProxy, AuthFailure> {
        Err(AuthFailure::Rejected)
    }
}

struct World {
    servers: Servers,
    agents: Arc<FakeAgents>,
    calls: Arc<FakeCalls>,
    owner: UserId,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl World {
    async fn new() -> Self {
        let database = Database::in_memory().unwrap();
        zlh_storage::migrate(&database, 1).await.unwrap();
        let agents = Arc::<FakeAgents>::default();
        let calls = Arc::<FakeCalls>::default();
        let servers = Servers {
            database,
            agents: Arc::clone(&agents) as Arc<dyn AgentCache>,
            agent_calls: Agents::new(Arc::clone(&calls) as Arc<dyn AgentClient>, SECRET.to_owned()),
            catalog: Arc::new(FakeCatalog(Some(catalog()))),
            max_instances_per_user: 3,
            clock: || NOW,
        };
        let mut world = Self { servers, agents, calls, owner: UserId::random() };
        world.owner = world.user("owner").await;
        world
    }

    async fn user(&self, name: &str) -> UserId {
        let id = UserId::random();
        self.sql(
            "INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, created_at, \
             updated_at) VALUES ($1, $2, $2, $2, $2, '', 'user', 1, 1)",
            &[Sql::text(id), name.into()],
        )
        .await;
        id
    }

    async fn sql(&self, sql: &str, params: &[Sql]) -> Vec<zlh_storage::Row> {
        self.servers.database.open().await.unwrap().query(sql, params).await.unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        self.sql(&format!("SELECT COUNT(*) FROM {table}"), &[]).await[0].get(0).unwrap()
    }

    async fn send(&self, request: http::request::Builder, body: String) -> Answer {
        let router = with_verifier(router(self.servers.clone()), FakeVerifier);
        let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    async fn call(&self, user: UserId, method: &str, uri: &str) -> Answer {
        let request = Request::builder().method(method).uri(uri);
        self.send(request.header("authorization", format!("Bearer {user}")), String::new()).await
    }

    async fn get(&self, uri: &str) -> Answer {
        self.call(self.owner, "GET", uri).await
    }

    async fn delete(&self, vmid: u32) -> Answer {
        self.call(self.owner, "DELETE", &format!("/api/instances/{vmid}")).await
    }

    /// An active instance of the owner, made that long ago.
    async fn seed(&self, vmid: u32, age_ms: i64) -> InstanceId {
        let instance = InstanceId::random();
        self.sql(
            "INSERT INTO instances (vmid, instance_id, owner_id, ctype, name, spec, state, created_at, ready_at) \
             VALUES ($1, $2, $3, 'dev', 'mine', $4, 'active', $5, $6)",
            &[
                vmid.into(),
                Sql::text(instance),
                Sql::text(self.owner),
                r#"{"ctype":"dev","runtime":"node","version":"24","memoryMib":2048,"cpuCores":2,"enableCodeServer":true}"#
                    .into(),
                (NOW - age_ms).into(),
                (NOW - age_ms + 1_000).into(),
            ],
        )
        .await;
        instance
    }

    fn observe(&self, observation: &Value) {
        let seen: Observation = serde_json::from_value(observation.clone()).unwrap();
        self.agents.0.lock().unwrap().insert(seen.vmid, seen);
    }
}

/// OpenTTD in two versions, the newer of which wants two ports.
fn games() -> GameCatalog {
    let version = |version: &str, ports: &[&str]| {
        let ports =
            ports.iter().map(|name| json!({ "name": name, "protocol": "both", "default": 3979 }));
        json!({
            "artifact": {
                "version": version, "path": "x.tar.gz", "sha256": "0", "sizeBytes": 1, "unpackedBytes": 1,
                "program": "bin/x",
            },
            "server": {
                "command": ["{artifact}/bin/x"], "ports": ports.collect::<Vec<_>>(), "minMemoryMb": 512,
                "readiness": { "kind": "tcp" }, "startSeconds": 60, "stop": {},
            },
        })
    };
    let vanilla = json!({
        "id": "vanilla", "versions": [version("14.0", &["game", "query"]), version("13.0", &["game"])],
    });
    let modded = json!({ "id": "modded", "versions": [] });
    serde_json::from_value(json!({ "games": [{ "id": "openttd", "variants": [vanilla, modded] }] }))
        .unwrap()
}

fn catalog() -> DevCatalog {
    let artifact = |version: &str| {
        json!({
            "version": version, "path": "x.tar.gz", "sha256": "0", "sizeBytes": 1, "unpackedBytes": 1,
            "program": "bin/x",
        })
    };
    serde_json::from_value(json!({
        "runtimes": [
            { "id": "node", "versions": [artifact("24"), artifact("22")] },
            { "id": "python", "versions": [artifact("3.13")] },
        ],
        "addons": [{ "id": "codeserver", "versions": [artifact("4")] }],
    }))
    .unwrap()
}

/// A ready agent, seen just now.
fn observation(vmid: u32, instance: InstanceId) -> Value {
    json!({
        "vmid": vmid, "instanceId": instance, "online": true, "ready": true, "error": null, "seenAtMs": NOW,
        "readiness": { "vmid": vmid, "ready": true, "readySource": "codeserver-http" },
        "status": {
            "vmid": vmid, "containerType": "dev", "state": "running", "processRunning": true, "ready": true,
            "crashCount": 2, "runtimeInstalled": true, "devProvisioned": true, "provisioningComplete": true,
            "workspaceRoot": "/home/dev/workspace", "codeServerInstalled": true, "codeServerRunning": true,
            "operationInProgress": false, "agentVersion": "1", "timestamp": "2026-11-20T00:00:00Z",
            "installStep": "done",
        },
    })
}

#[tokio::test]
async fn every_route_needs_a_login() {
    let world = World::new().await;
    for (method, uri) in [
        ("GET", "/api/catalog/dev"),
        ("GET", "/api/catalog/game"),
        ("POST", "/api/servers/5001/game/start"),
        ("POST", "/api/servers/5001/game/stop"),
        ("POST", "/api/servers/5001/game/restart"),
        ("POST", "/api/servers/5001/game/kill"),
        ("POST", "/api/servers/5001/host/start"),
        ("POST", "/api/servers/5001/host/stop"),
        ("POST", "/api/servers/5001/host/restart"),
        ("GET", "/api/game/servers/5001/players"),
        ("POST", "/api/admin/servers/5001/suspend"),
        ("POST", "/api/admin/servers/5001/unsuspend"),
        ("GET", "/api/instances"),
        ("POST", "/api/instances"),
        ("GET", "/api/instances/6001"),
        ("DELETE", "/api/instances/6001"),
        ("GET", "/api/servers"),
        ("GET", "/api/servers/6001/status"),
        ("DELETE", "/api/containers/6001"),
        ("GET", "/api/operations/d9428888-122b-4e5b-8f0e-1c6d2f0a8b11"),
    ] {
        let answer = world.send(Request::builder().method(method).uri(uri), "{}".to_owned()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {uri}");
    }
}

#[tokio::test]
async fn the_catalogue_names_runtimes_and_versions() {
    let answer = World::new().await.get("/api/catalog/dev").await;

    let runtimes = json!([{ "id": "node", "versions": ["24", "22"] }, { "id": "python", "versions": ["3.13"] }]);
    assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({ "runtimes": runtimes })));
}

#[tokio::test]
async fn without_the_artifact_store_there_is_no_catalogue() {
    let mut world = World::new().await;
    world.servers.catalog = Arc::new(FakeCatalog(None));

    assert_eq!(world.get("/api/catalog/dev").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_stranger_cannot_tell_what_exists() {
    let world = World::new().await;
    let stranger = world.user("stranger").await;
    world.seed(6001, 0).await;
    let operation = world.delete(6001).await.body["operationId"].as_str().unwrap().to_owned();
    let no_operation = OperationId::random().to_string();

    for (method, theirs, unknown) in [
        ("GET", "/api/instances/6001", "/api/instances/6002"),
        ("DELETE", "/api/instances/6001", "/api/instances/6002"),
        ("GET", "/api/servers/6001/status", "/api/servers/6002/status"),
        ("GET", "/api/servers/6001/status", "/api/servers/six/status"),
        ("DELETE", "/api/containers/6001", "/api/containers/6002"),
        ("DELETE", "/api/containers/6001", "/api/containers/-1"),
        ("GET", &format!("/api/operations/{operation}"), "/api/operations/1"),
        (
            "GET",
            &format!("/api/operations/{operation}"),
            &format!("/api/operations/{no_operation}"),
        ),
    ] {
        let (theirs, unknown) = (
            world.call(stranger, method, theirs).await,
            world.call(stranger, method, unknown).await,
        );
        assert_eq!(theirs.status, StatusCode::NOT_FOUND);
        assert_eq!((theirs.status, theirs.text), (unknown.status, unknown.text));
    }
    let answer = world.call(stranger, "GET", "/api/instances").await;
    assert_eq!(answer.text, r#"{"ok":true,"rows":[]}"#);
}

#[tokio::test]
async fn an_instance_shows_its_record_and_what_its_agent_says() {
    let world = World::new().await;
    let instance = world.seed(6001, 60_000).await;
    world.observe(&observation(6001, instance));

    let answer = world.get("/api/instances/6001").await;

    let wanted = json!({
        "vmid": 6001, "id": 6001, "name": "mine", "ctype": "dev", "runtime": "node", "version": "24",
        "memoryMiB": 2048, "cpuCores": 2, "state": "active", "status": "running", "ready": true,
        "agentStatus": "online", "installStep": "done", "lastSeen": "2026-11-20T00:00:00Z",
        "codeServerRunning": true, "createdAt": "2026-11-19T23:59:00Z", "readyAt": "2026-11-19T23:59:01Z",
        "suspended": false,
    });
    assert_eq!((answer.status, answer.body), (StatusCode::OK, wanted));
}

#[tokio::test]
async fn the_status_tells_more() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;
    world.observe(&observation(6001, instance));

    let answer = world.get("/api/servers/6001/status").await;

    let wanted = json!({
        "id": 6001, "name": "mine", "category": "DEV", "runtime": "node", "flavor": null, "version": "24",
        "vmid": 6001, "ready": true, "readySource": "codeserver-http", "readyError": null, "state": "active",
        "agentStatus": "online", "hostStatus": "online", "status": "running", "installStep": "done",
        "crashCount": 2, "codeServerRunning": true, "codeServerInstalled": true, "devProvisioned": true,
        "runtimeInstalled": true, "workspaceRoot": "/home/dev/workspace", "error": null,
        "lastSeen": "2026-11-20T00:00:00Z", "lastReadyAt": null, "processRunning": true,
        "uptimeSeconds": null, "ports": [], "suspended": false, "serverRoot": null,
        "operationInProgress": false, "operationType": null, "nextStartAt": null,
        "lastCrashTime": null, "lastCrashExitCode": null, "lastCrashSignal": null,
        "lastCrashUptimeSeconds": null, "lastCrashClassification": null, "lastCrashLogTail": [],
    });
    assert_eq!((answer.status, answer.body), (StatusCode::OK, wanted));
}

#[tokio::test]
async fn servers_are_listed_in_the_portals_shape() {
    let world = World::new().await;
    let instance = world.seed(6001, 60_000).await;
    world.seed(6002, 0).await;
    world.observe(&observation(6001, instance));

    let answer = world.get("/api/servers").await;
    let first_page = world.get("/api/servers?limit=1").await.body;

    let wanted = json!({ "servers": [
        {
            "id": 6001, "name": "mine", "category": "DEV", "runtime": "node", "flavor": null,
            "version": "24", "hostStatus": "online", "status": "running", "agentStatus": "online",
            "installStep": "done", "crashCount": 2, "lastSeen": "2026-11-20T00:00:00Z",
        },
        {
            "id": 6002, "name": "mine", "category": "DEV", "runtime": "node", "flavor": null,
            "version": "24", "hostStatus": "offline", "status": "offline", "agentStatus": "offline",
            "installStep": null, "crashCount": 0, "lastSeen": null,
        },
    ]});
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &wanted));
    assert_eq!(first_page["servers"], json!([wanted["servers"][0]]));
    assert!(first_page["nextCursor"].is_string());
}

#[tokio::test]
async fn older_clients_delete_containers() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;

    let first = world.call(world.owner, "DELETE", "/api/containers/6001").await;
    let again = world.call(world.owner, "DELETE", "/api/containers/6001").await;
    world
        .sql(
            "INSERT INTO deleted_instances SELECT instance_id, vmid, owner_id, ctype, name, spec, \
             'deleted', created_at, 1 FROM instances",
            &[],
        )
        .await;
    world.sql("DELETE FROM instances WHERE instance_id = $1", &[Sql::text(instance)]).await;
    let gone = world.call(world.owner, "DELETE", "/api/containers/6001").await;

    let operation: OperationId =
        world.sql("SELECT id FROM operations", &[]).await[0].parse(0).unwrap();
    let url = format!("/api/operations/{operation}");
    let begun = json!({
        "ok": true, "vmid": 6001, "archived": false, "operationId": operation, "statusUrl": url,
    });
    assert_eq!((first.status, &first.body), (StatusCode::ACCEPTED, &begun));
    assert_eq!(again.text, first.text);
    assert_eq!(first.headers["location"], url);
    let wanted = json!({ "ok": true, "vmid": 6001, "archived": true });
    assert_eq!((gone.status, gone.body), (StatusCode::OK, wanted));
}

#[tokio::test]
async fn nothing_is_ready_by_an_empty_old_or_foreign_observation() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;
    let with = |field: &str, value: Value| {
        let mut seen = observation(6001, instance);
        seen[field] = value;
        Some(seen)
    };
    for (seen, live) in [
        (None, false),
        (with("seenAtMs", json!(NOW - 15_000)), true),
        (with("seenAtMs", json!(NOW - 15_001)), false),
        (with("seenAtMs", json!(NOW + 15_001)), false),
        (with("instanceId", json!(InstanceId::random())), false),
        (with("online", json!(false)), false),
    ] {
        world.agents.0.lock().unwrap().clear();
        if let Some(seen) = &seen {
            world.observe(seen);
        }
        let agent_status = if live { "online" } else { "offline" };
        let list = world.get("/api/instances").await.body["rows"][0].clone();
        for body in [list, world.get("/api/servers/6001/status").await.body] {
            assert_eq!(body["ready"], live, "{seen:?}");
            assert_eq!(body["agentStatus"], agent_status, "{seen:?}");
            assert_eq!(body["codeServerRunning"], live, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_answers_may_still_not_be_ready() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;
    let mut seen = observation(6001, instance);
    seen["ready"] = json!(false);
    world.observe(&seen);

    let body = world.get("/api/servers/6001/status").await.body;

    assert_eq!((&body["ready"], &body["agentStatus"]), (&json!(false), &json!("online")));
}

#[tokio::test]
async fn an_instance_that_is_being_deleted_is_not_ready() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;
    world.observe(&observation(6001, instance));
    world.delete(6001).await;

    let body = world.get("/api/instances/6001").await.body;

    assert_eq!((&body["ready"], &body["status"]), (&json!(false), &json!("deleting")));
}

#[tokio::test]
async fn pages_follow_each_other_newest_last() {
    let world = World::new().await;
    // The last two are of the same millisecond.
    for (vmid, age_ms) in [(6001, 10), (6999, 30), (6005, 20), (6003, 10)] {
        world.seed(vmid, age_ms).await;
    }

    let mut pages = Vec::new();
    let mut uri = "/api/instances?limit=2".to_owned();
    loop {
        let body = world.get(&uri).await.body;
        let vmids: Vec<_> =
            body["rows"].as_array().unwrap().iter().map(|row| row["vmid"].clone()).collect();
        pages.push(json!(vmids));
        match body["nextCursor"].as_str() {
            Some(cursor) => uri = format!("/api/instances?limit=2&cursor={cursor}"),
            None => break,
        }
    }

    assert_eq!(pages, [json!([6999, 6005]), json!([6001, 6003])]);
    for query in ["limit=0", "limit=101", "limit=x", "limit=", "cursor=x", "cursor="] {
        let answer = world.get(&format!("/api/instances?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn a_deletion_is_begun_once() {
    let world = World::new().await;
    let instance = world.seed(6001, 0).await;

    let first = world.delete(6001).await;
    let second = world.delete(6001).await;

    assert_eq!((first.status, second.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert_eq!(first.text, second.text);
    assert_eq!(first.body["vmid"], 6001);
    assert_eq!(first.headers["location"], first.body["statusUrl"].as_str().unwrap());
    assert_eq!((world.count("operations").await, world.count("audit_log").await), (1, 1));
    let row = &world.sql("SELECT instance_id, kind, status FROM operations", &[]).await[0];
    assert_eq!(row.parse::<InstanceId>(0).unwrap(), instance);
    assert_eq!(row.get::<String>(1).unwrap(), "delete");
    assert_eq!(row.get::<String>(2).unwrap(), "queued");
}

#[tokio::test]
async fn an_operation_tells_how_far_it_is() {
    let world = World::new().await;
    world.seed(6001, 0).await;
    let begun = world.delete(6001).await.body;
    let uri = begun["statusUrl"].as_str().unwrap();

    let queued = world.get(uri).await;
    let wanted = json!({
        "id": begun["operationId"], "kind": "delete", "vmid": 6001, "status": "queued", "done": false,
        "phase": null, "message": null, "error": null,
        "createdAt": "2026-11-20T00:00:00Z", "updatedAt": "2026-11-20T00:00:00Z",
    });
    assert_eq!((queued.status, queued.body), (StatusCode::OK, wanted));

    for (status, done) in
        [("running", false), ("undoing", false), ("succeeded", true), ("failed", true)]
    {
        world.sql("UPDATE operations SET status = $1, phase = 'stop'", &[status.into()]).await;
        let body = world.get(uri).await.body;
        assert_eq!((&body["done"], &body["phase"]), (&json!(done), &json!("stop")), "{status}");
    }
}
