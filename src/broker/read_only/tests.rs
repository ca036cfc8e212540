//! Tables of calls that may pass or not, and random bytes that must not cause a panic.

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const JSON: &str = "application/json";

fn headers(lines: &[(http::HeaderName, &str)]) -> Fields {
    let mut headers = Fields::default();
    for (name, value) in lines {
        headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The complete check of a call.
fn look(method: &Method, headers: &Fields, query: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    check_graphql(method, headers, query, body)?.map_or(Ok(()), |long| long.check())
}

fn post(body: impl AsRef<[u8]>) -> Result<(), Refusal> {
    look(&Method::POST, &headers(&[(CONTENT_TYPE, JSON)]), None, body.as_ref())
}

fn document(text: &str) -> Result<(), Refusal> {
    post(json!({"query": text}).to_string())
}

fn is_unclear(result: Result<(), Refusal>) -> bool {
    matches!(result, Err(Refusal::Unclear(_)))
}

#[test]
fn rest_may_get_and_head_alone() {
    for (method, allowed) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::POST, false),
        (Method::PUT, false),
        (Method::PATCH, false),
        (Method::DELETE, false),
        (Method::OPTIONS, false),
        (Method::from_bytes(b"get").unwrap(), false),
    ] {
        assert_eq!(check_rest(&method, Some("a=b")), if allowed { Ok(()) } else { Err(Refusal::Method) }, "{method}");
    }
}

#[test]
fn no_spelling_of_http_method_passes() {
    for query in [
        "http_method=delete",
        "HTTP_Method=put",
        "a=b&http_method=delete",
        "a=b;http_method=delete",
        "http%5fmethod=delete",
        "http%255Fmethod=delete",
        "%68ttp_method",
        "+http_method=x",
        "http.method=x",
        "http+method=x",
        "http_method[]=x",
        "a[http_method]=x",
        "http_method%00=x",
        "a=b%26http_method=x",
        "?http_method=x",
        "http[method=x",
        "http_method[a][b]=x",
    ] {
        assert_eq!(check_rest(&Method::GET, Some(query)), Err(Refusal::MethodParameter), "{query}");
    }
    assert!(is_unclear(check_rest(&Method::GET, Some("a=%2525252525"))));
}

#[test]
fn honest_parameters_pass() {
    for query in [
        None,
        Some(""),
        Some("q=http_method&b=100%25&c=%zz&d=%"),
        Some("method=a&http=b&tq=select%20a"),
        Some("xhttp_method=1"),
        Some("http_methods=a&http_method_of=b"),
    ] {
        assert_eq!(check_rest(&Method::GET, query), Ok(()), "{query:?}");
    }
}

#[test]
fn queries_pass() {
    for text in [
        "{ user { id nid } }",
        "query { user { id } }",
        "query A { a } query B { b }",
        "query mutation { mutation: subscription }",
        "query Q($a: [Int!]! = [1, 2]) @d(a: 1) { a(b: $a, c: {d: [\"x\"]}) @skip(if: true) { ...F ... on T { b } } } fragment F on T { c }",
        "{ a(b: \"mutation { x }\") }",
        "{ a(b: \"\"\"mutation { \\\"\"\" } \"\"\") }",
        "# mutation { x }\n{ a }",
        "{ a } # mutation { x }",
        ",,, query\t{\r\na }",
    ] {
        assert_eq!(document(text), Ok(()), "{text}");
    }
    let batch = json!([{"query": "{a}"}, {"query": "query B {b}", "operationName": "B", "variables": {"a": [1]}}]);
    assert_eq!(post(batch.to_string()), Ok(()));
    let sdk = json!({"query": "{a}", "variables": null, "extensions": {"clientLibrary": {"name": "x"}}});
    assert_eq!(post(format!(" \r\n{sdk}\n")), Ok(()));
}

#[test]
fn mutations_and_subscriptions_are_found_wherever_they_hide() {
    for text in [
        "mutation { a }",
        "mutation M($a: Int) @d { query: a }",
        ",\n\tmutation{a}",
        "# query { a }\nmutation { a }",
        "#\rmutation { a }",
        "query A { a } mutation B { b }",
        "mutation B { b } query A { a }",
        "fragment F on Query { a } mutation M { ...F }",
        "query A { ...F } fragment F on Query { a } mutation query { a: b }",
        "query A { a(b: \"#\") } mutation B { b }",
        "query A { a(b: \"\"\"\\\"\"\"\"\"\") } mutation B { b }",
        "query A { a(b: \"\\\\\") } mutation B { c(d: \"\") }",
        "query A { a(b: \"\") } mutation B { b }",
    ] {
        assert_eq!(document(text), Err(Refusal::Operation("mutation")), "{text}");
    }
    assert_eq!(document("subscription { a }"), Err(Refusal::Operation("subscription")));
    for body in [
        r#"{"query":"\u006dutation { a }"}"#,
        r#"{"\u0071uery":"mut\u0061tion\u0020{ a }"}"#,
        r#"{"query":"query A {a} mutation B {b}","operationName":"A"}"#,
        r#"[{"query":"{a}"},{"query":"mutation {a}"}]"#,
    ] {
        assert_eq!(post(body), Err(Refusal::Operation("mutation")), "{body}");
    }
}

#[test]
fn calls_with_two_readings_or_none_are_refused() {
    for body in [
        r#"{"query":"{a}","query":"mutation {a}"}"#,
        r#"{"query":"mutation {a}","query":"{a}"}"#,
        r#"{"query":"{a}","\u0071uery":"mutation {a}"}"#,
        r#"{"query":"{a}","Query":"mutation {a}"}"#,
        r#"{"query":"{a}","variables":{},"variables":{}}"#,
        r#"{"query":"{a}","id":"17"}"#,
        r#"{"query":"{a}","documentId":"17"}"#,
        r#"{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}"#,
        r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}"#,
        r#"{"query":null,"extensions":null}"#,
        r#"{"query":["{a}"]}"#,
        r#"{"query":"{a}","extensions":"{\"persistedQuery\":1}"}"#,
        r#"{"query":""}"#,
        r#"{"query":"fragment F on Query {a}"}"#,
        r#"{"query":"querry {a}"}"#,
        r#"{"query":"{a} {b}"}"#,
        r#"{"query":"query A {a} query A {b}"}"#,
        r#"{"query":"{a}#\u2028mutation {b}"}"#,
        r#"{"query":"{a}#\u0085mutation {b}"}"#,
        r#"{"query":"{a}#\u000bmutation {b}"}"#,
        r#"{"query":"{a}\u0000"}"#,
        r#"{"query":"\ufeff{a}"}"#,
        r#"{"query":"{a}\ud800"}"#,
        r#"{"query":"{a(b:\"\"\")}"}"#,
        r#"{"query":"{a}"} {"query":"mutation {a}"}"#,
        r#"{"query":"{a}",}"#,
        r"{'query':'{a}'}",
        r#"[[{"query":"{a}"}]]"#,
        r#"["{a}"]"#,
        "[]",
        "{}",
        "",
        "null",
        "{a}",
        "query=mutation {a}",
        "\u{feff}{\"query\":\"{a}\"}",
    ] {
        assert!(is_unclear(post(body)), "{body}: {:?}", post(body));
    }
    assert!(is_unclear(post(b"{\"query\":\"{a}\",\"variables\":{\"a\":\"\xff\"}}")));
    let utf16: Vec<u8> = r#"{"query":"{a}"}"#.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(is_unclear(post(utf16)));
}

#[test]
fn bombs_are_refused_before_they_are_parsed() {
    let nested = |open: &str, close: &str, deep: usize| format!("{{{}a{}}}", open.repeat(deep), close.repeat(deep));
    assert_eq!(document(&nested("a{", "}", 40)), Ok(()));
    for text in [
        nested("a{", "}", 20_000),
        nested("...{", "}", 20_000),
        "{".repeat(100_000),
        format!("{{a(b:{})}}", "[".repeat(100_000)),
        format!("{{a(b:[\"\"\" \" {}", "[".repeat(100_000)),
        format!("query($a:{}Int{}){{a}}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{{{}}}", "a ".repeat(100_000)),
    ] {
        assert!(is_unclear(document(&text)), "{}", &text[..20]);
    }
    let deep = format!("{{\"query\":\"{{a}}\",\"variables\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_unclear(post(deep)));
    assert!(is_unclear(post(vec![b' '; MAX_BODY + 1])));
    let many = vec![json!({"query": "{a}"}); 21];
    assert!(is_unclear(post(json!(many).to_string())));
}

#[test]
fn all_documents_of_a_call_together_are_bounded_and_long_ones_are_parsed_later() {
    let check = |body: &serde_json::Value| {
        check_graphql(&Method::POST, &headers(&[(CONTENT_TYPE, JSON)]), None, body.to_string().as_bytes())
    };
    let of = |bytes: usize| json!({ "query": format!("{{{}}}", "a ".repeat(bytes / 2 - 1)) });
    assert!(check(&json!([of(2000), of(48)])).unwrap().is_none(), "parsed at once");
    let long = check(&json!([of(2000), of(50)])).unwrap().expect("not parsed yet");
    assert_eq!(long.check(), Ok(()));
    let hidden = check(&json!([of(2048), {"query": "mutation {a}"}])).unwrap().expect("not parsed yet");
    assert_eq!(hidden.check(), Err(Refusal::Operation("mutation")));
    assert!(check(&json!([of(65_536), of(65_536)])).is_ok());
    assert!(is_unclear(check(&json!([of(65_536), of(65_538)])).map(drop)));
    // Nothing else of a body is kept.
    let variables = json!({"query": "{a}", "variables": vec![json!([{"a": [1, 2]}]); 20_000]});
    assert!(check(&variables).unwrap().is_none());
}

#[test]
fn a_body_is_json_in_utf_8_or_refused() {
    let body = br#"{"query":"{a}"}"#;
    let check = |lines: &[(http::HeaderName, &str)]| look(&Method::POST, &headers(lines), None, body);
    for kind in [JSON, "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        assert_eq!(check(&[(CONTENT_TYPE, kind)]), Ok(()), "{kind}");
    }
    for kind in [
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; boundary=a",
        "application/json, application/graphql",
        "",
    ] {
        assert!(is_unclear(check(&[(CONTENT_TYPE, kind)])), "{kind}");
    }
    assert!(is_unclear(check(&[])));
    assert!(is_unclear(check(&[(CONTENT_TYPE, JSON), (CONTENT_TYPE, "application/graphql")])));
    assert!(is_unclear(check(&[(CONTENT_TYPE, JSON), (CONTENT_ENCODING, "gzip")])));
}

#[test]
fn the_address_is_judged_too() {
    let get = |query| look(&Method::GET, &Fields::default(), Some(query), b"");
    assert_eq!(get("query=%7Ba%7D&variables=%7B%7D&operationName="), Ok(()));
    assert_eq!(get("query=query+A%7Ba%7D&extensions=%7B%7D"), Ok(()));
    assert_eq!(get("query=mutation%7Ba%7D"), Err(Refusal::Operation("mutation")));
    for query in [
        "",
        "query={a}&query=mutation{a}",
        "query={a}&Query=mutation{a}",
        "query={a}&query[]=mutation{a}",
        "query={a}%23;query=mutation{a}",
        "query={a}&http_method=post",
        "query={a}&extensions={\"persistedQuery\":{}}",
        "query={a}&extensions=[",
        "query={a}%23%ff",
        "extensions={}",
    ] {
        assert!(is_unclear(get(query)), "{query}");
    }
    let json = headers(&[(CONTENT_TYPE, JSON)]);
    let body = br#"{"query":"{a}"}"#;
    assert!(is_unclear(look(&Method::POST, &json, Some("query=mutation{a}"), body)));
    assert!(is_unclear(look(&Method::GET, &json, Some("query={a}"), body)));
    assert_eq!(look(&Method::PUT, &json, None, body), Err(Refusal::Method));
    assert_eq!(look(&Method::DELETE, &json, None, body), Err(Refusal::Method));
}

#[test]
fn a_refusal_says_what_to_do() {
    for (result, text) in [
        (document("mutation {a}"), "only reading is allowed here, and the document contains a mutation"),
        (check_rest(&Method::PUT, None), "only reading is allowed here: use GET or HEAD, or POST for GraphQL queries"),
    ] {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic(body: Vec<u8>, text: String, query: String) {
        let _ = post(&body);
        let _ = post(&text);
        let _ = document(&text);
        let _ = check_rest(&Method::GET, Some(&query));
        let _ = look(&Method::GET, &Fields::default(), Some(&query), b"");
    }

    #[test]
    fn pieces_of_documents_do_not_make_it_panic_and_hide_no_mutation(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "(", ")", "[", "]", "a", ":", "$", "!", "@", "=", "...", "on", " ", "\n", "#", "\"", "\"\"\"",
            "\\", "query", "fragment", "mutation", "1", "-", "1e999", "\\u00e9", "é", "null", "&", "|",
        ]), 0..40),
    ) {
        let text = pieces.concat();
        let _ = document(&text);
        // A whole mutation after any prefix that passes is found.
        if document(&text).is_ok() && !text.contains('#') {
            let longer = format!("{text} mutation M9 {{ a }}");
            prop_assert!(document(&longer).is_err());
        }
    }
}
