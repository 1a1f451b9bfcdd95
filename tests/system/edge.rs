//! The public listener: what it serves, and what it keeps to itself.

use http::Method;
use system_tests::Stack;
use system_tests::http::{request, send};
use zlh_authn::token::{Claims, TokenKind};

#[tokio::test]
async fn the_public_listener_keeps_internal_routes_to_itself() {
    let stack = Stack::start_without_containers().await;
    let api = stack.api();
    let claims = Claims::new(
        TokenKind::Internal,
        "stranger",
        system_tests::host::now(),
        std::time::Duration::from_secs(60),
    );
    let token = stack.sign(&claims.unwrap());
    let unknown = api.call(Method::GET, "/nowhere", None, None).await;
    assert_eq!(unknown.status, 404);

    for path in [
        "/internal/agents",
        "/internal/",
        "/internal",
        "/INTERNAL/agents",
        "//internal/agents",
        "/./internal/agents",
        "/api/../internal/agents",
        "/%69nternal/agents",
        "/internal%2Fagents",
        "/.well-known/spin/health",
        "/.well-known/spin/info",
    ] {
        let reply = api.call(Method::GET, path, Some(&token), None).await;
        assert!(
            reply.status == 404 || reply.status == 400,
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
    }
    let reply = api.call(Method::GET, "/internal/agents", Some(&token), None).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["code"], "not_found");
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_the_same_envelope() {
    let stack = Stack::start_without_containers().await;
    let api = stack.api();

    let health = api.call(Method::GET, "/api/health", None, None).await.expect(200);
    assert_eq!(health.json()["status"], "ok");
    for (method, path, status, code) in [
        (Method::GET, "/nowhere", 404, "not_found"),
        (Method::GET, "/api/auth/me", 401, "unauthenticated"),
        (Method::DELETE, "/api/health", 405, "method_not_allowed"),
    ] {
        let reply = api.call(method, path, None, None).await.expect(status);
        assert_eq!(reply.json()["code"], code);
        assert!(reply.headers.contains_key("x-request-id"), "{path}");
    }
    let ids = [&health, &api.call(Method::GET, "/api/health", None, None).await]
        .map(|reply| reply.header("x-request-id").unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn the_private_listener_tells_whether_the_system_is_ready() {
    let stack = Stack::start_without_containers().await;
    let get = async |path: &str| {
        send(stack.admin_listener(), request(Method::GET, path, &[], None)).await.unwrap()
    };

    for path in ["/livez", "/readyz", "/metrics"] {
        get(path).await.expect(200);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let reply = stack.api().call(Method::GET, path, None, None).await;
        assert_eq!(reply.status, 404, "{path} is public");
    }
}
