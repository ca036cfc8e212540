//! The header in which a TCP load balancer names its client: PROXY protocol, version 1 and 2.
//!
//! Reads exactly the header, so that TLS or HTTP begins with the next byte. Anything but a whole header is an error:
//! without one, a client could pass for its proxy.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header of version 2 begins with (PROXY protocol section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest line of version 1, `PROXY UNKNOWN`, and a byte less than the fixed part of version 2.
const FIRST: usize = 15;
/// The longest line of version 1 (section 2.1).
const LONGEST_LINE: usize = 107;
/// What may follow the fixed part of version 2: addresses, and fields that are not used, a few hundred bytes in practice.
const LONGEST_REST: usize = 4 << 10;
const CONFIG: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };

/// The client's address; `None` if the header names none (`LOCAL`, `UNKNOWN`): a proxy's own health check.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>> {
    let invalid = |why: &'static str| Error::new(ErrorKind::InvalidData, why);
    let mut header = vec![0; FIRST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let rest = if let [.., high, low] = *header { usize::from(u16::from_be_bytes([high, low])) } else { 0 };
        if rest > LONGEST_REST {
            return Err(invalid("the header is too long"));
        }
        let fixed = header.len();
        header.resize(fixed + rest, 0);
        stream.read_exact(header.get_mut(fixed..).unwrap_or_default()).await?;
    } else if header.starts_with(b"PROXY ") {
        // Read byte by byte: the bytes after the line are the client's.
        while !header.ends_with(b"\n") {
            if header.len() >= LONGEST_LINE {
                return Err(invalid("the header is too long"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(invalid("there is no header"));
    }
    match ProxyHeader::parse(&header, CONFIG) {
        Ok((parsed, length)) if length == header.len() => {
            let stream = parsed.proxied_address().filter(|addresses| addresses.protocol == Protocol::Stream);
            Ok(stream.map(|addresses| addresses.source))
        }
        Ok(_) | Err(_) => Err(invalid("the header cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of reading these bytes, and how many are left.
    fn parsed(bytes: &[u8]) -> (Result<Option<SocketAddr>>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = bytes;
        let found = runtime.block_on(read(&mut rest));
        (found, rest.len())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest, b"GET"].concat()
    }

    #[test]
    fn a_header_is_read_to_its_end_and_no_further() {
        let four = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb];
        let six = [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 16], &four[8..]].concat();
        let with_fields = [&four[..], b"\x04\x00\x03abc", b"\x05\x00\x01x"].concat();
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\nGET".to_vec(), Some("203.0.113.7:4660")),
            (b"PROXY TCP6 2001:db8::7 ::1 4660 443\r\nGET".to_vec(), Some("[2001:db8::7]:4660")),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET".to_vec(), None),
            (v2(0x21, 0x11, &four), Some("203.0.113.7:4660")),
            (v2(0x21, 0x11, &with_fields), Some("203.0.113.7:4660")),
            (v2(0x21, 0x21, &six), Some("[2001:db8::7]:4660")),
            (v2(0x21, 0x12, &four), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x20, 0x11, &four), None),
            (v2(0x20, 0x00, &[]), None),
        ] {
            let (found, left) = parsed(&header);
            assert_eq!((found.unwrap(), left), (client.map(|client| client.parse().unwrap()), 3), "{header:?}");
        }
    }

    #[test]
    fn anything_but_a_whole_header_is_refused() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
        for header in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4660\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.700 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 99999\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n".to_vec(),
            b"PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0".to_vec(),
            long,
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x11, &[0; LONGEST_REST + 1]),
            SIGNATURE.to_vec(),
            Vec::new(),
        ] {
            assert!(parsed(&header).0.is_err(), "{header:?}");
        }
    }
}
