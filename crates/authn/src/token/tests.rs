use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

struct Keys {
    signing: SigningKeys,
    public: PublicKeys,
    jwks: Vec<Value>,
}

fn keys() -> Keys {
    let pairs: Vec<_> = TokenKind::ALL.map(|kind| generate_key(kind).unwrap()).into();
    let private: Vec<_> = pairs.iter().map(|pair| pair.signing.clone()).collect();
    let jwks: Vec<_> = pairs.iter().map(|pair| pair.public.clone()).collect();
    Keys {
        signing: SigningKeys::from_json(&json!(private).to_string()).unwrap(),
        public: PublicKeys::from_json(&json!({ "keys": jwks }).to_string()).unwrap(),
        jwks,
    }
}

fn claims(kind: TokenKind) -> Claims {
    Claims::new(kind, "somebody", NOW, Duration::from_secs(300)).unwrap()
}

#[test]
fn a_token_is_accepted_as_its_own_kind_and_as_no_other() {
    let keys = keys();
    for kind in TokenKind::ALL {
        let token = keys.signing.sign(&claims(kind)).unwrap();
        for expected in TokenKind::ALL {
            let accepted = keys.public.verify(&token, expected, NOW).is_ok();
            assert_eq!(accepted, kind == expected, "{kind:?} as {expected:?}");
        }
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_and_five_seconds_around() {
    let keys = keys();
    let token = keys.signing.sign(&claims(TokenKind::DevIde)).unwrap();
    for (offset, accepted) in [(-6, false), (-5, true), (0, true), (304, true), (305, false)] {
        let verdict = keys.public.verify(&token, TokenKind::DevIde, NOW + offset);
        assert_eq!(verdict.is_ok(), accepted, "{offset} s after issue");
    }
}

#[test]
fn another_key_under_our_kid_is_refused() {
    let (ours, theirs) = (keys(), generate_key(TokenKind::Access).unwrap());
    let mut forged = theirs.signing;
    forged["kid"] = ours.jwks[0]["kid"].clone();
    let forger = SigningKeys::from_json(&json!([forged]).to_string()).unwrap();

    let token = forger.sign(&claims(TokenKind::Access)).unwrap();

    assert_eq!(ours.public.verify(&token, TokenKind::Access, NOW), Err(Rejected));
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    let keys = keys();
    let kid = keys.jwks[0]["kid"].as_str().unwrap();
    let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims(TokenKind::Access)).unwrap());

    for alg in ["none", "noNE", "HS256", "EdDSA "] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": kid }).to_string());
        for signature in ["", "AA"] {
            let token = format!("{header}.{body}.{signature}");
            assert_eq!(keys.public.verify(&token, TokenKind::Access, NOW), Err(Rejected), "{alg}");
        }
    }

    // The public key as an HMAC secret is the classic confusion of RS256 and HS256.
    let secret = URL_SAFE_NO_PAD.decode(keys.jwks[0]["x"].as_str().unwrap()).unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.to_owned());
    let token = jsonwebtoken::encode(
        &header,
        &claims(TokenKind::Access),
        &EncodingKey::from_secret(&secret),
    )
    .unwrap();
    assert_eq!(keys.public.verify(&token, TokenKind::Access, NOW), Err(Rejected));
}

#[test]
fn other_issuers_audiences_and_shapes_are_refused() {
    let keys = keys();
    let good = claims(TokenKind::Access);
    let altered = [
        Claims { iss: "other".into(), ..good.clone() },
        Claims { aud: "zlh:internal".into(), ..good.clone() },
        Claims { iat: NOW + 60, ..good.clone() },
    ];
    for claims in altered {
        let token = keys.signing.sign(&claims).unwrap();
        assert_eq!(keys.public.verify(&token, TokenKind::Access, NOW), Err(Rejected), "{claims:?}");
    }

    let token = keys.signing.sign(&good).unwrap();
    for shape in
        [String::new(), "a.b".into(), format!("{token}.x"), format!(" {token}"), "x".repeat(5000)]
    {
        assert_eq!(keys.public.verify(&shape, TokenKind::Access, NOW), Err(Rejected), "{shape:?}");
    }
}

#[test]
fn a_kind_without_a_private_key_cannot_be_issued() {
    let only_access = json!([generate_key(TokenKind::Access).unwrap().signing]).to_string();
    let keys = SigningKeys::from_json(&only_access).unwrap();

    let error = keys.sign(&claims(TokenKind::Internal)).unwrap_err();

    assert_eq!(error.to_string(), "no private key for `internal` tokens was granted");
}

#[test]
fn a_bad_key_set_is_named_without_its_secrets() {
    let mut short = generate_key(TokenKind::Access).unwrap();
    short.public["x"] = json!("AAAA");
    let kid = short.public["kid"].as_str().unwrap().to_owned();
    let error =
        PublicKeys::from_json(&json!({ "keys": [short.public] }).to_string()).err().unwrap();
    assert_eq!(error.to_string(), format!("key `{kid}` is not an Ed25519 key"));

    let leaked =
        PublicKeys::from_json(&json!({ "keys": [short.signing] }).to_string()).err().unwrap();
    assert_eq!(
        leaked.to_string(),
        format!("key `{kid}` has a private part, which does not belong here")
    );
}
