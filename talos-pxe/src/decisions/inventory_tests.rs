//! Inventories that are read, and those that are refused with the place and the cause.

use proptest::prelude::*;

use super::*;

const YAML: &str = r#"
machines:
  - mac: 52-54-00-00-00-01
    hostname: Rack1-n1
    address: 10.0.0.50
    role: controlplane
    labels: { rack: 1 }
    patch: { machine: { install: { disk: /dev/sda } } }
    patches:
      - two.yaml
      - cluster: { name: lab }
  - { mac: 525400000002 }
"#;

const TOML: &str = r#"
[[machines]]
mac = "52:54:00:00:00:01"
hostname = "rack1-n1"
address = "10.0.0.50"
role = "controlplane"
labels = { rack = "1" }
patch.machine.install.disk = "/dev/sda"
patches = ["two.yaml", { cluster = { name = "lab" } }]

[[machines]]
mac = "525400000002"
"#;

fn parse(name: &str, text: &str) -> Result<Inventory, InventoryError> {
    let two = "machine: { type: worker }\n---\nkind: HostnameConfig\n---\n";
    let files = [("two.yaml", two), ("list.yaml", "- op: add\n"), ("bad.yaml", "a: [\n")];
    let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
    let patches =
        files.map(|(name, text)| (name.to_owned(), file(&format!("patches/{name}"), text)));
    Inventory::parse(&file(name, text), &patches.into())
}

fn mac(n: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, n])
}

#[test]
fn yaml_and_toml_say_the_same() {
    let (yaml, toml) = (parse("x.yaml", YAML).unwrap(), parse("x.toml", TOML).unwrap());
    assert_eq!(yaml.machines, toml.machines);
    assert_eq!(yaml.get(mac(2)), Some(&Entry::default()));
    assert_eq!(yaml.get(mac(3)), None);
    let entry = yaml.get(mac(1)).unwrap();
    assert_eq!(entry.hostname.as_ref().unwrap().as_str(), "rack1-n1");
    assert_eq!(entry.role.as_ref().unwrap().as_str(), "controlplane");
    assert_eq!(entry.labels.get("rack").unwrap(), "1");
    let patches: Vec<&str> = entry.patches.iter().map(|patch| patch.text.as_str()).collect();
    assert_eq!(
        patches,
        [
            "machine:\n  install:\n    disk: /dev/sda\n",
            "machine: { type: worker }\n---\nkind: HostnameConfig\n---\n",
            "cluster:\n  name: lab\n",
        ]
    );
    assert_eq!(yaml.addresses().collect::<Vec<_>>(), [(mac(1), Ipv4Addr::new(10, 0, 0, 50))]);
    assert!(!format!("{yaml:?}").contains("/dev/sda"), "patches may hold secrets");
}

#[test]
fn an_inventory_may_be_empty() {
    for (name, text) in [
        ("x.yaml", ""),
        ("x.yaml", "# later\n"),
        ("x.yaml", "machines:\n"),
        ("x.yaml", "machines: []"),
        ("x.toml", ""),
        ("x.toml", "machines = []"),
    ] {
        assert!(parse(name, text).unwrap().is_empty(), "{name}: {text:?}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let second = |rest: &str| {
        format!(
            "machines:\n  - mac: 52:54:00:00:00:01\n    hostname: a\n    address: 10.0.0.9\n{rest}"
        )
    };
    for (rest, error) in [
        ("  - hostname: b\n", "machines[1]: missing field `mac` at line 5 column 5"),
        (
            "  - mac: 52:54:00\n",
            "machines[1]: not a MAC address (six pairs of hexadecimal digits, such as 52:54:00:12:34:56) at line 5 column 5",
        ),
        (
            "  - mac: 01:00:5e:00:00:01\n",
            "machines[1]: machine 01:00:5e:00:00:01: no machine has this MAC address at line 5 column 5",
        ),
        (
            "  - mac: '525400000001'\n",
            "machines[1]: machine 52:54:00:00:00:01: it stands there twice at line 5 column 5",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    hostname: A\n",
            "machines[1]: machine 52:54:00:00:00:02: another machine has the hostname a at line 5 column 5",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    address: 10.0.0.9\n",
            "machines[1]: machine 52:54:00:00:00:02: another machine has the address 10.0.0.9 at line 5 column 5",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    adress: 10.0.0.8\n",
            "machines[1]: unknown field `adress`, expected one of `mac`, `hostname`, `address`, `role`, `labels`, `patch`, `patches` at line 6 column 5",
        ),
        ("  - mac: 52:54:00:00:00:02\n    hostname: a_b\n", "machines[1]: not a hostname"),
        ("  - mac: 52:54:00:00:00:02\n    role: a b\n", "machines[1]: not a role"),
        (
            "  - mac: 52:54:00:00:00:02\n    address: 10.0.0\n",
            "machines[1].address: invalid IPv4 address syntax at line 6 column 14",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    labels: { type: a }\n",
            "machine 52:54:00:00:00:02: the label \"type\" is the machine's role: write role",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    labels: { a: [1] }\n",
            "invalid type: sequence, expected a string at line 6 column 18",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    patch: [1]\n",
            "machines[1]: a patch is a mapping, or the name of a file in patches/",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    patch: none.yaml\n",
            "machine 52:54:00:00:00:02: no file \"none.yaml\" in patches/; there are: bad.yaml, list.yaml, two.yaml",
        ),
        (
            "  - mac: 52:54:00:00:00:02\n    patch: 'token: x'\n",
            "machine 52:54:00:00:00:02: a patch is text; write a mapping, or the name of a file",
        ),
        ("extra: 1\n", "unknown field `extra`, expected `machines` at line 5 column 1"),
    ] {
        let refused = parse("m.yaml", &second(rest)).unwrap_err().to_string();
        assert!(refused.starts_with("m.yaml: ") && refused.contains(error), "{rest}\n{refused}");
    }
    for (name, error) in [
        ("list.yaml", "patches/list.yaml: not a strategic-merge patch: a mapping was expected"),
        ("bad.yaml", "patches/bad.yaml: did not find expected node content at line 2 column 1"),
    ] {
        let text = second(&format!("    patch: {name}\n"));
        let refused = parse("m.yaml", &text).unwrap_err().to_string();
        assert!(refused.starts_with(error), "{refused}");
    }
}

#[test]
fn toml_errors_have_their_place_and_quote_nothing() {
    for (text, error) in [
        ("[[machines]]\nmac = '525400000001'\npatch.token = secret\n", "m.toml: "),
        ("[[machines]]\nmac = '525400000001'\nhostname = 'a b'\n", "at line 3 column 12"),
        (
            "[[machines]]\nmac = '525400000001'\n[[machines]]\nmac = '525400000001'\n",
            "machine 52:54:00:00:00:01: it stands there twice at line 3 column 1",
        ),
        ("[[machine]]\n", "unknown field `machine`, expected `machines` at line 1 column 3"),
    ] {
        let refused = parse("m.toml", text).unwrap_err().to_string();
        assert!(refused.contains(error) && !refused.contains("secret"), "{text}\n{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
}

#[test]
fn addresses_are_those_of_hosts_in_the_subnet() {
    let own = "10.0.0.1/24".parse().unwrap();
    let check = |address: &str| {
        let text = format!("machines: [{{mac: '525400000001', address: {address}}}]");
        let checked = parse("m.yaml", &text).unwrap().check_addresses(own, [10, 0, 0, 2].into());
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(check("10.0.0.3"), Ok(()));
    for (address, cause) in [
        ("10.0.1.3", "is not inside the subnet 10.0.0.0/24: correct it, or --addr"),
        ("10.0.0.1", "is our own: correct it, or --addr"),
        ("10.0.0.2", "is the router's: correct it, or --gw"),
        ("10.0.0.0", "is no host's address in 10.0.0.0/24"),
        ("10.0.0.255", "is no host's address in 10.0.0.0/24"),
    ] {
        let error = format!("m.yaml: machine 52:54:00:00:00:01: address {address} {cause}");
        assert_eq!(check(address), Err(error));
    }
}

proptest! {
    #[test]
    fn any_text_gives_an_inventory_or_an_error(
        text in prop_oneof![
            "\\PC*",
            "(machines: ?|  - |mac: |    |'525400000001'|hostname: a|address: 10.0.0.1|role: w|labels: |\
             patch: |patches: |\\{|\\}|\\[|\\]|, |&a |\\*a|!t |<<: |\n|---\n|: ){0,40}",
            "(\\[\\[machines\\]\\]|mac = |'525400000001'|hostname = 'a'|address = '10.0.0.1'|labels = |\
             patch\\.a = |patches = |\\{|\\}|\\[|\\]|, |1979-05-27|\n){0,30}",
        ],
    ) {
        for name in ["m.yaml", "m.toml"] {
            if let Err(error) = parse(name, &text) {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}
