//! Streams driven by a clock that jumps. The attacks of RTP bleed and of CVE-2025-53399 are tests by name.

use proptest::prelude::*;

use super::*;
use crate::{
    relay::{Learn, LegStats, PayloadSet},
    srtp::{MasterKey, Security, Session, Suite},
};

const ALICE: &str = "198.51.100.10:40000";
const ALICE_RTCP: &str = "198.51.100.10:40001";
const BOB: &str = "192.0.2.40:30000";
const BOB_RTCP: &str = "192.0.2.40:30001";
const ATTACKER: &str = "198.51.100.66:40000";
const PCMA: u8 = 8;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn leg(learn: Learn, rtp: &str, rtcp: &str) -> LentLeg {
    let media = LegMedia {
        lease: 1,
        payloads: [PCMA, 101].into_iter().collect(),
        learn,
        send_to: Some(address(rtp)),
        send_rtcp_to: Some(address(rtcp)),
        receive: true,
        send: true,
        clock_hz: 8000,
        name: 7,
        security: None,
        joined: None,
    };
    LentLeg { media, pair: true }
}

fn exact(rtp: &str, rtcp: &str) -> LentLeg {
    leg(
        Learn::Exact {
            rtp: address(rtp),
            rtcp: address(rtcp),
        },
        rtp,
        rtcp,
    )
}

fn behind_nat(window_ms: u32) -> LentLeg {
    let learn = Learn::Host {
        host: address(ALICE).ip(),
        window_ms,
    };
    let mut leg = leg(learn, ALICE, ALICE_RTCP);
    leg.media.send_to = None;
    leg.media.send_rtcp_to = None;
    leg
}

struct Bench {
    now: Instant,
    stream: Stream,
    /// What was forwarded last; verdicts are given back without its length.
    sent: Vec<u8>,
}

impl Bench {
    fn new(a: LentLeg, b: LentLeg) -> Self {
        let now = crate::epoch();
        Self {
            now,
            stream: Stream::new(now, StreamId(7), a, b, Some(Duration::from_secs(5))),
            sent: Vec::new(),
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn rtp(&mut self, side: Side, source: &str, sequence: u16, ssrc: u32) -> Verdict {
        self.packet(side, Component::Rtp, source, &mut rtp(PCMA, sequence, ssrc))
    }

    fn packet(
        &mut self,
        side: Side,
        socket: Component,
        source: &str,
        packet: &mut [u8],
    ) -> Verdict {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + crate::srtp::OVERHEAD, 0);
        let room = (&mut *buffer, packet.len());
        let mut verdict = self
            .stream
            .on_packet(self.now, side, socket, address(source), room);
        if let Verdict::Forward { octets, .. } = &mut verdict {
            buffer.truncate(*octets);
            self.sent = buffer;
            *octets = 0;
        }
        verdict
    }

    fn events(&mut self) -> Vec<MediaEvent> {
        std::iter::from_fn(|| self.stream.poll_event()).collect()
    }

    fn stats(&self, side: Side) -> LegStats {
        let MediaEvent::Report { a, b, .. } = self.stream.report(true) else {
            unreachable!()
        };
        if side == Side::A { a } else { b }
    }
}

fn rtp(payload_type: u8, sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

fn receiver_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}

fn goodbye(reporter: u32, leaving: u32) -> Vec<u8> {
    let mut packet = receiver_report(reporter);
    packet.extend([0x81, 203, 0, 1]);
    packet.extend(leaving.to_be_bytes());
    packet
}

fn forwarded(side: Side, socket: Component, destination: &str) -> Verdict {
    Verdict::Forward {
        side,
        socket,
        destination: address(destination),
        octets: 0,
    }
}

#[test]
fn rtp_and_rtcp_pass_both_ways_between_exact_legs() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
    assert_eq!(
        bench.rtp(Side::B, BOB, 1, 6),
        forwarded(Side::A, Component::Rtp, ALICE)
    );
    let report = bench.packet(
        Side::A,
        Component::Rtcp,
        ALICE_RTCP,
        &mut receiver_report(5),
    );
    assert_eq!(report, forwarded(Side::B, Component::Rtcp, BOB_RTCP));
    assert_eq!(bench.stats(Side::A).packets_received, 2);
    assert_eq!(bench.stats(Side::A).octets_received, 160);
    assert_eq!(bench.stats(Side::B).packets_sent, 2);
}

#[test]
fn rtcp_changes_between_a_pair_and_a_multiplexed_leg() {
    let mut single = exact(BOB, BOB);
    single.pair = false;
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), single);
    let report = bench.packet(
        Side::A,
        Component::Rtcp,
        ALICE_RTCP,
        &mut receiver_report(5),
    );
    assert_eq!(report, forwarded(Side::B, Component::Rtp, BOB));
    let back = bench.packet(Side::B, Component::Rtp, BOB, &mut receiver_report(6));
    assert_eq!(back, forwarded(Side::A, Component::Rtcp, ALICE_RTCP));
}

#[test]
fn the_first_valid_packet_of_the_host_proves_its_port_once() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, "198.51.100.10:50505", 1, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
    assert_eq!(
        bench.events(),
        [MediaEvent::Proved {
            stream: StreamId(7),
            side: Side::A,
            component: Component::Rtp,
            source: address("198.51.100.10:50505")
        }]
    );
    assert_eq!(
        bench.rtp(Side::A, "198.51.100.10:50506", 2, 5),
        Verdict::Drop(DropReason::Stranger)
    );
    assert!(matches!(
        bench.events()[..],
        [MediaEvent::SecondSource { .. }]
    ));
    assert_eq!(
        bench.rtp(Side::A, "198.51.100.10:50505", 2, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
    assert_eq!(bench.events(), []);
}

#[test]
fn a_proof_sends_nothing_anywhere_until_the_core_says_where() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    bench.rtp(Side::A, ALICE, 1, 5);
    assert_eq!(
        bench.rtp(Side::B, BOB, 1, 6),
        Verdict::Drop(DropReason::NoDestination)
    );
    let now = bench.now;
    bench.stream.change(now, Side::A, exact(ALICE, ALICE_RTCP));
    assert_eq!(
        bench.rtp(Side::B, BOB, 2, 6),
        forwarded(Side::A, Component::Rtp, ALICE)
    );
    bench.events();
    bench.rtp(Side::A, ALICE, 2, 5);
    assert_eq!(
        bench.events(),
        [],
        "the proof survives the change to its own address"
    );
}

/// RTP bleed: a relay that follows, or answers, whoever sends last.
#[test]
fn rtp_bleed_spraying_a_port_before_and_during_a_call_gains_nothing() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    for n in 0..500 {
        assert_eq!(
            bench.rtp(Side::A, ATTACKER, n, 666),
            Verdict::Drop(DropReason::Stranger)
        );
    }
    bench.rtp(Side::A, ALICE, 1, 5);
    let now = bench.now;
    bench.stream.change(now, Side::A, exact(ALICE, ALICE_RTCP));
    for n in 0..500 {
        assert_eq!(
            bench.rtp(Side::A, ATTACKER, n, 5),
            Verdict::Drop(DropReason::Stranger)
        );
        assert_eq!(
            bench.rtp(Side::B, BOB, n, 6),
            forwarded(Side::A, Component::Rtp, ALICE)
        );
    }
}

/// CVE-2025-53399: injection by learning from the first packet of whoever comes.
#[test]
fn cve_2025_53399_an_injected_first_packet_is_not_learned_from() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, ATTACKER, 1, 5),
        Verdict::Drop(DropReason::Stranger)
    );
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
    let report = bench.packet(Side::A, Component::Rtcp, ATTACKER, &mut receiver_report(5));
    assert_eq!(report, Verdict::Drop(DropReason::Stranger));
}

#[test]
fn a_wrong_payload_type_or_a_broken_packet_proves_nothing() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    let video = bench.packet(Side::A, Component::Rtp, ALICE, &mut rtp(96, 1, 5));
    assert_eq!(video, Verdict::Drop(DropReason::PayloadType));
    let cut = bench.packet(Side::A, Component::Rtp, ALICE, &mut rtp(PCMA, 1, 5)[..11]);
    assert_eq!(cut, Verdict::Drop(DropReason::MalformedRtp));
    assert_eq!(bench.events(), []);
    assert_eq!(
        bench.rtp(Side::A, "198.51.100.10:50505", 1, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
}

#[test]
fn after_the_window_nobody_is_learned() {
    let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
    bench.pass(2001);
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        Verdict::Drop(DropReason::Untimely)
    );
    assert_eq!(bench.events(), []);
}

#[test]
fn events_about_strangers_come_at_most_once_a_second() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    let mut events = 0;
    for n in 0..1000 {
        bench.rtp(Side::A, ATTACKER, n, 666);
        events += bench.events().len();
        bench.pass(10);
    }
    assert_eq!(events, 10);
    assert_eq!(bench.stats(Side::A).rejected, 1000);
}

#[test]
fn stun_dtls_turn_and_noise_are_not_relayed() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    for first in (0..=127).chain(192..=255) {
        let mut packet = vec![first; 40];
        let verdict = bench.packet(Side::A, Component::Rtp, ALICE, &mut packet);
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::NotMedia),
            "first octet {first}"
        );
    }
    let empty = bench.packet(Side::A, Component::Rtp, ALICE, &mut []);
    assert_eq!(empty, Verdict::Drop(DropReason::NotMedia));
}

#[test]
fn rtp_and_rtcp_keep_to_their_ports() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    let report = bench.packet(Side::A, Component::Rtp, ALICE, &mut receiver_report(5));
    assert_eq!(report, Verdict::Drop(DropReason::WrongPort));
    let media = bench.packet(Side::A, Component::Rtcp, ALICE_RTCP, &mut rtp(PCMA, 1, 5));
    assert_eq!(media, Verdict::Drop(DropReason::WrongPort));
}

#[test]
fn an_oversized_packet_is_not_relayed() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    let mut packet = rtp(PCMA, 1, 5);
    packet.resize(crate::rtp::MAX_PACKET + 1, 0);
    let verdict = bench.packet(Side::A, Component::Rtp, ALICE, &mut packet);
    assert_eq!(verdict, Verdict::Drop(DropReason::Oversized));
}

#[test]
fn a_flood_of_ssrcs_is_cut_off_and_the_counted_source_lives_on() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    bench.rtp(Side::A, ALICE, 0, 5);
    let relayed = (0..1000).filter(|&n| {
        matches!(
            bench.rtp(Side::A, ALICE, 0, 1000 + n),
            Verdict::Forward { .. }
        )
    });
    assert_eq!(relayed.count(), 7);
    bench.pass(1000);
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        forwarded(Side::B, Component::Rtp, BOB)
    );
}

#[test]
fn a_goodbye_for_somebody_else_is_not_relayed() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    bench.rtp(Side::A, ALICE, 1, 5);
    let foreign = bench.packet(Side::A, Component::Rtcp, ALICE_RTCP, &mut goodbye(5, 6));
    assert_eq!(foreign, Verdict::Drop(DropReason::ForeignBye));
    let own = bench.packet(Side::A, Component::Rtcp, ALICE_RTCP, &mut goodbye(5, 5));
    assert_eq!(own, forwarded(Side::B, Component::Rtcp, BOB_RTCP));
}

#[test]
fn a_held_leg_is_neither_heard_nor_spoken_to_but_reports_pass() {
    let mut held = exact(ALICE, ALICE_RTCP);
    held.media.receive = false;
    held.media.send = false;
    let mut bench = Bench::new(held, exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        Verdict::Drop(DropReason::Held)
    );
    assert_eq!(
        bench.rtp(Side::B, BOB, 1, 6),
        Verdict::Drop(DropReason::Held)
    );
    let report = bench.packet(Side::B, Component::Rtcp, BOB_RTCP, &mut receiver_report(6));
    assert_eq!(report, forwarded(Side::A, Component::Rtcp, ALICE_RTCP));
}

#[test]
fn silence_is_said_of_the_leg_that_should_be_heard_and_again_later() {
    let mut held = exact(BOB, BOB_RTCP);
    held.media.receive = false;
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), held);
    let mut said = Vec::new();
    for _ in 0..12 {
        bench.pass(1000);
        let now = bench.now;
        bench.stream.on_tick(now);
        said.extend(bench.events());
    }
    let silent = |ms| MediaEvent::Silent {
        stream: StreamId(7),
        side: Side::A,
        ms,
    };
    assert_eq!(said, [silent(5000), silent(10_000)]);
}

#[test]
fn a_report_comes_every_thirty_seconds() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    let mut reports = 0;
    for second in 0..90 {
        bench.pass(1000);
        bench.rtp(Side::A, ALICE, second, 5);
        bench.rtp(Side::B, BOB, second, 6);
        let now = bench.now;
        bench.stream.on_tick(now);
        reports += bench
            .events()
            .iter()
            .filter(|event| matches!(event, MediaEvent::Report { .. }))
            .count();
    }
    assert_eq!(reports, 3);
}

#[test]
fn a_packet_the_kernel_refused_is_not_counted_as_sent() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    bench.rtp(Side::A, ALICE, 1, 5);
    bench.stream.on_send_failure(Side::B);
    assert_eq!(bench.stats(Side::B).packets_sent, 0);
}

#[test]
fn no_payload_type_is_accepted_by_an_empty_set() {
    let mut leg = exact(ALICE, ALICE_RTCP);
    leg.media.payloads = PayloadSet::EMPTY;
    let mut bench = Bench::new(leg, exact(BOB, BOB_RTCP));
    for payload_type in 0..=127 {
        let verdict = bench.packet(Side::A, Component::Rtp, ALICE, &mut rtp(payload_type, 1, 5));
        assert!(
            matches!(verdict, Verdict::Drop(_)),
            "payload type {payload_type}"
        );
    }
}

proptest! {
    /// Whatever comes from whom, in whatever order: nothing leaves but to the two negotiated destinations, and only
    /// what came from a negotiated or proved source.
    #[test]
    fn nothing_of_a_stranger_is_ever_relayed_and_nothing_goes_elsewhere(
        steps in proptest::collection::vec(
            (any::<bool>(), any::<bool>(), 0_u8..6, proptest::collection::vec(any::<u8>(), 0..60), 0_u64..500),
            1..200,
        )
    ) {
        let mut bench = Bench::new(behind_nat(2000), exact(BOB, BOB_RTCP));
        let sources = [ALICE, ALICE_RTCP, BOB, BOB_RTCP, ATTACKER, "192.0.2.66:30000"];
        for (from_a, on_rtcp, who, tail, ms) in steps {
            bench.pass(ms);
            let side = if from_a { Side::A } else { Side::B };
            let socket = if on_rtcp { Component::Rtcp } else { Component::Rtp };
            let source = sources[usize::from(who)];
            // Half valid, so that the interesting paths are met.
            let mut packet = if tail.len() % 2 == 0 { rtp(PCMA, ms as u16, 5) } else { tail };
            let verdict = bench.packet(side, socket, source, &mut packet);
            if let Verdict::Forward { side: out, destination, .. } = verdict {
                prop_assert_eq!(out, side.other());
                let (honest, targets) = match side {
                    Side::A => ([ALICE, ALICE_RTCP], [BOB, BOB_RTCP]),
                    Side::B => ([BOB, BOB_RTCP], [ALICE, ALICE_RTCP]),
                };
                prop_assert!(honest.contains(&source), "{} was relayed", source);
                prop_assert!(targets.contains(&destination.to_string().as_str()));
            }
        }
    }
}

fn master(octet: u8) -> MasterKey {
    MasterKey::new(Suite::AeadAes256Gcm, &[octet; 44]).unwrap()
}

/// The leg with keys of its own, and the far end's sessions: what it seals and what it opens.
fn secured(mut leg: LentLeg) -> (LentLeg, Session, Session) {
    let (theirs, ours) = (master(1), master(2));
    let sessions = (Session::new(&theirs).unwrap(), Session::new(&ours).unwrap());
    leg.media.security = Some(Box::new(Security {
        inward: theirs,
        outward: ours,
    }));
    (leg, sessions.0, sessions.1)
}

fn seal(session: &mut Session, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + crate::srtp::OVERHEAD, 0);
    let length = session.seal_rtp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn a_sealed_leg_and_a_clear_one_hear_each_other() {
    let (a, mut alice, mut to_alice) = secured(exact(ALICE, ALICE_RTCP));
    let mut bench = Bench::new(a, exact(BOB, BOB_RTCP));
    let spoken = rtp(PCMA, 1, 5);
    let mut secret = seal(&mut alice, &spoken);
    assert_eq!(
        bench.packet(Side::A, Component::Rtp, ALICE, &mut secret),
        forwarded(Side::B, Component::Rtp, BOB)
    );
    assert_eq!(bench.sent, spoken);
    let answered = rtp(PCMA, 9, 6);
    assert_eq!(
        bench.packet(Side::B, Component::Rtp, BOB, &mut answered.clone()),
        forwarded(Side::A, Component::Rtp, ALICE)
    );
    let mut heard = bench.sent.clone();
    assert_ne!(heard, answered);
    let length = to_alice.open_rtp(&mut heard).unwrap();
    assert_eq!(heard[..length], answered);
}

#[test]
fn a_sealed_leg_takes_nothing_in_the_clear_and_nothing_twice() {
    let (a, mut alice, _) = secured(exact(ALICE, ALICE_RTCP));
    let mut bench = Bench::new(a, exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, ALICE, 1, 5),
        Verdict::Drop(DropReason::Unauthenticated)
    );
    let secret = seal(&mut alice, &rtp(PCMA, 2, 5));
    let verdict = bench.packet(Side::A, Component::Rtp, ALICE, &mut secret.clone());
    assert_eq!(verdict, forwarded(Side::B, Component::Rtp, BOB));
    assert_eq!(
        bench.packet(Side::A, Component::Rtp, ALICE, &mut secret.clone()),
        Verdict::Drop(DropReason::Replayed)
    );
}

#[test]
fn behind_a_translator_a_sealed_leg_is_proved_by_an_authentic_packet_alone() {
    let (a, mut alice, _) = secured(behind_nat(2000));
    let mut bench = Bench::new(a, exact(BOB, BOB_RTCP));
    assert_eq!(
        bench.rtp(Side::A, "198.51.100.10:50000", 1, 5),
        Verdict::Drop(DropReason::Unauthenticated)
    );
    assert!(bench.events().is_empty());
    let mut secret = seal(&mut alice, &rtp(PCMA, 2, 5));
    let _ = bench.packet(Side::A, Component::Rtp, ALICE, &mut secret);
    assert!(matches!(
        bench.events()[..],
        [MediaEvent::Proved { side: Side::A, .. }, ..]
    ));
}

#[test]
fn the_same_keys_again_keep_their_indices() {
    let (a, mut alice, _) = secured(exact(ALICE, ALICE_RTCP));
    let mut bench = Bench::new(a.clone(), exact(BOB, BOB_RTCP));
    let secret = seal(&mut alice, &rtp(PCMA, 2, 5));
    let _ = bench.packet(Side::A, Component::Rtp, ALICE, &mut secret.clone());
    bench.stream.change(bench.now, Side::A, a);
    assert_eq!(
        bench.packet(Side::A, Component::Rtp, ALICE, &mut secret.clone()),
        Verdict::Drop(DropReason::Replayed)
    );
}

#[test]
fn reports_name_nobody_of_the_other_side() {
    let mut bench = Bench::new(exact(ALICE, ALICE_RTCP), exact(BOB, BOB_RTCP));
    let _ = bench.rtp(Side::B, BOB, 1, 5);
    let mut compound = receiver_report(5);
    compound.extend([0x81, 202, 0, 4, 0, 0, 0, 5, 1, 7]);
    compound.extend(b"bob@pbx");
    compound.extend([0, 0, 0]);
    let verdict = bench.packet(Side::B, Component::Rtcp, BOB_RTCP, &mut compound);
    assert_eq!(verdict, forwarded(Side::A, Component::Rtcp, ALICE_RTCP));
    assert!(!bench.sent.windows(3).any(|part| part == b"pbx"));
    assert!(
        bench
            .sent
            .windows(16)
            .any(|part| part == b"0000000000000007")
    );
}
