//! Versions, names of files, and profiles that fit.

use std::net::Ipv4Addr;

use super::super::catalog::{Catalog, JsonFile, default_groups, default_profiles};
use super::*;

const ORIGIN: Origin = Origin { address: Ipv4Addr::new(10, 0, 0, 1), port: 8080 };

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn versions_are_read_and_compared() {
    assert_eq!(version("v1.13.9\n"), Version::ASSUMED);
    assert!(version("1.14.0-beta.1") > Version::ASSUMED && version("v1.9.0") < Version::ASSUMED);
    for text in ["", "v", "v1", "1.x", "latest", "v-1.2"] {
        assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
    }
    assert_eq!(Version::in_path("/assets/talos/v1.14.2/vmlinuz-amd64"), Some(version("v1.14")));
    assert_eq!(Version::in_path("http://10.0.0.1/assets/vmlinuz-amd64"), None);
}

#[test]
fn files_have_two_names_and_one_processor() {
    let arm = Some(Processor::Arm64);
    for (asset, processor, names) in [
        ("vmlinuz-amd64", None, &["vmlinuz-amd64", "kernel-amd64"][..]),
        ("a/kernel-amd64", arm, &["a/kernel-arm64", "a/vmlinuz-arm64"]),
        ("vmlinuz-arm64", Some(Processor::Amd64), &["vmlinuz-amd64", "kernel-amd64"]),
        ("vmlinuz-arm64", None, &["vmlinuz-arm64", "kernel-arm64"]),
        ("initramfs-amd64.xz", arm, &["initramfs-arm64.xz"]),
        ("linux", arm, &["linux"]),
    ] {
        assert_eq!(file_names(asset, processor), names, "{asset}");
    }
}

/// The words of the script's kernel and initrd lines.
fn booted(query: &str, version: Version, files: &[&str]) -> String {
    let labels = Labels::from_query(query).unwrap();
    let catalog = Catalog::parse(&default_groups(), &default_profiles()).unwrap();
    let profile = &catalog.select(&labels).unwrap().profile;
    let exists = |path: &AssetPath| files.contains(&path.as_str());
    let fitted = fit(profile, &ORIGIN, Processor::of(&labels), version, exists);
    super::super::script::kernel(&ORIGIN, &fitted, None)
}

#[test]
fn a_mixed_rack_gets_the_right_files() {
    let files = ["kernel-amd64", "initramfs-amd64.xz", "vmlinuz-arm64", "initramfs-arm64.xz"];
    for (query, kernel, initrd, console) in [
        ("type=worker", "kernel-amd64", "initramfs-amd64.xz", "console=ttyS0"),
        ("type=worker&arch=", "kernel-amd64", "initramfs-amd64.xz", "console=ttyS0"),
        ("type=worker&arch=i386", "kernel-amd64", "initramfs-amd64.xz", "console=ttyS0"),
        ("type=worker&arch=x86_64", "kernel-amd64", "initramfs-amd64.xz", "console=ttyS0"),
        ("type=worker&arch=arm64", "vmlinuz-arm64", "initramfs-arm64.xz", "console=ttyAMA0"),
    ] {
        let script = booted(query, Version::ASSUMED, &files);
        let expected = format!(
            "kernel http://10.0.0.1:8080/assets/{kernel} initrd={initrd} talos.platform=metal \
             console=tty0 {console} "
        );
        assert!(script.contains(&expected), "{query}: {script}");
        assert!(script.contains(&format!("initrd --name {initrd} ")), "{query}: {script}");
    }
}

#[test]
fn the_version_decides_about_arguments() {
    let old = booted("type=worker", version("v1.13.9"), &[]);
    let new = booted("type=worker", version("v1.14.0"), &[]);
    for argument in ["init_on_alloc=1", "nvme_core.io_timeout=4294967295"] {
        assert!(old.contains(argument) && !new.contains(argument), "{argument}");
    }
    for argument in ["slab_nomerge", "pti=on", "selinux=1", "proc_mem.force_override=never"] {
        assert!(old.contains(argument) && new.contains(argument), "{argument}");
    }
    assert!(!old.contains(DEFAULTS) && old.contains("/assets/vmlinuz-amd64 "), "the usual name");
}

#[test]
fn own_profiles_keep_what_is_theirs() {
    let profile = r#"{"boot": {"kernel": "https://example.com/vmlinuz-amd64",
        "initrd": ["--name main http://${next-server}:8080/assets/v1.14.1/initramfs-amd64.xz?x"],
        "args": ["console=ttyS1 init_on_alloc=0", "talos.defaults quiet"]}}"#;
    let file = |path: &str, text: &str| JsonFile { path: path.into(), text: text.into() };
    let groups = [file("g.json", r#"{"profile": "p"}"#)];
    let catalog = Catalog::parse(&groups, &[file("p.json", profile)]).unwrap();
    let profile = &catalog.select(&Labels::default()).unwrap().profile;
    let arm = Some(Processor::Arm64);
    let fitted = fit(profile, &ORIGIN, arm, version("v1.14"), |_| false);
    assert_eq!(fitted.kernel.as_str(), "https://example.com/vmlinuz-amd64");
    let initrd = "--name main http://${next-server}:8080/assets/v1.14.1/initramfs-arm64.xz?x";
    assert_eq!(fitted.initrd[0].as_str(), initrd);
    assert_eq!(fitted.args[0].as_str(), "console=ttyS1 init_on_alloc=0");
    assert!(fitted.args[1].as_str().starts_with("talos.platform=metal "));
    assert!(fitted.args[1].as_str().ends_with(" quiet"));
}
