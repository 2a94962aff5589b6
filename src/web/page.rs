//! How answers are dressed: content types and the headers that keep a browser from guessing.

use std::sync::Arc;

use crate::exposition::Format;
use crate::exposition::page::{Families, Piece, pieces};
use crate::http::{Part, Response};

/// A short plain text.
#[must_use]
pub fn text(status: u16, text: &str) -> Response {
    Response::text(status, text)
}

/// A page of families. Blocks are passed on as they are, not copied together.
#[must_use]
pub fn exposition(families: &Families, format: &dyn Format) -> Response {
    let part = |piece| match piece {
        Piece::Text(bytes) => Part::Owned(bytes),
        Piece::Lines(block) => Part::Shared(block as Arc<dyn AsRef<[u8]> + Send + Sync>),
    };
    Response {
        status: 200,
        headers: vec![("Content-Type", format.content_type().to_owned())],
        body: pieces(families, format).into_iter().map(part).collect(),
    }
}

/// A page for people. It may load nothing, send nothing and be framed nowhere; its style is in it.
#[must_use]
pub fn html(html: String) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    Response {
        status: 200,
        headers: vec![
            ("Content-Type", "text/html; charset=utf-8".to_owned()),
            ("Content-Security-Policy", POLICY.to_owned()),
            ("X-Frame-Options", "DENY".to_owned()),
            ("Referrer-Policy", "no-referrer".to_owned()),
        ],
        body: vec![Part::Owned(html.into_bytes())],
    }
}

/// Adds what every answer bears.
pub fn dress(response: &mut Response) {
    response.headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
    response.headers.push(("Cache-Control", "no-store".to_owned()));
}
