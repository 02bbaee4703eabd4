//! Tests of the names and places of files.

use proptest::prelude::*;

use super::*;

fn wanted(archs: &[Arch]) -> Wanted {
    let version = "v1.13.9".parse().unwrap();
    Wanted { version, archs: archs.to_vec(), uki: false, ipxe: None }
}

fn urls(plan: &Plan) -> Vec<(&str, &str)> {
    plan.items.iter().map(|item| (item.url.as_str(), item.name.as_str())).collect()
}

#[test]
fn versions_look_like_talos_versions() {
    for good in ["v1.13.9", "v1.14.0-alpha.0", "v0.0.0", "v1.13.0-rc.1-5-gdeadbee"] {
        assert_eq!(good.parse::<Version>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "v",
        "1.13.9",
        "v1.13",
        "v1.13.9.1",
        "v1..9",
        "v1.13.9-",
        "v1.13.9-a..b",
        "v1.13.x",
        "v1.13.9/..",
        "v1.13.9-../..",
        "v1.13.9-a/b",
        "v1.13.9\n",
        " v1.13.9",
        "v1.13.123456",
    ] {
        assert_eq!(bad.parse::<Version>(), Err(VersionError), "{bad:?}");
    }
}

#[test]
fn a_schematic_is_64_hexadecimal_digits() {
    let upper = Schematic::plain().to_string().to_ascii_uppercase();
    assert_eq!(upper.parse(), Ok(Schematic::plain()));
    for bad in ["", &upper[1..], &format!("{upper}0"), &upper.replace('7', "g")] {
        assert_eq!(bad.parse::<Schematic>(), Err(SchematicError), "{bad:?}");
    }
}

#[test]
fn a_base_url_has_a_host_and_nothing_behind_its_path() {
    for (text, base) in [
        ("https://factory.talos.dev/", "https://factory.talos.dev"),
        ("http://127.0.0.1:8000/talos//", "http://127.0.0.1:8000/talos"),
        ("http://[::1]:80", "http://[::1]:80"),
    ] {
        assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), base);
    }
    for bad in [
        "",
        "http://",
        "https:///x",
        "ftp://x",
        "factory.talos.dev",
        "http://a b",
        "http://x?y",
        "http://x#y",
        "http://user:secret@x",
        "http://x\r\nHost: y",
        "file:///etc",
    ] {
        assert_eq!(bad.parse::<BaseUrl>(), Err(BaseUrlError), "{bad:?}");
    }
}

#[test]
fn the_factory_calls_a_kernel_a_kernel() {
    let base = "https://factory.talos.dev".parse().unwrap();
    let source = Source::Factory { base, schematic: Schematic::plain() };
    let wanted = Wanted { uki: true, ..wanted(&[Arch::Amd64]) };
    let plan = Plan::new(&source, &wanted);
    let below = format!("https://factory.talos.dev/image/{}/v1.13.9", Schematic::plain());
    assert_eq!(
        urls(&plan),
        [
            (format!("{below}/kernel-amd64").as_str(), "vmlinuz-amd64"),
            (&format!("{below}/initramfs-amd64.xz"), "initramfs-amd64.xz"),
            (&format!("{below}/metal-amd64-uki.efi"), "metal-amd64-uki.efi"),
        ]
    );
    assert_eq!(plan.sums, []);
}

#[test]
fn a_release_has_checksums_beside_its_files() {
    let plan = Plan::new(&Source::github(&wanted(&[]).version), &wanted(&[Arch::Arm64]));
    let below = "https://github.com/siderolabs/talos/releases/download/v1.13.9";
    assert_eq!(plan.items[0].url, format!("{below}/vmlinuz-arm64"));
    assert_eq!(plan.sums[0], (Algorithm::Sha256, format!("{below}/sha256sum.txt")));
    assert_eq!(plan.sums[1], (Algorithm::Sha512, format!("{below}/sha512sum.txt")));
}

#[test]
fn an_architecture_counts_once_and_brings_its_ipxe() {
    let ipxe = Some("https://boot.ipxe.org".parse().unwrap());
    let archs = [Arch::Arm64, Arch::Amd64, Arch::Arm64];
    let plan = Plan::new(
        &Source::Release("http://mirror".parse().unwrap()),
        &Wanted { ipxe, ..wanted(&archs) },
    );
    assert_eq!(
        urls(&plan),
        [
            ("http://mirror/vmlinuz-amd64", "vmlinuz-amd64"),
            ("http://mirror/initramfs-amd64.xz", "initramfs-amd64.xz"),
            ("http://mirror/vmlinuz-arm64", "vmlinuz-arm64"),
            ("http://mirror/initramfs-arm64.xz", "initramfs-arm64.xz"),
            ("https://boot.ipxe.org/undionly.kpxe", "undionly.kpxe"),
            ("https://boot.ipxe.org/x86_64-efi/snponly.efi", "snponly.efi"),
            ("https://boot.ipxe.org/arm64-efi/snponly.efi", "snponly-arm64.efi"),
        ]
    );
}

proptest! {
    #[test]
    fn what_parses_cannot_leave_its_place_in_a_url(text in "\\PC{0,80}") {
        if let Ok(version) = text.parse::<Version>() {
            prop_assert!(!version.to_string().contains(['/', '?', '#', '%', ' ']));
        }
        if let Ok(base) = text.parse::<BaseUrl>() {
            prop_assert!(!base.to_string().contains(['?', '#', '@', ' ']));
        }
        let _ = text.parse::<Schematic>();
    }
}
