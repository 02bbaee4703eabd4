//! A config made of files: which patches count, and that none is passed over.

use std::os::unix::fs::symlink;

use super::*;

const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xab]);
const BASE: &str = "machine: # a comment\n  type: worker\n";

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        fs::create_dir(root.0.path().join("assets")).unwrap();
        fs::create_dir(root.0.path().join("patches")).unwrap();
        root.write("assets/worker.yaml", BASE);
        root
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.0.path().join(path), text).unwrap();
    }

    fn make(&self, wishes: Wishes) -> Result<String, String> {
        let configs = Configs::new(self.0.path(), move |machine| match machine {
            MACHINE => wishes.clone(),
            _ => Wishes::default(),
        });
        let made = configs.make(&AssetPath::from_plain("worker.yaml").unwrap(), MACHINE);
        made.map(|config| String::from_utf8(config).unwrap()).map_err(|error| error.to_string())
    }
}

#[test]
fn without_patches_the_base_is_served_as_it_is() {
    let root = Root::new();
    root.write("patches/52-54-00-00-00-ac.yaml", "machine: {type: other}");
    root.write("patches/52-54-00-00-00-ab.txt", "machine: {type: other}");
    assert_eq!(root.make(Wishes::default()).unwrap(), BASE);
}

#[test]
fn the_file_comes_behind_the_inventory_and_the_hostname_last() {
    let root = Root::new();
    root.write("patches/525400-0000AB.yaml", "nothing: of ours");
    root.write("patches/52-54-00-00-00-AB.yml", "machine: {type: file, network: {hostname: x}}");
    let wishes = Wishes {
        hostname: Some("n1".parse().unwrap()),
        patches: vec![("inventory".to_owned(), "machine: {type: a, token: b}".to_owned())],
    };
    let config = root.make(wishes).unwrap();
    let expected =
        "machine:\n    type: file\n    token: b\n    network:\n        hostname: \"n1\"\n";
    // The order of the keys is that in which they came.
    assert_eq!(config, expected);
}

#[test]
fn files_that_are_no_machines_are_told() {
    let root = Root::new();
    for name in ["52-54-00-00-00-ab.yaml", "5254000000AC.YML", ".swp", "node1.yaml", "x.txt"] {
        root.write(&format!("patches/{name}"), "");
    }
    let patches = root.0.path().join("patches");
    assert_eq!(strays(root.0.path()), [patches.join("node1.yaml"), patches.join("x.txt")]);
}

#[test]
fn what_cannot_be_made_is_named() {
    let root = Root::new();
    let patch = "patches/52-54-00-00-00-ab.yaml";
    root.write(patch, "machine: [secret]");
    let error = root.make(Wishes::default()).unwrap_err();
    assert!(
        error.ends_with(
            "52-54-00-00-00-ab.yaml: machine: a list in the patch, a mapping in the config"
        ),
        "{error}"
    );

    fs::write(root.0.path().join(patch), [0xff]).unwrap();
    assert!(root.make(Wishes::default()).unwrap_err().ends_with("it is no text in UTF-8"));
    fs::remove_file(root.0.path().join(patch)).unwrap();
    symlink("gone", root.0.path().join(patch)).unwrap();
    assert!(root.make(Wishes::default()).unwrap_err().contains("52-54-00-00-00-ab.yaml"));
    fs::remove_file(root.0.path().join(patch)).unwrap();

    root.write("assets/worker.yaml", &"#".repeat(5 << 20));
    assert!(root.make(Wishes::default()).unwrap_err().contains("worker.yaml: file too large"));
    fs::remove_file(root.0.path().join("assets/worker.yaml")).unwrap();
    let error = root.make(Wishes::default()).unwrap_err();
    assert_eq!(error, "there is no such file in the assets folder");
}
