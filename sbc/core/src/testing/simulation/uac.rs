//! What a peer of the simulation sends, and what it makes of responses. RFC 3261 §13.2, §14.1, §9.1, §15.1.1.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::peer::{Client, Dialog, GIVE_UP, Later, Peer, State, T1, T2};
use crate::testing::{Message, bracketed};

impl Peer {
    /// Calls `number` as `key`, with an offer or without; gives the dialog's index.
    pub(super) fn call(&mut self, now: Instant, key: &str, number: &str, offer: bool) -> usize {
        let (call, tag) = (self.unique(), self.unique());
        let gateway = self.gateway;
        let (own, host) = (Self::host(self.at.ip()), Self::host(gateway.ip()));
        let target = format!("sip:{number}@{host}");
        self.dialogs.push(Dialog {
            key: key.to_owned(),
            caller: true,
            state: State::Early,
            answered: false,
            confirmed: false,
            failed: None,
            call_id: format!("{call}@{}", self.at.ip()),
            local: format!("<sip:{key}@{own}>;tag={tag}"),
            own_tag: tag,
            far_tag: None,
            remote: format!("<{target}>"),
            target,
            routes: Vec::new(),
            cseq: 0,
            heard: 0,
            invite: None,
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
        let index = self.dialogs.len() - 1;
        self.draw_extensions(index);
        let offer = offer.then(|| self.sdp(index, "sendrecv"));
        self.send_in_dialog(now, index, "INVITE", offer.as_deref());
        index
    }

    /// A re-INVITE; one at a time.
    pub(super) fn reinvite(&mut self, now: Instant, index: usize, direction: &str) {
        let busy = self.is_busy(index);
        let dialog = &self.dialogs[index];
        if dialog.state == State::Talking && !busy {
            let offer = self.sdp(index, direction);
            self.send_in_dialog(now, index, "INVITE", Some(&offer));
        }
    }

    /// A request without body inside a dialog that stands.
    pub(super) fn plain_request(&mut self, now: Instant, index: usize, method: &str) {
        if self.dialogs[index].state == State::Talking {
            self.send_in_dialog(now, index, method, None);
        }
    }

    /// A transfer: to a number, or to the far end of another call of its own, which it replaces. RFC 3515, RFC 3891.
    pub(super) fn refer(&mut self, now: Instant, index: usize, attended: bool) {
        if self.dialogs[index].state != State::Talking {
            return;
        }
        let other = self.dialogs.iter().enumerate().find(|(at, dialog)| {
            attended && *at != index && dialog.state == State::Talking && dialog.far_tag.is_some()
        });
        let host = Self::host(self.gateway.ip());
        let target = match other {
            Some((_, dialog)) => {
                let call_id = dialog.call_id.replace('@', "%40");
                let far_tag = dialog.far_tag.as_deref().unwrap_or_default();
                format!(
                    "<sip:joined@{host}?Replaces={call_id}%3Bto-tag%3D{far_tag}%3Bfrom-tag%3D{}>",
                    dialog.own_tag
                )
            }
            None => format!("<sip:+49305551{:03}@{host}>", self.roll(190) + 1),
        };
        self.dialogs[index].cseq += 1;
        let cseq = self.dialogs[index].cseq;
        let request = self
            .build(index, "REFER", cseq, None)
            .with("Refer-To", target);
        self.start(now, index, request);
    }

    pub(super) fn cancel(&mut self, now: Instant, index: usize) {
        let dialog = &mut self.dialogs[index];
        if dialog.state != State::Early || !dialog.caller {
            // Too late: what was answered is hung up.
            if dialog.state == State::Talking {
                self.bye(now, index);
            }
            return;
        }
        dialog.wants_cancel = true;
        self.send_cancel(now, index);
    }

    /// RFC 3261 §9.1: not before a provisional response.
    fn send_cancel(&mut self, now: Instant, index: usize) {
        let invite = self
            .clients
            .iter_mut()
            .find(|client| client.dialog == index && client.method == "INVITE");
        let Some(invite) = invite.filter(|client| client.next.is_none()) else {
            return;
        };
        if std::mem::take(&mut self.dialogs[index].wants_cancel) {
            invite.until = Some(now + GIVE_UP);
            let request = invite.request.clone();
            let mut cancel = Message::request("CANCEL", request.uri());
            for name in ["Via", "From", "To", "Call-ID", "Max-Forwards"] {
                cancel = cancel.with(name, request.need(name));
            }
            let cancel = cancel.with("CSeq", format!("{} CANCEL", request.cseq().0));
            self.start(now, index, cancel);
            // A 2xx that crosses it is hung up.
            self.dialogs[index].took_back = true;
        }
    }

    pub(super) fn send_in_dialog(
        &mut self,
        now: Instant,
        index: usize,
        method: &str,
        body: Option<&str>,
    ) {
        self.dialogs[index].cseq += 1;
        let cseq = self.dialogs[index].cseq;
        let request = self.build(index, method, cseq, body);
        self.start(now, index, request);
    }

    fn build(&mut self, index: usize, method: &str, cseq: u32, body: Option<&str>) -> Message {
        let (via, contact) = (self.via(), self.contact());
        let dialog = &self.dialogs[index];
        let mut request = Message::request(method, &dialog.target)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", dialog.local.clone())
            .with("To", dialog.remote.clone())
            .with("Call-ID", dialog.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"));
        if method != "BYE" {
            request = request.with("Contact", contact);
        }
        for route in &dialog.routes {
            request = request.with("Route", route.clone());
        }
        request = self.extended(index, method, request);
        match body {
            Some(body) => request.with_body("application/sdp", body),
            None => request,
        }
    }

    pub(super) fn start(&mut self, now: Instant, dialog: usize, request: Message) {
        self.outbox.push(request.bytes());
        self.clients.push(Client {
            dialog,
            method: request.method().unwrap().to_owned(),
            branch: request.branch(),
            request,
            interval: T1,
            next: Some(now + T1),
            until: Some(now + GIVE_UP),
        });
    }

    pub(super) fn tick_clients(&mut self, now: Instant) {
        let mut dead = Vec::new();
        for client in &mut self.clients {
            if client.until.is_some_and(|until| until <= now) {
                dead.push((client.dialog, client.request.clone(), client.method.clone()));
            } else if client.next.is_some_and(|next| next <= now) {
                client.interval *= 2;
                if client.method != "INVITE" {
                    client.interval = client.interval.min(T2);
                }
                client.next = Some(now + client.interval);
                self.outbox.push(client.request.bytes());
            }
        }
        self.clients
            .retain(|client| client.until.is_none_or(|until| until > now));
        for (index, request, method) in dead {
            let initial = request.tag("To").is_none();
            match method.as_str() {
                "INVITE" if initial => self.fail(index, 408),
                "BYE" | "CANCEL" | "PRACK" => {}
                // RFC 3261 §12.2.1.2: as if a 408 had come, which ends the dialog.
                _ => self.bye(now, index),
            }
        }
    }

    fn fail(&mut self, index: usize, status: u16) {
        let dialog = &mut self.dialogs[index];
        dialog.state = State::Over;
        dialog.failed = Some(status);
    }

    pub(super) fn response(&mut self, now: Instant, message: &Message, status: u16) {
        let (_, method) = message.cseq();
        let branch = message.branch();
        let place = self
            .clients
            .iter()
            .position(|client| client.branch == branch && client.method == method);
        if method == "INVITE" {
            let own_tag = message.tag("From");
            let index = self.find(message.need("Call-ID"), own_tag.as_deref());
            if let Some(index) = index {
                self.invite_response(now, message, status, index, place);
            }
            return;
        }
        if let (Some(place), 200..) = (place, status) {
            let client = self.clients.remove(place);
            // RFC 3261 §12.2.1.2.
            if matches!(status, 408 | 481) && !matches!(method.as_str(), "BYE" | "CANCEL" | "PRACK")
            {
                self.bye(now, client.dialog);
            }
        }
    }

    fn invite_response(
        &mut self,
        now: Instant,
        message: &Message,
        status: u16,
        index: usize,
        place: Option<usize>,
    ) {
        let cseq = message.cseq().0;
        match status {
            100..=199 => {
                if let Some(client) = place.map(|place| &mut self.clients[place]) {
                    if client.next.take().is_some() {
                        client.until = None;
                    }
                    self.send_cancel(now, index);
                    self.confirm(now, index, message);
                }
            }
            200..=299 => {
                let Some(ack) = self.dialogs[index].acks.get(&cseq).cloned() else {
                    return self.accepted(now, message, index, place);
                };
                let same = message.tag("To") == self.dialogs[index].far_tag;
                assert!(same, "a second 2xx of another dialog reached a caller");
                self.outbox.push(ack);
            }
            _ => {
                let Some(place) = place else {
                    let ack = self.dialogs[index].acks.get(&cseq).cloned();
                    return self.outbox.extend(ack);
                };
                let client = self.clients.remove(place);
                self.refused(now, message, status, index, &client.request);
            }
        }
    }

    fn accepted(&mut self, now: Instant, message: &Message, index: usize, place: Option<usize>) {
        let client = place.map(|place| self.clients.remove(place));
        let cseq = message.cseq().0;
        let dialog = &mut self.dialogs[index];
        let initial = dialog.far_tag.is_none();
        if initial {
            dialog.remote = message.need("To").to_owned();
            dialog.far_tag = message.tag("To");
            dialog.routes = message.all("Record-Route").into_iter().rev().collect();
        }
        dialog.target = bracketed(message.need("Contact"));
        dialog.answered = true;
        dialog.confirmed = true;
        self.session_answered(now, index, message);
        let dialog = &mut self.dialogs[index];
        // It was given up already, or taken back: the answer crossed that.
        let unwanted = initial && (dialog.state == State::Over || dialog.took_back);
        if initial {
            dialog.state = State::Talking;
        }
        let offerless = client
            .as_ref()
            .is_some_and(|client| client.request.body.is_empty());
        let answer = offerless.then(|| self.sdp(index, "sendrecv"));
        let mut ack = self.build(index, "ACK", cseq, answer.as_deref());
        ack.headers.retain(|(name, _)| name != "Contact");
        self.outbox.push(ack.bytes());
        self.dialogs[index].acks.insert(cseq, ack.bytes());
        if unwanted {
            self.bye(now, index);
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        message: &Message,
        status: u16,
        index: usize,
        invite: &Message,
    ) {
        let mut ack = Message::request("ACK", invite.uri());
        for name in ["Via", "From", "Call-ID", "Max-Forwards"] {
            ack = ack.with(name, invite.need(name));
        }
        for route in invite.all("Route") {
            ack = ack.with("Route", route);
        }
        let cseq = invite.cseq().0;
        let ack = ack
            .with("To", message.need("To"))
            .with("CSeq", format!("{cseq} ACK"));
        self.outbox.push(ack.bytes());
        self.dialogs[index].acks.insert(cseq, ack.bytes());
        if invite.tag("To").is_none() {
            return self.fail(index, status);
        }
        match status {
            // RFC 3261 §14.1: who made the Call-ID waits longer.
            491 | 500 if self.dialogs[index].glares < 3 => {
                self.dialogs[index].glares += 1;
                let wait = if self.dialogs[index].caller {
                    2100 + self.roll(1900)
                } else {
                    self.roll(2000)
                };
                let wait = Duration::from_millis(u64::from(wait));
                self.after(now, wait, Later::Reinvite(index, "sendrecv"));
            }
            408 | 481 => self.bye(now, index),
            _ => {}
        }
    }
}
