//! What a page of another site can have a browser do here, and may not: a browser that stands on this machine, or in this
//! network, reaches what the page's author cannot.
//!
//! - Read: no answer says that other sites may (no CORS header), and none may be embedded. But a page whose own name
//!   resolves to this machine is of no other site for the browser: so [`host`].
//! - Send: a browser sends a GET or a POST for any page and keeps the answer to itself. What a request does is done all
//!   the same: so [`sender`] for a reload, and [`embedded`] for pages that run queries.

use super::{Peer, Request, Response};
use crate::config::hosts::AllowedHosts;

use super::negotiate;

/// What the browser says of who asks: <https://www.w3.org/TR/fetch-metadata/>. No page can set it.
const SITE: &str = "sec-fetch-site";
/// What the answer is for: `document` is a page of its own, in a tab.
const FOR: &str = "sec-fetch-dest";

/// Refuses a request under the name of another site. No browser asks over a Unix socket.
///
/// # Errors
/// The refusal.
pub(crate) fn host(hosts: &AllowedHosts, request: &Request) -> Result<(), Response> {
    // One at most passes the gate; HTTP/1.0, which no browser speaks, may have none.
    let Some(host) = request.header("host").next().filter(|_| request.peer != Peer::Unix) else {
        return Ok(());
    };
    if hosts.accept(host, request.authenticated) {
        return Ok(());
    }
    let message = format!(
        "{host} is not among the names of this exporter; add it to exporter.http.hosts, or ask by address\n"
    );
    Err(negotiate::text(403, &message))
}

/// Refuses what a page of another site sends: by what the browser says of it; where it says nothing, as older ones do, by
/// `Origin`, by `Referer`, and by what only the form of a page asks for.
///
/// # Errors
/// The refusal.
pub(crate) fn sender(request: &Request) -> Result<(), Response> {
    let foreign = if says_who_asks(request) {
        is_foreign(request)
    } else {
        let other = |name| request.header(name).any(|source| !is_ours(source, request));
        let form = request.header("accept").any(|accept| accept.contains("text/html"));
        other("origin") || other("referer") || form && request.header("origin").next().is_none()
    };
    if foreign { Err(negotiate::text(403, "another site's page may not do this\n")) } else { Ok(()) }
}

/// Refuses to run queries for what a page of another site embeds: an image, a script, a frame, a request that it would not
/// get to read.
///
/// # Errors
/// The refusal.
pub(crate) fn embedded(request: &Request) -> Result<(), Response> {
    let own_page = request.header(FOR).any(|purpose| purpose == "document");
    if is_foreign(request) && !own_page {
        return Err(negotiate::text(403, "another site's page may not embed this\n"));
    }
    Ok(())
}

fn says_who_asks(request: &Request) -> bool {
    request.header(SITE).next().is_some()
}

/// By what the browser says: neither a page of ours nor the user himself.
fn is_foreign(request: &Request) -> bool {
    request.header(SITE).any(|from| !matches!(from, "same-origin" | "none"))
}

/// Whether an origin, or the address of a page, has the name and port that the request is for.
fn is_ours(source: &str, request: &Request) -> bool {
    let Some((_, rest)) = source.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    request.header("host").any(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::Method;

    fn asking(headers: &[(&str, &str)]) -> Request {
        let own = [("host", "127.0.0.1:9399")];
        let headers =
            own.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request {
            method: Method::Post,
            path: "/-/reload".to_owned(),
            query: Vec::new(),
            headers: headers.collect(),
            peer: Peer::Address([127, 0, 0, 1].into()),
            authenticated: false,
            over_tls: false,
            received: Instant::now(),
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
            assert!(sender(&asking(ours)).is_ok(), "{ours:?}");
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
            assert_eq!(sender(&asking(other)).err().map(|refusal| refusal.status), Some(403), "{other:?}");
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
            assert!(embedded(&asking(opened)).is_ok(), "{opened:?}");
        }
        for purpose in ["image", "script", "iframe", "empty", ""] {
            for site in ["cross-site", "same-site"] {
                let request = asking(&[("sec-fetch-site", site), ("sec-fetch-dest", purpose)]);
                assert!(embedded(&request).is_err(), "{site} {purpose}");
            }
        }
    }

    #[test]
    fn a_foreign_name_is_refused_with_the_key_that_lets_it_in() {
        let mut request = asking(&[]);
        assert!(host(&AllowedHosts::Machine, &request).is_ok());
        request.headers[0].1 = "evil.example:9399".to_owned();
        let refusal = host(&AllowedHosts::Machine, &request).err().unwrap();
        let text = String::from_utf8(refusal.body[0].bytes().to_vec()).unwrap();
        assert!(
            text.starts_with("evil.example:9399 is not among") && text.contains("exporter.http.hosts"),
            "{text}"
        );
        assert!(host(&AllowedHosts::Listed(vec!["evil.example".to_owned()]), &request).is_ok());
        request.peer = Peer::Unix;
        assert!(host(&AllowedHosts::Machine, &request).is_ok());
        request.headers.clear();
        request.peer = Peer::Address([127, 0, 0, 1].into());
        assert!(host(&AllowedHosts::Machine, &request).is_ok());
    }
}
