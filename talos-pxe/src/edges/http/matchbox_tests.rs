//! `/metadata` and `/generic` with a default group, a group of one machine, and one of a role.

use std::fs;
use std::os::unix::fs::symlink;

use super::super::tests::Lab;

const PROFILE: &str = r#"{"ignition_id": "x.ign", "generic_id": "setup.cfg", "boot": {"kernel": "/assets/vmlinuz-amd64"}}"#;

fn lab() -> Lab {
    Lab::with(&[
        ("profiles/storage.json", PROFILE),
        (
            "profiles/plain.json",
            r#"{"generic_id": "", "boot": {"kernel": "/assets/vmlinuz-amd64"}}"#,
        ),
        (
            "groups/node.json",
            r#"{"profile": "storage", "selector": {"mac": "525400aa0007"},
                "metadata": {"service": "objects"}}"#,
        ),
        (
            "groups/role.json",
            r#"{"profile": "storage", "selector": {"type": "worker"},
                "metadata": {"service": "work"}}"#,
        ),
        ("groups/default.json", r#"{"profile": "plain", "metadata": {"service": "none"}}"#),
        ("generic/setup.cfg", "service={{.service}}\nos={{.request.query.os}}\n"),
    ])
}

#[tokio::test]
async fn metadata_is_that_of_the_group() {
    let lab = lab();
    let node = lab.get("/metadata?mac=52-54-00-aa-00-07&os=a%20b").await;
    assert_eq!((node.status, node.header("content-type")), (200, "text/plain; charset=utf-8"));
    let expected = "MAC=52:54:00:aa:00:07\nREQUEST_QUERY_MAC=52:54:00:aa:00:07\n\
                    REQUEST_QUERY_OS=a b\nREQUEST_RAW_QUERY=mac=52-54-00-aa-00-07&os=a%20b\n\
                    SERVICE=objects\n";
    assert_eq!(node.body, expected);
    let other = lab.get("/metadata?mac=52-54-00-aa-00-08").await.body;
    assert!(other.contains("SERVICE=none\n"), "the default group: {other}");
    assert_eq!(lab.get("/metadata").await.body, "REQUEST_RAW_QUERY=\nSERVICE=none\n");
    lab.get("/ipxe?mac=52-54-00-aa-00-08&type=worker").await;
    let chosen = lab.get("/metadata?mac=52-54-00-aa-00-08").await.body;
    assert!(chosen.contains("SERVICE=work\n"), "the role chosen before: {chosen}");
}

#[tokio::test]
async fn a_template_is_filled_in() {
    let lab = lab();
    let node = lab.get("/generic?mac=52-54-00-aa-00-07&os=installed").await;
    assert_eq!((node.status, node.body.as_str()), (200, "service=objects\nos=installed\n"));
    for path in [
        "/generic?mac=52-54-00-aa-00-07",
        "/generic",
        "/generic/setup.cfg",
        "/ignition?mac=52-54-00-aa-00-07",
        "/cloud",
        "/grub",
    ] {
        let refused = lab.get(path).await;
        assert_eq!((refused.status, refused.body.lines().count()), (404, 1), "{path}");
    }
    assert!(lab.get("/ignition").await.body.contains("not supported"));
}

#[tokio::test]
async fn no_template_is_a_secret() {
    let lab = lab();
    let generic = lab.root.path().join("generic/setup.cfg");
    let refuses = async |what: &str| {
        let answer = lab.get("/generic?mac=525400aa0007&os=v1alpha1").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "not found\n"), "{what}");
    };
    refuses("a value that makes a config of it").await;
    lab.write("generic/setup.cfg", "version: v1alpha1\n");
    refuses("a config").await;
    lab.write("generic/setup.cfg", &format!("{}\nPRIVATE KEY", "x".repeat(10_000)));
    refuses("a key far behind").await;
    lab.write("generic/setup.cfg", "\0machine:");
    refuses("a binary").await;
    fs::remove_file(&generic).unwrap();
    symlink("../assets/worker.yaml", &generic).unwrap();
    refuses("a link out of the folder").await;
    fs::remove_file(&generic).unwrap();
    fs::hard_link(lab.root.path().join("assets/worker.yaml"), &generic).unwrap();
    refuses("a config by another name").await;
}
