use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value as Json_, json};
use tower::ServiceExt;
use zlh_authn::testing::{TestVerifier, access_token};
use zlh_authn::with_verifier;
use zlh_ids::{SessionId, UserId};
use zlh_storage::Value;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

/// Tokens are the claims themselves, separated by dots.
struct PlainTokens;

#[async_trait]
impl StreamTokens for PlainTokens {
    async fn issue(&self, opens: Opens, grant: &IdeGrant, _: Duration) -> Result<String, ApiError> {
        let IdeGrant { vmid, instance_id, user_id, session_id } = grant;
        Ok(format!("{}.{vmid}.{instance_id}.{user_id}.{session_id}", word(opens)))
    }

    async fn verify(&self, opens: Opens, token: &str) -> Result<StreamToken, ApiError> {
        let parts: Vec<_> = token.split('.').collect();
        let [kind, vmid, instance, user, session] = parts[..] else {
            return Err(ApiError::Unauthenticated);
        };
        if kind != word(opens) {
            return Err(ApiError::Unauthenticated);
        }
        Ok(StreamToken {
            jti: token.to_owned(),
            user_id: user.parse().unwrap(),
            session_id: session.parse().unwrap(),
            vmid: vmid.parse().unwrap(),
            instance_id: instance.parse().unwrap(),
            expires_at_ms: NOW_MS + 300_000,
        })
    }
}

fn word(opens: Opens) -> &'static str {
    match opens {
        Opens::Ide => "ide",
        Opens::Stream(kind) => kind.as_str(),
    }
}

struct Api {
    database: Database,
    urls: IdeUrls,
}

struct User {
    id: UserId,
    session: SessionId,
}

impl User {
    fn token(&self) -> String {
        access_token(self.id, self.session)
    }
}

impl Api {
    async fn new() -> Self {
        let database = Database::in_memory().unwrap();
        zlh_storage::migrate(&database, NOW_MS).await.unwrap();
        let urls = IdeUrls::Hosted { scheme: "https".into(), suffix: "ide.example".into() };
        Self { database, urls }
    }

    async fn sql(&self, sql: &str, params: &[Value]) {
        self.database.open().await.unwrap().execute(sql, params).await.unwrap();
    }

    async fn user(&self, name: &str) -> User {
        let (id, session) = (UserId::random(), SessionId::random());
        self.sql(
            "INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, created_at, \
             updated_at) VALUES ($1, $2, $2, $2, $2, '', 'user', 0, 0)",
            &[Value::text(id), name.into()],
        )
        .await;
        self.sql(
            "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, 0, $3)",
            &[Value::text(session), Value::text(id), (NOW_MS + 1).into()],
        )
        .await;
        User { id, session }
    }

    async fn instance(&self, vmid: u32, owner: &User, ctype: &str, address: Option<&str>) {
        self.sql(
            "INSERT INTO instances (vmid, instance_id, owner_id, ctype, name, spec, state, ide_address, agent_address, \
             created_at) VALUES ($1, $2, $3, $4, 'n', '{}', 'active', $5, $5, 0)",
            &[
                vmid.into(),
                Value::text(InstanceId::random()),
                Value::text(owner.id),
                ctype.into(),
                address.map(str::to_owned).into(),
            ],
        )
        .await;
    }

    async fn post(&self, path: &str, token: &str, body: Json_) -> (StatusCode, Json_) {
        let tokens = Tokens {
            database: self.database.clone(),
            stream_tokens: Arc::new(PlainTokens),
            urls: self.urls.clone(),
            ide_ttl: Duration::from_secs(300),
            session_ttl: Duration::from_secs(60),
            clock: || NOW_MS,
        };
        let verifier = TestVerifier { database: self.database.clone(), now_ms: NOW_MS };
        let router =
            zlh_api::finish(with_verifier(router(tokens), verifier), zlh_api::Settings::default());
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&bytes).unwrap_or(Json_::Null))
    }

    async fn ide_token(&self, user: &User, vmid: &str) -> (StatusCode, Json_) {
        self.post(&format!("/api/dev/{vmid}/ide-token"), &user.token(), json!({})).await
    }

    async fn internal(&self, call: &str, body: Json_) -> (StatusCode, Json_) {
        self.post(&format!("/internal/ide/{call}"), "internal.host-1", body).await
    }
}

const ADDRESS: Option<&str> = Some("unix:/run/ide.sock");

#[tokio::test]
async fn the_url_leads_to_the_containers_own_origin() {
    let mut api = Api::new().await;
    let ann = api.user("ann").await;
    api.instance(6001, &ann, "dev", ADDRESS).await;

    let (status, hosted) = api.ide_token(&ann, "6001").await;
    api.urls = IdeUrls::Tunnel;
    let (_, tunnel) = api.ide_token(&ann, "6001").await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(hosted["expiresIn"], 300);
    let token = hosted["token"].as_str().unwrap();
    assert_eq!(hosted["url"], format!("https://dev-6001.ide.example/?token={token}"));
    assert_eq!(tunnel["url"], format!("/api/dev/6001/ide?token={token}"));
}

#[tokio::test]
async fn what_is_not_ones_own_dev_container_does_not_exist() {
    let api = Api::new().await;
    let (ann, bob) = (api.user("ann").await, api.user("bob").await);
    api.instance(6001, &bob, "dev", ADDRESS).await;
    api.instance(5001, &ann, "game", ADDRESS).await;
    api.instance(6002, &ann, "dev", ADDRESS).await;
    api.sql("UPDATE instances SET suspended_at = 1 WHERE vmid = 6002", &[]).await;
    api.instance(6003, &ann, "dev", ADDRESS).await;
    api.sql("UPDATE instances SET state = 'deleting' WHERE vmid = 6003", &[]).await;

    for vmid in ["6001", "5001", "6002", "6003", "6999"] {
        let (status, body) = api.ide_token(&ann, vmid).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{vmid}");
        assert_eq!(body, json!({ "error": "not found", "code": "not_found" }), "{vmid}");
    }
    for vmid in ["06001", "+6001", "x"] {
        assert_eq!(api.ide_token(&bob, vmid).await.0, StatusCode::NOT_FOUND, "{vmid}");
    }
}

#[tokio::test]
async fn a_container_without_an_ide_gives_no_token() {
    let api = Api::new().await;
    let ann = api.user("ann").await;
    api.instance(6001, &ann, "dev", None).await;

    assert_eq!(api.ide_token(&ann, "6001").await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_token_is_exchanged_once_and_works_no_other_way_after_that() {
    let api = Api::new().await;
    let ann = api.user("ann").await;
    api.instance(6001, &ann, "dev", ADDRESS).await;
    let (_, made) = api.ide_token(&ann, "6001").await;
    let by_token = json!({ "vmid": 6001, "credential": { "token": made["token"] } });
    assert_eq!(
        api.internal("check", by_token.clone()).await.0,
        StatusCode::OK,
        "not used up by a check"
    );

    let open = json!({ "vmid": 6001, "token": made["token"] });
    let (status, opened) = api.internal("open", open.clone()).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(opened["maxAgeSeconds"], 60);
    assert_eq!(opened["access"]["ideAddress"], "unix:/run/ide.sock");
    assert_eq!(api.internal("open", open).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.internal("check", by_token).await.0, StatusCode::UNAUTHORIZED);
    let by_session = json!({ "vmid": 6001, "credential": { "session": opened["session"] } });
    let (status, access) = api.internal("check", by_session).await;
    assert_eq!((status, &access), (StatusCode::OK, &opened["access"]));
}

#[tokio::test]
async fn a_credential_opens_its_own_container_only() {
    let api = Api::new().await;
    let ann = api.user("ann").await;
    api.instance(6001, &ann, "dev", ADDRESS).await;
    api.instance(6002, &ann, "dev", ADDRESS).await;
    let (_, made) = api.ide_token(&ann, "6001").await;

    let crossed = api.internal("open", json!({ "vmid": 6002, "token": made["token"] })).await;
    let (_, opened) = api.internal("open", json!({ "vmid": 6001, "token": made["token"] })).await;
    let by_session = json!({ "vmid": 6002, "credential": { "session": opened["session"] } });

    assert_eq!(crossed.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.internal("check", by_session).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_open_ide_ends_with_everything_it_hangs_on() {
    let (login, container) = (StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND);
    for (loss, answer, sql) in [
        ("logout", login, "UPDATE sessions SET ended_at = 1"),
        ("disabled account", login, "UPDATE users SET disabled_at = 1"),
        ("suspension", container, "UPDATE instances SET suspended_at = 1"),
        ("deletion", container, "UPDATE instances SET state = 'deleting'"),
        (
            "another life",
            container,
            "UPDATE instances SET instance_id = 'a7c5b2ce-6a66-4c94-a3a4-2dbbd0a3a3a1'",
        ),
        (
            "another owner",
            container,
            "UPDATE instances SET owner_id = (SELECT id FROM users WHERE username = 'bob')",
        ),
    ] {
        let api = Api::new().await;
        let ann = api.user("ann").await;
        api.user("bob").await;
        api.instance(6001, &ann, "dev", ADDRESS).await;
        let (_, made) = api.ide_token(&ann, "6001").await;
        let (_, opened) =
            api.internal("open", json!({ "vmid": 6001, "token": made["token"] })).await;
        let access = &opened["access"];
        let grant = json!({ "vmid": 6001, "instanceId": access["instanceId"], "userId": access["userId"],
            "sessionId": access["sessionId"] });
        let (_, before) = api.internal("revalidate", json!({ "accesses": [grant] })).await;
        assert_eq!(before["revoked"], json!([]), "{loss}");

        api.sql(sql, &[]).await;

        let by_session = json!({ "vmid": 6001, "credential": { "session": opened["session"] } });
        assert_eq!(api.internal("check", by_session).await.0, answer, "{loss}");
        let (_, after) = api.internal("revalidate", json!({ "accesses": [grant] })).await;
        assert_eq!(after["revoked"], json!([grant]), "{loss}");
    }
}

#[tokio::test]
async fn a_stream_token_opens_its_own_kind_of_stream_of_its_own_container() {
    let api = Api::new().await;
    let (ann, bob) = (api.user("ann").await, api.user("bob").await);
    api.instance(6001, &ann, "dev", ADDRESS).await;
    api.instance(5001, &ann, "game", ADDRESS).await;
    for (vmid, ctype) in [(6001, "dev"), (5001, "game")] {
        for (kind, other) in [("console", "upload"), ("upload", "console")] {
            let path = format!("/api/servers/{vmid}/stream-token");
            let body = json!({ "kind": kind });

            let (status, made) = api.post(&path, &ann.token(), body.clone()).await;

            assert_eq!((status, &made["expiresIn"]), (StatusCode::OK, &json!(300)));
            let check = async |vmid: u32, kind: &str| {
                let body = json!({ "vmid": vmid, "kind": kind, "token": made["token"] });
                api.post("/internal/streams/check", "internal.host-1", body).await
            };
            let (status, access) = check(vmid, kind).await;
            assert_eq!(status, StatusCode::OK, "{access}");
            assert_eq!(access["agentAddress"], "unix:/run/ide.sock");
            assert_eq!((&access["ctype"], &access["vmid"]), (&json!(ctype), &json!(vmid)));
            assert_eq!(access["expiresAtMs"], NOW_MS + 60_000, "it outlives its token");
            assert_eq!(check(vmid, kind).await.0, StatusCode::OK, "it is not used up");
            assert_eq!(check(vmid, other).await.0, StatusCode::UNAUTHORIZED);
            assert_eq!(check(11_002 - vmid, kind).await.0, StatusCode::UNAUTHORIZED);
            assert_eq!(api.post(&path, &bob.token(), body).await.0, StatusCode::NOT_FOUND);
        }
    }
    let codex = json!({ "kind": "codex" });
    let (status, body) = api.post("/api/servers/6001/stream-token", &ann.token(), codex).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("invalid")));
}

#[tokio::test]
async fn a_stream_token_ends_with_what_it_hangs_on() {
    for (answer, sql) in [
        (StatusCode::UNAUTHORIZED, "UPDATE sessions SET ended_at = 1"),
        (StatusCode::UNAUTHORIZED, "UPDATE users SET disabled_at = 1"),
        (StatusCode::NOT_FOUND, "UPDATE instances SET suspended_at = 1"),
        (StatusCode::NOT_FOUND, "UPDATE instances SET state = 'deleting'"),
        (StatusCode::CONFLICT, "UPDATE instances SET agent_address = NULL"),
    ] {
        let api = Api::new().await;
        let ann = api.user("ann").await;
        api.instance(5001, &ann, "game", ADDRESS).await;
        let path = "/api/servers/5001/stream-token";
        let (_, made) = api.post(path, &ann.token(), json!({ "kind": "upload" })).await;

        api.sql(sql, &[]).await;

        let check = json!({ "vmid": 5001, "kind": "upload", "token": made["token"] });
        assert_eq!(
            api.post("/internal/streams/check", "internal.h", check).await.0,
            answer,
            "{sql}"
        );
        assert_eq!(
            api.post(path, &ann.token(), json!({ "kind": "upload" })).await.0,
            answer,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn customers_cannot_ask_what_host_proxies_ask() {
    let api = Api::new().await;
    let ann = api.user("ann").await;
    for call in ["ide/open", "ide/check", "ide/revalidate", "streams/check"] {
        let (status, _) = api.post(&format!("/internal/{call}"), &ann.token(), json!({})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{call}");
    }
}
