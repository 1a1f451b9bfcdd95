use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use zlh_agent_protocol::agent::agent_token;
use zlh_agents::AgentClient;
use zlh_authn::{AuthFailure, HostProxy, Role, Verifier, with_verifier};
use zlh_ids::{InstanceId, SessionId, UserId};
use zlh_storage::Value as Sql;

use super::*;

const SECRET: &str = "c2VjcmV0";
const VMID: u32 = 6001;

/// Answers every call alike, and keeps the calls. No answer: nobody is there.
struct FakeAgent {
    answer: Option<(u16, &'static str)>,
    calls: Mutex<Vec<Request<Bytes>>>,
}

#[async_trait]
impl AgentClient for FakeAgent {
    async fn call(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, ApiError> {
        self.calls.lock().unwrap().push(request);
        let (status, body) =
            self.answer.ok_or_else(|| ApiError::unavailable("connection refused"))?;
        Ok(http::Response::builder()
            .status(status)
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap())
    }
}

/// A user's id is their token.
struct FakeVerifier;

#[async_trait]
impl Verifier for FakeVerifier {
    async fn actor(&self, token: &str) -> Result<Actor, AuthFailure> {
        let user_id = token.parse().map_err(|_| AuthFailure::Rejected)?;
        Ok(Actor { user_id, session_id: SessionId::random(), role: Role::User })
    }

    async fn host_proxy(&self, _: &str) -> Result<HostProxy, AuthFailure> {
        Err(AuthFailure::Rejected)
    }
}

struct World {
    database: Database,
    agent: Arc<FakeAgent>,
    owner: UserId,
    instance: InstanceId,
}

impl World {
    /// One active dev container whose agent answers so.
    async fn new(answer: Option<(u16, &'static str)>) -> Self {
        let database = Database::in_memory().unwrap();
        zlh_storage::migrate(&database, 1).await.unwrap();
        let agent = Arc::new(FakeAgent { answer, calls: Mutex::default() });
        let world =
            Self { database, agent, owner: UserId::random(), instance: InstanceId::random() };
        world
            .sql(
                "INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, \
                 created_at, updated_at) VALUES ($1, 'a@b', 'a@b', 'a', 'a', '', 'user', 1, 1)",
                &[Sql::text(world.owner)],
            )
            .await;
        world
            .sql(
                "INSERT INTO instances \
                 (vmid, instance_id, owner_id, ctype, name, spec, state, agent_address, created_at) \
                 VALUES ($1, $2, $3, 'dev', 'mine', '{}', 'active', '127.0.0.1:7001', 1)",
                &[VMID.into(), Sql::text(world.instance), Sql::text(world.owner)],
            )
            .await;
        world
    }

    async fn sql(&self, sql: &str, params: &[Sql]) -> Vec<zlh_storage::Row> {
        self.database.open().await.unwrap().query(sql, params).await.unwrap()
    }

    async fn post(&self, user: UserId, vmid: &str, verb: &str) -> (StatusCode, HeaderMap, String) {
        let dev = Dev {
            database: self.database.clone(),
            agents: Agents::new(Arc::clone(&self.agent) as Arc<dyn AgentClient>, SECRET.to_owned()),
            clock: || 1,
        };
        let request = Request::post(format!("/api/dev/{vmid}/codeserver/{verb}"))
            .header(AUTHORIZATION, format!("Bearer {user}"))
            .body(Body::empty())
            .unwrap();
        let response = with_verifier(router(dev), FakeVerifier).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn start(&self) -> (StatusCode, HeaderMap, String) {
        self.post(self.owner, "6001", "start").await
    }

    fn calls(&self) -> usize {
        self.agent.calls.lock().unwrap().len()
    }
}

#[tokio::test]
async fn the_agent_is_asked_with_its_own_token_and_answers_for_itself() {
    for verb in ["start", "stop", "restart"] {
        let world = World::new(Some((202, r#"{"ok":true,"codeServerRunning":true}"#))).await;

        let (status, headers, body) = world.post(world.owner, "6001", verb).await;

        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap(),
            json!({ "ok": true, "codeServerRunning": true })
        );
        let calls = world.agent.calls.lock().unwrap().split_off(0);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].method(), Method::POST);
        assert_eq!(
            calls[0].uri().to_string(),
            format!("http://127.0.0.1:7001/dev/codeserver/{verb}")
        );
        let token = agent_token(SECRET.as_bytes(), Vmid::new(VMID).unwrap(), world.instance);
        assert_eq!(calls[0].headers()[AUTHORIZATION], format!("Bearer {token}"));
        let acts = world.sql("SELECT actor, action, target FROM audit_log", &[]).await;
        let act: [String; 3] = [0, 1, 2].map(|column| acts[0].get(column).unwrap());
        assert_eq!(act, [world.owner.to_string(), format!("codeserver.{verb}"), "6001".to_owned()]);
    }
}

#[tokio::test]
async fn a_stranger_cannot_tell_the_container_exists() {
    let world = World::new(Some((200, "{}"))).await;

    let strangers = world.post(UserId::random(), "6001", "start").await;
    let unknown = world.post(world.owner, "6002", "start").await;

    assert_eq!((strangers.0, &strangers.2), (unknown.0, &unknown.2));
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    assert_eq!(unknown.2, r#"{"error":"not found","code":"not_found"}"#);
    assert_eq!(world.post(world.owner, "06001", "start").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.post(world.owner, "6001", "upgrade").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn without_a_login_nothing_is_asked() {
    let world = World::new(Some((200, "{}"))).await;
    let dev = Dev {
        database: world.database.clone(),
        agents: Agents::new(Arc::clone(&world.agent) as Arc<dyn AgentClient>, SECRET.to_owned()),
        clock: || 1,
    };
    let request = Request::post("/api/dev/6001/codeserver/start").body(Body::empty()).unwrap();

    let response = with_verifier(router(dev), FakeVerifier).oneshot(request).await.unwrap();

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn only_an_active_dev_container_is_controlled() {
    for (change, wanted) in [
        ("state = 'creating', agent_address = NULL", StatusCode::CONFLICT),
        ("state = 'creating'", StatusCode::CONFLICT),
        ("state = 'deleting'", StatusCode::NOT_FOUND),
        ("suspended_at = 1", StatusCode::NOT_FOUND),
        ("ctype = 'game'", StatusCode::NOT_FOUND),
    ] {
        let world = World::new(Some((200, "{}"))).await;
        world.sql(&format!("UPDATE instances SET {change}"), &[]).await;

        let (status, ..) = world.start().await;

        assert_eq!((status, world.calls()), (wanted, 0), "{change}");
        assert_eq!(world.sql("SELECT id FROM audit_log", &[]).await, [], "{change}");
    }
}

#[tokio::test]
async fn an_agents_refusal_is_forwarded_with_its_words() {
    let world = World::new(Some((409, r#"{"error":"busy","code":"conflict"}"#))).await;

    let (status, _, body) = world.start().await;

    assert_eq!(status, StatusCode::CONFLICT);
    let wanted = json!({
        "error": "the agent could not start code-server",
        "code": "conflict",
        "details": { "error": "busy", "code": "conflict" },
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wanted);
}

#[tokio::test]
async fn what_is_not_the_customers_doing_is_a_bad_gateway() {
    for answer in [(302, "{}"), (401, "{}"), (403, "{}"), (200, "<html>"), (200, ""), (200, "{}")] {
        let (status, headers, body) = World::new(Some(answer)).await.start().await;

        assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:?}");
        assert!(body.contains(r#""code":"unavailable""#), "{body}");
        assert!(!body.contains("null"), "{body}");
        assert!(
            !headers.contains_key(header::WWW_AUTHENTICATE)
                && !headers.contains_key(header::LOCATION)
        );
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_is_unavailable() {
    let (status, _, body) = World::new(None).await.start().await;

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, r#"{"error":"this is unavailable for the moment","code":"unavailable"}"#);
}
