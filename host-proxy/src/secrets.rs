//! Keys and secrets of this installation, made on the first start.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zlh_authn::token::{self, PublicKeys, SigningKeys, TokenError, TokenKind};

use crate::data_dir::{DataDir, DataDirError, failed, write_atomically};
use crate::gateway::GatewayKeys;

/// Secrets could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file system.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key.
    #[error("a signing key cannot be used")]
    Key(#[from] TokenError),
    /// A file holds something else.
    #[error(
        "the secret in {path} cannot be read; restore it from a backup, or remove it to get a new one"
    )]
    Damaged {
        /// The file.
        path: String,
    },
}

/// Keys and secrets of this installation.
pub struct Secrets {
    keys: Vec<(TokenKind, StoredKey)>,
    /// Of `internal` tokens, too, but published to nobody: what it signs opens the gateway alone.
    gateway: StoredKey,
    /// Keys the containers' agent tokens.
    pub agent_secret: String,
    /// Lets its holder change what the private listener shows.
    pub admin_token: String,
}

/// Where the admin token is, below the data folder.
pub const ADMIN_TOKEN: &str = "secrets/admin-token";

#[derive(Serialize, Deserialize)]
struct StoredKey {
    signing: serde_json::Value,
    public: serde_json::Value,
}

impl Secrets {
    /// Reads what is there and makes what is not.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, or is damaged.
    pub fn open(data: &DataDir) -> Result<Self, SecretsError> {
        let _making = data.making()?;
        let folder = data.path("secrets");
        let keys = TokenKind::ALL
            .into_iter()
            .map(|kind| Ok((kind, signing_key(&folder, kind.as_str(), kind)?)))
            .collect::<Result<_, SecretsError>>()?;
        Ok(Self {
            keys,
            gateway: signing_key(&folder, "gateway", TokenKind::Internal)?,
            agent_secret: secret(&folder.join("agent-secret"))?,
            admin_token: secret(&data.path(ADMIN_TOKEN))?,
        })
    }

    /// JWK set of every public key.
    #[must_use]
    pub fn public_keys(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|(_, key)| &key.public).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// JSON array of the private keys of these kinds.
    #[must_use]
    pub fn signing_keys(&self, kinds: &[TokenKind]) -> String {
        let keys = self.keys.iter().filter(|(kind, _)| kinds.contains(kind));
        serde_json::Value::from_iter(keys.map(|(_, key)| key.signing.clone())).to_string()
    }

    /// JSON array of the private key that components ask a gateway with.
    #[must_use]
    pub fn gateway_signing_keys(&self) -> String {
        serde_json::json!([self.gateway.signing]).to_string()
    }

    /// Whose tokens a gateway accepts.
    ///
    /// # Errors
    ///
    /// A stored key cannot be used.
    pub fn gateway_keys(&self) -> Result<GatewayKeys, SecretsError> {
        let own = serde_json::json!({ "keys": [self.gateway.public] }).to_string();
        Ok(GatewayKeys {
            components: PublicKeys::from_json(&own)?,
            hosts: PublicKeys::from_json(&self.public_keys())?,
        })
    }

    /// What host-proxy signs its own calls with.
    ///
    /// # Errors
    ///
    /// The stored key cannot be used.
    pub fn internal_keys(&self) -> Result<SigningKeys, SecretsError> {
        Ok(SigningKeys::from_json(&self.signing_keys(&[TokenKind::Internal]))?)
    }
}

fn signing_key(folder: &Path, name: &str, kind: TokenKind) -> Result<StoredKey, SecretsError> {
    let path = folder.join(format!("key-{name}.json"));
    if let Some(text) = read(&path)? {
        return serde_json::from_str(&text).map_err(|_| damaged(&path));
    }
    let made = token::generate_key(kind)?;
    let key = StoredKey { signing: made.signing, public: made.public };
    let text = serde_json::to_vec(&key).map_err(|_| damaged(&path))?;
    write_atomically(&path, &text, 0o600)?;
    Ok(key)
}

fn secret(path: &Path) -> Result<String, SecretsError> {
    if let Some(text) = read(path)? {
        let text = text.trim();
        return if text.len() >= 43 { Ok(text.to_owned()) } else { Err(damaged(path)) };
    }
    let secret = token::random_base64::<32>()?;
    write_atomically(path, secret.as_bytes(), 0o600)?;
    Ok(secret)
}

fn read(path: &Path) -> Result<Option<String>, DataDirError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn damaged(path: &Path) -> SecretsError {
    SecretsError::Damaged { path: path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_for_their_owner_only() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path(), &[]).unwrap();

        let first = Secrets::open(&data).unwrap();
        let second = Secrets::open(&data).unwrap();

        assert_eq!(first.public_keys(), second.public_keys());
        assert_eq!(first.agent_secret, second.agent_secret);
        for file in fs::read_dir(data.path("secrets")).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(data.path("secrets")).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn two_halves_that_start_at_once_share_their_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let data = DataDir::open(folder.path(), &[]).unwrap();
            Secrets::open(&data).unwrap().public_keys()
        };

        let made: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });

        assert!(made.iter().all(|keys| *keys == made[0]));
    }

    #[test]
    fn public_keys_hold_nothing_private() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(&DataDir::open(folder.path(), &[]).unwrap()).unwrap();

        let set: serde_json::Value = serde_json::from_str(&secrets.public_keys()).unwrap();

        assert_eq!(set["keys"].as_array().unwrap().len(), TokenKind::ALL.len());
        assert!(set["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
        token::PublicKeys::from_json(&secrets.public_keys()).unwrap();
    }

    #[test]
    fn a_damaged_secret_is_named_instead_of_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path(), &[]).unwrap();
        fs::write(data.path("secrets/agent-secret"), "short").unwrap();

        let error = Secrets::open(&data).err().unwrap();

        assert!(error.to_string().contains("agent-secret"), "{error}");
    }
}
