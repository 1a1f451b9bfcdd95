//! Swaps while customers work: the short form of `bench/swap.rs`.

use std::time::{Duration, Instant};

use futures::future::join_all;
use system_tests::load::{Call, Load};
use system_tests::{Stack, components};

const SWAPS: usize = 6;
const PER_SECOND: u32 = 250;
const LEAST_PER_SECOND: f64 = 200.0;
const IDLE_SOCKETS: usize = 50;

#[tokio::test]
async fn no_request_fails_and_no_socket_closes_while_components_are_swapped() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let headers = [("cookie", cookie.as_str())];
    let mut sockets = Vec::new();
    for _ in 0..IDLE_SOCKETS {
        sockets.push(stack.ide_websocket(vmid, &headers).await.expect("a WebSocket"));
    }
    let call = |path: &str| Call { path: path.to_owned(), token: Some(session.token.clone()) };
    let calls =
        [call("/api/health"), call("/api/auth/me"), call(&format!("/api/servers/{vmid}/status"))];

    let load = Load::start(stack.api().address, PER_SECOND, &calls);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for swap in components::in_turn().take(SWAPS) {
        ticks.tick().await;
        let started = Instant::now();
        stack.swap(swap.component, &swap.file).await.expect("a swap");
        eprintln!("{} within {:?}", swap.component, started.elapsed());
        stack.ide(vmid, "/", &headers).await.expect(302);
    }
    ticks.tick().await;
    let tally = load.end().await;

    assert_eq!(tally.failed, Vec::<String>::new());
    assert!(tally.rate() >= LEAST_PER_SECOND, "{} requests a second", tally.rate());
    let closed =
        join_all(sockets.iter_mut().map(|s| s.closes_within(Duration::from_secs(1)))).await;
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 0);
    stack.ide_websocket(vmid, &headers).await.expect("another WebSocket");
}
