//! Templates and metadata, with examples of the shape that matchbox's documentation has.

use proptest::prelude::*;

use super::super::catalog::{Catalog, JsonFile};
use super::super::labels::Labels;
use super::*;

const NODE: &str = r#"{
    "name": "node7",
    "profile": "storage",
    "selector": {"mac": "52-54-00-AA-00-07", "Region": "north"},
    "metadata": {
        "service_name": "objects",
        "peers": "n7=https://n7.lab:2380,n8=https://n8.lab:2380",
        "disk": {"path": "/dev/vdb", "size": {"gib": 20}},
        "spare": false,
        "ratio": 0.25,
        "many": 20000000,
        "most": 123456,
        "list": [1, 2],
        "nothing": null,
        "request": {"query": {"mac": "reserved"}}
    }
}"#;

fn variables(group: &str, query: &str) -> Variables {
    let file = |path: &str, text: &str| JsonFile { path: path.into(), text: text.into() };
    let profile = file("storage.json", r#"{"generic_id": "", "boot": {"kernel": "/assets/k"}}"#);
    let catalog = Catalog::parse(&[file("g.json", group)], &[profile]).unwrap();
    let labels = Labels::from_query(query).unwrap();
    Variables::new(catalog.select(&labels).unwrap(), &labels, query)
}

fn node() -> Variables {
    variables(NODE, "mac=52-54-00-aa-00-07&Region=north&os=installed&count=3")
}

#[test]
fn metadata_is_an_env_file() {
    let expected = "\
DISK_PATH=/dev/vdb
DISK_SIZE_GIB=20
MAC=52:54:00:aa:00:07
MANY=2e+07
MOST=123456
PEERS=n7=https://n7.lab:2380,n8=https://n8.lab:2380
RATIO=0.25
REGION=north
REQUEST_QUERY_REGION=north
REQUEST_QUERY_COUNT=3
REQUEST_QUERY_MAC=52:54:00:aa:00:07
REQUEST_QUERY_OS=installed
REQUEST_RAW_QUERY=mac=52-54-00-aa-00-07&Region=north&os=installed&count=3
SERVICE_NAME=objects
SPARE=false
";
    assert_eq!(node().to_env(), expected);
}

#[test]
fn a_request_adds_no_lines() {
    let group = r#"{"profile": "storage"}"#;
    let env = variables(group, "a=x%0AEVIL=1&mac=none&b%0D=y&c=z").to_env();
    assert_eq!(env, "REQUEST_QUERY_C=z\nREQUEST_RAW_QUERY=a=x%0AEVIL=1&mac=none&b%0D=y&c=z\n");
}

#[test]
fn templates_know_selectors_metadata_and_the_request() {
    let template = "# {{.service_name}} of {{ .region }}\nmac={{.mac}} {{.disk.size.gib}} {{.spare}}\n\
                    {{.request.query.mac}} {{.request.query.os}}\n{{.request.raw_query}}}}\n";
    let filled = "# objects of north\nmac=52:54:00:aa:00:07 20 false\n52:54:00:aa:00:07 installed\n\
                  mac=52-54-00-aa-00-07&Region=north&os=installed&count=3}}\n";
    assert_eq!(fill(template, &node()).unwrap(), filled);
}

#[test]
fn anything_else_is_named() {
    for (template, error) in [
        ("a\n{{if .spare}}x{{end}}", "line 2: {{if .spare}} is not supported, only names such as"),
        ("{{- .mac -}}", "line 1: {{- .mac -}} is not supported"),
        ("{{.mac | printf \"%s\"}}", "is not supported"),
        ("{{.}}", "is not supported"),
        ("{{}}", "line 1: {{}} is not supported"),
        ("\n\n{{.mac", "line 3: {{ without }}"),
        ("{{.other}}", "line 1: there is no .other"),
        ("{{.mac.inner}}", "there is no .mac.inner"),
        ("{{.request.query.none}}", "there is no .request.query.none"),
        ("{{.list}}", "line 1: .list is no single value"),
        ("{{.disk}}", ".disk is no single value"),
        ("{{.nothing}}", ".nothing is no single value"),
    ] {
        let told = fill(template, &node()).unwrap_err().to_string();
        assert!(told.contains(error), "{told}");
    }
}

proptest! {
    #[test]
    fn takes_any_template(template in prop_oneof!["\\PC*", "(\\{\\{|\\}\\}|[.a-z é\n]|\\.mac){0,20}"]) {
        if let Ok(filled) = fill(&template, &node()) {
            prop_assert!(template.contains("{{") || filled == template);
        }
    }
}
