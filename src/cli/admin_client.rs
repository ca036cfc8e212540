//! A client for the admin door of an upwarden that runs here or elsewhere.
//!
//! In: an address, a method, a path. Out: status and body. One connection, one request, an end after a few seconds.
//! It follows nothing, sends nothing secret, and takes at most 64 KiB.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long `health` waits in all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

const LONGEST: usize = 64 << 10;

/// What the admin door answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// The body as text.
    pub(super) body: String,
}

/// Asks once; an address that means "every interface" is asked on loopback.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, timeout: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let address = reachable(address);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        // A time-out of a socket is WouldBlock on Unix, which would tell a person nothing.
        let read = stream.read(&mut buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        received.extend(buffer.iter().take(read));
        if let Some(answer) = parse(&received, read == 0)? {
            return Ok(answer);
        }
    }
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Reads an answer with a length, or one that ends with the connection (RFC 9112 section 6.3). `None`: more is to come.
fn parse(received: &[u8], ended: bool) -> io::Result<Option<Answer>> {
    let bad = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if received.len() > LONGEST {
        return bad("the answer is too long");
    }
    let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") else {
        return if ended { bad("what answers there is not HTTP, or it was cut off") } else { Ok(None) };
    };
    let (head, rest) = received.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")));
    let Some(status) = status.and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()) else {
        return bad("what answers there is not HTTP");
    };
    let field = |wanted: &str| {
        let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    if field("transfer-encoding").is_some() {
        return bad("the answer comes in chunks; the admin door never sends such");
    }
    let length = match field("content-length").map(|length| length.parse::<usize>()) {
        Some(Ok(length)) => Some(length),
        Some(Err(_)) => return bad("the answer has no readable length"),
        None => None,
    };
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    match length {
        Some(length) => match body.get(..length) {
            Some(body) => Ok(Some(Answer { status, body: text(body) })),
            None if ended => bad("the answer was cut off"),
            None => Ok(None),
        },
        None if ended => Ok(Some(Answer { status, body: text(body) })),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned() }
    }

    #[test]
    fn an_answer_ends_by_its_length_or_with_the_connection() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(parse(whole, false).unwrap(), Some(answer(503, "no")));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut], false).unwrap(), None, "{cut}");
            assert!(parse(&whole[..cut], true).is_err(), "{cut}");
        }
        let open = b"HTTP/1.0 200 OK\r\n\r\nready";
        assert_eq!(parse(open, false).unwrap(), None);
        assert_eq!(parse(open, true).unwrap(), Some(answer(200, "ready")));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n", false).is_err());
        assert!(parse(&vec![b'x'; LONGEST + 1], false).is_err());
    }

    #[test]
    fn every_interface_is_asked_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:4182"), "127.0.0.1:4182");
        assert_eq!(reached("[::]:4182"), "[::1]:4182");
        assert_eq!(reached("10.0.0.1:4182"), "10.0.0.1:4182");
    }

    #[test]
    fn it_asks_over_tcp_and_does_not_wait_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap();
            assert!(head[..read].starts_with(b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready").unwrap();
            // The next one is taken in and never answered.
            listener.accept().unwrap()
        });
        assert_eq!(ask(address, "POST", "/drain", TIMEOUT).unwrap(), answer(200, "ready"));
        let error = ask(address, "GET", "/readyz", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        server.join().unwrap();
    }
}
