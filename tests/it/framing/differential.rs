//! One reading of any request: an app with a different parser reads whatever our reader accepts of a mutated request in
//! the same way, and refused messages never reach the app.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::properties::messages;
use super::proxied_requests::{Gauntlet, statuses};
use crate::harness::full;
use upwarden::testing::framing::{BodyLength, Limits, RequestReader, Step};

/// The whole requests with their bodies that our reader finds, and whether it refused the rest.
fn ours(mut bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, bool) {
    let mut reader = RequestReader::new(Limits::default());
    let mut whole = Vec::new();
    let mut open: Option<(String, Vec<u8>, bool)> = None;
    loop {
        match reader.step(bytes) {
            Ok(Step::Head { len, head }) => {
                let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                let line = text.trim_start_matches("\r\n").lines().next().unwrap_or_default().to_owned();
                bytes = &bytes[len..];
                if head.body == BodyLength::None {
                    whole.push((line, Vec::new()));
                } else {
                    open = Some((line, Vec::new(), head.body == BodyLength::Chunked));
                }
            }
            Ok(Step::Body { len, end, .. }) => {
                let (piece, rest) = bytes.split_at(len);
                bytes = rest;
                let (line, mut body, chunked) = open.take().unwrap();
                body.extend_from_slice(piece);
                match (end, chunked) {
                    (true, true) => whole.push((line, unchunked(&body))),
                    (true, false) => whole.push((line, body)),
                    (false, _) => open = Some((line, body, chunked)),
                }
            }
            Ok(Step::More | Step::Opaque) => return (whole, false),
            Err(_) => return (whole, true),
        }
    }
}

/// Valid requests with a few bytes changed, added, removed or repeated.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(vec![
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: x, y\r\n\r\nPUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nz",
        "GET http://a/a HTTP/1.1\r\nHost: a\r\nCookie: b\r\nCookie: c\r\nTE: trailers\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ]);
    let byte = prop::sample::select(b"\r\n \t:;,0139afx\0+-_\"HTP/.\x0b\x7f\xff".to_vec());
    let change = (any::<prop::sample::Index>(), 0..4_u8, byte);
    (seed, prop::collection::vec(change, 1..4)).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (place, kind, byte) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => drop(bytes.remove(place)),
                _ => {
                    let end = (place + 12).min(bytes.len());
                    let again = bytes[place..end].to_vec();
                    bytes.splice(place..place, again);
                }
            }
        }
        bytes
    })
}

/// The content of a chunked body that our reader found whole.
fn unchunked(mut framed: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = framed.iter().position(|byte| *byte == b'\n').unwrap();
        let line = String::from_utf8_lossy(&framed[..end]).into_owned();
        let digits = line.split([';', '\r']).next().unwrap_or_default().trim_end_matches([' ', '\t']);
        let size = usize::from_str_radix(digits, 16).unwrap();
        framed = &framed[end + 1..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&framed[..size]);
        framed = &framed[size + 2..];
    }
}

/// How many messages are sent at the same time.
const LANES: u32 = 4;

#[test]
fn guard_and_app_read_the_same_requests() {
    let cases = if full() { 20_000 } else { 400 };
    // Each message has a connection of its own and spends most of its time waiting.
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(move || try_each(cases / LANES))).collect();
        for lane in lanes {
            lane.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        }
    });
}

fn try_each(cases: u32) {
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let gauntlet = Gauntlet::new();
    let either = prop_oneof![3 => mutated(), 1 => messages()];
    runner
        .run(&either, |bytes| {
            let (whole, refused) = ours(&bytes);
            let (answers, read) = gauntlet.pass(&bytes);
            let statuses = statuses(&answers);
            // The gate answers in the app's place if a path is not public or is ours.
            let targets = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut expected = whole.iter();
            for seen in &read {
                let target = targets(&seen.line);
                let same = expected.find(|(line, _)| path_of(&targets(line)) == target);
                prop_assert!(same.is_some(), "the app read {seen:?}, the guard {whole:?}");
                prop_assert_eq!(&same.unwrap().1, &seen.body);
            }
            // Without keep-alive the first answer ends an HTTP/1.0 connection.
            let last = whole.iter().position(|(line, _)| line.ends_with("HTTP/1.0"));
            let answered = last.map_or(whole.len(), |last| last + 1);
            prop_assert!(statuses.len() >= answered, "{whole:?} answered by {answers}");
            if refused && last.is_none() {
                prop_assert!(statuses.len() <= whole.len() + 1, "{whole:?} answered by {answers}");
                prop_assert!(statuses.get(whole.len()).is_none_or(|status| *status >= 400), "{answers}");
            }
            Ok(())
        })
        .unwrap();
}

/// The target as the app gets it, without scheme and authority.
fn path_of(target: &str) -> String {
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            let path = rest.find(['/', '?']).map_or("", |place| &rest[place..]);
            if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
        }
        _ => target.to_owned(),
    }
}
