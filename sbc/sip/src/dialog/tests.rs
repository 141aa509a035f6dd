use std::time::Duration;

use super::*;
use crate::headers::{HeaderName, Transport};
use crate::status::StatusCode;
use crate::testing::{epoch, request};
use crate::transaction::Timers;

fn invite() -> Request {
    request(
        "INVITE sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: \"A\" <sip:a@a.example>;tag=1\r\n\
         To: <sip:b@b.example>\r\nCall-ID: c@a.example\r\nCSeq: 7 INVITE\r\nContact: <sip:a@192.0.2.1?Route=%3Csip:evil%3E>\r\n\
         Record-Route: <sip:p1.example;lr>\r\nRecord-Route: <sip:p2.example;lr>\r\n\r\n",
    )
}

fn answer(status: u16, contact: &str) -> Response {
    let mut response = Response::to_request(&invite(), StatusCode::new(status).unwrap(), "9");
    response.headers.contacts.push(contact.parse().unwrap());
    response.headers.record_routes = invite().headers.record_routes;
    response
}

fn via() -> Via {
    Via::new(
        Transport::Udp,
        std::net::SocketAddr::from(([192, 0, 2, 1], 5060)).into(),
        "z9hG4bKnew",
    )
}

/// The caller's end before any response; its INVITE had CSeq 7.
fn caller() -> Dialog {
    let headers = invite().headers;
    let mut dialog = Dialog::new(headers.call_id, "1", &headers.from, &headers.to);
    dialog.local_cseq = 7;
    dialog
}

fn uac() -> Dialog {
    let mut dialog = caller();
    dialog.handle_first_response(&answer(200, "<sip:b@192.0.2.2>"));
    dialog
}

fn uas() -> Dialog {
    let headers = invite().headers;
    let mut dialog = Dialog::new(headers.call_id, "9", &headers.to, &headers.from);
    dialog.handle_first_request(&invite());
    dialog
}

fn next(dialog: &mut Dialog, method: Method) -> Request {
    let cseq = dialog.next_cseq();
    dialog.request(method, cseq, via())
}

fn routes(request: &Request) -> Vec<String> {
    let routes = request.headers.routes.iter();
    routes.map(|route| route.uri.to_string()).collect()
}

#[test]
fn both_ends_name_the_dialog_alike_and_route_in_opposite_order() {
    let (mut caller, mut callee) = (uac(), uas());
    assert_eq!(Some(caller.local_tag()), callee.remote_tag());
    assert_eq!(Some(callee.local_tag()), caller.remote_tag());
    let bye = next(&mut caller, Method::Bye);
    assert_eq!(routes(&bye), ["sip:p2.example;lr", "sip:p1.example;lr"]);
    assert_eq!(
        (bye.uri.to_string().as_str(), bye.headers.cseq.number),
        ("sip:b@192.0.2.2", 8)
    );
    assert_eq!(caller.next_hop().unwrap().to_string(), "sip:p2.example;lr");
    assert!(callee.is_from_remote(&bye));
    let bye = next(&mut callee, Method::Bye);
    assert_eq!(routes(&bye), ["sip:p1.example;lr", "sip:p2.example;lr"]);
    assert_eq!(
        bye.uri.to_string(),
        "sip:a@192.0.2.1",
        "no header hidden in the Contact"
    );
    assert_eq!(bye.headers.from.tag().unwrap(), "9");
    assert!(bye.headers.has(&HeaderName::MaxForwards) && bye.headers.contacts.is_empty());
}

#[test]
fn a_strict_router_gets_its_own_uri() {
    let mut response = answer(200, "<sip:b@192.0.2.2>");
    response.headers.record_routes = vec![
        "<sip:p1.example;lr>".parse().unwrap(),
        "<sip:strict.example>".parse().unwrap(),
    ];
    let mut dialog = caller();
    dialog.handle_first_response(&response);
    let request = next(&mut dialog, Method::Info);
    assert_eq!(request.uri.to_string(), "sip:strict.example");
    assert_eq!(routes(&request), ["sip:p1.example;lr", "sip:b@192.0.2.2"]);
}

#[test]
fn before_any_response_a_request_goes_to_whom_it_is_for() {
    let request = caller().request(Method::Invite, 7, via());
    assert_eq!(request.uri.to_string(), "sip:b@b.example");
    assert_eq!(request.headers.to.tag(), None);
    assert_eq!(request.headers.from.tag().unwrap(), "1");
    assert_eq!(caller().next_hop(), None);
}

#[test]
fn an_early_dialog_takes_routes_and_target_of_its_2xx() {
    let mut dialog = caller();
    dialog.handle_first_response(&answer(180, "<sip:b@192.0.2.2>"));
    let mut ok = answer(200, "<sip:moved@192.0.2.3>");
    ok.headers.record_routes.truncate(1);
    dialog.handle_first_response(&ok);
    let ack = dialog.request(Method::Ack, 7, via());
    assert_eq!(ack.uri.to_string(), "sip:moved@192.0.2.3");
    assert_eq!(ack.headers.cseq.to_string(), "7 ACK");
    assert_eq!(routes(&ack), ["sip:p1.example;lr"]);
    assert_eq!(
        next(&mut dialog, Method::Bye).headers.cseq.number,
        8,
        "an ACK takes no number"
    );
}

#[test]
fn a_fork_shares_all_but_the_other_end() {
    let mut fork = uac().forked();
    assert_eq!((fork.remote_tag(), fork.next_hop()), (None, None));
    let mut other = answer(200, "<sip:b@192.0.2.9>");
    other.headers.to.params.set_plain("tag", "10");
    fork.handle_first_response(&other);
    let bye = next(&mut fork, Method::Bye);
    assert_eq!(bye.headers.to.tag().unwrap(), "10");
    assert_eq!(bye.headers.cseq.number, 8);
    assert_eq!(bye.headers.call_id, *uac().call_id());
}

#[test]
fn cseq_must_rise_but_may_jump() {
    let mut dialog = uas();
    assert!(!dialog.is_in_order(7), "that of the INVITE");
    assert!(dialog.is_in_order(8));
    assert!(!dialog.is_in_order(8));
    assert!(dialog.is_in_order(1_000));
    assert!(!dialog.is_in_order(9));
}

#[test]
fn a_request_with_another_tag_is_not_of_the_other_end() {
    let dialog = uas();
    let mut bye = next(&mut uac(), Method::Bye);
    assert!(dialog.is_from_remote(&bye));
    bye.headers.from.params.set_plain("tag", "other");
    assert!(!dialog.is_from_remote(&bye));
}

#[test]
fn a_contact_that_is_no_sip_uri_moves_nothing() {
    let mut dialog = uas();
    dialog.refresh_target(&["<tel:+1>".parse().unwrap()]);
    dialog.refresh_target(&[]);
    let target = |dialog: &Dialog| dialog.request(Method::Bye, 1, via()).uri.to_string();
    assert_eq!(target(&dialog), "sip:a@192.0.2.1");
    dialog.refresh_target(&["<sip:x@x.example>".parse().unwrap()]);
    assert_eq!(target(&dialog), "sip:x@x.example");
}

#[test]
fn a_tag_may_be_chosen_until_it_is_told() {
    let mut dialog = uas();
    dialog.set_local_tag("11");
    assert_eq!(dialog.local_tag(), "11");
    let bye = next(&mut dialog, Method::Bye);
    assert_eq!(bye.headers.from.tag().unwrap(), "11");
}

#[test]
fn a_2xx_is_sent_again_until_its_ack_or_64_t1() {
    let ok = answer(200, "<sip:b@192.0.2.2>");
    let mut acceptance = Acceptance::new(epoch(), ok, Timers::default());
    let mut times = Vec::new();
    loop {
        let now = acceptance.poll_timeout();
        match acceptance.handle_timeout(now) {
            AcceptanceStep::Resend => times.push(now.duration_since(epoch()).as_millis()),
            AcceptanceStep::GiveUp => break assert_eq!(now, epoch() + Duration::from_secs(32)),
            AcceptanceStep::Wait => panic!("woken too early"),
        }
    }
    assert_eq!(
        times,
        [
            500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    let dialog = uac();
    let ack = |cseq| dialog.request(Method::Ack, cseq, via());
    assert!(acceptance.is_acknowledged_by(&ack(7)));
    assert!(!acceptance.is_acknowledged_by(&ack(8)));
    let mut other = ack(7);
    other.headers.from.params.set_plain("tag", "other");
    assert!(!acceptance.is_acknowledged_by(&other));
}

#[test]
fn the_highest_cseq_is_never_passed() {
    let mut dialog = uac();
    dialog.local_cseq = LAST_CSEQ;
    assert_eq!(
        next(&mut dialog, Method::Info).headers.cseq.number,
        LAST_CSEQ
    );
}
