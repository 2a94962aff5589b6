//! Format and compression by what a request accepts (RFC 9110, sections 12.5.1 and 12.5.3).

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{BodyPart, BodySize, Request, Response};
use crate::exposition::Format;
use crate::exposition::accept;

/// Shorter responses fit into a packet or two as they are.
const MIN_COMPRESSED: usize = 2048;
/// The ratio of an exposition at level 1 is about 1 : 5; a buffer of this fraction of the text seldom grows.
const EXPECTED_RATIO: usize = 4;

/// All values of a header as the one list that they are (RFC 9110, section 5.3).
fn joined(request: &Request, name: &str) -> String {
    request.header(name).collect::<Vec<_>>().join(",")
}

/// The exposition format that a request accepts best.
pub fn format(request: &Request) -> &'static dyn Format {
    crate::exposition::negotiate(&joined(request, "accept"))
}

/// Compresses a long response for clients that prefer gzip. `Vary` says in either case that the response depends on
/// `Accept-Encoding`.
pub fn compress(response: &mut Response, request: &Request) {
    match response.headers.iter_mut().find(|(name, _)| *name == "Vary") {
        Some((_, value)) => value.push_str(", Accept-Encoding"),
        None => response.headers.push(("Vary", "Accept-Encoding".to_owned())),
    }
    let length = response.length();
    if length <= MIN_COMPRESSED || !accept::prefers_gzip(&joined(request, "accept-encoding")) {
        return;
    }
    // Writing into memory does not fail; if it did, the response goes out as it is.
    if let Ok(bytes) = compressed(response, length) {
        let own = |part: &BodyPart| if let BodyPart::Owned(bytes) = part { bytes.len() } else { 0 };
        let own = response.body.iter().map(own).sum();
        response.uncompressed = BodySize { own, shared: length - own };
        response.body = vec![BodyPart::Owned(bytes)];
        response.headers.push(("Content-Encoding", "gzip".to_owned()));
    }
}

/// All parts as one gzip member.
fn compressed(response: &Response, length: usize) -> io::Result<Vec<u8>> {
    let buffer = Vec::with_capacity(length / EXPECTED_RATIO);
    let mut encoder = GzEncoder::new(buffer, Compression::fast());
    response.body.iter().try_for_each(|part| encoder.write_all(part.bytes()))?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Barrier;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::server::message::tests::get;

    fn request(accept_encoding: &str) -> Request {
        let headers = vec![("accept-encoding".to_owned(), accept_encoding.to_owned())];
        Request { headers, ..get("/metrics") }
    }

    fn answered(text: &str, accept_encoding: &str) -> Response {
        let mut response = Response::text(200, text);
        compress(&mut response, &request(accept_encoding));
        response
    }

    fn encoding(response: &Response) -> Option<&str> {
        response.headers.iter().find(|(name, _)| *name == "Content-Encoding").map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_long_answer_is_compressed_for_who_asks() {
        let text = "sql_exporter_build_info 1\n".repeat(100);
        let accepting =
            ["gzip", "deflate, GZIP;q=0.5", "*", "identity, x-gzip", "gzip;q=0.001", "gzip, identity;q=0.5"];
        for accept in accepting {
            let response = answered(&text, accept);
            assert_eq!(encoding(&response), Some("gzip"), "{accept}");
            let bytes = response.body[0].bytes();
            assert!(bytes.len() < text.len() / 4);
            let mut read = String::new();
            GzDecoder::new(bytes).read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn answers_of_all_sizes_come_out_as_they_were() {
        let noise: String =
            (0..200_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
        for text in ["a short answer ".repeat(200), noise, "and a short one again ".repeat(200)] {
            let response = answered(&text, "gzip");
            let mut read = String::new();
            GzDecoder::new(response.body[0].bytes()).read_to_string(&mut read).unwrap();
            assert!(read == text);
        }
    }

    #[test]
    fn many_threads_compress_at_once() {
        let text = "sql_exporter_build_info 1\n".repeat(1_000);
        let begin = Barrier::new(40);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    begin.wait();
                    assert_eq!(encoding(&answered(&text, "gzip")), Some("gzip"));
                });
            }
        });
    }

    #[test]
    fn an_answer_is_left_alone_where_gzip_is_not_wanted() {
        let text = "x".repeat(10_000);
        let unwilling =
            ["", "deflate", "gzip;q=0", "gzip;q=0, *", "*;q=0", "br, identity", "gzip;q=0.5, identity"];
        for accept in unwilling {
            assert_eq!(encoding(&answered(&text, accept)), None, "{accept}");
        }
    }

    #[test]
    fn two_kilobytes_are_sent_as_they_are() {
        assert_eq!(encoding(&answered(&"x".repeat(2048), "gzip")), None);
        assert_eq!(encoding(&answered(&"x".repeat(2049), "gzip")), Some("gzip"));
    }

    #[test]
    fn caches_are_told_what_the_answer_depends_on() {
        let mut response = answered("short", "");
        assert!(response.headers.contains(&("Vary", "Accept-Encoding".to_owned())));
        response.headers = vec![("Vary", "Accept".to_owned())];
        compress(&mut response, &request(""));
        assert_eq!(response.headers, [("Vary", "Accept, Accept-Encoding".to_owned())]);
    }
}
