//! `identity`: it has no route; what it promises is seen through the components that import it.

use http::Method;
use serde_json::json;
use system_tests::forge;
use system_tests::host::{Host, now};
use zlh_authn::token::Claims;

use crate::assert_unauthenticated;

#[tokio::test]
async fn what_it_signs_it_accepts_and_anyone_can_check() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let jwks = host.api.call(Method::GET, "/.well-known/jwks.json", None, None).await.expect(200);

    let keys = zlh_authn::token::PublicKeys::from_json(&jwks.text()).unwrap();

    keys.verify(&session.token, zlh_authn::token::TokenKind::Access, now()).unwrap();
    session.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_forged_token_is_refused_and_nobody_is_told_why() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let jwks =
        host.api.call(Method::GET, "/.well-known/jwks.json", None, None).await.expect(200).json();
    let token = &session.token;
    let mut expired: Claims = serde_json::from_value(forge::claims(token)).unwrap();
    expired.exp = now() - 6;
    let mut early = expired.clone();
    early.exp = now() + 300;
    early.nbf = now() + 60;

    let mut replies = Vec::new();
    for (what, forged) in [
        ("alg none", forge::unsigned(token, "none")),
        ("alg noNE", forge::unsigned(token, "noNE")),
        ("the public key as HMAC secret", forge::hmac_with_public_key(token, &jwks)),
        ("another key", forge::other_key(token)),
        ("a bit of the signature", forge::broken_signature(token)),
        (
            "another subject",
            forge::with_claim(token, "sub", &json!("00000000-0000-4000-8000-000000000000")),
        ),
        ("expired", host.sign(&expired)),
        ("not yet valid", host.sign(&early)),
        ("nonsense", "nonsense".to_owned()),
        ("a long one", "a".repeat(4000)),
    ] {
        let reply = host.api.call(Method::GET, "/api/auth/me", Some(&forged), None).await;
        assert_unauthenticated(&reply);
        replies.push((what, reply.fingerprint()));
    }
    for pair in replies.windows(2) {
        assert_eq!(pair[0].1, pair[1].1, "{} and {}", pair[0].0, pair[1].0);
    }
    session.get("/api/auth/me").await.expect(200);
}
