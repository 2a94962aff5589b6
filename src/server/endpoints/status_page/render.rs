//! The view as HTML. Text enters by [`Html::text`] alone, which escapes it; [`Html::raw`] takes literals only.

use std::time::Duration;

use super::reasons::words;
use super::{QueryView, State, TargetView, Trouble, View};
use crate::config::route_prefix::RoutePrefix;

const STYLE: &str = include_str!("style.css");
/// All the script there is; the page's policy names it by its hash.
pub(super) const SCRIPT: &str = include_str!("script.js");

struct Html(String);

impl Html {
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Controls are no characters of HTML.
                other if other.is_control() && !matches!(other, '\n' | '\t') => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        self
    }
}

/// With more targets than this the healthy ones are folded, and there is a field to filter by.
const MANY: usize = 20;
/// With fewer there is nothing to filter.
const FEW: usize = 5;

/// The page. `full`: messages of databases too, else only reasons and codes.
pub(super) fn render(view: &View, full: bool) -> String {
    let mut html = Html(String::with_capacity(4096 + 512 * view.targets.len()));
    html.raw("<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>")
        .raw("<meta name=viewport content=\"width=device-width, initial-scale=1\">")
        // Without an icon of its own the browser would ask for one.
        .raw("<link rel=icon href=\"data:,\"><title>sql-exporter: ")
        .text(&summary(view))
        .raw("</title><style>")
        .raw(STYLE)
        .raw("</style></head>\n<body><header><h1>sql-exporter</h1><p>version ")
        .text(env!("CARGO_PKG_VERSION"))
        .raw(", ")
        .text(&summary(view))
        .raw("</p><nav>");
    for path in ["/metrics", "/-/metrics", "/sd", "/config"] {
        let path = view.prefix.path(path);
        html.raw("<a href=\"").text(&path).raw("\">").text(&path).raw("</a> ");
    }
    html.raw("</nav>\n");
    if view.targets.len() > FEW {
        html.raw(
            "<p hidden><label>Filter <input type=search autocomplete=off placeholder=\"press /\"></label> ",
        )
        .raw("<output aria-live=polite></output></p>\n");
    }
    html.raw("</header>\n<main>\n");
    for target in &view.targets {
        let open = view.targets.len() <= MANY || target.is_bad();
        target_details(&mut html, target, &view.prefix, open, full);
    }
    html.raw("</main>\n<footer><p>As of the last scrapes, the worst first; this page runs no query.");
    if !full {
        html.raw(" Messages of the databases are shown to this machine and to who has logged in.");
    }
    html.raw("</p></footer>");
    if view.targets.len() > FEW {
        html.raw("<script>").raw(SCRIPT).raw("</script>");
    }
    html.raw("</body></html>\n");
    html.0
}

fn summary(view: &View) -> String {
    let down = view.targets.iter().filter(|target| target.state == State::Down).count();
    let queries = || view.targets.iter().flat_map(|target| &target.queries);
    let failing = queries().filter(|query| query.trouble.is_some()).count();
    let count =
        |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
    let targets = count(view.targets.len(), "target", "targets");
    let queries = count(queries().count(), "query", "queries");
    format!("{targets}, {down} down; {queries}, {failing} failing")
}

fn target_details(html: &mut Html, target: &TargetView, prefix: &RoutePrefix, open: bool, full: bool) {
    let (class, word) = match target.state {
        State::New => ("new", "not scraped yet"),
        State::Up => ("up", "up"),
        State::Down => ("down", "down"),
        State::Disabled => ("new", "disabled"),
    };
    html.raw(if open { "<details open><summary><h2>" } else { "<details><summary><h2>" });
    html.text(&target.name).raw("</h2> <span class=").raw(class).raw(">").raw(word).raw("</span>");
    let failing = target.queries.iter().filter(|query| query.trouble.is_some()).count();
    if target.state == State::Up && failing > 0 {
        html.raw(" <span class=bad>").text(&failing.to_string()).raw(" failing</span>");
    }
    html.raw("</summary>\n<p>").text(&target.driver);
    for fact in target.facts.iter().filter(|fact| !fact.is_empty()) {
        html.raw(" · ").text(fact);
    }
    for (name, value) in &target.labels {
        html.raw(" · <code>").text(name).raw("=\"").text(value).raw("\"</code>");
    }
    let name: String = form_urlencoded::byte_serialize(target.name.as_bytes()).collect();
    html.raw(" · <a href=\"").text(&prefix.path("/probe?target=")).text(&name).raw("\">probe</a></p>\n");
    if let Some(trouble) = &target.trouble {
        html.raw("<p class=bad>");
        trouble_text(html, trouble, full);
        if !target.backoff.is_zero() {
            html.raw("; next attempt in ").text(&span(target.backoff));
        }
        html.raw("</p>\n");
    }
    if !target.queries.is_empty() {
        html.raw(
            "<table><thead><tr><th>query<th>collector<th>duration<th>rows<th>series<th>age<th>state<tbody>\n",
        );
        target.queries.iter().for_each(|query| query_row(html, query, full));
        html.raw("</table>\n");
    }
    html.raw("</details>\n");
}

/// HTML lets a row and its cells end where the next one begins, which is half of the bytes.
fn query_row(html: &mut Html, query: &QueryView, full: bool) {
    let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    html.raw("<tr><th scope=row>").text(&query.name).raw("<td>").text(&query.collector);
    let numbers = [
        query.took.map(span).unwrap_or_default(),
        count(query.rows),
        count(query.series),
        query.age.map(span).unwrap_or_default(),
    ];
    for number in numbers {
        html.raw("<td>").text(&number);
    }
    match (&query.trouble, query.enabled, query.age) {
        (_, false, _) => {
            html.raw("<td>disabled");
        }
        (Some(trouble), _, _) => {
            html.raw("<td class=bad>");
            trouble_text(html, trouble, full);
        }
        (None, _, None) => {
            html.raw("<td>not run yet");
        }
        (None, _, Some(_)) => {
            html.raw("<td>good");
        }
    }
    html.raw("\n");
}

fn trouble_text(html: &mut Html, trouble: &Trouble, full: bool) {
    html.raw("<strong>").text(trouble.reason.as_str()).raw("</strong>");
    if let Some(code) = &trouble.sqlstate {
        html.raw(" [").text(code).raw("]");
    }
    html.raw(": ").raw(words(trouble.reason));
    if full && !trouble.message.is_empty() {
        html.raw("; ").text(&trouble.message);
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

    fn view() -> View {
        let evil = "<script>alert('1')</script>&\"\u{7}";
        let trouble =
            Trouble { reason: Reason::Sql, sqlstate: Some("42P01".into()), message: format!("no {evil}") };
        let query = QueryView {
            name: format!("orders {evil}"),
            collector: evil.into(),
            enabled: true,
            took: Some(Duration::from_millis(12)),
            rows: Some(3),
            series: Some(6),
            age: Some(Duration::from_secs(90)),
            trouble: Some(trouble.clone()),
        };
        let fresh = QueryView { name: "fresh".into(), enabled: true, ..QueryView::default() };
        let shop = TargetView {
            name: format!("shop {evil}"),
            driver: "postgres".into(),
            labels: vec![("env".into(), evil.into())],
            state: State::Down,
            facts: [evil.into(), "primary".into(), String::new()],
            backoff: Duration::from_secs(4),
            trouble: Some(trouble),
            queries: vec![query, fresh],
        };
        let off = TargetView { state: State::Disabled, ..TargetView::default() };
        View { targets: vec![shop, off], ..View::default() }
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
            trouble: None,
        };
        let target = |n| TargetView {
            name: format!("shop-eu-west-{n}"),
            driver: "postgres".into(),
            state: State::Up,
            facts: ["15.4".into(), "primary".into(), "encrypted, not verified".into()],
            queries: (0..20).map(query).collect(),
            ..TargetView::default()
        };
        let page = render(&View { targets: (0..20).map(target).collect(), ..View::default() }, true);
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
