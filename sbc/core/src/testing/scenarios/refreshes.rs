//! Refreshes that the PBX does not see, and everything that must not pass for one.

use super::*;
use crate::{
    ConnectionId, Input,
    testing::{EXTERNAL, Message},
};
use broker_proto::settings::Transport;

/// A phone that says exactly what it is told to, by UDP.
pub(super) struct Phone {
    pub(super) address: SocketAddr,
    pub(super) user: String,
    pub(super) call_id: String,
    pub(super) contact: String,
    pub(super) cseq: u32,
    pub(super) expires: u32,
    /// Nonce and count of its credentials.
    pub(super) credentials: Option<(String, u32)>,
    pub(super) cnonce: String,
    pub(super) branch: String,
    pub(super) more: Vec<(&'static str, String)>,
}

impl Phone {
    /// Behind a translator: its contact is a private address.
    pub(super) fn new(address: &str, user: &str) -> Self {
        Self {
            address: address.parse().unwrap(),
            user: user.into(),
            call_id: format!("c-{address}"),
            contact: format!("<sip:{user}@192.168.1.5:5062>"),
            cseq: 0,
            expires: 3600,
            credentials: None,
            cnonce: address.into(),
            branch: "b".into(),
            more: Vec::new(),
        }
    }

    pub(super) fn message(&self) -> Message {
        let aor = format!("<sip:{}@lab.test>", self.user);
        let mut message = Message::request("REGISTER", "sip:lab.test")
            .with(
                "Via",
                format!(
                    "SIP/2.0/UDP 192.168.1.5:5062;branch=z9hG4bK-{}-{}-{};rport",
                    self.address.port(),
                    self.branch,
                    self.cseq
                ),
            )
            .with("Max-Forwards", "70")
            .with("From", format!("{aor};tag=f"))
            .with("To", aor)
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{} REGISTER", self.cseq))
            .with("Expires", self.expires.to_string());
        if !self.contact.is_empty() {
            message = message.with("Contact", self.contact.clone());
        }
        if let Some((nonce, count)) = &self.credentials {
            let value = format!(
                "Digest username=\"{}\", realm=\"lab.test\", nonce=\"{nonce}\", uri=\"sip:lab.test\", response=\"good\", \
                 algorithm=MD5, qop=auth, cnonce=\"{}{count}\", nc={count:08x}",
                self.user, self.cnonce
            );
            message = message.with("Authorization", value);
        }
        self.more.iter().fold(message, |message, (name, value)| {
            message.with(name, value.clone())
        })
    }

    /// The next REGISTER; its answer, if there is one within a second.
    pub(super) fn register(&mut self, world: &mut World) -> Option<Message> {
        self.cseq += 1;
        let before = world.wire.len();
        world.datagram(self.address, &self.message().bytes());
        world.run(seconds(1));
        world.wire[before..]
            .iter()
            .filter(|wire| wire.from_core && wire.peer == self.address)
            .map(|wire| Message::parse(&wire.bytes))
            .find(|message| message.status().is_some())
    }

    /// With a challenge and its answer.
    pub(super) fn registered(mut self, world: &mut World) -> Self {
        let challenge = self.register(world).expect("a challenge");
        assert_eq!(challenge.status(), Some(401));
        let nonce = challenge
            .need("WWW-Authenticate")
            .split('"')
            .nth(3)
            .unwrap()
            .to_owned();
        self.credentials = Some((nonce, 1));
        let answer = self.register(world).expect("an answer");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        self
    }
}

/// REGISTERs that reached the PBX.
pub(super) fn seen(world: &mut World, pbx: SocketAddr) -> Vec<Message> {
    let inbox = &world.agent(pbx).inbox;
    inbox
        .iter()
        .filter(|message| message.method() == Some("REGISTER"))
        .cloned()
        .collect()
}

fn told(answer: &Message) -> u64 {
    crate::testing::parameter(answer.need("Contact"), "expires")
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_phone_behind_a_translator_refreshes_here_until_half_of_the_pbx_time_is_over() {
    let mut world = World::new(200);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    assert!(
        seen(&mut world, pbx)[1]
            .need("Contact")
            .ends_with("expires=3600")
    );
    let mut passed = 0;
    while passed < 1_780 {
        phone.credentials.as_mut().unwrap().1 += 1;
        let answer = phone.register(&mut world).unwrap();
        assert_eq!(answer.status(), Some(200));
        assert!((106..=120).contains(&told(&answer)), "{answer:?}");
        world.run(seconds(99));
        passed += 100;
    }
    assert_eq!(seen(&mut world, pbx).len(), 2);
    assert_eq!(world.gauge("bindings"), 1);
    world.run(seconds(20));
    phone.credentials.as_mut().unwrap().1 += 1;
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(seen(&mut world, pbx).len(), 3);
    // Who does not come back is gone soon, whatever the PBX thinks.
    world.run(seconds(121));
    assert_eq!(world.gauge("bindings"), 0);
}

#[test]
fn a_repeated_refresh_gets_the_same_answer() {
    let mut world = World::new(201);
    pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    let answer = phone.register(&mut world).unwrap();
    phone.cseq -= 1;
    let again = phone.register(&mut world).unwrap();
    assert_eq!(answer.tag("To"), again.tag("To"));
    assert_eq!(again.status(), Some(200));
}

#[test]
fn anything_but_the_same_refresh_by_the_same_way_goes_to_the_pbx() {
    type Change = fn(&mut Phone);
    let changes: [(&str, Change); 8] = [
        ("another Call-ID", |phone| phone.call_id.push('x')),
        ("another contact", |phone| {
            phone.contact = "<sip:1001@192.168.1.6:5062>".into();
        }),
        ("another nonce", |phone| {
            phone.credentials = Some(("other".into(), 9));
        }),
        ("a smaller count", |phone| {
            phone.credentials.as_mut().unwrap().1 = 0;
        }),
        ("no credentials", |phone| phone.credentials = None),
        ("removal", |phone| phone.expires = 0),
        ("a question", |phone| phone.contact.clear()),
        ("another port", |phone| phone.address.set_port(1025)),
    ];
    for (what, change) in changes {
        let mut world = World::new(202);
        let pbx = pbx(&mut world);
        let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
        change(&mut phone);
        phone.register(&mut world);
        assert_eq!(seen(&mut world, pbx).len(), 3, "{what}");
    }
}

#[test]
fn what_is_out_of_order_changes_nothing() {
    let mut world = World::new(203);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    phone.register(&mut world);
    for expires in [3600, 0] {
        // Earlier transactions are over, so that these are no repetitions.
        world.run(seconds(40));
        phone.expires = expires;
        phone.cseq = 0;
        phone.branch.push('x');
        assert_eq!(phone.register(&mut world).unwrap().status(), Some(500));
    }
    assert_eq!(seen(&mut world, pbx).len(), 2);
    assert_eq!(world.gauge("bindings"), 1);
}

#[test]
fn credentials_heard_by_a_stranger_bind_and_remove_nothing() {
    let mut world = World::new(204);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    // The last refresh was seen by nobody but the stranger.
    phone.credentials.as_mut().unwrap().1 = 5;
    phone.register(&mut world);
    for (call_id, expires, contact) in [
        ("theirs", 3600, "<sip:1001@198.51.100.66:5060>"),
        ("c-198.51.100.10:1024", 3600, "<sip:1001@192.168.1.5:5062>"),
        ("theirs", 0, "<sip:1001@192.168.1.5:5062>"),
        ("theirs", 0, "*"),
    ] {
        let mut thief = Phone::new("198.51.100.66:5060", "1001");
        thief.call_id = call_id.into();
        thief.cseq = phone.cseq + 10;
        thief.expires = expires;
        thief.contact = contact.into();
        thief.credentials = phone.credentials.clone();
        thief.cnonce = phone.cnonce.clone();
        let answer = thief.register(&mut world).unwrap();
        assert_eq!(answer.status(), Some(401));
        assert!(answer.need("WWW-Authenticate").contains("stale=true"));
        let relayed = seen(&mut world, pbx).pop().unwrap();
        assert_eq!(relayed.get("Authorization"), None);
        assert_eq!(world.gauge("bindings"), 1);
        world.run(seconds(4));
    }
    let bound = world.agent(pbx).bindings["1001"].clone();
    world.act(pbx, |agent, now, gateway| {
        agent.invite(now, gateway, &bound)
    });
    world.run(seconds(1));
    let invited: Vec<_> = world
        .wire
        .iter()
        .filter(|wire| wire.from_core && wire.bytes.starts_with(b"INVITE"))
        .map(|wire| wire.peer)
        .collect();
    assert!(
        invited.iter().all(|peer| *peer == phone.address),
        "{invited:?}"
    );
    assert!(!invited.is_empty());
}

#[test]
fn a_phone_that_moved_and_counts_on_moves_its_binding() {
    let mut world = World::new(205);
    pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001").registered(&mut world);
    phone.address = "198.51.100.11:2048".parse().unwrap();
    phone.credentials.as_mut().unwrap().1 += 1;
    assert_eq!(phone.register(&mut world).unwrap().status(), Some(200));
    assert_eq!(world.gauge("bindings"), 1);
}

#[test]
fn on_its_own_connection_a_phone_refreshes_without_credentials() {
    let mut world = World::new(206);
    let pbx = pbx(&mut world);
    for (number, port) in [(1, 40_000), (2, 40_001)] {
        world.input(Input::StreamOpened {
            connection: ConnectionId(number),
            zone: EXTERNAL,
            transport: Transport::Tcp,
            local: "198.51.100.1:5060".parse().unwrap(),
            peer: SocketAddr::new("198.51.100.10".parse().unwrap(), port),
        });
    }
    let mut phone = Phone::new("198.51.100.10:40000", "1001");
    let mut say = |world: &mut World, connection, credentials: Option<(String, u32)>| {
        phone.cseq += 1;
        phone.credentials = credentials;
        let message = phone.message();
        let text = String::from_utf8(message.bytes()).unwrap();
        let bytes = text.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        world.input(Input::Stream {
            connection: ConnectionId(connection),
            bytes: bytes.as_bytes(),
        });
        world.run(seconds(1));
        let last = world
            .wire
            .iter()
            .rfind(|wire| wire.from_core && wire.peer.port() == connection as u16);
        last.map(|wire| Message::parse(&wire.bytes)).unwrap()
    };
    say(&mut world, 1, None);
    let good = Some(("N0nce42".to_owned(), 1));
    assert_eq!(say(&mut world, 1, good).status(), Some(200));
    let answer = say(&mut world, 1, None);
    assert_eq!(answer.status(), Some(200));
    assert!((500..=600).contains(&told(&answer)));
    assert_eq!(seen(&mut world, pbx).len(), 2);
    // Another connection of the same host is another way.
    assert_eq!(say(&mut world, 2, None).status(), Some(401));
    assert_eq!(seen(&mut world, pbx).len(), 3);
}

#[test]
fn too_short_a_time_is_told_with_the_shortest() {
    let mut world = World::new(207);
    let pbx = pbx(&mut world);
    let mut phone = Phone::new("198.51.100.10:1024", "1001");
    phone.expires = 20;
    let answer = phone.register(&mut world).unwrap();
    assert_eq!(answer.status(), Some(423));
    assert_eq!(answer.need("Min-Expires"), "60");
    assert!(seen(&mut world, pbx).is_empty());
}

#[test]
fn an_unknown_name_gets_a_challenge_that_the_pbx_made() {
    let mut world = World::new(208);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.fresh_nonces = true;
    Phone::new("198.51.100.30:5060", "1001").register(&mut world);
    let answer = Phone::new("198.51.100.31:5060", "9999")
        .register(&mut world)
        .unwrap();
    assert_eq!(answer.status(), Some(401));
    let challenge = answer.need("WWW-Authenticate").to_owned();
    let made: Vec<String> = world
        .wire
        .iter()
        .filter(|wire| !wire.from_core && wire.peer == pbx)
        .filter_map(|wire| {
            Some(
                Message::parse(&wire.bytes)
                    .get("WWW-Authenticate")?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(made.iter().filter(|one| **one == challenge).count(), 1);
}
