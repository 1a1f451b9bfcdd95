use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zlh_authn::testing::{TestVerifier, access_token};
use zlh_authn::with_verifier;

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

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

#[derive(Clone)]
struct Api {
    database: Database,
    now_ms: i64,
    clock: Clock,
    network: &'static str,
}

impl Api {
    async fn new() -> Self {
        let database = Database::in_memory().unwrap();
        zlh_storage::migrate(&database, NOW_MS).await.unwrap();
        Self { database, now_ms: NOW_MS, clock: || NOW_MS, network: "192.0.2.1" }
    }

    /// The same database, days later. An unused refresh token lives 14 days, a session 90.
    fn on_day<const DAY: i64>(&self) -> Self {
        Self { now_ms: NOW_MS + DAY * DAY_MS, clock: || NOW_MS + DAY * DAY_MS, ..self.clone() }
    }

    /// The same database, milliseconds later.
    fn after<const MS: i64>(&self) -> Self {
        Self { now_ms: NOW_MS + MS, clock: || NOW_MS + MS, ..self.clone() }
    }

    /// The same database, from elsewhere.
    fn at(&self, network: &'static str) -> Self {
        Self { network, ..self.clone() }
    }

    async fn sql(&self, sql: &str, params: &[zlh_storage::Value]) -> Vec<zlh_storage::Row> {
        self.database.open().await.unwrap().query(sql, params).await.unwrap()
    }

    async fn password_hash(&self) -> String {
        self.sql("SELECT password_hash FROM users", &[]).await[0].get(0).unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        self.sql(&format!("SELECT COUNT(*) FROM {table}"), &[]).await[0].get(0).unwrap()
    }

    async fn login(&self, name: &str) -> (StatusCode, Value) {
        let body = json!({ "identifier": name, "password": "correct horse" });
        self.post("/api/auth/login", body).await
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
            .header("x-forwarded-for", self.network)
            .header("user-agent", "browser")
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

    let (in_time, _) = api.on_day::<13>().refresh(&made["refreshToken"]).await;
    let (_, other) = api.login("ann").await;
    let (too_late, _) = api.on_day::<15>().refresh(&other["refreshToken"]).await;

    assert_eq!((in_time, too_late), (StatusCode::OK, StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn the_second_use_of_a_token_that_would_have_expired_ends_the_session_too() {
    let api = Api::new().await;
    let (_, first) = api.register("ann").await;
    let (_, second) = api.refresh(&first["refreshToken"]).await;
    let (_, third) = api.on_day::<10>().refresh(&second["refreshToken"]).await;

    let later = api.on_day::<15>();
    let (replayed, _) = later.refresh(&first["refreshToken"]).await;

    assert_eq!(replayed, StatusCode::UNAUTHORIZED);
    assert_eq!(later.refresh(&third["refreshToken"]).await.0, StatusCode::UNAUTHORIZED);
    let row = &api.sql("SELECT end_reason FROM sessions", &[]).await[0];
    assert_eq!(row.get::<String>(0).unwrap(), "refresh-token-reused");
}

#[tokio::test]
async fn sessions_are_forgotten_once_they_would_be_over() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;
    api.refresh(&made["refreshToken"]).await;

    api.on_day::<89>().login("ann").await;
    assert_eq!((api.count("sessions").await, api.count("refresh_tokens").await), (2, 3));
    api.on_day::<91>().login("ann").await;

    assert_eq!((api.count("sessions").await, api.count("refresh_tokens").await), (2, 2));
}

#[tokio::test]
async fn a_weaker_hash_is_replaced_at_login() {
    let api = Api::new().await;
    api.register("ann").await;
    let weak = weak_hash("correct horse");
    api.sql("UPDATE users SET password_hash = $1", &[weak.as_str().into()]).await;

    let (wrong, _) = api
        .post("/api/auth/login", json!({ "identifier": "ann", "password": "wrong horse" }))
        .await;
    let kept = api.password_hash().await;
    let (right, _) = api.login("ann").await;

    assert_eq!((wrong, right), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    assert_eq!(kept, weak);
    let stored = api.password_hash().await;
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    assert_eq!(api.login("ann").await.0, StatusCode::OK);
    let again = api.password_hash().await;
    assert_eq!(again, stored, "a hash that is strong enough stays");
}

fn weak_hash(password: &str) -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    let params = argon2::Params::new(4096, 1, 1, None).unwrap();
    let salt = SaltString::from_b64("c29tZXNhbHRzYWx0").unwrap();
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password(password.as_bytes(), &salt)
        .unwrap()
        .to_string()
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

async fn guess(api: &Api, name: &str) -> StatusCode {
    api.post("/api/auth/login", json!({ "identifier": name, "password": "wrong horse" })).await.0
}

async fn guesses(api: &Api, name: &str, count: usize) {
    for _ in 0..count {
        assert_eq!(guess(api, name).await, StatusCode::UNAUTHORIZED);
    }
}

/// As many wrong passwords as a network has for one account, without the time that hashing takes.
async fn count_failures(api: &Api, scope: &str, failures: i64) {
    let sql =
        "INSERT INTO login_failures (scope, failures, last_at) VALUES ($1, $2, $3) RETURNING 1";
    api.sql(sql, &[scope.into(), failures.into(), api.now_ms.into()]).await;
}

#[tokio::test]
async fn after_ten_wrong_passwords_the_next_waits_known_account_or_not() {
    let api = Api::new().await;
    api.register("ann").await;

    for name in ["ann", "nobody"] {
        guesses(&api, name, 10).await;
        assert_eq!(guess(&api, name).await, StatusCode::TOO_MANY_REQUESTS, "{name}");
        assert_eq!(guess(&api.after::<999>(), name).await, StatusCode::TOO_MANY_REQUESTS, "{name}");
        guesses(&api.after::<1000>(), name, 1).await;
        let doubled = api.after::<2999>();
        assert_eq!(guess(&doubled, name).await, StatusCode::TOO_MANY_REQUESTS, "{name}");
        guesses(&api.after::<3000>(), name, 1).await;
    }
}

#[tokio::test]
async fn whoever_waits_is_not_let_in_by_the_right_password_and_is_after_that() {
    let api = Api::new().await;
    api.register("ann").await;
    guesses(&api, "ann", 10).await;

    let (early, _) = api.login("ann").await;
    let (late, _) = api.after::<1000>().login("ann").await;

    assert_eq!((early, late), (StatusCode::TOO_MANY_REQUESTS, StatusCode::OK));
    guesses(&api.after::<1000>(), "ann", 10).await;
}

#[tokio::test]
async fn guesses_at_once_are_no_more_than_guesses_in_a_row() {
    let api = Api::new().await;
    api.register("ann").await;

    let answers = futures::future::join_all((0..30).map(|_| guess(&api, "ann"))).await;

    let let_through = answers.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count();
    assert_eq!(let_through, 10);
}

#[tokio::test]
async fn strangers_cannot_keep_an_owner_out() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;
    let (_, me) = api.me(&made["token"]).await;
    let account = zlh_authn::token::hash_secret(me["user"]["id"].as_str().unwrap());
    count_failures(&api, &format!("account {account}"), 1_000_000).await;

    let (stranger, _) = api.at("198.51.100.7").login("ann").await;
    let (owner, _) = api.login("ann").await;

    assert_eq!((stranger, owner), (StatusCode::TOO_MANY_REQUESTS, StatusCode::OK));
}

#[tokio::test]
async fn a_network_that_guesses_at_many_accounts_waits_and_no_other_does() {
    let api = Api::new().await;
    api.register("ann").await;
    count_failures(&api, "from 192.0.2.1", 100).await;

    assert_eq!(guess(&api, "ann").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(guess(&api, "another").await, StatusCode::TOO_MANY_REQUESTS);
    guesses(&api.at("198.51.100.7"), "ann", 1).await;
}

#[tokio::test]
async fn wrong_passwords_are_forgotten_after_a_day() {
    let api = Api::new().await;
    api.register("ann").await;
    guesses(&api, "ann", 10).await;

    guesses(&api.on_day::<1>(), "ann", 10).await;

    assert_eq!(api.count("login_failures").await, 2, "the account from there, and the network");
}

#[tokio::test]
async fn one_sees_ones_sessions_and_ends_those_elsewhere() {
    let api = Api::new().await;
    let (_, here) = api.register("ann").await;
    let (_, there) = api.after::<60_000>().at("2001:db8::1").login("ann").await;
    let (_, foreign) = api.register("eve").await;
    let token = here["token"].as_str().unwrap();

    let (_, list) = api.call("GET", "/api/auth/sessions", token, Value::Null).await;
    let shown = list["sessions"].as_array().unwrap();

    assert_eq!(shown.len(), 2, "{list}");
    let facts = |n: usize| {
        let s = &shown[n];
        (s["current"].clone(), s["network"].clone(), s["userAgent"].clone(), s["usedAt"].clone())
    };
    let browser = json!("browser");
    let (then, later) = (json!("2027-01-15T08:00:00Z"), json!("2027-01-15T08:01:00Z"));
    assert_eq!(facts(0), (json!(false), json!("2001:db8::/64"), browser.clone(), later));
    assert_eq!(facts(1), (json!(true), json!("192.0.2.1"), browser, then));

    let path = format!("/api/auth/sessions/{}", shown[0]["id"].as_str().unwrap());
    let foreign_token = foreign["token"].as_str().unwrap();
    let delete = async |token| api.call("DELETE", &path, token, Value::Null).await.0;
    assert_eq!(delete(foreign_token).await, StatusCode::NOT_FOUND);
    assert_eq!(api.me(&there["token"]).await.0, StatusCode::OK);
    assert_eq!(delete(token).await, StatusCode::OK);
    assert_eq!(delete(token).await, StatusCode::NOT_FOUND, "once");
    assert_eq!(api.me(&there["token"]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.me(&here["token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_session_that_nobody_can_go_on_with_is_not_shown() {
    let api = Api::new().await;
    let (_, unused) = api.register("ann").await;
    let (_, used) = api.login("ann").await;
    api.on_day::<10>().refresh(&used["refreshToken"]).await;
    let (_, new) = api.on_day::<15>().login("ann").await;

    let (_, list) = api
        .on_day::<15>()
        .call("GET", "/api/auth/sessions", new["token"].as_str().unwrap(), Value::Null)
        .await;

    assert_eq!(list["sessions"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(
        api.on_day::<15>().refresh(&unused["refreshToken"]).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn logout_everywhere_ends_every_session_of_this_user_only() {
    let api = Api::new().await;
    let (_, here) = api.register("ann").await;
    let (_, there) = api.login("ann").await;
    let (_, foreign) = api.register("eve").await;

    api.call("POST", "/api/auth/logout-all", here["token"].as_str().unwrap(), Value::Null).await;

    for ended in [&here, &there] {
        assert_eq!(api.me(&ended["token"]).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(api.refresh(&ended["refreshToken"]).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(api.me(&foreign["token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn another_password_needs_the_present_one_and_ends_all_other_sessions() {
    let api = Api::new().await;
    let (_, here) = api.register("ann").await;
    let (_, there) = api.login("ann").await;
    let token = here["token"].as_str().unwrap();
    let change = async |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        api.call("POST", "/api/auth/password", token, body).await
    };

    let (wrong, answer) = change("wrong horse", "battery staple").await;
    assert_eq!((wrong, &answer["field"]), (StatusCode::BAD_REQUEST, &json!("currentPassword")));
    let (short, answer) = change("correct horse", "short").await;
    assert_eq!((short, &answer["field"]), (StatusCode::BAD_REQUEST, &json!("newPassword")));
    assert_eq!(api.me(&there["token"]).await.0, StatusCode::OK);
    assert_eq!(change("correct horse", "battery staple").await.0, StatusCode::OK);

    assert_eq!(api.login("ann").await.0, StatusCode::UNAUTHORIZED);
    let new = json!({ "identifier": "ann", "password": "battery staple" });
    assert_eq!(api.post("/api/auth/login", new).await.0, StatusCode::OK);
    assert_eq!(api.me(&here["token"]).await.0, StatusCode::OK);
    assert_eq!(api.me(&there["token"]).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(api.refresh(&there["refreshToken"]).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stolen_token_guesses_no_faster_than_a_login() {
    let api = Api::new().await;
    let (_, made) = api.register("ann").await;
    guesses(&api, "ann", 10).await;
    let body = json!({ "currentPassword": "wrong horse", "newPassword": "battery staple" });

    let (status, _) =
        api.call("POST", "/api/auth/password", made["token"].as_str().unwrap(), body).await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}
