//! What a component does to its host hurts nobody else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use system_tests::app::{App, AppOptions};
use system_tests::http::Reply;
use zlh_host_proxy::component_host::Limits;

/// Two components of the same code; only the bad one has these limits.
fn manifest(limits: &str) -> String {
    format!(
        "[[trigger.http]]\nroute = '/bad/...'\ncomponent = 'bad'\n\
         [[trigger.http]]\nroute = '/good/...'\ncomponent = 'good'\n\
         [component.bad]\nsource = '{{probe}}'\n[component.bad.tool.zlh]\n{limits}\n\
         [component.good]\nsource = '{{probe}}'\n"
    )
}

async fn start(limits: &str) -> App {
    App::start(&manifest(limits)).await
}

async fn post(app: &App, path: &str, bytes: usize) -> Reply {
    let body = Bytes::from(vec![b'x'; bytes]);
    app.call(Method::POST, path, &[], body).await.expect("an answer")
}

/// How long the good component takes to answer: the median of several, one after the other, because the
/// slowest says more about what else the machine does.
async fn patience(app: &App) -> Duration {
    let mut times = Vec::new();
    for _ in 0..21 {
        let started = Instant::now();
        assert_eq!(app.text("/good/hello").await, "hello");
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// What an honest answer may take while others misbehave. On an idle machine it takes a few
/// milliseconds; without turns, those below take seconds.
const SOON: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_loops_is_ended_at_its_deadline() {
    let app = start("cpu_deadline_ms = 200").await;

    let ended = app.get("/bad/loop").await;

    assert_eq!(ended.status, 504, "{}", ended.text());
    assert_eq!(ended.json()["code"], "timeout");
    assert_eq!(app.text("/bad/hello").await, "hello", "its next instance serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_loop_at_once_leave_others_quick() {
    let app = start("cpu_deadline_ms = 100").await;
    app.text("/good/hello").await;

    let loops = join_all((0..48).map(|_| app.get("/bad/loop")));
    let (ended, patience) = futures::join!(loops, patience(&app));

    assert!(patience < SOON, "{patience:?}");
    assert!(ended.iter().all(|reply| matches!(reply.status.as_u16(), 503 | 504)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_computes_for_long_is_not_cut_before_its_deadline() {
    let app = start("").await;

    let answers = join_all((0..4).map(|_| app.text("/bad/compute/50"))).await;

    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn one_that_takes_memory_has_its_limit_and_no_more() {
    let app = start("memory_bytes = 16777216").await;

    let bad: u64 = app.text("/bad/grow").await.parse().unwrap();
    let good: u64 = app.text("/good/grow").await.parse().unwrap();

    assert!((8..16).contains(&bad), "{bad} MiB");
    assert!((100..128).contains(&good), "{good} MiB");
}

#[tokio::test]
async fn a_request_is_no_larger_than_allowed_announced_or_not() {
    let app = start("max_request_body_bytes = 1000").await;

    let fits = post(&app, "/bad/count", 1000).await;
    let announced = post(&app, "/bad/count", 1001).await;
    let other = post(&app, "/good/count", 1001).await;

    assert_eq!((fits.status.as_u16(), fits.text().as_str()), (200, "1000"));
    assert_eq!(announced.status, 413);
    assert_eq!(announced.json()["code"], "too_large");
    assert_eq!(other.text(), "1001");
}

#[tokio::test]
async fn a_response_that_is_too_large_is_cut_off() {
    let app = start("max_response_body_bytes = 100000").await;

    let fits = app.text("/bad/body/100000").await;
    let cut = app.begin("/bad/body/100001").await.end().await;
    let other = app.text("/good/body/100001").await;

    assert_eq!((fits.len(), other.len()), (100_000, 100_001));
    assert!(cut.is_err(), "it ended as if it were whole");
}

#[tokio::test]
async fn headers_are_few_and_small() {
    let app = start("max_headers = 40\nmax_header_bytes = 4000").await;
    let long = "v".repeat(5000);
    let many: Vec<String> = (0..40).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
    let call = async |path: &str, headers: &[(&str, &str)]| {
        app.call(Method::GET, path, headers, Bytes::new()).await.unwrap().status.as_u16()
    };

    let requests = [
        call("/bad/hello", &[]).await,
        call("/bad/hello", &many).await,
        call("/bad/hello", &[("x-long", &long)]).await,
        call("/good/hello", &many).await,
        call("/good/hello", &[("x-long", &long)]).await,
    ];
    let mut responses = Vec::new();
    for path in [
        "/bad/headers/30",
        "/bad/headers/41",
        "/bad/header/3000",
        "/bad/header/4001",
        "/good/headers/41",
    ] {
        responses.push(app.get(path).await.status.as_u16());
    }

    assert_eq!(requests, [200, 431, 431, 200, 200]);
    assert_eq!(responses, [200, 500, 200, 500, 200]);
}

#[tokio::test]
async fn more_requests_than_run_wait_and_more_than_wait_are_refused() {
    let app = start("max_concurrent_requests = 2\nmax_queued_requests = 1").await;
    let first = app.begin("/bad/stream").await;
    let second = app.begin("/bad/stream").await;

    let (third, fourth) = (app.get("/bad/hello"), app.get("/bad/hello"));
    let (third, fourth) = (std::pin::pin!(third), std::pin::pin!(fourth));
    let (refused, waiting) = futures::future::select(third, fourth).await.factor_first();
    let other = app.text("/good/hello").await;
    drop((first, second));
    let served = waiting.await;

    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["code"], "unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(other, "hello");
    assert_eq!(served.text(), "hello", "a place became free");
}

#[tokio::test]
async fn one_that_panics_cuts_off_what_its_instance_streams() {
    let app = start("").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = app.begin("/bad/stream").await;
        let first = stream.next().await.unwrap().unwrap();
        streams.push((first, stream));
    }
    let mut other = app.begin("/good/stream").await;
    let shared = streams.iter().any(|(first, _)| first == "stream 2\n");
    assert!(shared, "no instance streams twice, so this shows nothing");

    let panicked = app.get("/bad/panic").await;
    let mut cut = 0;
    for (_, mut stream) in streams {
        let end = tokio::time::timeout(Duration::from_secs(2), async {
            while let Ok(Some(_)) = stream.next().await {}
            stream.next().await
        });
        match end.await {
            Err(_) => {}
            Ok(end) => {
                assert!(end.is_err() || matches!(end, Ok(None)));
                cut += 1;
            }
        }
    }

    assert_eq!(panicked.status, 500);
    assert_eq!(panicked.json()["code"], "internal");
    assert!(cut > 0, "none was on the instance that died");
    other.next().await.unwrap().expect("the other component streams on");
    assert_eq!(app.text("/bad/hello").await, "hello");
}

#[tokio::test]
async fn one_that_does_not_answer_is_given_up() {
    let app = start("request_timeout_ms = 300").await;

    let late = app.get("/bad/hang").await;

    assert_eq!(late.status, 504, "{}", late.text());
    assert_eq!(app.text("/bad/hello").await, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fills_every_instance_leaves_others_theirs() {
    let limits = Limits { max_instances: 8, ..Limits::default() };
    let app = App::of(AppOptions {
        manifest: manifest("reuse_count = 1\nrequest_timeout_ms = 5000"),
        limits,
        ..AppOptions::default()
    })
    .await;

    let flood = join_all((0..32).map(|_| app.get("/bad/hang")));
    let (flooded, patience) = futures::join!(flood, patience(&app));

    assert!(patience < SOON, "{patience:?}");
    assert!(flooded.iter().all(|reply| matches!(reply.status.as_u16(), 503 | 504)), "{flooded:?}");
}
