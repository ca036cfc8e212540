//! An app that reads as strictly as possible, with code that shares nothing with upwarden's, and records what it read.
//!
//! It answers each whole request. Anything that could be read in two ways is recorded as wrong and fails the test.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::App;

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Default)]
pub(crate) struct Strict(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    read: Vec<Read>,
    wrong: Vec<String>,
}

/// One message, as far as it was received.
enum Message {
    Whole(Read),
    Cut,
    Wrong(String),
}

impl Strict {
    pub(crate) fn app(&self) -> App {
        let strict = self.clone();
        App::raw(move |stream| strict.clone().serve(stream))
    }

    /// The whole requests since the last call; fails if anything was wrong.
    pub(crate) fn take(&self) -> Vec<Read> {
        let kept = std::mem::take(&mut *self.0.lock().unwrap());
        assert!(kept.wrong.is_empty(), "the app was sent something ambiguous: {:?}", kept.wrong);
        kept.read
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut held = Vec::new();
        loop {
            match message(&mut stream, &mut held).await {
                Message::Whole(read) => {
                    let body = format!("{} with {}", read.line, read.body.len());
                    let mut answer =
                        format!("HTTP/1.1 200 OK\r\nx-app: strict\r\ncontent-length: {}\r\n\r\n", body.len());
                    if !read.line.starts_with("HEAD ") {
                        answer.push_str(&body);
                    }
                    self.keep(read, &held);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Message::Cut => return,
                Message::Wrong(why) => return self.0.lock().unwrap().wrong.push(why),
            }
        }
    }
}

impl Strict {
    fn keep(&self, read: Read, after: &[u8]) {
        let mut kept = self.0.lock().unwrap();
        kept.read.push(read);
        if !after.is_empty() {
            kept.wrong.push(format!("bytes after the request: {:?}", String::from_utf8_lossy(after)));
        }
    }
}

async fn more(stream: &mut TcpStream, held: &mut Vec<u8>) -> bool {
    stream.read_buf(held).await.is_ok_and(|count| count > 0)
}

/// The next line without its CRLF, with no bare CR or LF in it; `None` if the connection ends first.
async fn line(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<Result<String, String>> {
    let place = loop {
        if let Some(place) = held.iter().position(|byte| *byte == b'\n') {
            break place;
        }
        if !more(stream, held).await {
            return None;
        }
    };
    let mut line: Vec<u8> = held.drain(..=place).collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !line.ends_with(b"\r\n") {
        return Some(Err(format!("a bare LF: {:?}", text(&line))));
    }
    line.truncate(line.len() - 2);
    let odd = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if line.iter().any(odd) {
        return Some(Err(format!("a control: {:?}", text(&line))));
    }
    Some(Ok(text(&line)))
}

async fn message(stream: &mut TcpStream, held: &mut Vec<u8>) -> Message {
    let mut lines = Vec::new();
    loop {
        match line(stream, held).await {
            None => return Message::Cut,
            Some(Err(why)) => return Message::Wrong(why),
            Some(Ok(text)) if text.is_empty() => break,
            Some(Ok(text)) => lines.push(text),
        }
    }
    let (length, chunked) = match framing(&lines) {
        Ok(framing) => framing,
        Err(why) => return Message::Wrong(format!("{why}: {lines:?}")),
    };
    if lines.iter().any(|line| line.eq_ignore_ascii_case("expect: 100-continue")) {
        // Otherwise the sidecar would wait a second for it.
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    let body = if chunked {
        match chunks(stream, held).await {
            None => return Message::Cut,
            Some(Err(why)) => return Message::Wrong(why),
            Some(Ok(body)) => body,
        }
    } else {
        while held.len() < length {
            if !more(stream, held).await {
                return Message::Cut;
            }
        }
        held.drain(..length).collect()
    };
    Message::Whole(Read { line: lines.remove(0), body })
}

fn token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Length of the body, and whether it is chunked.
fn framing(lines: &[String]) -> Result<(usize, bool), &'static str> {
    let [line, fields @ ..] = lines else { return Err("an empty head") };
    let parts: Vec<&str> = line.split(' ').collect();
    match parts[..] {
        [method, target, "HTTP/1.1"] if token(method) && target.starts_with('/') => {}
        _ => return Err("a bad request line"),
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for field in fields {
        let (name, value) = field.split_once(':').ok_or("a field without a colon")?;
        if !token(name) {
            return Err("a bad field name");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim_matches([' ', '\t']).to_owned()),
            "transfer-encoding" => codings.push(value.trim_matches([' ', '\t']).to_owned()),
            _ => {}
        }
    }
    if hosts != 1 {
        return Err("not one Host");
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok((0, false)),
        ([], [coding]) if coding == "chunked" => Ok((0, true)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(|length| (length, false)).map_err(|_| "a bad length")
        }
        _ => Err("not one framing"),
    }
}

async fn chunks(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<Result<Vec<u8>, String>> {
    let mut body = Vec::new();
    loop {
        let size = match line(stream, held).await? {
            Ok(size) => size,
            Err(why) => return Some(Err(why)),
        };
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(Err(format!("a chunk size {size:?}")));
        }
        let Ok(size) = usize::from_str_radix(&size, 16) else { return Some(Err(format!("a chunk size {size:?}"))) };
        if size == 0 {
            break;
        }
        while held.len() < size + 2 {
            if !more(stream, held).await {
                return None;
            }
        }
        body.extend(held.drain(..size));
        if held.drain(..2).as_slice() != b"\r\n" {
            return Some(Err("no CRLF after a chunk".to_owned()));
        }
    }
    loop {
        match line(stream, held).await? {
            Ok(trailer) if trailer.is_empty() => return Some(Ok(body)),
            Ok(trailer) if trailer.split_once(':').is_some_and(|(name, _)| token(name)) => {}
            Ok(trailer) => return Some(Err(format!("a trailer {trailer:?}"))),
            Err(why) => return Some(Err(why)),
        }
    }
}
