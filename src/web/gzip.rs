//! Answers as gzip for clients that can read it (`Accept-Encoding`, RFC 9110 section 12.5.3).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::exposition::accept::preferences;
use crate::http::{Part, Response};

/// Shorter answers fit into a packet or two as they are.
const SMALL: usize = 2048;

/// The ratio of an exposition at level 1 is about 1 : 5; a buffer of this part of the text seldom grows.
const EXPECTED_RATIO: usize = 4;

/// Compresses the body if the client wants that and the body is long enough to gain by it. That the answer depends on
/// the header is said in either case.
pub(super) fn compress(response: &mut Response, accept_encoding: &str) {
    vary(response);
    let length: usize = response.body.iter().map(|part| part.bytes().len()).sum();
    if length <= SMALL || !wanted(accept_encoding) {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(length / EXPECTED_RATIO), Compression::fast());
    let written = response.body.iter().try_for_each(|part| encoder.write_all(part.bytes()));
    // Invariant: writing into memory does not fail; if it did, the answer goes out as it is.
    if let Ok(bytes) = written.and_then(|()| encoder.finish()) {
        response.body = vec![Part::Owned(bytes)];
        response.headers.push(("Content-Encoding", "gzip".to_owned()));
    }
}

/// True unless gzip is refused or not among what is accepted. A coding that is not named counts as `*`.
fn wanted(accept_encoding: &str) -> bool {
    let weight = |names: &[&str]| {
        let mut fitting = preferences(accept_encoding);
        let named = |item: &str| names.iter().any(|name| item.eq_ignore_ascii_case(name));
        fitting.find(|wanted| named(wanted.item)).map(|wanted| wanted.weight)
    };
    weight(&["gzip", "x-gzip"]).or_else(|| weight(&["*"])).is_some_and(|weight| weight > 0)
}

fn vary(response: &mut Response) {
    const NAME: &str = "Accept-Encoding";
    match response.headers.iter_mut().find(|(name, _)| *name == "Vary") {
        Some((_, value)) => {
            value.push_str(", ");
            value.push_str(NAME);
        }
        None => response.headers.push(("Vary", NAME.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn compressed(text: &str, accept_encoding: &str) -> Response {
        let mut response = Response::text(200, text);
        compress(&mut response, accept_encoding);
        response
    }

    fn encoding(response: &Response) -> Option<&str> {
        response.headers.iter().find(|(name, _)| *name == "Content-Encoding").map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_long_answer_is_compressed_for_who_asks() {
        let text = "sql_exporter_build_info 1\n".repeat(100);
        for accept in ["gzip", "deflate, GZIP;q=0.5", "*", "identity, x-gzip", "gzip;q=0.001"] {
            let response = compressed(&text, accept);
            assert_eq!(encoding(&response), Some("gzip"), "{accept}");
            let bytes = response.body[0].bytes();
            assert!(bytes.len() < text.len() / 4);
            let mut read = String::new();
            GzDecoder::new(bytes).read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn an_answer_is_left_alone_where_gzip_is_not_wanted() {
        let text = "x".repeat(10_000);
        for accept in ["", "deflate", "gzip;q=0", "gzip;q=0, *", "*;q=0", "br, identity"] {
            assert_eq!(encoding(&compressed(&text, accept)), None, "{accept}");
        }
    }

    #[test]
    fn two_kilobytes_are_sent_as_they_are() {
        assert_eq!(encoding(&compressed(&"x".repeat(2048), "gzip")), None);
        assert_eq!(encoding(&compressed(&"x".repeat(2049), "gzip")), Some("gzip"));
    }

    #[test]
    fn caches_are_told_what_the_answer_depends_on() {
        let mut response = compressed("short", "");
        assert!(response.headers.contains(&("Vary", "Accept-Encoding".to_owned())));
        response.headers = vec![("Vary", "Accept".to_owned())];
        compress(&mut response, "");
        assert_eq!(response.headers, [("Vary", "Accept, Accept-Encoding".to_owned())]);
    }
}
