//! The media threads with real sockets on the loopback: what passes, what does not, and what closes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use broker_proto::{broker::Flow, settings::ZoneId};
use sbc::media::{counters, lease::Leases, pool::Pool};
use sbc_media::relay::{
    Component, DropReason, Failure, Joined, Learn, LegMedia, LegStats, MediaCommand, MediaEvent,
    Side, StreamId,
};
use tokio::sync::mpsc;

const PCMA: u8 = 8;
const STREAM: StreamId = StreamId(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// A phone: RTP and RTCP sockets of its own.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Phone {
    fn new() -> Self {
        Self {
            rtp: socket(),
            rtcp: socket(),
        }
    }

    fn leg(&self, lease: u64) -> LegMedia {
        let (rtp, rtcp) = (address(&self.rtp), address(&self.rtcp));
        LegMedia {
            lease,
            payloads: [PCMA].into_iter().collect(),
            learn: Learn::Exact { rtp, rtcp },
            send_to: Some(rtp),
            send_rtcp_to: Some(rtcp),
            receive: true,
            send: true,
            clock_hz: 8000,
            name: 7,
            security: None,
            joined: None,
        }
    }
}

/// The pool, two leases and what they are bound to.
struct House {
    pool: Pool,
    leases: Leases,
    events: mpsc::Receiver<MediaEvent>,
    /// RTP and RTCP of leases 1, 2, 3 and 4.
    ports: [[SocketAddr; 2]; 4],
}

impl House {
    fn new() -> Self {
        let (sender, events) = mpsc::channel(256);
        let pool = Pool::start(2, &sender).unwrap();
        let mut leases = Leases::default();
        let ports = [1, 2, 3, 4].map(|lease| {
            let sockets = [socket(), socket()];
            let ports = sockets.each_ref().map(address);
            for socket in &sockets {
                socket.set_nonblocking(true).unwrap();
            }
            leases
                .keep(
                    lease,
                    (ZoneId(0), Flow::default()),
                    false,
                    true,
                    sockets.map(OwnedFd::from).into(),
                )
                .unwrap();
            ports
        });
        Self {
            pool,
            leases,
            events,
            ports,
        }
    }

    fn start(&mut self, a: LegMedia, b: LegMedia) {
        let command = MediaCommand::Start {
            stream: STREAM,
            call: 5,
            a,
            b,
            silence_ms: 0,
        };
        self.pool.command(command, &self.leases).unwrap();
    }

    fn stop(&mut self) -> (LegStats, LegStats) {
        self.pool
            .command(MediaCommand::Stop { stream: STREAM }, &self.leases)
            .unwrap();
        loop {
            if let MediaEvent::Report {
                a, b, last: true, ..
            } = self.event()
            {
                return (a, b);
            }
        }
    }

    fn wait_for_dropped(&self, reason: DropReason, count: u64) {
        let dropped = || -> u64 {
            let threads = self.pool.counters();
            threads.iter().map(|thread| thread.dropped(reason)).sum()
        };
        wait_until(|| dropped() >= count);
    }

    fn event(&mut self) -> MediaEvent {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.events.recv()).await })
            .unwrap()
            .unwrap()
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it never came");
        std::thread::yield_now();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

fn packet(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, PCMA];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (count, source) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..count].to_vec(), source)
}

fn waits(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let waits = socket.recv_from(&mut [0; 2048]).is_ok();
    socket.set_nonblocking(false).unwrap();
    waits
}

#[test]
fn a_g711_stream_passes_both_ways_in_order_from_the_ports_of_the_other_leg() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    house.start(alice.leg(1), bob.leg(2));
    let [[at_a, _], [at_b, _], ..] = house.ports;
    for sequence in 0..500 {
        alice.rtp.send_to(&packet(sequence, 1), at_a).unwrap();
        bob.rtp.send_to(&packet(sequence, 2), at_b).unwrap();
        assert_eq!(received(&bob.rtp), (packet(sequence, 1), at_b));
        assert_eq!(received(&alice.rtp), (packet(sequence, 2), at_a));
    }
    let (a, b) = house.stop();
    assert_eq!(
        (a.packets_received, a.packets_sent, a.packets_lost),
        (500, 500, 0)
    );
    assert_eq!(
        (b.packets_received, b.octets_received, b.rejected),
        (500, 80_000, 0)
    );
}

#[test]
fn a_burst_that_no_single_call_takes_in_arrives_whole() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    // Waiting before the thread watches the socket: a single edge for all of them.
    for sequence in 0..100 {
        alice
            .rtp
            .send_to(&packet(sequence, 1), house.ports[0][0])
            .unwrap();
    }
    house.start(alice.leg(1), bob.leg(2));
    for sequence in 0..100 {
        assert_eq!(received(&bob.rtp).0, packet(sequence, 1));
    }
}

#[test]
fn reports_pass_between_the_rtcp_ports() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    house.start(alice.leg(1), bob.leg(2));
    let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    alice.rtcp.send_to(&report, house.ports[0][1]).unwrap();
    assert_eq!(received(&bob.rtcp), (report.to_vec(), house.ports[1][1]));
}

#[test]
fn a_third_partys_packets_are_never_relayed_and_never_answered() {
    let (mut house, alice, bob, mallory) = (House::new(), Phone::new(), Phone::new(), Phone::new());
    let mut behind_nat = alice.leg(1);
    behind_nat.learn = Learn::Host {
        host: address(&alice.rtp).ip(),
        window_ms: 5000,
    };
    house.start(behind_nat, bob.leg(2));
    alice.rtp.send_to(&packet(0, 1), house.ports[0][0]).unwrap();
    assert_eq!(received(&bob.rtp).0, packet(0, 1));
    let proved = house.event();
    assert_eq!(
        proved,
        MediaEvent::Proved {
            stream: STREAM,
            side: Side::A,
            component: Component::Rtp,
            source: address(&alice.rtp)
        }
    );
    for sequence in 1..200 {
        // Mallory sits on the very host that was allowed, and knows Alice's source.
        mallory
            .rtp
            .send_to(&packet(sequence, 1), house.ports[0][0])
            .unwrap();
        alice
            .rtp
            .send_to(&packet(sequence, 1), house.ports[0][0])
            .unwrap();
        bob.rtp
            .send_to(&packet(sequence, 2), house.ports[1][0])
            .unwrap();
        assert_eq!(received(&bob.rtp).0, packet(sequence, 1));
        assert_eq!(received(&alice.rtp).0, packet(sequence, 2));
    }
    assert_eq!(
        house.event(),
        MediaEvent::SecondSource {
            stream: STREAM,
            side: Side::A,
            source: address(&mallory.rtp)
        }
    );
    let (a, _) = house.stop();
    assert_eq!((a.packets_received, a.rejected), (200, 199));
    assert!(
        !waits(&mallory.rtp) && !waits(&bob.rtp),
        "something was relayed or answered"
    );
}

#[test]
fn after_stop_nothing_passes_and_the_lease_serves_another_stream() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    house.start(alice.leg(1), bob.leg(2));
    house.stop();
    alice.rtp.send_to(&packet(0, 1), house.ports[0][0]).unwrap();
    // The same call's thread carries out both, so the packet was there to be relayed if anybody did.
    let other = MediaCommand::Start {
        stream: StreamId(2),
        call: 5,
        a: alice.leg(1),
        b: bob.leg(2),
        silence_ms: 0,
    };
    house.pool.command(other, &house.leases).unwrap();
    alice.rtp.send_to(&packet(1, 1), house.ports[0][0]).unwrap();
    // What waited in the socket belongs to the lease, and comes first.
    assert_eq!(received(&bob.rtp).0, packet(0, 1));
    assert_eq!(received(&bob.rtp).0, packet(1, 1));
}

#[test]
fn a_lease_that_is_closed_during_a_stream_is_closed_in_the_kernel_with_the_stream() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    house.start(alice.leg(1), bob.leg(2));
    house.leases.close(1);
    house.leases.close(2);
    house.stop();
    // The report comes after the sockets were let go, but the last owner may still be dropping them.
    let deadline = Instant::now() + PATIENCE;
    while UdpSocket::bind(house.ports[0][0]).is_err() {
        assert!(Instant::now() < deadline, "the port is still bound");
        std::thread::yield_now();
    }
}

#[test]
fn commands_that_make_no_sense_are_answered_and_break_nothing() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    let failed = |stream, reason| {
        Err(MediaEvent::Failed {
            stream: StreamId(stream),
            reason,
        })
    };
    let start = |stream, a, b| MediaCommand::Start {
        stream: StreamId(stream),
        call: 5,
        a,
        b,
        silence_ms: 0,
    };
    let unknown = house
        .pool
        .command(start(9, alice.leg(1), bob.leg(77)), &house.leases);
    assert_eq!(unknown, failed(9, Failure::UnknownLease));
    let same = house
        .pool
        .command(start(9, alice.leg(1), bob.leg(1)), &house.leases);
    assert_eq!(same, failed(9, Failure::LeaseInUse));
    house.start(alice.leg(1), bob.leg(2));
    let used = house
        .pool
        .command(start(9, alice.leg(1), bob.leg(2)), &house.leases);
    assert_eq!(used, failed(9, Failure::LeaseInUse));
    let nothing = house.pool.command(
        MediaCommand::Stop {
            stream: StreamId(9),
        },
        &house.leases,
    );
    assert_eq!(nothing, failed(9, Failure::UnknownStream));
    alice.rtp.send_to(&packet(0, 1), house.ports[0][0]).unwrap();
    assert_eq!(received(&bob.rtp).0, packet(0, 1));
}

#[test]
fn a_leg_that_moves_to_another_lease_is_heard_there_and_no_longer_here() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    house.start(alice.leg(1), bob.leg(2));
    let single = socket();
    single.set_nonblocking(true).unwrap();
    let port = address(&single);
    house
        .leases
        .keep(
            3,
            (ZoneId(0), Flow::default()),
            false,
            false,
            vec![single.into()],
        )
        .unwrap();
    let mut moved = alice.leg(3);
    moved.send_rtcp_to = moved.send_to;
    let change = MediaCommand::Change {
        stream: STREAM,
        side: Side::A,
        leg: moved,
    };
    house.pool.command(change, &house.leases).unwrap();
    alice.rtp.send_to(&packet(1, 1), port).unwrap();
    assert_eq!(received(&bob.rtp).0, packet(1, 1));
    bob.rtp.send_to(&packet(1, 2), house.ports[1][0]).unwrap();
    assert_eq!(received(&alice.rtp), (packet(1, 2), port));
}

impl House {
    /// The inner leg of a call whose far end is the lease of another call.
    fn joined(&self, lease: u64, far: u64) -> LegMedia {
        let [rtp, rtcp] = self.ports[usize::try_from(far).unwrap() - 1];
        LegMedia {
            joined: Some(Box::new(Joined {
                lease: far,
                rtp,
                rtcp,
            })),
            learn: Learn::Exact { rtp, rtcp },
            send_to: Some(rtp),
            send_rtcp_to: Some(rtcp),
            ..Phone::new().leg(lease)
        }
    }

    /// Alice's call on leases 1 and 2, Bob's on 3 and 4; calls that would run on threads of their own.
    fn join(&mut self, alice: LegMedia, inner: [LegMedia; 2], bob: LegMedia) {
        let [first, second] = inner;
        for (stream, a, b) in [(STREAM, alice, first), (StreamId(2), second, bob)] {
            let start = MediaCommand::Start {
                stream,
                call: stream.0,
                a,
                b,
                silence_ms: 0,
            };
            self.pool.command(start, &self.leases).unwrap();
        }
        // What comes before both are there goes nowhere.
        let running = |pool: &Pool| {
            let totals = counters::totals(&pool.counters()).into_iter();
            totals
                .filter(|(name, _)| name == "media_streams")
                .map(|(_, count)| count)
                .sum::<u64>()
        };
        wait_until(|| running(&self.pool) == 2);
    }
}

#[test]
fn two_calls_that_name_each_other_are_one_way_without_a_socket_between_them() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    let inner = [house.joined(2, 3), house.joined(3, 2)];
    house.join(alice.leg(1), inner, bob.leg(4));
    let [[at_a, rtcp_a], _, _, [at_b, rtcp_b]] = house.ports;
    for sequence in 0..200 {
        alice.rtp.send_to(&packet(sequence, 1), at_a).unwrap();
        bob.rtp.send_to(&packet(sequence, 2), at_b).unwrap();
        assert_eq!(received(&bob.rtp), (packet(sequence, 1), at_b));
        assert_eq!(received(&alice.rtp), (packet(sequence, 2), at_a));
    }
    let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    alice.rtcp.send_to(&report, rtcp_a).unwrap();
    assert_eq!(received(&bob.rtcp), (report.to_vec(), rtcp_b));
    let (outer, inner) = house.stop();
    assert_eq!((outer.packets_received, inner.packets_received), (201, 200));
    // Alice's call is over: what Bob says goes nowhere, least of all to the port that was hers.
    bob.rtp.send_to(&packet(200, 2), at_b).unwrap();
    house
        .pool
        .command(
            MediaCommand::Stop {
                stream: StreamId(2),
            },
            &house.leases,
        )
        .unwrap();
    while !matches!(house.event(), MediaEvent::Report { last: true, .. }) {}
    assert!(!waits(&alice.rtp), "a call that is over was heard");
}

#[test]
fn who_names_another_calls_port_without_being_named_hears_nothing_and_is_not_heard() {
    let (mut house, alice, bob, far) = (House::new(), Phone::new(), Phone::new(), Phone::new());
    let inner = [house.joined(2, 3), far.leg(3)];
    house.join(alice.leg(1), inner, bob.leg(4));
    let [[at_a, _], _, [at_inner, _], [at_b, _]] = house.ports;
    for sequence in 0..50 {
        alice.rtp.send_to(&packet(sequence, 1), at_a).unwrap();
        bob.rtp.send_to(&packet(sequence, 2), at_b).unwrap();
        far.rtp.send_to(&packet(sequence, 3), at_inner).unwrap();
        assert_eq!(received(&far.rtp).0, packet(sequence, 2));
        assert_eq!(received(&bob.rtp).0, packet(sequence, 3));
    }
    house.stop();
    assert!(!waits(&alice.rtp) && !waits(&bob.rtp));
}

#[test]
fn a_call_that_is_joined_with_one_other_takes_nothing_from_a_third() {
    let (mut house, alice, bob) = (House::new(), Phone::new(), Phone::new());
    let inner = [house.joined(2, 3), house.joined(3, 1)];
    house.join(alice.leg(1), inner, bob.leg(4));
    for sequence in 0..50 {
        let at = house.ports[0][0];
        alice.rtp.send_to(&packet(sequence, 1), at).unwrap();
        if sequence == 0 {
            // The streams run from here on.
            assert!(matches!(house.event(), MediaEvent::Proved { .. }));
        }
    }
    // A stream that is stopped reads no more: its thread must have seen all of them before.
    house.wait_for_dropped(DropReason::NoDestination, 50);
    let (a, _) = house.stop();
    assert_eq!(a.packets_received, 50);
    assert!(!waits(&bob.rtp), "heard who was not named");
}
