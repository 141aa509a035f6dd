//! Topology hiding: marks in every field of every message of one side, in both directions, requests and responses; none
//! of them is in anything that left on the other side.

use std::collections::BTreeSet;

use broker_proto::policy::{EventPackage, InfoKind, Party, Policy, PolicyField};

use super::{letters::*, *};
use crate::testing::{EXTERNAL, INTERNAL, Message, marks, marks::Marks, settings};

const ALL_FIELDS: [PolicyField; 17] = [
    PolicyField::PAssertedIdentity,
    PolicyField::PPreferredIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::UserToUser,
    PolicyField::SessionId,
    PolicyField::Identity,
    PolicyField::Diversion,
    PolicyField::HistoryInfo,
    PolicyField::Subject,
    PolicyField::Date,
    PolicyField::Organization,
    PolicyField::AcceptLanguage,
    PolicyField::Priority,
    PolicyField::PEarlyMedia,
    PolicyField::PAccessNetworkInfo,
    PolicyField::ResourcePriority,
];

/// Everything that a policy can open is open.
fn open() -> Policy {
    Policy {
        name: "open".into(),
        parties: vec![
            Party::Registrar,
            Party::Zone(EXTERNAL),
            Party::Zone(INTERNAL),
            Party::Trunk("trunk1".into()),
            Party::Trunk("trunk2".into()),
        ],
        trusted: Some(true),
        accept: Some(ALL_FIELDS.to_vec()),
        send: Some(ALL_FIELDS.to_vec()),
        events: Some(PACKAGES.map(|(package, ..)| package).to_vec()),
        publish: Some(true),
        message_octets: Some(16_000),
        info: Some(vec![InfoKind::Dtmf, InfoKind::PictureFastUpdate]),
        ..Policy::default()
    }
}

fn world(seed: u64, open_policies: bool) -> World {
    let mut settings = settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    if open_policies {
        settings.policies = vec![open()];
    }
    let mut world = World::with(seed, settings);
    world.marks = Some(Marks {
        open: open_policies,
        ..Marks::default()
    });
    world
}

/// What leaked, and into how many fields marks were put.
struct Outcome {
    fields: BTreeSet<(bool, String, String)>,
    sent: usize,
    leaks: Vec<String>,
}

fn outcome(world: &mut World) -> Outcome {
    let mut leaks = Vec::new();
    let mut sent = 0;
    for (zone, others_inside) in [(INTERNAL, false), (EXTERNAL, true)] {
        for text in world.sent_to(zone) {
            sent += 1;
            leaks.extend(marks::found(&text, others_inside));
        }
    }
    let marks = world.marks.take().expect("marks");
    Outcome {
        fields: marks.fields,
        sent,
        leaks,
    }
}

/// Calls from and to a registered phone: early media, hold, INFO, OPTIONS, BYE from either side.
fn phone_calls(world: &mut World) {
    let pbx = pbx(world);
    let alice = registered_alice(world);
    for at in [pbx, alice] {
        world.agent(at).script.early_media = true;
    }
    world.act(alice, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:1002@lab.test")
    });
    world.run(seconds(3));
    let log = &world.log;
    let talking = world.agents[&alice].dialogs[0].state;
    assert_eq!(talking, State::Talking, "{log:?}");
    exercise(world, alice, pbx);
    hang_up(world, alice, 0);
    world.run(seconds(2));
    let to_alice = token(world, pbx);
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &to_alice)
    });
    world.run(seconds(3));
    assert_eq!(dialog(world, alice).state, State::Talking);
    let place = world.agent(alice).dialogs.len() - 1;
    hang_up(world, alice, place);
    world.run(seconds(2));
    world.act(alice, |agent, now, gateway| agent.register(now, gateway, 0));
    world.run(seconds(40));
}

fn exercise(world: &mut World, one: SocketAddr, two: SocketAddr) {
    for at in [one, two] {
        world.act(at, |agent, now, gateway| {
            agent.reinvite(now, gateway, 0, "sendonly")
        });
        world.run(seconds(1));
        world.act(at, |agent, now, gateway| agent.info(now, gateway, 0, '5'));
        for method in ["OPTIONS", "UPDATE", "INFO", "MESSAGE", "FOO"] {
            world.act(at, |agent, now, gateway| {
                agent.in_dialog(now, gateway, 0, method)
            });
            world.run(seconds(1));
        }
    }
}

/// A carrier's calls: answered, refused in every way, taken back; and the PBX's to the carriers.
fn trunk_calls(world: &mut World) {
    let (trunk, pbx) = answered_call(world);
    exercise(world, trunk, pbx);
    hang_up(world, pbx, 0);
    world.run(seconds(2));
    for status in [302, 401, 403, 404, 480, 486, 488, 500, 503, 603] {
        world.agent(pbx).script.answer = Some((millis(200), status));
        world.act(trunk, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
        });
        world.run(seconds(2));
        world.agent(trunk).script.answer = Some((millis(200), status));
        world.act(pbx, |agent, now, gateway| {
            agent.invite(now, gateway, "sip:+4915155512345@192.0.2.1")
        });
        world.run(seconds(2));
    }
    world.agent(pbx).script.answer = None;
    let call = world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(1));
    hang_up(world, trunk, call);
    world.agent(trunk).script.answer = Some((millis(200), 200));
    let call = world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+4915155512345@192.0.2.1")
    });
    world.run(seconds(2));
    assert_eq!(state(world, pbx, call), State::Talking);
    hang_up(world, pbx, call);
    world.act(trunk, |agent, now, gateway| agent.options(now, gateway));
    world.run(seconds(40));
}

const PACKAGES: [(EventPackage, &str, &str, &str); 4] = [
    (
        EventPackage::MessageSummary,
        "message-summary",
        "application/simple-message-summary",
        "Messages-Waiting: yes\r\nMessage-Account: sip:1001:%m@%m.example;%m=%m?%m=%m\r\nVoice-Message: 2/8\r\n%m: 1/1\r\n\
         Fax-Message: %m\r\n\r\nSubject: %m\r\nFrom: %m\r\n",
    ),
    (
        EventPackage::Presence,
        "presence",
        "application/pidf+xml",
        "<?xml version=\"1.0\"?><!-- %m --><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:x=\"urn:%m\" \
         entity=\"sip:1001@%m.example;%m=%m\" %m=\"%m\"><?%m %m?><tuple id=\"%m\" x:%m=\"%m\"><status>%m<basic>open</basic>\
         <x:y>%m</x:y></status><contact priority=\"%m\">sip:1001@%m.example:5099</contact><note>%m.example</note>\
         <timestamp>%m</timestamp></tuple><%m/></presence>",
    ),
    (
        EventPackage::Dialog,
        "dialog",
        "application/dialog-info+xml",
        "<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"1\" state=\"full\" \
         entity=\"sip:1001@%m.example\"><dialog id=\"%m\" call-id=\"%m\" local-tag=\"%m\" remote-tag=\"%m\" \
         direction=\"initiator\"><state event=\"%m\" code=\"200\">confirmed</state><duration>%m</duration><replaces \
         call-id=\"%m\" local-tag=\"%m\" remote-tag=\"%m\"/><referred-by display=\"%m\">sip:%m@%m</referred-by><local>\
         <identity display=\"%m.example\">sip:1001@%m.example</identity><target uri=\"sip:1001@%m.example:5099;%m=%m\">\
         <param pname=\"%m\" pval=\"%m\"/></target><session-description type=\"%m\">%m</session-description><cseq>1%m</cseq>\
         </local><remote><identity>tel:+49;%m=%m</identity></remote><route-set><hop lr=\"true\">sip:%m</hop></route-set>\
         </dialog></dialog-info>",
    ),
    (
        EventPackage::Conference,
        "conference",
        "application/conference-info+xml",
        "<conference-info xmlns=\"urn:ietf:params:xml:ns:conference-info\" entity=\"sip:1001@%m.example\" state=\"full\" \
         version=\"1\"><conference-description><display-text>%m.example</display-text><subject>%m@x</subject><free-text>%m\
         </free-text><keywords>%m</keywords><conf-uris><entry><uri>sip:%m@%m</uri><purpose>%m</purpose></entry></conf-uris>\
         <service-uris><entry><uri>http://%m</uri></entry></service-uris></conference-description><host-info><display-text>%m\
         </display-text><web-page>http://%m</web-page></host-info><users><user entity=\"sip:1001@%m.example\" state=\"full\">\
         <associated-aors><entry><uri>sip:%m@%m</uri></entry></associated-aors><roles><entry>%m</entry></roles><endpoint \
         entity=\"sip:1001@%m.example;gr=%m\" state=\"full\"><referred><by>sip:%m</by></referred><status>connected</status>\
         <joining-info><by>sip:%m</by></joining-info><media id=\"%m\"><type>audio</type><label>%m</label><src-id>%m</src-id>\
         </media><call-info><sip><display-text>%m</display-text><call-id>%m</call-id><from-tag>%m</from-tag><to-tag>%m</to-tag>\
         </sip></call-info></endpoint></user></users></conference-info>",
    ),
];

/// Subscriptions of either side to the other, messages, publications, all answers.
fn events(world: &mut World) {
    let (alice, pbx) = silent_pair(world);
    let to_alice = token(world, pbx);
    let mut number = 10;
    for (_, package, kind, body) in PACKAGES {
        for (one, two, user, uri) in [
            (alice, pbx, "1001", "sip:1001@lab.test"),
            (pbx, alice, "1002", to_alice.as_str()),
        ] {
            number += 1;
            let subscribe = request("SUBSCRIBE", uri, one, user, number)
                .with("Contact", format!("<sip:{user}@{one}>"))
                .with("Event", package);
            send(world, one, &subscribe);
            let inner = last(world, two);
            assert_eq!(inner.method(), Some("SUBSCRIBE"), "{package}");
            let contact = format!("<sip:1002@{two}>");
            let accepted = response(&inner, 200).with("Expires", "600");
            send(world, two, &accepted.with("Contact", contact.clone()));
            let outer = last(world, one);
            assert_eq!(outer.status(), Some(200), "{package}");
            for (place, state) in ["active;expires=500", "terminated;reason=timeout"]
                .iter()
                .enumerate()
            {
                let notify = in_dialog("NOTIFY", two, &inner, u32::try_from(place).unwrap() + 1)
                    .with("Contact", contact.clone())
                    .with("Event", package)
                    .with("Subscription-State", *state)
                    .with_body(kind, body);
                send(world, two, &notify);
                let told = last(world, one);
                assert_eq!(told.method(), Some("NOTIFY"), "{package}");
                assert!(!told.body.is_empty(), "{package}");
                answer(world, one, 200);
                if place == 0 {
                    let refresh = in_dialog("SUBSCRIBE", one, &outer, number + 1)
                        .with("Contact", format!("<sip:{user}@{one}>"))
                        .with("Event", package);
                    send(world, one, &refresh);
                    answer(world, two, 200);
                }
            }
            for status in [302, 403, 404, 423, 481, 489, 503] {
                number += 1;
                let mut again = subscribe.clone();
                again.headers.retain(|(name, _)| {
                    !matches!(name.as_str(), "Via" | "Call-ID" | "CSeq" | "From")
                });
                let fresh = request("SUBSCRIBE", uri, one, user, number);
                again
                    .headers
                    .extend(fresh.headers.into_iter().filter(|(name, _)| {
                        matches!(name.as_str(), "Via" | "Call-ID" | "CSeq" | "From")
                    }));
                send(world, one, &again);
                answer(world, two, status);
            }
        }
    }
    messages(world, (alice, pbx), &to_alice);
    world.run(seconds(40));
}

fn messages(world: &mut World, (alice, pbx): (SocketAddr, SocketAddr), to_alice: &str) {
    let mut number = 500;
    for (one, two, user, uri) in [
        (alice, pbx, "1001", "sip:1002@lab.test"),
        (pbx, alice, "1002", to_alice),
    ] {
        for status in [200, 302, 415, 486] {
            number += 1;
            let message = request("MESSAGE", uri, one, user, number);
            send(world, one, &message.with_body("text/plain", "hello"));
            answer(world, two, status);
        }
        for (_, package, kind, body) in PACKAGES {
            for (method, status) in [("PUBLISH", 200), ("PUBLISH", 412), ("NOTIFY", 200)] {
                number += 1;
                let message = request(method, uri, one, user, number)
                    .with("Event", package)
                    .with("Subscription-State", "active")
                    .with_body(kind, body);
                let before = got(world, two);
                send(world, one, &message);
                if got(world, two) > before {
                    let answer = response(&last(world, two), status);
                    send(
                        world,
                        two,
                        &answer.with("SIP-ETag", "secrettag").with("Expires", "60"),
                    );
                }
            }
        }
        for method in ["OPTIONS", "REFER", "UPDATE", "PRACK", "BYE", "INFO", "FOO"] {
            number += 1;
            let message = request(method, uri, one, user, number);
            send(
                world,
                one,
                &message.with("Contact", format!("<sip:{user}@{one}>")),
            );
        }
    }
}

/// INVITEs that are refused for one field, each with a mark in it.
fn refused(world: &mut World) {
    let (trunk, pbx) = (trunk1(world), pbx(world));
    for at in [trunk, pbx] {
        world.agent(at).script.alive = false;
    }
    let singles: [(&str, &str); 9] = [
        ("Require", "%m"),
        ("Proxy-Require", "%m"),
        ("Content-Encoding", "%m"),
        ("Replaces", "%m;to-tag=%m;from-tag=%m;%m=%m"),
        ("Join", "%m;to-tag=%m;from-tag=%m;%m=%m"),
        ("Target-Dialog", "%m;local-tag=%m;remote-tag=%m;%m=%m"),
        ("Content-Disposition", "%m;handling=required;%m=%m"),
        ("Accept", "%m/%m;%m=%m"),
        ("Allow", "INVITE, %m"),
    ];
    let bodies = [
        ("application/x-odd", "%m"),
        ("application/sdp", "v=0\r\n%m"),
        (
            "application/sdp",
            "v=0\r\no=- 1 1 IN IP4 198.51.100.20\r\ns=-\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\nm=%m 4000 RTP/AVP 0\r\n",
        ),
        (
            "multipart/mixed;boundary=b",
            "--b\r\nContent-Type: application/x-%m\r\n\r\n%m\r\n--b--\r\n",
        ),
    ];
    let mut number = 0;
    for (from, user, uri) in [
        (trunk, "+49170", "sip:+49305551001@198.51.100.1"),
        (pbx, "1001", "sip:+4915155512345@192.0.2.1"),
    ] {
        let plain = crate::testing::audio(from.ip(), 4000, "sendrecv", "8 101");
        let mut invites: Vec<Message> = Vec::new();
        let mut invite = || {
            number += 1;
            request("INVITE", uri, from, user, number)
                .with("Contact", format!("<sip:secret@{from}>"))
        };
        for (name, value) in singles {
            let value = value.replace("%m", &format!("{}0", marks::word(from == pbx)));
            invites.push(
                invite()
                    .with(name, value)
                    .with_body("application/sdp", &plain),
            );
        }
        for (kind, body) in bodies {
            invites.push(invite().with_body(kind, body));
        }
        for invite in invites {
            send(world, from, &invite);
        }
    }
    world.run(seconds(240));
}

/// Every flow with policies closed and open. Gives the fields that had marks, runs, and messages searched.
fn search(seed: u64, flows: &[Flow]) -> (usize, u64, usize) {
    let mut fields = BTreeSet::new();
    let (mut sent, mut runs) = (0, 0);
    for open in [false, true] {
        for (name, flow) in flows {
            runs += 1;
            let mut world = world(seed + runs, open);
            flow(&mut world);
            let outcome = outcome(&mut world);
            let leak = outcome.leaks.first();
            let leaks = outcome.leaks.len();
            assert!(
                leak.is_none(),
                "{name}, open: {open}: {leaks} leaks, the first {leak:?}"
            );
            sent += outcome.sent;
            fields.extend(outcome.fields);
        }
    }
    (fields.len(), runs, sent)
}

/// A name and what peers do.
type Flow = (&'static str, fn(&mut World));

#[test]
#[allow(clippy::disallowed_macros, reason = "the figures are told")]
fn nothing_of_one_side_is_on_the_other() {
    let flows: [Flow; 4] = [
        ("phone calls", phone_calls),
        ("trunk calls", trunk_calls),
        ("events", events),
        ("refused", refused),
    ];
    let (fields, runs, sent) = search(900, &flows);
    println!(
        "topology hiding: {fields} fields tried in {runs} runs, {sent} messages searched, 0 found"
    );
    assert!(fields > 15_000, "only {fields} fields");
}

#[test]
fn a_mark_that_crosses_would_be_found() {
    assert!(marks::found("Subject: ZQint17", true).is_some());
    assert!(marks::found("Via: SIP/2.0/UDP 192.0.2.10", true).is_some());
    assert!(marks::found("Via: SIP/2.0/UDP 198.51.100.1", true).is_none());
    assert!(marks::found("Session-ID: f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", true).is_some());
}
