//! SIP over TCP: framing, keep-alives, connections that come and go.

use broker_proto::settings::Transport;

use super::*;
use crate::{ConnectionId, Input, testing::EXTERNAL};

const ONE: ConnectionId = ConnectionId(1);

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";

fn open(world: &mut World, connection: ConnectionId, peer: &str) {
    world.input(Input::StreamOpened {
        connection,
        zone: EXTERNAL,
        transport: Transport::Tcp,
        local: "198.51.100.1:5060".parse().unwrap(),
        peer: peer.parse().unwrap(),
    });
}

fn options(number: u32) -> String {
    format!(
        "OPTIONS sip:198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.20:5060;branch=z9hG4bKt{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b.test>;tag=1\r\nTo: <sip:198.51.100.1>\r\nCall-ID: c{number}\r\n\
         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What the core wrote to a connection.
fn written(world: &World) -> String {
    world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.peer.ip().is_unspecified())
        .map(|wire| String::from_utf8_lossy(&wire.bytes).into_owned())
        .collect()
}

#[test]
fn two_requests_in_one_piece_and_one_in_many_are_answered() {
    let mut world = World::new(100);
    open(&mut world, ONE, "198.51.100.20:40000");
    let two = format!("{}{}", options(1), options(2));
    world.input(Input::Stream {
        connection: ONE,
        bytes: two.as_bytes(),
    });
    assert_eq!(written(&world).matches("SIP/2.0 200").count(), 2);
    for octet in options(3).as_bytes() {
        world.input(Input::Stream {
            connection: ONE,
            bytes: std::slice::from_ref(octet),
        });
    }
    assert_eq!(written(&world).matches("SIP/2.0 200").count(), 3);
}

#[test]
fn a_ping_of_a_known_peer_gets_its_pong_and_a_strangers_none() {
    let mut world = World::new(101);
    open(&mut world, ONE, "198.51.100.20:40000");
    world.input(Input::Stream {
        connection: ONE,
        bytes: b"\r\n\r\n",
    });
    assert_eq!(written(&world), "\r\n");
    let mut world = World::new(101);
    open(&mut world, ONE, "198.51.100.66:40000");
    world.input(Input::Stream {
        connection: ONE,
        bytes: b"\r\n\r\n",
    });
    assert_eq!(written(&world), "");
}

#[test]
fn a_strangers_connection_ends_with_the_first_refused_request() {
    let mut world = World::new(102);
    open(&mut world, ONE, "198.51.100.66:40000");
    let request = options(1).replace("198.51.100.20", "198.51.100.66");
    world.input(Input::Stream {
        connection: ONE,
        bytes: request.as_bytes(),
    });
    assert_eq!(written(&world), "");
    assert_eq!(world.streams_closed, [ONE]);
    assert_eq!(world.gauge("connections"), 0);
}

#[test]
fn lost_framing_closes_the_connection() {
    let mut world = World::new(103);
    open(&mut world, ONE, "198.51.100.20:40000");
    let request = options(1).replace("Content-Length: 0\r\n", "");
    world.input(Input::Stream {
        connection: ONE,
        bytes: request.as_bytes(),
    });
    assert_eq!(world.streams_closed, [ONE]);
}

#[test]
fn an_unfinished_message_and_an_idle_connection_are_given_up_in_time() {
    let mut world = World::new(104);
    open(&mut world, ONE, "198.51.100.20:40000");
    open(&mut world, ConnectionId(2), "198.51.100.20:40001");
    for octet in &options(1).as_bytes()[..60] {
        world.input(Input::Stream {
            connection: ONE,
            bytes: std::slice::from_ref(octet),
        });
        world.run(seconds(1));
    }
    // Trickling wins no time.
    assert_eq!(world.streams_closed, [ONE]);
    world.run(seconds(700));
    assert_eq!(world.streams_closed, [ONE, ConnectionId(2)]);
    assert_tidy(&mut world);
}

#[test]
fn a_registration_over_tcp_lives_and_dies_with_its_connection() {
    let mut world = World::new(105);
    let pbx = pbx(&mut world);
    open(&mut world, ONE, "198.51.100.10:40000");
    let register = |number: u32, credentials: &str| {
        format!(
            "REGISTER sip:lab.test SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.10:40000;branch=z9hG4bKr{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1001@lab.test>;tag=1\r\nTo: <sip:1001@lab.test>\r\nCall-ID: r\r\n\
             CSeq: {number} REGISTER\r\nContact: <sip:1001@198.51.100.10:40000;transport=tcp>\r\nExpires: 600\r\n\
             {credentials}Content-Length: 0\r\n\r\n"
        )
    };
    world.input(Input::Stream {
        connection: ONE,
        bytes: register(1, "").as_bytes(),
    });
    world.run(seconds(1));
    assert!(written(&world).contains("SIP/2.0 401"));
    let good = "Authorization: Digest username=\"1001\", realm=\"lab.test\", nonce=\"N0nce42\", uri=\"sip:lab.test\", \
                response=\"good\"\r\n";
    world.input(Input::Stream {
        connection: ONE,
        bytes: register(2, good).as_bytes(),
    });
    world.run(seconds(1));
    assert_eq!(world.gauge("bindings"), 1);
    // A call from the PBX leaves by that connection.
    let bound = world.agent(pbx).bindings["1001"].clone();
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(1));
    assert!(written(&world).contains("INVITE sip:1001@198.51.100.10:40000;transport=tcp SIP/2.0"));
    // A datagram with the connection's address in it, which anybody can write, ends nothing of it.
    let wire = written(&world);
    let invite = &wire[wire.find("INVITE sip:1001").unwrap()..];
    let field = |name: &str| {
        let mut lines = invite.lines();
        lines.find_map(|line| line.strip_prefix(name)).unwrap()
    };
    let forged = |method: &str, to: &str| {
        format!(
            "{method} sip:198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:40000;branch=z9hG4bKforged{method}\r\n\
             Max-Forwards: 70\r\nFrom: {};tag=phone\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 9 {method}\r\nContent-Length: 0\r\n\r\n",
            field("To: "),
            field("Call-ID: "),
        )
    };
    let ringing = format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=phone\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:1001@198.51.100.10:40000;transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        field("Via: "),
        field("From: "),
        field("To: "),
        field("Call-ID: "),
        field("CSeq: "),
        SDP.len(),
    );
    world.input(Input::Stream {
        connection: ONE,
        bytes: ringing.as_bytes(),
    });
    world.run(seconds(1));
    assert_eq!(world.calls().len(), 1);
    let bye = forged("BYE", field("From: "));
    world.datagram("198.51.100.10:40000".parse().unwrap(), bye.as_bytes());
    world.run(seconds(1));
    assert_eq!(world.calls().len(), 1, "ended from elsewhere");
    world.input(Input::Stream {
        connection: ONE,
        bytes: bye.replace("/UDP", "/TCP").as_bytes(),
    });
    world.run(seconds(1));
    assert_eq!(world.calls().len(), 0);
    // Idle or not, a connection with a binding stays.
    world.run(seconds(560));
    assert_eq!(world.gauge("connections"), 1);
    world.input(Input::StreamClosed { connection: ONE });
    assert_eq!(world.gauge("bindings"), 0);
    let call = world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(2));
    assert_eq!(state(&mut world, pbx, call), State::Failed(430));
}

#[test]
fn connections_have_a_limit() {
    let mut world = World::new(106);
    for number in 1..=150 {
        open(&mut world, ConnectionId(number), "198.51.100.20:40000");
    }
    assert_eq!(world.gauge("connections"), 100);
    assert_eq!(world.streams_closed.len(), 50);
}

/// What a phone registered over TCP is asked by its connection.
fn called_by_tcp(world: &mut World) -> SocketAddr {
    let pbx = pbx(world);
    world.agent(pbx).script.challenge = false;
    open(world, ONE, "198.51.100.20:5060");
    // The carrier speaks TCP today; the PBX answers its call, and hangs up by the same connection.
    let sdp = world.agent(pbx).sdp("sendrecv");
    let invite = format!(
        "INVITE sip:+49305551001@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.20:5060;branch=z9hG4bKc1\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+4917@b.test>;tag=1\r\nTo: <sip:+49305551001@198.51.100.1>\r\nCall-ID: tcp\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:c@198.51.100.20;transport=tcp>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    world.input(Input::Stream {
        connection: ONE,
        bytes: invite.as_bytes(),
    });
    world.run(seconds(3));
    let heard = written(world);
    let ok = heard.find("SIP/2.0 200 OK").expect("an answer");
    let ok = crate::testing::Message::parse(&heard.as_bytes()[ok..]);
    let ack = format!(
        "ACK sip:198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.20:5060;branch=z9hG4bKc2\r\nMax-Forwards: 70\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: tcp\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        ok.need("From"),
        ok.need("To")
    );
    world.input(Input::Stream {
        connection: ONE,
        bytes: ack.as_bytes(),
    });
    pbx
}

#[test]
fn what_was_asked_by_a_connection_fails_with_it() {
    let mut world = World::new(108);
    let pbx = called_by_tcp(&mut world);
    hang_up(&mut world, pbx, 0);
    world.run(seconds(1));
    let failed = |world: &World| {
        let counters = world.core.counters();
        counters
            .into_iter()
            .find(|(name, _)| name == "sip_requests_failed_total{reason=\"unreachable\"}")
            .map_or(0, |(_, count)| count)
    };
    assert!(written(&world).contains("BYE sip:c@198.51.100.20"));
    assert_eq!(failed(&world), 0);
    world.input(Input::StreamClosed { connection: ONE });
    assert_eq!(failed(&world), 1, "the BYE waits for no timer");
    assert_eq!(world.gauge("client_transactions"), 1, "the INVITE's, done");
}

#[test]
fn what_is_for_a_carrier_whose_connection_has_gone_goes_by_a_new_one_and_a_phones_by_none() {
    let asked = |world: &World| {
        let counters = world.core.counters();
        counters
            .into_iter()
            .find(|(name, _)| name == "broker_refusals_total{request=\"connect\"}")
            .map_or(0, |(_, count)| count)
    };
    for (transport, expected) in [(Transport::Tcp, 1), (Transport::Udp, 0)] {
        let mut settings = crate::testing::settings();
        settings.trunks.truncate(1);
        settings.trunks[0].transport = transport;
        let mut world = World::with(113, settings);
        let pbx = called_by_tcp(&mut world);
        assert_eq!(world.calls().len(), 1);
        let before = asked(&world);
        world.input(Input::StreamClosed { connection: ONE });
        hang_up(&mut world, pbx, 0);
        world.run(seconds(1));
        assert_eq!(asked(&world) - before, expected, "{transport:?}");
    }
}

/// A call to a carrier that is reached over TLS, after it wrote to us by a connection of its own with `via`; gives what was
/// written to that connection, and whether another was asked for.
fn call_to_tls_trunk(seed: u64, via: &str) -> (String, bool) {
    let mut settings = crate::testing::settings();
    settings.trunks.truncate(1);
    settings.trunks[0].transport = Transport::Tls;
    settings.trunks[0].addresses = vec!["198.51.100.20:5061".parse().unwrap()];
    let mut world = World::with(seed, settings);
    let pbx = pbx(&mut world);
    world.input(Input::StreamOpened {
        connection: ONE,
        zone: EXTERNAL,
        transport: Transport::Tls,
        local: "198.51.100.1:5061".parse().unwrap(),
        peer: "198.51.100.20:41000".parse().unwrap(),
    });
    let hello = options(1).replace("SIP/2.0/TCP 198.51.100.20:5060", via);
    world.input(Input::Stream {
        connection: ONE,
        bytes: hello.as_bytes(),
    });
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49301234567@192.0.2.1")
    });
    world.run(seconds(1));
    let asked = world
        .core
        .counters()
        .into_iter()
        .any(|(name, _)| name == "broker_refusals_total{request=\"connect\"}");
    (written(&world), asked)
}

#[test]
fn a_trunks_tls_connection_is_reused_if_it_says_so() {
    let (written, asked) = call_to_tls_trunk(109, "SIP/2.0/TLS 198.51.100.20:5061;alias");
    assert!(written.contains("INVITE sip:+49301234567@"), "{written}");
    assert!(!asked, "no connection of ours is needed");
    let (written, asked) = call_to_tls_trunk(109, "SIP/2.0/TLS 198.51.100.20:5061");
    assert!(!written.contains("INVITE sip:") && asked, "RFC 5923 §5");
}
