//! A carrier with media security as German trunks have it: RFC 3329 with the mediasec parameter, keys in descriptions, and
//! security up to the edge of its network asked for (3GPP TS 24.229 §6.1.2). Registration and calls, each with 494.

use broker_proto::{
    policy::{Party, Policy},
    settings::{SecretId, Transport, TrunkRegistration},
};

use super::*;
use crate::{
    ConnectionId, Input,
    testing::{EXTERNAL, Message, settings},
};

const LINE: ConnectionId = ConnectionId(7);
const CARRIER: &str = "198.51.100.20:5061";
const OFFERED: &str = "sdes-srtp;mediasec";
const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

/// The carrier, led by hand over its connection, and the PBX.
struct Line {
    world: World,
    pbx: SocketAddr,
    read: usize,
}

impl Line {
    fn new(seed: u64) -> Self {
        let mut wanted = settings();
        wanted.trunks.truncate(1);
        let mut tls = wanted.listeners[0].clone();
        (tls.transport, tls.port) = (Transport::Tls, 5061);
        wanted.listeners.push(tls);
        let trunk = &mut wanted.trunks[0];
        trunk.transport = Transport::Tls;
        trunk.addresses = vec![CARRIER.parse().unwrap()];
        trunk.registration = Some(TrunkRegistration {
            user: "gatehouse".into(),
            realm: "carrier.test".into(),
            interval_seconds: 600,
            secret: SecretId("trunk1".into()),
        });
        wanted.policies.push(Policy {
            name: "p".into(),
            parties: vec![Party::Trunk("trunk1".into())],
            mediasec: true,
            ..Policy::default()
        });
        let mut world = World::with(seed, wanted);
        let pbx = pbx(&mut world);
        world.agent(pbx).script.alive = false;
        world.input(Input::StreamOpened {
            connection: LINE,
            zone: EXTERNAL,
            transport: Transport::Tls,
            local: "198.51.100.1:5061".parse().unwrap(),
            peer: CARRIER.parse().unwrap(),
        });
        // The first try found no connection; the next one comes when it comes.
        while !world
            .wire
            .iter()
            .any(|wire| wire.from_core && wire.peer.ip().is_unspecified())
        {
            world.run(seconds(1));
        }
        Self {
            world,
            pbx,
            read: 0,
        }
    }

    /// What came to the carrier since the last time.
    fn came(&mut self) -> Vec<Message> {
        let to_carrier = self.world.wire.iter().filter(|wire| {
            wire.from_core && wire.peer.ip().is_unspecified() && wire.bytes.len() > 4
        });
        let all: Vec<Message> = to_carrier.map(|wire| Message::parse(&wire.bytes)).collect();
        let new = all[self.read..].to_vec();
        self.read = all.len();
        new
    }

    fn request(&mut self, method: &str) -> Message {
        let came = self.came();
        let found = came.iter().rev().find(|it| it.method() == Some(method));
        found
            .unwrap_or_else(|| panic!("no {method} in {came:?}"))
            .clone()
    }

    fn answer(&mut self, request: &Message, status: u16, fields: &[(&str, &str)], body: &str) {
        let mut response = letters::response(request, status)
            .with("Contact", "<sip:carrier@198.51.100.20:5061;transport=tls>");
        for (name, value) in fields {
            response = response.with(name, *value);
        }
        if !body.is_empty() {
            response = response.with_body("application/sdp", body);
        }
        self.world.input(Input::Stream {
            connection: LINE,
            bytes: &response.bytes(),
        });
        self.world.run(millis(100));
    }

    /// Registered, after 494 and a challenge.
    fn registered(seed: u64) -> Self {
        let mut line = Self::new(seed);
        let first = line.request("REGISTER");
        assert_asks(&first, None);
        line.answer(&first, 494, &[("Security-Server", OFFERED)], "");
        let second = line.request("REGISTER");
        assert_asks(&second, Some(OFFERED));
        assert!(second.cseq().0 > first.cseq().0);
        let challenge = "Digest realm=\"carrier.test\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
        line.answer(&second, 401, &[("WWW-Authenticate", challenge)], "");
        let third = line.request("REGISTER");
        assert_asks(&third, Some(OFFERED));
        assert!(third.need("Authorization").starts_with("Digest "));
        line.answer(&third, 200, &[("Expires", "600")], "");
        line
    }

    /// The PBX calls out; what the carrier gets.
    fn call(&mut self) -> Message {
        let sdp = self.world.agent(self.pbx).sdp("sendrecv");
        let invite = letters::request("INVITE", "sip:+49301234567@192.0.2.1", self.pbx, "1001", 1)
            .with("Contact", format!("<sip:1001@{}>", self.pbx))
            .with_body("application/sdp", &sdp);
        letters::send(&mut self.world, self.pbx, &invite);
        self.request("INVITE")
    }
}

/// A request names what we have, and what the carrier said it has.
fn assert_asks(request: &Message, verified: Option<&str>) {
    assert_eq!(request.need("Security-Client"), OFFERED);
    assert_eq!(request.get("Security-Verify"), verified);
    assert_eq!(request.need("Proxy-Require"), "mediasec");
    assert!(request.need("Require").contains("mediasec"));
}

/// The carrier's answer to a sealed offer: its key under the tag that the suite has there.
fn sealed(offer: &Message) -> String {
    let suite = "AES_CM_128_HMAC_SHA1_80";
    let mut lines = offer.body.lines();
    let tag = lines
        .find(|line| line.starts_with("a=crypto:") && line.contains(suite))
        .and_then(|line| line.strip_prefix("a=crypto:")?.split(' ').next())
        .expect("a key of the suite");
    format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.20\r\ns=-\r\nc=IN IP4 198.51.100.20\r\nt=0 0\r\nm=audio 30000 RTP/SAVP 8\r\n\
         a=3ge2ae:applied\r\na=crypto:{tag} {suite} inline:{KEY}\r\n"
    )
}

#[test]
fn a_registration_and_a_call_agree_on_media_security_with_the_carrier() {
    let mut line = Line::registered(4_300);
    let invite = line.call();
    assert_asks(&invite, Some(OFFERED));
    assert!(invite.body.contains("m=audio ") && invite.body.contains("RTP/SAVP"));
    assert!(
        invite.body.contains("\r\na=3ge2ae:requested\r\n"),
        "{}",
        invite.body
    );
    assert!(invite.body.contains("\r\na=crypto:"));
    line.answer(&invite, 200, &[], &sealed(&invite));
    let inbox = &line.world.agent(line.pbx).inbox;
    let ok = inbox.last().expect("an answer").clone();
    assert_eq!(ok.status(), Some(200));
    for word in ["mediasec", "3ge2ae", "crypto", "Security", "SAVP"] {
        assert!(!format!("{ok:?}").contains(word), "{word} in {ok:?}");
    }
    assert_eq!(line.request("ACK").get("Security-Client"), None);
}

#[test]
fn a_call_refused_with_494_is_made_again_with_what_the_carrier_has_now() {
    let mut line = Line::registered(4_301);
    let invite = line.call();
    let now = "sdes-srtp;mediasec;q=0.5";
    line.answer(&invite, 494, &[("Security-Server", now)], "");
    let again = line.request("INVITE");
    assert_asks(&again, Some(now));
    assert!(again.cseq().0 > invite.cseq().0);
    assert_eq!(again.need("Call-ID"), invite.need("Call-ID"));
    line.answer(&again, 200, &[], &sealed(&again));
    let pbx = line.pbx;
    assert_eq!(letters::last(&mut line.world, pbx).status(), Some(200));
}

#[test]
fn a_carrier_that_agrees_to_nothing_is_not_asked_for_ever() {
    let mut line = Line::registered(4_302);
    let mut invite = line.call();
    for number in 1..=2 {
        let server = format!("sdes-srtp;mediasec;q=0.{number}");
        line.answer(&invite, 494, &[("Security-Server", &server)], "");
        let next = line.came();
        match next.iter().find(|it| it.method() == Some("INVITE")) {
            Some(next) => invite = next.clone(),
            None => assert_eq!(number, 2),
        }
    }
    let pbx = line.pbx;
    assert_eq!(letters::last(&mut line.world, pbx).status(), Some(500));
}
