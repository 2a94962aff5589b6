//! The checker finds each fault that it is there to find.

use super::check;

#[track_caller]
fn finds(fault: &str, page: &str) {
    match check(page) {
        Ok(_) => panic!("not found: {fault} in\n{page}"),
        Err(faults) => assert!(faults.iter().any(|found| found.contains(fault)), "{faults:?}"),
    }
}

#[test]
fn a_good_page_passes_and_its_values_are_found() {
    let page = check(
        "# HELP a Some \\\\ help\\n.\n# TYPE a gauge\na{x=\"1\",y=\"q\\\"\\\\\\n\"} 1.5\na{x=\"2\",y=\"\"} NaN\n\
         # TYPE b_total counter\nb_total 9007199254740993\n\
         # TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n",
    );
    let page = page.expect("a good page");
    assert_eq!(page.value("a", &[("y", "q\"\\\n")]), Some(1.5));
    assert_eq!(page.value("h_count", &[]), Some(2.0));
    assert_eq!(page.value("nothing", &[]), None);
    assert_eq!(page.series("h_bucket").len(), 2);
    assert_eq!(page.types.get("b_total").map(String::as_str), Some("counter"));
}

#[test]
fn an_empty_page_is_good() {
    assert!(check("").is_ok());
}

#[test]
fn duplicates_are_found_whatever_the_label_order() {
    finds("a duplicate sample", "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\n");
    finds("a duplicate sample", "a 1\na 1\n");
}

#[test]
fn a_split_family_is_found() {
    finds("family a is split", "a{x=\"1\"} 1\nb 1\na{x=\"2\"} 1\n");
    let page = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nb 1\nh_count 1\n";
    finds("family h is split", page);
}

#[test]
fn heads_in_the_wrong_place_are_found() {
    finds("TYPE after samples", "a 1\n# TYPE a gauge\n");
    finds("HELP after samples", "a 1\n# HELP a b\n");
    finds("a second TYPE", "# TYPE a gauge\n# TYPE a gauge\na 1\n");
    finds("a second HELP", "# HELP a b\n# HELP a b\na 1\n");
    finds("unknown type info", "# TYPE a info\na 1\n");
    finds("neither HELP nor TYPE", "# EOF\n");
}

#[test]
fn label_names_that_differ_within_a_family_are_found() {
    finds("the family began with", "a{x=\"1\"} 1\na{y=\"1\"} 1\n");
    finds("the family began with", "a{x=\"1\"} 1\na 1\n");
    let page = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum{x=\"1\"} 1\nh_count 1\n";
    finds("the family began with", page);
}

#[test]
fn targets_may_bear_different_labels_but_one_target_may_not() {
    assert!(check("a{target=\"1\",env=\"x\"} 1\na{target=\"2\"} 1\n").is_ok());
    finds("the family began with", "a{target=\"1\",env=\"x\"} 1\na{target=\"1\"} 1\n");
}

#[test]
fn bad_labels_are_found() {
    finds("bad escape", "a{x=\"\\t\"} 1\n");
    finds("bad escape", "# HELP a \\\"\na 1\n");
    finds("without an end", "a{x=\"\\\"} 1\n");
    finds("label x twice", "a{x=\"1\",x=\"1\"} 1\n");
    finds("illegal name", "a{0x=\"1\"} 1\n");
    finds("illegal name", "a{x:y=\"1\"} 1\n");
    finds("illegal name", "0a 1\n");
    finds("no comma", "a{x=\"1\"y=\"1\"} 1\n");
    finds("a comma before the brace", "a{x=\"1\",} 1\n");
    finds("empty braces", "a{} 1\n");
}

#[test]
fn bad_numbers_are_found() {
    for number in ["", "nan", "inf", "+1", "1,5", "0x10", "1E5", "Infinity", "--1", "1e"] {
        finds("bad number", &format!("a {number}\n"));
    }
    finds("bad timestamp", "a 1 1.5\n");
    finds("more than value", "a 1 2 3\n");
    finds("no value", "a\n");
}

#[test]
fn line_ends_are_looked_at() {
    finds("no end", "a 1");
    finds("carriage return", "a 1\r\n");
    finds("no value", "a 1\n\nb 1\n");
}

#[test]
fn broken_histograms_are_found() {
    let page = |buckets: &str, rest: &str| format!("# TYPE h histogram\n{buckets}{rest}");
    let good = "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n";
    finds("_count is not", &page(good, "h_sum 1\nh_count 3\n"));
    finds("no _sum", &page(good, "h_count 2\n"));
    finds("no _count", &page(good, "h_sum 2\n"));
    finds("no +Inf", &page("h_bucket{le=\"1.0\"} 1\n", "h_sum 1\nh_count 1\n"));
    finds(
        "le does not rise",
        &page("h_bucket{le=\"+Inf\"} 1\nh_bucket{le=\"1.0\"} 1\n", "h_sum 1\nh_count 1\n"),
    );
    let falling = "h_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 2\n";
    finds("not cumulative", &page(falling, "h_sum 1\nh_count 2\n"));
}
