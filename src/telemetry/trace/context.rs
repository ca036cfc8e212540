//! W3C Trace Context: the trace and span that a request belongs to, according to `traceparent`.

use std::fmt;

use http::HeaderValue;
use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

impl TraceId {
    pub(in crate::telemetry) fn random() -> Self {
        let mut bytes = [0; 16];
        // Without randomness ids may collide, which is harmless, and zero is not allowed.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        Self(u128::from_ne_bytes(bytes).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(super) trace: TraceId,
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl SpanContext {
    /// A new trace.
    pub(super) fn root() -> Self {
        Self { trace: TraceId::random(), span: span_id(), sampled: true }
    }

    #[must_use]
    pub(super) fn child(self) -> Self {
        Self { span: span_id(), ..self }
    }

    /// Section 3.2 of W3C Trace Context: `00-{trace}-{span}-{flags}` in lower-case hex. Additions of later versions are
    /// ignored.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.splitn(5, '-');
        let mut hex = |length: usize| {
            let part = parts.next()?;
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let fits = part.len() == length && part.bytes().all(lower);
            fits.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let span = u64::try_from(span).ok()?;
        let extended = parts.next().is_some();
        if version == 0xff || (version == 0 && extended) || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace: TraceId(trace), span, sampled: flags & 1 == 1 })
    }

    pub(super) fn header(self) -> HeaderValue {
        let text = format!("00-{}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn span_id() -> u64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_ne_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_w3c_says() {
        let read = |text: &str| SpanContext::parse(text.as_bytes());
        let parent = read(PARENT).unwrap();
        assert_eq!(parent.header(), PARENT);
        assert!(parent.sampled && !read(&PARENT.replace("-01", "-00")).unwrap().sampled);
        assert!(read(&PARENT.replace("-01", "-03")).unwrap().sampled, "other flags");
        assert_eq!(read(&PARENT.replacen("00-", "01-", 1)), Some(parent), "a later version");
        assert_eq!(read(&format!("{}-more", PARENT.replacen("00-", "01-", 1))), Some(parent));
        for bad in [
            "",
            "00",
            &format!("{PARENT}-more"),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.to_ascii_uppercase(),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            &PARENT.replace("-01", "-1"),
            &PARENT.replace('-', " "),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_child_stays_in_the_trace_with_its_own_id() {
        let root = SpanContext::root();
        let child = root.child();
        assert!(child.trace == root.trace && child.span != root.span && child.sampled);
        assert_ne!(SpanContext::root().trace, root.trace);
        assert_eq!(SpanContext::parse(child.header().as_bytes()), Some(child));
    }
}
