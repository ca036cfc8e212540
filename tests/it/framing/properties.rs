//! Properties of any bytes.

use proptest::prelude::*;
use upwarden::testing::framing::{Limits, Method};

use super::{requests, responses};

/// Bytes that look like requests, whole and broken.
pub(super) fn messages() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "HEAD http://a/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 X\r\n",
        "HTTP/1.1 103 X\r\n",
        "Host: a\r\n",
        "Host: b\r\n",
        "A: b\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Upgrade: x\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "3\r\n",
        "abc",
        "\r\n0\r\n\r\n",
        "0\r\n",
        "3;a=b\r\nabc\r\n",
        "ffffffffffffffffff",
        "Cookie: a\r\n",
        "\0",
        "x",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]);
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    let piece = prop_oneof![20 => part.prop_map(|part| part.as_bytes().to_vec()), 1 => noise];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn cut(bytes: &[u8], mut places: Vec<prop::sample::Index>) -> Vec<&[u8]> {
    places.sort_by_key(|place| place.index(bytes.len() + 1));
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        let to = place.index(bytes.len() + 1);
        pieces.push(&bytes[from..to]);
        from = to;
    }
    pieces.push(&bytes[from..]);
    pieces
}

const SMALL: Limits = Limits { head_bytes: 90, head_fields: 4, extension_bytes: 6, trailer_bytes: 12 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_read_the_same_in_any_pieces(
        bytes in messages(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for limits in [Limits::default(), SMALL] {
            let whole = requests(&[&bytes], limits);
            prop_assert_eq!(&requests(&cut(&bytes, places.clone()), limits), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).chain([&[][..]]).collect();
            prop_assert_eq!(&requests(&single, limits), &whole);
        }
    }

    #[test]
    fn responses_read_the_same_in_any_pieces(
        bytes in messages(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        upgrade in any::<bool>(),
    ) {
        let asked = [Method::Other, Method::Head, Method::Other];
        let whole = responses(&[&bytes], &asked, upgrade);
        prop_assert_eq!(&responses(&cut(&bytes, places), &asked, upgrade), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).chain([&[][..]]).collect();
        prop_assert_eq!(&responses(&single, &asked, upgrade), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        requests(&[&bytes], Limits::default());
        responses(&[&bytes], &[Method::Other], true);
    }
}
