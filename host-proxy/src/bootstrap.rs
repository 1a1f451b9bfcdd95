//! The first start: the schema, and an operator to log in with.

use std::fs;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use zlh_agent_protocol::internal::{CreateUser, CreatedUser, Migrated};
use zlh_authn::token::{TokenError, random_base64};

use crate::api::{CallError, InternalApi};
use crate::clock::pause;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError, write_atomically};

/// Components elsewhere may be started at the same time as we are.
const PATIENCE_TRIES: u32 = 60;
const PATIENCE_PAUSE: Duration = Duration::from_millis(500);

/// The first start did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The database could not be brought up to date.
    #[error("the database could not be migrated")]
    Migrate(#[source] CallError),
    /// The operator's account was refused.
    #[error(
        "the first operator could not be made with `ZLH_BOOTSTRAP_EMAIL` and `ZLH_BOOTSTRAP_PASSWORD`"
    )]
    User(#[source] CallError),
    /// A file.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No password.
    #[error("no password could be generated")]
    Password(#[from] TokenError),
}

/// What the first operator logs in with, if it had to be made up.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// Address.
    pub email: String,
    /// Shown once.
    pub password: String,
}

/// Brings the database up to date, in as many calls as it takes.
///
/// # Errors
///
/// The components refused, or did not answer for half a minute.
pub async fn migrate(api: &InternalApi) -> Result<Migrated, BootstrapError> {
    let mut applied = Vec::new();
    loop {
        let mut migrated = migrate_once(api).await?;
        applied.append(&mut migrated.applied);
        if migrated.complete {
            return Ok(Migrated { applied, ..migrated });
        }
    }
}

async fn migrate_once(api: &InternalApi) -> Result<Migrated, BootstrapError> {
    let mut tries = 0;
    loop {
        match api.run::<Migrated>("/internal/migrate").await {
            Ok(migrated) => return Ok(migrated),
            Err(error @ CallError::Broken { .. }) if tries < PATIENCE_TRIES => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "components are not there yet"
                );
                tries += 1;
                pause(PATIENCE_PAUSE).await;
            }
            Err(error) => return Err(BootstrapError::Migrate(error)),
        }
    }
}

/// Makes the first operator, unless that was done. A generated password is kept in a file until
/// [`shown`], so that a crash before it was shown does not lose it.
///
/// # Errors
///
/// The account was refused, or the data folder cannot be written.
pub async fn first_user(
    api: &InternalApi,
    data: &DataDir,
    config: &Config,
) -> Result<Option<Credentials>, BootstrapError> {
    if data.path("bootstrapped").exists() {
        return Ok(None);
    }
    let pending = data.path("secrets/bootstrap-password");
    let kept = fs::read_to_string(&pending).ok();
    let (password, generated) = match (&config.bootstrap_password, &kept) {
        (Some(given), _) => (given.0.clone(), false),
        (None, Some(kept)) => (kept.clone(), true),
        (None, None) => {
            let password = random_base64::<18>()?;
            write_atomically(&pending, password.as_bytes(), 0o600)?;
            (password, true)
        }
    };
    let user = CreateUser {
        email: config.bootstrap_email.clone(),
        username: "admin".to_owned(),
        password: password.clone(),
        role: "admin".to_owned(),
    };
    let made_now = match api.post::<_, CreatedUser>("/internal/users", &user).await {
        Ok(_) => true,
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => false,
        Err(error) => return Err(BootstrapError::User(error)),
    };
    // An account that is there without a password of ours to show was made by somebody else.
    let ours = generated && (made_now || kept.is_some());
    Ok(ours.then_some(Credentials { email: user.email, password }))
}

/// The credentials were shown: they are not needed here any more.
///
/// # Errors
///
/// The data folder cannot be written.
pub fn shown(data: &DataDir) -> Result<(), BootstrapError> {
    let marker = data.path("bootstrapped");
    if !marker.exists() {
        write_atomically(&marker, b"", 0o600)?;
    }
    match fs::remove_file(data.path("secrets/bootstrap-password")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the first password stays on disk"
            );
        }
        _ => {}
    }
    Ok(())
}
