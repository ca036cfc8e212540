use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn guard<I>(io: I) -> ResponseGuard<I> {
    let state = Arc::new(ConnectionState::default());
    state.begin(&http::Method::GET, false, true);
    let descriptor = crate::descriptors::Descriptors::new(None).outgoing().await.unwrap();
    ResponseGuard::new(io, Limits::default(), state, descriptor, |_| {})
}

/// What comes through of `pieces`, after a GET, and whether the connection is unusable then.
async fn through(pieces: &[&[u8]]) -> (Vec<u8>, Result<(), io::ErrorKind>, bool) {
    let mut script = Script(pieces.iter().rev().map(|piece| piece.to_vec()).collect());
    let mut guard = guard(&mut script).await;
    let mut all = Vec::new();
    let end = guard.read_to_end(&mut all).await.map(|_| ()).map_err(|error| error.kind());
    (all, end, guard.state.is_unusable())
}

struct Script(Vec<Vec<u8>>);

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop() {
            let count = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..count]);
            if count < piece.len() {
                self.0.push(piece[count..].to_vec());
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_good_response_comes_through_however_it_is_cut() {
    let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for cut in 1..response.len() {
        let (all, end, unusable) = through(&[&response[..cut], &response[cut..]]).await;
        assert_eq!((all.as_slice(), end, unusable), (&response[..], Ok(()), false), "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = response.chunks(1).collect();
    assert_eq!(through(&bytes).await.0, response);
}

#[tokio::test]
async fn an_ambiguous_response_is_an_error_and_the_connection_unusable() {
    let table: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 204 No Content\r\n\r\nsurplus",
    ];
    for response in table {
        let (_, end, unusable) = through(&[response]).await;
        assert!(end.is_err() && unusable, "{}", String::from_utf8_lossy(response));
    }
}

#[tokio::test]
async fn a_response_is_read_although_the_request_can_no_longer_be_written() {
    let (near, mut far) = tokio::io::duplex(1024);
    let response = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 7\r\n\r\nno more";
    far.write_all(response.as_bytes()).await.unwrap();
    drop(far);
    let mut near = guard(near).await;
    near.write_all(&[0; 4096]).await.unwrap();
    near.flush().await.unwrap();
    let mut read = String::new();
    near.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, response);
}

#[tokio::test]
async fn only_a_head_that_begins_with_its_write_is_recorded() {
    let (near, _far) = tokio::io::duplex(8);
    let mut near = guard(near).await;
    let write = |guard: &mut ResponseGuard<_>, bytes: &[u8]| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(guard).poll_write(&mut cx, bytes).is_ready()
    };
    assert!(write(&mut near, b"head one") && !write(&mut near, b"more"));
    assert_eq!(near.state.recorded_head(), b"head one");
    near.state.begin(&http::Method::GET, false, true);
    assert!(!write(&mut near, b"more, and head two"));
    assert_eq!(near.state.recorded_head(), b"");
}
