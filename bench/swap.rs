//! A swap every second for a minute under load, with idle WebSockets and an open IDE: what fails, what
//! closes, and how long things take. `cargo run --package system-tests --example swap` after
//! `cargo xtask build`; `ZLH_TEST_PROGRAMS=target/release` measures an optimised `zlh`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics and says why"
)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use system_tests::load::{Call, Load};
use system_tests::{Stack, StackOptions, components};

const SWAPS: usize = 60;
const PER_SECOND: u32 = 500;
const IDLE_SOCKETS: usize = 1000;

#[tokio::main]
async fn main() {
    let options = StackOptions::default().with("ZLH_MAX_IDE_STREAMS", "4096");
    let stack = Stack::start_with(options).await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let headers = [("cookie", cookie.as_str())];
    let mut sockets = Vec::new();
    for _ in 0..IDLE_SOCKETS {
        sockets.push(stack.ide_websocket(vmid, &headers).await.expect("a WebSocket"));
    }
    println!("{IDLE_SOCKETS} WebSockets are open");
    let call = |path: &str| Call { path: path.to_owned(), token: Some(session.token.clone()) };
    let calls =
        [call("/api/health"), call("/api/auth/me"), call(&format!("/api/servers/{vmid}/status"))];

    let load = Load::start(stack.api().address, PER_SECOND, &calls);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let (mut took, mut refused, mut ide_failed) = (Vec::new(), Vec::new(), 0);
    for swap in components::in_turn().take(SWAPS) {
        ticks.tick().await;
        let started = Instant::now();
        match stack.swap(swap.component, &swap.file).await {
            Ok(_) => took.push(started.elapsed()),
            Err(reason) => refused.push(reason),
        }
        let page = stack.ide(vmid, "/", &headers).await;
        ide_failed += usize::from(page.status != 302);
    }
    ticks.tick().await;
    let tally = load.end().await;
    let closed =
        join_all(sockets.iter_mut().map(|s| s.closes_within(Duration::from_secs(2)))).await;
    let closed = closed.iter().filter(|closed| **closed).count();

    took.sort_unstable();
    let middle = took.get(took.len() / 2).copied().unwrap_or_default();
    let longest = took.last().copied().unwrap_or_default();
    println!(
        "{} swaps, {} refused: median {middle:.0?}, longest {longest:.0?}",
        took.len(),
        refused.len()
    );
    println!(
        "{} requests in {:.0?}, {:.0} a second, {} failed: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        tally.took.len() + tally.failed.len(),
        tally.elapsed,
        tally.rate(),
        tally.failed.len(),
        tally.quantile(0.5),
        tally.quantile(0.99),
        tally.quantile(1.0),
    );
    println!("{closed} of {IDLE_SOCKETS} WebSockets closed; {ide_failed} IDE pages failed");
    for reason in refused.iter().chain(&tally.failed).take(20) {
        println!("  {reason}");
    }
}
