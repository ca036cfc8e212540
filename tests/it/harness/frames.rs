//! HTTP/2 frames written by hand (RFC 9113 section 4.1), for clients that misbehave.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// RFC 9113 section 7: CANCEL.
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field without indexing (RFC 7541 section 6.2.2), lengths under 127.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// GET of `path` at `a`, by literals only.
pub(crate) fn get(path: &str) -> Vec<u8> {
    [field(":method", "GET"), field(":scheme", "http"), field(":path", path), field(":authority", "a")].concat()
}

/// A client that has sent its preface, and reads frame by frame.
pub(crate) struct Frames(pub(crate) TcpStream);

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frames {
    /// By prior knowledge, with empty settings.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let mut frames = Self(within(TcpStream::connect(address)).await.unwrap());
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        frames.0.write_all(&hello).await.unwrap();
        frames
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None` at the connection's end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within(self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        within(self.0.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads to the end; the error code of the last GOAWAY, if there was one.
    pub(crate) async fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        code
    }

    /// Reads until stream `number` has ended, and returns its data.
    pub(crate) async fn body(&mut self, number: u32) -> String {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.expect("the stream ends before the connection");
            if frame.kind == SETTINGS && frame.flags == 0 {
                self.send(&self::frame(SETTINGS, 1, 0, &[])).await;
            }
            if frame.stream == number {
                if frame.kind == DATA {
                    body.extend_from_slice(&frame.payload);
                }
                assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
                if frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS) {
                    return String::from_utf8_lossy(&body).into_owned();
                }
            }
        }
    }
}
