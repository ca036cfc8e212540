//! Log lines as JSON: one object a line, the fields flat beside time, level and message.
//!
//! Fields are written directly into the line's buffer, whereas the `json` format of tracing-subscriber builds a map
//! first. The access line, which every request writes, is not a tracing event: [`write`] costs a sixth of the
//! instructions.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Clone, Copy, Debug)]
pub struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        begin(&mut line, *event.metadata().level())?;
        let mut fields = Fields { line: &mut line, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        line.write_str("}\n")
    }
}

/// What every line begins with.
fn begin(line: &mut impl Write, level: Level) -> fmt::Result {
    line.write_str("{\"timestamp\":\"")?;
    timestamp(line)?;
    line.write_str("\",\"level\":\"")?;
    line.write_str(level.as_str())?;
    line.write_char('"')
}

/// Writes one line to stderr, in the same form as every other.
pub(super) fn write(level: Level, message: &str, record: impl FnOnce(&mut Fields<'_, String>)) {
    thread_local! {
        static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    }
    LINE.with_borrow_mut(|text| {
        text.clear();
        if line(text, level, message, record).is_ok() {
            // If stderr is closed, there is nowhere to report it.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    });
}

pub(super) fn line(
    line: &mut String,
    level: Level,
    message: &str,
    record: impl FnOnce(&mut Fields<'_, String>),
) -> fmt::Result {
    begin(line, level)?;
    let mut fields = Fields { line, outcome: Ok(()) };
    fields.text("message", Some(message));
    record(&mut fields);
    fields.outcome?;
    line.write_str("}\n")
}

/// RFC 3339 in UTC with microseconds. Everything but the microseconds is formatted once a second.
#[expect(clippy::disallowed_methods, reason = "a log line tells the system's time, whatever the Clock says")]
fn timestamp(line: &mut impl Write) -> fmt::Result {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = std::time::SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            *text = OffsetDateTime::from(now).truncate_to_second().format(&Rfc3339).map_err(|_| fmt::Error)?;
        }
        line.write_str(text.trim_end_matches('Z'))?;
        // A one and six digits; the decimal point replaces the one.
        let mut digits = itoa::Buffer::new();
        line.write_char('.')?;
        line.write_str(digits.format(1_000_000 + since.subsec_micros()).get(1..).unwrap_or_default())?;
        line.write_char('Z')
    })
}

/// Writes the fields of a line one after the other.
pub(super) struct Fields<'a, W> {
    line: &'a mut W,
    outcome: fmt::Result,
}

impl<W: Write> Fields<'_, W> {
    /// `,"name":` and then `value`. Names are our own identifiers.
    fn put(&mut self, name: &str, value: impl FnOnce(&mut W) -> fmt::Result) {
        let line = &mut *self.line;
        let written = line
            .write_str(",\"")
            .and_then(|()| line.write_str(name))
            .and_then(|()| line.write_str("\":"))
            .and_then(|()| value(line));
        self.outcome = self.outcome.and(written);
    }

    /// Writes no field if there is no value.
    pub(super) fn text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(name, |line| {
                line.write_char('"')?;
                Escaped(line).write_str(text)?;
                line.write_char('"')
            });
        }
    }

    pub(super) fn shown(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.put(name, |line| {
                line.write_char('"')?;
                write!(Escaped(line), "{value}")?;
                line.write_char('"')
            });
        }
    }

    pub(super) fn number(&mut self, name: &str, value: Option<impl itoa::Integer>) {
        if let Some(value) = value {
            self.put(name, |line| line.write_str(itoa::Buffer::new().format(value)));
        }
    }

    pub(super) fn address(&mut self, name: &str, address: Option<IpAddr>) {
        let Some(IpAddr::V4(v4)) = address else { return self.shown(name, address) };
        // Every request has one, and formatting it costs a quarter of the line.
        self.put(name, |line| {
            let mut before = "\"";
            for octet in v4.octets() {
                line.write_str(before)?;
                line.write_str(itoa::Buffer::new().format(octet))?;
                before = ".";
            }
            line.write_char('"')
        });
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.put(name, |line| line.write_str(if value { "true" } else { "false" }));
    }
}

impl<W: Write> Visit for Fields<'_, W> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.shown(field.name(), Some(format_args!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), Some(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), Some(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), Some(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.flag(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers (RFC 8259 section 6).
        self.put(field.name(), |line| if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") });
    }
}

/// The inside of a JSON string (RFC 8259 section 7).
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        // Almost no text needs escaping, and this check processes many bytes at a time.
        if !text.bytes().fold(false, |found, byte| found | escaped(byte)) {
            return self.0.write_str(text);
        }
        let mut rest = text;
        while let Some(place) = rest.bytes().position(escaped) {
            let (plain, after) = rest.split_at_checked(place).ok_or(fmt::Error)?;
            self.0.write_str(plain)?;
            let mut characters = after.chars();
            match characters.next() {
                Some(mark @ ('"' | '\\')) => {
                    self.0.write_char('\\')?;
                    self.0.write_char(mark)?;
                }
                Some('\n') => self.0.write_str("\\n")?,
                Some(control) => write!(self.0, "\\u{:04x}", u32::from(control))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_its_values_contain() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer().event_format(Json).with_writer(move || writer.clone());
        let odd = "a\"b\\c\nd\u{1}e\u{7f}é\u{2028}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::info!(odd, shown = %odd, debug = ?"x\ty", n = -3, u = 7_u64, no = None::<u8>, yes = true, f = 1.5, nan = f64::NAN, "said");
            tracing::warn!("twice");
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            written.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
        let [first, second] = lines.as_slice() else { panic!("{written}") };
        assert_eq!((&first["message"], &first["level"]), (&"said".into(), &"INFO".into()));
        assert_eq!((&first["odd"], &first["shown"], &first["debug"]), (&odd.into(), &odd.into(), &"\"x\\ty\"".into()));
        assert_eq!((&first["n"], &first["u"], &first["yes"]), (&(-3).into(), &7.into(), &true.into()));
        assert_eq!((&first["f"], &first["nan"], first.get("no")), (&1.5.into(), &serde_json::Value::Null, None));
        assert_eq!(second["message"], "twice");
        assert!(second["timestamp"].as_str().unwrap().ends_with('Z'), "{second}");
    }

    #[test]
    fn addresses_are_written_as_they_are_shown() {
        for address in ["0.0.0.0", "203.0.113.7", "255.1.20.100", "::1", "2001:db8::7"] {
            let mut written = String::new();
            line(&mut written, Level::INFO, "x", |fields| fields.address("a", address.parse().ok())).unwrap();
            assert!(written.ends_with(&format!(",\"a\":\"{address}\"}}\n")), "{written}");
        }
    }
}
