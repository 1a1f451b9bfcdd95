//! Kinds of tokens are mutually exclusive: every kind at every route that wants one.

use http::Method;
use serde_json::Value;
use system_tests::forge;
use system_tests::host::{Host, claims};
use zlh_authn::token::{Claims, TokenKind};

const NO_OPERATION: &str = "00000000-0000-4000-8000-000000000000";

/// Operations of the public API that want a login, from its description: one that is new is in it by itself.
fn public_operations() -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"].is_array() {
                let method: Method = method.to_uppercase().parse().unwrap();
                let id = if path.contains("operations") { NO_OPERATION } else { "6999" };
                operations.push((method, path.replace("{id}", id).replace("{vmid}", id)));
            }
        }
    }
    operations
}

/// Every route that wants a credential, and the one kind that it takes.
fn routes() -> Vec<(Method, String, TokenKind)> {
    let internal = [
        (Method::POST, "/internal/migrate".to_owned()),
        (Method::GET, "/internal/agents".to_owned()),
        (Method::GET, "/internal/agents/6999".to_owned()),
        (Method::POST, "/internal/agents/claim".to_owned()),
        (Method::POST, "/internal/heartbeats".to_owned()),
        (Method::POST, "/internal/audit".to_owned()),
        (Method::POST, "/internal/operations/claim".to_owned()),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/heartbeat")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/ports")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/steps")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/undo")),
        (Method::POST, format!("/internal/operations/{NO_OPERATION}/finish")),
        (Method::POST, "/internal/ide/open".to_owned()),
        (Method::POST, "/internal/ide/check".to_owned()),
        (Method::POST, "/internal/ide/revalidate".to_owned()),
        (Method::POST, "/internal/streams/check".to_owned()),
        (Method::POST, "/internal/users".to_owned()),
    ];
    let of = |kind: TokenKind| move |(method, path): (Method, String)| (method, path, kind);
    internal
        .into_iter()
        .map(of(TokenKind::Internal))
        .chain(public_operations().into_iter().map(of(TokenKind::Access)))
        .collect()
}

#[tokio::test]
async fn a_route_takes_its_own_kind_of_token_and_no_other() {
    let host = Host::start().await;
    let tokens_of = async |name: &str| {
        let session = host.somebody(name).await;
        let login: Claims = serde_json::from_value(forge::claims(&session.token)).unwrap();
        TokenKind::ALL.map(|kind| {
            // In everything but the kind, each is what the login's own token is.
            let mut token = claims(kind, &login.sub);
            token.sid.clone_from(&login.sid);
            (kind, host.sign(&token))
        })
    };
    let anns = tokens_of("ann").await;

    let mut wrong = Vec::new();
    for (method, path, wanted) in routes() {
        let ends_login = path.strip_prefix("/api/auth/").filter(|name| name.starts_with("logout"));
        let tokens = match ends_login {
            Some(name) => tokens_of(name).await,
            None => anns.clone(),
        };
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
