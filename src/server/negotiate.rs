//! How answers are dressed: content types, the format a client asks for, compression, and what a page's script may do.
//! The headers that every answer bears are those of `http`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::{BodyPart, Request, Response};
use crate::config::exporter::Access;
use crate::exposition::page::{Families, PagePiece, pieces};
use crate::exposition::{Format, negotiate};
use crate::plain_text::one_line;

use super::compress;

/// A short plain text. It may hold names of a request or of a file, and is read in terminals: of each line what is harmless.
#[must_use]
pub fn text(status: u16, text: &str) -> Response {
    let lines: Vec<_> = text.split('\n').map(one_line).collect();
    Response::text(status, lines.join("\n"))
}

/// The exposition format that a request asks for, by all its `Accept` headers.
#[must_use]
pub fn format(request: &Request) -> &'static dyn Format {
    negotiate(&joined(request, "accept"))
}

/// A page of families. Blocks are passed on as they are, not copied together.
#[must_use]
pub fn exposition(families: &Families, format: &dyn Format) -> Response {
    let part = |piece| match piece {
        PagePiece::Text(bytes) => BodyPart::Owned(bytes),
        PagePiece::Lines(block) => BodyPart::Shared(block as Arc<dyn AsRef<[u8]> + Send + Sync>),
    };
    let headers = vec![("Content-Type", format.content_type().to_owned()), ("Vary", "Accept".to_owned())];
    Response::new(200, headers, pieces(families, format).into_iter().map(part).collect())
}

/// All values of a header as the one list that they are (RFC 9110, section 5.3).
fn joined(request: &Request, name: &str) -> String {
    request.header(name).collect::<Vec<_>>().join(",")
}

/// Refuses who may not; `key` is the setting that says so.
///
/// # Errors
/// The answer: 403, or 404 for what is switched off.
pub fn admit(who: Access, request: &Request, key: &str) -> Result<(), Response> {
    match who {
        Access::Everybody => Ok(()),
        Access::Loopback if request.peer.is_loopback() => Ok(()),
        Access::Loopback => Err(text(403, &format!("for this machine only (exporter.{key})\n"))),
        Access::Nobody => Err(text(404, &format!("switched off (exporter.{key})\n"))),
    }
}

/// A page for people. It may load nothing, send nothing and be framed nowhere; its style is in it, and of scripts only
/// `script` runs.
#[must_use]
pub fn html(html: String, script: &str) -> Response {
    let hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let headers =
        vec![("Content-Type", "text/html; charset=utf-8".to_owned()), ("Content-Security-Policy", policy)];
    Response::new(200, headers, vec![BodyPart::Owned(html.into_bytes())])
}

/// Compresses a long answer for clients that accept it.
pub fn dress(response: &mut Response, request: &Request) {
    compress::compress(response, &joined(request, "accept-encoding"));
}

/// Sends a browser to another path of this server.
#[must_use]
pub fn redirect(path: &str) -> Response {
    let mut response = text(302, &format!("see {path}\n"));
    response.headers.push(("Location", path.to_owned()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_answer_steers_no_terminal() {
        let answer = text(400, "no target a\u{1b}[31m\u{202e}\r\nthe nearest: b\n");
        let [BodyPart::Owned(body)] = &answer.body[..] else { panic!("one part") };
        assert_eq!(String::from_utf8_lossy(body), "no target a␛[31m\u{fffd}␍\nthe nearest: b\n");
    }
}
