//! What crosses, comes twice, too early, too late or from nowhere. RFC 3261 §8.2.2.2, §9, §12.2, §13.3.1.4, §15, §16.3;
//! RFC 5407.

use super::*;
use crate::testing::{Message, bracketed};

/// A carrier and the PBX, both led by hand.
struct Ends {
    world: World,
    trunk: SocketAddr,
    pbx: SocketAddr,
    /// Requests made so far.
    count: u32,
    invite: Message,
}

const CALLED: &str = "sip:+49305551001@198.51.100.1";

impl Ends {
    fn new(seed: u64) -> Self {
        Self::in_world(World::new(seed))
    }

    fn in_world(mut world: World) -> Self {
        let silent = || Script {
            alive: false,
            ..Script::default()
        };
        let trunk = world.add("198.51.100.20:5060", "+491701234567", silent());
        let pbx = world.add("192.0.2.10:5060", "pbx", silent());
        Self {
            world,
            trunk,
            pbx,
            count: 0,
            invite: Message::request("INVITE", CALLED),
        }
    }

    /// A request of the carrier in its only call.
    fn request(&mut self, method: &str, cseq: u32, to_tag: Option<&str>) -> Message {
        self.count += 1;
        let to = match to_tag {
            Some(tag) => format!("<{CALLED}>;tag={tag}"),
            None => format!("<{CALLED}>"),
        };
        Message::request(method, CALLED)
            .with(
                "Via",
                format!("SIP/2.0/UDP {};branch=z9hG4bKr{}", self.trunk, self.count),
            )
            .with("Max-Forwards", "70")
            .with("From", "<sip:+491701234567@carrier.test>;tag=caller")
            .with("To", to)
            .with("Call-ID", "race")
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", "<sip:carrier@198.51.100.20>")
    }

    fn send(&mut self, message: &Message) {
        let trunk = self.trunk;
        self.world.datagram(trunk, &message.bytes());
        self.world.run(millis(10));
    }

    /// The carrier calls; gives what the PBX gets.
    fn call(&mut self) -> Message {
        let sdp = self.world.agent(self.trunk).sdp("sendrecv");
        self.invite = self
            .request("INVITE", 1, None)
            .with_body("application/sdp", &sdp);
        self.send(&self.invite.clone());
        self.at_pbx("INVITE").pop().expect("an INVITE at the PBX")
    }

    /// Requests of a method that the PBX got.
    fn at_pbx(&mut self, method: &str) -> Vec<Message> {
        requests(self.world.agent(self.pbx), method)
    }

    /// Requests of a method that the carrier got.
    fn at_trunk(&mut self, method: &str) -> Vec<Message> {
        requests(self.world.agent(self.trunk), method)
    }

    /// Statuses of answers to a method that the carrier got.
    fn told(&mut self, method: &str) -> Vec<u16> {
        self.answers(method)
            .iter()
            .filter_map(Message::status)
            .collect()
    }

    fn answers(&mut self, method: &str) -> Vec<Message> {
        let inbox = self.world.agent(self.trunk).inbox.iter();
        inbox
            .filter(|message| message.status().is_some() && message.cseq().1 == method)
            .cloned()
            .collect()
    }

    /// The PBX answers a request under a tag, a 2xx to INVITE with a description.
    fn answer(&mut self, request: &Message, status: u16, tag: &str) {
        let contact = format!("<sip:pbx@{}>", self.pbx);
        self.answer_at(request, status, tag, &contact);
    }

    /// The same with a Contact.
    fn answer_at(&mut self, request: &Message, status: u16, tag: &str, contact: &str) {
        let mut response = Message {
            start: format!("SIP/2.0 {status} By hand"),
            headers: Vec::new(),
            body: String::new(),
        };
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            response = response.with(name, request.need(name));
        }
        let to = match request.tag("To") {
            None if status > 100 => format!("{};tag={tag}", request.need("To")),
            Some(old) if old != tag => request.need("To").replace(&old, tag),
            _ => request.need("To").to_owned(),
        };
        response = response.with("To", to);
        if request.method() == Some("INVITE") && (101..300).contains(&status) {
            response = response.with("Contact", contact);
            if status >= 200 {
                let sdp = self.world.agent(self.pbx).sdp("sendrecv");
                response = response.with_body("application/sdp", &sdp);
            }
        }
        let pbx = self.pbx;
        self.world.datagram(pbx, &response.bytes());
        self.world.run(millis(10));
    }

    /// A call that stands but for the carrier's ACK; gives our tag towards the carrier and what the PBX was sent.
    fn answered(&mut self) -> (String, Message) {
        let invite = self.call();
        self.answer(&invite, 200, "callee");
        let ok = self.answers("INVITE").pop().expect("an answer");
        assert_eq!(ok.status(), Some(200));
        (ok.tag("To").expect("a tag"), invite)
    }

    /// A call that stands.
    fn standing(&mut self) -> (String, Message) {
        let (tag, invite) = self.answered();
        let ack = self.request("ACK", 1, Some(&tag));
        self.send(&ack);
        (tag, invite)
    }

    /// A request of the PBX in the call.
    fn pbx_request(&mut self, invite: &Message, method: &str, cseq: u32) -> Message {
        self.count += 1;
        Message::request(method, &bracketed(invite.need("Contact")))
            .with(
                "Via",
                format!("SIP/2.0/UDP {};branch=z9hG4bKp{}", self.pbx, self.count),
            )
            .with("Max-Forwards", "70")
            .with("From", format!("{};tag=callee", invite.need("To")))
            .with("To", invite.need("From"))
            .with("Call-ID", invite.need("Call-ID"))
            .with("CSeq", format!("{cseq} {method}"))
    }

    fn end(mut self) {
        self.world.run(seconds(5 * 3600));
        assert_tidy(&mut self.world);
    }
}

fn requests(agent: &Agent, method: &str) -> Vec<Message> {
    let inbox = agent.inbox.iter();
    inbox
        .filter(|message| message.method() == Some(method))
        .cloned()
        .collect()
}

fn counted(world: &World, name: &str) -> u64 {
    let counters = world.core.counters();
    counters
        .iter()
        .find(|(have, _)| have == name)
        .map_or(0, |(_, count)| *count)
}

fn cancel_of(invite: &Message) -> Message {
    let mut cancel = Message::request("CANCEL", invite.uri());
    for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
        cancel = cancel.with(name, invite.need(name));
    }
    cancel.with("CSeq", format!("{} CANCEL", invite.cseq().0))
}

#[test]
fn a_cancel_before_any_answer_waits_for_the_callees_100() {
    let mut ends = Ends::new(200);
    let invite = ends.call();
    let cancel = cancel_of(&ends.invite);
    ends.send(&cancel);
    assert_eq!(ends.told("CANCEL"), [200]);
    assert_eq!(ends.told("INVITE").last(), Some(&487));
    assert!(ends.at_pbx("CANCEL").is_empty(), "RFC 3261 §9.1");
    ends.answer(&invite, 100, "");
    let theirs = ends.at_pbx("CANCEL").pop().expect("a CANCEL at the PBX");
    assert_eq!(theirs.need("Via"), invite.need("Via"));
    ends.answer(&theirs, 200, "callee");
    ends.answer(&invite, 487, "callee");
    assert_eq!(ends.at_pbx("ACK").len(), 1);
    ends.end();
}

#[test]
fn a_cancel_after_the_200_changes_nothing() {
    let mut ends = Ends::new(201);
    ends.standing();
    let cancel = cancel_of(&ends.invite);
    ends.send(&cancel);
    assert_eq!(ends.told("CANCEL"), [200]);
    assert_eq!(ends.world.calls().len(), 1);
    assert!(ends.at_trunk("BYE").is_empty() && ends.at_pbx("BYE").is_empty());
}

#[test]
fn a_200_that_crosses_a_cancel_is_acknowledged_and_ended() {
    let mut ends = Ends::new(202);
    let invite = ends.call();
    ends.answer(&invite, 180, "callee");
    let cancel = cancel_of(&ends.invite);
    ends.send(&cancel);
    assert_eq!(ends.at_pbx("CANCEL").len(), 1);
    ends.answer(&invite, 200, "callee");
    assert_eq!(ends.at_pbx("ACK").len(), 1);
    let bye = ends.at_pbx("BYE").pop().expect("a BYE");
    assert_eq!(bye.tag("To").as_deref(), Some("callee"));
    ends.answer(&bye, 200, "callee");
    assert_eq!(ends.told("INVITE").last(), Some(&487));
    ends.end();
}

#[test]
fn a_storm_of_one_invite_makes_one_call_and_few_answers() {
    let mut ends = Ends::new(203);
    ends.call();
    let (trunk, octets) = (ends.trunk, ends.invite.bytes());
    for _ in 0..1_000 {
        ends.world.datagram(trunk, &octets);
    }
    ends.world.run(millis(300));
    assert_eq!(ends.at_pbx("INVITE").len(), 1, "the PBX was asked again");
    assert_eq!(ends.world.calls().len(), 1);
    assert!(ends.told("INVITE").len() <= 5, "{:?}", ends.told("INVITE"));
    ends.end();
}

#[test]
fn a_200_without_ack_is_repeated_and_ends_with_bye_after_64_t1() {
    let mut ends = Ends::new(204);
    ends.answered();
    ends.world.run(seconds(31));
    let repeated = ends.told("INVITE").iter().filter(|it| **it == 200).count();
    assert_eq!(repeated, 10, "T1 doubling up to T2");
    assert!(ends.at_trunk("BYE").is_empty());
    ends.world.run(seconds(1));
    assert_eq!(ends.at_trunk("BYE").len(), 1);
    assert!(!ends.at_pbx("BYE").is_empty(), "the callee is told too");
    assert_eq!(ends.world.calls().len(), 0);
    ends.end();
}

#[test]
fn a_bye_before_the_ack_is_answered_and_ends_the_call() {
    let mut ends = Ends::new(205);
    let (tag, _) = ends.answered();
    let bye = ends.request("BYE", 2, Some(&tag));
    ends.send(&bye);
    assert_eq!(ends.told("BYE"), [200]);
    assert_eq!(ends.at_pbx("BYE").len(), 1);
    assert!(
        ends.world.leases.is_empty(),
        "pinholes close with the BYE, not with the ACK"
    );
    // The ACK comes after it: nothing more is repeated, nobody is called back.
    let ack = ends.request("ACK", 1, Some(&tag));
    ends.send(&ack);
    let before = ends.told("INVITE").len();
    ends.world.run(seconds(10));
    assert_eq!(ends.told("INVITE").len(), before);
    assert!(ends.at_trunk("BYE").is_empty());
    ends.end();
}

#[test]
fn a_caller_may_end_an_early_dialog_with_bye() {
    let mut ends = Ends::new(206);
    let invite = ends.call();
    ends.answer(&invite, 180, "callee");
    let ringing = ends.answers("INVITE").pop().unwrap();
    assert_eq!(ringing.status(), Some(180));
    let bye = ends.request("BYE", 2, ringing.tag("To").as_deref());
    ends.send(&bye);
    assert_eq!(ends.told("BYE"), [200]);
    assert_eq!(ends.told("INVITE").last(), Some(&487));
    assert_eq!(ends.at_pbx("CANCEL").len(), 1);
    ends.end();
}

#[test]
fn byes_that_cross_are_both_200() {
    let mut ends = Ends::new(207);
    let (tag, invite) = ends.standing();
    let (theirs, ours) = (
        ends.pbx_request(&invite, "BYE", 1),
        ends.request("BYE", 2, Some(&tag)),
    );
    let (trunk, pbx) = (ends.trunk, ends.pbx);
    ends.world.datagram(trunk, &ours.bytes());
    ends.world.datagram(pbx, &theirs.bytes());
    ends.world.run(millis(10));
    assert_eq!(ends.told("BYE"), [200]);
    let statuses: Vec<u16> = ends
        .world
        .agent(pbx)
        .inbox
        .iter()
        .filter_map(Message::status)
        .collect();
    assert_eq!(statuses, [200], "RFC 5407 §3.2.1");
    ends.end();
}

#[test]
fn a_reinvite_that_crosses_a_bye_is_481() {
    let mut ends = Ends::new(208);
    let (tag, invite) = ends.standing();
    let bye = ends.pbx_request(&invite, "BYE", 1);
    let pbx = ends.pbx;
    ends.world.datagram(pbx, &bye.bytes());
    ends.world.run(millis(10));
    let reinvite = ends.request("INVITE", 2, Some(&tag));
    ends.send(&reinvite);
    assert_eq!(ends.told("INVITE").last(), Some(&481));
    ends.end();
}

#[test]
fn a_reinvite_in_the_place_of_a_lost_ack_is_served() {
    let mut ends = Ends::new(209);
    let (tag, _) = ends.answered();
    let sdp = ends.world.agent(ends.trunk).sdp("sendonly");
    let reinvite = ends
        .request("INVITE", 2, Some(&tag))
        .with_body("application/sdp", &sdp);
    ends.send(&reinvite);
    let passed = ends.at_pbx("INVITE").pop().unwrap();
    assert_eq!(passed.cseq().0, 2, "it went on to the callee");
    ends.answer(&passed, 200, "callee");
    assert_eq!(ends.told("INVITE").last(), Some(&200));
    let before = ends.told("INVITE").len();
    let ack = ends.request("ACK", 2, Some(&tag));
    ends.send(&ack);
    ends.world.run(seconds(20));
    assert_eq!(ends.told("INVITE").len(), before, "neither 200 is repeated");
    assert_eq!(ends.world.calls().len(), 1);
}

#[test]
fn a_tag_that_changes_is_481_and_acknowledges_nothing() {
    let mut ends = Ends::new(210);
    let (tag, _) = ends.answered();
    let change = |mut message: Message| {
        let fields = message.headers.iter_mut();
        fields
            .filter(|(name, _)| name == "From")
            .for_each(|(_, value)| *value = value.replace("tag=caller", "tag=other"));
        message
    };
    let ack = change(ends.request("ACK", 1, Some(&tag)));
    ends.send(&ack);
    let before = ends.told("INVITE").len();
    ends.world.run(seconds(1));
    assert!(ends.told("INVITE").len() > before, "the 200 is repeated");
    let bye = change(ends.request("BYE", 2, Some(&tag)));
    ends.send(&bye);
    assert_eq!(ends.told("BYE"), [481]);
    assert_eq!(ends.world.calls().len(), 1);
    let reason = "sip_refused_total{reason=\"tag-changed\"}";
    assert_eq!(counted(&ends.world, reason), 1);
}

#[test]
fn a_2xx_to_a_reinvite_under_another_tag_is_ended_and_the_dialog_stays() {
    let mut ends = Ends::new(211);
    let (tag, _) = ends.standing();
    let sdp = ends.world.agent(ends.trunk).sdp("sendonly");
    let reinvite = ends
        .request("INVITE", 2, Some(&tag))
        .with_body("application/sdp", &sdp);
    ends.send(&reinvite);
    let passed = ends.at_pbx("INVITE").pop().unwrap();
    ends.answer(&passed, 200, "impostor");
    let bye = ends.at_pbx("BYE").pop().expect("a BYE");
    assert_eq!(bye.tag("To").as_deref(), Some("impostor"));
    assert_ne!(ends.told("INVITE").last(), Some(&487));
    assert_eq!(ends.world.calls().len(), 1);
    ends.answer(&passed, 200, "callee");
    assert_eq!(ends.told("INVITE").last(), Some(&200));
}

#[test]
fn a_cseq_that_goes_back_is_500() {
    let mut ends = Ends::new(212);
    let (tag, _) = ends.standing();
    for (cseq, status) in [(7, 200), (7, 500), (6, 500), (8, 200)] {
        let options = ends.request("OPTIONS", cseq, Some(&tag));
        ends.send(&options);
        assert_eq!(ends.told("OPTIONS").last(), Some(&status), "CSeq {cseq}");
    }
    let reason = "sip_refused_total{reason=\"cseq-order\"}";
    assert_eq!(counted(&ends.world, reason), 2);
}

#[test]
fn a_request_that_comes_by_two_ways_is_482() {
    let mut ends = Ends::new(213);
    ends.call();
    let mut second = ends.invite.clone();
    let fields = second.headers.iter_mut();
    fields
        .filter(|(name, _)| name == "Via")
        .for_each(|(_, value)| value.push_str("two"));
    ends.send(&second);
    assert_eq!(ends.told("INVITE").last(), Some(&482));
    assert_eq!(ends.at_pbx("INVITE").len(), 1);
    let reason = "sip_refused_total{reason=\"merged\"}";
    assert_eq!(counted(&ends.world, reason), 1);
}

/// Our own INVITE as a proxy inside hands it back to us.
fn handed_back(ends: &mut Ends, invite: &Message, uri: &str) -> Vec<u16> {
    let pbx = ends.pbx;
    let via = format!("SIP/2.0/UDP {pbx};branch=z9hG4bKproxy{}", uri.len());
    let mut back = invite.clone();
    back.headers.retain(|(name, _)| name != "Content-Length");
    back.start = format!("INVITE {uri} SIP/2.0");
    back.headers.insert(0, ("Via".into(), via));
    back.headers.iter_mut().for_each(|(name, value)| {
        if name == "Max-Forwards" {
            *value = "60".into();
        }
    });
    let before = ends.world.agent(pbx).inbox.len();
    ends.world.datagram(pbx, &back.bytes());
    ends.world.run(millis(10));
    ends.world.agent(pbx).inbox[before..]
        .iter()
        .filter_map(Message::status)
        .collect()
}

#[test]
fn a_request_of_ours_that_comes_back_is_482_and_a_spiral_is_served() {
    let mut ends = Ends::new(214);
    let invite = ends.call();
    let uri = invite.uri().to_owned();
    assert_eq!(handed_back(&mut ends, &invite, &uri), [482]);
    let reason = "sip_refused_total{reason=\"loop\"}";
    assert_eq!(counted(&ends.world, reason), 1);
    let mut ends = Ends::new(216);
    let invite = ends.call();
    let spiral = handed_back(&mut ends, &invite, "sip:+49301234567@192.0.2.1");
    assert_eq!(spiral, [100], "forwarded to another number");
    assert_eq!(ends.at_trunk("INVITE").len(), 1);
}

#[test]
fn a_call_of_ours_that_a_carrier_sends_back_is_482_though_a_route_would_take_it() {
    let mut settings = crate::testing::settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    for route in &mut settings.routes {
        if route.name == "world" {
            route
                .from
                .push(broker_proto::settings::Origin::Trunk("trunk1".into()));
        }
    }
    let mut ends = Ends::in_world(World::with(217, settings));
    let sdp = ends.world.agent(ends.pbx).sdp("sendrecv");
    let call = Message::request("INVITE", "sip:+49301234567@192.0.2.1")
        .with(
            "Via",
            format!("SIP/2.0/UDP {};branch=z9hG4bKaway", ends.pbx),
        )
        .with("Max-Forwards", "70")
        .with("From", "<sip:1001@lab.test>;tag=away")
        .with("To", "<sip:+49301234567@192.0.2.1>")
        .with("Call-ID", "away")
        .with("CSeq", "1 INVITE")
        .with("Contact", format!("<sip:pbx@{}>", ends.pbx))
        .with_body("application/sdp", &sdp);
    let pbx = ends.pbx;
    ends.world.datagram(pbx, &call.bytes());
    ends.world.run(millis(10));
    let mut back = ends
        .at_trunk("INVITE")
        .pop()
        .expect("a call to the carrier");
    let via = format!("SIP/2.0/UDP {};branch=z9hG4bKback", ends.trunk);
    back.headers.insert(0, ("Via".into(), via));
    back.headers.retain(|(name, _)| name != "Content-Length");
    ends.send(&back);
    assert_eq!(ends.told("INVITE"), [482]);
    assert_eq!(ends.at_trunk("INVITE").len(), 1);
    let reason = "sip_refused_total{reason=\"loop\"}";
    assert_eq!(counted(&ends.world, reason), 1);
}

#[test]
fn a_pbx_whose_contact_is_our_own_address_is_reached_where_it_called_from() {
    for contact in ["<sip:pbx@192.0.2.1>", "<sip:pbx@192.0.2.1:5070>"] {
        let mut ends = Ends::new(218);
        let invite = ends.call();
        ends.answer_at(&invite, 200, "callee", contact);
        let tag = ends.answers("INVITE").pop().unwrap().tag("To");
        let ack = ends.request("ACK", 1, tag.as_deref());
        ends.send(&ack);
        let bye = ends.request("BYE", 2, tag.as_deref());
        ends.send(&bye);
        assert_eq!(ends.at_pbx("ACK").len(), 1, "{contact}");
        assert_eq!(ends.at_pbx("BYE").len(), 1, "{contact}");
        ends.end();
    }
}

#[test]
fn an_invite_without_one_contact_is_400_and_of_a_2xx_the_first_is_taken() {
    for contacts in [&[][..], &["<sip:a@198.51.100.20>", "<sip:b@198.51.100.20>"]] {
        let mut ends = Ends::new(219);
        let sdp = ends.world.agent(ends.trunk).sdp("sendrecv");
        let mut invite = ends
            .request("INVITE", 1, None)
            .with_body("application/sdp", &sdp);
        invite.headers.retain(|(name, _)| name != "Contact");
        for contact in contacts {
            invite = invite.with("Contact", *contact);
        }
        ends.send(&invite);
        assert_eq!(ends.told("INVITE"), [400], "{contacts:?}");
        assert!(ends.at_pbx("INVITE").is_empty());
        let ack = ends.request("ACK", 1, None);
        ends.send(&ack);
    }
    let mut ends = Ends::new(220);
    let invite = ends.call();
    let two = "<sip:first@192.0.2.10>, <sip:second@192.0.2.11>";
    ends.answer_at(&invite, 200, "callee", two);
    let tag = ends.answers("INVITE").pop().unwrap().tag("To");
    let ack = ends.request("ACK", 1, tag.as_deref());
    ends.send(&ack);
    let ack = ends.at_pbx("ACK").pop().expect("an ACK");
    assert_eq!(ack.uri(), "sip:first@192.0.2.10");
}

#[test]
fn a_carrier_does_not_speak_in_the_dialog_of_another_carrier() {
    let mut ends = Ends::new(221);
    let (tag, _) = ends.standing();
    let bye = ends.request("BYE", 2, Some(&tag));
    let other = ends.world.add("198.51.100.21:5060", "x", Script::default());
    ends.world.datagram(other, &bye.bytes());
    ends.world.run(millis(10));
    let told = ends.world.agent(other).inbox.iter();
    let told: Vec<u16> = told.filter_map(Message::status).collect();
    assert_eq!(told, [481]);
    assert!(ends.at_pbx("BYE").is_empty());
    assert_eq!(ends.world.calls().len(), 1);
}

#[test]
fn a_contact_to_ourselves_or_into_another_zone_aims_nothing_there() {
    for contact in [
        "<sip:x@198.51.100.1>",
        "<sip:x@192.0.2.1>",
        "<sip:x@192.0.2.10>",
        "<sip:x@203.0.113.5>",
    ] {
        let mut ends = Ends::new(215);
        let sdp = ends.world.agent(ends.trunk).sdp("sendrecv");
        ends.invite = ends
            .request("INVITE", 1, None)
            .with_body("application/sdp", &sdp);
        ends.invite
            .headers
            .iter_mut()
            .filter(|(name, _)| name == "Contact")
            .for_each(|(_, value)| *value = contact.into());
        ends.send(&ends.invite.clone());
        let invite = ends.at_pbx("INVITE").pop().unwrap();
        ends.answer(&invite, 200, "callee");
        let tag = ends.answers("INVITE").pop().unwrap().tag("To");
        let ack = ends.request("ACK", 1, tag.as_deref());
        ends.send(&ack);
        let bye = ends.pbx_request(&invite, "BYE", 1);
        let pbx = ends.pbx;
        ends.world.datagram(pbx, &bye.bytes());
        ends.world.run(millis(10));
        let (ours, trunk) = (ends.at_trunk("BYE"), ends.trunk);
        assert_eq!(ours.len(), 1, "{contact}: the BYE went elsewhere");
        let wire = ends.world.wire.iter();
        let strays = wire
            .filter(|it| it.from_core && it.peer != trunk && it.peer != pbx)
            .count();
        assert_eq!(strays, 0, "{contact}");
        ends.end();
    }
}

#[test]
fn a_2xx_of_an_earlier_reinvite_that_comes_again_ends_nothing() {
    let mut ends = Ends::new(216);
    let (tag, _) = ends.standing();
    let mut asked = Vec::new();
    for cseq in [2, 3] {
        let sdp = ends.world.agent(ends.trunk).sdp("sendrecv");
        let again = ends
            .request("INVITE", cseq, Some(&tag))
            .with_body("application/sdp", &sdp);
        ends.send(&again);
        let inner = ends.at_pbx("INVITE").pop().expect("a re-INVITE");
        ends.answer(&inner, 200, "callee");
        let ack = ends.request("ACK", cseq, Some(&tag));
        ends.send(&ack);
        asked.push(inner);
    }
    let acks = ends.at_pbx("ACK").len();
    // The first ACK was lost on its way: its 2xx comes once more.
    ends.answer(&asked[0], 200, "callee");
    assert!(ends.at_pbx("BYE").is_empty());
    let last = ends.at_pbx("ACK");
    assert_eq!(last.len(), acks + 1);
    assert_eq!(
        last.last().map(Message::cseq),
        Some(asked[0].cseq()).map(|(number, _)| (number, "ACK".to_owned()))
    );
    assert_eq!(ends.world.calls().len(), 1);
    ends.end();
}
