//! The view as HTML. All markup is literal; what varies enters at a `{}` of [`Html::add`], which escapes it.

use std::sync::LazyLock;
use std::time::Duration;

use super::failure::ShownFailure;
use super::listing::{MAX_SEARCH, Sort};
use super::sparkline;
use super::{QueryView, StatusTotals, StatusView, TargetState, TargetView};

static STYLE: LazyLock<String> = LazyLock::new(|| compact(include_str!("style.css")));
/// The page's only script; its policy names it by its hash.
pub(super) static SCRIPT: LazyLock<String> = LazyLock::new(|| compact(include_str!("script.js")));

/// With more targets than this the healthy ones are folded.
const MAX_OPEN: usize = 20;

/// Without indentation, empty lines and lines of comments: a fifth of the bytes.
fn compact(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

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

/// The page.
pub(super) fn render(view: &StatusView) -> String {
    let mut html = Html(String::with_capacity(4096 + 2048 * view.targets.len()));
    let summary = summary(&view.totals);
    // Without an icon of its own the browser would request one.
    html.add(
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <link rel=icon href=\"data:,\"><title>sql-exporter: {}</title><style>",
        &[&summary],
    );
    html.raw(&STYLE);
    html.add(
        "</style></head>\n<body><header><h1>sql-exporter</h1><p>version {}, {}</p><nav aria-label=Pages>",
        &[env!("CARGO_PKG_VERSION"), &summary],
    );
    for path in ["/metrics", "/-/metrics", "/sd", "/config"] {
        let path = view.prefix.path(path);
        html.add("<a href=\"{}\">{}</a> ", &[&path, &path]);
    }
    html.raw("</nav>\n");
    if view.totals.targets > 0 {
        add_search(&mut html, view);
    }
    html.raw("</header>\n<main>\n");
    for target in &view.targets {
        let open = view.targets.len() <= MAX_OPEN || target.is_bad();
        add_target(&mut html, target, view, open);
    }
    html.raw("</main>\n<footer><p>As of the last scrapes; this page runs no query.");
    if view.is_reduced {
        html.raw(" Messages of databases are shown to clients on this machine and to authenticated ones.");
    }
    html.raw("</p></footer>");
    if view.totals.targets > 0 {
        html.raw("<script>");
        html.raw(&SCRIPT);
        html.raw("</script>");
    }
    html.raw("</body></html>\n");
    html.0
}

fn summary(totals: &StatusTotals) -> String {
    let StatusTotals { targets, down, queries, failing } = totals;
    let (target, query) = (plural(*targets, "target", "targets"), plural(*queries, "query", "queries"));
    format!("{targets} {target}, {down} down; {queries} {query}, {failing} failing")
}

fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}

/// The orders to choose from and the field to search by; both are requests, so that they need no script. The field is the
/// last before the targets: one key leads from it to what was found.
fn add_search(html: &mut Html, view: &StatusView) {
    let StatusView { prefix, listing, .. } = view;
    html.raw("<nav class=sort aria-label=\"Sort by\">Sort ");
    for sort in Sort::ALL {
        let current = if sort == listing.sort { " aria-current=true" } else { "" };
        html.add("<a href=\"{}\"{}>{}</a> ", &[&listing.link(prefix, sort), current, sort.as_str()]);
    }
    html.add("</nav>\n<form role=search action=\"{}\">", &[&prefix.path("/")]);
    if listing.sort != Sort::default() {
        html.add("<input type=hidden name=sort value={}>", &[listing.sort.as_str()]);
    }
    let total = view.totals.targets.to_string();
    html.add(
        "<label>Search <input type=search name=search value=\"{}\" maxlength={} autocomplete=off></label> \
         <button>Show</button> <output data-total={}>",
        &[&listing.search, &MAX_SEARCH.to_string(), &total],
    );
    if !listing.search.is_empty() {
        html.add("{} of {}", &[&view.targets.len().to_string(), &total]);
    }
    html.raw("</output></form>\n");
}

fn add_target(html: &mut Html, target: &TargetView, view: &StatusView, open: bool) {
    // Also an identifier: a browser looks for a link's part behind `#` as it stands there first.
    let name: String = form_urlencoded::byte_serialize(target.name.as_bytes()).collect();
    html.add("<details id=\"target-{}\"{}>", &[&name, if open { " open" } else { "" }]);
    add_heading(html, target);
    html.add("<p>{}", &[&target.driver]);
    for fact in target.facts.iter().filter(|fact| !fact.is_empty()) {
        html.add(" · {}", &[fact]);
    }
    for (name, value) in &target.labels {
        html.add(" · <code>{}=\"{}\"</code>", &[name, value]);
    }
    html.raw("</p>\n");
    if let Some(failure) = &target.failure {
        html.raw("<p class=bad><span class=why>");
        add_failure(html, failure);
        html.raw("</span>");
        if !target.backoff.is_zero() {
            html.add("; next attempt in {}", &[&span(target.backoff)]);
        }
        add_command(html, failure);
        html.raw("</p>\n");
    }
    html.add("<p><a href=\"{}{}\">probe</a>", &[&view.prefix.path("/probe?target="), &name]);
    if let Some(words) = sparkline::in_words(&target.scrapes) {
        html.add(" · {}", &[&words]);
    }
    html.raw("</p>\n");
    if !target.queries.is_empty() {
        add_queries(html, &target.queries, view.listing.sort);
    }
    html.raw("</details>\n");
}

/// What is seen of a target that is folded.
fn add_heading(html: &mut Html, target: &TargetView) {
    let class = match target.state {
        TargetState::Up => "up",
        TargetState::Down => "down",
        TargetState::New | TargetState::Disabled => "new",
    };
    html.add("<summary><h2>{}</h2> <span class={}>{}</span>", &[&target.name, class, target.state.as_str()]);
    if target.state == TargetState::Up && target.failing() > 0 {
        html.add(" <span class=bad>{} failing</span>", &[&target.failing().to_string()]);
    }
    if let Some(took) = target.took() {
        html.add(" <span class=past>{}", &[&span(took)]);
        if let Some(series) = target.series() {
            html.add(" · {} series", &[&series.to_string()]);
        }
        // The text below says the same in words.
        let [good, failed] = sparkline::paths(&target.scrapes);
        html.add(" <svg aria-hidden=true viewBox=\"{}\"><path d=\"{}\"/>", &[&sparkline::view_box(), &good]);
        if !failed.is_empty() {
            html.add("<path class=failed d=\"{}\"/>", &[&failed]);
        }
        html.raw("</svg></span>");
    }
    html.raw("</summary>\n");
}

fn add_queries(html: &mut Html, queries: &[QueryView], sort: Sort) {
    html.raw("<table><thead><tr>");
    for (column, sorted) in [
        ("query", (sort == Sort::Name).then_some("ascending")),
        ("collector", None),
        ("duration", (sort == Sort::Duration).then_some("descending")),
        ("rows", None),
        ("series", (sort == Sort::Series).then_some("descending")),
        ("age", None),
        ("state", (sort == Sort::Failure).then_some("other")),
    ] {
        html.raw("<th scope=col");
        if let Some(direction) = sorted {
            html.add(" aria-sort={}", &[direction]);
        }
        html.add(">{}", &[column]);
    }
    html.raw("<tbody>");
    queries.iter().for_each(|query| add_query(html, query));
    html.raw("</table>\n");
}

/// In HTML a row and its cells may end where the next one begins, which saves half of the bytes. A `th` before `td`s is the
/// heading of its row.
fn add_query(html: &mut Html, query: &QueryView) {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let span = |span: Option<Duration>| span.map(self::span).unwrap_or_default();
    html.add(
        "<tr><th>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
        &[
            &query.name,
            &query.collector,
            &span(query.took),
            &count(query.rows),
            &count(query.series),
            &span(query.age),
        ],
    );
    match &query.failure {
        Some(failure) => {
            html.raw("<td class=bad>");
            add_failure(html, failure);
            add_command(html, failure);
        }
        None => html.add("<td>{}", &[&query.state]),
    }
}

fn add_failure(html: &mut Html, failure: &ShownFailure) {
    html.add("<strong>{}</strong>{}", &[failure.reason.as_str(), &failure.text]);
}

/// Selected as a whole by one click.
fn add_command(html: &mut Html, failure: &ShownFailure) {
    if let Some(command) = &failure.command {
        html.add(" <code class=command>{}</code>", &[command]);
    }
}

/// `0.04 ms`, `12 ms`, `3.4 s`, `5 min`, `2 h`, `3 d`: as exact as a person needs.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.as_micros() < 100 => format!("{:.2} ms", span.as_secs_f64() * 1000.0),
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
    use super::super::listing::Listing;
    use super::*;
    use crate::engine::scrape_times::{PastScrape, REMEMBERED, ScrapeTimes};
    use crate::error::Reason;

    fn shown(targets: Vec<TargetView>) -> StatusView {
        StatusView { totals: StatusTotals::of(&targets), targets, ..StatusView::default() }
    }

    fn view() -> StatusView {
        let evil = "<script>alert('1')</script>&\"\u{7}";
        let text = format!(" [42P01]: the SQL is wrong for this database; no {evil}");
        let failure =
            ShownFailure { reason: Reason::Sql, text, command: Some(format!("sql-exporter try {evil}")) };
        let query = QueryView {
            name: format!("orders {evil}"),
            collector: evil.into(),
            took: Some(Duration::from_millis(12)),
            rows: Some(3),
            series: Some(6),
            age: Some(Duration::from_secs(90)),
            failure: Some(failure.clone()),
            state: evil.into(),
        };
        let fresh = QueryView { name: "fresh".into(), state: "not run yet".into(), ..QueryView::default() };
        let skipped = QueryView { name: "skipped".into(), state: evil.into(), ..QueryView::default() };
        let shop = TargetView {
            name: format!("shop {evil}"),
            driver: "postgres".into(),
            labels: vec![("env".into(), evil.into())],
            state: TargetState::Down,
            facts: [evil.into(), "primary".into(), String::new()],
            backoff: Duration::from_secs(4),
            failure: Some(failure),
            scrapes: ScrapeTimes::default(),
            queries: vec![query, fresh, skipped],
        };
        let off = TargetView { state: TargetState::Disabled, ..TargetView::default() };
        let listing = Listing::of(&[("search".to_owned(), evil.to_owned())]);
        StatusView { listing, ..shown(vec![shop, off]) }
    }

    #[test]
    fn whatever_a_database_or_a_client_says_is_text_and_never_markup() {
        let page = render(&view()).replace(SCRIPT.as_str(), "");
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("alert('"), "{page}");
        assert!(!page.contains('\u{7}'), "{page}");
        let escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;";
        assert_eq!(page.matches(escaped).count(), 11, "{page}");
        assert!(page.contains(&format!("value=\"{escaped}\u{fffd}\"")), "{page}");
    }

    #[test]
    fn the_page_says_how_each_target_and_query_stands() {
        let page = render(&view());
        for text in [
            "2 targets, 1 down; 3 queries, 1 failing",
            "<span class=down>down</span>",
            "<span class=new>disabled</span>",
            "</span>; next attempt in 4.0 s <code class=command>",
            "<td>12 ms<td>3<td>6<td>90 s<td class=bad><strong>sql</strong> [42P01]: ",
            "<th>fresh<td><td><td><td><td><td>not run yet",
            "<a href=\"/probe?target=shop+%3Cscript%3E",
            "2 of 2</output>",
            "<th scope=col aria-sort=other>state",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }

    #[test]
    fn a_target_can_be_linked_by_its_name() {
        let target = TargetView { name: "srv/a b\"ü".into(), ..TargetView::default() };
        let page = render(&shown(vec![target]));
        assert!(page.contains("<details id=\"target-srv%2Fa+b%22%C3%BC\" open>"), "{page}");
    }

    #[test]
    fn the_order_is_kept_by_the_form_and_told_in_the_tables() {
        for (sort, column) in [("duration", "duration"), ("series", "series"), ("name", "query")] {
            let listing = Listing::of(&[("sort".to_owned(), sort.to_owned())]);
            let page = render(&StatusView { listing, ..view() });
            assert!(page.contains(&format!("<input type=hidden name=sort value={sort}>")), "{page}");
            assert!(
                page.contains(&format!("<a href=\"/?sort={sort}\" aria-current=true>{sort}</a>")),
                "{page}"
            );
            let heads: Vec<&str> = page.split("<th scope=col ").skip(1).collect();
            assert!(heads.len() == 1 && heads[0].contains(&format!("ending>{column}<")), "{heads:?}");
        }
    }

    #[test]
    fn the_page_loads_nothing_and_sends_its_form_to_this_server() {
        let page = render(&view());
        for word in ["src=", "http://", "https://", "url(", "@import", "href=\"h", "method="] {
            assert!(!page.contains(word), "{word} in {page}");
        }
        assert_eq!(page.matches("<form").count(), page.matches("<form role=search action=\"/\">").count());
    }

    fn large(targets: usize, failed: bool) -> StatusView {
        let query = |n: usize| QueryView {
            name: format!("table_statistics_{n}"),
            collector: "postgres/databases".into(),
            took: Some(Duration::from_millis(12)),
            rows: Some(300),
            series: Some(600),
            age: Some(Duration::from_secs(14)),
            state: "good".into(),
            ..QueryView::default()
        };
        let mut scrapes = ScrapeTimes::default();
        (1..=REMEMBERED as u64).for_each(|n| {
            scrapes.push(PastScrape { took: Duration::from_millis(n * 17 % 40), failed });
        });
        let target = |n| TargetView {
            name: format!("shop-eu-west-{n}"),
            driver: "postgres".into(),
            state: TargetState::Up,
            facts: ["15.4".into(), "primary".into(), "encrypted, not verified".into()],
            scrapes: scrapes.clone(),
            queries: (0..20).map(query).collect(),
            ..TargetView::default()
        };
        shown((0..targets).map(target).collect())
    }

    #[test]
    fn twenty_targets_of_twenty_queries_are_less_than_50_kb_without_the_drawings() {
        let mut view = large(20, false);
        view.targets.iter_mut().for_each(|target| target.scrapes = ScrapeTimes::default());
        let page = render(&view);
        assert!(page.len() < 50_000, "{}", page.len());
    }

    #[test]
    fn five_hundred_targets_of_twenty_queries_are_less_than_2_mb() {
        let (good, failed) = (render(&large(500, false)).len(), render(&large(500, true)).len());
        assert!(good < 1_500_000 && failed < 2_000_000, "{good}, {failed}");
    }

    #[test]
    fn spans_are_as_exact_as_a_person_needs() {
        let cases = [
            (0.00004, "0.04 ms"),
            (0.0004, "0.4 ms"),
            (0.25, "250 ms"),
            (3.44, "3.4 s"),
            (60.0, "60 s"),
            (600.0, "10 min"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
        assert_eq!(span(Duration::from_secs(8000)), "2 h");
        assert_eq!(span(Duration::from_secs(3 * 86400)), "3 d");
    }
}
