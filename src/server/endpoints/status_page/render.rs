//! The view as HTML. All markup is literal; what varies enters at a `{}` of [`Html::add`], which escapes it.

use std::time::Duration;

use super::{QueryView, ShownFailure, StatusView, TargetState, TargetView};
use crate::config::route_prefix::RoutePrefix;
use crate::error::Reason;

const STYLE: &str = include_str!("style.css");
/// The page's only script; its policy names it by its hash.
pub(super) const SCRIPT: &str = include_str!("script.js");

/// With more targets than this the healthy ones are folded.
const MAX_OPEN: usize = 20;
/// With more targets than this there is a field to filter by.
const MAX_UNFILTERED: usize = 5;

struct Html(String);

impl Html {
    fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Appends markup in which each `{}` is replaced by the next of `texts`, escaped.
    fn add(&mut self, markup: &'static str, texts: &[&str]) {
        let mut texts = texts.iter();
        for (at, literal) in markup.split("{}").enumerate() {
            if at > 0 {
                self.escape(texts.next().unwrap_or(&""));
            }
            self.0.push_str(literal);
        }
    }

    fn escape(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // HTML does not allow control characters.
                other if other.is_control() && !matches!(other, '\n' | '\t') => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
    }
}

/// The page. `full`: with the messages of databases, else only reasons and codes.
pub(super) fn render(view: &StatusView, full: bool) -> String {
    let mut html = Html(String::with_capacity(4096 + 512 * view.targets.len()));
    let summary = summary(view);
    // Without an icon of its own the browser would request one.
    html.add(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <link rel=icon href=\"data:,\"><title>sql-exporter: {}</title><style>",
        &[&summary],
    );
    html.raw(STYLE);
    html.add(
        "</style></head>\n<body><header><h1>sql-exporter</h1><p>version {}, {}</p><nav>",
        &[env!("CARGO_PKG_VERSION"), &summary],
    );
    for path in ["/metrics", "/-/metrics", "/sd", "/config"] {
        let path = view.prefix.path(path);
        html.add("<a href=\"{}\">{}</a> ", &[&path, &path]);
    }
    html.raw("</nav>\n");
    if view.targets.len() > MAX_UNFILTERED {
        html.raw(
            "<p hidden><label>Filter <input type=search autocomplete=off placeholder=\"press /\"></label> \
             <output aria-live=polite></output></p>\n",
        );
    }
    html.raw("</header>\n<main>\n");
    for target in &view.targets {
        let open = view.targets.len() <= MAX_OPEN || target.is_bad();
        add_target(&mut html, target, &view.prefix, open, full);
    }
    html.raw("</main>\n<footer><p>As of the last scrapes, the worst first; this page runs no query.");
    if !full {
        html.raw(" Messages of databases are shown to clients on this machine and to authenticated ones.");
    }
    html.raw("</p></footer>");
    if view.targets.len() > MAX_UNFILTERED {
        html.raw("<script>");
        html.raw(SCRIPT);
        html.raw("</script>");
    }
    html.raw("</body></html>\n");
    html.0
}

fn summary(view: &StatusView) -> String {
    let down = view.targets.iter().filter(|target| target.state == TargetState::Down).count();
    let failing: usize = view.targets.iter().map(TargetView::failing).sum();
    let count =
        |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
    let targets = count(view.targets.len(), "target", "targets");
    let queries = count(view.targets.iter().map(|target| target.queries.len()).sum(), "query", "queries");
    format!("{targets}, {down} down; {queries}, {failing} failing")
}

fn add_target(html: &mut Html, target: &TargetView, prefix: &RoutePrefix, open: bool, full: bool) {
    let (class, state) = match target.state {
        TargetState::New => ("new", "not scraped yet"),
        TargetState::Up => ("up", "up"),
        TargetState::Down => ("down", "down"),
        TargetState::Disabled => ("new", "disabled"),
    };
    let open = if open { " open" } else { "" };
    html.add("<details{}><summary><h2>{}</h2> <span class={}>{}</span>", &[open, &target.name, class, state]);
    if target.state == TargetState::Up && target.failing() > 0 {
        html.add(" <span class=bad>{} failing</span>", &[&target.failing().to_string()]);
    }
    html.add("</summary>\n<p>{}", &[&target.driver]);
    for fact in target.facts.iter().filter(|fact| !fact.is_empty()) {
        html.add(" · {}", &[fact]);
    }
    for (name, value) in &target.labels {
        html.add(" · <code>{}=\"{}\"</code>", &[name, value]);
    }
    let name: String = form_urlencoded::byte_serialize(target.name.as_bytes()).collect();
    html.add(" · <a href=\"{}{}\">probe</a></p>\n", &[&prefix.path("/probe?target="), &name]);
    if let Some(failure) = &target.failure {
        html.raw("<p class=bad>");
        add_failure(html, failure, full);
        if !target.backoff.is_zero() {
            html.add("; next attempt in {}", &[&span(target.backoff)]);
        }
        html.raw("</p>\n");
    }
    if !target.queries.is_empty() {
        html.raw(
            "<table><thead><tr><th>query<th>collector<th>duration<th>rows<th>series<th>age<th>state<tbody>\n",
        );
        target.queries.iter().for_each(|query| add_query(html, query, full));
        html.raw("</table>\n");
    }
    html.raw("</details>\n");
}

/// In HTML a row and its cells may end where the next one begins, which saves half of the bytes.
fn add_query(html: &mut Html, query: &QueryView, full: bool) {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let span = |span: Option<Duration>| span.map(self::span).unwrap_or_default();
    html.add(
        "<tr><th scope=row>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
        &[
            &query.name,
            &query.collector,
            &span(query.took),
            &count(query.rows),
            &count(query.series),
            &span(query.age),
        ],
    );
    match (&query.failure, query.age) {
        _ if !query.enabled => html.raw("<td>disabled"),
        (Some(failure), _) => {
            html.raw("<td class=bad>");
            add_failure(html, failure, full);
        }
        (None, _) if query.skipped.is_some() => add_skipped(html, query.skipped.as_ref(), full),
        (None, None) => html.raw("<td>not run yet"),
        (None, Some(_)) => html.raw("<td>good"),
    }
    html.raw("\n");
}

/// The text may be the database's: it is for trusted clients, as the message of a failure is.
fn add_skipped(html: &mut Html, skipped: Option<&(&'static str, String)>, full: bool) {
    let Some((reason, text)) = skipped else { return };
    html.add("<td>skipped: {}", &[reason]);
    if full {
        html.add(", {}", &[text]);
    }
}

fn add_failure(html: &mut Html, failure: &ShownFailure, full: bool) {
    html.add("<strong>{}</strong>", &[failure.reason.as_str()]);
    if let Some(code) = &failure.sqlstate {
        html.add(" [{}]", &[code]);
    }
    html.add(": {}", &[explanation(failure.reason)]);
    if full && !failure.message.is_empty() {
        html.add("; {}", &[&failure.message]);
    }
}

/// A failure's reason in a sentence, for clients that may not read the database's own message.
fn explanation(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "the server cannot be reached",
        Reason::Resolve => "the host name has no address",
        Reason::Auth => "the login was refused",
        Reason::Tls => "the TLS handshake failed",
        Reason::Lost => "the connection broke",
        Reason::Timeout => "it did not end in time",
        Reason::Wedged => "all sessions are held by queries that do not stop",
        Reason::Locked => "another session held a lock",
        Reason::Conflict => "another transaction conflicted",
        Reason::Sql => "the SQL is wrong for this database",
        Reason::Permission => "the user lacks a privilege",
        Reason::ReadOnly => "the query tried to write",
        Reason::Type => "a column does not have the type that the metric needs",
        Reason::Value => "a value cannot be a sample",
        Reason::MissingColumn => "the result lacks a column",
        Reason::Duplicate => "two samples have the same labels",
        Reason::Limit => "the result is over a limit",
        Reason::Protocol => "the server's answer violates the protocol",
        Reason::Server => "the server has a problem of its own",
        Reason::Cancelled => "the query was cancelled",
        Reason::Panic => "the exporter has a bug",
    }
}

/// `12 ms`, `3.4 s`, `5 min`, `2 h`, `3 d`: as exact as a person needs.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.as_millis() < 10 => format!("{:.1} ms", span.as_secs_f64() * 1000.0),
        0 => format!("{} ms", span.as_millis()),
        1..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn view() -> StatusView {
        let evil = "<script>alert('1')</script>&\"\u{7}";
        let failure = ShownFailure {
            reason: Reason::Sql,
            sqlstate: Some("42P01".into()),
            message: format!("no {evil}"),
        };
        let query = QueryView {
            name: format!("orders {evil}"),
            collector: evil.into(),
            enabled: true,
            took: Some(Duration::from_millis(12)),
            rows: Some(3),
            series: Some(6),
            age: Some(Duration::from_secs(90)),
            failure: Some(failure.clone()),
            skipped: None,
        };
        let fresh = QueryView { name: "fresh".into(), enabled: true, ..QueryView::default() };
        let shop = TargetView {
            name: format!("shop {evil}"),
            driver: "postgres".into(),
            labels: vec![("env".into(), evil.into())],
            state: TargetState::Down,
            facts: [evil.into(), "primary".into(), String::new()],
            backoff: Duration::from_secs(4),
            failure: Some(failure),
            queries: vec![query, fresh],
        };
        let off = TargetView { state: TargetState::Disabled, ..TargetView::default() };
        StatusView { targets: vec![shop, off], ..StatusView::default() }
    }

    #[test]
    fn whatever_a_database_says_is_text_and_never_markup() {
        let page = render(&view(), true);
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("alert('"), "{page}");
        assert!(!page.contains('\u{7}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"), "{page}");
    }

    #[test]
    fn a_peer_from_elsewhere_sees_reason_and_code_but_no_message() {
        let (here, elsewhere) = (render(&view(), true), render(&view(), false));
        assert!(
            here.contains("<strong>sql</strong> [42P01]: the SQL is wrong for this database; no &lt;script"),
            "{here}"
        );
        assert!(
            elsewhere.contains("<strong>sql</strong> [42P01]: the SQL is wrong for this database\n"),
            "{elsewhere}"
        );
        assert!(!elsewhere.contains("no &lt;script"), "{elsewhere}");
    }

    #[test]
    fn the_page_says_how_each_target_and_query_stands() {
        let page = render(&view(), true);
        for text in [
            "2 targets, 1 down; 2 queries, 1 failing",
            "<span class=down>down</span>",
            "<span class=new>disabled</span>",
            "next attempt in 4.0 s",
            "<td>12 ms<td>3<td>6<td>90 s<td class=bad>",
            "<th scope=row>fresh<td><td><td><td><td><td>not run yet",
            "<a href=\"/probe?target=shop+%3Cscript%3E",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = render(&view(), true);
        for word in ["src=", "http://", "https://", "url(", "@import", "<form", "href=\"h"] {
            assert!(!page.contains(word), "{word} in {page}");
        }
    }

    #[test]
    fn twenty_targets_of_twenty_queries_are_less_than_50_kb() {
        let query = |n: usize| QueryView {
            name: format!("table_statistics_{n}"),
            collector: "postgres/databases".into(),
            enabled: true,
            took: Some(Duration::from_millis(12)),
            rows: Some(300),
            series: Some(600),
            age: Some(Duration::from_secs(14)),
            skipped: None,
            failure: None,
        };
        let target = |n| TargetView {
            name: format!("shop-eu-west-{n}"),
            driver: "postgres".into(),
            state: TargetState::Up,
            facts: ["15.4".into(), "primary".into(), "encrypted, not verified".into()],
            queries: (0..20).map(query).collect(),
            ..TargetView::default()
        };
        let page =
            render(&StatusView { targets: (0..20).map(target).collect(), ..StatusView::default() }, true);
        assert!(page.len() < 50_000, "{}", page.len());
    }

    #[test]
    fn spans_are_as_exact_as_a_person_needs() {
        let cases =
            [(0.0004, "0.4 ms"), (0.25, "250 ms"), (3.44, "3.4 s"), (60.0, "60 s"), (600.0, "10 min")];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
        assert_eq!(span(Duration::from_secs(8000)), "2 h");
        assert_eq!(span(Duration::from_secs(3 * 86400)), "3 d");
    }
}
