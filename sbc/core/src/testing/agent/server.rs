//! How a scripted agent serves what comes in: calls as its script says, registrations as a registrar, anything else with
//! its usual answer.

use std::{net::SocketAddr, time::Instant};

use super::{Agent, Dialog, GIVE_UP, Later, State, T1, Unacknowledged, user_of};
use crate::testing::text::{Message, bracketed, parameter};

impl Agent {
    fn reply(
        &mut self,
        to: SocketAddr,
        request: &Message,
        status: u16,
        tag: Option<&str>,
    ) -> Message {
        let mut response = Message {
            start: format!("SIP/2.0 {status} Whatever"),
            headers: Vec::new(),
            body: String::new(),
        };
        for via in request.all("Via") {
            response = response.with("Via", via);
        }
        let to_value = match tag {
            Some(tag) if request.tag("To").is_none() => format!("{};tag={tag}", request.need("To")),
            _ => request.need("To").to_owned(),
        };
        for name in ["From", "Call-ID", "CSeq"] {
            response = response.with(name, request.need(name));
        }
        let _ = to;
        if let Some(route) = &self.script.record_route {
            response = response.with("Record-Route", route.clone());
        }
        response
            .with("To", to_value)
            .with("Server", "SecretPhone 1.0")
    }

    fn send_reply(&mut self, to: SocketAddr, request: &Message, response: &Message) {
        let key = (request.branch(), request.method().unwrap().to_owned());
        self.responses.insert(key, response.bytes());
        self.outbox.push((to, response.bytes()));
    }

    pub(super) fn request(&mut self, now: Instant, from: SocketAddr, message: Message) {
        let method = message.method().unwrap().to_owned();
        if method == "ACK" {
            let (cseq, _) = message.cseq();
            let call_id = message.need("Call-ID").to_owned();
            self.unacknowledged
                .retain(|waiting| waiting.call_id != call_id || waiting.cseq != cseq);
            if !message.body.is_empty()
                && let Some(dialog) = self
                    .dialogs
                    .iter_mut()
                    .find(|dialog| dialog.call_id == call_id)
            {
                dialog.remote_sdp = message.body.clone();
            }
            return;
        }
        if let Some(response) = self.responses.get(&(message.branch(), method.clone())) {
            self.outbox.push((from, response.clone()));
            return;
        }
        match method.as_str() {
            "INVITE" => self.incoming_invite(now, from, message),
            "REGISTER" => self.incoming_register(from, &message),
            "BYE" | "CANCEL" | "INFO" | "OPTIONS" => {
                self.incoming_other(now, from, &message, &method)
            }
            _ => {
                let response = self.reply(from, &message, 405, Some("x"));
                self.send_reply(from, &message, &response);
            }
        }
    }

    fn incoming_other(&mut self, now: Instant, from: SocketAddr, message: &Message, method: &str) {
        let place = self
            .dialogs
            .iter()
            .position(|dialog| dialog.call_id == message.need("Call-ID"));
        let status = if method == "OPTIONS" || place.is_some() {
            200
        } else {
            481
        };
        let response = self.reply(from, message, status, Some("x"));
        self.send_reply(from, message, &response);
        let Some(index) = place else { return };
        match method {
            "BYE" => {
                self.dialogs[index].state = State::Ended;
                self.clients
                    .retain(|client| client.dialog != Some(index) || client.method == "BYE");
            }
            "CANCEL"
                if self.dialogs[index].invite.is_some()
                    && self.dialogs[index].state != State::Talking =>
            {
                self.final_answer(now, index, 487);
            }
            _ => {}
        }
    }

    fn incoming_register(&mut self, from: SocketAddr, message: &Message) {
        let user = user_of(message.need("To"));
        let authorized = message.get("Authorization").is_some_and(|value| {
            value.contains("response=\"good\"")
                || value.contains("response=\"0123456789abcdef0123456789abcdef\"")
        });
        if self.script.dislikes.as_ref() == Some(&user) {
            return;
        }
        let nonce = match self.script.fresh_nonces {
            true => self.unique(),
            false => "N0nce42".to_owned(),
        };
        let response = if !self.script.accounts.contains(&user) {
            self.reply(from, message, 404, Some("r"))
        } else if !authorized {
            let challenge = format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"",
                self.script.realm
            );
            self.reply(from, message, 401, Some("r"))
                .with("WWW-Authenticate", challenge)
        } else {
            let expires = message.get("Expires").unwrap_or("3600").to_owned();
            let asked = message
                .get("Contact")
                .and_then(|contact| parameter(contact, "expires"))
                .unwrap_or(expires.clone());
            let least = self.script.min_expires;
            if (1..least).contains(&asked.parse().unwrap()) {
                let response = self
                    .reply(from, message, 423, Some("r"))
                    .with("Min-Expires", least.to_string());
                return self.send_reply(from, message, &response);
            }
            let mut response = self.reply(from, message, 200, Some("r"));
            if let Some(route) = &self.script.service_route {
                response = response.with("Service-Route", route.clone());
            }
            if let Some(seen) = self.script.sees {
                let seen = format!(";rport={};received={}", seen.port(), seen.ip());
                let via = response.headers.iter_mut().find(|(name, _)| name == "Via");
                let (_, via) = via.expect("a Via");
                *via = via.replace(";rport", &seen);
            }
            if let Some(contact) = message.get("Contact") {
                let uri = bracketed(contact);
                let expires = parameter(contact, "expires").unwrap_or(expires);
                if expires == "0" {
                    self.bindings.remove(&user);
                } else {
                    response = response.with("Contact", format!("<{uri}>;expires={expires}"));
                    self.bindings.insert(user, uri);
                }
            }
            response
        };
        self.send_reply(from, message, &response);
    }

    fn incoming_invite(&mut self, now: Instant, from: SocketAddr, message: Message) {
        if let Some(index) = self.dialogs.iter().position(|dialog| {
            dialog.call_id == message.need("Call-ID") && message.tag("To").is_some()
        }) {
            return self.incoming_reinvite(now, from, message, index);
        }
        let known = self
            .script
            .accounts
            .contains(&user_of(message.need("From")));
        if self.script.challenge
            && known
            && message
                .get("Authorization")
                .or(message.get("Proxy-Authorization"))
                .is_none()
        {
            let response = self.reply(from, &message, 407, Some("c")).with(
                "Proxy-Authenticate",
                "Digest realm=\"lab.test\", nonce=\"N0nce43\", algorithm=MD5",
            );
            return self.send_final(now, from, &message, &response);
        }
        let unique = self.unique();
        self.dialogs.push(Dialog {
            state: State::Ringing,
            caller: false,
            call_id: message.need("Call-ID").to_owned(),
            local: format!("{};tag=secrettag-{unique}", message.need("To")),
            remote: message.need("From").to_owned(),
            target: bracketed(message.need("Contact")),
            routes: message.all("Record-Route"),
            cseq: 0,
            remote_cseq: message.cseq().0,
            invite: Some(message.clone()),
            remote_sdp: message.body.clone(),
            statuses: Vec::new(),
            direction: "sendrecv",
            cancel: false,
            ack: Vec::new(),
        });
        let index = self.dialogs.len() - 1;
        if let Some(ring) = self.script.ring {
            let trying = self.reply(from, &message, 100, None);
            self.send_reply(from, &message, &trying);
            self.later.push((now + ring, Later::Ring(index)));
        }
        if let Some((after, status)) = self.script.answer {
            self.later.push((now + after, Later::Answer(index, status)));
        }
        self.dialogs[index].remote = message.need("From").to_string();
        self.dialogs[index].statuses.clear();
        let _ = from;
    }

    fn incoming_reinvite(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: Message,
        index: usize,
    ) {
        let busy = self
            .clients
            .iter()
            .any(|client| client.dialog == Some(index) && client.method == "INVITE");
        if busy {
            let response = self.reply(from, &message, 491, None);
            return self.send_final(now, from, &message, &response);
        }
        let dialog = &mut self.dialogs[index];
        dialog.remote_cseq = message.cseq().0;
        if !message.body.is_empty() {
            dialog.remote_sdp = message.body.clone();
        }
        let direction = if message.body.contains("a=sendonly") {
            "recvonly"
        } else if message.body.contains("a=inactive") {
            "inactive"
        } else {
            "sendrecv"
        };
        let contact = self.contact();
        let sdp = self.sdp(direction);
        let response = self
            .reply(from, &message, 200, None)
            .with("Contact", contact)
            .with_body("application/sdp", &sdp);
        self.send_final(now, from, &message, &response);
    }

    pub(super) fn ring(&mut self, _now: Instant, index: usize) {
        let Some(invite) = self.dialogs[index].invite.clone() else {
            return;
        };
        let to: SocketAddr = via_address(&invite);
        let tag = parameter(&self.dialogs[index].local, "tag").unwrap();
        let status = if self.script.early_media { 183 } else { 180 };
        let contact = self.contact();
        let mut response = self
            .reply(to, &invite, status, Some(&tag))
            .with("Contact", contact);
        if self.script.early_media {
            response = response.with_body("application/sdp", &self.sdp("sendrecv"));
        }
        self.send_reply(to, &invite, &response);
    }

    pub(super) fn final_answer(&mut self, now: Instant, index: usize, status: u16) {
        let Some(invite) = self.dialogs[index].invite.take() else {
            return;
        };
        let to = via_address(&invite);
        let tag = parameter(&self.dialogs[index].local, "tag").unwrap();
        let contact = self.contact();
        let mut response = self.reply(to, &invite, status, Some(&tag));
        if status < 300 {
            response = response
                .with("Contact", contact)
                .with_body("application/sdp", &self.sdp("sendrecv"));
            self.dialogs[index].state = State::Talking;
        } else {
            self.dialogs[index].state = State::Failed(status);
            if let Some(seconds) = self.script.retry_after {
                response = response.with("Retry-After", seconds);
            }
        }
        self.send_final(now, to, &invite, &response);
    }

    fn send_final(&mut self, now: Instant, to: SocketAddr, request: &Message, response: &Message) {
        self.send_reply(to, request, response);
        self.unacknowledged.push(Unacknowledged {
            call_id: request.need("Call-ID").to_owned(),
            cseq: request.cseq().0,
            bytes: response.bytes(),
            interval: T1,
            next: now + T1,
            until: now + GIVE_UP,
            to,
        });
    }
}

fn via_address(request: &Message) -> SocketAddr {
    let sent_by = request
        .need("Via")
        .split(' ')
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    sent_by.parse().expect("an address and port in Via")
}
