//! Request heads: how the bytes arrive changes nothing, and what is passed on cannot be read as something else.

use sql_exporter::config::exporter::HttpLimits;
use sql_exporter::server::gate::head::{Head, Rejection, find_end};

/// Small, so that inputs reach them.
fn limits() -> HttpLimits {
    HttpLimits { max_head_bytes: 512, max_header_lines: 8, ..HttpLimits::default() }
}

/// Where the first head ends, when `step` bytes arrive at a time.
fn end(bytes: &[u8], step: usize) -> Result<Option<usize>, Rejection> {
    let mut arrived = 0;
    while arrived < bytes.len() {
        let seen = arrived;
        arrived = (arrived + step).min(bytes.len());
        if let Some(end) = find_end(&bytes[..arrived], seen, &limits())? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// The head as the gate would write it to a server behind it.
fn written(head: &Head<'_>) -> String {
    let version = if head.is_http_1_0 { "1.0" } else { "1.1" };
    let mut text = format!("{} {} HTTP/{version}\r\n", head.method.as_str(), head.target);
    for (name, value) in &head.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

fn legal(head: &Head<'_>) {
    assert!(head.target.starts_with('/'), "{:?}", head.target);
    assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", head.target);
    for (name, value) in &head.headers {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
        assert!(value.is_ascii() && !value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
        let hidden = ["content-length", "transfer-encoding", "connection", "upgrade"];
        assert!(!hidden.iter().any(|hidden| name.eq_ignore_ascii_case(hidden)), "{name} was passed on");
    }
}

pub(crate) fn run(data: &[u8]) {
    let whole = end(data, data.len().max(1));
    for step in [1, 7] {
        match (&whole, end(data, step)) {
            (Ok(whole), Ok(pieces)) => assert_eq!(*whole, pieces, "in pieces of {step}"),
            // Whichever limit comes first.
            (Err(_), Err(_)) | (Ok(None), Err(_)) | (Err(_), Ok(None)) => {}
            (whole, pieces) => panic!("whole {whole:?}, in pieces of {step} {pieces:?}"),
        }
    }
    let Ok(Some(end)) = whole else { return };
    assert!(end <= data.len() && end <= limits().max_head_bytes + 1);
    if let Ok(Some((head, _))) = Head::parse(&data[..end], &limits()) {
        legal(&head);
        let text = written(&head);
        // One line more: the host of the target, where HTTP/1.0 has no `Host`.
        let limits = HttpLimits { max_header_lines: limits().max_header_lines + 1, ..limits() };
        let again = Head::parse(text.as_bytes(), &limits).expect("what is passed on is a head");
        let (again, _) = again.expect("it is complete");
        assert_eq!((again.method, again.target, &again.headers), (head.method, head.target, &head.headers));
    }
}
