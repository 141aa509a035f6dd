//! Calls with a sealed leg: a phone registered over TLS, keys in descriptions, and nothing in the clear instead. RFC 4568.

use broker_proto::settings::Transport;

use super::*;
use crate::{
    ConnectionId, Input,
    testing::{EXTERNAL, Message},
};

const PHONE: ConnectionId = ConnectionId(1);
const AT: &str = "198.51.100.10:40000";
const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

/// Alice's telephone over TLS, led by hand.
struct Phone {
    world: World,
    pbx: SocketAddr,
    branch: u32,
}

impl Phone {
    fn registered(seed: u64) -> Self {
        let mut world = World::new(seed);
        let pbx = pbx(&mut world);
        world.agent(pbx).script.challenge = false;
        world.input(Input::StreamOpened {
            connection: PHONE,
            zone: EXTERNAL,
            transport: Transport::Tls,
            local: "198.51.100.1:5061".parse().unwrap(),
            peer: AT.parse().unwrap(),
        });
        let mut phone = Self {
            world,
            pbx,
            branch: 0,
        };
        let register = phone
            .request("REGISTER", "sip:lab.test", "<sip:1001@lab.test>", "reg", 1)
            .with("Expires", "600")
            .with(
                "Authorization",
                "Digest username=\"1001\", realm=\"lab.test\", nonce=\"N0nce42\", uri=\"sip:lab.test\", \
                 response=\"good\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
            );
        phone.send(&register);
        phone.world.run(seconds(2));
        assert_eq!(
            phone.written().last().and_then(Message::status),
            Some(200),
            "{:?}",
            phone.written()
        );
        phone
    }

    fn request(&mut self, method: &str, uri: &str, to: &str, call: &str, cseq: u32) -> Message {
        self.branch += 1;
        Message::request(method, uri)
            .with(
                "Via",
                format!("SIP/2.0/TLS {AT};branch=z9hG4bKphone{}", self.branch),
            )
            .with("Max-Forwards", "70")
            .with("From", "<sip:1001@lab.test>;tag=phone")
            .with("To", to)
            .with("Call-ID", call)
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:1001@{AT};transport=tls>"))
    }

    fn send(&mut self, message: &Message) {
        self.world.input(Input::Stream {
            connection: PHONE,
            bytes: &message.bytes(),
        });
        self.world.run(seconds(1));
    }

    /// What the core wrote to the phone.
    fn written(&self) -> Vec<Message> {
        self.world
            .wire
            .iter()
            .filter(|wire| wire.from_core && wire.peer.ip().is_unspecified())
            .map(|wire| Message::parse(&wire.bytes))
            .collect()
    }

    fn answer(&mut self, request: &Message, status: u16, body: Option<&str>) {
        let mut answer = Message {
            start: format!("SIP/2.0 {status} X"),
            headers: Vec::new(),
            body: String::new(),
        };
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            answer = answer.with(name, request.need(name));
        }
        answer = answer
            .with("To", format!("{};tag=callee", request.need("To")))
            .with("Contact", format!("<sip:1001@{AT};transport=tls>"));
        if let Some(body) = body {
            answer = answer.with_body("application/sdp", body);
        }
        self.send(&answer);
    }

    /// The PBX calls; what the phone gets.
    fn called(&mut self) -> Message {
        let bound = self.world.agent(self.pbx).bindings["1001"].clone();
        let pbx = self.pbx;
        self.world.act(pbx, |agent, now, gateway| {
            agent.invite(now, gateway, &bound)
        });
        self.world.run(seconds(1));
        self.written()
            .into_iter()
            .find(|message| message.method() == Some("INVITE"))
            .expect("an INVITE")
    }
}

fn sdp(proto: &str, crypto: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
         m=audio 40010 {proto} 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n{crypto}"
    )
}

/// The key line of our description for a suite.
fn key_line<'a>(body: &'a str, suite: &str) -> &'a str {
    body.lines()
        .find(|line| line.starts_with("a=crypto:") && line.contains(suite))
        .unwrap_or_else(|| panic!("no {suite} in {body}"))
}

#[test]
fn a_phone_that_registered_over_tls_is_offered_keys_and_the_pbx_none() {
    let mut phone = Phone::registered(900);
    let invite = phone.called();
    assert!(invite.body.contains(" RTP/SAVP 8 101"), "{}", invite.body);
    let line = key_line(&invite.body, "AES_CM_128_HMAC_SHA1_80");
    let tag = line["a=crypto:".len()..].split(' ').next().unwrap();
    let crypto = format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    phone.answer(&invite, 200, Some(&sdp("RTP/SAVP", &crypto)));
    let pbx = phone.pbx;
    assert_eq!(state(&mut phone.world, pbx, 0), State::Talking);
    let heard = dialog(&mut phone.world, pbx).remote_sdp;
    assert!(
        heard.contains(" RTP/AVP 8 101") && !heard.contains("crypto"),
        "{heard}"
    );
    let (a, b) = phone.world.streams.values().next().unwrap();
    assert!(a.security.is_none());
    let security = b.security.as_ref().unwrap();
    assert_eq!(security.inward.to_base64().as_str(), KEY);
    assert!(line.ends_with(security.outward.to_base64().as_str()));
}

#[test]
fn a_phone_that_answers_in_the_clear_gets_no_call() {
    let mut phone = Phone::registered(901);
    let invite = phone.called();
    phone.answer(&invite, 200, Some(&sdp("RTP/AVP", "")));
    assert!(phone.world.streams.is_empty());
    let pbx = phone.pbx;
    assert_eq!(state(&mut phone.world, pbx, 0), State::Failed(502));
}

#[test]
fn a_call_with_keys_over_tls_goes_on_in_the_clear_inside() {
    let mut phone = Phone::registered(902);
    let crypto = format!("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31\r\n");
    let invite = phone
        .request("INVITE", "sip:1002@lab.test", "<sip:1002@lab.test>", "c", 1)
        .with_body("application/sdp", &sdp("RTP/SAVP", &crypto));
    phone.send(&invite);
    phone.world.run(seconds(3));
    let answer = phone
        .written()
        .into_iter()
        .rfind(|message| message.status() == Some(200))
        .unwrap();
    assert!(
        answer
            .body
            .contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:")
    );
    assert!(!answer.body.contains(KEY), "a key of our own");
    let (a, b) = phone.world.streams.values().next().unwrap();
    assert!(a.security.is_some() && b.security.is_none());
}

#[test]
fn keys_that_came_in_the_clear_from_outside_are_refused() {
    let mut world = World::new(903);
    let _ = pbx(&mut world);
    let trunk = trunk1(&mut world);
    let crypto = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let invite = Message::request("INVITE", "sip:+49305551001@198.51.100.1")
        .with("Via", "SIP/2.0/UDP 198.51.100.20:5060;branch=z9hG4bKclear")
        .with("Max-Forwards", "70")
        .with("From", "<sip:+491701234567@carrier.test>;tag=1")
        .with("To", "<sip:+49305551001@198.51.100.1>")
        .with("Call-ID", "clear")
        .with("CSeq", "1 INVITE")
        .with("Contact", "<sip:carrier@198.51.100.20>")
        .with_body("application/sdp", &sdp("RTP/SAVP", &crypto));
    world.datagram(trunk, &invite.bytes());
    world.run(seconds(1));
    let statuses: Vec<_> = world
        .agent(trunk)
        .inbox
        .iter()
        .filter_map(Message::status)
        .collect();
    assert_eq!(statuses.last(), Some(&488));
    assert!(world.streams.is_empty());
}
