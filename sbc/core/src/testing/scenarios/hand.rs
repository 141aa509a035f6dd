//! Two far ends led by hand, message by message: a carrier that calls and the PBX that is called. For exchanges that no
//! simple script has: reliable responses, UPDATE, session timers, transfers, glare.

use std::net::SocketAddr;

use super::{Script, World, millis};
use crate::testing::Message;

/// The world with both ends silent by themselves.
pub(super) struct Hand {
    pub(super) world: World,
    /// The carrier.
    pub(super) caller: SocketAddr,
    /// The PBX.
    pub(super) callee: SocketAddr,
    invite: Message,
    cseq: [u32; 2],
    branch: u32,
}

pub(super) const CALLER: usize = 0;
pub(super) const CALLEE: usize = 1;

impl Hand {
    pub(super) fn new(seed: u64) -> Self {
        Self::in_world(World::new(seed))
    }

    pub(super) fn in_world(mut world: World) -> Self {
        let silent = || Script {
            alive: false,
            ..Script::default()
        };
        let caller = world.add("198.51.100.20:5060", "+491701234567", silent());
        let callee = world.add("192.0.2.10:5060", "pbx", silent());
        Self {
            world,
            caller,
            callee,
            invite: Message::request("INVITE", "sip:+49305551001@198.51.100.1"),
            cseq: [0, 0],
            branch: 0,
        }
    }

    pub(super) fn at(&self, end: usize) -> SocketAddr {
        if end == CALLER {
            self.caller
        } else {
            self.callee
        }
    }

    fn via(&mut self, end: usize) -> String {
        self.branch += 1;
        format!(
            "SIP/2.0/UDP {};branch=z9hG4bKhand{}",
            self.at(end),
            self.branch
        )
    }

    pub(super) fn sdp(&mut self, end: usize, direction: &str) -> String {
        let at = self.at(end);
        self.world.agent(at).sdp(direction)
    }

    /// The caller's INVITE with more fields, and with an offer or without; what the callee gets of it.
    pub(super) fn invite(&mut self, fields: &[(&str, &str)], offer: bool) -> Message {
        self.cseq[CALLER] += 1;
        let via = self.via(CALLER);
        let mut invite = Message::request("INVITE", "sip:+49305551001@198.51.100.1")
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", "<sip:+491701234567@carrier.test>;tag=caller")
            .with("To", "<sip:+49305551001@198.51.100.1>")
            .with("Call-ID", "secret-hand")
            .with("CSeq", format!("{} INVITE", self.cseq[CALLER]))
            .with("Contact", format!("<sip:carrier@{}>", self.caller));
        for (name, value) in fields {
            invite = invite.with(name, *value);
        }
        if offer {
            let sdp = self.sdp(CALLER, "sendrecv");
            invite = invite.with_body("application/sdp", &sdp);
        }
        self.invite = invite.clone();
        self.send(CALLER, &invite);
        self.last(CALLEE, "INVITE")
    }

    pub(super) fn send(&mut self, end: usize, message: &Message) {
        let at = self.at(end);
        self.world.datagram(at, &message.bytes());
        self.world.run(millis(20));
    }

    /// A response to a request that the core sent to `end`.
    pub(super) fn answer(
        &mut self,
        end: usize,
        request: &Message,
        status: u16,
        tag: &str,
        fields: &[(&str, &str)],
        body: Option<&str>,
    ) {
        let mut answer = Message {
            start: format!("SIP/2.0 {status} X"),
            headers: Vec::new(),
            body: String::new(),
        };
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            answer = answer.with(name, request.need(name));
        }
        let to = match request.tag("To") {
            Some(_) => request.need("To").to_owned(),
            None => format!("{};tag={tag}", request.need("To")),
        };
        let at = self.at(end);
        let user = if tag.is_empty() { "hand" } else { tag };
        answer = answer
            .with("To", to)
            .with("Contact", format!("<sip:{user}@{at}>"));
        for (name, value) in fields {
            answer = answer.with(name, *value);
        }
        if let Some(body) = body {
            answer = answer.with_body("application/sdp", body);
        }
        self.send(end, &answer);
    }

    /// A request of `end` inside the dialog that `model` belongs to: a response that the caller got, or a request that
    /// the callee got. `tag`: the own tag, if `model` has none for it.
    pub(super) fn request(
        &mut self,
        end: usize,
        model: &Message,
        method: &str,
        fields: &[(&str, &str)],
        body: Option<&str>,
    ) -> Message {
        if !matches!(method, "ACK") {
            self.cseq[end] += 1;
        }
        let cseq = self.cseq[end];
        self.request_numbered(end, model, method, cseq, fields, body)
    }

    /// The same with a body of another type.
    pub(super) fn request_typed(
        &mut self,
        end: usize,
        model: &Message,
        method: &str,
        fields: &[(&str, &str)],
        body: Option<&str>,
        kind: &str,
    ) {
        self.cseq[end] += 1;
        let (cseq, via) = (self.cseq[end], self.via(end));
        let mut request =
            Message::request(method, &crate::testing::bracketed(model.need("Contact")))
                .with("Via", via)
                .with("Max-Forwards", "70")
                .with("From", model.need("From"))
                .with("To", model.need("To"))
                .with("Call-ID", model.need("Call-ID"))
                .with("CSeq", format!("{cseq} {method}"));
        for (name, value) in fields.iter().filter(|(name, _)| *name != "Content-Type") {
            request = request.with(name, *value);
        }
        if let Some(body) = body {
            request = request.with_body(kind, body);
        }
        self.send(end, &request);
    }

    pub(super) fn request_numbered(
        &mut self,
        end: usize,
        model: &Message,
        method: &str,
        cseq: u32,
        fields: &[(&str, &str)],
        body: Option<&str>,
    ) -> Message {
        let via = self.via(end);
        // A response names its receiver in From, a request in To.
        let (own, other) = match model.method() {
            None => ("From", "To"),
            Some(_) => ("To", "From"),
        };
        let target = crate::testing::bracketed(model.need("Contact"));
        let at = self.at(end);
        let mut request = Message::request(method, &target)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", model.need(own))
            .with("To", model.need(other))
            .with("Call-ID", model.need("Call-ID"))
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:hand@{at}>"));
        for (name, value) in fields {
            request = request.with(name, *value);
        }
        if let Some(body) = body {
            request = request.with_body("application/sdp", body);
        }
        self.send(end, &request);
        request
    }

    /// The callee's view of its dialog: the INVITE that it got with its own tag.
    pub(super) fn callee_dialog(&self, invite: &Message, tag: &str) -> Message {
        let mut dialog = invite.clone();
        for (name, value) in &mut dialog.headers {
            if name == "To" {
                *value = format!("{value};tag={tag}");
            }
        }
        dialog
    }

    /// A call of the PBX to a number outside, answered there: what the carrier got, what the PBX got.
    pub(super) fn call_out(&mut self, says: &[(&str, &str)]) -> (Message, Message) {
        self.cseq[CALLEE] += 1;
        let via = self.via(CALLEE);
        let sdp = Self::moved(&self.sdp(CALLEE, "sendrecv"), 48_000);
        let invite = Message::request("INVITE", "sip:+49301234567@192.0.2.1")
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", "<sip:1001@lab.test>;tag=consult")
            .with("To", "<sip:+49301234567@192.0.2.1>")
            .with("Call-ID", "secret-consult")
            .with("CSeq", format!("{} INVITE", self.cseq[CALLEE]))
            .with("Contact", format!("<sip:pbx@{}>", self.callee))
            .with("Allow", "INVITE, ACK, BYE, REFER, NOTIFY")
            .with_body("application/sdp", &sdp);
        self.send(CALLEE, &invite);
        let got = self.last(CALLER, "INVITE");
        let answer = Self::moved(&self.sdp(CALLER, "sendrecv"), 47_000);
        self.answer(CALLER, &got, 200, "target", says, Some(&answer));
        let ok = self.response(CALLEE, "INVITE");
        assert_eq!(ok.status(), Some(200));
        self.request_numbered(CALLEE, &ok, "ACK", invite.cseq().0, &[], None);
        (self.callee_dialog(&got, "target"), ok)
    }

    pub(super) fn inbox(&self, end: usize) -> &[Message] {
        &self.world.agents[&self.at(end)].inbox
    }

    /// The last request of that method that an end got.
    pub(super) fn last(&self, end: usize, method: &str) -> Message {
        self.find(end, method)
            .unwrap_or_else(|| panic!("no {method} came"))
    }

    pub(super) fn find(&self, end: usize, method: &str) -> Option<Message> {
        self.inbox(end)
            .iter()
            .rev()
            .find(|message| message.method() == Some(method))
            .cloned()
    }

    /// How many requests of that method an end got, repetitions not counted.
    pub(super) fn count(&self, end: usize, method: &str) -> usize {
        let branches: std::collections::BTreeSet<String> = self
            .inbox(end)
            .iter()
            .filter(|message| message.method() == Some(method))
            .map(Message::branch)
            .collect();
        branches.len()
    }

    /// The last response to a method that an end got.
    pub(super) fn response(&self, end: usize, method: &str) -> Message {
        self.inbox(end)
            .iter()
            .rev()
            .find(|message| message.status().is_some() && message.cseq().1 == method)
            .unwrap_or_else(|| panic!("no response to {method}"))
            .clone()
    }

    pub(super) fn statuses(&self, end: usize, method: &str) -> Vec<u16> {
        self.inbox(end)
            .iter()
            .filter(|message| message.status().is_some() && message.cseq().1 == method)
            .filter_map(Message::status)
            .collect()
    }

    /// Both ends talk: the INVITE that the callee got, the 2xx that the caller got.
    pub(super) fn talk(
        &mut self,
        asks: &[(&str, &str)],
        says: &[(&str, &str)],
    ) -> (Message, Message) {
        let invite = self.invite(asks, true);
        let sdp = self.sdp(CALLEE, "sendrecv");
        self.answer(CALLEE, &invite, 200, "callee", says, Some(&sdp));
        let ok = self.response(CALLER, "INVITE");
        assert_eq!(ok.status(), Some(200));
        self.request(CALLER, &ok, "ACK", &[], None);
        (self.callee_dialog(&invite, "callee"), ok)
    }

    /// A media port that tells one description from another.
    pub(super) fn moved(sdp: &str, port: u16) -> String {
        sdp.lines()
            .map(|line| match line.strip_prefix("m=audio ") {
                Some(rest) => format!(
                    "m=audio {port} {}\r\n",
                    rest.split_once(' ').expect("a port").1
                ),
                None => format!("{line}\r\n"),
            })
            .collect()
    }
}
