//! The view as HTML. Text enters by [`Html::text`] alone, which escapes it; [`Html::raw`] takes literals only.

use std::time::Duration;

use super::{QueryView, State, TargetView, Trouble, View};

const STYLE: &str = include_str!("style.css");

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

/// The page. `full`: messages of databases too, else only reasons and codes.
pub(super) fn render(view: &View, full: bool) -> String {
    let mut html = Html(String::with_capacity(4096 + 512 * view.targets.len()));
    html.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<title>sql-exporter</title><style>")
        .raw(STYLE)
        .raw("</style></head>\n<body><header><h1>sql-exporter</h1><p>version ")
        .text(env!("CARGO_PKG_VERSION"))
        .raw(", ")
        .text(&summary(view))
        .raw("</p><nav><a href=\"/metrics\">/metrics</a> <a href=\"/-/metrics\">/-/metrics</a> ")
        .raw("<a href=\"/-/healthy\">/-/healthy</a></nav></header>\n<main>\n");
    for target in &view.targets {
        target_section(&mut html, target, full);
    }
    html.raw("</main>\n<footer><p>As of the last scrapes; this page runs no query.");
    if !full {
        html.raw(" Messages of the databases are shown to this machine only.");
    }
    html.raw("</p></footer></body></html>\n");
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

fn target_section(html: &mut Html, target: &TargetView, full: bool) {
    let (class, word) = match target.state {
        State::New => ("new", "not scraped yet"),
        State::Up => ("up", "up"),
        State::Down => ("down", "down"),
        State::Disabled => ("new", "disabled"),
    };
    html.raw("<section><h2>").text(&target.name).raw(" <span class=\"").raw(class).raw("\">").raw(word);
    html.raw("</span></h2>\n<p>").text(&target.driver);
    for fact in target.facts.iter().filter(|fact| !fact.is_empty()) {
        html.raw(" · ").text(fact);
    }
    for (name, value) in &target.labels {
        html.raw(" · <code>").text(name).raw("=\"").text(value).raw("\"</code>");
    }
    html.raw("</p>\n");
    if let Some(trouble) = &target.trouble {
        html.raw("<p class=\"trouble\">");
        trouble_text(html, trouble, full);
        if !target.backoff.is_zero() {
            html.raw("; next attempt in ").text(&span(target.backoff));
        }
        html.raw("</p>\n");
    }
    if !target.queries.is_empty() {
        html.raw(
            "<table><thead><tr><th>query</th><th>collector</th><th>duration</th><th>rows</th><th>series</th>",
        )
        .raw("<th>age</th><th>state</th></tr></thead><tbody>\n");
        target.queries.iter().for_each(|query| query_row(html, query, full));
        html.raw("</tbody></table>\n");
    }
    html.raw("</section>\n");
}

fn query_row(html: &mut Html, query: &QueryView, full: bool) {
    html.raw("<tr><th scope=\"row\">").text(&query.name).raw("</th>");
    html.raw("<td data-is=\"collector\">").text(&query.collector).raw("</td>");
    let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let cells = [
        ("<td class=\"number\" data-is=\"duration\">", query.took.map(span).unwrap_or_default()),
        ("<td class=\"number\" data-is=\"rows\">", count(query.rows)),
        ("<td class=\"number\" data-is=\"series\">", count(query.series)),
        ("<td class=\"number\" data-is=\"age\">", query.age.map(span).unwrap_or_default()),
    ];
    for (open, text) in cells {
        html.raw(open).text(&text).raw("</td>");
    }
    match (&query.trouble, query.enabled, query.age) {
        (_, false, _) => html.raw("<td data-is=\"state\">disabled</td>"),
        (Some(trouble), _, _) => {
            html.raw("<td class=\"trouble\" data-is=\"state\">");
            trouble_text(html, trouble, full);
            html.raw("</td>")
        }
        (None, _, None) => html.raw("<td data-is=\"state\">not run yet</td>"),
        (None, _, Some(_)) => html.raw("<td data-is=\"state\">good</td>"),
    };
    html.raw("</tr>\n");
}

fn trouble_text(html: &mut Html, trouble: &Trouble, full: bool) {
    html.raw("<strong>").text(trouble.reason.word()).raw("</strong>");
    if let Some(code) = &trouble.sqlstate {
        html.raw(" [").text(code).raw("]");
    }
    if full && !trouble.message.is_empty() {
        html.raw(" ").text(&trouble.message);
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
        View { targets: vec![shop, TargetView { state: State::Disabled, ..TargetView::default() }] }
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
        assert!(here.contains("<strong>sql</strong> [42P01] no &lt;script"), "{here}");
        assert!(elsewhere.contains("<strong>sql</strong> [42P01]</td>"), "{elsewhere}");
        assert!(!elsewhere.contains("no &lt;script"), "{elsewhere}");
    }

    #[test]
    fn the_page_says_how_each_target_and_query_stands() {
        let page = render(&view(), true);
        for text in [
            "2 targets, 1 down; 2 queries, 1 failing",
            "<span class=\"down\">down</span>",
            "<span class=\"new\">disabled</span>",
            "next attempt in 4.0 s",
            "data-is=\"duration\">12 ms<",
            "data-is=\"rows\">3<",
            "data-is=\"series\">6<",
            "data-is=\"age\">90 s<",
            "data-is=\"state\">not run yet<",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = render(&view(), true);
        for word in ["src=", "http://", "https://", "url(", "@import", "<link", "<form"] {
            assert!(!page.contains(word), "{word} in {page}");
        }
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
