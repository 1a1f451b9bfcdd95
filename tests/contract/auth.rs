//! `auth`: accounts and logins.

use http::Method;
use serde_json::{Value, json};
use system_tests::api::PASSWORD;
use system_tests::host::Host;

use crate::{
    assert_invalid, assert_not_found, assert_rate_limited, assert_too_large,
    assert_unauthenticated, with, with_unknown, without,
};

#[tokio::test]
async fn who_registers_is_logged_in() {
    let host = Host::start().await;
    let body = json!({ "email": "ann@example.com", "username": "ann", "password": PASSWORD });

    let reply = host
        .api
        .call(Method::POST, "/api/auth/register", None, Some(&body))
        .await
        .expect(201)
        .json();

    assert_eq!(reply["ok"], true);
    assert_eq!(reply["expiresIn"], 3600);
    let me = host
        .api
        .call(Method::GET, "/api/auth/me", reply["token"].as_str(), None)
        .await
        .expect(200)
        .json();
    assert_eq!(me["ok"], true);
    assert_eq!(me["user"]["email"], "ann@example.com");
    assert_eq!(me["user"]["username"], "ann");
    assert!(!me.to_string().contains("password"), "{me}");
}

#[tokio::test]
async fn an_address_or_name_is_taken_once_however_it_is_spelt() {
    let host = Host::start().await;
    host.somebody("ann").await;
    let body = json!({ "email": "other@example.com", "username": "other", "password": PASSWORD });

    for (name, value) in [("email", "ANN@example.com"), ("username", "Ann")] {
        let body = with(&body, name, json!(value));
        let reply = host.api.call(Method::POST, "/api/auth/register", None, Some(&body)).await;
        assert_eq!(reply.status, 409, "{value}: {}", reply.text());
        assert_eq!(reply.json()["code"], "conflict");
    }
}

#[tokio::test]
async fn a_registration_that_lacks_something_or_says_too_much_is_refused() {
    let host = Host::start().await;
    let body = json!({ "email": "ann@example.com", "username": "ann", "password": PASSWORD });

    let mut bodies = vec![with_unknown(&body), json!([]), with(&body, "email", json!("ann"))];
    bodies.push(with(&body, "password", json!("short")));
    bodies.push(with(&body, "password", json!("x".repeat(257))));
    bodies.extend(["email", "username", "password"].map(|name| without(&body, name)));
    for body in bodies {
        assert_invalid(&host.api.call(Method::POST, "/api/auth/register", None, Some(&body)).await);
    }
    host.api.call(Method::POST, "/api/auth/register", None, Some(&body)).await.expect(201);
}

#[tokio::test]
async fn a_login_takes_the_address_or_the_name() {
    let host = Host::start().await;
    host.somebody("ann").await;

    for identifier in ["ann@example.com", "ann"] {
        let session = host.api.login(identifier).await;
        session.get("/api/auth/me").await.expect(200);
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_are_answered_alike() {
    let host = Host::start().await;
    host.somebody("ann").await;
    let attempt = async |identifier: &str, password: &str| {
        let body = json!({ "identifier": identifier, "password": password });
        host.api.call(Method::POST, "/api/auth/login", None, Some(&body)).await
    };

    let wrong = attempt("ann", "wrong horse battery staple").await;
    let unknown = attempt("nobody", PASSWORD).await;

    assert_unauthenticated(&wrong);
    assert_eq!(wrong.fingerprint(), unknown.fingerprint());
    assert_invalid(
        &host
            .api
            .call(Method::POST, "/api/auth/login", None, Some(&json!({ "identifier": "ann" })))
            .await,
    );
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_exchange() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    let reply = host.api.refresh(&session.refresh_token).await.expect(200).json();

    assert_ne!(reply["refreshToken"], json!(session.refresh_token));
    let token = reply["token"].as_str();
    host.api.call(Method::GET, "/api/auth/me", token, None).await.expect(200);
    assert_unauthenticated(&host.api.refresh(&session.refresh_token).await);
}

#[tokio::test]
async fn a_used_refresh_token_ends_the_whole_login() {
    let host = Host::start().await;
    let mut session = host.somebody("ann").await;
    let stolen = session.refresh_token.clone();
    let mut chain = vec![stolen.clone()];
    for _ in 0..3 {
        let reply = host.api.refresh(&session.refresh_token).await.expect(200).json();
        session.token = reply["token"].as_str().unwrap().to_owned();
        session.refresh_token = reply["refreshToken"].as_str().unwrap().to_owned();
        chain.push(session.refresh_token.clone());
    }
    let elsewhere = host.api.login("ann").await;

    assert_unauthenticated(&host.api.refresh(&stolen).await);

    for token in &chain {
        assert_unauthenticated(&host.api.refresh(token).await);
    }
    assert_unauthenticated(&session.get("/api/auth/me").await);
    elsewhere.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn nonsense_is_no_refresh_token() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    for token in ["", "nonsense", &session.token] {
        let reply = host.api.refresh(token).await;
        assert!(
            reply.status == 400 || reply.status == 401,
            "{token:?}: {} {}",
            reply.status,
            reply.text()
        );
    }
    assert_invalid(&host.api.call(Method::POST, "/api/auth/refresh", None, Some(&json!({}))).await);
}

#[tokio::test]
async fn a_logout_ends_its_own_login_only() {
    let host = Host::start().await;
    let (here, elsewhere) = (host.somebody("ann").await, host.api.login("ann").await);

    let reply = here.post("/api/auth/logout").await.expect(200).json();

    assert_eq!(reply["ok"], true);
    assert_unauthenticated(&here.get("/api/auth/me").await);
    assert_unauthenticated(&host.api.refresh(&here.refresh_token).await);
    elsewhere.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn names_that_are_given_are_changed_and_others_are_kept() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let change = async |body: Value| {
        session.call(Method::PATCH, "/api/auth/me", Some(&body)).await.expect(200).json()
    };

    change(json!({ "firstName": "Ann", "lastName": "Other" })).await;
    let user = change(json!({ "lastName": "Smith" })).await["user"].clone();

    assert_eq!((&user["firstName"], &user["lastName"]), (&json!("Ann"), &json!("Smith")));
    let long = json!({ "displayName": "x".repeat(101) });
    for body in [long, json!({ "firstName": "" }), with_unknown(&json!({})), json!([])] {
        assert_invalid(&session.call(Method::PATCH, "/api/auth/me", Some(&body)).await);
    }
    let body = json!({ "firstName": "Eve" });
    assert_unauthenticated(&host.api.call(Method::PATCH, "/api/auth/me", None, Some(&body)).await);
    assert_eq!(session.get("/api/auth/me").await.expect(200).json()["user"], user);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    for route in ["register", "login", "refresh", "password"] {
        assert_too_large(&session, Method::POST, &format!("/api/auth/{route}")).await;
    }
    assert_too_large(&session, Method::PATCH, "/api/auth/me").await;
}

#[tokio::test]
async fn nobody_can_see_or_end_a_login_without_its_token() {
    let host = Host::start().await;

    assert_unauthenticated(&host.api.call(Method::GET, "/api/auth/me", None, None).await);
    let session = "/api/auth/sessions/00000000-0000-4000-8000-000000000000";
    assert_unauthenticated(&host.api.call(Method::GET, "/api/auth/sessions", None, None).await);
    assert_unauthenticated(&host.api.call(Method::DELETE, session, None, None).await);
    for route in ["logout", "logout-all"] {
        let path = format!("/api/auth/{route}");
        assert_unauthenticated(&host.api.call(Method::POST, &path, None, None).await);
    }
    for header in ["Bearer", "Bearer ", "Basic YTpi", "Token x", "Bearer a b"] {
        let headers = [("authorization", header)];
        assert_unauthenticated(
            &host.api.call_with(Method::GET, "/api/auth/me", &headers, None).await,
        );
    }
}

#[tokio::test]
async fn one_ends_a_login_elsewhere_and_then_all_of_them() {
    let host = Host::start().await;
    let (here, elsewhere) = (host.somebody("ann").await, host.api.login("ann").await);
    let foreign = host.somebody("eve").await;

    let list = here.get("/api/auth/sessions").await.expect(200).json();
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!((&list["ok"], sessions.len()), (&json!(true), 2), "{list}");
    let other = sessions.iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/api/auth/sessions/{}", other["id"].as_str().unwrap());

    assert_not_found(&foreign.call(Method::DELETE, &path, None).await);
    assert_not_found(&here.call(Method::DELETE, "/api/auth/sessions/1", None).await);
    here.call(Method::DELETE, &path, None).await.expect(200);
    assert_unauthenticated(&elsewhere.get("/api/auth/me").await);
    here.post("/api/auth/logout-all").await.expect(200);
    assert_unauthenticated(&here.get("/api/auth/me").await);
    foreign.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn another_password_ends_the_other_logins() {
    let host = Host::start().await;
    let (here, elsewhere) = (host.somebody("ann").await, host.api.login("ann").await);
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "another horse" });
    let path = "/api/auth/password";

    for wrong in [
        with_unknown(&body),
        without(&body, "currentPassword"),
        with(&body, "currentPassword", json!("wrong horse")),
        with(&body, "newPassword", json!("short")),
    ] {
        assert_invalid(&here.call(Method::POST, path, Some(&wrong)).await);
    }
    assert_unauthenticated(&host.api.call(Method::POST, path, None, Some(&body)).await);
    here.call(Method::POST, path, Some(&body)).await.expect(200);

    here.get("/api/auth/me").await.expect(200);
    assert_unauthenticated(&elsewhere.get("/api/auth/me").await);
    let login = json!({ "identifier": "ann", "password": "another horse" });
    host.api.call(Method::POST, "/api/auth/login", None, Some(&login)).await.expect(200);
}

#[tokio::test]
async fn who_guesses_passwords_has_to_wait() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let guess = json!({ "identifier": "ann", "password": "wrong horse" });
    let change = json!({ "currentPassword": "wrong horse", "newPassword": "another horse" });

    // Each wrong one that is not refused makes the next wait longer.
    let mut statuses = Vec::new();
    for (path, body, wrong) in
        [("/api/auth/login", &guess, 401), ("/api/auth/password", &change, 400)]
    {
        let mut reply = session.call(Method::POST, path, Some(body)).await;
        while reply.status == wrong {
            statuses.push(wrong);
            reply = session.call(Method::POST, path, Some(body)).await;
        }
        assert_rate_limited(&reply);
    }
    assert!(statuses.len() >= 10, "{statuses:?}");
}

#[tokio::test]
async fn an_operator_makes_accounts_by_the_internal_route() {
    let host = Host::start().await;
    let body = json!({ "email": "root@example.com", "username": "root", "password": PASSWORD, "role": "admin" });

    let made = host.internal(Method::POST, "/internal/users", Some(&body)).await.expect(201).json();

    assert!(made["userId"].is_string(), "{made}");
    host.api.login("root").await.get("/api/auth/me").await.expect(200);
    assert_eq!(host.internal(Method::POST, "/internal/users", Some(&body)).await.status, 409);
    let odd = with(&with(&body, "role", json!("god")), "username", json!("other"));
    assert_invalid(&host.internal(Method::POST, "/internal/users", Some(&odd)).await);
}
