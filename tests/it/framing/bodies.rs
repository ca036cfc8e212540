//! Bodies of requests: lengths, codings, chunks, trailers, limits, each with the strict reader's result.

use upwarden::testing::framing::Limits;

use super::requests;
use super::requests::{fields, said, table};

/// RFC 9112 sections 6.1 to 6.3, RFC 9110 section 8.6.
#[test]
fn a_length_is_digits_and_stands_alone() {
    for (length, expected) in [
        ("5", "exact 5"),
        ("  5\t", "exact 5"),
        ("005", "exact 5"),
        ("9223372036854775807", "exact 9223372036854775807"),
        ("9223372036854775808", "refused content_length"),
        ("18446744073709551615", "refused content_length"),
        ("18446744073709551621", "refused content_length"),
        ("99999999999999999999999999", "refused content_length"),
        ("", "refused content_length"),
        ("+5", "refused content_length"),
        ("-5", "refused content_length"),
        ("-0", "refused content_length"),
        ("0x5", "refused content_length"),
        ("5a", "refused content_length"),
        ("5 5", "refused content_length"),
        ("5,5", "refused content_length"),
        ("5, 5", "refused content_length"),
        ("5;a", "refused content_length"),
        ("5.0", "refused content_length"),
        ("5e0", "refused content_length"),
        ("\"5\"", "refused content_length"),
        ("\u{665}", "refused content_length"),
        ("5\u{b}", "refused control_character"),
        ("5\0", "refused control_character"),
        ("5\r", "refused bare_cr"),
        ("5\r\n 0", "refused obs_fold"),
        ("5\r\nContent-Length: 5", "refused content_length_repeated"),
        ("5\r\nContent-Length: 6", "refused content_length_repeated"),
        ("5\r\ncontent-length: 5", "refused content_length_repeated"),
        ("0\r\nContent-Length: 0", "refused content_length_repeated"),
        ("5\r\nTransfer-Encoding: chunked", "refused content_length_with_transfer_encoding"),
        ("0\r\nTransfer-Encoding: chunked", "refused content_length_with_transfer_encoding"),
        ("5\r\nTransfer-Encoding: identity", "refused content_length_with_transfer_encoding"),
    ] {
        fields(&[(&format!("Content-Length: {length}"), expected)]);
        fields(&[(&format!("content-LENGTH:{length}"), expected)]);
    }
    fields(&[
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "refused content_length_with_transfer_encoding"),
        ("Content_Length: 5", "none"),
        ("X-Content-Length: 5", "none"),
    ]);
}

/// RFC 9112 section 6.1.
#[test]
fn the_only_transfer_coding_is_chunked_once() {
    for (coding, expected) in [
        ("chunked", "chunked"),
        ("Chunked", "chunked"),
        ("CHUNKED \t", "chunked"),
        ("", "refused transfer_encoding"),
        (",", "refused transfer_encoding"),
        ("chunked,", "refused transfer_encoding"),
        (",chunked", "refused transfer_encoding"),
        ("chunked, chunked", "refused transfer_encoding"),
        ("chunked, identity", "refused transfer_encoding"),
        ("chunked, gzip", "refused transfer_encoding"),
        ("chunked;a=b", "refused transfer_encoding"),
        ("\"chunked\"", "refused transfer_encoding"),
        ("'chunked'", "refused transfer_encoding_not_supported"),
        ("chun ked", "refused transfer_encoding"),
        ("chunked x", "refused transfer_encoding"),
        ("x chunked", "refused transfer_encoding"),
        ("[chunked]", "refused transfer_encoding"),
        ("chunked\u{e9}", "refused transfer_encoding"),
        ("xchunked", "refused transfer_encoding_not_supported"),
        ("chunkedx", "refused transfer_encoding_not_supported"),
        ("chunke", "refused transfer_encoding_not_supported"),
        ("identity", "refused transfer_encoding_not_supported"),
        ("gzip", "refused transfer_encoding_not_supported"),
        ("gzip, chunked", "refused transfer_encoding_not_supported"),
        ("identity, chunked", "refused transfer_encoding_not_supported"),
        ("cow", "refused transfer_encoding_not_supported"),
        ("chunked\u{b}", "refused control_character"),
        ("\u{0}chunked", "refused control_character"),
        ("\r\n chunked", "refused obs_fold"),
        ("chunked\r\nTransfer-Encoding: chunked", "refused transfer_encoding_repeated"),
        ("identity\r\nTransfer-Encoding: chunked", "refused transfer_encoding_repeated"),
        ("chunked\r\ntransfer-encoding: x", "refused transfer_encoding_repeated"),
    ] {
        fields(&[(&format!("Transfer-Encoding: {coding}"), expected)]);
        fields(&[(&format!("transfer-ENCODING:{coding}"), expected)]);
    }
    fields(&[
        ("Transfer_Encoding: chunked", "none"),
        ("X-Transfer-Encoding: chunked", "none"),
        ("TE: trailers", "none"),
    ]);
    table(&[(
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "refused transfer_encoding_in_http_1_0",
    )]);
}

/// RFC 9112 section 7.1.
#[test]
fn a_chunk_has_one_shape() {
    for (body, expected) in [
        ("0\r\n\r\n", "body 5, end"),
        ("00000000\r\n\r\n", "body 12, end"),
        ("a\r\n0123456789\r\n0\r\n\r\n", "body 20, end"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "body 20, end"),
        ("000000000000000a\r\n0123456789\r\n0\r\n\r\n", "body 35, end"),
        ("1;a\r\nx\r\n0;b=\"c\"\r\n\r\n", "body 19, end"),
        ("1\r\nx\r\n0\r\nA: b\r\nServer-Timing: c\r\n\r\n", "body 35, end"),
        ("1\r\nx\r\n", "body 6"),
        ("7fffffffffffffff\r\nx", "body 19"),
        ("1\r\nx", "body 4"),
        ("1\r", "half"),
        ("", ""),
        ("8000000000000000\r\nx", "refused chunk_size"),
        ("ffffffffffffffff\r\nx", "refused chunk_size"),
        ("00000000000000001\r\nx", "refused chunk_size"),
        ("10000000000000000\r\nx", "refused chunk_size"),
        ("0x1\r\nx", "refused chunk_size"),
        ("x1\r\nx", "refused chunk_size"),
        ("+1\r\nx", "refused chunk_size"),
        ("-1\r\nx", "refused chunk_size"),
        ("1_0\r\nx", "refused chunk_size"),
        ("1.0\r\nx", "refused chunk_size"),
        (" 1\r\nx", "refused chunk_size"),
        ("1 \r\nx", "refused chunk_size"),
        ("1 ;a\r\nx\r\n0\t \t;b\r\n\r\n", "body 19, end"),
        ("1 ; \r\nx", "body 7"),
        ("1 x;a\r\nx", "refused chunk_size"),
        ("1\t\r\nx", "refused chunk_size"),
        ("1,1\r\nx", "refused chunk_size"),
        ("g\r\nx", "refused chunk_size"),
        ("\r\n1\r\nx", "refused chunk_size"),
        ("\n", "refused chunk_size"),
        (";a\r\nx", "refused chunk_size"),
        ("\u{e9}\r\nx", "refused chunk_size"),
        ("1\0\r\nx", "refused chunk_size"),
        ("1\nx\r\n0\r\n\r\n", "refused bare_lf"),
        ("1;a\nx\r\n0\r\n\r\n", "refused bare_lf"),
        ("1\r\r\nx", "refused chunk_size"),
        ("1;a\rb\r\nx", "refused chunk_extension"),
        ("1;a\0\r\nx", "refused chunk_extension"),
        ("1;\u{7f}\r\nx", "refused chunk_extension"),
        ("1\r\nxy\r\n0\r\n\r\n", "body 4, refused chunk_end"),
        ("1\r\nx0\r\n\r\n", "body 4, refused chunk_end"),
        ("1\r\nx\n0\r\n\r\n", "body 4, refused chunk_end"),
        ("1\r\nx\r0\r\n\r\n", "body 4, refused chunk_end"),
        ("1\r\n\r\n0\r\n\r\n", "body 4, refused chunk_end"),
        ("0\n\r\n", "refused bare_lf"),
        ("0\r\n\n", "body 3, refused bare_lf"),
        ("0\r\nA : b\r\n\r\n", "body 3, refused space_before_colon"),
        ("0\r\nA\r\n\r\n", "body 3, refused field_without_colon"),
        ("0\r\nA: b\r\n c\r\n\r\n", "body 3, refused obs_fold"),
        ("0\r\nA: b\0\r\n\r\n", "body 3, refused control_character"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "body 3, refused field_without_colon"),
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let expected = if expected.is_empty() { "chunked".to_owned() } else { format!("chunked, {expected}") };
        table(&[(&format!("{head}{body}"), &expected)]);
    }
}

/// RFC 9110 section 6.5.1.
#[test]
fn a_trailer_that_would_be_a_header_is_refused() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    for name in [
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Range",
        "If-Match",
        "X-Forwarded-For",
        "Forwarded",
        "X-Upwork-User",
        "X-Upwarden-Secret",
        "Sec-Fetch-Site",
        "Origin",
        "Cache-Control",
        "Keep-Alive",
        "X-Request-Id",
        "Via",
        "X-Real-IP",
        "X-Original-Url",
        "x_rewrite_url",
        "X_Upwork_User_Id",
        "X.Upwork.User",
        "x_forwarded_for",
        "content_length",
        "Transfer_Encoding",
    ] {
        table(&[(&format!("{head}{name}: 1\r\n\r\n"), "chunked, body 3, refused trailer_field")]);
    }
    for name in
        ["X-Checksum", "Grpc-Status", "Server-Timing", "Digest", "Hosts", "Contents-Length", "X-Viable", "Via-X"]
    {
        assert!(said(format!("{head}{name}: 1\r\n\r\n")).ends_with(", end"), "{name}");
    }
}

#[test]
fn limits_are_exact_to_the_byte() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    let limits = |head_bytes, head_fields| Limits { head_bytes, head_fields, extension_bytes: 4, trailer_bytes: 8 };
    assert_eq!(requests(&[head], limits(head.len(), 2)), ["none"]);
    assert_eq!(requests(&[head], limits(head.len() - 1, 2)), ["refused head_too_large"]);
    assert_eq!(requests(&[&head[..20]], limits(19, 2)), ["refused head_too_large"]);
    assert_eq!(requests(&[head], limits(1000, 1)), ["refused too_many_fields"]);
    // A name longer than the `http` crate holds.
    let name = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "a".repeat(len));
    assert_eq!(requests(&[name(65_535).as_bytes()], limits(100_000, 2)), ["none"]);
    assert_eq!(requests(&[name(65_536).as_bytes()], limits(100_000, 2)), ["refused head_too_large"]);
    assert_eq!(requests(&["\r\n".repeat(600).as_bytes()], limits(1000, 1)), ["refused head_too_large"]);
    let chunked = |body: &str| {
        let message = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        requests(&[message.as_bytes()], limits(1000, 2)).join(", ")
    };
    assert_eq!(chunked("1;ab\r\nx\r\n0;\r\n\r\n"), "chunked, body 15, end");
    assert_eq!(chunked("1;ab\r\nx\r\n0;a\r\n\r\n"), "chunked, body 9, refused chunk_extensions_too_long");
    assert_eq!(chunked("1;abcd\r\nx\r\n"), "chunked, refused chunk_extensions_too_long");
    assert_eq!(chunked(&format!("1;{}", "a".repeat(100))), "chunked, refused chunk_extensions_too_long");
    assert_eq!(chunked("0\r\nA: b\r\n\r\n"), "chunked, body 11, end");
    assert_eq!(chunked("0\r\nA: bc\r\n\r\n"), "chunked, body 3, refused trailer_too_large");
    assert_eq!(chunked("0\r\nA:\r\nB:\r\n"), "chunked, body 3, half");
}
