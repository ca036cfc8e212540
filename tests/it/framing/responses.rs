//! Responses, each with the strict reader's result.

use upwarden::testing::framing::Method;

use super::{proxied_responses, responses};

fn to(method: Method, message: impl AsRef<[u8]>) -> String {
    responses(&[message.as_ref()], &[method], false).join(", ")
}

fn table(rows: &[(&str, &str)]) {
    for (message, expected) in rows {
        assert_eq!(to(Method::Other, message), *expected, "{message:?}");
        proxied_responses::pass(message.as_bytes(), expected);
    }
}

/// RFC 9112 section 6.3.
#[test]
fn valid_responses_end_where_they_say() {
    table(&[
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "exact 2, body 2, end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "none"),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "none"),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "none"),
        ("HTTP/1.1 404 N\u{e9}\tx y\r\nContent-Length: 0\r\n\r\n", "none"),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", "until close, body 10"),
        ("HTTP/1.1 200 OK\r\n\r\n", "until close"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "chunked, body 12, end"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "none"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "none"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", "none"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "none, none"),
        ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 X\r\n\r\n", "none, none"),
        ("HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", "none"),
    ]);
    assert_eq!(to(Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), "none");
    assert_eq!(to(Method::Head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "none");
    assert_eq!(to(Method::Head, "HTTP/1.1 200 OK\r\n\r\n"), "none");
}

/// RFC 9112 section 6.3 rule 1: it ends at the empty line, whatever its fields say. What comes behind is not read.
#[test]
fn a_response_without_a_body_ends_with_its_head() {
    let rest = "refused bytes_after_the_response";
    table(&[
        ("HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", "none"),
        ("HTTP/1.1 204 X\r\nContent-Length: 1\r\n\r\nx", &format!("none, {rest}")),
        ("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", "none"),
        ("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &format!("none, {rest}")),
        ("HTTP/1.1 204 X\r\nTransfer-Encoding: gzip\r\nContent-Length: x\r\n\r\n", "none"),
        ("HTTP/1.0 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", "none"),
        ("HTTP/1.1 304 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "none"),
        ("HTTP/1.1 304 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "none"),
        ("HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", "none, none"),
    ]);
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(to(Method::Head, both), "none");
}

/// What the RFC lets a recipient read in one way only.
#[test]
fn an_odd_response_with_one_reading_is_accepted() {
    table(&[
        // Section 6.3 rule 5.
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "exact 1, body 1, end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1,\r\ncontent-length: 01\r\n\r\nx", "exact 1, body 1, end"),
        // Section 5.1.
        ("HTTP/1.1 200 OK\r\nA : b\r\nContent-Length \t: 1\r\n\r\nx", "exact 1, body 1, end"),
        // RFC 9110 section 15.
        ("HTTP/1.1 600 OK\r\nContent-Length: 1\r\n\r\nx", "exact 1, body 1, end"),
        ("HTTP/1.1 999 OK\r\n\r\n", "until close"),
        // Padded sizes: no recipient that takes them reads another size.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0 \t\r\n\r\n", "chunked, body 16, end"),
    ]);
}

/// RFC 9112 section 8: a cut body is an error, never a short success.
#[test]
fn a_response_that_ends_early_is_cut() {
    table(&[
        ("", "cut"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "exact 3, body 2, cut"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "exact 3, cut"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "chunked, body 7, cut"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "chunked, body 10, cut"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r", "chunked, body 10, half, cut"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "half, cut"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "none, cut"),
    ]);
}

#[test]
fn an_ambiguous_response_is_refused() {
    table(&[
        ("HTTP/2.0 200 OK\r\n\r\n", "refused status_line"),
        ("http/1.1 200 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 +20 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "refused status_line"),
        ("HTTP/1.1\t200 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1\r\n\r\n", "refused status_line"),
        ("<html>", "refused status_line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "refused status_line"),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "refused bare_lf"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "refused content_length_repeated"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "refused content_length_repeated"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, x\r\n\r\n", "refused content_length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: ,\r\n\r\n", "refused content_length"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\nContent-Length: 2\r\n\r\n", "refused content_length_repeated"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "refused content_length"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "refused content_length_with_transfer_encoding",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "refused transfer_encoding_in_http_1_0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "refused transfer_encoding_not_supported"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, x\r\n\r\n", "refused transfer_encoding"),
        ("HTTP/1.1 200 OK\r\n : b\r\n\r\n", "refused obs_fold"),
        ("HTTP/1.1 200 OK\r\nA B : b\r\n\r\n", "refused field_name"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "refused obs_fold"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "chunked, refused chunk_size"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: a\r\n\r\n",
            "chunked, body 3, refused trailer_field",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\n", "chunked, refused chunk_size"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 x\r\n", "chunked, refused chunk_size"),
        ("HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n12345", "none, refused status_line"),
        ("HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", "refused unasked_upgrade"),
        ("HTTP/1.1 204 X\r\n\r\nx", "none, refused bytes_after_the_response"),
        ("HTTP/1.1 200 X\r\nContent-Length: 1\r\n\r\nxy", "exact 1, body 1, end, refused bytes_after_the_response"),
        ("HTTP/1.1 304 X\r\nContent-Length: 1\r\n\r\nx", "none, refused bytes_after_the_response"),
    ]);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(to(Method::Head, head), "none, refused bytes_after_the_response");
    let flood = "HTTP/1.1 103 X\r\n\r\n".repeat(17);
    assert!(to(Method::Other, flood).ends_with("refused too_many_interim_responses"));
}

#[test]
fn a_requested_101_ends_framing() {
    let asked = |message: &str| responses(&[message.as_bytes()], &[Method::Other], true).join(", ");
    assert_eq!(asked("HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n\0any\nthing"), "opaque");
    assert_eq!(asked("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"), "none");
    assert_eq!(asked("HTTP/1.0 101 X\r\n\r\n"), "refused unasked_upgrade");
}

#[test]
fn each_response_belongs_to_a_request() {
    let two = b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(responses(&[two], &[Method::Head, Method::Other], false), ["none", "exact 1", "body 1", "end"]);
    assert_eq!(responses(&[b"HTTP/1.1 408 X\r\n\r\n"], &[], false), ["refused bytes_after_the_response"]);
}
