//! What is read is written as it was.

use super::*;

fn rewritten(text: &str) -> String {
    let documents = read(text).unwrap();
    let mappings = documents.iter().map(|document| match document {
        Node::Mapping(mapping) => mapping,
        _ => panic!("no mapping"),
    });
    write(mappings)
}

#[test]
fn scalars_stay_what_they_were() {
    for line in [
        "a: 1.10\n",
        "a: 0644\n",
        "a: 0o644\n",
        "a: 1_000\n",
        "a: off\n",
        "a: 2026-01-01\n",
        "a: \"true\"\n",
        "a: \"\"\n",
        "a: null\n",
        "a: []\n",
        "a: {}\n",
        "a: https://controlplane.talos:6443\n",
        "a: \"52:54:00:*\"\n",
        "\"1\": \"a: b # c\\n\\td\\\\\\\"\"\n",
        "node.kubernetes.io/x: -1\n",
        "a:\n    - - 1\n      - b: 2\n        c: 3\n    - {}\n",
    ] {
        assert_eq!(rewritten(line), line);
    }
    let long = format!("a: {}\n", "x".repeat(10_000));
    assert_eq!(rewritten(&long), long);
}

#[test]
fn every_spelling_of_text_is_text() {
    for (text, written) in [
        ("a: 'it''s'", "a: \"it's\"\n"),
        ("a: |\n  x\n  y\n", "a: \"x\\ny\\n\"\n"),
        ("a: >-\n  x\n  y\n", "a: \"x y\"\n"),
        ("a: !!str 12", "a: \"12\"\n"),
        ("a: plain\n  folded", "a: plain folded\n"),
        ("a: ~\nb:\n", "a: null\nb: null\n"),
        ("? a\n: b", "a: b\n"),
        ("a: &x {b: 1}\nc: *x", "a:\n    b: 1\nc:\n    b: 1\n"),
        ("a: \"\\u2028\\x00\\ufeff\"", "a: \"\\u2028\\x00\\ufeff\"\n"),
    ] {
        assert_eq!(rewritten(text), written, "{text:?}");
    }
}

#[test]
fn bombs_are_refused() {
    let reason = |text: &str| read(text).unwrap_err().reason;
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (a, b) in ('a'..='i').zip('b'..='j') {
        laughs.push_str(&format!("{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"));
    }
    assert_eq!(reason(&laughs), "too large, with all aliases written out");
    assert_eq!(reason(&"[".repeat(100)), "nested too deeply");
    assert_eq!(reason(&format!("{}: 1", "k".repeat(600))), "too long a key");
    let keys: String = (0..5000).map(|key| format!("k{key}: 1\n")).collect();
    assert_eq!(reason(&keys), "too many keys");
}
