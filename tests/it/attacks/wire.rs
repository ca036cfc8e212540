//! What must hold for any bytes on a connection: the strict reader's result does not depend on the pieces, and hyper
//! behind it reads exactly the messages that it accepts.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upwarden::testing::framing::{BodyLength, Limits, Method, Refusal, RequestReader, ResponseReader, Step};

/// A message: its head, and how its body is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    head: Vec<u8>,
    body: BodyLength,
    /// Bytes of the body's framing and data, and whether it ended.
    length: u64,
    ended: bool,
}

/// What a reader found in some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    messages: Vec<Message>,
    refusal: Option<Refusal>,
    /// The number of bytes that it accounted for.
    passed: usize,
}

fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).expect("a part of what is there")
}

/// Passes `bytes` to `step` in pieces, as a socket would; `pieces` gives their lengths in turn, where 0 means 1.
fn read<H: Copy>(
    bytes: &[u8],
    pieces: &[u8],
    mut step: impl FnMut(&[u8]) -> Result<Step<H>, Refusal>,
    body_of: impl Fn(H) -> BodyLength,
) -> Reading {
    let mut reading = Reading { messages: Vec::new(), refusal: None, passed: 0 };
    let mut shown = 0;
    let mut lengths = pieces.iter().cycle();
    loop {
        match step(part(bytes, reading.passed, shown)) {
            Ok(Step::Head { len, head }) => {
                assert!(len > 0 && reading.passed + len <= shown, "a head of what was shown");
                let body = body_of(head);
                let head = part(bytes, reading.passed, reading.passed + len).to_vec();
                reading.messages.push(Message { head, body, length: 0, ended: body == BodyLength::None });
                reading.passed += len;
            }
            Ok(Step::Body { len, end, .. }) => {
                assert!(len > 0 && reading.passed + len <= shown, "a piece of what was shown");
                let message = reading.messages.last_mut().expect("a body has a head");
                assert!(!message.ended, "a body after its end");
                message.length += len as u64;
                message.ended = end;
                reading.passed += len;
            }
            Ok(Step::More) if shown == bytes.len() => return reading,
            Ok(Step::More) => {
                let more = lengths.next().map_or(bytes.len(), |length| usize::from(*length).max(1));
                shown = (shown + more).min(bytes.len());
            }
            Ok(Step::Opaque) => return reading,
            Err(refusal) => {
                reading.refusal = Some(refusal);
                assert_eq!(step(part(bytes, reading.passed, shown)).err(), Some(refusal), "a refusal stays");
                return reading;
            }
        }
    }
}

fn read_requests(bytes: &[u8], pieces: &[u8]) -> Reading {
    let mut reader = RequestReader::new(Limits::default());
    read(bytes, pieces, |bytes| reader.step(bytes), |head| head.body)
}

/// Requests: whole or in pieces, the same messages and the same verdict.
pub(crate) fn requests(bytes: &[u8], pieces: &[u8]) -> Reading {
    let whole = read_requests(bytes, &[]);
    let split = read_requests(bytes, pieces);
    assert_eq!(whole.messages.len(), split.messages.len(), "{whole:?}\n{split:?}");
    let heads = whole.messages.iter().zip(&split.messages);
    assert!(heads.into_iter().all(|(one, other)| one.head == other.head && one.body == other.body));
    // In pieces, less of the body may be passed before a refusal, never more.
    assert_eq!(whole.refusal, split.refusal, "{whole:?}\n{split:?}");
    assert_eq!(whole.passed, split.passed);
    for message in &whole.messages {
        if let (BodyLength::Exact(length), true) = (message.body, message.ended) {
            assert_eq!(message.length, length);
        }
    }
    whole
}

/// Responses to `asked`, in the same way.
pub(crate) fn responses(bytes: &[u8], pieces: &[u8], head: bool, upgrade: bool) {
    let method = if head { Method::Head } else { Method::Other };
    let reading = |pieces: &[u8]| {
        let mut reader = ResponseReader::new(Limits::default());
        reader.expect(method, upgrade);
        read(bytes, pieces, |bytes| reader.step(bytes), |head| head.body)
    };
    let (whole, split) = (reading(&[]), reading(pieces));
    assert_eq!(whole.refusal, split.refusal, "{whole:?}\n{split:?}");
    assert_eq!(whole.passed, split.passed);
    // In either version: the status begins behind "HTTP/1.x ".
    let finals = whole.messages.iter().filter(|message| message.head.get(9) != Some(&b'1'));
    assert!(finals.count() <= 1, "one answer to one request");
}

/// A request as hyper reads it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    /// Bytes of the body; `None` where it broke off.
    body: Option<u64>,
}

/// From everything that the strict reader accepts, hyper reads the same requests in the same order, with bodies of the
/// same length. It may stop earlier but never sees an additional one.
pub(crate) fn agrees_with_hyper(bytes: &[u8], pieces: &[u8]) {
    let reading = requests(bytes, pieces);
    // After an upgrade there is no HTTP, and HTTP/1.0 ends after one request.
    let seen = hyper_reads(bytes.get(..reading.passed).unwrap_or_default());
    assert!(seen.len() <= reading.messages.len(), "{seen:?}\n{reading:?}");
    for (seen, message) in seen.iter().zip(&reading.messages) {
        let text = String::from_utf8_lossy(&message.head);
        let mut line = text.trim_start_matches("\r\n").split("\r\n").next().unwrap_or_default().splitn(3, ' ');
        let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        assert_eq!(seen.method, method, "{reading:?}");
        assert!(!target.starts_with('/') || seen.target == target, "{} is not {target}", seen.target);
        match (message.body, message.ended) {
            (BodyLength::Exact(length), true) => assert_eq!(seen.body, Some(length), "{text}"),
            (BodyLength::None, _) => assert_eq!(seen.body, Some(0), "{text}"),
            (BodyLength::Chunked, true) => {
                assert!(seen.body.is_some_and(|body| body < message.length), "{seen:?} {message:?}");
            }
            (_, _) => assert_eq!(seen.body, None, "a cut body is never whole: {text}"),
        }
    }
}

fn hyper_reads(bytes: &[u8]) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(bytes.len().max(1));
        let service = service_fn(|request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (method, target) = (request.method().to_string(), request.uri().to_string());
                let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().len() as u64);
                seen.lock().expect("no panic before").push(Seen { method, target, body });
                Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        let connection =
            builder.max_headers(Limits::default().head_fields).serve_connection(TokioIo::new(far), service);
        let (mut answers, mut questions) = tokio::io::split(near);
        let client = async {
            questions.write_all(bytes).await.ok();
            questions.shutdown().await.ok();
            let mut rest = Vec::new();
            answers.read_to_end(&mut rest).await.ok();
        };
        // How hyper ends the connection does not matter.
        let _ = tokio::join!(connection, client);
    });
    seen.lock().expect("no panic before").clone()
}
