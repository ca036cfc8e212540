//! Where messages end: tables of messages with the strict reader's result for each, properties of any bytes, and both
//! through the whole sidecar.

mod bodies;
mod differential;
mod properties;
mod proxied_requests;
mod proxied_responses;
mod requests;
mod responses;

use upwarden::testing::framing::{BodyLength, Limits, Method, Refusal, RequestReader, ResponseReader, Step};

/// Reads pieces as the guard does and lists what the reader says: `none`, `exact 5`, `chunked` for a head, `body 5` for the
/// bytes of a body, then `end`; `refused bare_lf`; `half` if bytes are left that it could not decide about.
fn requests(pieces: &[&[u8]], limits: Limits) -> Vec<String> {
    let mut reader = RequestReader::new(limits);
    let mut said = Said::default();
    for piece in pieces {
        said.held.extend_from_slice(piece);
        while said.goes_on() {
            let step = reader.step(&said.held).map(|step| match step {
                Step::Head { len, head } => Step::Head { len, head: (describe(head.body), head.upgrade) },
                Step::Body { len, piece, end } => Step::Body { len, piece, end },
                Step::More => Step::More,
                Step::Opaque => Step::Opaque,
            });
            if !said.take(step) {
                break;
            }
        }
    }
    said.done()
}

/// The same for the responses to requests of these methods.
fn responses(pieces: &[&[u8]], asked: &[Method], upgrade: bool) -> Vec<String> {
    let mut reader = ResponseReader::new(Limits::default());
    let mut said = Said::default();
    let mut asked = asked.iter();
    for piece in pieces {
        said.held.extend_from_slice(piece);
        while said.goes_on() {
            if reader.is_idle()
                && let Some(method) = asked.next()
            {
                reader.expect(*method, upgrade);
            }
            let step = reader.step(&said.held).map(|step| match step {
                Step::Head { len, head } => Step::Head { len, head: (describe(head.body), false) },
                Step::Body { len, piece, end } => Step::Body { len, piece, end },
                Step::More => Step::More,
                Step::Opaque => Step::Opaque,
            });
            if !said.take(step) {
                break;
            }
        }
    }
    let cut = reader.end(said.held.len()).is_err() && !said.refused;
    let mut words = said.done();
    if cut {
        words.push("cut".to_owned());
    }
    words
}

fn describe(body: BodyLength) -> String {
    match body {
        BodyLength::None => "none".to_owned(),
        BodyLength::Exact(length) => format!("exact {length}"),
        BodyLength::Chunked => "chunked".to_owned(),
        BodyLength::UntilClose => "until close".to_owned(),
        BodyLength::Opaque => "opaque".to_owned(),
    }
}

#[derive(Default)]
struct Said {
    words: Vec<String>,
    held: Vec<u8>,
    body: usize,
    refused: bool,
    opaque: bool,
}

impl Said {
    fn goes_on(&self) -> bool {
        !self.refused && !self.opaque
    }

    /// True if the reader may have more to say of the bytes that are left.
    fn take(&mut self, step: Result<Step<(String, bool)>, Refusal>) -> bool {
        match step {
            Ok(Step::Head { len, head: (head, upgrade) }) => {
                self.held.drain(..len);
                self.words.push(if upgrade { format!("{head} upgrade") } else { head });
                true
            }
            Ok(Step::Body { len, end, .. }) => {
                assert_ne!(len, 0);
                self.held.drain(..len);
                self.body += len;
                if end {
                    self.flush();
                    self.words.push("end".to_owned());
                }
                true
            }
            Ok(Step::More) => false,
            Ok(Step::Opaque) => {
                self.opaque = true;
                self.held.clear();
                false
            }
            Err(refusal) => {
                self.refused = true;
                self.flush();
                self.words.push(format!("refused {}", refusal.reason()));
                false
            }
        }
    }

    fn flush(&mut self) {
        if self.body > 0 {
            self.words.push(format!("body {}", self.body));
            self.body = 0;
        }
    }

    fn done(mut self) -> Vec<String> {
        self.flush();
        if !self.held.is_empty() && !self.refused {
            self.words.push("half".to_owned());
        }
        self.words
    }
}
