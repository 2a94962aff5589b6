//! Mappings read over defaults.

use super::{faults, taken};
use crate::yaml::keys::{Keys, Origin};

/// Reads each entry of `entries` over `defaults`, with `read`; what nobody read in the defaults is a fault.
fn over(text: &str, mut read: impl FnMut(&mut Keys<'_>)) -> Vec<String> {
    faults(text, |root| {
        let defaults = root.inner("defaults");
        for (_, keys) in root.entries("entries").unwrap_or_default() {
            let mut keys = keys.over(defaults.as_ref());
            read(&mut keys);
            keys.finish();
        }
        if let Some(defaults) = defaults {
            defaults.finish_defaults();
        }
    })
}

#[test]
fn an_entry_wins_and_defaults_fill_what_it_leaves_out() {
    let text =
        "defaults: {host: d, port: 1, list: [a], user: u}\nentries: {x: {host: own, list: [b], user: ~}}";
    let faults = over(text, |keys| {
        assert_eq!(keys.text("host").as_deref(), Some("own"));
        assert_eq!(keys.number("port", "a port"), Some(1_u16));
        assert_eq!(keys.texts("list").unwrap(), ["b"]);
        assert_eq!(keys.text("user").as_deref(), Some("u"));
        assert_eq!(keys.origin("host"), Some(Origin::Own));
        assert_eq!(keys.origin("user"), Some(Origin::Default));
        assert_eq!(keys.origin("other"), None);
        assert!(keys.has("port") && !keys.has("other"));
        assert_eq!(keys.place("port").line, 1);
    });
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn mappings_merge_one_level() {
    let text = "defaults: {tls: {mode: require, ca: /c, deep: {a: 1}}, labels: {env: prod, zone: a}}\n\
                entries: {x: {tls: {mode: disable, deep: {b: 2}}, labels: {env: test}}, y: {}}";
    let mut seen = Vec::new();
    let faults = over(text, |keys| {
        let mut tls = keys.inner("tls").unwrap();
        let deep = tls.pairs("deep").unwrap();
        seen.push((tls.text("mode").unwrap(), tls.text("ca").unwrap(), deep, keys.pairs("labels").unwrap()));
        tls.finish();
    });
    assert_eq!(faults, Vec::<String>::new());
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let x = (
        "disable".to_owned(),
        "/c".to_owned(),
        vec![pair("b", "2")],
        vec![pair("env", "test"), pair("zone", "a")],
    );
    let y = (
        "require".to_owned(),
        "/c".to_owned(),
        vec![pair("a", "1")],
        vec![pair("env", "prod"), pair("zone", "a")],
    );
    assert_eq!(seen, [x, y]);
}

#[test]
fn a_faulty_default_is_told_once_at_its_own_place() {
    let text = "defaults:\n  port: x\nentries: {a: {}, b: {}, c: {port: 1}}";
    let faults = over(text, |keys| {
        keys.number::<u16>("port", "a port");
    });
    assert_eq!(faults, ["a.yaml:2:9: defaults.port: \"x\" is not a port\n  |   port: x\n  |         ^"]);
}

#[test]
fn a_default_that_no_entry_reads_is_unknown() {
    let text = "defaults: {prot: 1, tls: {mod: x, ca: y}, port: 1}\nentries: {a: {}, b: {tls: {ca: z}}}";
    let faults = over(text, |keys| {
        keys.number::<u16>("port", "a port");
        if let Some(mut tls) = keys.inner("tls") {
            tls.text("mode");
            tls.text("ca");
            tls.finish();
        }
    });
    let first: Vec<_> = faults.iter().map(|fault| fault.lines().next().unwrap()).collect();
    let expected = [
        "a.yaml:1:12: defaults.prot: unknown key; known here: port, tls",
        "a.yaml:1:27: defaults.tls.mod: unknown key; did you mean `mode`?",
    ];
    assert_eq!(first, expected);
}

#[test]
fn defaults_that_nobody_reads_over_are_left_alone_and_a_rehearsal_asks_for_all() {
    assert_eq!(over("defaults: {anything: 1}\nentries: {}", |_| {}), Vec::<String>::new());
    taken("defaults: {host: h, only_mysql: x}\n", |root| {
        let defaults = root.inner("defaults").unwrap();
        let mut rehearsal = defaults.rehearsal();
        rehearsal.number::<u8>("only_mysql", "a number");
        rehearsal.text("host");
        assert!(rehearsal.faulted());
        rehearsal.finish();
        defaults.finish_defaults();
    });
}

#[test]
fn names_of_mappings_merge_one_level_and_the_own_ones_come_last() {
    let text = "defaults: {overrides: {a: {x: 1}, b: {x: 2}}}\n\
                entries: {e: {overrides: {b: {x: 3}, c: {x: 4}}}, f: {}}";
    let mut seen = Vec::new();
    let faults = over(text, |keys| {
        let read = |(name, mut keys): (String, Keys<'_>)| {
            let x: Option<u8> = keys.number("x", "a number");
            keys.finish();
            format!("{name}{}", x.unwrap())
        };
        seen.push(keys.entries("overrides").unwrap().into_iter().map(read).collect::<String>());
    });
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(seen, ["a1b3c4", "a1b2"]);
    let faults = over("defaults: {overrides: {a: {y: 1}}}\nentries: {e: {overrides: {b: {}}}}", |keys| {
        keys.entries("overrides").unwrap().into_iter().for_each(|(_, keys)| drop(keys.finish()));
    });
    assert_eq!(faults.len(), 1, "{faults:?}");
}
