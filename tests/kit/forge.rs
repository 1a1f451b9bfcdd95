//! Tokens that must not be accepted.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zlh_authn::token::{SigningKeys, TokenKind, generate_key};

/// The claims of a token, read without checking anything.
#[must_use]
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a token.
#[must_use]
pub fn header(token: &str) -> Value {
    part(token, 0)
}

/// The same claims with no signature at all, the algorithm being spelt as told.
#[must_use]
pub fn unsigned(token: &str, alg: &str) -> String {
    let mut header = header(token);
    header["alg"] = json!(alg);
    format!("{}.{}.", encode(&header), encode(&claims(token)))
}

/// The same claims under HMAC with the public key as the secret.
#[must_use]
pub fn hmac_with_public_key(token: &str, jwks: &Value) -> String {
    let mut header = header(token);
    let key = jwks["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == header["kid"]);
    let key =
        key.and_then(|key| key["x"].as_str()).expect("the key that signed the token is published");
    header["alg"] = json!("HS256");
    let signed = format!("{}.{}", encode(&header), encode(&claims(token)));
    let secret = URL_SAFE_NO_PAD.decode(key).expect("base64url");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac_sha256(&secret, signed.as_bytes())))
}

/// The same claims under the same `kid`, signed by a key that nobody knows.
#[must_use]
pub fn other_key(token: &str) -> String {
    let claims = serde_json::from_value(claims(token)).expect("claims");
    let kind: TokenKind =
        serde_json::from_value(self::claims(token)["type"].clone()).expect("a kind");
    let mut key = generate_key(kind).expect("a key").signing;
    key["kid"] = header(token)["kid"].clone();
    SigningKeys::from_json(&json!([key]).to_string())
        .expect("keys")
        .sign(&claims)
        .expect("a signature")
}

/// The same token, one claim being another.
#[must_use]
pub fn with_claim(token: &str, name: &str, value: &Value) -> String {
    let mut claims = claims(token);
    claims[name] = value.clone();
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[1] = encode(&claims);
    parts.join(".")
}

/// The same token, one bit of its signature being another.
#[must_use]
pub fn broken_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    bytes[0] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn hmac_sha256(secret: &[u8], text: &[u8]) -> Vec<u8> {
    use hmac::Mac as _;

    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).expect("any key length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
