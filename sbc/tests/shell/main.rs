//! The signalling thread against a firewall, an init, a journal and a management that the tests play over real channels,
//! with a scripted core and real sockets on the loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod house;
mod keyholder;
mod secure;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::{Family, Flow, FromBroker, LeaseId, Refusal, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    journal::{Record, Severity, ToJournal},
    settings::{Transport, ZoneId},
    status::{FromStatus, ToStatus},
};
use house::{House, PATIENCE, Seen, nonblocking, settings};
use sbc_core::{BrokerAnswer, Input, Output};
use sbc_media::relay::{Learn, LegMedia, MediaCommand, MediaEvent, StreamId};

const LISTEN: RequestId = RequestId(1);

fn listen(transport: Transport) -> Output {
    Output::Broker(ToBroker::Listen {
        id: LISTEN,
        zone: ZoneId(0),
        transport,
        port: 5060,
    })
}

/// Answers every datagram and every octet string with itself.
fn echo(input: &Input<'_>) -> Vec<Output> {
    match *input {
        Input::Datagram {
            zone,
            local,
            peer,
            bytes,
        } => {
            vec![Output::Datagram {
                zone,
                local,
                peer,
                bytes: bytes.to_vec(),
            }]
        }
        Input::Stream { connection, bytes } => vec![Output::Stream {
            connection,
            bytes: bytes.to_vec(),
        }],
        _ => Vec::new(),
    }
}

/// A TCP connection: the far end, and the end that the firewall would lend.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (far, near)
}

fn accepted(near: &TcpStream) -> FromBroker {
    FromBroker::Accepted {
        zone: ZoneId(0),
        transport: Transport::Tcp,
        local: near.local_addr().unwrap(),
        peer: near.peer_addr().unwrap(),
    }
}

#[test]
fn init_hears_that_the_process_serves() {
    let house = House::new(echo, Vec::new());
    assert_eq!(
        house.control.receive::<FromChild>().unwrap().0,
        FromChild::Ready
    );
}

#[test]
fn a_datagram_goes_in_by_a_lent_socket_and_its_answer_out_by_the_same() {
    let mut house = House::new(echo, vec![listen(Transport::Udp)]);
    let firewall = house.firewall(settings());
    firewall.expect(|message| matches!(message, ToBroker::Listen { id: LISTEN, .. }));
    let socket = nonblocking(UdpSocket::bind("127.0.0.1:0").unwrap());
    let local = socket.local_addr().unwrap();
    firewall.send(
        &FromBroker::Listening {
            id: LISTEN,
            local: vec![local],
        },
        vec![socket.into()],
    );
    house.expect(|seen| *seen == Seen::Listening(vec![local]));
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 65_536];
    for size in [1, 1300, 9000, 65_000] {
        let message = vec![b'x'; size];
        phone.send_to(&message, local).unwrap();
        let (count, source) = phone.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], source), (&message[..], local));
    }
}

#[test]
fn a_socket_that_would_block_the_thread_is_refused() {
    let mut house = House::new(echo, vec![listen(Transport::Udp)]);
    let firewall = house.firewall(settings());
    firewall.expect(|message| matches!(message, ToBroker::Listen { .. }));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = vec![socket.local_addr().unwrap()];
    firewall.send(
        &FromBroker::Listening { id: LISTEN, local },
        vec![socket.into()],
    );
    house.expect(|seen| *seen == Seen::Refused(LISTEN));
}

#[test]
fn a_connection_is_read_and_written_and_its_end_is_told() {
    let mut house = House::new(echo, Vec::new());
    let firewall = house.firewall(settings());
    let (mut far, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    let mut answer = [0; 5];
    far.write_all(b"hello").unwrap();
    far.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    drop(far);
    house.expect(|seen| *seen == Seen::StreamClosed);
}

#[test]
fn connections_beyond_the_limit_are_closed_unread() {
    let mut house = House::new(echo, Vec::new());
    let mut settings = settings();
    settings.limits.connections = 1;
    let firewall = house.firewall(settings);
    let (_first, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    let (mut second, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(house.counter("sip_connections_refused_total"), 1);
}

#[test]
fn an_idle_connection_is_closed() {
    let mut house = House::new(echo, Vec::new());
    let mut settings = settings();
    settings.limits.idle_connection_seconds = 1;
    let firewall = house.firewall(settings);
    let (mut far, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
    house.expect(|seen| *seen == Seen::StreamClosed);
    assert_eq!(house.counter("sip_connections_idle_total"), 1);
}

#[test]
fn a_far_end_that_does_not_read_is_closed_and_holds_nothing_up() {
    let flood = |input: &Input<'_>| match *input {
        Input::Stream { connection, .. } => vec![Output::Stream {
            connection,
            bytes: vec![0; 32 * 1024 * 1024],
        }],
        _ => Vec::new(),
    };
    let mut house = House::new(flood, Vec::new());
    let firewall = house.firewall(settings());
    let (mut far, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    far.write_all(b"x").unwrap();
    house.expect(|seen| *seen == Seen::StreamClosed);
    assert_eq!(house.counter("sip_connections_choked_total"), 1);
}

#[test]
fn what_waits_for_a_slow_reader_arrives_whole_before_the_close() {
    let answer = |input: &Input<'_>| match *input {
        Input::Stream { connection, .. } => {
            let bytes = vec![7; 200 * 1024];
            vec![
                Output::Stream { connection, bytes },
                Output::CloseStream { connection },
            ]
        }
        _ => Vec::new(),
    };
    let mut house = House::new(answer, Vec::new());
    let firewall = house.firewall(settings());
    let (mut far, near) = connection();
    nix::sys::socket::setsockopt(&near, nix::sys::socket::sockopt::SndBuf, &4096).unwrap();
    firewall.send(&accepted(&near), vec![near.into()]);
    far.write_all(b"x").unwrap();
    house.expect(|seen| *seen == Seen::Stream);
    let mut received = Vec::new();
    far.read_to_end(&mut received).unwrap();
    assert_eq!(received, vec![7; 200 * 1024]);
}

/// A leg whose far end is `phone`.
fn leg(lease: u64, phone: &UdpSocket) -> LegMedia {
    let address = phone.local_addr().unwrap();
    LegMedia {
        lease,
        payloads: [8].into_iter().collect(),
        learn: Learn::Exact {
            rtp: address,
            rtcp: address,
        },
        send_to: Some(address),
        send_rtcp_to: Some(address),
        receive: true,
        send: true,
        clock_hz: 8000,
        name: 7,
        security: None,
        joined: None,
    }
}

#[test]
fn media_outlives_the_firewall_and_ends_where_its_successor_does_not_take_it_back() {
    let phones = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [a, b] = [leg(11, &phones[0]), leg(12, &phones[1])];
    let open = |id| ToBroker::OpenMedia {
        id: RequestId(id),
        zone: ZoneId(0),
        family: Family::V4,
        pair: false,
        flow: Flow::default(),
        ttl_seconds: 60,
    };
    let core = move |input: &Input<'_>| match input {
        Input::Broker(BrokerAnswer::MediaOpened {
            lease: LeaseId(12), ..
        }) => {
            vec![Output::Media(MediaCommand::Start {
                stream: StreamId(1),
                call: 1,
                a: a.clone(),
                b: b.clone(),
                silence_ms: 0,
            })]
        }
        Input::Broker(BrokerAnswer::LeaseEnded { .. }) => {
            vec![
                Output::Media(MediaCommand::Stop {
                    stream: StreamId(1),
                }),
                Output::Broker(ToBroker::CloseMedia {
                    id: RequestId(3),
                    lease: LeaseId(11),
                }),
            ]
        }
        _ => Vec::new(),
    };
    let mut house = House::new(core, vec![Output::Broker(open(1)), Output::Broker(open(2))]);
    let firewall = house.firewall(settings());
    let ports = [11, 12].map(|lease| {
        let request = firewall.expect(|message| matches!(message, ToBroker::OpenMedia { .. }));
        let ToBroker::OpenMedia { id, .. } = request else {
            unreachable!()
        };
        let socket = nonblocking(UdpSocket::bind("127.0.0.1:0").unwrap());
        let rtp = socket.local_addr().unwrap();
        let opened = FromBroker::MediaOpened {
            id,
            lease: LeaseId(lease),
            rtp,
            rtcp: None,
            ttl_seconds: 60,
        };
        firewall.send(&opened, vec![socket.into()]);
        rtp
    });
    phones[1].set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = [0xd5; 172];
    packet[..12].copy_from_slice(&[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    phones[0].send_to(&packet, ports[0]).unwrap();
    let mut buffer = [0; 200];
    assert_eq!(phones[1].recv_from(&mut buffer).unwrap(), (172, ports[1]));
    drop(firewall);
    house.expect(|seen| *seen == Seen::BrokerLost);
    phones[0].send_to(&packet, ports[0]).unwrap();
    assert_eq!(phones[1].recv_from(&mut buffer).unwrap(), (172, ports[1]));
    // Its successor is offered both, each with its socket, once it has settings.
    let firewall = house.firewall(settings());
    house.expect(|seen| *seen == Seen::Settings);
    let offered = [11, 12].map(|expected| {
        let (request, sockets) =
            firewall.expect_with(|message| matches!(message, ToBroker::AdoptMedia { .. }));
        let ToBroker::AdoptMedia { id, lease, .. } = request else {
            unreachable!()
        };
        assert_eq!(lease, LeaseId(expected));
        let [socket] = <[_; 1]>::try_from(sockets).unwrap();
        let at = UdpSocket::from(socket).local_addr().unwrap();
        assert_eq!(at, ports[usize::try_from(expected - 11).unwrap()]);
        id
    });
    firewall.send(&FromBroker::Done { id: offered[0] }, Vec::new());
    let refused = FromBroker::Refused {
        id: offered[1],
        reason: Refusal::NotPermitted,
    };
    firewall.send(&refused, Vec::new());
    house.expect(|seen| matches!(seen, Seen::Media(MediaEvent::Report { last: true, .. })));
    firewall.expect(|message| {
        matches!(
            message,
            ToBroker::CloseMedia {
                lease: LeaseId(11),
                ..
            }
        )
    });
    // Nobody holds the sockets any more.
    let deadline = Instant::now() + PATIENCE;
    while ports.iter().any(|port| UdpSocket::bind(port).is_err()) {
        assert!(Instant::now() < deadline, "a port is still bound");
        thread::yield_now();
    }
    firewall.expect(|message| matches!(message, ToBroker::Health { .. }));
}

#[test]
fn health_goes_on_while_all_move_and_ends_when_the_signalling_thread_hangs() {
    let (hang, hung) = std::sync::mpsc::channel::<()>();
    let hung = std::sync::Mutex::new(hung);
    let core = move |input: &Input<'_>| {
        if matches!(input, Input::StreamOpened { .. }) {
            // Until the test is over.
            let _ = hung.lock().unwrap().recv();
        }
        Vec::new()
    };
    let mut house = House::new(core, Vec::new());
    let firewall = house.firewall(settings());
    let sequence = |message| {
        if let ToBroker::Health { sequence } = message {
            sequence
        } else {
            0
        }
    };
    let health = |message: &ToBroker| matches!(message, ToBroker::Health { .. });
    let first = sequence(firewall.expect(health));
    assert_eq!(sequence(firewall.expect(health)), first + 1);
    let (_far, near) = connection();
    firewall.send(&accepted(&near), vec![near.into()]);
    house.expect(|seen| *seen == Seen::StreamOpened);
    // Those on their way; then none within four intervals.
    let silence = Duration::from_millis(100);
    let quiet = (0..10).any(|_| {
        firewall
            .channel
            .receive_within::<ToBroker>(silence)
            .is_none()
    });
    assert!(quiet, "health messages while the signalling thread hangs");
    drop(hang);
}

#[test]
fn records_reach_the_journal_and_those_that_cannot_are_counted() {
    let record = || Record::Event {
        severity: Severity::Notice,
        code: "test".into(),
        fields: Vec::new(),
    };
    let core = move |input: &Input<'_>| match input {
        Input::Settings(_) => vec![Output::Journal(record())],
        _ => Vec::new(),
    };
    let mut house = House::new(core, vec![Output::Journal(record())]);
    let firewall = house.firewall(settings());
    assert_eq!(house.counter("journal_records_lost_total"), 1);
    let journal = house.peer(broker_proto::Role::Journal, ChannelKind::Journal);
    firewall.send(&FromBroker::Settings(Box::new(settings())), Vec::new());
    assert_eq!(
        journal.receive::<ToJournal>().unwrap().0,
        ToJournal::Append(record())
    );
}

#[test]
fn management_is_answered_and_may_reset_only_the_laboratory() {
    let mut house = House::new(echo, Vec::new());
    let firewall = house.firewall(settings());
    house.expect(|seen| *seen == Seen::Settings);
    let id = RequestId(9);
    assert_eq!(
        house.ask(&ToStatus::Reset { id }),
        FromStatus::Refused { id }
    );
    assert!(matches!(
        house.ask(&ToStatus::Calls { id, offset: 0 }),
        FromStatus::Calls { more: false, .. }
    ));
    assert_eq!(
        house.ask(&ToStatus::Drops { id }),
        FromStatus::Refused { id }
    );
    let mut laboratory = settings();
    laboratory.lab = true;
    firewall.send(&FromBroker::Settings(Box::new(laboratory)), Vec::new());
    house.expect(|seen| *seen == Seen::Settings);
    assert_eq!(house.ask(&ToStatus::Reset { id }), FromStatus::Done { id });
}

#[test]
fn garbage_of_a_neighbour_is_passed_over() {
    let mut house = House::new(echo, Vec::new());
    let firewall = house.firewall(settings());
    firewall.channel.raw(&[1, 255, 255, 255, 255]);
    firewall.channel.raw(b"GET / HTTP/1.1");
    house.control.raw(&[0]);
    let socket: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    firewall.send(
        &FromBroker::Listening {
            id: RequestId(77),
            local: Vec::new(),
        },
        vec![socket],
    );
    firewall.send(&FromBroker::Settings(Box::new(settings())), Vec::new());
    house.expect(|seen| *seen == Seen::Settings);
    house.expect(|seen| *seen == Seen::Settings);
}

#[test]
fn a_stop_of_init_ends_the_process_in_order() {
    let mut house = House::new(echo, Vec::new());
    let _firewall = house.firewall(settings());
    house.expect(|seen| *seen == Seen::Settings);
    house.control.send(&ToChild::Stop, Vec::new());
    house.expect(|seen| *seen == Seen::Stop);
    house.ended().unwrap();
}

#[test]
fn the_process_ends_when_init_is_gone() {
    let mut house = House::new(echo, Vec::new());
    house.control.receive::<FromChild>().unwrap();
    house.lose_init();
    house.ended().unwrap();
}
