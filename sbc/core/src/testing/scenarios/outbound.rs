//! Several contacts, flows, proxies on the way, and what keeps a way open. RFC 5626, RFC 3327.

use super::{refreshes::*, *};
use crate::testing::EXTERNAL;

const INSTANCE: &str = "\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";

fn flow(address: &str, reg_id: u32, contact: &str) -> Phone {
    let mut phone = Phone::new(address, "1001");
    phone.contact = format!("<{contact}>;reg-id={reg_id};+sip.instance={INSTANCE}");
    phone.more.push(("Supported", "path, outbound".into()));
    phone
}

#[test]
fn a_flow_is_confirmed_and_another_contact_of_it_takes_its_place() {
    let mut world = World::new(220);
    let pbx = pbx(&mut world);
    let mut phone = flow("198.51.100.10:1024", 1, "sip:1001@192.168.1.5").registered(&mut world);
    let answer = phone.register(&mut world).unwrap();
    assert_eq!(answer.need("Require"), "outbound");
    assert!(answer.need("Flow-Timer").parse::<u32>().unwrap() >= 15);
    assert!(
        answer.need("Contact").contains("reg-id=1") && answer.need("Contact").contains(INSTANCE)
    );
    let first = seen(&mut world, pbx)
        .pop()
        .unwrap()
        .need("Contact")
        .to_owned();
    // After a new start it has another address, port and Call-ID.
    flow("198.51.100.11:1025", 1, "sip:1001@192.168.1.9").registered(&mut world);
    assert_eq!(world.gauge("bindings"), 1);
    let second = seen(&mut world, pbx)
        .pop()
        .unwrap()
        .need("Contact")
        .to_owned();
    assert_eq!(first, second);
    // Its second flow stands beside the first.
    flow("198.51.100.12:1026", 2, "sip:1001@192.168.1.9").registered(&mut world);
    assert_eq!(world.gauge("bindings"), 2);
}

#[test]
fn without_reg_id_there_is_no_flow() {
    let mut world = World::new(221);
    pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    phone.contact = format!("<sip:1001@192.168.1.5>;+sip.instance={INSTANCE}");
    let mut phone = phone.registered(&mut world);
    let answer = phone.register(&mut world).unwrap();
    assert_eq!(
        (answer.get("Require"), answer.get("Flow-Timer")),
        (None, None)
    );
}

#[test]
fn contacts_and_their_preferences_go_to_the_pbx_as_tokens() {
    let mut world = World::new(222);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    phone.contact =
        "<sip:1001@192.168.1.5:1>;q=0.5, <sip:1001@192.168.1.5:2>;q=0.25;expires=600".into();
    let mut phone = phone.registered(&mut world);
    assert_eq!(world.gauge("bindings"), 2);
    let contacts = seen(&mut world, pbx)[1].all("Contact").join(",");
    assert!(
        contacts.contains("q=0.500") && contacts.contains("q=0.250"),
        "{contacts}"
    );
    assert!(!contacts.contains("192.168."), "{contacts}");
    // One goes, the other stays.
    phone.contact = "<sip:1001@192.168.1.5:1>;expires=0".into();
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(world.gauge("bindings"), 1);
    phone.contact = "*".into();
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(400));
    phone.expires = 0;
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn an_account_has_so_many_contacts_and_the_oldest_goes() {
    let mut world = World::new(223);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.fresh_nonces = true;
    for port in 1..=10 {
        let mut phone = Phone::new(&format!("198.51.100.10:{}", 1024 + port), "1001");
        phone.contact = format!("<sip:1001@192.168.1.5:{port}>");
        phone.registered(&mut world);
        world.run(seconds(1));
    }
    assert_eq!(world.gauge("bindings"), 8);
    let displaced = world
        .events_of("reg-del")
        .filter(|fields| fields.contains(&("reason".into(), "displaced".into())))
        .count();
    assert_eq!(displaced, 2);
}

#[test]
fn a_source_has_so_many_contacts_and_no_more() {
    let mut settings = crate::testing::settings();
    settings.trunks.clear();
    settings.registration.contacts_per_source = 1;
    let mut world = World::with(224, settings);
    pbx(&mut world);
    Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    assert!(
        Phone::new("198.51.100.10:1025", "1002")
            .register(&mut world)
            .is_none()
    );
    Phone::new("198.51.100.11:1025", "1002").registered(&mut world);
}

#[test]
fn a_path_is_kept_and_told_again() {
    let mut world = World::new(225);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    phone
        .more
        .push(("Path", "<sip:edge.example.net;lr>".into()));
    phone.more.push(("Require", "path".into()));
    let mut phone = phone.registered(&mut world);
    let answer = phone.register(&mut world).unwrap();
    assert_eq!(answer.need("Path"), "<sip:edge.example.net;lr>");
    let bound = world.agent(pbx).bindings["1001"].clone();
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(millis(100));
    let sent = world.sent_to(EXTERNAL);
    let invite = sent.iter().find(|text| text.starts_with("INVITE"));
    assert!(invite.unwrap().contains("Route: <sip:edge.example.net;lr>"));
}

#[test]
fn stun_on_the_sip_port_is_answered_to_registered_phones_alone() {
    let mut world = World::new(226);
    pbx(&mut world);
    let phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    let answers = |world: &mut World, from| {
        let before = world.wire.len();
        world.datagram(from, &request);
        world.run(millis(10));
        world.wire[before..]
            .iter()
            .filter(|wire| wire.from_core)
            .count()
    };
    assert_eq!(answers(&mut world, phone.address), 1);
    assert_eq!(
        answers(&mut world, "198.51.100.66:1024".parse().unwrap()),
        0
    );
}

/// A phone behind a translator that answers OPTIONS, as an agent does.
fn translated(world: &mut World) -> SocketAddr {
    let script = Script {
        claims: Some("<sip:1001@192.168.1.5:5062>".into()),
        ..Script::default()
    };
    let phone = world.add("198.51.100.10:1024", "1001", script);
    world.act(phone, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(1));
    assert_eq!(world.agent(phone).answers, [("REGISTER".to_owned(), 200)]);
    phone
}

#[test]
fn a_phone_behind_a_translator_is_asked_until_it_is_silent() {
    let mut settings = crate::testing::settings();
    settings.trunks.clear();
    settings.registration.refresh_udp_seconds = 1_200;
    let mut world = World::with(227, settings);
    pbx(&mut world);
    let phone = translated(&mut world);
    world.run(seconds(120));
    let asked = |world: &mut World| {
        let inbox = &world.agent(phone).inbox;
        inbox
            .iter()
            .filter(|message| message.method() == Some("OPTIONS"))
            .count()
    };
    let alive = asked(&mut world);
    assert!((4..=6).contains(&alive), "{alive}");
    world.agent(phone).script.alive = false;
    world.run(seconds(300));
    assert_eq!(world.gauge("bindings"), 0);
    let reason = ("reason".to_owned(), "flow-failed".to_owned());
    assert!(
        world
            .events_of("reg-del")
            .any(|fields| fields.contains(&reason))
    );
}

#[test]
fn line_ends_keep_a_way_open_where_the_settings_say_so() {
    let mut settings = crate::testing::settings();
    settings.trunks.clear();
    settings.registration.keepalive_by_options = false;
    let mut world = World::with(228, settings);
    pbx(&mut world);
    let phone = translated(&mut world);
    world.run(seconds(100));
    let pings = world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.peer == phone && wire.bytes == b"\r\n\r\n")
        .count();
    assert!((3..=5).contains(&pings), "{pings}");
    assert_eq!(
        world
            .wire
            .iter()
            .filter(|wire| wire.zone == EXTERNAL && wire.bytes.starts_with(b"OPTIONS"))
            .count(),
        0
    );
}
