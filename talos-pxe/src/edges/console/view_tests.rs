//! Tests of what the screen shows.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wire::MacAddr;

const USUAL: Size = Size { columns: 80, rows: 24 };

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

fn card(index: u32, carrier: bool) -> Link {
    Link {
        index,
        name: format!("enp{index}s0"),
        mac: Some(MacAddr([0x52, 0x54, 0, 0, 0, u8::try_from(index).unwrap()])),
        kind: None,
        controller: None,
        up: true,
        carrier,
        addresses: vec![],
        ipv6: true,
        link_local: None,
    }
}

/// A console that has two cards, one of which has a link.
fn scene() -> Scene {
    let (mut console, _) = Console::start(None, true, Duration::from_secs(15), at(0));
    let _ = console.tick(&[], at(5));
    let _ = console.tick(&[card(2, false), card(3, true)], at(6));
    Scene {
        console,
        hardware: vec!["e1000e".to_owned(), "virtio_net, 1000 Mb/s".to_owned()],
        overview: None,
        admin: "127.0.0.1:9090".parse().unwrap(),
        log: "asking for a DHCP server on enp3s0".to_owned(),
        now: at(8),
        wall: WallTime(1_000_000),
    }
}

fn serving(mut scene: Scene) -> Scene {
    let _ = scene.console.key('2', at(7));
    scene
}

fn overview(machines: usize) -> Overview {
    let status = json!({
        "version": "0.1.0", "mode": "proxy", "reason": "the DHCP server 10.9.0.1 answered",
        "interface": "enp3s0", "address": "10.9.0.50/24", "uptime_seconds": 300,
        "machines": machines, "leases": null, "xdp_reason": null,
        "dhcp": { "answered": 12, "unanswered": 3, "malformed": 0, "failed": 0 },
        "xdp": { "mode": "native", "answered": 120, "frames": {} },
    });
    let machine = |number: usize| {
        json!({
            "mac": format!("52:54:00:00:01:{number:02x}"), "address": "10.9.0.51",
            "role": "controlplane", "stage": "initramfs", "hostname": "rack1-n2",
            "last_seen": 1_000_000 - 60 * number,
        })
    };
    let latest = (1..=machines.min(200)).map(|number| machine(number % 256));
    Overview {
        status: serde_json::from_value(status).unwrap(),
        latest: serde_json::from_value(latest.collect()).unwrap(),
    }
}

fn text(scene: &Scene, size: Size) -> String {
    let lines = lines(scene, size);
    lines.iter().map(|line| format!("{}\n", line.text)).collect::<String>()
}

/// The screen without the empty rows above the keys.
fn shown(scene: &Scene) -> String {
    let text = text(scene, USUAL);
    assert_eq!(text.lines().count(), USUAL.rows);
    let (body, keys) = text.trim_end().rsplit_once('\n').unwrap();
    format!("{}\n---\n{keys}", body.trim_end())
}

#[test]
fn asks_for_the_interface() {
    assert_eq!(
        shown(&scene()),
        "\
talos-pxe 0.1.0

Which network card are the machines on?

  1  enp2s0          52:54:00:00:00:02  no link  e1000e
  2  enp3s0          52:54:00:00:00:03  link     virtio_net, 1000 Mb/s

Type its number. In 12 s it is enp3s0.
---
p: power off   r: reboot"
    );
    let mut linkless = scene();
    let _ = linkless.console.tick(&[card(2, false), card(3, false)], at(8));
    assert!(
        shown(&linkless).contains("\nType its number. In 12 s it is the first that has a link.")
    );
    linkless.now = at(60);
    assert!(shown(&linkless).contains("or connect a cable: the first that has a link is taken.\n"));
    let _ = linkless.console.tick(&[], at(61));
    assert!(shown(&linkless).contains("There is no network card yet.\n"));
}

#[test]
fn shows_what_is_served_and_the_machines() {
    let served = Scene { overview: Some(overview(2)), ..serving(scene()) };
    assert_eq!(
        shown(&served),
        "\
talos-pxe 0.1.0                                                        up 5 min

interface  enp3s0 52:54:00:00:00:03 link virtio_net, 1000 Mb/s
address    10.9.0.50/24
mode       proxyDHCP server: the DHCP server 10.9.0.1 answered
XDP        native, 120 answered
DHCP       12 answered, 3 unanswered
dashboard  http://127.0.0.1:9090, for this computer alone; admin=\"0.0.0.0:9090\"
           in talos-pxe.toml, or --admin, opens it

MACHINE           ADDRESS         ROLE         STAGE          SEEN    NAME
52:54:00:00:01:01 10.9.0.51       controlplane 6/8 initramfs  60 s    rack1-n2
52:54:00:00:01:02 10.9.0.51       controlplane 6/8 initramfs  2 min   rack1-n2
---
i: another interface   p: power off   r: reboot"
    );
    let open = Scene { admin: "0.0.0.0:9090".parse().unwrap(), ..served.clone() };
    assert!(shown(&open).contains("\ndashboard  http://10.9.0.50:9090\n"));
    let many = Scene { overview: Some(overview(1000)), ..served };
    let text = shown(&many);
    assert!(text.contains("and 990 more\n---"), "{text}");
    assert_eq!(text.matches("initramfs").count(), 10, "{text}");
}

#[test]
fn shows_how_it_starts_and_why_it_fails() {
    let mut scene = serving(scene());
    assert!(shown(&scene).contains("Starting on enp3s0.\nasking for a DHCP server on enp3s0\n"));
    let cause = "cannot take UDP port 67: it is in use; stop the server that `ss` shows \x1b[2J";
    scene.console.ended(cause.to_owned(), at(8));
    assert!(shown(&scene).contains(
        "enp3s0 is not served:\ncannot take UDP port 67: it is in use; stop the server that `ss` \
         shows ?[2J\n\nNext try in 1 s.\n"
    ));
    let _ = scene.console.key('p', at(8));
    assert!(shown(&scene).ends_with("---\nPower off? y: yes, another key: no"));
    let _ = scene.console.key('y', at(8));
    assert!(text(&scene, USUAL).contains("\nPowering off.\n"));
}

proptest! {
    #[test]
    fn fits_every_terminal(columns in 1_usize..200, rows in 1_usize..60, machines in 0_usize..300, log in ".{0,300}") {
        let choosing = scene();
        let starting = Scene { log: log.clone(), ..serving(scene()) };
        let served = Scene { overview: Some(overview(machines)), ..starting.clone() };
        let mut resting = starting.clone();
        resting.console.ended(log, at(9));
        for scene in [choosing, starting, served, resting] {
            let lines = lines(&scene, Size { columns, rows });
            prop_assert_eq!(lines.len(), rows);
            for line in lines {
                prop_assert!(line.text.len() < columns.max(1) || line.text.is_empty());
                prop_assert!(line.text.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            }
        }
    }
}
