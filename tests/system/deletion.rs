//! What is deleted is gone.

use std::time::Duration;

use serde_json::json;
use system_tests::{Stack, eventually};

#[tokio::test]
async fn nothing_of_a_deleted_container_is_left() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let (token, _) = session.ide_token(vmid).await;
    let cookie = stack.ide_cookie(vmid, &token).await;
    let (unused, _) = session.ide_token(vmid).await;
    let mut socket = stack.ide_websocket(vmid, &[("cookie", &cookie)]).await.expect("a WebSocket");
    assert!(!stack.processes(vmid).is_empty());

    session.delete(vmid).await;

    assert_eq!(stack.processes(vmid), []);
    assert!(!stack.container(vmid).exists());
    assert!(socket.closes_within(Duration::from_secs(5)).await);
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));
    assert_eq!(session.get(&format!("/api/instances/{vmid}")).await.status, 404);
    assert_eq!(session.post(&format!("/api/dev/{vmid}/ide-token")).await.status, 404);

    // What opened it opens nothing, and another container least of all.
    let other = session.create_dev(true).await;
    for (vmid, status) in [(vmid, 404), (other, 401)] {
        let headers = [("cookie", cookie.as_str())];
        // An answer about a cookie may be some seconds old; that nothing is behind it shows at once.
        let opened = async || stack.ide(vmid, "/", &headers).await.status;
        let last = eventually(Duration::from_secs(5), opened, |opened| *opened != 503).await;
        assert_eq!(last, status, "{vmid} by cookie");
        let reply = stack.ide(vmid, &format!("/?token={unused}"), &[]).await;
        assert_eq!(reply.status, status, "{vmid}: {}", reply.text());
    }
}

#[tokio::test]
async fn down_leaves_no_process_and_keeps_the_data() {
    let mut stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    std::fs::write(stack.workspace(vmid).join("kept.txt"), "kept").unwrap();

    // zlh may be stopped without its containers; `down` stops those.
    assert!(stack.terminate().await.iter().all(std::process::ExitStatus::success));
    assert_eq!(stack.code_servers(vmid).len(), 1);
    stack.down().await;
    assert_eq!(stack.processes(vmid), []);

    stack.restart().await;
    // What is said of a container is as old as the last look at it, and that was before.
    let one = |running: &Vec<_>| running.len() == 1;
    eventually(Duration::from_secs(60), async || stack.code_servers(vmid), one).await;
    session.ready(vmid).await;
    assert_eq!(std::fs::read_to_string(stack.workspace(vmid).join("kept.txt")).unwrap(), "kept");
}
