//! Compact JWTs signed with Ed25519 (RFC 7519, RFC 8037): one key per kind, found by `kid`, and rules that
//! make the kinds mutually exclusive (RFC 8725 section 3.12).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zlh_ids::{InstanceId, SessionId, Vmid};

/// Who issues our tokens (`iss`).
pub const ISSUER: &str = "zlh";
/// How far clocks of two machines may differ, in seconds.
pub const LEEWAY_SECONDS: i64 = 5;
/// Longest token that is looked at, in bytes; ours have about 500.
pub const MAX_TOKEN_BYTES: usize = 2048;

/// DER of an Ed25519 private key up to its 32 bytes (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Calls of the public API.
    Access,
    /// Opens one dev container's IDE.
    DevIde,
    /// Opens one console.
    Console,
    /// Opens one upload or download.
    Upload,
    /// Opens one Codex session.
    Codex,
    /// Calls between our own programs.
    Internal,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Access, Self::DevIde, Self::Console, Self::Upload, Self::Codex, Self::Internal];

    /// The word in the `type` claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::DevIde => "dev-ide",
            Self::Console => "console",
            Self::Upload => "upload",
            Self::Codex => "codex",
            Self::Internal => "internal",
        }
    }

    fn audience(self) -> String {
        format!("zlh:{}", self.as_str())
    }
}

/// What a token says. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// `zlh:` and the kind.
    pub aud: String,
    /// User id, or the name of the host-proxy for `internal`.
    pub sub: String,
    /// Unique to this token.
    pub jti: String,
    /// When it was issued.
    pub iat: i64,
    /// When it begins to be valid.
    pub nbf: i64,
    /// When it stops to be valid.
    pub exp: i64,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: TokenKind,
    /// The login that it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The container that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmid: Option<Vmid>,
    /// The life of that container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
}

impl Claims {
    /// Claims that are valid from `now` on, with a fresh `jti`.
    ///
    /// # Errors
    ///
    /// [`TokenError::Random`] when the system has no random numbers to give.
    pub fn new(
        kind: TokenKind,
        subject: &str,
        now: i64,
        ttl: Duration,
    ) -> Result<Self, TokenError> {
        Ok(Self {
            iss: ISSUER.to_owned(),
            aud: kind.audience(),
            sub: subject.to_owned(),
            jti: random_base64::<16>()?,
            iat: now,
            nbf: now,
            exp: now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
            kind,
            sid: None,
            vmid: None,
            instance: None,
        })
    }
}

/// Why a key or token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system's random number source failed.
    #[error("the system gave no random numbers: {0}")]
    Random(getrandom::Error),
    /// A key set is not what it should be.
    #[error("{0}")]
    Keys(String),
    /// There is no private key of this kind.
    #[error("no private key for `{}` tokens was granted", .0.as_str())]
    NotGranted(TokenKind),
    /// The signature could not be made.
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// The token was not accepted. There is one value on purpose: nobody is told why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token was not accepted")]
pub struct Rejected;

/// A key as JSON (RFC 7517, RFC 8037) with one member of ours, the kind of token that it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    kid: String,
    /// Public key, 32 bytes in base64url.
    x: String,
    /// Private key, 32 bytes in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(rename = "zlh:kind")]
    kind: TokenKind,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// A fresh pair of keys for one kind.
#[derive(Debug, Clone)]
pub struct GeneratedKey {
    /// Private JWK: a secret, an element of what [`SigningKeys::from_json`] reads.
    pub signing: serde_json::Value,
    /// Public JWK: an element of `keys` in what [`PublicKeys::from_json`] reads.
    pub public: serde_json::Value,
}

/// Makes a pair of keys; the `kid` is made from the public key, so it names one key for ever.
///
/// # Errors
///
/// [`TokenError::Random`] when the system has no random numbers to give.
pub fn generate_key(kind: TokenKind) -> Result<GeneratedKey, TokenError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(TokenError::Random)?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let thumbprint = Sha256::digest(public);
    let short = thumbprint.get(..9).unwrap_or_default();
    let mut jwk = Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: format!("{}.{}", kind.as_str(), URL_SAFE_NO_PAD.encode(short)),
        x: URL_SAFE_NO_PAD.encode(public),
        d: Some(URL_SAFE_NO_PAD.encode(seed)),
        kind,
        usage: Some("sig".to_owned()),
        alg: Some("EdDSA".to_owned()),
    };
    let json =
        |jwk: &Jwk| serde_json::to_value(jwk).map_err(|error| TokenError::Keys(error.to_string()));
    let signing = json(&jwk)?;
    jwk.d = None;
    Ok(GeneratedKey { signing, public: json(&jwk)? })
}

/// Private keys, at most one per kind.
pub struct SigningKeys(Vec<(TokenKind, String, EncodingKey)>);

impl SigningKeys {
    /// Reads a JSON array of private JWKs.
    ///
    /// # Errors
    ///
    /// [`TokenError::Keys`] says what is wrong with which key, never its value.
    pub fn from_json(json: &str) -> Result<Self, TokenError> {
        let keys: Vec<Jwk> = parse(json)?;
        let mut found = Vec::new();
        for key in keys {
            let seed = key.d.as_deref().ok_or_else(|| bad_key(&key, "has no private part"))?;
            let seed =
                decode32(seed).ok_or_else(|| bad_key(&key, "has no 32-byte private part"))?;
            let der = [PKCS8_PREFIX.as_slice(), seed.as_slice()].concat();
            found.push((key.kind, key.kid, EncodingKey::from_ed_der(&der)));
        }
        Ok(Self(found))
    }

    /// Signs the claims with the key of their kind.
    ///
    /// # Errors
    ///
    /// [`TokenError::NotGranted`] when there is no key of that kind.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let (_, kid, key) = self
            .0
            .iter()
            .find(|(kind, ..)| *kind == claims.kind)
            .ok_or(TokenError::NotGranted(claims.kind))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.clone());
        jsonwebtoken::encode(&header, claims, key).map_err(TokenError::Sign)
    }
}

/// Public keys. Several of one kind may be there at once, so that keys can be rotated.
pub struct PublicKeys(Vec<(TokenKind, String, DecodingKey)>);

impl PublicKeys {
    /// Reads a JWK set.
    ///
    /// # Errors
    ///
    /// [`TokenError::Keys`] says what is wrong with which key.
    pub fn from_json(json: &str) -> Result<Self, TokenError> {
        let set: JwkSet = parse(json)?;
        let mut found = Vec::new();
        for key in set.keys {
            if key.d.is_some() {
                return Err(bad_key(&key, "has a private part, which does not belong here"));
            }
            if key.kty != "OKP" || key.crv != "Ed25519" || decode32(&key.x).is_none() {
                return Err(bad_key(&key, "is not an Ed25519 key"));
            }
            let decoding = DecodingKey::from_ed_components(&key.x)
                .map_err(|_| bad_key(&key, "is not an Ed25519 key"))?;
            found.push((key.kind, key.kid, decoding));
        }
        Ok(Self(found))
    }

    /// Accepts a token of the expected kind that is valid at `now` (Unix seconds), and nothing else.
    ///
    /// # Errors
    ///
    /// [`Rejected`], whatever the reason.
    pub fn verify(&self, token: &str, expected: TokenKind, now: i64) -> Result<Claims, Rejected> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejected);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected)?;
        let kid = header.kid.as_deref().ok_or(Rejected)?;
        let (.., key) =
            self.0.iter().find(|(kind, id, _)| *kind == expected && id == kid).ok_or(Rejected)?;

        // Times and audience are checked below: the clock is a value here, and leeway applies to all three.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|_| Rejected)?.claims;

        let in_time = claims.exp.saturating_add(LEEWAY_SECONDS) > now
            && claims.nbf <= now.saturating_add(LEEWAY_SECONDS)
            && claims.iat <= now.saturating_add(LEEWAY_SECONDS);
        let ours =
            claims.iss == ISSUER && claims.aud == expected.audience() && claims.kind == expected;
        if in_time && ours { Ok(claims) } else { Err(Rejected) }
    }
}

/// `N` random bytes in base64url.
///
/// # Errors
///
/// [`TokenError::Random`] when the system has no random numbers to give.
pub fn random_base64<const N: usize>() -> Result<String, TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored in place of a secret: its SHA-256 in base64url.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

fn decode32(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn parse<T: for<'a> Deserialize<'a>>(json: &str) -> Result<T, TokenError> {
    // The position is told, the text is not: it may hold private keys.
    serde_json::from_str(json).map_err(|error| {
        TokenError::Keys(format!(
            "the key set is not valid at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}

fn bad_key(key: &Jwk, what: &str) -> TokenError {
    TokenError::Keys(format!("key `{}` {what}", key.kid))
}

#[cfg(test)]
mod tests;
