//! Variables that the manifest grants to this component.

use std::str::FromStr;
use std::time::Duration;

use send_wrapper::SendWrapper;
use spin_sdk::variables::{self, Error};
use zlh_api::ApiError;

/// A variable is missing, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// The host did not give it.
    #[error("the variable `{name}` could not be read: {reason}")]
    Unreadable {
        /// Its name in the component's stanza.
        name: &'static str,
        /// What the host said.
        reason: String,
    },
    /// Its text does not parse.
    #[error("the variable `{name}` is not {wanted}")]
    Invalid {
        /// Its name in the component's stanza.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

impl From<VariableError> for ApiError {
    fn from(error: VariableError) -> Self {
        Self::internal(error)
    }
}

/// A variable's text.
///
/// # Errors
///
/// [`VariableError::Unreadable`] when the stanza does not grant it.
pub async fn variable(name: &'static str) -> Result<String, VariableError> {
    SendWrapper::new(variables::get(name))
        .await
        .map_err(|error| VariableError::Unreadable { name, reason: error.to_string() })
}

/// A variable's text, or nothing where the stanza does not grant it.
///
/// # Errors
///
/// [`VariableError::Unreadable`] when the host fails.
pub async fn optional_variable(name: &'static str) -> Result<Option<String>, VariableError> {
    match SendWrapper::new(variables::get(name)).await {
        Ok(value) => Ok(Some(value)),
        Err(Error::Undefined(_)) => Ok(None),
        Err(error) => Err(VariableError::Unreadable { name, reason: error.to_string() }),
    }
}

/// A variable as another type; `wanted` says which, for the error.
///
/// # Errors
///
/// [`VariableError::Invalid`] when its text does not parse.
pub async fn parsed_variable<T: FromStr>(
    name: &'static str,
    wanted: &'static str,
) -> Result<T, VariableError> {
    variable(name).await?.trim().parse().map_err(|_| VariableError::Invalid { name, wanted })
}

/// A variable that is a number of seconds.
///
/// # Errors
///
/// [`VariableError::Invalid`] when it is not.
pub async fn seconds_variable(name: &'static str) -> Result<Duration, VariableError> {
    parsed_variable(name, "a number of seconds").await.map(Duration::from_secs)
}
