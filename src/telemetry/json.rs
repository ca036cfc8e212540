//! Log lines as JSON: one object a line, the fields flat beside time, level and message.
//!
//! An event's fields go straight into the line's buffer; the `json` format of tracing-subscriber builds a map first. The
//! access line, which every request writes, is no event at all: [`write`] serializes it for a third of the instructions.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io::{self, Write as _};
use std::time::UNIX_EPOCH;

use serde::Serialize;
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

/// Writes one line on stderr, in the shape of every other. `message` is a word of ours, and `fields` is a structure.
pub(super) fn write(level: Level, message: &str, fields: &impl Serialize) {
    thread_local! {
        static LINE: RefCell<(String, Vec<u8>)> = const { RefCell::new((String::new(), Vec::new())) };
    }
    LINE.with_borrow_mut(|(start, line)| {
        start.clear();
        line.clear();
        let begun = begin(start, level).and_then(|()| write!(start, ",\"message\":\"{message}\","));
        line.extend_from_slice(start.as_bytes());
        let brace = line.len();
        if begun.is_ok() && serde_json::to_writer(&mut *line, fields).is_ok() {
            // The fields go on with the object that has begun.
            line.remove(brace);
            line.push(b'\n');
            // There is nowhere to say that stderr is closed.
            let _ = io::stderr().write_all(line);
        }
    });
}

/// RFC 3339 in UTC with microseconds. All but these is formatted once a second.
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
        write!(line, ".{:06}Z", since.subsec_micros())
    })
}

struct Fields<'a, 'w> {
    line: &'a mut Writer<'w>,
    outcome: fmt::Result,
}

impl Fields<'_, '_> {
    /// `,"name":` and then `value`.
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let line = &mut *self.line;
        // Names are identifiers of ours.
        let written = line
            .write_str(",\"")
            .and_then(|()| line.write_str(field.name()))
            .and_then(|()| line.write_str("\":"))
            .and_then(|()| value(line));
        self.outcome = self.outcome.and(written);
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.put(field, |line| {
            line.write_char('"')?;
            Escaped(line).write_fmt(text)?;
            line.write_char('"')
        });
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |line| {
            line.write_char('"')?;
            Escaped(line).write_str(value)?;
            line.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers (RFC 8259 section 6).
        self.put(field, |line| if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") });
    }
}

/// The inside of a JSON string (RFC 8259 section 7).
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(place) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
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
}
