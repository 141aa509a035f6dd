use std::time::Duration;

use super::*;
use crate::headers::{HeaderName, Transport};
use crate::testing::{epoch, request};
use crate::transaction::Timers;
use crate::uri::Host;

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

fn uac(status: u16) -> Dialog {
    Dialog::uac(&invite(), &answer(status, "<sip:b@192.0.2.2>")).unwrap()
}

fn uas() -> Dialog {
    let contact = SipUri::new(Host::parse_text("192.0.2.2").unwrap());
    Dialog::uas(&invite(), &"9".into(), contact, DialogState::Early).unwrap()
}

/// The same request as the other end of `dialog` would send it.
fn from_peer(dialog: &mut Dialog, method: Method) -> Request {
    dialog.request(method, via())
}

fn routes(request: &Request) -> Vec<String> {
    request
        .headers
        .routes
        .iter()
        .map(|route| route.uri.to_string())
        .collect()
}

#[test]
fn both_ends_name_the_dialog_alike_and_route_in_opposite_order() {
    let (mut caller, mut callee) = (uac(200), uas());
    assert_eq!(
        caller.id().local_tag,
        *callee.id().remote_tag.as_ref().unwrap()
    );
    let bye = caller.request(Method::Bye, via());
    assert_eq!(routes(&bye), ["sip:p2.example;lr", "sip:p1.example;lr"]);
    assert_eq!(
        (bye.uri.to_string().as_str(), bye.headers.cseq.number),
        ("sip:b@192.0.2.2", 8)
    );
    assert_eq!(caller.next_hop().to_string(), "sip:p2.example;lr");
    let bye = callee.request(Method::Bye, via());
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
    let mut dialog = Dialog::uac(&invite(), &response).unwrap();
    let request = dialog.request(Method::Info, via());
    assert_eq!(request.uri.to_string(), "sip:strict.example");
    assert_eq!(routes(&request), ["sip:p1.example;lr", "sip:b@192.0.2.2"]);
}

#[test]
fn what_makes_no_dialog_is_named() {
    let make = |response: &Response| Dialog::uac(&invite(), response).map(|_| ()).unwrap_err();
    assert_eq!(make(&answer(100, "<sip:b@b>")), DialogError::Status);
    assert_eq!(make(&answer(486, "<sip:b@b>")), DialogError::Status);
    assert_eq!(make(&answer(200, "<tel:+1>")), DialogError::Contact);
    let mut two = answer(200, "<sip:b@b>");
    two.headers.contacts.push("<sip:c@c>".parse().unwrap());
    assert_eq!(make(&two), DialogError::Contact);
}

#[test]
fn an_early_dialog_is_confirmed_by_its_2xx_and_takes_its_routes() {
    let mut dialog = uac(180);
    assert_eq!(dialog.state(), DialogState::Early);
    let mut ok = answer(200, "<sip:moved@192.0.2.3>");
    ok.headers.record_routes.truncate(1);
    dialog.handle_response(&ok).unwrap();
    assert_eq!(dialog.state(), DialogState::Confirmed);
    assert_eq!(dialog.remote_target().to_string(), "sip:moved@192.0.2.3");
    let ack = dialog.ack(7, via());
    assert_eq!(ack.headers.cseq.to_string(), "7 ACK");
    assert_eq!(routes(&ack), ["sip:p1.example;lr"]);
    assert_eq!(
        dialog.request(Method::Bye, via()).headers.cseq.number,
        8,
        "an ACK takes no number"
    );
}

#[test]
fn an_early_dialog_ends_with_the_refusal() {
    let mut dialog = uac(180);
    dialog.handle_response(&answer(486, "<sip:b@b>")).unwrap();
    assert_eq!(dialog.state(), DialogState::Terminated);
}

#[test]
fn cseq_must_rise_but_may_jump() {
    let (mut peer, mut dialog) = (uac(200), uas());
    let first = from_peer(&mut peer, Method::Info);
    dialog.handle_request(&first).unwrap();
    assert_eq!(dialog.handle_request(&first), Err(DialogError::Order));
    assert_eq!(
        DialogError::Order.status(),
        StatusCode::SERVER_INTERNAL_ERROR
    );
    let mut later = from_peer(&mut peer, Method::Info);
    later.headers.cseq.number += 100;
    dialog.handle_request(&later).unwrap();
    assert_eq!(dialog.handle_request(&peer.ack(7, via())), Ok(()));
    assert_eq!(
        dialog.handle_request(&peer.ack(7_000, via())),
        Err(DialogError::Order)
    );
}

#[test]
fn a_request_with_other_tags_is_of_another_dialog() {
    let (mut peer, mut dialog) = (uac(200), uas());
    for name in ["from", "to", "call-id"] {
        let mut request = from_peer(&mut peer, Method::Info);
        match name {
            "from" => request.headers.from.params.set_plain("tag", "other"),
            "to" => request.headers.to.params.set_plain("tag", "other"),
            _ => request.headers.call_id = CallId::new("other"),
        }
        assert_eq!(
            dialog.handle_request(&request),
            Err(DialogError::Other),
            "{name}"
        );
    }
}

#[test]
fn a_bye_ends_the_dialog_for_what_comes_after() {
    let (mut peer, mut dialog) = (uac(200), uas());
    dialog
        .handle_request(&from_peer(&mut peer, Method::Bye))
        .unwrap();
    assert_eq!(
        dialog.handle_request(&from_peer(&mut peer, Method::Info)),
        Err(DialogError::Over)
    );
}

#[test]
fn only_a_target_refresh_moves_the_target_and_a_bad_one_changes_nothing() {
    let (mut peer, mut dialog) = (uac(200), uas());
    let with_contact = |mut request: Request, contact: &str| {
        request.headers.contacts = vec![contact.parse().unwrap()];
        request
    };
    dialog
        .handle_request(&with_contact(
            from_peer(&mut peer, Method::Info),
            "<sip:x@x.example>",
        ))
        .unwrap();
    assert_eq!(dialog.remote_target().to_string(), "sip:a@192.0.2.1");
    let bad = with_contact(from_peer(&mut peer, Method::Invite), "<tel:+1>");
    assert_eq!(dialog.handle_request(&bad), Err(DialogError::Contact));
    let good = with_contact(from_peer(&mut peer, Method::Invite), "<sip:x@x.example>");
    dialog.handle_request(&good).unwrap();
    assert_eq!(dialog.remote_target().to_string(), "sip:x@x.example");
}

#[test]
fn a_481_ends_the_dialog() {
    let mut dialog = uac(200);
    let request = dialog.request(Method::Info, via());
    dialog
        .handle_response(&Response::to_request(
            &request,
            StatusCode::CALL_DOES_NOT_EXIST,
            "",
        ))
        .unwrap();
    assert_eq!(dialog.state(), DialogState::Terminated);
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
    let dialog = uac(200);
    assert!(acceptance.is_acknowledged_by(&dialog.ack(7, via())));
    assert!(!acceptance.is_acknowledged_by(&dialog.ack(8, via())));
}

#[test]
fn the_highest_cseq_is_never_passed() {
    let mut dialog = uac(200);
    dialog.local_cseq = (1 << 31) - 1;
    let request = dialog.request(Method::Info, via());
    assert_eq!(request.headers.cseq.number, (1 << 31) - 1);
}
