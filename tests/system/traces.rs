//! Traces as a collector gets them, read with OpenTelemetry's own messages.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use system_tests::stack::StackOptions;
use system_tests::{Stack, eventually};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(60);

/// A collector: every span that it was sent, and the path that each batch came to.
async fn collector() -> (String, Arc<Mutex<Vec<(String, Span)>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let spans = Arc::<Mutex<Vec<(String, Span)>>>::default();
    let kept = Arc::clone(&spans);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let batch = ExportTraceServiceRequest::decode(body).unwrap();
                    let spans = batch
                        .resource_spans
                        .into_iter()
                        .flat_map(|resource| resource.scope_spans)
                        .flat_map(|scope| scope.spans);
                    kept.lock().unwrap().extend(spans.map(|span| (path.clone(), span)));
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (url, spans)
}

fn attributes(span: &Span) -> HashMap<String, String> {
    let text = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        (attribute.key.clone(), format!("{:?}", attribute.value))
    };
    span.attributes.iter().map(text).collect()
}

#[tokio::test]
async fn a_request_is_traced_through_the_component_that_answers_it() {
    let (url, spans) = collector().await;
    let mut stack = Stack::prepare(
        StackOptions::default()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .with("OTEL_BSP_SCHEDULE_DELAY", "200"),
    );
    stack.restart().await;

    let reply =
        stack.api().call(Method::GET, "/api/auth/me?secret=1", None, None).await.expect(401);

    let request_id = reply.header("x-request-id").unwrap().to_owned();
    let request = async || {
        let spans = spans.lock().unwrap();
        let is_it = |span: &Span| {
            attributes(span).get("request.id").is_some_and(|id| id.contains(&request_id))
        };
        spans.iter().find(|(_, span)| is_it(span)).cloned()
    };
    let (path, request) = eventually(LIMIT, request, Option::is_some).await.unwrap();
    assert_eq!(path, "/v1/traces");
    assert_eq!(request.name, "GET");
    assert!(attributes(&request)["http.response.status_code"].contains("401"), "{request:?}");
    assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    let component = async || {
        let spans = spans.lock().unwrap();
        let mut below = spans.iter().filter(|(_, span)| span.parent_span_id == request.span_id);
        below.next().cloned()
    };
    let (_, component) = eventually(LIMIT, component, Option::is_some).await.unwrap();
    assert_eq!((component.name.as_str(), &component.trace_id), ("auth", &request.trace_id));
}
