//! Header fields, codecs and status codes by the policies of both peers.

use broker_proto::policy::{AddedField, AddressField, Party, Policy, PolicyField, Rewrite};

use super::{letters::*, *};
use crate::testing::{Message, settings};

fn world(policies: Vec<Policy>) -> World {
    let mut settings = settings();
    settings
        .trunks
        .iter_mut()
        .for_each(|trunk| trunk.registration = None);
    settings.policies = policies;
    World::with(800, settings)
}

fn policy(party: Party, change: impl Fn(&mut Policy)) -> Policy {
    let mut policy = Policy {
        name: "p".into(),
        parties: vec![party],
        ..Policy::default()
    };
    change(&mut policy);
    policy
}

fn trunk() -> Party {
    Party::Trunk("trunk1".into())
}

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.20\r\ns=-\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8 9 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";

/// Trunk and PBX, both silent.
fn peers(world: &mut World) -> (SocketAddr, SocketAddr) {
    let (trunk, pbx) = (trunk1(world), pbx(world));
    world.agent(trunk).script.alive = false;
    world.agent(pbx).script.alive = false;
    (trunk, pbx)
}

/// An INVITE of the trunk to 1001.
fn inbound(trunk: SocketAddr) -> Message {
    request(
        "INVITE",
        "sip:+49305551001@198.51.100.1",
        trunk,
        "+49170",
        1,
    )
    .with("Contact", format!("<sip:secret@{trunk}>"))
}

/// An INVITE of the PBX to the carrier.
fn outbound(pbx: SocketAddr) -> Message {
    request("INVITE", "sip:+4915155512345@192.0.2.1", pbx, "1001", 1)
        .with("Contact", format!("<sip:secret@{pbx}>"))
}

fn arrived(world: &mut World, from: SocketAddr, to: SocketAddr, invite: Message) -> Message {
    send(world, from, &invite.with_body("application/sdp", OFFER));
    let invites = &world.agent(to).inbox;
    let invite = invites
        .iter()
        .rev()
        .find(|message| message.method() == Some("INVITE"));
    invite.expect("an INVITE").clone()
}

const ASSERTED: &str = "\"Bob\" <sip:+49170@secret.example;x=secret>, <tel:+49-170>";

#[test]
fn an_asserted_identity_is_believed_of_a_trusted_carrier_alone() {
    let mut closed = world(Vec::new());
    let (trunk_at, pbx) = peers(&mut closed);
    let invite = inbound(trunk_at).with("P-Asserted-Identity", ASSERTED);
    let inner = arrived(&mut closed, trunk_at, pbx, invite.clone());
    assert_eq!(inner.get("P-Asserted-Identity"), None);

    let mut open = world(vec![policy(trunk(), |policy| policy.trusted = Some(true))]);
    let (trunk_at, pbx) = peers(&mut open);
    let inner = arrived(&mut open, trunk_at, pbx, invite);
    assert_eq!(
        inner.need("P-Asserted-Identity"),
        "\"Bob\" <sip:+49170@lab.test>, <tel:+49170>"
    );
}

#[test]
fn a_hidden_caller_is_anonymous_to_who_is_not_trusted() {
    let hidden = |pbx| {
        outbound(pbx)
            .with("P-Asserted-Identity", "<sip:1001@192.0.2.10>")
            .with("Privacy", "id;secret")
    };
    let mut closed = world(Vec::new());
    let (trunk_at, pbx) = peers(&mut closed);
    let outer = arrived(&mut closed, pbx, trunk_at, hidden(pbx));
    assert!(
        outer
            .need("From")
            .starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=")
    );
    assert_eq!(outer.get("P-Asserted-Identity"), None);
    assert_eq!(outer.need("Privacy"), "id");

    let mut open = world(vec![policy(trunk(), |policy| policy.trusted = Some(true))]);
    let (trunk_at, pbx) = peers(&mut open);
    let outer = arrived(&mut open, pbx, trunk_at, hidden(pbx));
    assert!(outer.need("From").contains("sip:1001@198.51.100.1"));
    assert_eq!(outer.need("P-Asserted-Identity"), "<sip:1001@198.51.100.1>");
    assert_eq!(outer.need("Privacy"), "id");
}

#[test]
fn a_diversion_that_is_hidden_is_shown_within_the_trust_domain_alone() {
    let fields = [PolicyField::Diversion, PolicyField::HistoryInfo];
    let carrier = |trusted| {
        policy(trunk(), move |policy| {
            policy.trusted = Some(trusted);
            policy.send = Some(fields.to_vec());
        })
    };
    let registrar = policy(Party::Registrar, |policy| {
        policy.accept = Some([&fields[..], &[PolicyField::Privacy]].concat());
    });
    let shown = |trusted, privacy: Option<&str>| {
        let mut world = world(vec![carrier(trusted), registrar.clone()]);
        let (trunk_at, pbx) = peers(&mut world);
        let mut invite = outbound(pbx)
            .with("Diversion", "<sip:1100@192.0.2.10>;reason=user-busy")
            .with("Diversion", "<sip:1101@192.0.2.10>;privacy=full")
            .with("History-Info", "<sip:1102@192.0.2.10>;index=1");
        if let Some(privacy) = privacy {
            invite = invite.with("Privacy", privacy);
        }
        let outer = arrived(&mut world, pbx, trunk_at, invite);
        // The policy sends no Privacy, whatever was taken from the other side.
        assert_eq!(outer.get("Privacy"), None);
        ["1100", "1101", "1102"].map(|user| {
            let of = |name| outer.all(name).concat().contains(user);
            of("Diversion") || of("History-Info")
        })
    };
    assert_eq!(shown(false, None), [true, false, true]);
    assert_eq!(shown(true, None), [true, true, true]);
    assert_eq!(shown(false, Some("history")), [false, false, false]);
    assert_eq!(shown(true, Some("history")), [true, true, true]);
    assert_eq!(shown(false, Some("history;none")), [true, false, true]);
}

#[test]
fn a_policy_adds_takes_out_and_rewrites() {
    let mut world = world(vec![
        policy(trunk(), |policy| {
            policy.trusted = Some(true);
            policy.send = Some(vec![PolicyField::PAssertedIdentity, PolicyField::Diversion]);
            policy.add = vec![AddedField {
                name: "X-Customer".into(),
                value: "42".into(),
            }];
            let rewrite = |field| Rewrite {
                field,
                user: Some("+49301234".into()),
                host: Some("carrier.example".into()),
                strip: 0,
                prepend: String::new(),
            };
            policy.rewrite = vec![
                rewrite(AddressField::From),
                rewrite(AddressField::PAssertedIdentity),
            ];
        }),
        policy(Party::Registrar, |policy| {
            policy.accept = Some(vec![
                PolicyField::PAssertedIdentity,
                PolicyField::Diversion,
                PolicyField::Reason,
            ]);
        }),
    ]);
    let (trunk_at, pbx) = peers(&mut world);
    let invite = outbound(pbx)
        .with("P-Asserted-Identity", "<sip:1001@192.0.2.10>")
        .with(
            "Diversion",
            "<sip:1002@192.0.2.10>;reason=user-busy;counter=1;x=secret",
        )
        .with("Reason", "SIP;cause=302;text=\"secret\"");
    let outer = arrived(&mut world, pbx, trunk_at, invite);
    assert_eq!(outer.need("X-Customer"), "42");
    assert_eq!(
        outer.need("P-Asserted-Identity"),
        "<sip:+49301234@carrier.example>"
    );
    assert!(
        outer
            .need("From")
            .starts_with("<sip:+49301234@carrier.example>;tag=")
    );
    assert_eq!(
        outer.need("Diversion"),
        "<sip:1002@carrier.example>;reason=user-busy;counter=1"
    );
    assert_eq!(outer.get("Reason"), None);
}

#[test]
fn a_reason_crosses_with_a_refusal_and_a_status_is_told_as_the_policy_wants() {
    let mut world = world(vec![policy(Party::Registrar, |policy| {
        policy.response_map = vec![(603, 486)];
    })]);
    let (trunk_at, pbx) = peers(&mut world);
    let inner = arrived(&mut world, trunk_at, pbx, inbound(trunk_at));
    let refusal = response(&inner, 603)
        .with("Reason", "Q.850;cause=21;text=\"secret\"")
        .with("Warning", "399 192.0.2.10 \"secret\"");
    send(&mut world, pbx, &refusal);
    let outer = last(&mut world, trunk_at);
    assert_eq!(outer.status(), Some(486));
    assert_eq!(outer.need("Reason"), "Q.850;cause=21");
    assert_eq!(outer.get("Warning"), None);
}

#[test]
fn codecs_are_ordered_and_denied_by_both_policies() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut world = world(vec![
        policy(trunk(), |policy| policy.denied_codecs = names(&["PCMU"])),
        policy(Party::Registrar, |policy| {
            policy.audio_codecs = names(&["G722", "PCMA"])
        }),
    ]);
    let (trunk_at, pbx) = peers(&mut world);
    let inner = arrived(&mut world, trunk_at, pbx, inbound(trunk_at));
    let line = inner.body.lines().find(|line| line.starts_with("m=audio"));
    let formats = line.and_then(|line| line.split_once("RTP/AVP "));
    assert_eq!(
        formats.map(|(_, formats)| formats),
        Some("9 8 101"),
        "{}",
        inner.body
    );
    assert!(inner.body.contains("a=fmtp:101 0-15"), "{}", inner.body);
}

#[test]
fn an_offer_without_a_codec_that_passes_is_refused() {
    let mut world = world(vec![policy(Party::Registrar, |policy| {
        policy.audio_codecs = vec!["opus".into()];
    })]);
    let (trunk_at, pbx) = peers(&mut world);
    send(
        &mut world,
        trunk_at,
        &inbound(trunk_at).with_body("application/sdp", OFFER),
    );
    assert_eq!(last(&mut world, trunk_at).status(), Some(488));
    assert_eq!(got(&mut world, pbx), 0);
}
