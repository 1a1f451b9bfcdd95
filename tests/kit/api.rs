//! A client of the public API.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::Method;
use serde_json::{Value, json};

use crate::http::{Reply, request, send};
use crate::{calls, eventually};

/// Long enough to unpack code-server on a machine that does other things as well.
const PROVISIONING: Duration = Duration::from_secs(240);

/// The public listener.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Session {
    /// The public listener.
    pub api: Api,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh_token: String,
    /// Address to log in with.
    pub email: String,
}

/// What the creation of an instance answered.
#[derive(Debug, Clone)]
pub struct Started {
    /// The container.
    pub vmid: u64,
    /// What to poll.
    pub operation: String,
}

/// The password of every account that tests make.
pub const PASSWORD: &str = "correct horse battery staple";

impl Api {
    /// One call.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Reply {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        self.call_with(method, path, &headers, body).await
    }

    /// One call with headers.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let reply = send(self.address, request(method.clone(), path, headers, body)).await;
        let reply = reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        calls::record(&method, path, reply.status);
        reply
    }

    /// A new account, logged in.
    pub async fn register(&self, name: &str) -> Session {
        let email = format!("{name}@example.com");
        let body = json!({ "email": email, "username": name, "password": PASSWORD });
        let reply =
            self.call(Method::POST, "/api/auth/register", None, Some(&body)).await.expect(201);
        self.session(&reply.json(), &email)
    }

    /// Logs in.
    pub async fn login(&self, identifier: &str) -> Session {
        let body = json!({ "identifier": identifier, "password": PASSWORD });
        let reply = self.call(Method::POST, "/api/auth/login", None, Some(&body)).await.expect(200);
        self.session(&reply.json(), identifier)
    }

    /// Exchanges a refresh token.
    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        let body = json!({ "refreshToken": refresh_token });
        self.call(Method::POST, "/api/auth/refresh", None, Some(&body)).await
    }

    /// Whether the system answers.
    pub async fn is_up(&self) -> bool {
        let reply = send(self.address, request(Method::GET, "/api/health", &[], None)).await;
        reply.is_ok_and(|reply| reply.status == 200)
    }

    fn session(&self, body: &Value, email: &str) -> Session {
        Session {
            api: *self,
            token: text(body, "token"),
            refresh_token: text(body, "refreshToken"),
            email: email.to_owned(),
        }
    }
}

impl Session {
    /// One call as this user.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.api.call(method, path, Some(&self.token), body).await
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    /// Does something.
    pub async fn post(&self, path: &str) -> Reply {
        self.call(Method::POST, path, None).await
    }

    /// Ends this login.
    pub async fn logout(&self) {
        self.post("/api/auth/logout").await.expect(200);
    }

    /// Asks for an instance, and does not wait for it.
    pub async fn start(&self, body: &Value) -> Started {
        let reply = self.call(Method::POST, "/api/instances", Some(body)).await.expect(202);
        started(&reply.json())
    }

    /// Asks for a dev container with Node, and does not wait for it.
    pub async fn start_dev(&self, code_server: bool) -> Started {
        self.start(&dev_container(code_server)).await
    }

    /// Makes a dev container with Node and answers its vmid.
    pub async fn create_dev(&self, code_server: bool) -> u64 {
        self.create(&dev_container(code_server)).await
    }

    /// Makes an instance and answers its vmid.
    pub async fn create(&self, body: &Value) -> u64 {
        let started = self.start(body).await;
        let operation = self.operation_end(&started.operation).await;
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
        started.vmid
    }

    /// Removes a container and waits until it is gone.
    pub async fn delete(&self, vmid: u64) {
        let reply =
            self.call(Method::DELETE, &format!("/api/instances/{vmid}"), None).await.expect(202);
        let operation = self.operation_end(&text(&reply.json(), "operationId")).await;
        assert_eq!(operation["status"], "succeeded", "{operation:#}");
    }

    /// An operation as it is now.
    pub async fn operation(&self, id: &str) -> Value {
        self.get(&format!("/api/operations/{id}")).await.expect(200).json()
    }

    /// Waits until an operation ended, however it did.
    pub async fn operation_end(&self, id: &str) -> Value {
        let ended = |operation: &Value| {
            matches!(operation["status"].as_str(), Some("succeeded" | "failed"))
        };
        eventually(PROVISIONING, async || self.operation(id).await, ended).await
    }

    /// Waits until the container's cached state says that its workload is ready.
    pub async fn ready(&self, vmid: u64) -> Value {
        let path = format!("/api/servers/{vmid}/status");
        let status = async || self.get(&path).await.expect(200).json();
        eventually(Duration::from_secs(60), status, |status| status["ready"] == true).await
    }

    /// A token for the container's IDE, and the URL that uses it.
    pub async fn ide_token(&self, vmid: u64) -> (String, String) {
        let reply = self.post(&format!("/api/dev/{vmid}/ide-token")).await.expect(200).json();
        (text(&reply, "token"), text(&reply, "url"))
    }
}

/// The body that asks for a dev container with Node.
#[must_use]
pub fn dev_container(code_server: bool) -> Value {
    json!({ "ctype": "dev", "runtime": "node", "version": "24", "enable_code_server": code_server })
}

/// The body that asks for an OpenTTD server.
#[must_use]
pub fn game_server() -> Value {
    json!({ "ctype": "game", "game": "openttd", "variant": "vanilla", "version": "13.0", "memoryMiB": 512 })
}

/// What a creation answered.
#[must_use]
pub fn started(body: &Value) -> Started {
    let vmid = body["vmid"].as_u64().unwrap_or_else(|| panic!("no vmid in {body}"));
    Started { vmid, operation: text(body, "operationId") }
}

/// A text member of a JSON object.
#[must_use]
#[track_caller]
pub fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {body}")).to_owned()
}
