//! Files of a container over HTTP: raw bytes in and out.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::{Running, start, without_code_server};
use crate::container::{Container, TOKEN, call, call_as, eventually, status_when};
use crate::store::Store;

async fn provisioned(container: &Container) -> Running {
    let store = Store::start().await;
    let agent = start(container).await;
    call(agent.address, "POST", "/config", Some(&without_code_server(&store))).await;
    status_when(agent.address, "running").await;
    agent
}

/// Sends a request of which `body` may be only the beginning, and reads the answer if it was all.
async fn send(agent: SocketAddr, request: &str, length: usize, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    if body.len() < length {
        return Default::default();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

#[tokio::test]
async fn files_are_there_once_the_container_is() {
    let container = Container::new();
    let agent = start(&container).await.address;
    assert_eq!(call(agent, "GET", "/dev/files/list", None).await.0, 404);

    let container = Container::new();
    let agent = provisioned(&container).await.address;

    assert_eq!(call_as(agent, None, "GET", "/dev/files/list", None).await.unwrap().0, 401);
    assert_eq!(call(agent, "GET", "/game/files/list", None).await.0, 404, "it is no game server");
    let (status, page) = call(agent, "GET", "/dev/files/list?path=", None).await;
    assert_eq!((status, page), (200, json!({ "path": "", "entries": [] })));
    for (method, path, status) in [
        ("GET", "/dev/files/list?limit=0", 400),
        ("GET", "/dev/files/list?nonsense=1", 400),
        ("GET", "/dev/files/stat?path=../x", 400),
        ("GET", "/dev/files/read?path=gone", 404),
        ("DELETE", "/dev/files/delete?path=", 400),
        ("POST", "/dev/files/write", 400),
        ("POST", "/dev/files/list", 405),
        ("PUT", "/dev/files/upload?path=a", 400),
    ] {
        let (answered, body) = call(agent, method, path, None).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
    }
    let body = json!({ "path": "a.txt", "content": "text" });
    let (status, entry) = call(agent, "POST", "/dev/files/write", Some(&body)).await;
    assert_eq!((status, &entry["sizeBytes"]), (200, &json!(4)));
    let owner = std::fs::metadata(container.path("home/dev/workspace/a.txt")).unwrap().uid();
    assert_eq!(owner, container.uid());
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_and_comes_back_the_same() {
    let container = Container::new();
    let agent = provisioned(&container).await.address;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let path = "/dev/files/upload?path=data&size=3000000";

    send(agent, &format!("PUT {path}"), bytes.len(), &bytes[..1_000_000]).await;

    let there = eventually(
        async || call(agent, "GET", path, None).await.1["offset"].as_u64().unwrap(),
        |offset| *offset > 0,
    )
    .await;
    // More of what was sent may still arrive; who asks too early is told to ask again.
    let rest = eventually(
        async || {
            let offset = call(agent, "GET", path, None).await.1["offset"].as_u64().unwrap();
            let rest = &bytes[usize::try_from(offset).unwrap()..];
            send(agent, &format!("PUT {path}&offset={offset}"), rest.len(), rest).await
        },
        |(head, _)| !head.starts_with("HTTP/1.1 409"),
    )
    .await;

    assert!(there <= 1_000_000);
    assert!(rest.0.starts_with("HTTP/1.1 201"), "{}", rest.0);
    let (head, whole) = send(agent, "GET /dev/files/download?path=data", 0, b"").await;
    assert!(head.starts_with("HTTP/1.1 200") && whole == bytes, "{head}");
    let too_many = send(agent, "PUT /dev/files/upload?path=data&size=3", 4, b"0123").await;
    assert!(too_many.0.starts_with("HTTP/1.1 413"), "{}", too_many.0);
}

#[tokio::test]
async fn a_part_of_a_file_can_be_downloaded() {
    let container = Container::new();
    let agent = provisioned(&container).await.address;
    std::fs::write(container.path("home/dev/workspace/data"), "0123456789").unwrap();
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let request = format!(
        "GET /dev/files/download?path=data HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\
         range: bytes=7-\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );

    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 206"), "{answer}");
    assert!(answer.contains("content-range: bytes 7-9/10") && answer.ends_with("\r\n\r\n789"));
}
