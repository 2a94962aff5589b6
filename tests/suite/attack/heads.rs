//! Bytes that are not a request, or not one that is answered: each on a connection of its own.

use super::Aftermath;
use super::victim::Victim;
use crate::web_client::Reply;

/// How much of an endless head is offered.
const ENDLESS: usize = 16 << 20;
const HOST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n";

fn each<B: AsRef<[u8]>>(victim: &Victim, requests: impl IntoIterator<Item = B>) -> Aftermath {
    requests.into_iter().map(|request| victim.say(request)).collect::<Vec<u16>>().into()
}

/// Requests of which only the first line counts.
fn lines<L: AsRef<str>>(victim: &Victim, lines: impl IntoIterator<Item = L>) -> Aftermath {
    each(
        victim,
        lines
            .into_iter()
            .map(|line| format!("{}\r\nHost: localhost\r\nConnection: close\r\n\r\n", line.as_ref())),
    )
}

/// Good requests but for some header lines.
fn headers<H: AsRef<[u8]>>(victim: &Victim, headers: impl IntoIterator<Item = H>) -> Aftermath {
    each(victim, headers.into_iter().map(|line| [HOST.as_bytes(), line.as_ref(), b"\r\n\r\n"].concat()))
}

/// A request line, a header's name and a header's value that do not end.
pub(super) fn endless_heads(victim: &Victim) -> Aftermath {
    let starts = ["GET /", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "];
    each(victim, starts.map(|start| [start.as_bytes(), &vec![b'x'; ENDLESS]].concat()))
}

/// A head of one byte more than is allowed, which is 1 KiB here.
pub(super) fn heads_a_byte_too_long(victim: &Victim) -> Aftermath {
    let rest = 1024 + 1 - HOST.len() - "X: \r\n\r\n".len();
    headers(victim, [format!("X: {}", "x".repeat(rest))])
}

/// A hundred thousand header lines.
pub(super) fn many_header_lines(victim: &Victim) -> Aftermath {
    headers(victim, [b"a: b\r\n".repeat(100_000)])
}

/// One header line more than is allowed, which is 10 here.
pub(super) fn one_header_line_too_many(victim: &Victim) -> Aftermath {
    headers(victim, ["a: b\r\n".repeat(9) + "a: b"])
}

/// Bodies of all kinds.
pub(super) fn bodies(victim: &Victim) -> Aftermath {
    let large = format!("Content-Length: 200000\r\n\r\n{}", "x".repeat(200_000));
    let bodies = [
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 1",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "Transfer-Encoding: gzip, chunked",
        "Expect: 100-continue\r\nContent-Length: 10",
        &large,
    ];
    headers(victim, bodies)
}

/// Lengths that are none, or that contradict each other, as requests are smuggled.
pub(super) fn contradicting_lengths(victim: &Victim) -> Aftermath {
    let lengths = [
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x10",
        "Content-Length:",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length : 5",
    ];
    headers(victim, lengths)
}

/// Header lines that are none.
pub(super) fn broken_headers(victim: &Victim) -> Aftermath {
    let lines: [&[u8]; 9] = [
        b"Host: b",
        b" folded: line",
        b"X: a\r\n continued",
        b"no colon",
        b": no name",
        b"X: a\0b",
        b"X: a\rHost: b",
        b"X\x80: a",
        b"X y: a",
    ];
    headers(victim, lines)
}

/// Names of the exporter's host that would do harm on a page, and none.
pub(super) fn broken_hosts(victim: &Victim) -> Aftermath {
    let hosts = ["Host: <script>", "Host: a b", "Host: a/b", "Host: a\"b", "X: no host"];
    each(victim, hosts.map(|host| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n")))
}

/// Expectations that cannot be met.
pub(super) fn expectations(victim: &Victim) -> Aftermath {
    headers(victim, ["Expect: 200-ok", "Expect: 100-continue, more"])
}

/// A forged private header of the gate: it is ignored.
pub(super) fn forged_pass(victim: &Victim) -> Aftermath {
    let forged = "X-Sql-Exporter-Gate: 0 0 127.0.0.1 true true\r\nConnection: close, X-Sql-Exporter-Gate";
    headers(victim, [forged])
}

/// HTTP/0.9, and lines that do not belong to a request.
pub(super) fn no_requests(victim: &Victim) -> Aftermath {
    let bytes: [&[u8]; 9] = [
        b"GET /\r\n",
        b"GET /metrics\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        b"\xff\xfe\xfd",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    each(victim, bytes)
}

/// HTTP/2 without a word of warning, and versions that are not there.
pub(super) fn other_versions(victim: &Victim) -> Aftermath {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    each(victim, [preface, "GET / HTTP/3\r\n\r\n", "GET / HTTP/1.9\r\n\r\n", "GET / HTTP/0.9\r\n\r\n"])
}

/// Methods that are not done here.
pub(super) fn odd_methods(victim: &Victim) -> Aftermath {
    let methods = [
        "OPTIONS /",
        "OPTIONS /metrics",
        "CONNECT /",
        "TRACE /",
        "get /metrics",
        "PUT /metrics",
        "DELETE /",
        "M-SEARCH /sd",
        "PUT /-/reload",
        "POST /metrics",
        "POST /",
    ];
    lines(victim, methods.map(|method| format!("{method} HTTP/1.1")))
}

/// Targets that are not a path.
pub(super) fn odd_targets(victim: &Victim) -> Aftermath {
    let targets = [
        "*",
        "metrics",
        "example.org:443",
        "ftp://example.org/metrics",
        "http://",
        "://a/",
        "/metrics#part",
        "/a\0b",
        "/\u{e4}",
        "/\x7f",
        "\\metrics",
    ];
    lines(victim, targets.map(|target| format!("GET {target} HTTP/1.1")))
}

/// Paths that are not there, however they are written.
pub(super) fn strange_paths(victim: &Victim) -> Aftermath {
    let long = format!("/{}", "x".repeat(10_000));
    let paths = [
        "//",
        "//metrics",
        "/../..",
        "/metrics/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%00",
        "/metrics%00",
        "/METRICS",
        "/metrics/",
        "/%",
        "http://example.org/../metrics",
        &long,
    ];
    lines(victim, paths.map(|path| format!("GET {path} HTTP/1.1")))
}

/// Ours, in the form that is sent to a proxy: nobody is asked but ourselves.
pub(super) fn requests_to_a_proxy(victim: &Victim) -> Aftermath {
    let targets =
        ["http://example.org/metrics", "https://169.254.169.254/-/healthy", "HTTP://a:9999/-/metrics"];
    lines(victim, targets.map(|target| format!("GET {target} HTTP/1.1")))
}

/// Queries that name nothing.
pub(super) fn strange_queries(victim: &Victim) -> Aftermath {
    let targets = ["target=%00", "target=%", "target=%ff%fe", "collect[]=..", "query=%27%20OR%201=1"];
    let long = format!("target={}", "x".repeat(10_000));
    let all = targets.into_iter().chain([long.as_str()]);
    lines(victim, all.map(|query| format!("GET /metrics?{query} HTTP/1.1")))
}

/// Markup and scripts in all that the status page takes from a client: it comes back as text or not at all.
pub(super) fn searches_with_markup(victim: &Victim) -> Aftermath {
    let texts =
        ["<script>evil()</script>", "\"autofocus onfocus=evil() x=\"", "'><img src=x onerror=evil()>"];
    let encoded = texts.map(|text| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>());
    let long = format!("search={}", "%3Cb".repeat(4000));
    let keys = ["search", "sort", "other"];
    let queries = keys.iter().flat_map(|key| encoded.iter().map(move |text| format!("{key}={text}")));
    let all = queries.chain(["search=%00%FF%1B&sort=%00".to_owned(), "sort".to_owned(), long]);
    let answer = |query: String| {
        let mut client = victim.connect();
        client.send(format!("GET /?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let reply = Reply::parse(&client.rest(), false).expect("an answer");
        for markup in ["<script>evil", "<img", "\"autofocus", "<b<b", "\u{1b}"] {
            assert!(!reply.text().contains(markup), "{query}: {}", reply.text());
        }
        assert!(reply.body.len() < 20_000, "{query}: {} bytes", reply.body.len());
        reply.status
    };
    all.map(answer).collect::<Vec<u16>>().into()
}

/// What a page of another site has a browser send: under a name of its own that resolves to this machine, or for a page
/// that is not one of ours. What Prometheus asks for is answered under that name too.
pub(super) fn requests_of_other_sites(victim: &Victim) -> Aftermath {
    let say = |line: &str, headers: &str| {
        victim.say(format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n"))
    };
    for path in ["/metrics", "/-/healthy", "/-/ready", "/sd", "/-/metrics"] {
        assert_eq!(say(&format!("GET {path}"), "Host: evil.example"), 200, "{path}");
    }
    for host in ["localhost:1", "[::1]", "127.0.0.1", "metrics.example"] {
        assert_eq!(say("GET /", &format!("Host: {host}")), 200, "{host}");
    }
    assert_eq!(say("POST /-/reload", "Host: localhost"), 200);
    let foreign = [
        ("GET /", "Host: evil.example"),
        ("GET http://evil.example/", "Host: localhost"),
        ("GET HTTP://a:99999/", "Host: localhost"),
        ("GET /config", "Host: evil.example:9399"),
        ("POST /-/reload", "Host: evil.example\r\nOrigin: http://evil.example"),
        (
            "POST /-/reload",
            "Host: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin",
        ),
        ("POST /-/reload", "Host: localhost\r\nOrigin: http://evil.example"),
        ("POST /-/reload", "Host: localhost\r\nOrigin: null"),
        ("POST /-/reload", "Host: localhost\r\nReferer: http://evil.example/"),
        ("POST /-/reload", "Host: localhost\r\nAccept: text/html"),
        ("POST /-/reload", "Host: localhost\r\nSec-Fetch-Site: cross-site"),
        ("GET /metrics", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image"),
        ("GET /probe?target=db", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe"),
    ];
    foreign.map(|(line, headers)| say(line, headers)).to_vec().into()
}
