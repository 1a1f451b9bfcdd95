use super::*;
use crate::test_kit::{Peer, Stage, VMID};

const AUTHORIZED: &str = "Authorization: Bearer token\r\n";

fn request(method: &str, stream: &str, more: &str) -> String {
    format!("{method} /api/dev/{VMID}/files/{stream} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

#[test]
fn only_paths_of_streams_are_streams() {
    let of = |path| FileStream::of(&Method::GET, path);

    let upload = of("/api/dev/6001/files/upload").unwrap();
    assert_eq!((upload.ctype, upload.upload), (ContainerType::Dev, true));
    let download = of("/api/game/servers/5001/files/download").unwrap();
    assert_eq!((download.ctype, download.upload), (ContainerType::Game, false));
    for path in [
        "/api/dev/6001/files/list",
        "/api/dev/06001/files/upload",
        "/api/dev/6001/files/upload/",
        "/api/dev/6001/x/files/upload",
        "/api/servers/6001/files/upload",
        "/api/game/6001/files/upload",
    ] {
        assert_eq!(of(path), None, "{path}");
    }
    assert_eq!(FileStream::of(&Method::OPTIONS, "/api/dev/6001/files/upload"), None);
}

#[tokio::test]
async fn bytes_reach_the_agent_as_they_come_and_with_its_own_credential() {
    let stage = Stage::set().await;
    let mut client = Peer::connect(stage.public).await;
    let more = format!("{AUTHORIZED}Content-Length: 8\r\nX-Evil: 1\r\nCookie: a=b\r\n");
    client.send(request("PUT", "upload?path=a%20b&size=8", &more)).await;
    client.send("0123").await;

    // The agent has the beginning while the end was not even sent.
    let mut agent = Peer::accept(&stage.ide).await;
    let head = agent.head().await;
    assert_eq!(agent.text(4).await, "0123");
    client.send("4567").await;
    assert_eq!(agent.text(4).await, "4567");
    agent.send("HTTP/1.1 201 Created\r\nContent-Length: 2\r\nSet-Cookie: x=y\r\n\r\n{}").await;
    let answer = client.message().await;

    assert!(head.starts_with("PUT /dev/files/upload?path=a%20b&size=8 HTTP/1.1"), "{head}");
    let token =
        agent_token(b"secret", stage.authority.grant.vmid, stage.authority.grant.instance_id);
    assert!(head.contains(&format!("Bearer {token}")), "{head}");
    for theirs in ["x-evil", "cookie", "Bearer token"] {
        assert!(!head.contains(theirs), "{head}");
    }
    assert_eq!((answer.status(), answer.body.as_str()), ("201", "{}"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_part_of_a_file_is_passed_on_as_one() {
    let stage = Stage::set().await;
    let mut client = Peer::connect(stage.public).await;
    client
        .send(request("GET", "download?path=a", &format!("{AUTHORIZED}Range: bytes=7-\r\n")))
        .await;

    let mut agent = Peer::accept(&stage.ide).await;
    let head = agent.head().await;
    agent
        .send("HTTP/1.1 206 Partial\r\nContent-Range: bytes 7-9/10\r\nContent-Length: 3\r\n\r\n789")
        .await;
    let answer = client.message().await;

    assert!(head.contains("range: bytes=7-"), "{head}");
    assert_eq!((answer.status(), answer.body.as_str()), ("206", "789"));
    assert_eq!(answer.header("content-range"), Some("bytes 7-9/10"));
}

#[tokio::test]
async fn without_a_token_that_opens_the_container_nothing_reaches_it() {
    let stage = Stage::set().await;
    for (more, status) in [("", "401"), ("Authorization: Bearer other\r\n", "401")] {
        let answer = stage.ask(&request("GET", "download?path=a", more)).await;
        assert_eq!(answer.status(), status);
    }
    let in_url = request("GET", "download?path=a&token=token", "");
    assert_eq!(stage.ask(&in_url).await.status(), "401");
    let other = request("GET", "download", AUTHORIZED).replace("6001", "6002");
    assert_eq!(stage.ask(&other).await.status(), "404");
    let game = request("GET", "download", AUTHORIZED).replace("/dev/", "/game/servers/");
    assert_eq!(stage.ask(&game).await.status(), "404");
    assert_eq!(stage.ask(&request("POST", "upload", AUTHORIZED)).await.status(), "405");
    assert_eq!(stage.ask(&request("PUT", "download", AUTHORIZED)).await.status(), "405");
    assert_eq!(stage.streams.count(), 0);
}

#[tokio::test]
async fn streams_break_off_when_their_right_ends() {
    let stage = Stage::set().await;
    let mut sender = Peer::connect(stage.public).await;
    let more = format!("{AUTHORIZED}Content-Length: 8\r\n");
    sender.send(request("PUT", "upload?path=a&size=8", &more)).await;
    sender.send("0123").await;
    let mut uploading = Peer::accept(&stage.ide).await;
    uploading.head().await;
    uploading.text(4).await;
    let mut receiver = Peer::connect(stage.public).await;
    receiver.send(request("GET", "download?path=a", AUTHORIZED)).await;
    let mut downloading = Peer::accept(&stage.ide).await;
    downloading.head().await;
    downloading.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n0123").await;
    receiver.head().await;
    assert_eq!(receiver.text(4).await, "0123");
    assert_eq!(stage.streams.count(), 2);
    let third = stage.ask(&request("GET", "download?path=a", AUTHORIZED)).await;
    assert_eq!(third.status(), "429");

    stage.revoke();

    assert_eq!(uploading.rest().await, b"", "the agent sees that it broke off");
    assert_eq!(sender.head().await.split(' ').nth(1), Some("401"));
    assert_eq!(receiver.rest().await, b"");
    drop((sender, receiver, downloading));
}

#[tokio::test]
async fn an_agent_that_does_not_know_us_is_not_the_clients_fault() {
    let stage = Stage::set().await;
    for refusal in ["401 No", "403 No", "302 Found\r\nLocation: http://elsewhere"] {
        let mut client = Peer::connect(stage.public).await;
        client.send(request("GET", "download?path=a", AUTHORIZED)).await;
        let mut agent = Peer::accept(&stage.ide).await;
        agent.head().await;
        agent
            .send(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;

        assert_eq!(client.message().await.status(), "503", "{refusal}");
    }
}
