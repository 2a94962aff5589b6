//! What a page of another site can make a browser do here, and must not: a browser on this machine, or in this network,
//! reaches what the page's author cannot.
//!
//! - Read: no response allows other sites to read it (no CORS header), and none may be embedded. But a page whose own host
//!   name resolves to this machine is the same site for the browser: hence [`check_host`].
//! - Send: a browser sends a GET or a POST for any page and keeps the response from it. The request takes effect all the
//!   same: hence [`check_sender`] for a reload, and [`check_embedding`] for pages that run queries.

use super::{Request, Response};
use crate::config::hosts::AllowedHosts;

/// What the browser says of the requesting page: <https://www.w3.org/TR/fetch-metadata/>. No page can set it.
const FETCH_SITE: &str = "sec-fetch-site";
/// What the response is for: `document` is a page of its own, in a tab.
const FETCH_DEST: &str = "sec-fetch-dest";

/// Refuses a request to a host name that is not ours, over a Unix socket too: a proxy there passes on what browsers send.
///
/// # Errors
/// The refusal.
pub(super) fn check_host(hosts: &AllowedHosts, request: &Request) -> Result<(), Response> {
    // At most one passes the gate; HTTP/1.0, which no browser uses, may have none.
    let Some(host) = request.header("host").next() else { return Ok(()) };
    if hosts.accept(host, request.authenticated) {
        return Ok(());
    }
    let message = format!(
        "{host} is not among the names of this exporter; add it to exporter.http.hosts, or use the IP address\n"
    );
    Err(Response::text(403, message))
}

/// Refuses what a page of another site sends: by what the browser says of it; where it says nothing, as older browsers do,
/// by `Origin`, by `Referer`, and by what only the form of a page sends.
///
/// # Errors
/// The refusal.
pub(super) fn check_sender(request: &Request) -> Result<(), Response> {
    let is_foreign = if request.header(FETCH_SITE).next().is_some() {
        is_foreign(request)
    } else {
        let is_other = |name| request.header(name).any(|source| !is_ours(source, request));
        let is_form = request.header("accept").any(|accept| accept.contains("text/html"));
        is_other("origin") || is_other("referer") || is_form && request.header("origin").next().is_none()
    };
    if is_foreign { Err(Response::text(403, "a page of another site may not do this\n")) } else { Ok(()) }
}

/// Refuses to run queries for what a page of another site embeds: an image, a script, a frame, a request whose response it
/// could not read.
///
/// # Errors
/// The refusal.
pub(super) fn check_embedding(request: &Request) -> Result<(), Response> {
    let is_document = request.header(FETCH_DEST).any(|purpose| purpose == "document");
    if is_foreign(request) && !is_document {
        return Err(Response::text(403, "a page of another site may not embed this\n"));
    }
    Ok(())
}

/// By what the browser says: neither a page of ours nor the user.
fn is_foreign(request: &Request) -> bool {
    request.header(FETCH_SITE).any(|site| !matches!(site, "same-origin" | "none"))
}

/// Whether an origin, or the address of a page, has the host and port that the request was sent to.
fn is_ours(source: &str, request: &Request) -> bool {
    let Some((_, rest)) = source.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    request.header("host").any(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::message::tests::get;
    use crate::server::{Method, Peer};

    fn asking(headers: &[(&str, &str)]) -> Request {
        let own = [("host", "127.0.0.1:9399")];
        let headers =
            own.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request {
            method: Method::Post,
            headers: headers.collect(),
            peer: Peer::Address([127, 0, 0, 1].into()),
            ..get("/-/reload")
        }
    }

    #[test]
    fn a_tool_and_a_page_of_ours_may_send_and_no_other_page() {
        for ours in [
            &[][..],
            &[("accept", "*/*"), ("content-type", "application/x-www-form-urlencoded")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://127.0.0.1:9399")],
            &[("origin", "HTTP://127.0.0.1:9399"), ("referer", "http://127.0.0.1:9399/config?x")],
        ] {
            assert!(check_sender(&asking(ours)).is_ok(), "{ours:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:9399")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:9398")],
            &[("origin", "http://127.0.0.1")],
            &[("origin", "http://127.0.0.1:9399.evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://127.0.0.1:9399"), ("origin", "http://evil.example")],
            &[("referer", "http://evil.example/127.0.0.1:9399")],
            &[("referer", "http://evil.example?http://127.0.0.1:9399/")],
            &[("accept", "text/html,application/xhtml+xml")],
        ] {
            assert_eq!(
                check_sender(&asking(other)).err().map(|refusal| refusal.status),
                Some(403),
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_page_that_runs_queries_is_opened_and_not_embedded() {
        for opened in [
            &[][..],
            &[("sec-fetch-site", "none"), ("sec-fetch-dest", "document")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "empty")],
            &[("origin", "http://evil.example")],
        ] {
            assert!(check_embedding(&asking(opened)).is_ok(), "{opened:?}");
        }
        for purpose in ["image", "script", "iframe", "empty", ""] {
            for site in ["cross-site", "same-site"] {
                let request = asking(&[("sec-fetch-site", site), ("sec-fetch-dest", purpose)]);
                assert!(check_embedding(&request).is_err(), "{site} {purpose}");
            }
        }
    }

    #[test]
    fn a_foreign_name_is_refused_with_the_key_that_lets_it_in() {
        let mut request = asking(&[]);
        assert!(check_host(&AllowedHosts::Machine, &request).is_ok());
        request.headers[0].1 = "evil.example:9399".to_owned();
        let refusal = check_host(&AllowedHosts::Machine, &request).err().unwrap();
        let text = String::from_utf8(refusal.body[0].bytes().to_vec()).unwrap();
        assert!(
            text.starts_with("evil.example:9399 is not among") && text.contains("exporter.http.hosts"),
            "{text}"
        );
        assert!(check_host(&AllowedHosts::Listed(vec!["evil.example".to_owned()]), &request).is_ok());
        request.peer = Peer::Unix;
        assert!(check_host(&AllowedHosts::Machine, &request).is_err(), "from a proxy");
        request.headers.clear();
        for peer in [Peer::Unix, Peer::Address([127, 0, 0, 1].into())] {
            request.peer = peer;
            assert!(check_host(&AllowedHosts::Machine, &request).is_ok());
        }
    }
}
