//! Calls as they should be, and the ways that they end.

use broker_proto::{broker::Admit, journal::CallPhase};
use sbc_media::relay::Side;

use super::*;
use crate::testing::{EXTERNAL, INTERNAL};

#[test]
fn a_trunks_call_reaches_the_pbx_and_is_recorded() {
    let mut world = World::new(1);
    let (trunk, pbx) = answered_call(&mut world);
    assert_eq!(dialog(&mut world, trunk).statuses, [100, 180, 200]);
    let invite = world.agent(pbx).inbox[0].clone();
    assert_eq!(invite.uri(), "sip:1001@lab.test");
    assert_eq!(world.leases.len(), 2);
    assert_eq!(world.streams.len(), 1);
    let calls = world.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].state, "answered");
    assert_eq!(
        (
            calls[0].legs[0].zone.as_str(),
            calls[0].legs[1].zone.as_str()
        ),
        ("external", "internal")
    );
    hang_up(&mut world, trunk, 0);
    world.run(seconds(5));
    assert_eq!(state(&mut world, pbx, 0), State::Ended);
    assert_eq!(world.records[0].phase, CallPhase::Start);
    let record = world.end_record().clone();
    assert_eq!(
        (
            record.ended_by.as_str(),
            record.status,
            record.media.as_str()
        ),
        ("caller", 200, "audio")
    );
    assert_eq!(
        (record.calling.as_str(), record.called.as_str()),
        ("+491701234567", "+49305551001")
    );
    assert_eq!(record.route, "inbound");
    assert_eq!(record.legs.len(), 2);
    assert_eq!(record.legs[0].packets_received, 50);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn the_callee_may_hang_up_too() {
    let mut world = World::new(2);
    let (trunk, pbx) = answered_call(&mut world);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(5));
    assert_eq!(state(&mut world, trunk, 0), State::Ended);
    assert_eq!(world.end_record().ended_by, "callee");
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn pinholes_close_at_once_when_bye_comes() {
    let mut world = World::new(3);
    let (trunk, _) = answered_call(&mut world);
    let said = world.elapsed();
    hang_up(&mut world, trunk, 0);
    world.run(millis(10));
    assert!(world.leases.is_empty());
    assert!(world.closed_at.values().all(|at| *at - said <= millis(2)));
}

#[test]
fn a_pinhole_lets_nobody_in_before_the_answer_and_the_proved_port_alone_after() {
    let mut world = World::new(4);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(millis(500));
    assert_eq!(world.leases.len(), 2);
    assert!(
        world
            .leases
            .values()
            .all(|lease| lease.admit == Admit::Nobody && lease.send_to.is_none())
    );
    world.run(seconds(3));
    for lease in world.leases.values() {
        let Admit::Peer(peer) = lease.admit else {
            panic!("{:?} is open to more than the proved port", lease.rtp)
        };
        let host = if lease.zone == EXTERNAL { trunk } else { pbx };
        assert_eq!(peer.ip(), host.ip());
        assert_eq!(lease.send_to, Some(peer));
    }
}

#[test]
fn without_any_packet_the_window_closes_to_the_signalled_address() {
    let mut world = World::new(5);
    world.mute.push("198.51.100.20".parse().unwrap());
    let (trunk, _) = answered_call(&mut world);
    let external = |world: &World| {
        world
            .leases
            .values()
            .find(|lease| lease.zone == EXTERNAL)
            .unwrap()
            .admit
    };
    assert_eq!(external(&world), Admit::Host(trunk.ip()));
    world.run(seconds(11));
    assert_eq!(
        external(&world),
        Admit::Peer("198.51.100.20:40060".parse().unwrap())
    );
}

#[test]
fn early_media_flows_before_the_answer() {
    let mut world = World::new(6);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.agent(pbx).script.early_media = true;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(millis(600));
    assert_eq!(state(&mut world, trunk, 0), State::Ringing);
    assert_eq!(world.streams.len(), 1);
    assert!(dialog(&mut world, trunk).remote_sdp.contains("m=audio"));
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
    assert_eq!(world.streams.len(), 1);
}

#[test]
fn a_cancelled_call_is_487_and_leaves_nothing() {
    let mut world = World::new(7);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.agent(pbx).script.answer = Some((seconds(20), 200));
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(1));
    hang_up(&mut world, trunk, 0);
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(487));
    assert_eq!(state(&mut world, pbx, 0), State::Failed(487));
    assert_eq!(
        (
            world.end_record().status,
            world.end_record().ended_by.as_str()
        ),
        (487, "caller")
    );
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_busy_callee_is_told_and_closed() {
    let mut world = World::new(8);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.agent(pbx).script.answer = Some((millis(100), 486));
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(486));
    assert_eq!(
        (
            world.end_record().status,
            world.end_record().ended_by.as_str()
        ),
        (486, "refused")
    );
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_callee_that_rings_for_ever_is_given_up() {
    let mut world = World::new(9);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    world.agent(pbx).script.answer = None;
    let trunk = trunk1(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(190));
    assert_eq!(state(&mut world, trunk, 0), State::Failed(408));
    assert_eq!(state(&mut world, pbx, 0), State::Failed(487));
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn a_call_without_offer_gets_it_in_the_answer() {
    let mut world = World::new(10);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.offer = false;
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
    assert!(
        dialog(&mut world, trunk)
            .remote_sdp
            .contains("c=IN IP4 198.51.100.1")
    );
    assert!(
        dialog(&mut world, pbx)
            .remote_sdp
            .contains("c=IN IP4 192.0.2.1")
    );
    assert_eq!(world.streams.len(), 1);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(60));
    assert_tidy(&mut world);
}

#[test]
fn an_ipv6_trunk_talks_to_an_ipv4_pbx() {
    let mut world = World::new(11);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = world.add("[2001:db8:e::20]:5060", "+491701234567", Script::default());
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@[2001:db8:e::1]")
    });
    world.run(seconds(3));
    assert_eq!(state(&mut world, trunk, 0), State::Talking);
    assert!(
        dialog(&mut world, trunk)
            .remote_sdp
            .contains("c=IN IP6 2001:db8:e::1")
    );
    assert!(
        dialog(&mut world, pbx)
            .remote_sdp
            .contains("c=IN IP4 192.0.2.1")
    );
    let external = world
        .leases
        .values()
        .find(|lease| lease.zone == EXTERNAL)
        .unwrap();
    assert!(external.rtp.is_ipv6());
}

#[test]
fn nothing_of_one_side_is_seen_on_the_other() {
    let mut world = World::new(12);
    let (trunk, pbx) = answered_call(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.info(now, gateway, 0, '5')
    });
    world.act(pbx, |agent, now, gateway| {
        agent.reinvite(now, gateway, 0, "sendonly")
    });
    world.run(seconds(3));
    hang_up(&mut world, pbx, 0);
    world.run(seconds(5));
    let secret = |call: &str| {
        vec![
            call.to_owned(),
            "SecretPhone".into(),
            "secret session".into(),
            "secretuser".into(),
            "x-secret".into(),
            "77777".into(),
            "88888".into(),
        ]
    };
    let mut outside = secret(&dialog(&mut world, pbx).call_id);
    outside.extend([
        "192.0.2.".to_owned(),
        "2001:db8:1:".into(),
        "internal".into(),
        "secrettag-pbx".into(),
        "-secret-pbx".into(),
    ]);
    let mut inside = secret(&dialog(&mut world, trunk).call_id);
    inside.extend([
        "198.51.100.".to_owned(),
        "2001:db8:e:".into(),
        "external".into(),
        "secrettag-p49".into(),
        "-secret-p49".into(),
    ]);
    for (zone, forbidden) in [(EXTERNAL, outside), (INTERNAL, inside)] {
        let sent = world.sent_to(zone);
        assert!(!sent.is_empty());
        for text in sent {
            for word in &forbidden {
                assert!(
                    !text.contains(word.as_str()),
                    "{word} in zone {zone:?}:\n{text}"
                );
            }
        }
    }
}

#[test]
fn user_agent_and_server_are_ours_without_version() {
    let mut world = World::new(13);
    answered_call(&mut world);
    for wire in world.wire.iter().filter(|wire| wire.from_core) {
        let text = String::from_utf8_lossy(&wire.bytes);
        for line in text
            .lines()
            .filter(|line| line.starts_with("User-Agent:") || line.starts_with("Server:"))
        {
            assert!(line.ends_with(": Gatehouse"), "{line}");
        }
    }
}

#[test]
fn dtmf_by_info_reaches_the_other_side() {
    let mut world = World::new(14);
    let (trunk, pbx) = answered_call(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.info(now, gateway, 0, '#')
    });
    world.run(seconds(1));
    let info = world
        .agent(pbx)
        .inbox
        .iter()
        .find(|message| message.method() == Some("INFO"))
        .unwrap()
        .clone();
    assert_eq!(info.body, "Signal=#\r\nDuration=160\r\n");
    assert!(
        world
            .agent(trunk)
            .answers
            .contains(&("INFO".to_owned(), 200))
    );
}

#[test]
fn in_dialog_options_is_answered_and_publish_is_refused_with_allow() {
    let mut world = World::new(15);
    let (trunk, _) = answered_call(&mut world);
    world.act(trunk, |agent, now, gateway| {
        agent.in_dialog(now, gateway, 0, "OPTIONS")
    });
    world.act(trunk, |agent, now, gateway| {
        agent.in_dialog(now, gateway, 0, "PUBLISH")
    });
    world.run(seconds(1));
    let answers = world.agent(trunk).answers.clone();
    assert!(
        answers.contains(&("OPTIONS".to_owned(), 200)),
        "{answers:?}"
    );
    assert!(
        answers.contains(&("PUBLISH".to_owned(), 405)),
        "{answers:?}"
    );
    let refusal = world
        .agent(trunk)
        .inbox
        .iter()
        .find(|message| message.status() == Some(405))
        .unwrap();
    assert!(refusal.need("Allow").contains("INVITE"));
}

#[test]
fn a_silent_leg_ends_the_call_and_a_long_one_too() {
    let mut world = World::new(16);
    let (trunk, _) = answered_call(&mut world);
    let stream = *world.streams.keys().next().unwrap();
    world.input(crate::Input::Media(sbc_media::relay::MediaEvent::Silent {
        stream,
        side: Side::A,
        ms: 60_000,
    }));
    world.run(seconds(2));
    assert_eq!(state(&mut world, trunk, 0), State::Ended);
    assert_eq!(world.end_record().ended_by, "media-timeout");

    let mut world = World::new(17);
    let (trunk, pbx) = answered_call(&mut world);
    world.run(seconds(4 * 3600 + 10));
    assert_eq!(
        (state(&mut world, trunk, 0), state(&mut world, pbx, 0)),
        (State::Ended, State::Ended)
    );
    assert_eq!(world.end_record().ended_by, "limit");
    assert_tidy(&mut world);
}

#[test]
fn stop_ends_every_call_with_bye() {
    let mut world = World::new(18);
    let (trunk, pbx) = answered_call(&mut world);
    world.input(crate::Input::Stop);
    world.run(seconds(2));
    assert_eq!(
        (state(&mut world, trunk, 0), state(&mut world, pbx, 0)),
        (State::Ended, State::Ended)
    );
    assert_eq!(world.end_record().ended_by, "shutdown");
    world.run(seconds(60));
    assert!(world.core.is_idle());
}

#[test]
fn the_same_seed_gives_the_same_octets() {
    let run = || {
        let mut world = World::new(19);
        let (trunk, _) = answered_call(&mut world);
        hang_up(&mut world, trunk, 0);
        world.run(seconds(60));
        world.wire
    };
    assert_eq!(run(), run());
}
