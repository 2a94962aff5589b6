//! Answers as gzip for clients that can read it (`Accept-Encoding`, RFC 9110 section 12.5.3).

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{BodyPart, BodySize, Response};
use crate::exposition::accept::preferences;

/// Shorter answers fit into a packet or two as they are.
const SMALL: usize = 2048;

/// The ratio of an exposition at level 1 is about 1 : 5; a buffer of this part of the text seldom grows.
const EXPECTED_RATIO: usize = 4;
/// At least so much is added to a buffer that is full.
const MORE: usize = 16 * 1024;
/// The largest window that gzip has (RFC 1952 allows what deflate does: 32 KiB).
const WINDOW_BITS: u8 = 15;

thread_local! {
    /// The compressor with its tables of some 300 KiB: to make and clear them takes longer than a small page. A thread
    /// that answers requests ends when there are none, and they with it.
    static COMPRESSOR: RefCell<Compress> =
        RefCell::new(Compress::new_gzip(Compression::fast(), WINDOW_BITS));
}

/// Compresses the body if the client wants that and the body is long enough to gain by it. That the answer depends on
/// the header is said in either case.
pub(crate) fn compress(response: &mut Response, accept_encoding: &str) {
    vary(response);
    let length: usize = response.body.iter().map(|part| part.bytes().len()).sum();
    if length <= SMALL || !wanted(accept_encoding) {
        return;
    }
    // Invariant: writing into memory does not fail; if it did, the answer goes out as it is.
    if let Some(bytes) = COMPRESSOR.with_borrow_mut(|compressor| compressed(compressor, response, length)) {
        let own = |part: &BodyPart| if let BodyPart::Owned(bytes) = part { bytes.len() } else { 0 };
        let own = response.body.iter().map(own).sum();
        response.uncompressed = BodySize { own, shared: length - own };
        response.body = vec![BodyPart::Owned(bytes)];
        response.headers.push(("Content-Encoding", "gzip".to_owned()));
    }
}

/// All parts as one gzip member.
fn compressed(compressor: &mut Compress, response: &Response, length: usize) -> Option<Vec<u8>> {
    compressor.reset();
    let mut out = Vec::with_capacity(length / EXPECTED_RATIO + MORE);
    for part in &response.body {
        let mut rest = part.bytes();
        while !rest.is_empty() {
            let before = compressor.total_in();
            compressor.compress_vec(rest, &mut out, FlushCompress::None).ok()?;
            let taken = usize::try_from(compressor.total_in() - before).ok()?;
            rest = rest.get(taken..)?;
            make_room(&mut out);
        }
    }
    while compressor.compress_vec(&[], &mut out, FlushCompress::Finish).ok()? != Status::StreamEnd {
        make_room(&mut out);
    }
    Some(out)
}

/// The compressor writes into what is free and goes no further.
fn make_room(out: &mut Vec<u8>) {
    if out.len() == out.capacity() {
        out.reserve(out.len().max(MORE));
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

    fn answered(text: &str, accept_encoding: &str) -> Response {
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
    fn one_compressor_serves_one_answer_after_the_other() {
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
    fn an_answer_is_left_alone_where_gzip_is_not_wanted() {
        let text = "x".repeat(10_000);
        for accept in ["", "deflate", "gzip;q=0", "gzip;q=0, *", "*;q=0", "br, identity"] {
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
        compress(&mut response, "");
        assert_eq!(response.headers, [("Vary", "Accept, Accept-Encoding".to_owned())]);
    }
}
