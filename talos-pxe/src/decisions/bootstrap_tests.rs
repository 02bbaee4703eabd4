//! Tests of bootstrapping exactly once.

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn at(seconds: u64) -> BootTime {
    BootTime::BOOT + Duration::from_secs(seconds)
}

/// Machine `n`, first seen at `n` seconds, at the address that ends in `host`.
fn machine_at(n: u8, role: &str, host: u8) -> Candidate {
    let address = Ipv4Addr::new(10, 0, 0, host);
    Candidate { mac: mac(n), address, role: role.parse().unwrap(), first_seen: n.into() }
}

fn machine(n: u8, role: &str) -> Candidate {
    machine_at(n, role, n)
}

fn marked(n: u8, done: bool) -> Option<Mark> {
    Some(mark(&machine(n, "init"), done))
}

/// Lets the machines in `known` answer; returns what is done then.
fn ask(bootstrap: &mut Bootstrap, now: u64, known: &[Candidate], answers: &[(u8, Etcd)]) -> Action {
    let asked = bootstrap.handle(at(now), Event::Due(known.to_vec()));
    assert!(matches!(asked, Action::Ask(_)), "{asked:?}");
    let answers = answers.iter().map(|(n, etcd)| (mac(*n), *etcd)).collect();
    bootstrap.handle(at(now), Event::Asked(answers))
}

fn is_rest(action: &Action) -> bool {
    matches!(action, Action::Wait(_))
}

#[test]
fn tells_the_init_machine_once() {
    let mut bootstrap = Bootstrap::new(Choice::Role, PATIENCE, None);
    assert_eq!(bootstrap.handle(at(0), Event::Due(vec![])), Action::Wait(at(1)));
    let known = [machine(1, "controlplane"), machine(2, "init"), machine(3, "worker")];
    let ask_these = bootstrap.handle(at(0), Event::Due(known.to_vec()));
    assert_eq!(ask_these, Action::Ask(vec![known[1].clone(), known[0].clone()]));
    let store = bootstrap.handle(at(0), Event::Asked(vec![(mac(2), Etcd::Waits)]));
    assert_eq!(store, Action::Store(marked(2, false)));
    assert_eq!(bootstrap.handle(at(0), Event::Stored), Action::Tell(known[1].clone()));
    let store = bootstrap.handle(at(0), Event::Told(Outcome::Accepted));
    assert_eq!(store, Action::Store(marked(2, true)));
    assert_eq!(bootstrap.handle(at(0), Event::Stored), Action::End);
    assert_eq!(bootstrap.handle(at(9), Event::Due(known.to_vec())), Action::End);
    let mut again = Bootstrap::new(Choice::Auto, PATIENCE, marked(2, true));
    assert_eq!(again.handle(at(0), Event::Due(known.to_vec())), Action::End);
}

#[test]
fn the_choice_says_who() {
    let control_planes = [machine(1, "controlplane"), machine(2, "controlplane")];
    let both = [(1, Etcd::Waits), (2, Etcd::Waits)];
    let first = |choice, known: &[Candidate], answers: &[(u8, Etcd)]| {
        ask(&mut Bootstrap::new(choice, PATIENCE, None), 0, known, answers)
    };
    assert!(is_rest(&first(Choice::Role, &control_planes, &both)));
    assert_eq!(first(Choice::Auto, &control_planes, &both), Action::Store(marked(1, false)));
    // The one seen first is off: it was never told, so another may be.
    assert_eq!(first(Choice::Auto, &control_planes, &both[1..]), Action::Store(marked(2, false)));
    let with_init = [machine(1, "controlplane"), machine(2, "init")];
    assert_eq!(first(Choice::Auto, &with_init, &both), Action::Store(marked(2, false)));
    assert!(is_rest(&first(Choice::Role, &with_init, &both[..1])), "the init machine is silent");
    let mut off = Bootstrap::new(Choice::Off, PATIENCE, None);
    assert!(is_rest(&off.handle(at(0), Event::Due(with_init.to_vec()))));
}

#[test]
fn a_cluster_that_exists_is_left_alone() {
    let known = [machine(1, "init"), machine(2, "controlplane")];
    let mut bootstrap = Bootstrap::new(Choice::Role, PATIENCE, None);
    let answers = [(1, Etcd::Waits), (2, Etcd::Member)];
    assert_eq!(ask(&mut bootstrap, 0, &known, &answers), Action::Store(marked(2, true)));
    assert_eq!(bootstrap.handle(at(0), Event::Stored), Action::End);
}

#[test]
fn two_machines_at_one_address_are_not_asked() {
    let known = vec![machine_at(1, "init", 1), machine_at(2, "controlplane", 1)];
    let mut bootstrap = Bootstrap::new(Choice::Auto, PATIENCE, None);
    assert!(is_rest(&bootstrap.handle(at(0), Event::Due(known))));
}

#[test]
fn a_refusal_is_certain_only_the_first_time() {
    let known = [machine(1, "init"), machine(2, "init")];
    let mut bootstrap = Bootstrap::new(Choice::Role, PATIENCE, None);
    let _ = ask(&mut bootstrap, 0, &known, &[(1, Etcd::Waits)]);
    let _ = bootstrap.handle(at(0), Event::Stored);
    assert_eq!(bootstrap.handle(at(0), Event::Told(Outcome::Refused)), Action::Store(None));
    assert!(is_rest(&bootstrap.handle(at(0), Event::Stored)));
    // It is off now; the other one may be told.
    let tell_other = ask(&mut bootstrap, 1, &known, &[(2, Etcd::Unclear)]);
    assert_eq!(tell_other, Action::Store(marked(2, false)));
    let _ = bootstrap.handle(at(1), Event::Stored);
    assert!(is_rest(&bootstrap.handle(at(1), Event::Told(Outcome::Unknown))));
    for now in [2, 62] {
        let _ = ask(&mut bootstrap, now, &known, &[(2, Etcd::Waits)]);
    }
    assert_eq!(bootstrap.handle(at(62), Event::Stored), Action::Tell(known[1].clone()));
    assert!(is_rest(&bootstrap.handle(at(62), Event::Told(Outcome::Refused))));
    assert_eq!(bootstrap.mark(), marked(2, false));
}

#[test]
fn a_machine_that_may_have_accepted_is_asked_and_given_time() {
    let known = [machine(1, "init"), machine(2, "init")];
    let mut bootstrap = Bootstrap::new(Choice::Auto, PATIENCE, marked(2, false));
    let all_wait = [(1, Etcd::Waits), (2, Etcd::Waits)];
    // Silence and unclear answers begin the wait anew; nobody else is told meanwhile.
    for (now, answers) in [
        (0, &all_wait[..1]),
        (100, &all_wait),
        (159, &[(1, Etcd::Waits), (2, Etcd::Unclear)]),
        (160, &all_wait),
        (219, &all_wait),
    ] {
        let action = ask(&mut bootstrap, now, &known, answers);
        assert!(is_rest(&action), "at {now}: {action:?}");
    }
    assert_eq!(bootstrap.handle(at(219), Event::Due(vec![])), Action::Ask(vec![]));
    let asked = bootstrap.handle(at(220), Event::Due(known.to_vec()));
    assert_eq!(asked, Action::Ask(vec![known[1].clone(), known[0].clone()]), "the marked first");
    let answers = vec![(mac(2), Etcd::Waits)];
    assert_eq!(bootstrap.handle(at(220), Event::Asked(answers)), Action::Store(marked(2, false)));
    assert_eq!(bootstrap.handle(at(220), Event::Stored), Action::Tell(known[1].clone()));
}

#[test]
fn pauses_grow_to_a_limit() {
    let known = [machine(1, "init")];
    let mut bootstrap = Bootstrap::new(Choice::Role, PATIENCE, None);
    let pauses: Vec<Action> = (0..100).map(|_| ask(&mut bootstrap, 0, &known, &[])).collect();
    assert_eq!(pauses[..3], [1, 2, 4].map(|pause| Action::Wait(at(pause))));
    assert!(pauses[4..].iter().all(|pause| *pause == Action::Wait(at(15))));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Next {
    /// The event that is waited for: the one of its kind among these.
    Expected([Event; 4]),
    /// Any event.
    Odd(Event),
    /// The daemon is killed, right before or after what it was doing took effect.
    Crash { after: bool },
}

fn any_events() -> impl Strategy<Value = [Event; 4]> {
    let roles = prop::sample::select(vec!["init", "controlplane", "worker"]);
    let etcd = prop::sample::select(vec![Etcd::Waits, Etcd::Waits, Etcd::Unclear, Etcd::Member]);
    let candidate = (1..4_u8, roles, 1..5_u8).prop_map(|(n, role, ip)| machine_at(n, role, ip));
    let answer = (1..4_u8, etcd).prop_map(|(n, etcd)| (mac(n), etcd));
    let outcomes =
        vec![Outcome::Accepted, Outcome::AlreadyExists, Outcome::Refused, Outcome::Unknown];
    let outcome = prop::sample::select(outcomes);
    let (candidates, answers) =
        (prop::collection::vec(candidate, 0..5), prop::collection::vec(answer, 0..5));
    (candidates, answers, outcome).prop_map(|(candidates, answers, outcome)| {
        [Event::Due(candidates), Event::Asked(answers), Event::Stored, Event::Told(outcome)]
    })
}

fn any_next() -> impl Strategy<Value = Next> {
    prop_oneof![
        16 => any_events().prop_map(Next::Expected),
        1 => (any_events(), 0..4_usize).prop_map(|(events, n)| Next::Odd(events[n].clone())),
        1 => any::<bool>().prop_map(|after| Next::Crash { after }),
    ]
}

/// The disk and the machines, as they really are.
#[derive(Default)]
struct World {
    stored: Option<Mark>,
    /// The machine that was told and may have accepted.
    committed: Option<MacAddr>,
}

impl World {
    /// The machine is told, and this becomes of it.
    fn tell(&mut self, candidate: &Candidate, outcome: Outcome) {
        let mark = self.stored.expect("written down before it is told");
        assert_eq!((mark.mac, mark.done), (candidate.mac, false));
        match self.committed {
            Some(first) => assert_eq!(first, candidate.mac, "a second etcd cluster"),
            None if outcome == Outcome::Refused => {}
            None => self.committed = Some(candidate.mac),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_second_machine_is_ever_told(
        choice in prop::sample::select(vec![Choice::Role, Choice::Auto]),
        patience in prop::sample::select(vec![Duration::ZERO, PATIENCE]),
        course in prop::collection::vec((any_next(), 0..90_u64), 0..60),
    ) {
        let mut world = World::default();
        let mut bootstrap = Bootstrap::new(choice, patience, None);
        let (mut now, mut doing) = (at(0), Action::Wait(at(0)));
        for (next, seconds) in course {
            now = now + Duration::from_secs(seconds);
            let (event, takes_effect) = match next {
                Next::Expected([due, asked, stored, told]) => {
                    let event = match doing {
                        Action::Wait(_) | Action::End => due,
                        Action::Ask(_) => asked,
                        Action::Store(_) => stored,
                        Action::Tell(_) => told,
                    };
                    (Some(event), true)
                }
                Next::Odd(event) => (Some(event), true),
                Next::Crash { after } => (None, after),
            };
            match (&doing, &event) {
                (Action::Store(mark), Some(Event::Stored) | None) if takes_effect => {
                    world.stored = *mark;
                }
                (Action::Tell(candidate), Some(Event::Told(outcome))) => {
                    world.tell(candidate, *outcome);
                }
                (Action::Tell(candidate), _) if takes_effect => {
                    world.tell(candidate, Outcome::Unknown);
                }
                _ => {}
            }
            doing = match event {
                Some(event) => bootstrap.handle(now, event),
                None => {
                    bootstrap = Bootstrap::new(choice, patience, world.stored);
                    Action::Wait(now)
                }
            };
        }
    }

    /// However often it is killed and answers are lost, one machine ends up with etcd.
    #[test]
    fn a_machine_that_answers_is_told_in_the_end(
        crashes in prop::collection::vec((0..40_usize, any::<bool>()), 0..6),
        lost in prop::collection::vec(any::<bool>(), 4),
        refusals in 0..3_usize,
    ) {
        let known = vec![machine(1, "controlplane"), machine(2, "controlplane")];
        let (mut stored, mut accepted, mut refusals) = (None, 0, refusals);
        let mut lost = lost.into_iter();
        let mut bootstrap = Bootstrap::new(Choice::Auto, PATIENCE, stored);
        let (mut now, mut doing) = (at(0), Action::Wait(at(0)));
        for step in 0.. {
            prop_assert!(step < 400, "stuck in {:?}", doing);
            let crash = crashes.iter().find(|(when, _)| *when == step).map(|(_, after)| *after);
            let event = match doing {
                _ if crash == Some(false) => None,
                Action::End => break,
                Action::Wait(until) => { now = until; Some(Event::Due(known.clone())) }
                Action::Ask(_) => {
                    let first = if accepted > 0 { Etcd::Member } else { Etcd::Waits };
                    Some(Event::Asked(vec![(mac(1), first), (mac(2), Etcd::Waits)]))
                }
                Action::Store(mark) => { stored = mark; Some(Event::Stored) }
                Action::Tell(target) => {
                    prop_assert_eq!(target.mac, mac(1));
                    let outcome = if refusals > 0 {
                        refusals -= 1;
                        Outcome::Refused
                    } else if accepted > 0 {
                        Outcome::AlreadyExists
                    } else {
                        accepted += 1;
                        Outcome::Accepted
                    };
                    let is_lost = lost.next().unwrap_or(false);
                    Some(Event::Told(if is_lost { Outcome::Unknown } else { outcome }))
                }
            };
            doing = match event.filter(|_| crash.is_none()) {
                Some(event) => bootstrap.handle(now, event),
                None => {
                    bootstrap = Bootstrap::new(Choice::Auto, PATIENCE, stored);
                    Action::Wait(now)
                }
            };
        }
        prop_assert_eq!(accepted, 1);
    }
}
