//! The client against servers that a test plays, on a clock that jumps.

use proptest::prelude::*;

use super::{super::message::testing::reply, *};

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const ADDRESS: [u8; 4] = [198, 51, 100, 20];
const SERVER: [u8; 4] = [198, 51, 100, 254];
const OTHER: [u8; 4] = [198, 51, 100, 66];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

struct Test {
    client: Client,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        Self::after_restart(None)
    }

    fn after_restart(remembered: Option<Ipv4Addr>) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(MAC, Taken::default(), remembered, [7; 32], now),
            now,
        }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.client.poll_action()).collect()
    }

    /// Jumps to the next deadline; how far it was, in s, and what is done then.
    fn next(&mut self) -> (f64, Vec<Action>) {
        let due = self.client.poll_timeout();
        let far = due.saturating_duration_since(self.now).as_secs_f64();
        self.now = self.now.max(due);
        self.client.handle_timeout(self.now);
        (far, self.actions())
    }

    fn hear(&mut self, kind: u8, server: [u8; 4], change: &[(u8, &[u8])]) -> Vec<Action> {
        let usual: [(u8, &[u8]); 5] = [
            (53, &[kind]),
            (54, &server),
            (1, &[255, 255, 255, 0]),
            (3, &SERVER),
            (51, &[0, 0, 3, 232]),
        ];
        let kept = usual
            .into_iter()
            .filter(|(code, _)| change.iter().all(|(other, _)| other != code));
        let options: Vec<_> = kept.chain(change.iter().copied()).collect();
        let bytes = reply(self.client.xid, MAC, ADDRESS, &options);
        self.client.handle_datagram(self.now, &bytes);
        self.actions()
    }

    fn bound() -> Self {
        let mut test = Self::new();
        test.next();
        test.hear(OFFER, SERVER, &[]);
        assert!(matches!(
            test.hear(ACK, SERVER, &[])[..],
            [Action::Leased(_)]
        ));
        test
    }
}

fn refused(actions: &[Action]) -> Refusal {
    match actions {
        [Action::Refused(refusal)] => *refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_is_asked_for_and_its_lease_is_told() {
    let mut test = Test::new();
    let (far, actions) = test.next();
    assert!(far < 0.001 && matches!(actions[..], [Action::Broadcast(_)]));
    assert!(matches!(
        test.hear(OFFER, SERVER, &[])[..],
        [Action::Broadcast(_)]
    ));
    let lease = Lease {
        address: ADDRESS.into(),
        prefix: 24,
        gateway: Some(SERVER.into()),
        seconds: 1_000,
    };
    assert_eq!(test.hear(ACK, SERVER, &[]), [Action::Leased(lease)]);
}

/// Value of an option of a request that was sent.
fn option(actions: &[Action], code: u8) -> Option<Vec<u8>> {
    let [Action::Broadcast(bytes)] = actions else {
        panic!("{actions:?}")
    };
    let mut rest = &bytes[240..];
    while rest[0] != 255 {
        let (of, length) = (rest[0], usize::from(rest[1]));
        if of == code {
            return Some(rest[2..2 + length].to_vec());
        }
        rest = &rest[2 + length..];
    }
    None
}

#[test]
fn an_address_of_before_a_restart_is_asked_for_again_and_used_when_a_server_says_yes() {
    let mut test = Test::after_restart(Some(ADDRESS.into()));
    let (_, asked) = test.next();
    assert_eq!(option(&asked, 53), Some(vec![3]), "DHCPREQUEST");
    assert_eq!(option(&asked, 50), Some(ADDRESS.to_vec()));
    assert_eq!(option(&asked, 54), None, "no server is named");
    assert!(matches!(
        test.hear(ACK, OTHER, &[])[..],
        [Action::Leased(Lease { address, .. })] if address.octets() == ADDRESS
    ));
}

#[test]
fn an_address_of_before_that_a_server_denies_is_forgotten_at_once() {
    let mut test = Test::after_restart(Some(ADDRESS.into()));
    test.next();
    assert_eq!(test.hear(NAK, SERVER, &[]), [Action::Lost]);
    let (far, asked) = test.next();
    assert!(far < 0.001);
    assert_eq!(option(&asked, 53), Some(vec![1]), "DHCPDISCOVER");
}

#[test]
fn an_address_of_before_that_nobody_knows_of_is_not_used() {
    let mut test = Test::after_restart(Some(ADDRESS.into()));
    let mut asked = test.next().1;
    for wait in [4.0, 8.0] {
        assert_eq!(option(&asked, 53), Some(vec![3]));
        let (far, actions) = test.next();
        assert!((far - wait).abs() <= 1.001, "{far} is not {wait} ± 1");
        asked = actions;
        if asked.is_empty() {
            asked = test.next().1;
        }
    }
    assert_eq!(option(&asked, 53), Some(vec![1]), "DHCPDISCOVER");
}

#[test]
fn unanswered_questions_become_rarer_and_never_end() {
    let mut test = Test::new();
    test.next();
    for wait in [4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0] {
        let (far, actions) = test.next();
        assert!((far - wait).abs() <= 1.001, "{far} is not {wait} ± 1");
        assert!(matches!(actions[..], [Action::Broadcast(_)]));
    }
}

#[test]
fn a_server_that_offers_and_falls_silent_is_given_up() {
    let mut test = Test::new();
    test.next();
    test.hear(OFFER, SERVER, &[]);
    let begun = test.client.xid;
    for _ in 0..3 {
        assert!(matches!(test.next().1[..], [Action::Broadcast(_)]));
    }
    assert!(test.next().1.is_empty());
    assert!(matches!(test.client.state, State::Init { .. }));
    test.next();
    assert_ne!(test.client.xid, begun, "a new exchange has a new name");
}

#[test]
fn more_time_is_asked_of_the_server_then_of_all_and_at_the_end_the_address_is_lost() {
    let mut test = Test::bound();
    let (far, actions) = test.next();
    assert!((far - 500.0).abs() < 1.0, "T1 is half");
    assert!(matches!(actions[..], [Action::Send(server, _)] if server == Ipv4Addr::from(SERVER)));
    let mut kinds = Vec::new();
    while !kinds.contains(&'l') {
        kinds.extend(test.next().1.iter().map(|action| match action {
            Action::Send(..) => 's',
            Action::Broadcast(_) => 'b',
            Action::Lost => 'l',
            other => panic!("{other:?}"),
        }));
    }
    let text: String = kinds.iter().collect();
    assert!(
        text.starts_with('s') && text.contains("sb") && text.ends_with("bl"),
        "{text}"
    );
}

#[test]
fn a_renewal_begins_the_lease_anew() {
    let mut test = Test::bound();
    test.next();
    assert!(
        matches!(test.hear(ACK, SERVER, &[])[..], [Action::Leased(lease)] if lease.seconds == 1_000)
    );
    assert!((test.next().0 - 500.0).abs() < 1.0);
}

#[test]
fn timers_of_the_server_are_used_where_they_make_sense() {
    for (t1, t2, expected) in [
        (7, 50, 7.0),
        (0, 50, 50.0),
        (900, 800, 500.0),
        (7, 2_000, 7.0),
        (1, 0, 500.0),
    ] {
        let mut test = Test::new();
        test.next();
        test.hear(OFFER, SERVER, &[]);
        test.hear(
            ACK,
            SERVER,
            &[(58, &u32::to_be_bytes(t1)), (59, &u32::to_be_bytes(t2))],
        );
        let far = test.next().0;
        assert!((far - expected).abs() < 1.0, "T1 {t1}, T2 {t2}: {far}");
    }
}

#[test]
fn another_server_is_not_believed() {
    let mut test = Test::new();
    test.next();
    test.hear(OFFER, SERVER, &[]);
    assert_eq!(refused(&test.hear(ACK, OTHER, &[])), Refusal::OtherServer);
    assert_eq!(refused(&test.hear(NAK, OTHER, &[])), Refusal::OtherServer);
    assert!(matches!(
        test.hear(ACK, SERVER, &[])[..],
        [Action::Leased(_)]
    ));
    assert_eq!(
        refused(&test.hear(NAK, SERVER, &[])),
        Refusal::Unexpected,
        "nobody asked"
    );
    test.next();
    assert_eq!(refused(&test.hear(NAK, OTHER, &[])), Refusal::OtherServer);
    assert_eq!(refused(&test.hear(ACK, OTHER, &[])), Refusal::OtherServer);
}

#[test]
fn a_server_that_takes_the_address_back_is_obeyed_and_then_left_in_peace() {
    let mut test = Test::bound();
    test.next();
    assert_eq!(test.hear(NAK, SERVER, &[]), [Action::Lost]);
    assert!((test.next().0 - 10.0).abs() < 0.1);
}

#[test]
fn answers_to_others_and_of_other_exchanges_are_passed_over() {
    let mut test = Test::new();
    test.next();
    for (xid, mac) in [
        (test.client.xid ^ 1, MAC),
        (test.client.xid, [2, 0, 0, 0, 0, 2]),
    ] {
        test.client.handle_datagram(
            test.now,
            &reply(xid, mac, ADDRESS, &[(53, &[OFFER]), (54, &SERVER)]),
        );
        assert_eq!(refused(&test.actions()), Refusal::NotOurs);
    }
}

#[test]
fn hostile_offers_are_refused_and_a_good_one_is_still_taken() {
    let mut test = Test::new();
    test.next();
    assert_eq!(
        refused(&test.hear(OFFER, SERVER, &[(1, &[255, 255, 255, 255])])),
        Refusal::Unfit(Unfit::Prefix)
    );
    assert_eq!(
        refused(&test.hear(OFFER, SERVER, &[(1, &[128, 0, 0, 0])])),
        Refusal::Unfit(Unfit::Prefix)
    );
    assert_eq!(
        refused(&test.hear(OFFER, SERVER, &[(3, &[10, 0, 0, 1])])),
        Refusal::Unfit(Unfit::Gateway)
    );
    assert_eq!(
        refused(&test.hear(OFFER, SERVER, &[(51, &[0, 0, 0, 1])])),
        Refusal::Unfit(Unfit::Short)
    );
    assert!(matches!(
        test.hear(OFFER, SERVER, &[])[..],
        [Action::Broadcast(_)]
    ));
    // What was offered is not what is lent.
    assert_eq!(
        refused(&test.hear(ACK, SERVER, &[(3, &[10, 0, 0, 1])])),
        Refusal::Unfit(Unfit::Gateway)
    );
    assert!((test.next().0 - 10.0).abs() < 0.1);
}

#[test]
fn after_the_cable_was_away_everyone_is_asked() {
    let mut test = Test::bound();
    test.client.handle_carrier(test.now);
    assert!(matches!(test.actions()[..], [Action::Broadcast(_)]));
    // Another network's server: it may say that the address is of no use there.
    assert_eq!(test.hear(NAK, OTHER, &[]), [Action::Lost]);
}

#[test]
fn an_endless_lease_is_asked_about_again() {
    let mut test = Test::new();
    test.next();
    test.hear(OFFER, SERVER, &[]);
    let actions = test.hear(ACK, SERVER, &[(51, &[255; 4])]);
    assert!(matches!(actions[..], [Action::Leased(lease)] if lease.seconds == LONGEST));
}

proptest! {
    /// Whatever servers say and whenever: no panic, a bounded number of sendings, and a lease only if it is fit.
    #[test]
    fn no_sequence_of_answers_leads_astray(
        steps in proptest::collection::vec((0_u8..9, any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u32>(), 0_u64..200), 0..60)
    ) {
        let mut test = Test::new();
        let mut sent = 0_u64;
        let mut passed = 0;
        for (kind, mask, router, lease, seconds) in steps {
            test.now += Duration::from_secs(seconds);
            passed += seconds;
            test.client.handle_timeout(test.now);
            let mut actions = test.actions();
            let mask = if mask[0] < 200 { [255, 255, 255, 0] } else { mask };
            let router = if router[0] < 128 { SERVER } else { router };
            actions.extend(test.hear(kind, SERVER, &[(1, &mask), (3, &router), (51, &lease.to_be_bytes())]));
            for action in actions {
                match action {
                    Action::Leased(lease) => {
                        let fit = Lease { seconds: 60, ..lease }.vet(&Taken::default()).is_ok();
                        prop_assert!(fit, "{:?}", lease);
                    }
                    Action::Broadcast(_) | Action::Send(..) => sent += 1,
                    Action::Lost | Action::Refused(_) => {}
                }
            }
        }
        prop_assert!(sent <= 4 + passed, "{sent} sendings in {passed} s");
    }
}
