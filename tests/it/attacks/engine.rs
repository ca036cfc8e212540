//! What must hold between any client and any upstream: the engine relays whole messages or cuts them, and sends neither
//! side anything that the other did not send.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, LocalSet};
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::cookies::RequestCookies;
use upwarden::testing::descriptors::{Descriptors, Waiting};
use upwarden::testing::framing::{BodyLength, Limits, Method, Piece, RequestReader, ResponseReader, Step};
use upwarden::testing::http1::{
    Answer, Config, Connection, Ends, Event, Head, Outgoing, Pool, Pools, ResponseTimeouts, Stream, send, serve,
};
use upwarden::testing::listener::IncomingRequest;
use upwarden::testing::proxy::AppHeaders;
use upwarden::testing::response::Response;

/// How the two sides behave, from one byte of the input.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// The upstream answers before it reads.
    early: bool,
    /// The upstream closes after one answer.
    closes: bool,
    /// The client ends its half when it has sent everything; else it waits until the engine ends.
    ends: bool,
    /// Both write in pieces of this many bytes.
    piece: usize,
}

impl From<u8> for Manners {
    fn from(byte: u8) -> Self {
        let piece = [1, 7, 100, usize::MAX];
        Self {
            early: byte & 1 != 0,
            closes: byte & 2 != 0,
            ends: byte & 4 != 0,
            piece: piece.get(usize::from(byte >> 3) % 4).copied().unwrap_or(1),
        }
    }
}

/// A message as the strict reader found it.
#[derive(Debug)]
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
    framing: BodyLength,
    ended: bool,
}

impl Message {
    fn first_line(&self) -> &[u8] {
        let lines = self.head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<String> {
        // A value may have bytes that are not text.
        let text = String::from_utf8_lossy(&self.head);
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    fn index(&self) -> Option<usize> {
        self.field("x-index")?.parse().ok()
    }
}

/// Every message of `bytes` before the first that the reader refuses, and whether it refused one.
fn messages<H: Copy>(
    bytes: &[u8],
    mut step: impl FnMut(&[u8]) -> Result<Step<H>, ()>,
    framing: impl Fn(H) -> BodyLength,
) -> (Vec<Message>, bool) {
    let (mut found, mut rest) = (Vec::<Message>::new(), bytes);
    loop {
        let len = match step(rest) {
            Ok(Step::Head { len, head }) => {
                let (head, framing) = (rest[..len].to_vec(), framing(head));
                found.push(Message { head, body: Vec::new(), framing, ended: framing == BodyLength::None });
                len
            }
            Ok(Step::Body { len, piece, end }) => {
                let message = found.last_mut().expect("a body has a head");
                if piece == Piece::Data {
                    message.body.extend_from_slice(&rest[..len]);
                }
                message.ended = end;
                len
            }
            Ok(Step::More | Step::Opaque) => return (found, false),
            Err(()) => return (found, true),
        };
        rest = &rest[len..];
    }
}

fn requests(bytes: &[u8]) -> (Vec<Message>, bool) {
    let mut reader = RequestReader::new(Limits::default());
    messages(bytes, |rest| reader.step(rest).map_err(|_| ()), |head| head.body)
}

/// The responses to requests with these methods, interim ones included.
fn responses(bytes: &[u8], methods: &[Method]) -> (Vec<Message>, bool) {
    let (mut reader, mut methods) = (ResponseReader::new(Limits::default()), methods.iter());
    let step = |rest: &[u8]| {
        if reader.is_idle()
            && let Some(method) = methods.next()
        {
            reader.expect(*method, false);
        }
        reader.step(rest).map_err(|_| ())
    };
    let (mut found, refused) = messages(bytes, step, |head| head.body);
    if let Some(last) = found.last_mut() {
        // It ends with the connection.
        last.ended |= last.framing == BodyLength::UntilClose;
    }
    (found, refused)
}

fn is_interim(message: &Message) -> bool {
    message.first_line().get(9) == Some(&b'1')
}

fn method(request: &Message) -> Method {
    if request.first_line().starts_with(b"HEAD ") { Method::Head } else { Method::Other }
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], piece: usize) {
    for piece in bytes.chunks(piece) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// An upstream that answers each request with the same bytes; returns what it received.
async fn upstream(mut stream: UnixStream, answer: Rc<[u8]>, manners: Manners) -> Vec<u8> {
    let (mut received, mut reader, mut read) = (Vec::new(), RequestReader::new(Limits::default()), 0);
    loop {
        if manners.early {
            write(&mut stream, &answer, manners.piece).await;
        }
        // One request, as far as it comes.
        loop {
            match reader.step(&received[read..]) {
                Ok(Step::Head { len, head }) => {
                    read += len;
                    if head.body == BodyLength::None {
                        break;
                    }
                }
                Ok(Step::Body { len, end, .. }) => {
                    read += len;
                    if end {
                        break;
                    }
                }
                Ok(Step::More | Step::Opaque) => match stream.read_buf(&mut received).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return received,
                },
                // The check of what was received says what is wrong with it.
                Err(_) => return received,
            }
        }
        if !manners.early {
            write(&mut stream, &answer, manners.piece).await;
        }
        if manners.closes {
            return received;
        }
    }
}

/// The engine's two sides with a handler between them that forwards everything.
struct Relay {
    answer: Rc<[u8]>,
    manners: Manners,
    pool: Arc<Pool>,
    requests: Cell<usize>,
    upstreams: RefCell<Vec<JoinHandle<Vec<u8>>>>,
}

const ENDS_HERE: [HeaderName; 6] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

impl Relay {
    async fn handle(&self, incoming: IncomingRequest) -> Response {
        let index = self.requests.replace(self.requests.get() + 1);
        let refused = incoming.refused.is_some();
        let forwarded = if refused { None } else { self.forward(incoming.head, incoming.body, index).await };
        let mut response = forwarded.unwrap_or_else(|| {
            let headers = [(HeaderName::from_static("x-ours"), HeaderValue::from_static("1"))].into_iter().collect();
            Response { status: StatusCode::BAD_GATEWAY, headers, body: Body::full("ours") }
        });
        response.headers.insert(HeaderName::from_static("x-index"), HeaderValue::from(index));
        response
    }

    async fn forward(&self, head: Head, body: Body, index: usize) -> Option<Response> {
        let mut headers = AppHeaders::from_client(head.headers, &RequestCookies::default());
        headers.set(HeaderName::from_static("x-index"), HeaderValue::from(index));
        // HTTP/1.0 has no Host, but HTTP/1.1 is forwarded (RFC 9112 section 3.2).
        if !headers.lines().any(|line| *line.name == HOST) {
            headers.set(HOST, HeaderValue::from_static("app"));
        }
        let mut request = Outgoing::new(&head.method, head.uri.path_and_query(), headers.lines(), body);
        let timeouts = ResponseTimeouts { first_byte: Duration::from_secs(60), idle: Duration::from_secs(60) };
        let mut pooled = self.pool.take();
        let Answer { mut response, upgraded } = loop {
            let waits = pooled.is_some();
            let connection = pooled.take().unwrap_or_else(|| self.connect());
            match send(connection, request, timeouts, Pools::shared(&self.pool), |_, _| {}).await {
                Ok(answer) => break answer,
                // A connection that waited may have been closed just then.
                Err(failure) if waits => request = failure.request?,
                Err(_) => return None,
            }
        };
        response.headers.retain(|name, _| !ENDS_HERE.contains(name) && name != "x-ours");
        upgraded.is_none().then_some(response)
    }

    fn connect(&self) -> Box<Connection> {
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        let upstream = tokio::task::spawn_local(upstream(far, self.answer.clone(), self.manners));
        self.upstreams.borrow_mut().push(upstream);
        Connection::new(Stream::Unix(near).into(), Limits::default())
    }
}

/// What was sent and received.
struct Seen {
    /// By the client.
    client: Vec<u8>,
    /// By each upstream.
    upstreams: Vec<Vec<u8>>,
    /// A response broke off.
    cut: bool,
}

async fn run(client: &[u8], answer: &[u8], manners: Manners) -> Seen {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let relay = Rc::new(Relay {
        answer: answer.into(),
        manners,
        pool: Pool::new(&Descriptors::new(None)),
        requests: Cell::new(0),
        upstreams: RefCell::default(),
    });
    let cut = Rc::new(Cell::new(false));
    let ends = Ends { drain: CancellationToken::new(), waiting: Waiting::new() };
    let config = Config {
        framing: Limits::default(),
        body_bytes: Some(1 << 20),
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        body_idle_timeout: Duration::from_secs(10),
    };
    let engine = tokio::task::spawn_local({
        let (relay, cut) = (relay.clone(), cut.clone());
        let handler = move |request| {
            let relay = relay.clone();
            Box::pin(async move { relay.handle(request).await })
        };
        serve(Stream::Unix(near).into(), Arc::new(config), ends, handler, move |event| {
            cut.set(cut.get() || !matches!(event, Event::Rejected(_)));
        })
    });
    let (mut reader, mut writer) = far.into_split();
    let sends = async {
        write(&mut writer, client, manners.piece).await;
        if manners.ends {
            let _ = writer.shutdown().await;
        }
    };
    let mut received = Vec::new();
    let reads = async {
        let _ = reader.read_to_end(&mut received).await;
    };
    tokio::join!(sends, reads);
    engine.await.expect("the engine does not panic");
    let upstreams = relay.upstreams.take();
    // The connections that wait in the pool close.
    drop(relay);
    let mut seen = Seen { client: received, upstreams: Vec::new(), cut: cut.get() };
    for upstream in upstreams {
        seen.upstreams.push(upstream.await.expect("the upstream does not panic"));
    }
    seen
}

/// Lets `client` and an upstream that answers with `answer` talk through the engine; what the client received.
pub(crate) fn relays(manners: u8, client: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut manners = Manners::from(manners);
    // Such a body ends only then.
    manners.closes |= responses(answer, &[Method::Other]).0.iter().any(|said| said.framing == BodyLength::UntilClose);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let seen = LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let run = run(client, answer, manners);
        tokio::time::timeout(Duration::from_hours(1), run).await.expect("it ends")
    });
    let (sent, _) = requests(client);
    for received in &seen.upstreams {
        upstream_was_sent(received, &sent);
    }
    client_was_sent(&seen, &sent, answer);
    seen.client
}

/// Only what the client said, each request whole or cut off.
fn upstream_was_sent(received: &[u8], sent: &[Message]) {
    let (requests, refused) = requests(received);
    assert!(!refused, "an upstream was sent {:?}", String::from_utf8_lossy(received));
    for request in requests {
        let index = request.index().expect("our field");
        let original = sent.get(index).expect("the client sent it");
        let target = |message: &Message| message.first_line().split(|byte| *byte == b' ').nth(1).map(<[u8]>::to_vec);
        let (ours, theirs) = (target(&request), target(original));
        assert!(
            ours == theirs || !theirs.is_some_and(|target| target.starts_with(b"/")),
            "another target: {request:?} for {original:?}"
        );
        assert!(original.body.starts_with(&request.body), "another body: {request:?} for {original:?}");
        assert!(
            !request.ended || (original.ended && original.body.len() == request.body.len()),
            "half a body as a whole one: {request:?} for {original:?}"
        );
    }
}

/// Responses in the order of the requests, each ours or the upstream's, and whole unless it breaks off.
fn client_was_sent(seen: &Seen, sent: &[Message], answer: &[u8]) {
    // One more for a message that was refused.
    let methods: Vec<Method> = sent.iter().map(method).chain([Method::Other]).collect();
    let (received, refused) = responses(&seen.client, &methods);
    let whole = || format!("the client was sent {:?}", String::from_utf8_lossy(&seen.client));
    assert!(!refused, "{}", whole());
    let finals: Vec<&Message> = received.iter().filter(|message| !is_interim(message)).collect();
    let last = finals.len().saturating_sub(1);
    for (place, response) in finals.iter().enumerate() {
        assert_eq!(response.index(), Some(place), "in order: {}", whole());
        assert!(place == last || response.ended, "a response behind half of one: {}", whole());
        if response.field("x-ours").is_some() {
            continue;
        }
        let original = sent.get(place).map(method).expect("the client sent it");
        let (said, _) = responses(answer, &[original]);
        let said = said.iter().find(|message| !is_interim(message)).expect("the upstream said it");
        let status = |message: &Message| message.first_line().get(9..12).map(<[u8]>::to_vec);
        assert_eq!(status(response), status(said), "{}", whole());
        assert!(said.body.starts_with(&response.body), "another body: {response:?} for {said:?}");
        let ended = response.ended && !(seen.cut && place == last);
        assert!(
            !ended || (said.ended && said.body.len() == response.body.len()),
            "half a body as a whole one: {response:?} for {said:?}"
        );
    }
}
