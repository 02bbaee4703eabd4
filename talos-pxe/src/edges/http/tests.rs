//! The routes, from a machine's first request to its config, and everything that they refuse.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use proptest::prelude::*;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::edges::rules::{Source, Watch};

const ORIGIN: Origin = Origin { address: Ipv4Addr::new(192, 168, 123, 1), port: 8080 };
const CONFIG: &str = "version: v1alpha1\nmachine:\n  type: worker\n";

/// A root with a kernel and a worker's config, and its routes.
pub(super) struct Lab {
    pub(super) root: TempDir,
    router: Router,
    machines: Arc<Machines>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Lab {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With these files as well.
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["assets/sub", "firmware", "generic", "groups", "profiles"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let machines = Arc::new(Machines::in_memory());
        let lab = Self { router: Router::new(), root, machines };
        lab.write("assets/vmlinuz-amd64", "0123456789");
        lab.write("assets/sub/initramfs.xz", "xz");
        lab.write("assets/worker.yaml", CONFIG);
        lab.write("firmware/snponly.efi", "MZ\0");
        lab.write("firmware/undionly.kpxe", "\u{7f}\0");
        for (path, text) in files {
            lab.write(path, text);
        }
        let firmware = lab.root.path().join("firmware");
        let root = lab.root.path();
        let source = Source { root: root.to_owned(), origin: ORIGIN, served: None };
        let rules = Watch::start(source).unwrap().in_force();
        let site = Site::new(root, &firmware, ORIGIN, rules, Arc::clone(&lab.machines));
        Self { router: router(Arc::new(site)), ..lab }
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::write(self.root.path().join(path), text).unwrap();
    }

    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let client: SocketAddr = ([192, 168, 123, 9], 1234).into();
        request.extensions_mut().insert(ConnectInfo(client));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, &[]).await
    }

    /// The path of the config in a machine's boot script.
    async fn config_path(&self, query: &str) -> Option<String> {
        let script = self.get(&format!("/ipxe?{query}")).await.body;
        let (_, url) = script.split_once("talos.config=http://192.168.123.1:8080")?;
        Some(url.split_whitespace().next()?.to_owned())
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn a_machine_goes_from_entry_to_kernel_and_config() {
    let lab = Lab::new();
    let entry = lab.get("/boot.ipxe").await;
    assert!(entry.body.contains("chain --autofree http://192.168.123.1:8080/ipxe?"));
    let menu = lab.get("/ipxe?mac=52-54-00-00-00-01&type=auto").await;
    assert!(menu.body.contains("menu iPXE boot menu for Talos"));
    let script = lab.get("/ipxe?mac=52-54-00-00-00-01&type=worker").await;
    assert_eq!(script.header("cache-control"), "no-store");
    assert!(script.body.contains("kernel http://192.168.123.1:8080/assets/vmlinuz-amd64 "));
    let path = lab.config_path("mac=52-54-00-00-00-01&type=auto").await.unwrap();
    let config = lab.get(&path).await;
    assert_eq!((config.status, config.body.as_str()), (200, CONFIG));
    assert_eq!(config.header("content-type"), "text/yaml");
    assert_eq!(config.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_boot_leaves_its_traces_in_the_record() {
    let lab = Lab::new();
    let mac: MacAddr = "52:54:00:00:00:01".parse().unwrap();
    let record = || lab.machines.get(mac).unwrap();
    lab.get("/ipxe?mac=52-54-00-00-00-01&uuid=4c4c&serial=S1&hostname=n1&type=auto").await;
    assert_eq!((record().stage, record().profile), (Some(Stage::Script), None));
    assert_eq!(record().uuid.unwrap().as_str(), "4c4c");
    assert_eq!(record().serial.unwrap().as_str(), "S1");
    assert_eq!(record().hostname.unwrap().as_str(), "n1");
    assert_eq!(record().address, Some(IpAddr::from([192, 168, 123, 9])));

    let path = lab.config_path("mac=525400000001&type=worker").await.unwrap();
    assert_eq!(record().role.unwrap().as_str(), "worker");
    assert_eq!(record().profile.unwrap().as_str(), "worker");
    lab.write("assets/initramfs-amd64.xz", "xz");
    lab.send("HEAD", "/assets/vmlinuz-amd64", &[]).await;
    for (path, stage) in [
        ("/assets/sub/initramfs.xz", Stage::Script),
        ("/assets/vmlinuz-amd64", Stage::Kernel),
        ("/assets/missing", Stage::Kernel),
        ("/assets/initramfs-amd64.xz", Stage::Initramfs),
        (path.as_str(), Stage::Config),
        ("/ipxe?mac=525400000001", Stage::Script),
        ("/firmware/snponly.efi", Stage::BootFile),
    ] {
        lab.get(path).await;
        assert_eq!(record().stage, Some(stage), "{path}");
    }
}

#[tokio::test]
async fn a_machine_of_the_inventory_needs_no_menu() {
    let lab = Lab::with(&[(
        "machines.yaml",
        "machines:\n  - { mac: 52-54-00-00-00-01, role: worker }\n",
    )]);
    let script = lab.get("/ipxe?mac=52-54-00-00-00-01&type=auto").await;
    assert!(script.body.contains("/config/"), "{}", script.body);
    let other = lab.get("/ipxe?mac=52-54-00-00-00-02&type=auto").await;
    assert!(other.body.contains("menu iPXE boot menu for Talos"));
    assert_eq!(lab.get("/machines.yaml").await.status, 404);
    assert_eq!(lab.get("/assets/../machines.yaml").await.status, 404);
}

#[tokio::test]
async fn each_request_is_answered_by_the_rules_in_force() {
    let lab = Lab::new();
    let root = lab.root.path().to_owned();
    let load = || {
        let source = Source { root: root.clone(), origin: ORIGIN, served: None };
        Watch::start(source).unwrap().in_force().borrow().clone()
    };
    let (in_force, rules) = tokio::sync::watch::channel(load());
    let site = Site::new(&root, &root.join("firmware"), ORIGIN, rules, lab.machines.clone());
    let lab = Lab { router: router(Arc::new(site)), ..lab };
    let ask = "/ipxe?mac=52-54-00-00-00-01&type=auto";
    assert!(lab.get(ask).await.body.contains("menu iPXE boot menu for Talos"));
    lab.write("assets/special", "nothing that looks like a config");
    assert_eq!(lab.get("/assets/special").await.status, 200);

    lab.write("machines.yaml", "machines: [{mac: 52-54-00-00-00-01, role: worker}]");
    for profile in ["controlplane", "worker"] {
        let boot =
            r#"{"kernel": "/assets/vmlinuz-amd64", "args": ["talos.config=/assets/special"]}"#;
        lab.write(&format!("profiles/{profile}.json"), &format!(r#"{{"boot": {boot}}}"#));
    }
    in_force.send_replace(load());
    assert!(lab.get(ask).await.body.contains("/config/"));
    assert_eq!(lab.get("/assets/special").await.status, 404);
}

#[tokio::test]
async fn each_machine_has_its_own_lasting_token() {
    let lab = Lab::new();
    let first = lab.config_path("mac=525400000001&type=worker").await.unwrap();
    let second = lab.config_path("mac=525400000002&type=worker").await.unwrap();
    let again = lab.config_path("mac=525400000001").await.unwrap();
    assert_ne!(first, second);
    assert_eq!(first, again);
    for path in ["/config/", "/config/x", "/config/00000000000000000000000000000000"] {
        assert_eq!(lab.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_machine_without_a_config_boots_into_maintenance_mode() {
    let lab = Lab::new();
    let script = lab.get("/ipxe?mac=525400000001&type=controlplane").await;
    assert!(script.body.contains("talos.platform=metal") && script.body.ends_with("boot\n"));
    assert!(!script.body.contains("talos.config"), "{}", script.body);
}

#[tokio::test]
async fn the_script_fits_the_files_and_the_processor() {
    let lab = Lab::new();
    lab.write("assets/kernel-arm64", "arm64");
    lab.write("assets/talos-version", "v1.14.0\n");
    let amd64 = lab.get("/ipxe?mac=525400000001&type=worker&arch=x86_64").await.body;
    assert!(amd64.contains("/assets/vmlinuz-amd64 ") && amd64.contains("ttyS0"), "{amd64}");
    assert!(!amd64.contains("init_on_alloc"), "{amd64}");
    let arm64 = lab.get("/ipxe?mac=525400000002&type=worker&arch=arm64").await.body;
    assert!(arm64.contains("/assets/kernel-arm64 ") && arm64.contains("ttyAMA0"), "{arm64}");
    lab.write("assets/talos-version", "nonsense");
    let assumed = lab.get("/ipxe?mac=525400000001").await.body;
    assert!(assumed.contains("init_on_alloc"), "{assumed}");
}

#[tokio::test]
async fn a_config_is_patched_or_not_served_at_all() {
    let lab = Lab::new();
    fs::create_dir(lab.root.path().join("patches")).unwrap();
    let patch = "patches/52-54-00-00-00-01.yaml";
    lab.write(patch, "machine: {install: {disk: /dev/vda}}");
    let path = lab.config_path("mac=525400000001&type=worker").await.unwrap();
    assert!(lab.get(&path).await.body.contains("disk: /dev/vda\n"));
    let other = lab.config_path("mac=525400000002&type=worker").await.unwrap();
    assert_eq!(lab.get(&other).await.body, CONFIG);

    lab.write(patch, "machine: [x]");
    let mut refused = lab.get(&path).await;
    for _ in 0..20 {
        refused = lab.get(&path).await;
    }
    assert_eq!((refused.status, refused.body.lines().count()), (500, 1));
    assert!(!refused.body.contains("machine"), "{}", refused.body);
    let script = lab.get("/ipxe?mac=525400000001").await;
    assert_eq!(script.status, 200, "iPXE shows the text of a script only");
    assert!(script.body.contains("echo The config of this machine cannot be made"));
    assert!(script.body.ends_with("exit 1\n") && !script.body.contains("kernel"));

    lab.write(patch, "machine: {install: {disk: /dev/vdb}}");
    assert!(lab.get(&path).await.body.contains("disk: /dev/vdb\n"), "the same link works again");
}

#[tokio::test]
async fn secrets_are_not_assets() {
    let lab = Lab::new();
    let assets = lab.root.path().join("assets");
    for name in
        ["talosconfig", "worker.yaml.bak", "worker.yaml~", "WORKER.YML", ".hidden", "ca.key"]
    {
        lab.write(&format!("assets/{name}"), "harmless");
    }
    symlink("worker.yaml", assets.join("link")).unwrap();
    symlink("../firmware/snponly.efi", assets.join("out")).unwrap();
    fs::hard_link(assets.join("worker.yaml"), assets.join("hard")).unwrap();
    fs::hard_link(assets.join("worker.yaml"), lab.root.path().join("firmware/boot.efi")).unwrap();
    for path in [
        "/assets/worker.yaml",
        "/assets/%77orker.yaml",
        "/assets/worker%2eyaml",
        "/assets/talosconfig",
        "/assets/worker.yaml.bak",
        "/assets/worker.yaml~",
        "/assets/WORKER.YML",
        "/assets/.hidden",
        "/assets/ca.key",
        "/assets/link",
        "/assets/out",
        "/assets/hard",
        "/firmware/boot.efi",
        "/assets/",
        "/assets/sub",
        "/assets/../assets/vmlinuz-amd64",
        "/assets/../firmware/snponly.efi",
        "/assets/%2e%2e/firmware/snponly.efi",
        "/assets/..%2ffirmware%2fsnponly.efi",
        "/assets/%252e%252e/firmware/snponly.efi",
        "/assets/..%5cfirmware",
        "/assets//etc/passwd",
        "/assets/%00",
        "/firmware/../assets/worker.yaml",
        "/firmware/%2e%2e%2fassets%2fworker.yaml",
        "/firmware/",
        "/worker.yaml",
        "/",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = lab.send(method, path, &[]).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(matches!(answer.body.as_str(), "not found\n" | ""), "{path}");
        }
    }
    assert_eq!(lab.send("POST", "/ipxe", &[]).await.status, 405);
}

#[tokio::test]
async fn assets_are_served_whole_and_in_parts() {
    let lab = Lab::new();
    let kernel = "/assets/vmlinuz-amd64";
    let whole = lab.get(kernel).await;
    assert_eq!((whole.status, whole.body.as_str()), (200, "0123456789"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), "10");
    assert_eq!(lab.get("/assets/sub/initramfs%2Exz").await.body, "xz");
    let head = lab.send("HEAD", kernel, &[]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "10", ""));

    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=8-", 206, "bytes 8-9/10", "89"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("nonsense", 200, "", "0123456789"),
        ("bytes=10-", 416, "bytes */10", "the file has 10 bytes\n"),
    ] {
        let part = lab.send("GET", kernel, &[("range", range)]).await;
        assert_eq!((part.status, part.body.as_str()), (status, body), "{range}");
        assert_eq!(part.header("content-range"), content_range, "{range}");
    }
}

#[tokio::test]
async fn preconditions_count() {
    let lab = Lab::new();
    let kernel = "/assets/vmlinuz-amd64";
    let whole = lab.get(kernel).await;
    let (etag, modified) = (whole.header("etag"), whole.header("last-modified"));
    for (headers, status) in [
        (vec![("if-none-match", etag)], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (vec![("if-none-match", "\"other\""), ("if-modified-since", modified)], 200),
        (vec![("if-modified-since", modified)], 304),
        (vec![("range", "bytes=1-1"), ("if-range", etag)], 206),
        (vec![("range", "bytes=1-1"), ("if-range", "\"other\"")], 200),
        (vec![("range", "bytes=1-1"), ("if-range", "garbage")], 200),
    ] {
        assert_eq!(lab.send("GET", kernel, &headers).await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn firmware_has_the_type_that_uefi_wants() {
    let lab = Lab::new();
    let program = lab.get("/firmware/snponly.efi").await;
    assert_eq!((program.status, program.header("content-type")), (200, "application/efi"));
    lab.write("assets/metal-amd64-uki.efi", "MZ\0");
    let uki = lab.send("HEAD", "/assets/metal-amd64-uki.efi", &[]).await;
    assert_eq!((uki.status, uki.header("content-type")), (200, "application/efi"));
    let other = lab.get("/firmware/undionly.kpxe").await;
    assert_eq!(other.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn too_long_a_query_is_refused_in_one_line() {
    let answer = Lab::new().get(&format!("/ipxe?{}", "x".repeat(300))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body.lines().count(), 1);
}

/// Whatever a machine says of itself, its script is the one that others get too.
#[test]
fn no_label_gets_into_a_script() {
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = |query: String| runtime.block_on(lab.get(&format!("/ipxe?{query}"))).body;
    let expected = ask("type=worker".to_owned());
    proptest!(|(label in "[a-su-z]{1,8}", value in ".{0,20}")| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("serial", &value).append_pair(&label, &value);
        prop_assert_eq!(&ask(query.append_pair("type", "worker").finish()), &expected);
    });
}
