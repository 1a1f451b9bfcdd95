use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Mutex;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zlh_authn::{Actor, AuthFailure, Verifier, with_verifier};
use zlh_ids::{InstanceId, OperationId, UserId};
use zlh_storage::Value as Sql;

use super::*;

const NOW: i64 = 1_795_132_800_000;
const LEASE_SECONDS: i64 = 30;

#[derive(Default)]
struct FakeAgents(Mutex<BTreeMap<Vmid, Observation>>);

#[async_trait]
impl AgentCache for FakeAgents {
    async fn put(&self, observations: &[Observation]) -> Result<(), ApiError> {
        let new = observations.iter().map(|seen| (seen.vmid, seen.clone()));
        self.0.lock().unwrap().extend(new);
        Ok(())
    }

    async fn remove(&self, vmid: Vmid) -> Result<(), ApiError> {
        self.0.lock().unwrap().remove(&vmid);
        Ok(())
    }
}

/// The tokens `host` and `other` are those of host-proxies; no other is good for anything here.
struct FakeVerifier;

#[async_trait]
impl Verifier for FakeVerifier {
    async fn actor(&self, _: &str) -> Result<Actor, AuthFailure> {
        Err(AuthFailure::Rejected)
    }

    async fn host_proxy(&self, token: &str) -> Result<HostProxy, AuthFailure> {
        match token {
            "host" => Ok(HostProxy { name: "proxy-1".to_owned() }),
            "other" => Ok(HostProxy { name: "proxy-2".to_owned() }),
            _ => Err(AuthFailure::Rejected),
        }
    }
}

#[derive(Clone)]
struct World {
    database: Database,
    agents: Arc<FakeAgents>,
    owner: UserId,
    now: Clock,
}

struct Seeded {
    vmid: u32,
    instance: InstanceId,
    operation: OperationId,
}

impl World {
    async fn new() -> Self {
        let world = Self::unmigrated();
        zlh_storage::migrate(&world.database, NOW).await.unwrap();
        world
            .sql(
                "INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, \
                 created_at, updated_at) VALUES ($1, 'a@b', 'a@b', 'a', 'a', '', 'user', 1, 1)",
                &[Sql::text(world.owner)],
            )
            .await;
        world
    }

    fn unmigrated() -> Self {
        Self {
            database: Database::in_memory().unwrap(),
            agents: Arc::default(),
            owner: UserId::random(),
            now: || NOW,
        }
    }

    fn later(&self, now: Clock) -> Self {
        Self { now, ..self.clone() }
    }

    async fn sql(&self, sql: &str, params: &[Sql]) -> Vec<zlh_storage::Row> {
        self.database.open().await.unwrap().query(sql, params).await.unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        self.sql(&format!("SELECT COUNT(*) FROM {table}"), &[]).await[0].get(0).unwrap()
    }

    /// An instance and the operation that it waits for.
    async fn seed(&self, vmid: u32, kind: &str, age_ms: i64) -> Seeded {
        let seeded =
            Seeded { vmid, instance: InstanceId::random(), operation: OperationId::random() };
        let spec = r#"{"ctype":"dev","runtime":"node","version":"24","memoryMib":2048,"cpuCores":2,"enableCodeServer":true}"#;
        let (state, address) = match kind {
            "create" => ("creating", None),
            _ => ("deleting", Some("127.0.0.1:1".to_owned())),
        };
        self.sql(
            "INSERT INTO instances (vmid, instance_id, owner_id, ctype, name, spec, state, agent_address, created_at) \
             VALUES ($1, $2, $3, 'dev', 'mine', $4, $5, $6, $7)",
            &[
                vmid.into(),
                Sql::text(seeded.instance),
                Sql::text(self.owner),
                spec.into(),
                state.into(),
                address.into(),
                (NOW - age_ms).into(),
            ],
        )
        .await;
        self.sql(
            "INSERT INTO operations (id, kind, vmid, instance_id, owner_id, status, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 'queued', $6, $6)",
            &[
                Sql::text(seeded.operation),
                kind.into(),
                vmid.into(),
                Sql::text(seeded.instance),
                Sql::text(self.owner),
                (NOW - age_ms).into(),
            ],
        )
        .await;
        seeded
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let platform = Platform {
            database: self.database.clone(),
            agents: Arc::clone(&self.agents) as Arc<dyn AgentCache>,
            public_keys: r#"{"keys":[]}"#.to_owned(),
            port_range: "50000-50007".parse().unwrap(),
            clock: self.now,
        };
        let router = with_verifier(router(platform), FakeVerifier);
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn send(&self, method: &str, uri: &str, body: Value) -> (StatusCode, Value) {
        self.send_as("host", method, uri, body).await
    }

    async fn send_as(
        &self,
        token: &str,
        method: &str,
        uri: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let (status, _, text) =
            self.answer(request.body(Body::from(body.to_string())).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn tell(&self, operation: OperationId, what: &str, body: Value) -> (StatusCode, Value) {
        self.send("POST", &format!("/internal/operations/{operation}/{what}"), body).await
    }

    async fn claim(&self, owner: &str, working_on: &[OperationId]) -> Value {
        let body =
            json!({ "owner": owner, "leaseSeconds": LEASE_SECONDS, "workingOn": working_on });
        let (status, body) = self.send("POST", "/internal/operations/claim", body).await;
        assert_eq!(status, StatusCode::OK);
        body["operation"].clone()
    }

    /// Instances whose agents are to be polled.
    async fn seed_active(&self, vmids: std::ops::Range<u32>) {
        for vmid in vmids {
            self.seed(vmid, "create", 1).await;
        }
        let address = "UPDATE instances SET state = 'active', agent_address = '127.0.0.1:1'";
        self.sql(address, &[]).await;
    }

    /// The agents that a host-proxy shall poll.
    async fn agents_of(&self, token: &str, lease_seconds: i64) -> BTreeSet<u64> {
        let body = json!({ "leaseSeconds": lease_seconds });
        let (status, body) = self.send_as(token, "POST", "/internal/agents/claim", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let agents = body["agents"].as_array().unwrap();
        agents.iter().map(|agent| agent["vmid"].as_u64().unwrap()).collect()
    }

    /// A lease of the one operation that waits.
    async fn lease(&self) -> Value {
        self.claim("proxy-1", &[]).await["lease"].clone()
    }
}

fn created() -> Value {
    json!({ "created": { "agentAddress": "127.0.0.1:7001", "ideAddress": "unix:/run/ide.sock" } })
}

fn observation(vmid: u32, instance: InstanceId) -> Value {
    json!({
        "vmid": vmid, "instanceId": instance, "online": true, "ready": true,
        "readiness": null, "status": null, "error": null, "seenAtMs": NOW,
    })
}

#[tokio::test]
async fn health_needs_neither_a_token_nor_a_database() {
    let (status, _, body) =
        World::unmigrated().answer(Request::get("/api/health").body(Body::empty()).unwrap()).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, r#"{"status":"ok","service":"zlh","time":"2026-11-20T00:00:00Z"}"#);
}

#[tokio::test]
async fn the_public_keys_may_be_kept_for_a_while() {
    let request = Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let (status, headers, body) = World::unmigrated().answer(request).await;

    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"keys":[]}"#));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "public, max-age=300");
}

#[tokio::test]
async fn internal_routes_are_for_host_proxies_only() {
    let world = World::new().await;
    let id = OperationId::random();
    let routes = [
        ("POST", "/internal/migrate".to_owned()),
        ("GET", "/internal/agents".to_owned()),
        ("GET", "/internal/agents/6001".to_owned()),
        ("POST", "/internal/agents/claim".to_owned()),
        ("POST", "/internal/heartbeats".to_owned()),
        ("POST", "/internal/operations/claim".to_owned()),
        ("POST", format!("/internal/operations/{id}/heartbeat")),
        ("POST", format!("/internal/operations/{id}/ports")),
        ("POST", format!("/internal/operations/{id}/steps")),
        ("POST", format!("/internal/operations/{id}/undo")),
        ("POST", format!("/internal/operations/{id}/finish")),
    ];
    for (method, route) in routes {
        for token in ["Bearer customer", "Basic host", ""] {
            let request =
                Request::builder().method(method).uri(&route).header("authorization", token);
            let (status, ..) = world.answer(request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{route} with {token:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_database_is_migrated_and_the_next_time_left_alone() {
    let world = World::unmigrated();

    let (first, body) = world.send("POST", "/internal/migrate", Value::Null).await;
    let (second, again) = world.send("POST", "/internal/migrate", Value::Null).await;

    assert_eq!((first, second), (StatusCode::OK, StatusCode::OK));
    assert_ne!(body["applied"], json!([]));
    assert_eq!(again, json!({ "applied": [], "version": body["version"], "complete": true }));
}

#[tokio::test]
async fn a_call_that_took_long_leaves_the_rest_to_the_next() {
    static TICKS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(NOW);
    let slow = || TICKS.fetch_add(6_000, std::sync::atomic::Ordering::Relaxed);
    let world = World::unmigrated().later(slow);

    let (_, first) = world.send("POST", "/internal/migrate", json!(null)).await;
    let (_, second) = world.send("POST", "/internal/migrate", json!(null)).await;

    assert_eq!(first["applied"], json!(["accounts", "instances"]));
    assert_eq!((&first["version"], &first["complete"]), (&json!(2), &json!(false)));
    assert_eq!(second["applied"][0], "ide_sessions");
}

#[tokio::test]
async fn only_agents_of_active_instances_are_polled() {
    let world = World::new().await;
    let being_created = world.seed(6001, "create", 10).await;
    world.seed(6002, "delete", 5).await;
    let lease = world.lease().await;

    let (_, before) = world.send("GET", "/internal/agents", Value::Null).await;
    let (status, _) = world
        .tell(being_created.operation, "finish", json!({ "lease": lease, "outcome": created() }))
        .await;
    let (_, after) = world.send("GET", "/internal/agents", Value::Null).await;

    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(before, json!({ "agents": [] }));
    let agent = json!({
        "vmid": 6001, "instanceId": being_created.instance, "ctype": "dev", "agentAddress": "127.0.0.1:7001",
        "power": { "on": { "boots": 0 } },
        "ideAddress": "unix:/run/ide.sock", "host": null, "gatewayUrl": null,
    });
    assert_eq!(after, json!({ "agents": [agent] }));
}

#[tokio::test]
async fn a_container_is_found_with_the_gateway_of_its_machine() {
    let world = World::new().await;
    let there = world.seed(6001, "create", 2).await;
    world.seed(6002, "create", 1).await;
    let lease = world.lease().await;
    let find = async |vmid: &str| {
        world.send("GET", &format!("/internal/agents/{vmid}"), Value::Null).await
    };
    let claim = async |token: &str, gateway: Value| {
        let body = json!({ "leaseSeconds": LEASE_SECONDS, "gatewayUrl": gateway });
        world.send_as(token, "POST", "/internal/agents/claim", body).await.0
    };
    world.tell(there.operation, "steps", json!({ "lease": lease, "step": "ports" })).await;
    world.tell(there.operation, "finish", json!({ "lease": lease, "outcome": created() })).await;

    let without = find("6001").await;
    claim("other", json!("http://10.0.0.4:8084")).await;
    claim("host", json!("http://10.0.0.3:8084")).await;
    claim("host", json!("http://10.0.0.5:8084")).await;
    let with = find("6001").await;
    // A machine that ends for now keeps its place.
    let body = json!({ "leaseSeconds": 0, "gatewayUrl": "http://10.0.0.5:8084" });
    world.send("POST", "/internal/agents/claim", body).await;
    let gone = find("6001").await;
    claim("host", Value::Null).await;
    let closed = find("6001").await;

    let mut agent = json!({
        "vmid": 6001, "instanceId": there.instance, "ctype": "dev", "agentAddress": "127.0.0.1:7001",
        "ideAddress": "unix:/run/ide.sock", "host": "proxy-1", "gatewayUrl": null,
        "power": { "on": { "boots": 0 } },
    });
    assert_eq!(without, (StatusCode::OK, agent.clone()));
    assert_eq!(closed, without);
    agent["gatewayUrl"] = json!("http://10.0.0.5:8084");
    assert_eq!((with, gone), ((StatusCode::OK, agent.clone()), (StatusCode::OK, agent)));
    for vmid in ["6002", "6999", "007", "x"] {
        assert_eq!(find(vmid).await.0, StatusCode::NOT_FOUND, "{vmid}");
    }
    assert_eq!(claim("host", json!("x".repeat(257))).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn each_agent_is_polled_by_one_of_those_who_are_alive() {
    let world = World::new().await;
    world.seed_active(6000..6064).await;
    let all: BTreeSet<u64> = (6000..6064).collect();

    let alone = world.agents_of("host", LEASE_SECONDS).await;
    let newcomer = world.agents_of("other", LEASE_SECONDS).await;
    let first = world.agents_of("host", LEASE_SECONDS).await;
    let second = world.agents_of("other", LEASE_SECONDS).await;

    assert_eq!(alone, all);
    assert!(newcomer.is_empty(), "what another still polls: {newcomer:?}");
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_eq!(&first | &second, all);
    assert_eq!(world.agents_of("host", LEASE_SECONDS).await, first, "they stay where they are");
}

#[tokio::test]
async fn the_agents_of_one_that_is_gone_are_polled_by_others() {
    let world = World::new().await;
    world.seed_active(6000..6040).await;
    world.agents_of("host", LEASE_SECONDS).await;
    world.agents_of("other", LEASE_SECONDS).await;
    world.agents_of("host", LEASE_SECONDS).await;
    let half = world.agents_of("other", 2 * LEASE_SECONDS).await.len();

    let before = world.later(|| NOW + LEASE_SECONDS * 1000 - 1).agents_of("other", 90).await;
    let after = world.later(|| NOW + LEASE_SECONDS * 1000).agents_of("other", 90).await;
    let back = world.later(|| NOW + LEASE_SECONDS * 1000).agents_of("host", 90).await;

    assert_eq!((half, before.len(), after.len(), back.len()), (half, half, 40, 0));
    assert!(half < 40);
}

#[tokio::test]
async fn one_that_stops_gives_its_agents_back() {
    let world = World::new().await;
    world.seed_active(6000..6010).await;
    world.agents_of("host", LEASE_SECONDS).await;

    let released = world.agents_of("host", 0).await;

    assert!(released.is_empty());
    assert_eq!(world.agents_of("other", LEASE_SECONDS).await.len(), 10);
}

#[tokio::test]
async fn a_container_is_worked_on_by_the_machine_that_has_it() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let lease = world.lease().await;
    world.tell(seeded.operation, "steps", json!({ "lease": lease, "step": "create" })).await;
    let later = world.later(|| NOW + LEASE_SECONDS * 1000);

    assert_eq!(later.claim("proxy-2", &[]).await, Value::Null);
    assert_eq!(later.claim("proxy-1", &[]).await["id"], json!(seeded.operation));
}

#[tokio::test]
async fn an_observation_of_another_life_is_dropped() {
    let world = World::new().await;
    let (one, two) = (world.seed(6001, "create", 2).await, world.seed(6002, "create", 1).await);

    let body = json!({ "observations": [
        observation(6001, one.instance),
        observation(6002, InstanceId::random()),
        observation(6003, two.instance),
    ] });
    let (status, _) = world.send("POST", "/internal/heartbeats", body).await;

    assert_eq!(status, StatusCode::NO_CONTENT);
    let kept: Vec<u32> = world.agents.0.lock().unwrap().keys().map(|vmid| vmid.get()).collect();
    assert_eq!(kept, [6001]);
}

#[tokio::test]
async fn a_thousand_observations_are_the_most() {
    let world = World::new().await;
    for (count, wanted) in [(1_000, StatusCode::NO_CONTENT), (1_001, StatusCode::BAD_REQUEST)] {
        let observations = vec![observation(6001, InstanceId::random()); count];
        let (status, _) = world
            .send("POST", "/internal/heartbeats", json!({ "observations": observations }))
            .await;
        assert_eq!(status, wanted, "{count}");
    }
}

#[tokio::test]
async fn the_oldest_operation_is_handed_out_first_and_only_once() {
    let world = World::new().await;
    let (newer, older) = (world.seed(6001, "create", 1).await, world.seed(6002, "delete", 9).await);

    let first = world.claim("proxy-1", &[]).await;
    let second = world.claim("proxy-2", &[]).await;
    let third = world.claim("proxy-3", &[]).await;

    assert_eq!(first["id"], json!(older.operation));
    assert_eq!(first["kind"], "delete");
    assert_eq!(first["instanceId"], json!(older.instance));
    assert_eq!(first["spec"]["runtime"], "node");
    assert_eq!(
        (&first["undoing"], &first["steps"], &first["ports"]),
        (&Value::Null, &json!([]), &json!([]))
    );
    assert_eq!(second["id"], json!(newer.operation));
    assert_eq!(third, Value::Null);
}

#[tokio::test]
async fn a_lease_is_taken_over_by_its_own_host_at_once_and_by_others_when_it_ended() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let first = world.lease().await;

    assert_eq!(
        world.claim("proxy-1", &[seeded.operation]).await,
        Value::Null,
        "it is working on it"
    );
    assert_eq!(world.claim("proxy-2", &[]).await, Value::Null, "the lease lasts");
    let restarted = world.claim("proxy-1", &[]).await;
    assert_eq!(restarted["id"], json!(seeded.operation));
    assert_ne!(restarted["lease"], first);

    let just_before = world.later(|| NOW + LEASE_SECONDS * 1_000 - 1);
    assert_eq!(just_before.claim("proxy-2", &[]).await, Value::Null);
    let ended = world.later(|| NOW + LEASE_SECONDS * 1_000);
    let taken_over = ended.claim("proxy-2", &[]).await;
    assert_eq!(taken_over["id"], json!(seeded.operation));

    for lost in [first, restarted["lease"].clone()] {
        for (what, mut body) in [
            ("heartbeat", json!({ "leaseSeconds": 30, "message": null })),
            ("steps", json!({ "step": "x" })),
            ("ports", json!({ "count": 1 })),
            ("undo", json!({ "error": "x" })),
            ("finish", json!({ "outcome": created() })),
        ] {
            body["lease"] = lost.clone();
            let (status, answer) = ended.tell(seeded.operation, what, body).await;
            assert_eq!(
                (status, &answer["code"]),
                (StatusCode::CONFLICT, &json!("conflict")),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn a_lease_that_ended_lasts_until_somebody_takes_it_over() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let lease = world.lease().await;
    let ended = world.later(|| NOW + LEASE_SECONDS * 1_000 + 5);

    let renewal = json!({ "lease": lease, "leaseSeconds": 30, "message": "unpacking" });
    let (status, _) = ended.tell(seeded.operation, "heartbeat", renewal).await;

    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(ended.claim("proxy-2", &[]).await, Value::Null, "it lasts again");
    let row = &world.sql("SELECT message FROM operations", &[]).await[0];
    assert_eq!(row.get::<String>(0).unwrap(), "unpacking");
}

#[tokio::test]
async fn two_claims_at_once_never_get_the_same_operation() {
    let world = World::new().await;
    let mut seeded = BTreeSet::new();
    for vmid in 6001..=6024 {
        seeded.insert(world.seed(vmid, "create", 1).await.operation.to_string());
    }

    let claimants: Vec<_> = (0..4)
        .map(|n| {
            let world = world.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(claim_all(&world, &format!("proxy-{n}")))
            })
        })
        .collect();
    let claimed: Vec<_> = claimants.into_iter().flat_map(|thread| thread.join().unwrap()).collect();

    assert_eq!(claimed.len(), seeded.len());
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), seeded);
}

/// SQLite's shared in-memory databases do not wait for other writers, so 503 is tried again here.
async fn claim_all(world: &World, owner: &str) -> Vec<String> {
    let mut claimed: Vec<String> = Vec::new();
    loop {
        let body = json!({ "owner": owner, "leaseSeconds": 30, "workingOn": claimed });
        match world.send("POST", "/internal/operations/claim", body).await {
            (StatusCode::SERVICE_UNAVAILABLE, _) => std::thread::yield_now(),
            (_, body) => match body["operation"]["id"].as_str() {
                Some(id) => claimed.push(id.to_owned()),
                None => return claimed,
            },
        }
    }
}

#[tokio::test]
async fn a_crashed_host_finds_the_steps_and_ports_of_its_operation_again() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let lease = world.lease().await;
    for step in ["ports", "container", "ports"] {
        let (status, _) =
            world.tell(seeded.operation, "steps", json!({ "lease": lease, "step": step })).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    world.tell(seeded.operation, "ports", json!({ "lease": lease, "count": 2 })).await;

    let again = world.claim("proxy-1", &[]).await;

    assert_eq!(again["steps"], json!([{ "name": "ports" }, { "name": "container" }]));
    assert_eq!(again["ports"], json!([50000, 50001]));
    assert_eq!(again["undoing"], Value::Null);

    let lease = &again["lease"];
    for error in ["no memory left", "could not undo either"] {
        world.tell(seeded.operation, "undo", json!({ "lease": lease, "error": error })).await;
    }
    let undoing = world.claim("proxy-1", &[]).await;
    assert_eq!(undoing["undoing"], "no memory left");
}

#[tokio::test]
async fn ports_are_given_once_in_turn_and_refused_when_they_run_out() {
    let world = World::new().await;
    let (one, two) = (world.seed(6001, "create", 2).await, world.seed(6002, "create", 1).await);
    let (first, second) =
        (world.lease().await, world.claim("proxy-1", &[one.operation]).await["lease"].clone());
    let ports = async |operation, lease: &Value, count| {
        world.tell(operation, "ports", json!({ "lease": lease, "count": count })).await
    };

    let answers = [
        ports(one.operation, &first, 2).await,
        ports(one.operation, &first, 2).await,
        ports(two.operation, &second, 3).await,
        ports(one.operation, &first, 4).await,
    ];
    let wanted = [
        json!([50000, 50001]),
        json!([50000, 50001]),
        json!([50002, 50003, 50004]),
        json!([50000, 50001, 50005, 50006]),
    ];
    for ((status, body), ports) in answers.into_iter().zip(wanted) {
        assert_eq!((status, body), (StatusCode::OK, json!({ "ports": ports })));
    }

    let (status, _) = ports(two.operation, &second, 5).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.count("ports").await, 7, "nothing is taken when there is not enough");
    for count in [0, 17] {
        assert_eq!(ports(one.operation, &first, count).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_port_of_a_failed_creation_is_not_the_next_one_again() {
    let world = World::new().await;
    let mut given = Vec::new();
    for vmid in 6001..6004 {
        let seeded = world.seed(vmid, "create", 0).await;
        let lease = world.lease().await;
        let call = json!({ "lease": lease, "count": 1 });
        given.push(world.tell(seeded.operation, "ports", call).await.1["ports"].clone());
        let undo = json!({ "lease": lease, "error": "the port is taken" });
        world.tell(seeded.operation, "undo", undo).await;
        let finish = json!({ "lease": lease, "outcome": "undone" });
        world.tell(seeded.operation, "finish", finish).await;
    }

    assert_eq!(world.count("ports").await, 0);
    assert_eq!(given, [json!([50000]), json!([50001]), json!([50002])]);
}

#[tokio::test]
async fn a_created_instance_is_active_at_its_place() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let finish = json!({ "lease": world.lease().await, "outcome": created() });

    let first = world.tell(seeded.operation, "finish", finish.clone()).await;
    let repeated = world.tell(seeded.operation, "finish", finish).await;

    assert_eq!((first.0, repeated.0), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
    let row = &world
        .sql("SELECT state, agent_address, ide_address, ready_at FROM instances", &[])
        .await[0];
    assert_eq!(row.get::<String>(0).unwrap(), "active");
    assert_eq!(row.get::<String>(1).unwrap(), "127.0.0.1:7001");
    assert_eq!(row.get::<String>(2).unwrap(), "unix:/run/ide.sock");
    assert_eq!(row.get::<i64>(3).unwrap(), NOW);
    let acts = world.sql("SELECT actor, action, target FROM audit_log", &[]).await;
    assert_eq!(acts.len(), 1, "a repetition is not another act");
    let act: [String; 3] = [0, 1, 2].map(|column| acts[0].get(column).unwrap());
    assert_eq!(act, ["proxy-1", "operation.finish", "6001"]);
    assert_eq!(world.claim("proxy-2", &[]).await, Value::Null, "it is over");
}

#[tokio::test]
async fn a_deletion_frees_ports_and_vmid_and_keeps_the_record() {
    let world = World::new().await;
    let seeded = world.seed(6001, "delete", 1).await;
    let lease = world.lease().await;
    world.tell(seeded.operation, "ports", json!({ "lease": lease, "count": 2 })).await;
    let seen = json!({ "observations": [observation(6001, seeded.instance)] });
    world.send("POST", "/internal/heartbeats", seen).await;

    let finish = json!({ "lease": lease, "outcome": "deleted" });
    let first = world.tell(seeded.operation, "finish", finish.clone()).await;
    let repeated = world.tell(seeded.operation, "finish", finish).await;

    assert_eq!((first.0, repeated.0), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
    assert_eq!((world.count("ports").await, world.count("instances").await), (0, 0));
    assert!(world.agents.0.lock().unwrap().is_empty());
    let row = &world
        .sql("SELECT instance_id, vmid, reason, deleted_at FROM deleted_instances", &[])
        .await[0];
    assert_eq!(row.parse::<InstanceId>(0).unwrap(), seeded.instance);
    assert_eq!(row.get::<u32>(1).unwrap(), seeded.vmid);
    assert_eq!(row.get::<String>(2).unwrap(), "deleted");
    assert_eq!(row.get::<i64>(3).unwrap(), NOW);
    world.seed(6001, "create", 0).await;
    assert_ne!(world.claim("proxy-1", &[]).await, Value::Null, "the vmid lives again");
}

#[tokio::test]
async fn a_creation_that_was_undone_leaves_its_reason() {
    let world = World::new().await;
    let seeded = world.seed(6001, "create", 1).await;
    let lease = world.lease().await;
    world.tell(seeded.operation, "ports", json!({ "lease": lease, "count": 1 })).await;
    world
        .tell(seeded.operation, "undo", json!({ "lease": lease, "error": "the disk is full" }))
        .await;

    let too_late = json!({ "lease": lease, "outcome": created() });
    let (refused, _) = world.tell(seeded.operation, "finish", too_late).await;
    let (status, _) = world
        .tell(seeded.operation, "finish", json!({ "lease": lease, "outcome": "undone" }))
        .await;

    assert_eq!((refused, status), (StatusCode::CONFLICT, StatusCode::NO_CONTENT));
    assert_eq!((world.count("ports").await, world.count("instances").await), (0, 0));
    let reason = &world.sql("SELECT reason FROM deleted_instances", &[]).await[0];
    assert_eq!(reason.get::<String>(0).unwrap(), "the disk is full");
    let row = &world.sql("SELECT status, error FROM operations", &[]).await[0];
    assert_eq!(row.get::<String>(0).unwrap(), "failed");
    assert_eq!(row.get::<String>(1).unwrap(), "the disk is full");
}

#[tokio::test]
async fn operations_that_ended_a_month_ago_are_forgotten() {
    let world = World::new().await;
    let (old, open) = (world.seed(6001, "create", 2).await, world.seed(6002, "create", 1).await);
    let lease = world.lease().await;
    world.tell(old.operation, "steps", json!({ "lease": lease, "step": "ports" })).await;
    let finish = json!({ "lease": lease, "outcome": created() });
    world.tell(old.operation, "finish", finish.clone()).await;
    assert_eq!(world.count("operations").await, 2);

    let later = world.later(|| NOW + 31 * 86_400_000);
    let new = later.seed(6003, "create", 0).await;
    let lease = later.claim("proxy-1", &[open.operation]).await["lease"].clone();
    later.tell(new.operation, "finish", json!({ "lease": lease, "outcome": created() })).await;

    let left = world.sql("SELECT id FROM operations ORDER BY vmid", &[]).await;
    let left: Vec<OperationId> = left.iter().map(|row| row.parse(0).unwrap()).collect();
    assert_eq!(left, [open.operation, new.operation], "what has not ended stays, however old");
    assert_eq!(world.count("operation_steps").await, 0);
}

#[tokio::test]
async fn an_operation_ends_only_as_its_kind_does() {
    let world = World::new().await;
    let create = world.seed(6001, "create", 2).await;
    let delete = world.seed(6002, "delete", 1).await;
    let first = world.lease().await;
    let second = world.claim("proxy-1", &[create.operation]).await["lease"].clone();

    for (operation, lease, outcome, wanted) in [
        (create.operation, &first, json!("deleted"), StatusCode::BAD_REQUEST),
        (create.operation, &first, json!("undone"), StatusCode::CONFLICT),
        (create.operation, &first, json!("lost"), StatusCode::BAD_REQUEST),
        (delete.operation, &second, created(), StatusCode::BAD_REQUEST),
        (delete.operation, &second, json!("undone"), StatusCode::BAD_REQUEST),
        (delete.operation, &first, json!("deleted"), StatusCode::CONFLICT),
    ] {
        let body = json!({ "lease": lease, "outcome": outcome });
        let (status, _) = world.tell(operation, "finish", body).await;
        assert_eq!(status, wanted, "{outcome}");
    }
    let (status, _) =
        world.tell(delete.operation, "undo", json!({ "lease": second, "error": "no" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(world.count("instances").await, 2);
}

#[tokio::test]
async fn malformed_calls_are_refused() {
    let world = World::new().await;
    let claim = |owner: &str, seconds: u32| json!({ "owner": owner, "leaseSeconds": seconds });
    for body in [claim("", 30), claim("p", 0), claim("p", 601), claim(&"x".repeat(65), 30)] {
        let (status, _) = world.send("POST", "/internal/operations/claim", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let (status, _) = world.send("POST", "/internal/operations/007/steps", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_host_proxy_did_is_kept_in_its_name() {
    let world = World::new().await;
    let body =
        json!({ "action": "component.swap", "target": "auth", "detail": { "outcome": "done" } });

    let (status, _) = world.send("POST", "/internal/audit", body).await;

    assert_eq!(status, StatusCode::NO_CONTENT);
    let rows = world.sql("SELECT actor, action, target, detail, at FROM audit_log", &[]).await;
    let text = |column| rows[0].get::<String>(column).unwrap();
    assert_eq!([text(0), text(1), text(2)], ["proxy-1", "component.swap", "auth"]);
    assert_eq!(text(3), r#"{"outcome":"done"}"#);
    assert_eq!(rows[0].get::<i64>(4).unwrap(), NOW);
}

#[tokio::test]
async fn an_act_that_says_too_much_is_refused() {
    let world = World::new().await;
    let long = "x".repeat(9000);

    for field in ["action", "target", "detail"] {
        let mut body = json!({ "action": "a.b", "target": "c", "detail": "d" });
        body[field] = json!(long);
        let (status, answer) = world.send("POST", "/internal/audit", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["field"], field);
    }
    assert_eq!(world.count("audit_log").await, 0);
}
