//! What a peer of the simulation does beyond RFC 3261: reliable provisional responses (RFC 3262), UPDATE (RFC 3311) and
//! session timers (RFC 4028). Which of them a dialog has is drawn when it begins.

use std::time::{Duration, Instant};

use super::peer::{GIVE_UP, Later, Peer, State, T1};
use crate::testing::{Message, bracketed, parameter};

/// Methods that a peer with extensions says it has.
const METHODS: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY";

/// A reliable provisional response that waits for its PRACK.
pub(super) struct Unconfirmed {
    pub(super) dialog: usize,
    rseq: u32,
    pub(super) described: bool,
    bytes: Vec<u8>,
    interval: Duration,
    next: Instant,
    until: Instant,
}

impl Unconfirmed {
    pub(super) fn next_timer(&self) -> Instant {
        self.next.min(self.until)
    }
}

impl Peer {
    /// Draws what a new dialog of ours can do.
    pub(super) fn draw_extensions(&mut self, index: usize) {
        let (reliable, modern) = (self.roll(3) == 0, self.roll(3) != 0);
        let timed = self.roll(4) == 0;
        let seconds = 90 + self.roll(120);
        let dialog = &mut self.dialogs[index];
        dialog.reliable = reliable;
        dialog.modern = modern;
        dialog.seconds = timed.then_some(seconds);
    }

    /// The fields that say so.
    pub(super) fn extended(&self, index: usize, method: &str, mut request: Message) -> Message {
        let dialog = &self.dialogs[index];
        if !matches!(method, "INVITE" | "UPDATE") {
            return request;
        }
        let tags = [
            (dialog.reliable, "100rel"),
            (dialog.seconds.is_some(), "timer"),
        ];
        let supported: Vec<&str> = tags.iter().filter(|tag| tag.0).map(|tag| tag.1).collect();
        if !supported.is_empty() {
            request = request.with("Supported", supported.join(", "));
        }
        if dialog.modern {
            request = request.with("Allow", METHODS);
        }
        match dialog.seconds {
            // Who refreshes goes on to do so.
            Some(seconds) if dialog.refreshing => {
                request.with("Session-Expires", format!("{seconds};refresher=uac"))
            }
            Some(seconds) => request.with("Session-Expires", seconds.to_string()),
            None => request,
        }
    }

    /// The same for a 2xx to INVITE or UPDATE.
    pub(super) fn extended_answer(
        &mut self,
        now: Instant,
        index: usize,
        request: &Message,
        mut response: Message,
    ) -> Message {
        if self.dialogs[index].modern {
            response = response.with("Allow", METHODS);
        }
        let Some(asked) = request.get("Session-Expires") else {
            return response;
        };
        let seconds: u32 = asked
            .split(';')
            .next()
            .unwrap_or("0")
            .trim()
            .parse()
            .unwrap();
        let ours = match parameter(asked, "refresher").as_deref() {
            Some("uas") => true,
            Some(_) => false,
            None => self.roll(2) == 0,
        };
        if ours {
            self.keep_refreshing(now, index, seconds);
        }
        let who = if ours { "uas" } else { "uac" };
        response
            .with("Require", "timer")
            .with("Session-Expires", format!("{seconds};refresher={who}"))
    }

    /// What a 2xx to our INVITE says of the session's time.
    pub(super) fn session_answered(&mut self, now: Instant, index: usize, response: &Message) {
        let Some(given) = response.get("Session-Expires") else {
            return;
        };
        let seconds = given
            .split(';')
            .next()
            .unwrap_or("0")
            .trim()
            .parse()
            .unwrap();
        if parameter(given, "refresher").as_deref() == Some("uac") {
            self.keep_refreshing(now, index, seconds);
        }
    }

    fn keep_refreshing(&mut self, now: Instant, index: usize, seconds: u32) {
        let dialog = &mut self.dialogs[index];
        dialog.seconds = Some(seconds);
        if !std::mem::replace(&mut dialog.refreshing, true) {
            let half = Duration::from_secs(u64::from(seconds / 2));
            self.after(now, half, Later::Refresh(index));
        }
    }

    pub(super) fn refresh(&mut self, now: Instant, index: usize) {
        if self.dialogs[index].state != State::Talking {
            return;
        }
        let seconds = self.dialogs[index].seconds.unwrap_or(90);
        let wait = if self.is_busy(index) {
            1
        } else {
            self.reinvite(now, index, "sendrecv");
            u64::from(seconds / 2)
        };
        self.after(now, Duration::from_secs(wait), Later::Refresh(index));
    }

    /// UPDATE with an offer.
    pub(super) fn update(&mut self, now: Instant, index: usize, direction: &str) {
        let dialog = &self.dialogs[index];
        if dialog.state == State::Talking && dialog.modern && !self.is_busy(index) {
            let offer = self.sdp(index, direction);
            self.send_in_dialog(now, index, "UPDATE", Some(&offer));
        }
    }

    /// An offer of ours is on its way, or a 2xx of ours has no ACK.
    pub(super) fn is_busy(&self, index: usize) -> bool {
        self.is_asking(index)
            || self
                .finals
                .iter()
                .any(|waiting| waiting.dialog == index && waiting.success)
    }

    pub(super) fn is_asking(&self, index: usize) -> bool {
        self.clients.iter().any(|client| {
            client.dialog == index && matches!(client.method.as_str(), "INVITE" | "UPDATE")
        })
    }

    /// A provisional response, reliable where the caller can do it and this dialog likes to.
    pub(super) fn reliably(
        &mut self,
        now: Instant,
        index: usize,
        invite: &Message,
        response: Message,
    ) -> Message {
        let can = invite
            .get("Supported")
            .is_some_and(|tags| tags.contains("100rel"));
        let pending = self.unconfirmed.iter().any(|it| it.dialog == index);
        if !can || !self.dialogs[index].reliable || pending {
            return response;
        }
        let rseq = 1 + self.roll(1000);
        let response = response
            .with("Require", "100rel")
            .with("RSeq", rseq.to_string());
        let described = !response.body.is_empty();
        self.dialogs[index].answered_early |= described;
        self.unconfirmed.push(Unconfirmed {
            dialog: index,
            rseq,
            described,
            bytes: response.bytes(),
            interval: T1,
            next: now + T1,
            until: now + GIVE_UP,
        });
        response
    }

    /// PRACK came; the status that answers it.
    pub(super) fn confirmed(&mut self, index: usize, prack: &Message) -> u16 {
        let rack: Vec<&str> = prack.need("RAck").split(' ').collect();
        let place = self
            .unconfirmed
            .iter()
            .position(|it| it.dialog == index && rack[0] == it.rseq.to_string());
        match place {
            Some(place) => {
                self.unconfirmed.remove(place);
                200
            }
            None => 481,
        }
    }

    pub(super) fn tick_unconfirmed(&mut self, now: Instant) {
        let mut lost = Vec::new();
        let dialogs = &self.dialogs;
        self.unconfirmed
            .retain(|it| dialogs[it.dialog].invite.is_some());
        for it in &mut self.unconfirmed {
            if it.until <= now {
                lost.push(it.dialog);
            } else if it.next <= now {
                it.interval *= 2;
                it.next = now + it.interval;
                self.outbox.push(it.bytes.clone());
            }
        }
        self.unconfirmed.retain(|it| it.until > now);
        for dialog in lost {
            // RFC 3262 §3: the original request is rejected.
            self.answer(now, dialog, 504);
        }
    }

    /// A reliable provisional response to our INVITE: PRACK, once.
    pub(super) fn confirm(&mut self, now: Instant, index: usize, response: &Message) {
        let Some(rseq) = response.get("RSeq").map(str::to_owned) else {
            return;
        };
        let tag = response.tag("To").unwrap_or_default();
        if self.dialogs[index].state != State::Early
            || !self.dialogs[index].heard_rseq.insert((tag, rseq.clone()))
        {
            return;
        }
        self.dialogs[index].cseq += 1;
        let cseq = self.dialogs[index].cseq;
        let via = self.via();
        let mut prack = Message::request("PRACK", &bracketed(response.need("Contact")))
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", response.need("From"))
            .with("To", response.need("To"))
            .with("Call-ID", response.need("Call-ID"))
            .with("CSeq", format!("{cseq} PRACK"))
            .with("RAck", format!("{rseq} {} INVITE", response.cseq().0));
        for route in response.all("Record-Route").into_iter().rev() {
            prack = prack.with("Route", route);
        }
        self.start(now, index, prack);
    }
}
