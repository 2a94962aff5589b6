use proptest::prelude::*;

use super::*;

fn limits() -> HttpLimits {
    HttpLimits::default()
}

/// Feeds bytes in pieces, as a socket would, and parses the head once it is whole.
fn read<'b>(
    bytes: &'b [u8],
    step: usize,
    limits: &HttpLimits,
) -> Result<Option<(Head<'b>, usize)>, Rejection> {
    let mut arrived = 0;
    while arrived < bytes.len() {
        let seen = arrived;
        arrived = (arrived + step.max(1)).min(bytes.len());
        if find_end(&bytes[..arrived], seen, limits)?.is_some() {
            return Head::parse(&bytes[..arrived], limits);
        }
    }
    Ok(None)
}

fn fault(bytes: &[u8]) -> (u16, &'static str) {
    match read(bytes, bytes.len(), &limits()) {
        Err(rejection) => (rejection.status, rejection.reason.unwrap()),
        other => panic!("{:?} returns {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn head(text: &str) -> Head<'_> {
    read(text.as_bytes(), 7, &limits()).unwrap().unwrap().0
}

#[test]
fn a_request_of_prometheus_is_read_and_passed_on_without_hop_headers() {
    let head = head(
        "GET /metrics?target=a HTTP/1.1\r\nHost: db:9399\r\nConnection: keep-alive, X-Trace\r\nX-Trace: 1\r\n\
         Accept: text/plain;version=0.0.4\r\nKeep-Alive: 5\r\nTE: trailers\r\nExpect: 100-Continue\r\n\
         Content-Length: 0\r\nCookie: \u{e9}\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
    );
    assert_eq!(
        (head.method, &*head.target, head.keep_alive, head.is_http_1_0),
        (Method::Get, "/metrics?target=a", true, false)
    );
    let expected = [
        ("Host", "db:9399"),
        ("Accept", "text/plain;version=0.0.4"),
        ("X-Prometheus-Scrape-Timeout-Seconds", "10"),
    ];
    assert_eq!(head.headers, expected);
}

#[test]
fn a_connection_stays_as_its_version_and_header_say() {
    let stays = |text: &str| head(text).keep_alive;
    assert!(stays("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!stays("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"));
    assert!(!stays("GET / HTTP/1.0\r\n\r\n"));
    assert!(stays("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!stays("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

#[test]
fn a_limit_of_any_size_takes_no_memory_before_there_are_header_lines() {
    let limits = HttpLimits { max_header_lines: usize::MAX, ..limits() };
    let shortest = format!("GET / HTTP/1.0\n{}\n", "a:\n".repeat(500));
    assert_eq!(read(shortest.as_bytes(), 100, &limits).unwrap().unwrap().0.headers.len(), 500);
}

/// The least of some times to parse a head with many options in `Connection` and so many other headers.
fn parsing(headers: usize) -> std::time::Duration {
    let options = "a,".repeat(7_000);
    let lines = "b:\r\n".repeat(headers);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n{lines}\r\n");
    let parse = || {
        let began = std::time::Instant::now();
        assert!(Head::parse(text.as_bytes(), &limits()).unwrap().is_some());
        began.elapsed()
    };
    (0..5).map(|_| parse()).min().unwrap()
}

#[test]
fn many_options_of_a_connection_are_not_read_again_for_each_header() {
    assert!(parsing(90) < parsing(1) * 10);
}

#[test]
fn bare_line_feeds_and_empty_lines_before_a_request_are_borne_with() {
    assert_eq!(head("GET /a HTTP/1.1\nHost: a\n\n").target, "/a");
    assert_eq!(head("\r\n\r\nHEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Head);
}

#[test]
fn a_target_with_host_is_cut_to_its_path_and_its_host_counts() {
    for (sent, target, host) in [
        ("http://a:9399/metrics?x=/", "/metrics?x=/", "a:9399"),
        ("HTTPS://a", "/", "a"),
        ("http://[::1]:80?x=/probe", "/?x=/probe", "[::1]:80"),
        ("/metrics?x=http://a/b", "/metrics?x=http://a/b", "other"),
    ] {
        let text = format!("GET {sent} HTTP/1.1\r\nX: 1\r\nHost: other\r\n\r\n");
        let head = head(&text);
        assert_eq!((&*head.target, head.header("host")), (target, Some(host)), "{sent}");
        assert_eq!(head.headers.len(), 2, "{sent}");
    }
    assert_eq!(head("GET http://a/ HTTP/1.0\r\n\r\n").header("host"), Some("a"));
    for sent in ["http:///metrics", "http://", "http://u:p@a/", "http://<a>/", "ftp://a/", "a/metrics", "*"] {
        let text = format!("GET {sent} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(fault(text.as_bytes()), (400, "malformed"), "{sent}");
    }
}

#[test]
fn the_end_of_a_head_leaves_what_follows_alone() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n";
    let (_, end) = read(bytes, bytes.len(), &limits()).unwrap().unwrap();
    assert_eq!(&bytes[end..], b"GET /b HTTP/1.1\r\n");
}

#[test]
fn each_fault_has_its_status_and_reason() {
    let cases: &[(&[u8], u16, &str)] = &[
        (b"GET /\r\n", 400, "malformed"),
        (b"GET / HTTP/0.9\r\n\r\n", 505, "malformed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "malformed"),
        (b"\x16\x03\x01\x02\x00", 400, "malformed"),
        (b"\x00", 400, "malformed"),
        (b"GET  / HTTP/1.1\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1 \r\n", 400, "malformed"),
        (b"GET / FTP/1.1\r\n", 400, "malformed"),
        (b"GET /\x01 HTTP/1.1\r\n", 400, "malformed"),
        ("GET /\u{e9} HTTP/1.1\r\n".as_bytes(), 400, "malformed"),
        (b"GET metrics HTTP/1.1\r\n", 400, "malformed"),
        (b"GET ftp://a/ HTTP/1.1\r\n", 400, "malformed"),
        (b"GET /#top HTTP/1.1\r\n", 400, "malformed"),
        (b"OPTIONS * HTTP/1.1\r\n", 400, "malformed"),
        (b"G@T / HTTP/1.1\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: <b>\r\n\r\n", 400, "malformed"),
        ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n".as_bytes(), 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413, "body"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n", 400, "malformed"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413, "body"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n", 417, "malformed"),
    ];
    for (bytes, status, reason) in cases {
        assert_eq!(fault(bytes), (*status, *reason), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_head_may_be_as_large_as_the_limit_and_no_larger() {
    let with = |padding: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(padding));
    let fits = limits().max_head_bytes - with(0).len();
    assert!(read(with(fits).as_bytes(), 1000, &limits()).unwrap().is_some());
    assert_eq!(fault(with(fits + 1).as_bytes()), (431, "head_size"));
    assert_eq!(fault(&vec![b'a'; 1 << 20]), (431, "head_size"));
    assert_eq!(fault(&vec![b'\n'; 1 << 20]), (431, "head_size"));
}

#[test]
fn a_head_may_have_as_many_lines_as_the_limit_and_no_more() {
    let with = |lines: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(lines - 1));
    let most = limits().max_header_lines;
    assert!(read(with(most).as_bytes(), 1000, &limits()).unwrap().is_some());
    assert_eq!(fault(with(most + 1).as_bytes()), (431, "header_lines"));
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"GET",
        b"HEAD",
        b" ",
        b"/",
        b"?a=b",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: a",
        b":",
        b"Content-Length: ",
        b"0",
        b"Connection: ",
        b"close",
        b",",
        b"Expect: 100-continue",
        b"\t",
        b"\0",
        b"\xff",
    ];
    prop_oneof![
        proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
        proptest::collection::vec(any::<u8>(), 0..4)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_pieces_give_the_same_answer_and_never_a_panic(
        fragments in proptest::collection::vec(fragment(), 0..40),
        whole_start in any::<bool>(),
        step in 1usize..20,
    ) {
        let mut bytes = if whole_start { b"GET /a HTTP/1.1\r\nHost: a\r\n".to_vec() } else { Vec::new() };
        bytes.extend(fragments.concat());
        let limits = HttpLimits { max_head_bytes: 200, max_header_lines: 8, ..HttpLimits::default() };
        let (at_once, in_pieces) = (read(&bytes, bytes.len(), &limits), read(&bytes, step, &limits));
        // Whether a head is refused does not depend on how it arrives; which message it gets may.
        prop_assert_eq!(at_once.as_ref().ok(), in_pieces.as_ref().ok());
        if let Ok(Some((head, end))) = at_once {
            prop_assert!(end <= limits.max_head_bytes);
            prop_assert!(head.target.starts_with('/'));
            let text = head.headers.iter().flat_map(|(name, value)| [*name, *value]).chain([&*head.target]);
            for piece in text {
                prop_assert!(!piece.contains(['\r', '\n', '\0']), "{:?}", piece);
            }
        }
    }
}
