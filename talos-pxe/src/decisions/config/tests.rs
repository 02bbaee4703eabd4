//! Merging, with configs of the shape that `talosctl gen config` writes; every key is made up.

use proptest::prelude::*;

use super::*;

const CONTROLPLANE: &str = include_str!("testdata/controlplane.yaml");

fn source<'a>(name: &'a str, text: &'a str) -> Source<'a> {
    Source { name, text }
}

fn merged(base: &str, patches: &[&str]) -> Result<String, String> {
    let patches: Vec<Source<'_>> = patches.iter().map(|text| source("patch", text)).collect();
    merge(source("base", base), &patches).map_err(|error| error.to_string())
}

/// What another reader takes the documents for.
fn values(text: &str) -> Vec<serde_yaml_ng::Value> {
    use serde::Deserialize;
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|one| serde_yaml_ng::Value::deserialize(one).unwrap()).collect()
}

#[test]
fn a_real_config_and_a_long_patch() {
    let patched = merged(CONTROLPLANE, &[include_str!("testdata/patch.yaml")]).unwrap();
    assert_eq!(patched, include_str!("testdata/patched.yaml"));
}

#[test]
fn no_patch_changes_no_byte_and_an_empty_one_no_value() {
    assert_eq!(merged(CONTROLPLANE, &[]).unwrap(), CONTROLPLANE);
    for empty in ["", "# nothing\n", "---\n", "{}", "version: v1alpha1", "machine: {}"] {
        let patched = merged(CONTROLPLANE, &[empty]).unwrap();
        assert_eq!(values(&patched), values(CONTROLPLANE), "{empty:?}");
        assert_eq!(merged(&patched, &[empty]).unwrap(), patched, "{empty:?}");
    }
}

#[test]
fn patches_are_applied_in_order() {
    let patches = ["machine: {install: {disk: a}}", "machine: {install: {disk: b}}"];
    assert_eq!(
        merged("machine:\n", &patches).unwrap(),
        "machine:\n    install:\n        disk: b\n"
    );
}

#[test]
fn deletions_come_before_additions() {
    let patch = "\
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: lldpd
configFiles:
  - mountPath: /etc/lldpd.conf
    $patch: delete
  - mountPath: /etc/new.conf
    content: new
---
apiVersion: v1alpha1
kind: HostnameConfig
$patch: delete
---
machine:
  ca: {$patch: delete}
  network:
    interfaces:
      - interface: eth0
        $patch: delete
      - interface: eth0
        dhcp: true
cluster:
  apiServer:
    admissionControl: {$patch: delete}
";
    let patched = merged(CONTROLPLANE, &[patch]).unwrap();
    let documents = values(&patched);
    assert_eq!(documents.len(), 2, "{patched}");
    let machine = &documents[0]["machine"];
    assert!(machine.get("ca").is_none());
    let interfaces = machine["network"]["interfaces"].as_sequence().unwrap();
    assert_eq!(interfaces[0]["deviceSelector"]["driver"], "virtio_net");
    assert_eq!(
        interfaces[1],
        serde_yaml_ng::from_str::<serde_yaml_ng::Value>("{interface: eth0, dhcp: true}").unwrap()
    );
    assert!(documents[0]["cluster"]["apiServer"].get("admissionControl").is_none());
    assert_eq!(documents[1]["configFiles"][0]["mountPath"], "/etc/new.conf");
    assert_eq!(documents[1]["configFiles"].as_sequence().unwrap().len(), 1);
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    for (patch, error) in [
        ("machine: [", "patch: line 2 column 1: not valid YAML"),
        ("machine: {type: &a [*a]}", "an alias of what it stands in"),
        ("machine:\n  type: !!binary eA==", "patch: line 2 column 9: tags such as !!binary"),
        ("machine: {a: 1, a: 2}", "patch: line 1 column 17: a key that stands there twice"),
        ("machine: {<<: {a: 1}}", "merge keys (<<) are not supported"),
        ("[{op: add, path: /machine/x, value: 1}]", "patch: a JSON patch is not supported"),
        ("just text", "patch: document 1 is no mapping"),
        ("{}\n---\nhostname: x", "document 2 has neither `machine` nor `cluster`"),
        ("kind: HostnameConfig", "document 1 has neither"),
        (
            "machine: {network: {interfaces: {eth0: {}}}}",
            "patch: machine.network.interfaces: a mapping in the patch, a list in the config",
        ),
        (
            "machine: {network: {interfaces: [{interface: eth0, vlans: [{vlanId: 100, addresses: x}]}]}}",
            "patch: machine.network.interfaces[0].vlans[0].addresses: a value in the patch",
        ),
        (
            "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: [x]",
            "patch: HostnameConfig.auto: a list in the patch, a value in the config",
        ),
        (
            "machine: {network: {hostname: {$patch: delete}}}",
            "patch: machine.network.hostname: `$patch: delete`, but the config has nothing there",
        ),
        (
            "machine: {network: {interfaces: [{interface: eth9, $patch: delete}]}}",
            "patch: machine.network.interfaces[]: `$patch: delete`, but",
        ),
        (
            "apiVersion: v1alpha1\nkind: SwapVolumeConfig\nname: swap1\n$patch: delete",
            "patch: SwapVolumeConfig(swap1): `$patch: delete`, but",
        ),
        ("$patch: delete\nmachine: {}", "the document: `$patch: delete` cannot stand there"),
        (
            "machine: {network: {interfaces: [{interface: eth0, mtu: {$patch: delete}}]}}",
            "patch: machine.network.interfaces[0].mtu: `$patch: delete` cannot stand there",
        ),
        ("machine: {certSANs: [{$patch: delete}]}", "machine.certSANs[0]: `$patch: delete` needs"),
        ("machine: {ca: {$patch: replace}}", "patch: machine.ca: `$patch` can only be `delete`"),
    ] {
        let told = merged(CONTROLPLANE, &[patch]).unwrap_err();
        assert!(told.contains(error), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
    assert_eq!(merged("", &["machine: {}"]).unwrap_err(), "base: the config is empty");
    let twice = merged("machine: {}\n---\ncluster: {}", &["machine: {}"]).unwrap_err();
    assert_eq!(twice, "base: the document with `machine` stands there twice");
}

#[test]
fn no_message_shows_a_value() {
    let secret = "c2VjcmV0";
    for patch in [
        format!("machine: {{token: {secret}"),
        format!("machine: {{install: {secret}}}"),
        format!("machine: {{\"{secret}=\": {{$patch: delete}}}}"),
        format!("machine: {{certSANs: [{{key: {secret}, $patch: delete}}]}}"),
        secret.to_owned(),
        format!("machine: *{secret}"),
        format!("machine: !{secret} x"),
    ] {
        let told = merged(CONTROLPLANE, &[&patch]).unwrap_err();
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn a_hostname_goes_where_the_config_keeps_it() {
    let hostname = "n1.lab".parse().unwrap();
    let named = |config| set_hostname(source("base", config), &hostname).unwrap();
    let documents = values(&named(CONTROLPLANE));
    assert_eq!(documents[1]["hostname"], "n1.lab");
    assert!(documents[1].get("auto").is_none(), "excludes a name");
    assert!(documents[0]["machine"]["network"].get("hostname").is_none());

    let old = named("version: v1alpha1\nmachine:\n    network:\n        hostname: old\n");
    assert_eq!(old, "version: v1alpha1\nmachine:\n    network:\n        hostname: \"n1.lab\"\n");
    let bare = named("machine:\n");
    assert_eq!(values(&bare)[0]["machine"]["network"]["hostname"], "n1.lab");
    let other = named("apiVersion: v1alpha1\nkind: SideroLinkConfig\napiUrl: x\n");
    assert_eq!(values(&other)[1]["kind"], "HostnameConfig");
}

/// Any tree, written as YAML in the flow style, with values of every kind.
fn any_yaml() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "[a-z]{1,6}",
        "\"[a-z \\-:#0-9]{0,8}\"",
        "'[a-z\"\\\\ ]{0,8}'",
        "(0|-?[1-9][0-9]{0,3}|1\\.10|0644|0x1f|1e3|true|off|null|~|\\.inf|2026-01-01)",
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        let field =
            ("[a-zA-Z]{1,3}|machine|network|interfaces|interface|vlans|cluster", inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec(field, 0..5).prop_map(|fields| {
                let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", fields.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_yaml_gives_a_config_or_an_error(base in any_yaml(), patch in any_yaml()) {
        let (base, patch) = (format!("machine: {base}"), format!("machine: {patch}"));
        if let Ok(patched) = merged(&base, &[&patch]) {
            prop_assert_eq!(merged(&patched, &["{}"]).unwrap(), patched);
        }
    }

    #[test]
    fn an_empty_patch_is_identity(base in any_yaml()) {
        let base = format!("machine: {base}");
        if let Ok(patched) = merged(&base, &["---"]) {
            prop_assert_eq!(values(&patched), values(&base));
        }
    }

    #[test]
    fn any_text_gives_a_config_or_an_error(
        base in prop_oneof!["\\PC*", "([a-z:\\-\\[\\]{}&*!|>'\"%@#,? \n\t]|---\n){0,60}"],
        patch in "([a-z:\\-\\[\\]{}&*!|>'\"%@#,? \n]|machine: |\\$patch: delete){0,40}",
    ) {
        let _ = merged(&base, &["{}"]);
        let _ = merged(CONTROLPLANE, &[&patch]);
    }
}
