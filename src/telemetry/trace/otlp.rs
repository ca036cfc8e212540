//! Spans as OTLP sends them: the JSON encoding of `ExportTraceServiceRequest` (OTLP 1.3, "JSON Protobuf Encoding").

use serde_json::{Value as Json, json};

use super::span::{Kind, Span, Value};

/// The body of a POST to `/v1/traces`.
pub(crate) fn encode(spans: &[Span]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", &Value::Text("upwarden".to_owned())),
            attribute("service.version", &Value::Text(env!("CARGO_PKG_VERSION").to_owned())),
        ] },
        "scopeSpans": [{ "scope": { "name": "upwarden", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }] })
}

fn span(span: &Span) -> Json {
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    let attributes: Vec<Json> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut encoded = json!({
        "traceId": span.context.trace,
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": kind,
        // 64-bit numbers are texts in this encoding.
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes,
        // Unset is a success; 2 is an error.
        "status": if span.failed { json!({ "code": 2 }) } else { json!({}) },
    });
    if let Some(fields) = encoded.as_object_mut() {
        fields.extend(span.parent.map(|parent| ("parentSpanId".to_owned(), format!("{parent:016x}").into())));
        let state = span.state.as_ref().and_then(|state| state.to_str().ok());
        fields.extend(state.map(|state| ("traceState".to_owned(), state.into())));
    }
    encoded
}

fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": name, "value": value })
}
