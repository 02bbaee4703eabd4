//! The scripts, line by line.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::catalog::{Catalog, JsonFile, default_groups, default_profiles};
use super::super::labels::Labels;
use super::super::talos::{self, Version};
use super::*;

const ORIGIN: Origin = Origin { address: Ipv4Addr::new(192, 168, 123, 1), port: 8080 };
const CONFIG: &str = "http://192.168.123.1:8080/config/00ff";

/// The script of a profile with this `boot` object.
fn script(boot: &str, config: Option<&str>) -> Option<String> {
    let file = |path: &str, text: &str| JsonFile { path: path.to_owned(), text: text.to_owned() };
    let groups = [file("g.json", r#"{"profile": "p"}"#)];
    let profiles = [file("p.json", &format!(r#"{{"boot": {boot}}}"#))];
    let catalog = Catalog::parse(&groups, &profiles).ok()?;
    Some(kernel(&ORIGIN, &catalog.select(&Labels::default())?.profile, config))
}

#[test]
fn asks_with_every_label() {
    let script = boot_ipxe(&ORIGIN);
    let ask = "http://192.168.123.1:8080/ipxe?uuid=${uuid}&ip=${netX/ip}&mac=${netX/mac:hexhyp}\
               &domain=${domain:uristring}&hostname=${hostname:uristring}\
               &serial=${serial:uristring}&arch=${buildarch}&type=auto ";
    assert!(script.starts_with("#!ipxe\n"));
    assert!(script.contains(ask), "{script}");
}

#[test]
fn the_menu_leads_somewhere_from_every_item() {
    let script = menu(&ORIGIN);
    for (key, label, title) in [
        ("i", "init", "Bootstrap Node"),
        ("c", "controlplane", "Master Node"),
        ("w", "worker", "Worker Node"),
        ("f", "refresh", "Refresh"),
        ("s", "shell", "iPXE Shell"),
        ("r", "reboot", "Reboot"),
        ("e", "exit", "Exit"),
    ] {
        assert!(script.contains(&format!("\nitem --key {key} {label} {title}\n")), "{label}");
        assert!(script.contains(&format!("\n:{label}\n")), "{label}");
    }
    assert!(script.contains("&arch=${buildarch} || goto failed"), "asks without a type");
    assert!(script.contains("&type=${choice} || goto failed"));
}

#[test]
fn boots_current_talos() {
    let catalog = Catalog::parse(&default_groups(), &default_profiles()).unwrap();
    let group = catalog.select(&Labels::default().with_role("worker")).unwrap();
    let profile = talos::fit(&group.profile, &ORIGIN, None, Version::ASSUMED, |_| true);
    assert_eq!(
        kernel(&ORIGIN, &profile, Some(CONFIG)),
        "#!ipxe\nimgfree\n\
         kernel http://192.168.123.1:8080/assets/vmlinuz-amd64 initrd=initramfs-amd64.xz \
         talos.platform=metal console=tty0 console=ttyS0 init_on_alloc=1 slab_nomerge pti=on \
         consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 \
         module.sig_enforce=1 proc_mem.force_override=never \
         talos.config=http://192.168.123.1:8080/config/00ff\n\
         initrd --name initramfs-amd64.xz http://192.168.123.1:8080/assets/initramfs-amd64.xz\n\
         boot\n"
    );
}

#[test]
fn a_machine_without_a_config_gets_no_argument_for_it() {
    let boot = r#"{"kernel": "/assets/k", "args": ["a", "talos.config=http://${next-server}:8080/assets/w.yaml"]}"#;
    assert!(script(boot, None).unwrap().contains("/assets/k a\nboot\n"));
}

#[test]
fn foreign_configs_and_other_settings_stay() {
    let boot = r#"{"kernel": "https://example.com/k", "args":
        ["talos.config=https://example.com/c?u=${uuid}", "ip=:::::::${next-server}::"]}"#;
    assert!(script(boot, Some(CONFIG)).unwrap().contains(
        "kernel https://example.com/k talos.config=https://example.com/c?u=${uuid} \
         ip=:::::::192.168.123.1::\n"
    ));
}

#[test]
fn images_have_the_names_that_the_arguments_use() {
    let boot = r#"{"kernel": "/assets/k", "initrd": ["--name main /assets/a.xz", "/assets/b.xz?x"],
        "args": ["initrd=wrong.xz", "quiet"]}"#;
    let script = script(boot, None).unwrap();
    assert!(script.contains("/assets/k initrd=main initrd=b.xz quiet\n"), "{script}");
    assert!(script.contains("initrd --name main http://192.168.123.1:8080/assets/a.xz\n"));
    assert!(script.contains("initrd --name b.xz http://192.168.123.1:8080/assets/b.xz?x\n"));
}

proptest! {
    #[test]
    fn no_profile_adds_a_command(
        kernel in ".*", initrd in ".*", args in proptest::collection::vec(".*", 0..4)
    ) {
        let boot = serde_json::json!({"kernel": kernel, "initrd": [initrd], "args": args});
        if let Some(script) = script(&boot.to_string(), Some(CONFIG)) {
            let commands: Vec<_> =
                script.lines().filter_map(|line| line.split_whitespace().next()).collect();
            prop_assert_eq!(commands, ["#!ipxe", "imgfree", "kernel", "initrd", "boot"]);
            prop_assert!(!script.contains("\\\n"));
        }
    }
}
