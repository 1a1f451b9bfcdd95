use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zlh_authn::testing::{TestVerifier, access_token};
use zlh_authn::with_verifier;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

struct PlainTokens;

#[async_trait]
impl AccessTokens for PlainTokens {
    async fn issue(
        &self,
        user: UserId,
        session: SessionId,
        _: Duration,
    ) -> Result<String, ApiError> {
        Ok(access_token(user, session))
    }
}

struct Api {
    database: Database,
    now_ms: i64,
    clock: Clock,
}

impl Api {
    async fn new() -> Self {
        let database = Database::in_memory().unwrap();
        zlh_storage::migrate(&database, NOW_MS).await.unwrap();
        Self { database, now_ms: NOW_MS, clock: || NOW_MS }
    }

    /// The same database, fifteen days on: past the life of an unused refresh token.
    fn much_later(&self) -> Self {
        let database = self.database.clone();
        Self { database, now_ms: NOW_MS + 15 * 86_400_000, clock: || NOW_MS + 15 * 86_400_000 }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let auth = Auth {
            database: self.database.clone(),
            access_tokens: Arc::new(PlainTokens),
            access_ttl: Duration::from_secs(3600),
            idle_ttl: Duration::from_secs(14 * 86_400),
            session_ttl: Duration::from_secs(90 * 86_400),
            clock: self.clock,
        };
        let verifier = TestVerifier { database: self.database.clone(), now_ms: self.now_ms };
        let router =
            zlh_api::finish(with_verifier(router(auth), verifier), zlh_api::Settings::default());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("POST", path, "", body).await
    }

    async fn register(&self, name: &str) -> (StatusCode, Value) {
        let email = format!("{name}@example.com");
        let body = json!({ "email": email, "username": name, "password": "correct horse" });
        self.post("/api/auth/register", body).await
    }

    async fn refresh(&self, token: &Value) -> (StatusCode, Value) {
        self.post("/api/auth/refresh", json!({ "refreshToken": token })).await
    }

    async fn me(&self, token: &Value) -> (StatusCode, Value) {
        self.call("GET", "/api/auth/me", token.as_str().unwrap(), json!({})).await
    }
}

#[tokio::test]
async fn a_registered_account_is_logged_in_and_sees_itself() {
    let api = Api::new().await;

    let (status, made) = api.register("ann").await;
    let (_, me) = api.me(&made["token"]).await;

    assert_eq!(status, StatusCode::CREATED);
    assert_eq!((&made["ok"], &made["expiresIn"]), (&json!(true), &json!(3600)));
    assert_eq!(me["user"]["email"], "ann@example.com");
    assert_eq!(me["user"]["role"], "user");
    assert_eq!(me["user"]["createdAt"], "2027-01-15T08:00:00Z");
    assert_eq!(me["user"].get("passwordHash"), None);
}

#[tokio::test]
async fn an_address_or_name_is_taken_whatever_its_case() {
    let api = Api::new().await;
    api.register("ann").await;

    for (email, name) in [("ANN@example.com", "other"), ("other@example.com", "ANN")] {
        let body = json!({ "email": email, "username": name, "password": "correct horse" });
        assert_eq!(
            api.post("/api/auth/register", body).await.0,
            StatusCode::CONFLICT,
            "{email} {name}"
        );
    }
}

#[tokio::test]
async fn nobody_registers_as_admin() {
    let api = Api::new().await;
    let body = json!({ "email": "e@example.com", "username": "eve", "password": "correct horse", "role": "admin" });

    let (status, answer) = api.post("/api/auth/register", body).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().unwrap().contains("unknown field `role`"), "{answer}");
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let api = Api::new().await;
    let good = json!({ "email": "e@example.com", "username": "eve", "password": "correct horse" });
    for (field, value) in
        [("email", "nowhere"), ("username", "e v e"), ("password", "short"), ("firstName", "")]
    {
        let mut body = good.clone();
        body[field] = json!(value);
        let (status, answer) = api.post("/api/auth/register", body).await;
        assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)));
    }
}

#[tokio::test]
async fn a_login_takes_address_or_name_and_does_not_say_which_part_was_wrong() {
    let api = Api::new().await;
    api.register("ann").await;

    for identifier in ["ann", "Ann@Example.com"] {
        let body = json!({ "identifier": identifier, "password": "correct horse" });
        assert_eq!(api.post("/api/auth/login", body).await.0, StatusCode::OK, "{identifier}");
    }
    let wrong = api
        .post("/api/auth/login", json!({ "identifier": "ann", "password": "wrong horse" }))
        .await;
    let unknown = api
        .post("/api/auth/login", json!({ "identifier": "bob", "password": "wrong horse" }))
        .await;
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_second_use_ends_the_session() {
    let api = Api::new().await;
    let (_, first) = api.register("ann").await;
    let (_, second) = api.refresh(&first["refreshToken"]).await;
    let (status, third) = api.refresh(&second["refreshToken"]).await;
    assert_eq!(status, StatusCode::OK);

    let (replayed, _) = api.refresh(&first["refreshToken"]).await;

    assert_eq!(replayed, StatusCode::UNAUTHORIZED);
    assert_eq!(
        api.refresh(&third["refreshToken"]).await.0,
        StatusCode::UNAUTHORIZED,
        "the newest is dead too"
    );
    for pair in [&first, &second, &third] {
        assert_eq!(
            api.me(&pair["token"]).await.0,
            StatusCode::UNAUTHORIZED,
            "and so are access tokens"
        );
    }
}

#[tokio::test]
async fn an_unused_refresh_token_expires() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;

    let (status, _) = api.much_later().refresh(&made["refreshToken"]).await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn logout_ends_this_session_and_no_other() {
    let api = Api::new().await;
    let (_, here) = api.register("ann").await;
    let (_, there) = api
        .post("/api/auth/login", json!({ "identifier": "ann", "password": "correct horse" }))
        .await;

    let (status, _) =
        api.call("POST", "/api/auth/logout", here["token"].as_str().unwrap(), json!({})).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(api.me(&here["token"]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.refresh(&here["refreshToken"]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.me(&there["token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn names_that_are_not_given_are_kept() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;
    let token = made["token"].as_str().unwrap();
    api.call("PATCH", "/api/auth/me", token, json!({ "firstName": "Ann", "lastName": "Onym" }))
        .await;

    let (_, me) = api.call("PATCH", "/api/auth/me", token, json!({ "lastName": "Other" })).await;

    assert_eq!(
        (&me["user"]["firstName"], &me["user"]["lastName"]),
        (&json!("Ann"), &json!("Other"))
    );
}

#[tokio::test]
async fn only_a_host_proxy_makes_admins() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;
    let body = json!({ "email": "r@example.com", "username": "root", "password": "correct horse", "role": "admin" });

    let (refused, _) =
        api.call("POST", "/internal/users", made["token"].as_str().unwrap(), body.clone()).await;
    let (status, _) = api.call("POST", "/internal/users", "internal.host-1", body.clone()).await;
    let (again, _) = api.call("POST", "/internal/users", "internal.host-1", body).await;

    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(again, StatusCode::CONFLICT);
    let (_, login) = api
        .post("/api/auth/login", json!({ "identifier": "root", "password": "correct horse" }))
        .await;
    assert_eq!(api.me(&login["token"]).await.1["user"]["role"], "admin");
}
