//! Heads of requests, each with the strict reader's result.

use upwarden::testing::framing::Limits;

use super::{proxied_requests, requests};

pub(super) fn said(message: impl AsRef<[u8]>) -> String {
    requests(&[message.as_ref()], Limits::default()).join(", ")
}

/// Checks what is said of each message, and sends it through a whole sidecar.
pub(super) fn table(rows: &[(&str, &str)]) {
    for (message, expected) in rows {
        assert_eq!(said(message), *expected, "{message:?}");
        proxied_requests::pass(message.as_bytes(), expected);
    }
}

/// Checks each line as a field of an otherwise valid request.
pub(super) fn fields(rows: &[(&str, &str)]) {
    for (field, expected) in rows {
        let message = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        assert_eq!(said(&message), *expected, "{message:?}");
        proxied_requests::pass(message.as_bytes(), expected);
    }
}

#[test]
fn valid_requests_end_where_they_say() {
    table(&[
        ("", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("GET / HTTP/1.0\r\n\r\n", "none"),
        ("GET / HTTP/1.0\r\nHost: a:80\r\n\r\n", "none"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "none, none"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "none, none"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "exact 5, body 5, end"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "exact 5, body 3"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "exact 1, body 1, end, none",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "none"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "chunked, body 13, end",
        ),
        ("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "none"),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "none upgrade"),
        ("GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "none"),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade-Insecure-Requests: 1\r\n\r\n", "none"),
        ("GET / HTTP/1.1\r\nHo", "half"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "half"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", "half"),
    ]);
}

/// RFC 9112 section 3.
#[test]
fn a_request_line_has_one_shape() {
    table(&[
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "refused request_line"),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", "refused request_line"),
        ("GET / \tHTTP/1.1\r\nHost: a\r\n\r\n", "refused version"),
        ("GET\r\n\r\n", "refused request_line"),
        ("GET /\r\n\r\n", "refused request_line"),
        ("GET / \r\n\r\n", "refused version"),
        (": / HTTP/1.1\r\n\r\n", "refused request_line"),
        ("G:T / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method"),
        ("GET\u{b} / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method"),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method"),
        ("{\"a\":1}\r\n", "refused request_line"),
        ("\x16\x03\x01\x02", "refused tls_on_a_plain_door"),
        ("\0", "refused request_line"),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bare_lf"),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bare_cr"),
        ("GET / HTTP/1.1\nHost: a\n\n", "refused bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "refused bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "refused bare_lf"),
        ("GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n", "refused bare_cr"),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "refused bare_cr"),
    ]);
}

/// RFC 9112 section 2.3, RFC 9110 sections 9.3.6, 9.3.8 and 15.6.6.
#[test]
fn only_http_1_0_and_1_1_and_neither_connect_nor_trace_are_accepted() {
    for (version, expected) in [
        ("HTTP/1.2", "refused version_not_supported"),
        ("HTTP/2.0", "refused version_not_supported"),
        ("HTTP/0.9", "refused version_not_supported"),
        ("HTTP/9.9", "refused version_not_supported"),
        ("http/1.1", "refused version"),
        ("Http/1.1", "refused version"),
        ("HTTP/1", "refused version"),
        ("HTTP/1.", "refused version"),
        ("HTTP/1.10", "refused version"),
        ("HTTP/01.1", "refused version"),
        ("HTTP/1,1", "refused version"),
        ("HTTP/+1.1", "refused version"),
        ("HTTP/1.1\0", "refused version"),
        ("HTTP/a.b", "refused version"),
        ("ICY/1.1", "refused version"),
        ("XHTTP/1.1", "refused version"),
        ("HTTP 1.1", "refused request_line"),
    ] {
        table(&[(&format!("GET / {version}\r\nHost: a\r\n\r\n"), expected)]);
    }
    table(&[
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused version_not_supported"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "refused method_not_supported"),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method_not_supported"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method_not_supported"),
        ("trace / HTTP/1.1\r\nHost: a\r\n\r\n", "refused method_not_supported"),
    ]);
}

/// RFC 9112 section 3.2.
#[test]
fn a_target_is_a_path_or_names_the_host_of_the_request() {
    for (target, expected) in [
        ("/a?b=c", "none"),
        ("/?", "none"),
        ("//a//b", "none"),
        ("/a/../b;c=d", "none"),
        ("/%2e%2F%00%zz%", "none"),
        ("/\u{fc}?\u{fc}", "none"),
        ("/{a}\"|^[]~", "none"),
        ("/a\\b", "none"),
        ("http://a", "none"),
        ("http://a/", "none"),
        ("HTTP://A/b?c", "none"),
        ("https://a?b", "none"),
        ("http://a:80/", "refused host_mismatch"),
        ("http://b/", "refused host_mismatch"),
        ("http://a.b/", "refused host_mismatch"),
        ("http://", "refused target"),
        ("http:///a", "refused target"),
        ("http://u@a/", "refused target"),
        ("http://a:b/", "refused target"),
        ("http://a/<", "refused target"),
        ("http:/a", "refused target_form"),
        ("ftp://a/", "refused target_form"),
        ("ws://a/", "refused target_form"),
        ("javascript:a", "refused target_form"),
        ("a", "refused target_form"),
        ("a:80", "refused target_form"),
        ("a/b", "refused target_form"),
        ("?a", "refused target_form"),
        ("*", "refused target_form"),
        ("/*", "none"),
        ("/a#b", "refused target_fragment"),
        ("#", "refused target_fragment"),
        ("http://a/#", "refused target_fragment"),
        ("/<", "refused target"),
        ("/>", "refused target"),
        ("/`", "refused target"),
        ("/?\"", "refused target"),
        ("/\u{1}", "refused target"),
        ("/\0", "refused target"),
        ("/\u{7f}", "refused target"),
        ("/a\tb", "refused target"),
    ] {
        table(&[(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), expected)]);
    }
    assert_eq!(said(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), "refused target");
    assert_eq!(said(b"GET /?\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n"), "refused target");
    assert_eq!(said("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "refused asterisk_form");
    assert_eq!(said("GET http://b/ HTTP/1.0\r\n\r\n"), "none");
    assert_eq!(said("GET http://b/ HTTP/1.1\r\n\r\n"), "refused host_missing");
    let limits = Limits { head_bytes: 1 << 20, ..Limits::default() };
    let long = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(requests(&[long(65_534).as_bytes()], limits), ["none"]);
    assert_eq!(requests(&[long(65_535).as_bytes()], limits), ["refused target_too_long"]);
}

/// RFC 9112 section 3.2.
#[test]
fn a_request_has_exactly_one_valid_host() {
    for (host, expected) in [
        ("Host: a", "none"),
        ("host:a", "none"),
        ("HOST: \t a \t ", "none"),
        ("Host: a.b-c_d~e:8080", "none"),
        ("Host: 127.0.0.1", "none"),
        ("Host: [::1]:443", "none"),
        ("X: y", "refused host_missing"),
        ("Host: a\r\nHost: a", "refused host_repeated"),
        ("Host: a\r\nhost: b", "refused host_repeated"),
        ("Host:", "refused host_malformed"),
        ("Host: ", "refused host_malformed"),
        ("Host: a b", "refused host_malformed"),
        ("Host: a,b", "refused host_malformed"),
        ("Host: a, a", "refused host_malformed"),
        ("Host: a/b", "refused host_malformed"),
        ("Host: u@a", "refused host_malformed"),
        ("Host: u:p@a", "refused host_malformed"),
        ("Host: a:", "refused host_malformed"),
        ("Host: :80", "refused host_malformed"),
        ("Host: a:80:80", "refused host_malformed"),
        ("Host: a:99999", "refused host_malformed"),
        ("Host: a:-1", "refused host_malformed"),
        ("Host: a:0x50", "refused host_malformed"),
        ("Host: a%00", "refused host_malformed"),
        ("Host: a?b", "refused host_malformed"),
        ("Host: a#b", "refused host_malformed"),
        ("Host: a\\b", "refused host_malformed"),
        ("Host: http://a", "refused host_malformed"),
        ("Host: ::1", "refused host_malformed"),
        ("Host: [::1", "refused host_malformed"),
        ("Host: [::1]a", "refused host_malformed"),
        ("Host: \u{e4}", "refused host_malformed"),
        ("Host: a\0", "refused control_character"),
        ("Host: a\r", "refused bare_cr"),
    ] {
        table(&[(&format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"), expected)]);
    }
    table(&[
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "refused host_repeated"),
        ("GET / HTTP/1.0\r\nHost:\r\n\r\n", "refused host_malformed"),
    ]);
}

/// RFC 9112 section 5, RFC 9110 sections 5.1, 5.3 and 5.5.
#[test]
fn a_field_line_has_one_shape() {
    fields(&[
        ("A:", "none"),
        ("A: b:c", "none"),
        ("A:b", "none"),
        ("A: \t b \t c \t", "none"),
        ("!#$%&'*+-.^_`|~09azAZ: x", "none"),
        ("A: \u{e9}\u{ff}", "none"),
        ("A", "refused field_without_colon"),
        ("A b", "refused field_without_colon"),
        (": b", "refused field_name"),
        (":", "refused field_name"),
        ("A : b", "refused space_before_colon"),
        ("A\t: b", "refused space_before_colon"),
        ("Host : b", "refused space_before_colon"),
        ("Content-Length : 5", "refused space_before_colon"),
        ("Transfer-Encoding : chunked", "refused space_before_colon"),
        ("Transfer-Encoding\t: chunked", "refused space_before_colon"),
        ("Transfer-Encoding\u{b}: chunked", "refused control_character"),
        ("A B: c", "refused field_name"),
        ("A,B: c", "refused field_name"),
        ("A(B): c", "refused field_name"),
        ("\"A\": c", "refused field_name"),
        ("A/B: c", "refused field_name"),
        ("A@B: c", "refused field_name"),
        ("\u{c4}: c", "refused field_name"),
        ("A\0: c", "refused control_character"),
        ("A\u{7f}: c", "refused control_character"),
        ("A: b\0c", "refused control_character"),
        ("A: \u{1}", "refused control_character"),
        ("A: \u{8}", "refused control_character"),
        ("A: \u{b}", "refused control_character"),
        ("A: \u{c}", "refused control_character"),
        ("A: \u{1b}[0m", "refused control_character"),
        ("A: \u{7f}", "refused control_character"),
        ("A: b\rc", "refused bare_cr"),
        ("A: b\r\r", "refused bare_cr"),
        ("A\r: b", "refused bare_cr"),
        ("\rA: b", "refused bare_cr"),
        ("A: b\r\n c", "refused obs_fold"),
        ("A: b\r\n\tc", "refused obs_fold"),
        ("A: b\r\n \r\nB: c", "refused obs_fold"),
        (" A: b", "refused obs_fold"),
        ("A: b\nB: c", "refused bare_lf"),
        ("A: b\r\n\nB: c", "refused bare_lf"),
        ("Authorization: a\r\nAuthorization: b", "refused field_repeated"),
        ("Authorization: a\r\nauthorization: a", "refused field_repeated"),
        ("Cookie: a\r\nCookie: b", "none"),
    ]);
    table(&[("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "refused obs_fold")]);
}
