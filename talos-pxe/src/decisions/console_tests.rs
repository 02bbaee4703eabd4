//! Tests of the console's decisions.

use super::*;
use crate::wire::MacAddr;

const PATIENCE: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

fn cards(carriers: &[bool]) -> Vec<Link> {
    let card = |(index, carrier): (u32, &bool)| Link {
        index,
        name: format!("eth{index}"),
        mac: Some(MacAddr([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
        kind: None,
        controller: None,
        up: true,
        carrier: *carrier,
        addresses: vec![],
        ipv6: true,
        link_local: None,
    };
    (1..).zip(carriers).map(card).collect()
}

fn unnamed() -> Console {
    let (console, step) = Console::start(None, true, PATIENCE, at(0));
    assert_eq!(step, Step::Stay);
    console
}

fn serve(name: &str) -> Step {
    Step::Serve(name.to_owned())
}

#[test]
fn the_only_card_is_served_whenever_it_comes() {
    let mut console = unnamed();
    assert_eq!(console.tick(&[], at(100)), Step::Stay);
    assert_eq!(console.tick(&cards(&[false]), at(101)), serve("eth1"));
    assert_eq!(console.tick(&cards(&[false, true]), at(102)), Step::Stay, "it is decided");
}

#[test]
fn of_several_the_first_with_carrier_is_served_in_the_end() {
    let mut console = unnamed();
    assert_eq!(console.tick(&[], at(100)), Step::Stay);
    assert_eq!(console.tick(&cards(&[false, true, true]), at(114)), Step::Stay);
    assert_eq!(console.tick(&cards(&[false, false, false]), at(115)), Step::Stay);
    assert_eq!(console.tick(&cards(&[false, false, true]), at(200)), serve("eth3"));
}

#[test]
fn a_number_chooses() {
    let mut console = unnamed();
    assert_eq!(console.key('1', at(1)), Step::Stay, "there is none yet");
    assert_eq!(console.tick(&cards(&[true, false, false]), at(1)), Step::Stay);
    for key in ['0', '4', 'x', '\r'] {
        assert_eq!(console.key(key, at(1)), Step::Stay, "{key}");
    }
    assert_eq!(console.key('2', at(2)), serve("eth2"));
    assert_eq!(console.key('3', at(2)), Step::Stay, "it is decided");

    for (keys, chosen) in [("12", "eth12"), ("1\r", "eth1"), ("9", "eth9"), ("x3", "eth3")] {
        let mut console = unnamed();
        assert_eq!(console.tick(&cards(&[true; 12]), at(1)), Step::Stay);
        let steps: Vec<Step> = keys.chars().map(|key| console.key(key, at(2))).collect();
        assert_eq!(steps, [vec![Step::Stay; keys.len() - 1], vec![serve(chosen)]].concat());
    }
}

#[test]
fn what_was_named_is_served_again_after_a_growing_pause() {
    let (mut console, step) = Console::start(Some("eth7".to_owned()), false, PATIENCE, at(0));
    assert_eq!(step, serve("eth7"));
    let mut now = 0;
    for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
        console.ended("no carrier".to_owned(), at(now));
        let Doing::Resting { until, .. } = console.doing() else { panic!("{console:?}") };
        assert_eq!(*until, at(now + pause));
        assert_eq!(console.tick(&cards(&[true, true]), at(now + pause - 1)), Step::Stay);
        now += pause;
        assert_eq!(console.tick(&cards(&[true, true]), at(now)), serve("eth7"));
    }
    console.ended("killed".to_owned(), at(now + 60));
    assert_eq!(console.tick(&[], at(now + 60)), serve("eth7"), "it was steady");
}

#[test]
fn what_nobody_named_is_chosen_anew_when_it_has_no_carrier() {
    let mut console = unnamed();
    assert_eq!(console.tick(&cards(&[false]), at(0)), serve("eth1"));
    console.ended("no carrier on eth1".to_owned(), at(10));
    assert_eq!(console.tick(&cards(&[false, true]), at(11)), Step::Stay);
    assert_eq!(*console.doing(), Doing::Choosing(at(26)));
    assert_eq!(console.tick(&cards(&[false, true]), at(26)), serve("eth2"));
    console.ended("killed".to_owned(), at(27));
    assert_eq!(console.tick(&cards(&[false, true]), at(29)), serve("eth2"), "it has carrier");
}

#[test]
fn another_interface_can_be_chosen() {
    let (mut console, _) = Console::start(Some("eth1".to_owned()), false, PATIENCE, at(0));
    assert_eq!(console.tick(&cards(&[true, true]), at(1)), Step::Stay);
    assert_eq!(console.key('i', at(2)), Step::Stop);
    console.ended("stopped".to_owned(), at(2));
    assert_eq!(*console.doing(), Doing::Choosing(at(17)));
    assert_eq!(console.key('2', at(3)), serve("eth2"));
}

#[test]
fn ends_only_after_a_yes_and_only_where_it_may() {
    let mut console = unnamed();
    for (keys, step) in [
        ("y", Step::Stay),
        ("pn", Step::Stay),
        ("py", Step::End(Ending::PowerOff)),
        ("ppy", Step::Stay),
        ("rY", Step::End(Ending::Reboot)),
    ] {
        let last = keys.chars().map(|key| console.key(key, at(1))).last();
        assert_eq!(last, Some(step), "{keys}");
    }
    let (mut console, _) = Console::start(None, false, PATIENCE, at(0));
    assert_eq!(console.key('p', at(1)), Step::Stay);
    assert_eq!(console.key('y', at(1)), Step::Stay);
}
