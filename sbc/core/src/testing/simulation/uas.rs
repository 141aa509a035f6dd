//! How a peer of the simulation serves requests: as a phone, or as a proxy that forks. RFC 3261 §13.3, §14.2, §9.2, §15.1.2;
//! RFC 5407 for what crosses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::peer::{Dialog, Final, GIVE_UP, Later, Peer, Plan, State, T1};
use crate::testing::{Message, agent::user_of, bracketed};

impl Peer {
    pub(super) fn request(&mut self, now: Instant, message: &Message) {
        let method = message.method().unwrap().to_owned();
        if method == "ACK" {
            return self.acknowledged(message);
        }
        let key = (message.branch(), method.clone());
        if let Some(response) = self.responses.get(&key) {
            return self.outbox.push(response.clone());
        }
        let to_tag = message.tag("To");
        match (method.as_str(), &to_tag) {
            ("INVITE", None) => self.new_call(now, message),
            ("CANCEL", _) => self.cancelled(now, message),
            _ => {
                let index = self.find(message.need("Call-ID"), to_tag.as_deref());
                self.in_dialog(now, message, &method, index);
            }
        }
    }

    fn acknowledged(&mut self, ack: &Message) {
        let (cseq, call_id, tag) = (ack.cseq().0, ack.need("Call-ID"), ack.tag("To"));
        let place = self.finals.iter().position(|waiting| {
            waiting.call_id == call_id && waiting.cseq == cseq && Some(&waiting.tag) == tag.as_ref()
        });
        if let Some(place) = place {
            let waiting = self.finals.remove(place);
            if waiting.success {
                self.dialogs[waiting.dialog].confirmed = true;
            }
        }
    }

    fn new_call(&mut self, now: Instant, message: &Message) {
        let key = user_of(message.need("From"));
        let plan = self.plans.get(&key).cloned().unwrap_or(Plan {
            rings: vec![(50, false)],
            answer: Some((500, 200)),
            second: None,
        });
        let first = self.dialogs.len();
        for fork in 0..plan.rings.len().max(1) {
            let tag = self.unique();
            self.dialogs.push(Dialog {
                key: key.clone(),
                caller: false,
                state: State::Early,
                answered: false,
                confirmed: false,
                failed: None,
                call_id: message.need("Call-ID").to_owned(),
                local: format!("{};tag={tag}", message.need("To")),
                own_tag: tag,
                far_tag: message.tag("From"),
                remote: message.need("From").to_owned(),
                target: bracketed(message.need("Contact")),
                routes: message.all("Record-Route"),
                cseq: 0,
                heard: message.cseq().0,
                invite: Some(message.clone()),
                wants_cancel: false,
                took_back: false,
                glares: 0,
                acks: BTreeMap::new(),
                reliable: false,
                modern: false,
                seconds: None,
                refreshing: false,
                answered_early: false,
                heard_rseq: BTreeSet::new(),
            });
            self.draw_extensions(first + fork);
            self.dialogs[first + fork].seconds = None;
            if let Some((after, early)) = plan.rings.get(fork) {
                self.after(now, millis(*after), Later::Ring(first + fork, *early));
            }
        }
        let trying = self.reply(message, 100, None);
        self.remember(message, &trying);
        if plan.answer.is_none() {
            // Longer than anybody lets it ring.
            self.after(now, millis(240_000), Later::Answer(first, 480));
        }
        if let Some((after, status)) = plan.answer {
            self.after(now, millis(after), Later::Answer(first, status));
            if let (Some(more), true) = (plan.second, plan.rings.len() > 1) {
                self.after(now, millis(after + more), Later::Answer(first + 1, 200));
            }
        }
    }

    pub(super) fn ring(&mut self, now: Instant, index: usize, early: bool) {
        let Some(invite) = self.dialogs[index].invite.clone() else {
            return;
        };
        let tag = self.dialogs[index].own_tag.clone();
        let contact = self.contact();
        let (status, offered) = (if early { 183 } else { 180 }, !invite.body.is_empty());
        let mut response = self
            .reply(&invite, status, Some(&tag))
            .with("Contact", contact);
        if early && offered {
            response = response.with_body("application/sdp", &self.sdp(index, "sendrecv"));
        }
        let response = self.reliably(now, index, &invite, response);
        self.remember(&invite, &response);
    }

    pub(super) fn answer(&mut self, now: Instant, index: usize, status: u16) {
        let held = status < 300
            && self
                .unconfirmed
                .iter()
                .any(|it| it.dialog == index && it.described);
        if held && self.dialogs[index].invite.is_some() {
            // RFC 3262 §3: not before the answer is confirmed.
            return self.after(now, millis(100), Later::Answer(index, status));
        }
        let Some(invite) = self.dialogs[index].invite.take() else {
            return;
        };
        let tag = self.dialogs[index].own_tag.clone();
        let mut response = self.reply(&invite, status, Some(&tag));
        let success = status < 300;
        let second = self
            .plans
            .get(&self.dialogs[index].key)
            .and_then(|plan| plan.second);
        if success {
            let contact = self.contact();
            response = response.with("Contact", contact);
            response = self.extended_answer(now, index, &invite, response);
            if !self.dialogs[index].answered_early {
                response = response.with_body("application/sdp", &self.sdp(index, "sendrecv"));
            }
            self.dialogs[index].state = State::Talking;
            self.dialogs[index].answered = true;
        } else {
            self.dialogs[index].state = State::Over;
            self.dialogs[index].failed = Some(status);
        }
        // The other forks are over, but for one that answers at the same moment.
        let branch = invite.branch();
        let call_id = &self.dialogs[index].call_id;
        let first = self
            .dialogs
            .iter()
            .position(|dialog| dialog.call_id == *call_id)
            == Some(index);
        for (other, dialog) in self.dialogs.iter_mut().enumerate() {
            let same = dialog.invite.as_ref().map(Message::branch) == Some(branch.clone());
            let spared = success && second.is_some() && first && other == index + 1;
            if same && !spared {
                dialog.invite = None;
                dialog.state = State::Over;
                dialog.failed = Some(487);
            }
        }
        self.send_final(now, index, &invite, &response, success);
    }

    fn send_final(
        &mut self,
        now: Instant,
        dialog: usize,
        request: &Message,
        response: &Message,
        success: bool,
    ) {
        let key = (request.branch(), "INVITE".to_owned());
        self.responses.insert(key, response.bytes());
        self.outbox.push(response.bytes());
        self.finals.push(Final {
            dialog,
            call_id: request.need("Call-ID").to_owned(),
            cseq: request.cseq().0,
            tag: response.tag("To").unwrap_or_default(),
            bytes: response.bytes(),
            success,
            interval: T1,
            next: now + T1,
            until: now + GIVE_UP,
        });
    }

    fn cancelled(&mut self, now: Instant, cancel: &Message) {
        let branch = cancel.branch();
        let known = self
            .responses
            .contains_key(&(branch.clone(), "INVITE".to_owned()));
        // Without an INVITE that still waits, that was its final answer.
        let pending = self.dialogs.iter().position(|dialog| {
            let invite = dialog.invite.as_ref();
            invite.is_some_and(|invite| invite.branch() == branch)
        });
        let status = if pending.is_some() || known { 200 } else { 481 };
        self.send_reply(cancel, status);
        if let Some(index) = pending {
            self.answer(now, index, 487);
        }
    }

    fn in_dialog(&mut self, now: Instant, message: &Message, method: &str, index: Option<usize>) {
        let Some(index) = index else {
            return self.refuse(now, message, 481);
        };
        let (cseq, far_tag) = (message.cseq().0, message.tag("From"));
        let dialog = &mut self.dialogs[index];
        assert_eq!(far_tag, dialog.far_tag, "the tag of a dialog changed");
        if dialog.state == State::Over && method != "BYE" {
            return self.refuse(now, message, 481);
        }
        if cseq <= dialog.heard {
            return self.refuse(now, message, 500);
        }
        dialog.heard = cseq;
        match method {
            "BYE" => {
                let pending = dialog.invite.is_some();
                if !pending {
                    dialog.state = State::Over;
                }
                self.send_reply(message, 200);
                if pending {
                    self.answer(now, index, 487);
                }
                self.clients
                    .retain(|client| client.dialog != index || client.method == "BYE");
            }
            "INVITE" => self.reinvited(now, message, index),
            "UPDATE" if !message.body.is_empty() && self.is_asking(index) => {
                self.send_reply(message, 491);
            }
            "UPDATE" if !message.body.is_empty() => {
                let (contact, sdp) = (self.contact(), self.sdp(index, "sendrecv"));
                let response = self.reply(message, 200, None).with("Contact", contact);
                let response = self
                    .extended_answer(now, index, message, response)
                    .with_body("application/sdp", &sdp);
                self.remember(message, &response);
            }
            "UPDATE" => {
                let contact = self.contact();
                let response = self.reply(message, 200, None).with("Contact", contact);
                let response = self.extended_answer(now, index, message, response);
                self.remember(message, &response);
            }
            "PRACK" => {
                let status = self.confirmed(index, message);
                self.send_reply(message, status);
            }
            "INFO" | "OPTIONS" | "NOTIFY" => self.send_reply(message, 200),
            _ => self.send_reply(message, 405),
        }
    }

    /// RFC 3261 §14.2.
    fn reinvited(&mut self, now: Instant, message: &Message, index: usize) {
        let asking = self.is_asking(index);
        let unconfirmed = self
            .finals
            .iter()
            .any(|waiting| waiting.dialog == index && waiting.success);
        if asking || unconfirmed {
            return self.refuse(now, message, if asking { 491 } else { 500 });
        }
        let direction = ["sendonly", "recvonly", "inactive"]
            .into_iter()
            .zip(["recvonly", "sendonly", "inactive"])
            .find(|(theirs, _)| message.body.contains(&format!("a={theirs}")))
            .map_or("sendrecv", |(_, ours)| ours);
        let (contact, sdp) = (self.contact(), self.sdp(index, direction));
        let response = self.reply(message, 200, None).with("Contact", contact);
        let response = self
            .extended_answer(now, index, message, response)
            .with_body("application/sdp", &sdp);
        self.dialogs[index].target = bracketed(message.need("Contact"));
        self.send_final(now, index, message, &response, true);
    }

    fn refuse(&mut self, now: Instant, message: &Message, status: u16) {
        if message.method() == Some("INVITE") {
            let response = self.reply(message, status, None);
            self.send_final(now, 0, message, &response, false);
        } else {
            self.send_reply(message, status);
        }
    }

    fn send_reply(&mut self, message: &Message, status: u16) {
        let response = self.reply(message, status, Some("none"));
        self.remember(message, &response);
    }

    fn remember(&mut self, message: &Message, response: &Message) {
        let key = (message.branch(), message.method().unwrap().to_owned());
        self.responses.insert(key, response.bytes());
        self.outbox.push(response.bytes());
    }

    fn reply(&self, request: &Message, status: u16, tag: Option<&str>) -> Message {
        let mut response = Message {
            start: format!("SIP/2.0 {status} Simulated"),
            headers: Vec::new(),
            body: String::new(),
        };
        for via in request.all("Via") {
            response = response.with("Via", via);
        }
        for route in request.all("Record-Route") {
            response = response.with("Record-Route", route);
        }
        for name in ["From", "Call-ID", "CSeq"] {
            response = response.with(name, request.need(name));
        }
        let to = match tag {
            Some(tag) if request.tag("To").is_none() && status > 100 => {
                format!("{};tag={tag}", request.need("To"))
            }
            _ => request.need("To").to_owned(),
        };
        response.with("To", to)
    }
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}
