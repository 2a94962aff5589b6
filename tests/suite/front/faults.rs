//! Requests that are refused: each with its status and the reason it is counted under.

use super::*;

/// Sends bytes and gives the status and the reasons counted meanwhile.
fn refused(bytes: &[u8]) -> (u16, Vec<&'static str>) {
    let front = open(HttpLimits::default(), echo);
    let answer = front.say(bytes);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    let status = status.unwrap_or_else(|| panic!("no answer to {text:?}: {answer:?}"));
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains(" GMT\r\n"), "no Date: {answer}");
    let reasons = front.rejected();
    assert_eq!(front.stop(), 0);
    (status, reasons)
}

#[test]
fn whatever_is_no_request_is_refused_as_malformed() {
    let cases: &[(&[u8], u16)] = &[
        (b"GET /\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ];
    for (bytes, status) in cases {
        assert_eq!(refused(bytes), (*status, vec!["malformed"]), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn odd_methods_reach_the_path_that_says_what_it_does() {
    let front = open(HttpLimits::default(), echo);
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "X"] {
        let answer = front.say(format!("{method} /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert!(answer.ends_with("\r\n\r\nOTHER /a\n"), "{method}: {answer}");
    }
}

#[test]
fn a_body_is_refused_whatever_its_length_and_the_refusal_arrives() {
    let with =
        |length: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    assert_eq!(refused(&with("1")), (413, vec!["body"]));
    // This one ends a bare tiny_http: it reserves the length.
    assert_eq!(refused(&with("18446744073709551615")), (413, vec!["body"]));
    assert_eq!(refused(&with("99999999999999999999999999")), (413, vec!["body"]));
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(refused(chunked), (413, vec!["body"]));
    // A client that goes on sending still gets to read why.
    let mut large = with("200000");
    large.extend(vec![b'x'; 200_000]);
    assert_eq!(refused(&large), (413, vec!["body"]));
}

#[test]
fn an_endless_head_is_refused_at_its_limit() {
    let mut endless = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    endless.extend(vec![b'x'; 60_000]);
    assert_eq!(refused(&endless), (431, vec!["head_size"]));
    assert_eq!(refused(&vec![b'A'; 60_000]), (431, vec!["head_size"]));
}

#[test]
fn a_hundred_thousand_header_lines_are_refused_at_their_limit() {
    let mut many = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    many.extend(b"a: b\r\n".repeat(100_000));
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    client.send(&many);
    let answer = client.rest();
    // The client pushes far more than the gate reads: the answer may be lost to a reset, the count is not.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(front.rejected(), ["header_lines"]);
}

#[test]
fn a_refused_request_does_not_hurt_the_one_before_it() {
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nBAD\r\n\r\n");
    assert_eq!(client.answer().1, "GET /good\n");
    assert!(client.answer().0.starts_with("http/1.1 400 "));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_leaves_in_mid_head_is_not_counted() {
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    client.send("GET / HT");
    half_close(&client);
    assert!(client.is_closed());
    let mut silent = front.connect();
    half_close(&silent);
    assert!(silent.is_closed());
    assert!(front.rejected().is_empty());
}

#[test]
fn a_client_that_half_closes_after_its_request_gets_the_answer() {
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    client.get("/a");
    half_close(&client);
    assert_eq!(client.answer().1, "GET /a\n");
    assert!(client.is_closed());
}
