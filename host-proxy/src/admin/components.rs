//! `/components` of the private listener: what serves, and swapping it.
//!
//! Pages in a browser on the same machine can reach loopback. So requests must not come from a page, must
//! name the listener by its address (a page can only rebind names), and need the data folder's token to
//! change anything.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use zlh_agent_protocol::internal::RecordAudit;

use crate::answer::{self, Code};
use crate::api::InternalApi;
use crate::body::Body;
use crate::component_host::{Candidate, ComponentHost, Rollback, SwapError, Swapped};

/// A component crosses loopback in milliseconds and a slow network in seconds.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The components of this process.
#[derive(Clone)]
pub struct ComponentAdmin {
    /// What serves.
    pub host: Arc<ComponentHost>,
    /// Keeps the audit log.
    pub api: Arc<InternalApi>,
    /// What whoever changes something must show.
    pub token: Arc<str>,
}

/// What was asked for.
enum Act {
    Swap(Candidate),
    Rollback(Rollback),
}

impl Act {
    fn action(&self) -> &'static str {
        match self {
            Self::Swap(_) => "component.swap",
            Self::Rollback(_) => "component.rollback",
        }
    }
}

impl ComponentAdmin {
    /// Answers one request; `path` is what follows `/components`.
    pub async fn handle(&self, path: &str, request: Request<Incoming>) -> Response<Body> {
        if !is_ours(request.headers()) {
            return answer::error(
                Code::Forbidden,
                "ask this listener by its address, not from a page",
            );
        }
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let method = request.method().clone();
        if method != Method::GET && !self.has_token(request.headers()) {
            tracing::warn!(path, "a change of components was asked for without the admin token");
            return answer::error(Code::Unauthenticated, "the admin token is missing or wrong");
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
        match (method, words.as_slice()) {
            (Method::GET, []) => ok(&json!({ "components": self.host.components() })),
            (Method::GET, [name]) => answered(self.host.component(name).await),
            (Method::POST, ["check"]) => {
                let component = asked("as=").filter(|name| !name.is_empty());
                let checked = match self.receive(request.into_body()).await {
                    Ok(candidate) => self.host.check(component, candidate).await,
                    Err(error) => Err(error),
                };
                answered(checked)
            }
            (Method::POST, [name, "swap"]) => match self.receive(request.into_body()).await {
                Ok(candidate) => self.act(name, Act::Swap(candidate)).await,
                Err(error) => {
                    self.audit("component.swap", name, refusal(&error)).await;
                    refused(&error)
                }
            },
            (Method::POST, [name, "rollback"]) => {
                let to = match asked("to=") {
                    None => Rollback::Previous,
                    Some("manifest") => Rollback::Manifest,
                    Some(_) => return answer::error(Code::Invalid, "`to` must be `manifest`"),
                };
                self.act(name, Act::Rollback(to)).await
            }
            _ => answer::not_found(),
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        token.ct_eq(self.token.as_bytes()).into()
    }

    async fn receive(&self, body: Incoming) -> Result<Candidate, SwapError> {
        let received = tokio::time::timeout(UPLOAD_TIMEOUT, self.receive_slowly(body)).await;
        received.unwrap_or_else(|_| Err(SwapError::Upload(io::ErrorKind::TimedOut.into())))
    }

    async fn receive_slowly(&self, mut body: Incoming) -> Result<Candidate, SwapError> {
        let mut upload = self.host.upload().map_err(SwapError::State)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| SwapError::Upload(io::Error::other(error)))?;
            if let Ok(piece) = frame.into_data() {
                upload.write(&piece).await.map_err(SwapError::Upload)?;
            }
        }
        upload.finish().await.map_err(SwapError::State)
    }

    /// Does it and notes it, whether or not the client waits for the end.
    async fn act(&self, component: &str, act: Act) -> Response<Body> {
        let (admin, component) = (self.clone(), component.to_owned());
        let done = tokio::spawn(async move { admin.act_to_the_end(&component, act).await });
        done.await.unwrap_or_else(|_| answer::error(Code::Internal, "internal error"))
    }

    async fn act_to_the_end(&self, component: &str, act: Act) -> Response<Body> {
        let action = act.action();
        let done = match act {
            Act::Swap(candidate) => self.host.swap(component, candidate).await,
            Act::Rollback(to) => self.host.rollback(component, to).await,
        };
        let detail = match &done {
            Ok(swapped) => {
                let Swapped { digest, replaced, recomposed, .. } = swapped;
                tracing::info!(component.id = component, component.digest = %digest, "swapped a component");
                json!({ "outcome": "done", "digest": digest, "replaced": replaced, "recomposed": recomposed })
            }
            Err(error) => {
                tracing::warn!(
                    component.id = component,
                    error = error as &dyn std::error::Error,
                    "a component was not swapped"
                );
                refusal(error)
            }
        };
        let audited = self.audit(action, component, detail).await;
        match done {
            Ok(swapped) => ok(&Done { swapped, audited }),
            Err(error) => refused(&error),
        }
    }

    /// Whether the audit log took it. A component may be swapped because the log does not work.
    async fn audit(&self, action: &str, component: &str, detail: Value) -> bool {
        let record =
            RecordAudit { action: action.to_owned(), target: component.to_owned(), detail };
        let told = self.api.tell("/internal/audit", &record).await;
        if let Err(error) = &told {
            tracing::error!(
                error = error as &dyn std::error::Error,
                audit.action = action,
                audit.target = component,
                "the audit log did not take an act"
            );
        }
        told.is_ok()
    }
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    swapped: Swapped,
    /// Whether it is in the audit log.
    audited: bool,
}

/// Whether a request is not from a page: browsers name where a page that sends one is from, and the name
/// that they were given for this address.
fn is_ours(headers: &HeaderMap) -> bool {
    let named_by_address = |host: &Authority| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<IpAddr>().is_ok()
    };
    !headers.contains_key(ORIGIN)
        && !headers.contains_key("sec-fetch-site")
        && headers
            .get(HOST)
            .and_then(|host| Authority::try_from(host.as_bytes()).ok())
            .is_some_and(|host| named_by_address(&host))
}

fn ok(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_value(value) {
        Ok(value) => answer::json(StatusCode::OK, &value),
        Err(_) => answer::error(Code::Internal, "internal error"),
    }
}

fn answered(result: Result<impl Serialize, SwapError>) -> Response<Body> {
    match result {
        Ok(value) => ok(&value),
        Err(error) => refused(&error),
    }
}

fn refused(error: &SwapError) -> Response<Body> {
    let code = match error {
        SwapError::Busy | SwapError::NoPrevious(_) => Code::Conflict,
        SwapError::Unknown(_) => Code::NotFound,
        SwapError::Refused { .. } => Code::Unfit,
        SwapError::Upload(source) if source.kind() == io::ErrorKind::FileTooLarge => Code::TooLarge,
        SwapError::Upload(_) => Code::Invalid,
        SwapError::State(_) => Code::Internal,
    };
    answer::error(code, &error.to_string())
}

fn refusal(error: &SwapError) -> Value {
    json!({ "outcome": "refused", "reason": error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_listener_is_asked_by_its_address() {
        for host in ["127.0.0.1:8082", "[::1]:8082", "localhost:8082", "localhost", "10.0.0.5"] {
            assert!(is_ours(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8082", "localhost.evil.example", ""] {
            assert!(!is_ours(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_ours(&headers(&[])));
    }

    #[test]
    fn a_page_does_not_ask() {
        for marked in [("origin", "http://127.0.0.1:8082"), ("sec-fetch-site", "same-origin")] {
            assert!(!is_ours(&headers(&[("host", "127.0.0.1:8082"), marked])), "{marked:?}");
        }
    }
}
