//! Rushes of clients, whoever comes, stalls and goes.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn client(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [10, 0, high, low].into()
}

fn at(millis: u64) -> BootTime {
    BootTime::BOOT + Duration::from_millis(millis)
}

fn line(limit: Limit) -> Transfers {
    Transfers::new(limit).unwrap()
}

/// Whether it is the turn of a transfer, which else gets a morsel or waits.
fn goes(line: &mut Transfers, now: BootTime, id: Id) -> bool {
    line.turn(now, id) == Turn::Go
}

#[test]
fn limits_are_read_as_they_are_written() {
    for limit in [Limit::Auto, Limit::Off, Limit::Most(1), Limit::Most(400)] {
        assert_eq!(limit.to_string().parse(), Ok(limit));
    }
    for text in ["", "0", "-1", "all", "1.5"] {
        assert_eq!(text.parse::<Limit>(), Err(NoLimit), "{text}");
    }
    assert!(Transfers::new(Limit::Off).is_none());
}

#[test]
fn who_comes_first_goes_first_and_the_others_are_kept_alive() {
    let mut line = line(Limit::Most(1));
    let [first, second, third] = [1, 2, 3].map(|number| line.begin(at(0), client(number)));
    assert!(goes(&mut line, at(0), first));
    assert_eq!(line.called(), [first]);
    assert_eq!(line.turn(at(0), second), Turn::Morsel(MORSEL));
    assert_eq!(line.turn(at(1), second), Turn::Wait(at(2000)));
    line.sent(at(1500), first, 1);
    assert_eq!(line.turn(at(2000), second), Turn::Morsel(MORSEL));
    line.end(at(2001), first);
    assert_eq!(line.called(), [second]);
    assert!(goes(&mut line, at(2001), second));
    line.end(at(2002), third);
    line.end(at(2003), second);
    assert!(line.called().is_empty());
}

#[test]
fn a_client_keeps_its_place_from_one_image_to_the_next() {
    let mut line = line(Limit::Most(1));
    let kernels = [1, 2, 3].map(|number| line.begin(at(0), client(number)));
    assert!(goes(&mut line, at(0), kernels[0]));
    line.end(at(1), kernels[0]);
    assert!(goes(&mut line, at(1), kernels[1]));
    let initramfs = line.begin(at(2), client(1));
    let another = line.begin(at(2), client(1));
    line.end(at(3), kernels[1]);
    assert!(goes(&mut line, at(3), initramfs), "before the third machine's kernel");
    line.end(at(4), initramfs);
    assert!(goes(&mut line, at(4), kernels[2]), "one place is for one image at a time");
    line.end(at(5), kernels[2]);
    assert!(goes(&mut line, at(5), another));
}

#[test]
fn a_place_is_good_for_one_boot() {
    let mut line = line(Limit::Most(1));
    let greedy = line.begin(at(0), client(1));
    let patient = line.begin(at(0), client(2));
    assert!(goes(&mut line, at(0), greedy));
    let mut again = greedy;
    for _ in 1..IMAGES {
        line.end(at(1), again);
        again = line.begin(at(1), client(1));
    }
    assert!(!line.called().is_empty());
    line.end(at(2), again);
    let later = line.begin(at(2), client(1));
    line.end(at(3), patient);
    assert!(goes(&mut line, at(3), later));

    let place = |line: &Transfers, id: Id| line.under_way[&id].place;
    let before = place(&line, later);
    line.end(at(4), later);
    let much_later = line.begin(at(4) + PLACE_KEPT, client(1));
    assert!(place(&line, much_later) > before);
}

#[test]
fn who_stalls_takes_nobodys_turn() {
    let mut line = line(Limit::Most(1));
    let [stalled, next] = [1, 2].map(|number| line.begin(at(0), client(number)));
    assert!(goes(&mut line, at(0), stalled));
    line.sent(at(100), stalled, 1);
    assert!(!goes(&mut line, at(1099), next));
    assert!(goes(&mut line, at(1100), next));
    assert!(goes(&mut line, at(1100), stalled), "it goes on when its client can");
}

/// Sends for some seconds at a rate that depends on how many run; says how many may then.
fn found_for(rate: impl Fn(usize) -> u64) -> usize {
    let mut line = line(Limit::Auto);
    let ids: Vec<Id> = (0..400).map(|number| line.begin(at(0), client(number))).collect();
    for tick in 0..80 {
        let now = at(tick * 100);
        let running: Vec<Id> = ids.iter().copied().filter(|id| goes(&mut line, now, *id)).collect();
        for id in &running {
            line.sent(now, *id, rate(running.len()) / running.len() as u64 / 10);
        }
    }
    line.most
}

#[test]
fn as_many_run_as_it_takes_to_fill_the_link() {
    let (link, each) = (1_000_000_000, 10_000_000);
    assert_eq!(found_for(|_| link), FIRST, "each client alone could fill it");
    let slow = found_for(|running| link.min(running as u64 * each));
    assert_eq!(slow, 128, "a hundred clients fill it");
}

#[test]
fn a_new_rush_begins_anew() {
    let mut line = line(Limit::Auto);
    line.most = 64;
    let id = line.begin(at(0), client(1));
    line.end(at(1), id);
    assert_eq!(line.most, FIRST);
}

proptest! {
    /// Whoever comes and goes: never more run than may, all others hear from us every two seconds,
    /// and in the end everybody has had their turn.
    #[test]
    fn all_have_their_turn(
        most in 1_usize..5,
        steps in prop::collection::vec((0_u16..12, any::<bool>(), 0_u64..900), 1..200),
    ) {
        let mut line = line(Limit::Most(most));
        let (mut now, mut ids, mut heard) = (at(0), Vec::new(), BTreeMap::new());
        for (number, comes, wait) in steps {
            now = now + Duration::from_millis(wait);
            if comes || ids.is_empty() {
                let id = line.begin(now, client(number));
                ids.push(id);
                heard.insert(id, now);
            } else {
                line.end(now, ids.remove(usize::from(number) % ids.len()));
            }
            // Each client takes what it gets.
            let mut running = 0;
            for id in &ids {
                match line.turn(now, *id) {
                    Turn::Go => {
                        line.sent(now, *id, 1);
                        running += 1;
                        heard.insert(*id, now);
                    }
                    Turn::Morsel(_) => { heard.insert(*id, now); }
                    Turn::Wait(until) => {
                        prop_assert!(until > now && until.since(heard[id]) <= MORSEL_EVERY);
                    }
                }
            }
            prop_assert_eq!(running, most.min(ids.len()));
        }
        while !ids.is_empty() {
            now = now + SECOND / 2;
            let before = ids.len();
            ids.retain(|id| {
                let over = goes(&mut line, now, *id);
                if over { line.end(now, *id); }
                !over
            });
            prop_assert!(ids.len() < before, "nobody's turn");
        }
        prop_assert!(line.line.is_empty() && line.running.is_empty() && line.under_way.is_empty());
    }

    /// Those who ask for one image each are served in the order in which they came.
    #[test]
    fn the_line_is_in_order(most in 1_usize..5, count in 1_u16..40) {
        let mut line = line(Limit::Most(most));
        let ids: Vec<Id> = (0..count).map(|number| line.begin(at(0), client(number))).collect();
        let mut order = Vec::new();
        for id in &ids {
            let _ = line.turn(at(0), ids[0]);
            order.extend(line.called());
            line.end(at(0), *id);
        }
        order.extend(line.called());
        prop_assert_eq!(order, ids);
    }
}
