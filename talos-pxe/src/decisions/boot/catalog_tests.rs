//! Groups and profiles: selection, and what a broken file is told.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const ORIGIN: Origin = Origin { address: Ipv4Addr::new(10, 0, 0, 1), port: 8080 };

fn file(path: &str, text: &str) -> JsonFile {
    JsonFile { path: path.to_owned(), text: text.to_owned() }
}

fn profile(id: &str) -> JsonFile {
    file(&format!("profiles/{id}.json"), r#"{"id": "other", "boot": {"kernel": "/assets/k"}}"#)
}

fn selected<'a>(catalog: &'a Catalog, query: &str) -> Option<&'a str> {
    Some(&catalog.select(&Labels::from_query(query).unwrap())?.name)
}

#[test]
fn the_shipped_files_boot_every_role_of_the_menu() {
    let catalog = Catalog::parse(&default_groups(), &default_profiles()).unwrap();
    for (role, config) in [
        ("init", "controlplane.yaml"),
        ("controlplane", "controlplane.yaml"),
        ("worker", "worker.yaml"),
    ] {
        let labels = Labels::default().with_role(role);
        let group = catalog.select(&labels).unwrap();
        assert_eq!(group.name, role);
        assert_eq!(group.profile.config(&ORIGIN).unwrap().as_str(), config);
    }
    assert!(catalog.select(&Labels::from_query("type=auto&mac=525400123456").unwrap()).is_none());
}

#[test]
fn a_profile_is_known_by_its_file() {
    let groups = [file("groups/g.json", r#"{"profile": "init", "selector": {"type": "init"}}"#)];
    let catalog = Catalog::parse(&groups, &[profile("controlplane"), profile("init")]).unwrap();
    let group = catalog.select(&Labels::default().with_role("init")).unwrap();
    assert_eq!((group.name.as_str(), group.profile.id.as_str()), ("g", "init"));
}

#[test]
fn all_selectors_must_match_and_most_win() {
    let groups = [
        file("groups/z.json", r#"{"name": "all", "profile": "p"}"#),
        file(
            "groups/y.json",
            r#"{"name": "rack", "profile": "p", "selector": {"type": "worker", "rack": "1"}}"#,
        ),
        file(
            "groups/x.json",
            r#"{"name": "one", "profile": "p", "selector": {"mac": "52-54-00-12-34-AB"}}"#,
        ),
        file("groups/w.json", r#"{"name": "b", "profile": "p", "selector": {"type": "worker"}}"#),
        file("groups/v.json", r#"{"name": "a", "profile": "p", "selector": {"type": "worker"}}"#),
    ];
    let catalog = Catalog::parse(&groups, &[profile("p")]).unwrap();
    for (query, name) in [
        ("", "all"),
        ("rack=1", "all"),
        ("mac=52:54:00:12:34:ab", "one"),
        ("mac=525400123456&type=worker", "a"),
        ("mac=525400123456&type=worker&rack=1", "rack"),
    ] {
        assert_eq!(selected(&catalog, query), Some(name), "{query}");
    }
}

#[test]
fn a_broken_file_is_named_with_its_place() {
    let bad_group = |text| {
        Catalog::parse(&[file("groups/bad.json", text)], &[profile("p")]).unwrap_err().to_string()
    };
    for (text, part) in [
        ("{\n  \"profile\": \"p\",\n}", "groups/bad.json: trailing comma at line 3 column 1"),
        ("{}", "missing field `profile` at line 1 column 2"),
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\"profile\": 7}", "invalid type: integer `7`, expected a string at line 1 column 13"),
        ("{\"profile\": \"q\"}", "groups/bad.json: no profile \"q\"; there are: p"),
        ("{\"profile\": \"p\", \"selector\": {\"mac\": \"5\"}}", "not a MAC address"),
    ] {
        let error = bad_group(text);
        assert!(error.contains(part), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn arguments_cannot_break_out_of_their_command() {
    for arg in ["a\nshell", "a\r", "a || shell", "a && b", "x ; y", "#x", "a #b", "a\\", "", " "] {
        let text = serde_json::json!({"boot": {"kernel": "/k", "args": [arg]}}).to_string();
        let error = Catalog::parse(&[], &[file("p.json", &text)]).unwrap_err().to_string();
        assert!(error.starts_with("p.json: ") && error.contains("at line 1 column"), "{error}");
    }
    for arg in ["a", "a=b;c", "a=\"b c\"", "ip=:::::::${next-server}::", "x#y", "a||b"] {
        let text = serde_json::json!({"boot": {"kernel": "/k", "args": [arg]}}).to_string();
        Catalog::parse(&[], &[file("p.json", &text)]).unwrap();
    }
}

proptest! {
    #[test]
    fn takes_any_text(text in prop_oneof!["\\PC*", "[{}\\[\\]\":,a-z\\\\0-9]*"]) {
        let any = [file("any.json", &text)];
        let _ = (Catalog::parse(&any, &[]), Catalog::parse(&[], &any));
    }
}
