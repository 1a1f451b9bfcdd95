//! Traces in OpenTelemetry's protocol (OTLP over HTTP), if there is somebody to send them to.
//!
//! Spans of [`TARGET`] are traces and never lines of the log; without an endpoint nobody asks for them, and
//! they cost nothing. The variables are those of the [specification].
//!
//! [specification]: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{ConfigError, TraceSettings};

/// Target of the spans that are traces.
pub const TARGET: &str = "zlh::trace";
/// W3C Trace Context, section 3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context, section 3.3.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Sends what was traced, until it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send, if the settings say where to. Within a runtime only.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn start(settings: &TraceSettings) -> Result<Option<Self>, ConfigError> {
        if !settings.enabled {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build().map_err(|_| ConfigError {
            setting: "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            want: "a URL such as `http://127.0.0.1:4318`".to_owned(),
        })?;
        let resource = Resource::builder().with_service_name(settings.service.clone()).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What hands spans over to this.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let tracer = self.0.tracer("zlh");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(
            filter_fn(|metadata| metadata.target() == TARGET)
                .with_max_level_hint(LevelFilter::INFO),
        )
    }

    /// Sends what is left.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent");
        }
    }
}

/// Tells whoever gets a request which span it belongs to. What a client said of its own is not passed on.
pub(crate) fn propagate(span: &Span, headers: &mut HeaderMap) {
    if span.is_disabled() {
        return;
    }
    headers.remove(TRACESTATE);
    let context = span.context();
    let context = context.span().span_context().clone();
    let value = format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8()
    );
    match HeaderValue::try_from(value) {
        Ok(value) if context.is_valid() => headers.insert(TRACEPARENT, value),
        _ => headers.remove(TRACEPARENT),
    };
}
