//! Kinds of tokens are mutually exclusive: every kind at every route that wants one.

use http::Method;
use system_tests::forge;
use system_tests::host::{Host, claims};
use zlh_authn::token::{Claims, TokenKind};

const NO_OPERATION: &str = "00000000-0000-4000-8000-000000000000";

/// Every route that wants a credential, and the one kind that it takes. What ends the login comes last.
fn routes() -> Vec<(Method, String, TokenKind)> {
    let access = [
        (Method::GET, "/api/auth/me".to_owned()),
        (Method::GET, "/api/instances".to_owned()),
        (Method::POST, "/api/instances".to_owned()),
        (Method::GET, "/api/instances/6000".to_owned()),
        (Method::DELETE, "/api/instances/6999".to_owned()),
        (Method::GET, "/api/servers/6000/status".to_owned()),
        (Method::GET, format!("/api/operations/{NO_OPERATION}")),
        (Method::POST, "/api/dev/6000/ide-token".to_owned()),
        (Method::POST, "/api/dev/6000/codeserver/start".to_owned()),
        (Method::POST, "/api/dev/6000/codeserver/stop".to_owned()),
        (Method::POST, "/api/dev/6000/codeserver/restart".to_owned()),
        (Method::POST, "/api/auth/logout".to_owned()),
    ];
    let internal = [
        (Method::POST, "/internal/migrate".to_owned()),
        (Method::GET, "/internal/agents".to_owned()),
        (Method::POST, "/internal/heartbeats".to_owned()),
        (Method::POST, "/internal/operations/claim".to_owned()),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/heartbeat")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/ports")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/steps")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/undo")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/finish")),
        (Method::POST, "/internal/ide/open".to_owned()),
        (Method::POST, "/internal/ide/check".to_owned()),
        (Method::POST, "/internal/ide/revalidate".to_owned()),
        (Method::POST, "/internal/users".to_owned()),
    ];
    let of = |kind: TokenKind| move |(method, path): (Method, String)| (method, path, kind);
    internal
        .into_iter()
        .map(of(TokenKind::Internal))
        .chain(access.into_iter().map(of(TokenKind::Access)))
        .collect()
}

#[tokio::test]
async fn a_route_takes_its_own_kind_of_token_and_no_other() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let login: Claims = serde_json::from_value(forge::claims(&session.token)).unwrap();
    let tokens = TokenKind::ALL.map(|kind| {
        // In everything but the kind, each is what the login's own token is.
        let mut token = claims(kind, &login.sub);
        token.sid = login.sid;
        (kind, host.sign(&token))
    });

    let mut wrong = Vec::new();
    for (method, path, wanted) in routes() {
        // The right kind last: the route may end the login.
        let (right, others): (Vec<_>, Vec<_>) =
            tokens.iter().partition(|(kind, _)| *kind == wanted);
        for (kind, token) in others.iter().chain(&right) {
            let reply = host.api.call(method.clone(), &path, Some(token), None).await;
            let refused = reply.status == 401;
            if refused == (*kind == wanted) {
                wrong.push(format!(
                    "{method} {path} with {}: {} {}",
                    kind.as_str(),
                    reply.status,
                    reply.text()
                ));
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
