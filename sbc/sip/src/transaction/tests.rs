use std::time::{Duration, Instant};

use super::client::{ack_for, cancel_for};
use super::*;
use crate::message::{Request, Response};
use crate::status::StatusCode;
use crate::testing::{epoch, request};

/// A way of the tests: a number for the peer, and whether it is a stream.
#[derive(Clone, Debug, PartialEq)]
struct Way(u8, bool);

impl Flow for Way {
    type Scope = u8;

    fn scope(&self) -> u8 {
        self.0
    }

    fn is_reliable(&self) -> bool {
        self.1
    }
}

type TestLayer = Layer<Way, u8, ()>;

/// What is kept with the requests of the tests.
const OWNER: u8 = 7;
const GIVE_UP: Duration = Duration::from_secs(32);

const UDP: Way = Way(1, false);
const TCP: Way = Way(1, true);

fn layer() -> TestLayer {
    Layer::new(
        LayerLimits {
            clients: 8,
            servers: 8,
        },
        Timers::default(),
    )
}

fn text(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example{branch}\r\nFrom: <sip:a@a.example>;tag=1\r\n\
         To: <sip:b@b.example>\r\nCall-ID: c@a.example\r\nCSeq: 7 {method}\r\n\r\n"
    )
}

fn of(method: &str) -> Request {
    request(&text(method, ";branch=z9hG4bKx"))
}

/// Sends a request as the core does.
fn send(layer: &mut TestLayer, now: Instant, request: Request, way: Way) -> ClientId {
    let octets = request.to_bytes();
    layer.request(now, (request, octets), way, OWNER, GIVE_UP)
}

/// What a request that came in is.
#[derive(Debug, PartialEq)]
enum Inbound {
    Request(ServerId),
    Ack,
    Absorbed,
    Merged,
    Full,
}

/// Takes a request in as the core does.
fn receive(layer: &mut TestLayer, now: Instant, request: &Request, way: Way) -> Inbound {
    if layer.absorb(now, request, &way) {
        Inbound::Absorbed
    } else if request.method == crate::method::Method::Ack {
        Inbound::Ack
    } else if layer.is_merged(request) {
        Inbound::Merged
    } else {
        layer
            .serve(now, request, way, ())
            .map_or(Inbound::Full, Inbound::Request)
    }
}

/// Takes a response in; whether it was passed up.
fn respond_up(layer: &mut TestLayer, now: Instant, response: Response, way: &Way) -> bool {
    let taken = layer.handle_response(now, Box::new(response), way);
    let up = matches!(layer.poll_event(), Some(Event::Response(_, OWNER, _)));
    assert!(taken || !up);
    up
}

fn ended(id: ClientId, end: ClientEnd) -> Ended {
    Ended::Client(id, end)
}

/// The end of a transaction.
#[derive(Debug, PartialEq)]
enum Ended {
    Client(ClientId, ClientEnd),
    Server(ServerId, ServerEnd),
}

fn answer(request: &Request, status: u16) -> Response {
    Response::to_request(request, StatusCode::new(status).unwrap(), "9")
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// With the time in ms.
type At<T> = Vec<(u128, T)>;

/// Lets time pass to its end; gives what was sent and what happened, each with its time in ms.
fn run(layer: &mut TestLayer, start: Instant) -> (At<String>, At<Ended>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    let mut now = start;
    loop {
        let at = now.duration_since(start).as_millis();
        while let Some(transmit) = layer.poll_transmit() {
            let octets = String::from_utf8_lossy(&transmit.octets).into_owned();
            sent.push((at, octets.split("\r\n").next().unwrap().to_owned()));
        }
        while let Some(event) = layer.poll_event() {
            match event {
                Event::Response(..) => {}
                Event::ClientEnded(id, _, end) => events.push((at, Ended::Client(id, end))),
                Event::ServerEnded(id, (), end) => events.push((at, Ended::Server(id, end))),
            }
        }
        let Some(next) = layer.poll_timeout() else {
            return (sent, events);
        };
        now = next;
        layer.handle_timeout(now);
    }
}

fn times(sent: &[(u128, String)]) -> Vec<u128> {
    sent.iter().map(|(at, _)| *at).collect()
}

fn new_server(layer: &mut TestLayer, now: Instant, request: &Request, way: Way) -> ServerId {
    match receive(layer, now, request, way) {
        Inbound::Request(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unanswered_invite_is_sent_by_timer_a_until_timer_b() {
    let mut layer = layer();
    let id = send(&mut layer, epoch(), of("INVITE"), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(times(&sent), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(events, [(32_000, ended(id, ClientEnd::Timeout))]);
    assert!(layer.is_empty());
}

#[test]
fn another_request_is_sent_by_timer_e_until_timer_f() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("OPTIONS"), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(
        times(&sent),
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(events.first().unwrap().0, 32_000);
}

#[test]
fn nothing_is_repeated_on_a_stream() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), TCP);
    send(&mut layer, epoch(), of("OPTIONS"), TCP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(times(&sent), [0, 0]);
    assert_eq!(events.len(), 2);
}

#[test]
fn a_provisional_response_stops_timer_a_and_the_give_up() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), UDP);
    let ringing = answer(&of("INVITE"), 180);
    assert!(respond_up(&mut layer, epoch() + ms(100), ringing, &UDP));
    assert_eq!(layer.poll_timeout(), None);
}

#[test]
fn a_provisional_response_slows_timer_e_to_t2() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("OPTIONS"), UDP);
    layer.handle_response(
        epoch() + ms(100),
        Box::new(answer(&of("OPTIONS"), 100)),
        &UDP,
    );
    let (sent, _) = run(&mut layer, epoch());
    assert_eq!(times(&sent)[..4], [0, 500, 4500, 8500]);
}

#[test]
fn a_refusal_is_acknowledged_each_time_it_comes_and_passed_up_once() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), UDP);
    let busy = answer(&of("INVITE"), 486);
    assert!(respond_up(&mut layer, epoch(), busy.clone(), &UDP));
    assert!(!respond_up(&mut layer, epoch(), busy, &UDP));
    let (sent, events) = run(&mut layer, epoch());
    let lines: Vec<_> = sent.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "INVITE sip:b@b.example SIP/2.0",
            "ACK sip:b@b.example SIP/2.0",
            "ACK sip:b@b.example SIP/2.0"
        ]
    );
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, 32_000, "timer D");
}

#[test]
fn an_ack_has_branch_route_and_to_of_its_invite_and_refusal() {
    let mut invite = of("INVITE");
    invite
        .headers
        .routes
        .push("<sip:r.example;lr>".parse().unwrap());
    let ack = ack_for(&invite, &answer(&invite, 486));
    assert_eq!(ack.top_via(), invite.top_via());
    assert_eq!(ack.headers.routes, invite.headers.routes);
    assert_eq!(ack.headers.to.tag().unwrap(), "9");
    assert_eq!(ack.headers.cseq.to_string(), "7 ACK");
    let cancel = cancel_for(&invite);
    assert_eq!(
        (cancel.headers.to.tag(), cancel.headers.cseq.number),
        (None, 7)
    );
}

#[test]
fn each_2xx_of_a_fork_is_passed_up_until_timer_m() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), UDP);
    for tag in ["one", "two", "two"] {
        let ok = Response::to_request(&of("INVITE"), StatusCode::OK, tag);
        assert!(respond_up(&mut layer, epoch(), ok, &UDP));
    }
    let late = answer(&of("INVITE"), 486);
    assert!(!respond_up(&mut layer, epoch(), late, &UDP));
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 1, "no ACK of ours");
    assert_eq!(events[0].0, 32_000);
}

#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let mut layer = layer();
    let id = send(&mut layer, epoch(), of("INVITE"), TCP);
    layer.cancel(epoch(), id);
    assert_eq!(layer.len().0, 1);
    layer.handle_response(epoch(), Box::new(answer(&of("INVITE"), 180)), &TCP);
    layer.cancel(epoch(), id);
    assert_eq!(layer.len().0, 2);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(
        sent.iter()
            .filter(|(_, line)| line.starts_with("CANCEL"))
            .count(),
        1
    );
    assert!(
        events.contains(&(32_000, ended(id, ClientEnd::Timeout))),
        "64·T1 after CANCEL"
    );
}

#[test]
fn a_response_from_elsewhere_or_to_another_request_is_stray() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), UDP);
    let good = answer(&of("INVITE"), 200);
    let mut two_vias = good.clone();
    two_vias.headers.vias.push(good.headers.vias[0].clone());
    let mut other_number = good.clone();
    other_number.headers.cseq.number = 8;
    let mut other_method = good.clone();
    other_method.headers.cseq.method = crate::method::Method::Bye;
    let mut other_tag = good.clone();
    other_tag.headers.from.params.set_plain("tag", "2");
    for response in [two_vias, other_number, other_method, other_tag] {
        assert!(!layer.handle_response(epoch(), Box::new(response), &UDP));
    }
    assert!(!layer.handle_response(epoch(), Box::new(good.clone()), &Way(2, false)));
    assert!(respond_up(&mut layer, epoch(), good, &UDP));
}

#[test]
fn an_unreachable_peer_ends_a_transaction_at_once() {
    let mut layer = layer();
    let id = send(&mut layer, epoch(), of("INVITE"), UDP);
    layer.handle_unreachable(id);
    let (_, events) = run(&mut layer, epoch());
    assert_eq!(events, [(0, ended(id, ClientEnd::Unreachable))]);
    assert!(layer.is_empty());
}

#[test]
fn an_invite_without_answer_is_told_100_after_200_ms() {
    let mut layer = layer();
    new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let (sent, _) = run(&mut layer, epoch());
    assert_eq!(sent, [(200, "SIP/2.0 100 Trying".to_owned())]);
    assert_eq!(layer.len().1, 1);
}

#[test]
fn a_refusal_is_repeated_by_timer_g_until_timer_h() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    assert!(layer.respond(epoch(), id, &answer(&of("INVITE"), 486)));
    assert!(
        !layer.respond(epoch(), id, &answer(&of("INVITE"), 200)),
        "one final response only"
    );
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(
        times(&sent),
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(events[0], (32_000, Ended::Server(id, ServerEnd::NoAck)));
}

#[test]
fn an_ack_ends_the_repetition_and_timer_i_the_transaction() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let busy = answer(&of("INVITE"), 486);
    layer.respond(epoch(), id, &busy);
    let ack = ack_for(&of("INVITE"), &busy);
    assert!(matches!(
        receive(&mut layer, epoch(), &ack, UDP),
        Inbound::Absorbed
    ));
    assert!(matches!(
        receive(&mut layer, epoch(), &ack, UDP),
        Inbound::Absorbed
    ));
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 1);
    assert_eq!(events, [(5_000, Ended::Server(id, ServerEnd::Done))]);
}

#[test]
fn a_2xx_is_the_users_to_repeat_until_timer_l() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let ok = answer(&of("INVITE"), 200);
    assert!(layer.respond(epoch(), id, &ok) && layer.respond(epoch(), id, &ok));
    assert!(matches!(
        receive(&mut layer, epoch(), &of("INVITE"), UDP),
        Inbound::Absorbed
    ));
    // The branch of an ACK for a 2xx is a fresh one; the old one is taken for it all the same.
    for branch in [";branch=z9hG4bKack", ";branch=z9hG4bKx"] {
        let ack = request(&text("ACK", branch));
        assert!(matches!(
            receive(&mut layer, epoch(), &ack, UDP),
            Inbound::Ack
        ));
    }
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 2);
    assert_eq!(events, [(32_000, Ended::Server(id, ServerEnd::Done))]);
}

#[test]
fn a_repeated_request_gets_the_last_answer_again_until_timer_j() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("OPTIONS"), UDP);
    assert!(matches!(
        receive(&mut layer, epoch(), &of("OPTIONS"), UDP),
        Inbound::Absorbed
    ));
    assert!(
        layer.poll_transmit().is_none(),
        "nothing to repeat in Trying"
    );
    layer.respond(epoch(), id, &answer(&of("OPTIONS"), 200));
    for _ in 0..1000 {
        receive(&mut layer, epoch(), &of("OPTIONS"), UDP);
    }
    receive(&mut layer, epoch() + ms(100), &of("OPTIONS"), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 5, "itself, three of the storm, the late one");
    assert_eq!(events[0].0, 32_000);
    let id = new_server(&mut layer, epoch(), &of("OPTIONS"), TCP);
    layer.respond(epoch(), id, &answer(&of("OPTIONS"), 200));
    assert!(layer.is_empty(), "timer J is zero on a stream");
}

#[test]
fn the_same_branch_from_another_peer_is_another_transaction() {
    let mut layer = layer();
    new_server(&mut layer, epoch(), &of("OPTIONS"), UDP);
    let other = receive(&mut layer, epoch(), &of("OPTIONS"), Way(2, false));
    assert!(matches!(other, Inbound::Merged), "{other:?}");
    let of_it = layer.serve(epoch(), &of("OPTIONS"), Way(2, false), ());
    assert!(of_it.is_ok());
    assert_eq!(layer.len().1, 2);
}

#[test]
fn a_cancel_finds_its_invite_and_has_a_transaction_of_its_own() {
    let mut layer = layer();
    let invite = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    assert_eq!(layer.invite_of(&of("CANCEL"), &UDP), Some(invite));
    assert_eq!(layer.invite_of(&of("CANCEL"), &Way(2, false)), None);
    let cancel = new_server(&mut layer, epoch(), &of("CANCEL"), UDP);
    assert_ne!(cancel, invite);
    assert!(matches!(
        receive(&mut layer, epoch(), &of("CANCEL"), UDP),
        Inbound::Absorbed
    ));
    let unknown = request(&text("CANCEL", ";branch=z9hG4bKother"));
    assert_eq!(layer.invite_of(&unknown, &UDP), None);
}

#[test]
fn a_request_that_came_by_two_ways_is_merged() {
    let mut layer = layer();
    new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let spiral = request(&text("INVITE", ";branch=z9hG4bKother"));
    assert!(matches!(
        receive(&mut layer, epoch(), &spiral, UDP),
        Inbound::Merged
    ));
}

#[test]
fn a_branch_without_cookie_is_matched_as_rfc_2543_says() {
    let mut layer = layer();
    let old = request(&text("INVITE", ""));
    let id = new_server(&mut layer, epoch(), &old, UDP);
    assert!(matches!(
        receive(&mut layer, epoch(), &old.clone(), UDP),
        Inbound::Absorbed
    ));
    layer.respond(epoch(), id, &answer(&old, 486));
    let mut ack = request(&text("ACK", ""));
    assert!(
        matches!(
            receive(&mut layer, epoch(), &ack.clone(), UDP),
            Inbound::Ack
        ),
        "no tag"
    );
    ack.headers.to.params.set_plain("tag", "9");
    assert!(matches!(
        receive(&mut layer, epoch(), &ack, UDP),
        Inbound::Absorbed
    ));
    let mut next = old;
    next.headers.cseq.number = 8;
    new_server(&mut layer, epoch(), &next, UDP);
}

#[test]
fn tables_are_bounded() {
    let mut layer = layer();
    for number in 0..9 {
        let request = request(
            &text("OPTIONS", &format!(";branch=z9hG4bK{number}"))
                .replace("CSeq: 7", &format!("CSeq: {number}")),
        );
        let id = send(&mut layer, epoch(), request.clone(), UDP);
        let full = receive(&mut layer, epoch(), &request, UDP) == Inbound::Full;
        assert_eq!(full, number >= 8);
        let refused = layer.poll_event();
        assert_eq!(refused.is_some(), number >= 8);
        if let Some(event) = refused {
            assert!(matches!(event, Event::ClientEnded(of, OWNER, ClientEnd::NoRoom) if of == id));
        }
    }
    assert_eq!(layer.len(), (8, 8));
}

#[test]
fn a_branch_of_ours_is_never_used_twice() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("OPTIONS"), UDP);
    let again = send(&mut layer, epoch(), of("OPTIONS"), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(events[0], (0, ended(again, ClientEnd::NoRoom)));
    assert_eq!(sent.iter().filter(|(at, _)| *at == 0).count(), 1);
}

#[test]
fn a_request_without_way_goes_by_another_under_the_same_branch() {
    let mut layer = layer();
    let id = send(&mut layer, epoch(), of("INVITE"), TCP);
    layer.poll_transmit();
    let sent_by = std::net::SocketAddr::from(([192, 0, 2, 1], 5060)).into();
    let via = (crate::headers::Transport::Udp, sent_by);
    assert!(layer.reroute(epoch(), id, UDP, via.clone()));
    let transmit = layer.poll_transmit().unwrap();
    let octets = String::from_utf8(transmit.octets).unwrap();
    assert!(
        octets.contains("Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\n"),
        "{octets}"
    );
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(
        times(&sent),
        [500, 1500, 3500, 7500, 15_500, 31_500],
        "timer A now runs"
    );
    assert_eq!(events, [(32_000, ended(id, ClientEnd::Timeout))]);
    let id = send(&mut layer, epoch(), of("INVITE"), TCP);
    respond_up(&mut layer, epoch(), answer(&of("INVITE"), 180), &TCP);
    assert!(!layer.reroute(epoch(), id, UDP, via), "an answer came");
}

#[test]
fn what_comes_back_to_its_sender_is_known_by_its_via() {
    let mut layer = layer();
    send(&mut layer, epoch(), of("INVITE"), UDP);
    let invite = of("INVITE");
    let via = invite.top_via().unwrap();
    assert_eq!(layer.sent(via, &invite.method), Some(&invite));
    assert_eq!(layer.sent(via, &crate::method::Method::Options), None);
    respond_up(&mut layer, epoch(), answer(&of("INVITE"), 486), &UDP);
    assert_eq!(layer.sent(via, &invite.method), None);
}

#[test]
fn an_acknowledged_2xx_takes_late_repetitions_in_for_t4() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    layer.respond(epoch(), id, &answer(&of("INVITE"), 200));
    layer.acknowledged(epoch() + ms(100), id);
    assert_eq!(
        receive(&mut layer, epoch() + ms(200), &of("INVITE"), UDP),
        Inbound::Absorbed
    );
    let (_, events) = run(&mut layer, epoch());
    assert_eq!(events, [(5_100, Ended::Server(id, ServerEnd::Done))]);
}

#[test]
fn a_request_that_nobody_answers_ends_when_its_sender_gives_up() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("OPTIONS"), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert!(sent.is_empty());
    assert_eq!(events, [(32_000, Ended::Server(id, ServerEnd::Unanswered))]);
}

#[test]
fn a_forgotten_request_is_never_answered_nor_its_repetitions() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    layer.forget(epoch(), id);
    assert_eq!(
        receive(&mut layer, epoch(), &of("INVITE"), UDP),
        Inbound::Absorbed
    );
    assert!(!layer.respond(epoch(), id, &answer(&of("INVITE"), 200)));
    let (sent, events) = run(&mut layer, epoch());
    assert!(sent.is_empty() && layer.is_empty());
    assert_eq!(events, [(32_000, Ended::Server(id, ServerEnd::Done))]);
}

/// Two layers, a network that loses, doubles and delays, a clock that jumps: whatever happens, every transaction ends and
/// no table keeps anything. A failure prints its seed.
#[test]
fn two_layers_and_a_bad_network_leave_nothing_behind() {
    for seed in 0..400 {
        exchange(seed);
    }
}

fn exchange(seed: u64) {
    let mut dice = crate::testing::Dice::new(seed);
    let (mut a, mut b) = (layer(), layer());
    let way = Way(1, dice.roll(4) == 0);
    let loss = dice.roll(4);
    let start = epoch();
    let mut now = start;
    let mut wire: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let method = ["INVITE", "OPTIONS", "BYE"][dice.roll(3)];
    let id = send(&mut a, now, of(method), way.clone());
    let mut answers: Vec<(Instant, ServerId, Request, u16)> = Vec::new();
    let mut over = false;
    for _ in 0..2_000 {
        for (to_b, transmit) in core::iter::from_fn(|| a.poll_transmit())
            .map(|t| (true, t))
            .collect::<Vec<_>>()
            .into_iter()
            .chain(
                core::iter::from_fn(|| b.poll_transmit())
                    .map(|t| (false, t))
                    .collect::<Vec<_>>(),
            )
        {
            for _ in 0..=usize::from(!way.1 && dice.roll(8) == 0) {
                if way.1 || dice.roll(10) >= loss {
                    wire.push((
                        now + ms(dice.roll(900) as u64),
                        to_b,
                        transmit.octets.clone(),
                    ));
                }
            }
        }
        while let Some(event) = a.poll_event() {
            over |= matches!(event, Event::ClientEnded(of, ..) if of == id);
        }
        while b.poll_event().is_some() {}
        let due = [a.poll_timeout(), b.poll_timeout()].into_iter().flatten();
        let due = due
            .chain(wire.iter().map(|(at, ..)| *at))
            .chain(answers.iter().map(|(at, ..)| *at))
            .min();
        // How long it may ring is for the user to say.
        let give_up = start + Duration::from_secs(60);
        let ringing = due.is_none() && !over;
        let Some(due) = due.or(ringing.then_some(give_up)) else {
            break;
        };
        now = due;
        if ringing {
            a.cancel(now, id);
        }
        a.handle_timeout(now);
        b.handle_timeout(now);
        let (arrived, rest) = core::mem::take(&mut wire)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        wire = rest;
        let arrived: Vec<(Instant, bool, Vec<u8>)> = arrived;
        for (_, to_b, octets) in arrived {
            deliver(
                &mut dice,
                now,
                (&mut a, &mut b),
                to_b,
                &octets,
                &way,
                &mut answers,
            );
        }
        let (ready, later) = core::mem::take(&mut answers)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        answers = later;
        let ready: Vec<(Instant, ServerId, Request, u16)> = ready;
        for (_, server, request, status) in ready {
            b.respond(now, server, &answer(&request, status));
        }
    }
    assert!(
        over && a.is_empty() && b.is_empty(),
        "seed {seed}: {over} {:?} {:?}",
        a.len(),
        b.len()
    );
    assert_eq!(
        (a.poll_timeout(), b.poll_timeout()),
        (None, None),
        "seed {seed}"
    );
}

fn deliver(
    dice: &mut crate::testing::Dice,
    now: Instant,
    (a, b): (&mut TestLayer, &mut TestLayer),
    to_b: bool,
    octets: &[u8],
    way: &Way,
    answers: &mut Vec<(Instant, ServerId, Request, u16)>,
) {
    use crate::message::{Framing, Message, parse};
    match parse(octets, Framing::Datagram, &crate::limits::Limits::default()).unwrap() {
        Message::Request(request) if to_b => {
            let inbound = receive(b, now, &request, way.clone());
            let cancel = request.method == crate::method::Method::Cancel;
            if let (Inbound::Request(id), true) = (&inbound, cancel) {
                b.respond(now, *id, &answer(&request, 200));
            }
            if let (Inbound::Request(id), false) = (inbound, cancel) {
                let at = now + ms(dice.roll(3_000) as u64);
                answers.push((at, id, (*request).clone(), 180));
                let (at, status) = (
                    at + ms(dice.roll(3_000) as u64),
                    [200, 302, 486, 503, 603][dice.roll(5)],
                );
                // A 2xx is the user's to repeat; what comes after a refusal is refused by its state.
                for again in [0, 500, 1_500, 3_500, 7_500] {
                    answers.push((at + ms(again), id, (*request).clone(), status));
                }
            }
        }
        Message::Response(response) if !to_b => {
            a.handle_response(now, response, way);
        }
        other => panic!("{other:?}"),
    }
}
