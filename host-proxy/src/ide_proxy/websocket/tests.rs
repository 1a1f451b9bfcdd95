use crate::test_kit::{Peer, Stage};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
const COOKIE: &str = "Cookie: zlh_dev_ide_token=session\r\n";

fn upgrade(host: &str, more: &str) -> String {
    format!(
        "GET /stable?reconnectionToken=r HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

fn own_origin(host: &str) -> String {
    format!("Origin: http://{host}\r\n{COOKIE}")
}

#[tokio::test]
async fn bytes_flow_both_ways_after_the_ide_switched() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut browser = Peer::connect(stage.public).await;
    browser.send(&upgrade(&host, &own_origin(&host))).await;

    let mut ide = Peer::accept(&stage.ide).await;
    let seen = ide.message().await;
    ide.send(SWITCHED).await;
    let switched = browser.message().await;
    browser.send("ping").await;
    assert_eq!(ide.text(4).await, "ping");
    ide.send("pong").await;
    assert_eq!(browser.text(4).await, "pong");

    assert_eq!(seen.header("host"), Some(&*host));
    assert_eq!(seen.header("origin"), Some(&*format!("http://{host}")));
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("sec-websocket-key"), Some("k"));
    assert_eq!(seen.header("cookie"), None);
    assert_eq!(switched.status(), "101");
    assert_eq!(switched.header("sec-websocket-accept"), Some("x"));
    assert_eq!(stage.streams.count(), 1);
}

#[tokio::test]
async fn what_a_client_sends_too_early_waits_for_the_switch() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let early = upgrade(&host, &own_origin(&host)) + "EARLY";

    // Refused: not a byte gets through.
    let mut browser = Peer::connect(stage.public).await;
    browser.send(&early).await;
    let mut ide = Peer::accept(&stage.ide).await;
    ide.head().await;
    ide.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nSet-Cookie: a=1; Domain=x\r\n\r\n")
        .await;
    let refused = browser.message().await;
    assert_eq!((refused.status(), refused.header("set-cookie")), ("403", None));
    drop(browser);
    assert!(ide.rest().await.is_empty());

    // Accepted: it arrives after the switch.
    let mut browser = Peer::connect(stage.public).await;
    browser.send(&early).await;
    let mut ide = Peer::accept(&stage.ide).await;
    ide.head().await;
    ide.send(SWITCHED).await;
    assert_eq!(ide.text(5).await, "EARLY");
}

#[tokio::test]
async fn only_the_ides_own_pages_may_open_a_socket() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let foreign = [
        COOKIE.to_owned(),
        format!("Origin: null\r\n{COOKIE}"),
        format!("Origin: https://{host}\r\n{COOKIE}"),
        format!("Origin: http://dev-6002.ide.localhost:{}\r\n{COOKIE}", stage.public.port()),
        format!("Origin: http://{host}.evil\r\n{COOKIE}"),
        format!("Origin: http://{host}\r\nOrigin: http://{host}\r\n{COOKIE}"),
    ];

    for headers in foreign {
        let answer = stage.ask(&upgrade(&host, &headers)).await;
        assert_eq!(answer.status(), "403", "{headers}");
    }

    assert!(stage.authority.calls.lock().unwrap().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_client_that_is_no_page_shows_a_token_instead() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut client = Peer::connect(stage.public).await;
    client.send(&upgrade(&host, "Authorization: Bearer token\r\n")).await;

    let mut ide = Peer::accept(&stage.ide).await;
    let seen = ide.message().await;

    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn an_upgrade_to_anything_else_is_a_plain_request() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut client = Peer::connect(stage.public).await;
    client
        .send(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: x\r\n{COOKIE}\r\n"
        ))
        .await;

    let mut ide = Peer::accept(&stage.ide).await;
    let seen = ide.message().await;
    ide.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await;
    let answer = client.message().await;

    assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None));
    assert_eq!(answer.status(), "503");
}

#[tokio::test]
async fn an_upgrade_has_no_body() {
    let stage = Stage::set().await;
    let host = stage.ide_host();

    let answer = stage.ask(&upgrade(&host, &(own_origin(&host) + "Content-Length: 4\r\n"))).await;

    assert_eq!(answer.status(), "400");
}

#[tokio::test]
async fn a_right_that_ends_closes_both_ends() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut browser = Peer::connect(stage.public).await;
    browser.send(&upgrade(&host, &own_origin(&host))).await;
    let mut ide = Peer::accept(&stage.ide).await;
    ide.head().await;
    ide.send(SWITCHED).await;
    browser.head().await;

    stage.revoke();

    assert_eq!((&*browser.rest().await, &*ide.rest().await), (&[0x88, 2, 0x03, 0xf0][..], &[][..]));
}

#[tokio::test]
async fn a_restart_is_told_between_two_frames_and_only_there() {
    for (sent, told) in [
        (&b""[..], &b"\x88\x02\x03\xf4"[..]),
        (b"\x82\x02ab", b"\x88\x02\x03\xf4"),
        (b"\x82\x03ab", b""),
        (b"\x82\x7e\x01", b""),
        (b"\x88\x02\x03\xe8", b""),
    ] {
        let stage = Stage::set().await;
        let host = stage.ide_host();
        let mut browser = Peer::connect(stage.public).await;
        browser.send(&upgrade(&host, &own_origin(&host))).await;
        let mut ide = Peer::accept(&stage.ide).await;
        ide.head().await;
        ide.send(SWITCHED).await;
        browser.head().await;
        ide.send(sent).await;
        assert_eq!(browser.bytes(sent.len()).await, sent);
        // What it sends meanwhile is not answered.
        browser.send(b"\x81\x80abcd").await;

        let (end, ()) = tokio::join!(browser.end(), stage.streams.close_all());

        assert_eq!(end, told, "after {sent:?}");
    }
}

#[tokio::test]
async fn a_container_has_a_bounded_number_of_sockets() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut browser = Peer::connect(stage.public).await;
        browser.send(&upgrade(&host, &own_origin(&host))).await;
        let mut ide = Peer::accept(&stage.ide).await;
        ide.head().await;
        ide.send(SWITCHED).await;
        browser.head().await;
        open.push((browser, ide));
    }

    let answer = stage.ask(&upgrade(&host, &own_origin(&host))).await;

    assert_eq!(answer.status(), "429");
}
