//! What the probe sees.

use std::fmt::Write as _;

use http_body_util::BodyExt;
use spin_sdk::http::{Request, send};
use spin_sdk::key_value::Store;
use spin_sdk::sqlite::{Connection, Value};
use spin_sdk::{http as spin_http, variables};

use super::{Answer, said, status, text};

/// Method, URL and every header, one a line.
pub(super) fn request(request: &Request) -> Answer {
    let mut seen = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(seen, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text(seen)
}

#[expect(clippy::disallowed_methods, reason = "what a component sees of it is the question")]
pub(super) fn environment(name: &str) -> Answer {
    said(std::env::var(name))
}

pub(super) async fn variable(name: &str) -> Answer {
    said(variables::get(name).await)
}

pub(super) fn file(path: &str) -> Answer {
    said(std::fs::read_to_string(format!("/{path}")))
}

pub(super) fn write(path: &str) -> Answer {
    said(std::fs::write(format!("/{path}"), "changed").map(|()| "written"))
}

/// `LABEL`: counts in that store.
pub(super) async fn key_value(label: &str) -> Answer {
    let counted = async {
        let store = Store::open(label).await?;
        let count = store.get("count").await?.map_or(0, |count| count.len()) + 1;
        store.set("count", vec![0; count]).await?;
        Ok::<_, spin_sdk::key_value::Error>(count)
    };
    said(counted.await)
}

/// `LABEL`: counts in that database.
pub(super) async fn sqlite(label: &str) -> Answer {
    let counted = async {
        let database = Connection::open(label).await?;
        let create = "CREATE TABLE IF NOT EXISTS counts (n INTEGER PRIMARY KEY)";
        database.execute(create, []).await?.result().await?;
        let insert = "INSERT INTO counts DEFAULT VALUES RETURNING ?";
        let mut rows = database.execute(insert, [Value::Integer(7)]).await?;
        let seven = rows.next().await.and_then(|row| row.get::<i64>(0)).unwrap_or_default();
        rows.result().await?;
        let mut rows = database.execute("SELECT count(*) FROM counts", []).await?;
        let count = rows.next().await.and_then(|row| row.get::<i64>(0)).unwrap_or_default();
        rows.result().await?;
        Ok::<_, spin_sdk::sqlite::Error>(format!("{seven} {count}"))
    };
    said(counted.await)
}

/// Status and body of another URL; its path alone is a request to the application itself.
pub(super) async fn get(url: &str) -> Answer {
    let request = match http::Request::get(url).body(spin_http::EmptyBody::new()) {
        Ok(request) => request,
        Err(error) => return status(http::StatusCode::BAD_REQUEST, error),
    };
    match send(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes());
            let body = body.map(|body| String::from_utf8_lossy(&body).into_owned());
            said(body.map(|body| format!("{}\n{body}", parts.status.as_u16())))
        }
        Err(error) => status(http::StatusCode::BAD_GATEWAY, format!("{error:?}")),
    }
}

/// `ADDRESS:PORT`: connects to it without HTTP.
pub(super) fn socket(address: &str) -> Answer {
    said(std::net::TcpStream::connect(address).map(|_| "connected"))
}
