use std::time::{Duration, Instant};

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

const UDP: Way = Way(1, false);
const TCP: Way = Way(1, true);

fn layer() -> Layer<Way> {
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

fn answer(request: &Request, status: u16) -> Response {
    Response::to_request(request, StatusCode::new(status).unwrap(), "9")
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// With the time in ms.
type At<T> = Vec<(u128, T)>;

/// Lets time pass to its end; gives what was sent and what happened, each with its time in ms.
fn run(layer: &mut Layer<Way>, start: Instant) -> (At<String>, At<Event>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    let mut now = start;
    loop {
        let at = now.duration_since(start).as_millis();
        while let Some(transmit) = layer.poll_transmit() {
            let octets = String::from_utf8_lossy(&transmit.octets).into_owned();
            sent.push((at, octets.split("\r\n").next().unwrap().to_owned()));
        }
        while let Some(event) = layer.poll_event() {
            events.push((at, event));
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

fn new_server(layer: &mut Layer<Way>, now: Instant, request: &Request, way: Way) -> ServerId {
    match layer.handle_request(now, Box::new(request.clone()), way) {
        Inbound::Request(id, _) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unanswered_invite_is_sent_by_timer_a_until_timer_b() {
    let mut layer = layer();
    let id = layer.request(epoch(), of("INVITE"), UDP).unwrap();
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(times(&sent), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    let client = |event| (32_000, Event::Client(id, event));
    assert_eq!(
        events,
        [
            client(ClientEvent::Timeout),
            client(ClientEvent::Terminated)
        ]
    );
    assert!(layer.is_empty());
}

#[test]
fn another_request_is_sent_by_timer_e_until_timer_f() {
    let mut layer = layer();
    layer.request(epoch(), of("OPTIONS"), UDP).unwrap();
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
    layer.request(epoch(), of("INVITE"), TCP).unwrap();
    layer.request(epoch(), of("OPTIONS"), TCP).unwrap();
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(times(&sent), [0, 0]);
    assert_eq!(events.len(), 4);
}

#[test]
fn a_provisional_response_stops_timer_a_and_the_give_up() {
    let mut layer = layer();
    layer.request(epoch(), of("INVITE"), UDP).unwrap();
    let ringing = Box::new(answer(&of("INVITE"), 180));
    assert!(matches!(
        layer.handle_response(epoch() + ms(100), ringing, &UDP),
        Outcome::Response(..)
    ));
    assert_eq!(layer.poll_timeout(), None);
}

#[test]
fn a_provisional_response_slows_timer_e_to_t2() {
    let mut layer = layer();
    layer.request(epoch(), of("OPTIONS"), UDP).unwrap();
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
    layer.request(epoch(), of("INVITE"), UDP).unwrap();
    let busy = answer(&of("INVITE"), 486);
    assert!(matches!(
        layer.handle_response(epoch(), Box::new(busy.clone()), &UDP),
        Outcome::Response(..)
    ));
    assert!(matches!(
        layer.handle_response(epoch(), Box::new(busy), &UDP),
        Outcome::Absorbed
    ));
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
    layer.request(epoch(), of("INVITE"), UDP).unwrap();
    for tag in ["one", "two", "two"] {
        let ok = Response::to_request(&of("INVITE"), StatusCode::OK, tag);
        assert!(matches!(
            layer.handle_response(epoch(), Box::new(ok), &UDP),
            Outcome::Response(..)
        ));
    }
    let late = answer(&of("INVITE"), 486);
    assert!(matches!(
        layer.handle_response(epoch(), Box::new(late), &UDP),
        Outcome::Absorbed
    ));
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 1, "no ACK of ours");
    assert_eq!(events[0].0, 32_000);
}

#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let mut layer = layer();
    let id = layer.request(epoch(), of("INVITE"), TCP).unwrap();
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
        events.contains(&(32_000, Event::Client(id, ClientEvent::Timeout))),
        "64·T1 after CANCEL"
    );
}

#[test]
fn a_response_from_elsewhere_or_to_another_request_is_stray() {
    let mut layer = layer();
    layer.request(epoch(), of("INVITE"), UDP).unwrap();
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
        assert!(matches!(
            layer.handle_response(epoch(), Box::new(response), &UDP),
            Outcome::Stray
        ));
    }
    assert!(matches!(
        layer.handle_response(epoch(), Box::new(good.clone()), &Way(2, false)),
        Outcome::Stray
    ));
    assert!(matches!(
        layer.handle_response(epoch(), Box::new(good), &UDP),
        Outcome::Response(..)
    ));
}

#[test]
fn an_unreachable_peer_ends_a_transaction_at_once() {
    let mut layer = layer();
    let id = layer.request(epoch(), of("INVITE"), UDP).unwrap();
    layer.handle_client_unreachable(id);
    let (_, events) = run(&mut layer, epoch());
    assert_eq!(events[0], (0, Event::Client(id, ClientEvent::Unreachable)));
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
    assert_eq!(events[0], (32_000, Event::Server(id, ServerEvent::NoAck)));
}

#[test]
fn an_ack_ends_the_repetition_and_timer_i_the_transaction() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let busy = answer(&of("INVITE"), 486);
    layer.respond(epoch(), id, &busy);
    let ack = Box::new(ack_for(&of("INVITE"), &busy));
    assert!(matches!(
        layer.handle_request(epoch(), ack.clone(), UDP),
        Inbound::Absorbed
    ));
    assert!(matches!(
        layer.handle_request(epoch(), ack, UDP),
        Inbound::Absorbed
    ));
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 1);
    assert_eq!(
        events,
        [(5_000, Event::Server(id, ServerEvent::Terminated))]
    );
}

#[test]
fn a_2xx_is_the_users_to_repeat_until_timer_l() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let ok = answer(&of("INVITE"), 200);
    assert!(layer.respond(epoch(), id, &ok) && layer.respond(epoch(), id, &ok));
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(of("INVITE")), UDP),
        Inbound::Absorbed
    ));
    // The branch of an ACK for a 2xx is a fresh one; the old one is taken for it all the same.
    for branch in [";branch=z9hG4bKack", ";branch=z9hG4bKx"] {
        let ack = Box::new(request(&text("ACK", branch)));
        assert!(matches!(
            layer.handle_request(epoch(), ack, UDP),
            Inbound::Ack(_)
        ));
    }
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 2);
    assert_eq!(
        events,
        [(32_000, Event::Server(id, ServerEvent::Terminated))]
    );
}

#[test]
fn a_repeated_request_gets_the_last_answer_again_until_timer_j() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("OPTIONS"), UDP);
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(of("OPTIONS")), UDP),
        Inbound::Absorbed
    ));
    assert!(
        layer.poll_transmit().is_none(),
        "nothing to repeat in Trying"
    );
    layer.respond(epoch(), id, &answer(&of("OPTIONS"), 200));
    layer.handle_request(epoch(), Box::new(of("OPTIONS")), UDP);
    let (sent, events) = run(&mut layer, epoch());
    assert_eq!(sent.len(), 2);
    assert_eq!(events[0].0, 32_000);
    let id = new_server(&mut layer, epoch(), &of("OPTIONS"), TCP);
    layer.respond(epoch(), id, &answer(&of("OPTIONS"), 200));
    assert!(layer.is_empty(), "timer J is zero on a stream");
}

#[test]
fn the_same_branch_from_another_peer_is_another_transaction() {
    let mut layer = layer();
    new_server(&mut layer, epoch(), &of("OPTIONS"), UDP);
    let other = layer.handle_request(epoch(), Box::new(of("OPTIONS")), Way(2, false));
    assert!(matches!(other, Inbound::Merged(..)), "{other:?}");
    assert_eq!(layer.len().1, 2);
}

#[test]
fn a_cancel_finds_its_invite_and_has_a_transaction_of_its_own() {
    let mut layer = layer();
    let invite = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    match layer.handle_request(epoch(), Box::new(of("CANCEL")), UDP) {
        Inbound::Cancel(cancel, Some(found), _) => assert!(found == invite && cancel != invite),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(of("CANCEL")), UDP),
        Inbound::Absorbed
    ));
    let unknown = request(&text("CANCEL", ";branch=z9hG4bKother"));
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(unknown), UDP),
        Inbound::Cancel(_, None, _)
    ));
}

#[test]
fn a_request_that_came_by_two_ways_is_merged() {
    let mut layer = layer();
    new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    let spiral = request(&text("INVITE", ";branch=z9hG4bKother"));
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(spiral), UDP),
        Inbound::Merged(..)
    ));
}

#[test]
fn a_branch_without_cookie_is_matched_as_rfc_2543_says() {
    let mut layer = layer();
    let old = request(&text("INVITE", ""));
    let id = new_server(&mut layer, epoch(), &old, UDP);
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(old.clone()), UDP),
        Inbound::Absorbed
    ));
    layer.respond(epoch(), id, &answer(&old, 486));
    let mut ack = request(&text("ACK", ""));
    assert!(
        matches!(
            layer.handle_request(epoch(), Box::new(ack.clone()), UDP),
            Inbound::Ack(_)
        ),
        "no tag"
    );
    ack.headers.to.params.set_plain("tag", "9");
    assert!(matches!(
        layer.handle_request(epoch(), Box::new(ack), UDP),
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
        assert_eq!(
            layer.request(epoch(), request.clone(), UDP).is_ok(),
            number < 8
        );
        let full = matches!(
            layer.handle_request(epoch(), Box::new(request), UDP),
            Inbound::Full(_)
        );
        assert_eq!(full, number >= 8);
    }
    assert_eq!(layer.len(), (8, 8));
}

#[test]
fn a_branch_of_ours_is_never_used_twice() {
    let mut layer = layer();
    layer.request(epoch(), of("OPTIONS"), UDP).unwrap();
    assert_eq!(layer.request(epoch(), of("OPTIONS"), UDP), Err(TableFull));
}

#[test]
fn a_forgotten_transaction_is_silent_and_leaves_nothing() {
    let mut layer = layer();
    let id = new_server(&mut layer, epoch(), &of("INVITE"), UDP);
    layer.forget(id);
    assert!(layer.is_empty() && layer.poll_timeout().is_none());
    assert!(!layer.respond(epoch(), id, &answer(&of("INVITE"), 200)));
    new_server(&mut layer, epoch(), &of("INVITE"), UDP);
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
    let mut wire: Vec<(Instant, bool, std::sync::Arc<[u8]>)> = Vec::new();
    let method = ["INVITE", "OPTIONS", "BYE"][dice.roll(3)];
    let id = a.request(now, of(method), way.clone()).unwrap();
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
            over |= event == Event::Client(id, ClientEvent::Terminated);
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
        let arrived: Vec<(Instant, bool, std::sync::Arc<[u8]>)> = arrived;
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
    (a, b): (&mut Layer<Way>, &mut Layer<Way>),
    to_b: bool,
    octets: &[u8],
    way: &Way,
    answers: &mut Vec<(Instant, ServerId, Request, u16)>,
) {
    use crate::message::{Framing, Message, parse};
    match parse(octets, Framing::Datagram, &crate::limits::Limits::default()).unwrap() {
        Message::Request(request) if to_b => {
            let inbound = b.handle_request(now, request, way.clone());
            if let Inbound::Cancel(id, _, cancel) = &inbound {
                b.respond(now, *id, &answer(cancel, 200));
            }
            if let Inbound::Request(id, request) = inbound {
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
