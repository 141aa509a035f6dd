//! Calls on a network that loses, doubles, delays and reorders: whatever happens, nothing is left of them.

use proptest::prelude::*;

use super::*;
use crate::testing::Network;

/// Several calls of all kinds at random moments, then a quiet week.
fn rough_day(seed: u64, loss: u32) -> World {
    let mut world = World::new(seed);
    let pbx = pbx(&mut world);
    let trunk = trunk1(&mut world);
    let alice = alice(&mut world);
    world.network = Network {
        loss,
        twice: 100,
        delay_ms: 80,
    };
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 600)
    });
    world.run(seconds(20));
    let mut draw = seed;
    let mut next = |bound: u64| {
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % bound
    };
    for _ in 0..8 {
        let (at, uri) = match next(3) {
            0 => (trunk, "sip:+49305551001@198.51.100.1".to_owned()),
            1 => (alice, "sip:1002@lab.test".to_owned()),
            _ => (pbx, "sip:+49301234567@192.0.2.1".to_owned()),
        };
        for other in [pbx, trunk] {
            world.agent(other).script.answer = match next(5) {
                0 => None,
                1 => Some((millis(next(3000)), 486)),
                _ => Some((millis(next(3000)), 200)),
            };
            world.agent(other).script.early_media = next(2) == 0;
            world.agent(other).script.offer = next(4) != 0;
        }
        let call = world.act(at, |agent, now, gateway| agent.invite(now, gateway, &uri));
        world.run(millis(next(6000)));
        if next(3) == 0 && state(&mut world, at, call) == State::Talking {
            world.act(at, |agent, now, gateway| {
                agent.reinvite(now, gateway, call, "sendonly")
            });
            world.run(millis(next(1000)));
        }
        if next(2) == 0 {
            hang_up(&mut world, at, call);
        }
        for other in [pbx, trunk] {
            let open: Vec<usize> = world
                .agent(other)
                .dialogs
                .iter()
                .enumerate()
                .filter(|(_, dialog)| dialog.state == State::Talking)
                .map(|(index, _)| index)
                .collect();
            for index in open {
                if next(3) == 0 {
                    hang_up(&mut world, other, index);
                }
            }
        }
        world.run(millis(next(4000)));
    }
    // Whoever still talks falls silent for good.
    world.run(seconds(60));
    world.run(seconds(7 * 24 * 3600));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_after_a_week(seed in any::<u64>(), loss in 0u32..300) {
        let mut world = rough_day(seed, loss);
        assert_tidy(&mut world);
        for lease in world.closed_at.keys() {
            prop_assert!(!world.leases.contains_key(lease));
        }
    }
}

#[test]
fn a_rough_day_is_the_same_for_the_same_seed() {
    let (one, two) = (rough_day(4711, 120), rough_day(4711, 120));
    assert!(one.wire == two.wire);
    assert!(!one.records.is_empty());
}
