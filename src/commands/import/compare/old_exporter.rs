//! Fetches the page of the exporter that is replaced: one GET, bounded in time and size.
//!
//! The only user of ureq. Knows HTTP and nothing of what the page says.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::page::Syntax;
use crate::deadline::{Deadline, duration_text};
use crate::driver::connection::tls;
use crate::error::Error;
use crate::secret::Secret;

/// As much as a page of ours may have by default.
const MAX_PAGE_BYTES: u64 = 64 << 20;

/// Text formats that Prometheus scrapes, in its order.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// An exporter at a URL.
#[derive(Debug)]
pub(super) struct OldExporter {
    /// Without user and password.
    url: String,
    /// As messages have it: also without what stands behind the `?`, which may be a token or an address.
    shown: String,
    is_https: bool,
    /// The value of the header `Authorization`.
    login: Option<Secret>,
}

/// A page, and the format that its head names.
#[derive(Debug)]
pub(super) struct FetchedPage {
    pub(super) text: String,
    pub(super) syntax: Syntax,
}

impl OldExporter {
    /// Reads the value of `--compare`. A URL without a path means `/metrics`.
    ///
    /// # Errors
    /// It is not an http or https URL.
    pub(super) fn new(text: &str) -> Result<OldExporter, Error> {
        let wrong = |message: &str| {
            Error::config(format!("--compare: {message}"))
                .with_hint("write http://HOST:PORT/metrics, or https://USER:PASSWORD@HOST:PORT/metrics")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("the value is not a URL"))?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(wrong(&format!("{scheme}:// is neither http:// nor https://")));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password with one of these ends there: what follows is not a path, and what precedes is not a host.
        if path.contains('@') {
            return Err(wrong(
                "an `@` stands behind the host; write / ? # @ in a user or a password as %2F %3F %23 %40",
            ));
        }
        let path = path.split('#').next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err(wrong("the URL has no host"));
        }
        let path = if path.is_empty() { "/metrics" } else { path };
        let login = user.map(|user| Secret::new(format!("Basic {}", STANDARD.encode(decoded(user)))));
        let url = format!("{scheme}://{host}{path}");
        let shown = match url.split_once('?') {
            Some((before, _)) => format!("{before}?…"),
            None => url.clone(),
        };
        if url.parse::<ureq::http::Uri>().is_err() {
            return Err(wrong(&format!("{shown} is not a URL")));
        }
        Ok(OldExporter { url, shown, is_https: scheme == "https", login })
    }

    /// Gets the page. Blocks until `by` at most; `timeout` is what the user calls that.
    ///
    /// # Errors
    /// There is none, or it is too long, or not UTF-8, or not a page of metrics.
    pub(super) fn fetch(&self, by: Deadline, timeout: Duration) -> Result<FetchedPage, Error> {
        let agent = self.agent(by)?;
        let mut request = agent.get(&self.url).header(ACCEPT, ACCEPTED);
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login.expose());
        }
        let failed = |error| self.failed(&error, timeout);
        let mut response = request.call().map_err(failed)?;
        self.check_status(response.status())?;
        let syntax = self.syntax(&response)?;
        let bytes = response.body_mut().with_config().limit(MAX_PAGE_BYTES).read_to_vec().map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|error| self.unreadable(&error.to_string()))?;
        Ok(FetchedPage { text, syntax })
    }

    /// An error for a page that is not as it must be.
    pub(super) fn unreadable(&self, fault: &str) -> Error {
        Error::machine(format!("the page of {} cannot be read: {fault}", self.shown))
    }

    fn agent(&self, by: Deadline) -> Result<Agent, Error> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(by.left()))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(format!("sql-exporter/{}", crate::VERSION))
            // As Prometheus, which asks directly unless it is told otherwise.
            .proxy(None);
        if self.is_https {
            config = config.tls_config(trusting_the_system()?);
        }
        Ok(config.build().new_agent())
    }

    fn failed(&self, error: &ureq::Error, timeout: Duration) -> Error {
        let url = &self.shown;
        match error {
            ureq::Error::Timeout(_) => {
                Error::machine(format!("{url} has not answered within {}", duration_text(timeout)))
                    .with_hint("give it longer with --timeout")
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                Error::machine(format!("the page of {url} is longer than {} MiB", limit >> 20))
            }
            ureq::Error::HostNotFound => Error::machine(format!("{url}: the host name has no address")),
            ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Error::machine(format!("{url}: TLS: {error}")).with_hint(
                    "SSL_CERT_FILE=FILE names the certificates of authorities to trust instead of the system's",
                )
            }
            ureq::Error::Io(error) => Error::machine(format!("{url}: {error}")),
            other => Error::machine(format!("{url}: {other}")),
        }
    }

    fn check_status(&self, status: StatusCode) -> Result<(), Error> {
        if status == StatusCode::OK {
            return Ok(());
        }
        let error = Error::machine(format!("{} answers {status}", self.shown));
        Err(match (status, &self.login) {
            (StatusCode::UNAUTHORIZED, None) => error.with_hint("write USER:PASSWORD@ before the host"),
            (StatusCode::UNAUTHORIZED, Some(_)) => error.with_hint("check user and password in the URL"),
            (StatusCode::NOT_FOUND, _) => error.with_hint("check the path: most exporters have /metrics"),
            _ => error,
        })
    }

    /// The format of the page. A server that names none means text.
    fn syntax(&self, response: &Response<Body>) -> Result<Syntax, Error> {
        let header = response.headers().get(CONTENT_TYPE);
        let header = header.map_or("", |value| value.to_str().unwrap_or_default());
        let media = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "application/openmetrics-text" => Ok(Syntax::OpenMetrics),
            "text/html" | "application/vnd.google.protobuf" => Err(self
                .unreadable(&format!("its Content-Type is {media}"))
                .with_hint("check the path: most exporters have /metrics")),
            _ => Ok(Syntax::Text),
        }
    }
}

/// `USER:PASSWORD` as bytes, without percent signs; a password is optional.
fn decoded(user: &str) -> Vec<u8> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut bytes: Vec<u8> = percent_decode_str(name).collect();
    bytes.push(b':');
    bytes.extend(percent_decode_str(password));
    bytes
}

/// The system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn trusting_the_system() -> Result<TlsConfig, Error> {
    let roots: Vec<_> =
        tls::system_certificates()?.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_login() {
        let exporter = OldExporter::new("HTTPS://us%40er:p%3A@s@host.example:9187/m?a=b#top").unwrap();
        assert_eq!((&*exporter.url, exporter.is_https), ("https://host.example:9187/m?a=b", true));
        assert_eq!(exporter.shown, "https://host.example:9187/m?…");
        let login = exporter.login.as_ref().unwrap();
        assert_eq!(login.expose(), format!("Basic {}", STANDARD.encode("us@er:p:@s")));
        assert!(!format!("{exporter:?}").contains("Basic"));
        assert_eq!(OldExporter::new("http://user@[::1]:1").unwrap().url, "http://[::1]:1/metrics");
        assert_eq!(OldExporter::new("http://host/").unwrap().url, "http://host/");
        assert_eq!(OldExporter::new("http://host?x=1").unwrap().url, "http://host?x=1");
    }

    #[test]
    fn what_is_not_a_url_says_so() {
        for text in [
            "localhost:9187",
            "ftp://host",
            "http://",
            "http://user:secret@/metrics",
            "http://a b/?secret",
            "http://user:secret/1@host/metrics",
            "http://user:secret?1@host/metrics",
            "http://user:secret#1@host/metrics",
            "http://user:1@2?secret@host/metrics",
            "http://host/probe?target=u:secret@db",
        ] {
            let error = OldExporter::new(text).unwrap_err().to_string();
            assert!(error.contains("--compare: ") && !error.contains("secret"), "{error}");
        }
    }
}
