//! A peer of the simulation: a user agent as RFC 3261 and RFC 5407 want one, led by a plan and a list of things to do. It
//! shares neither parser nor transactions with the product. What it does as client stands in `uac.rs`, as server in
//! `uas.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{RngCore, rngs::StdRng};

use super::{extensions::Unconfirmed, pairs::media_port};
use crate::testing::{Message, text::audio};

pub(super) const T1: Duration = Duration::from_millis(500);
pub(super) const T2: Duration = Duration::from_secs(4);
pub(super) const GIVE_UP: Duration = Duration::from_secs(32);

/// What a peer does with a call that comes in.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// When each fork rings, in ms, and whether with a description. None: it says nothing before its answer.
    pub(super) rings: Vec<(u32, bool)>,
    /// The answer of the first fork, in ms; none: it rings for ever.
    pub(super) answer: Option<(u32, u16)>,
    /// A second fork answers with 2xx too, so many ms later.
    pub(super) second: Option<u32>,
}

/// Where a dialog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Early,
    Talking,
    Over,
}

/// One end of a dialog.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    /// Which call of the scenario: the caller's number.
    pub(super) key: String,
    pub(super) caller: bool,
    pub(super) state: State,
    /// A 2xx came, or was sent.
    pub(super) answered: bool,
    /// The ACK for our 2xx came, or was sent.
    pub(super) confirmed: bool,
    /// Status with which the call failed.
    pub(super) failed: Option<u16>,
    pub(super) call_id: String,
    pub(super) own_tag: String,
    pub(super) far_tag: Option<String>,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) routes: Vec<String>,
    pub(super) cseq: u32,
    pub(super) heard: u32,
    /// The INVITE that is not answered yet.
    pub(super) invite: Option<Message>,
    pub(super) wants_cancel: bool,
    /// CANCEL was sent.
    pub(super) took_back: bool,
    pub(super) glares: u32,
    /// ACKs by CSeq, for answers that come again.
    pub(super) acks: BTreeMap<u32, Vec<u8>>,
    /// It does 100rel.
    pub(super) reliable: bool,
    /// It does UPDATE.
    pub(super) modern: bool,
    /// Its session is timed.
    pub(super) seconds: Option<u32>,
    /// It refreshes the session.
    pub(super) refreshing: bool,
    /// A reliable provisional response had the answer.
    pub(super) answered_early: bool,
    /// Reliable provisional responses that it heard, by tag.
    pub(super) heard_rseq: BTreeSet<(String, String)>,
}

/// Something that a peer does later, to the dialog of that index.
#[derive(Clone, Debug)]
pub(super) enum Later {
    Ring(usize, bool),
    Answer(usize, u16),
    Reinvite(usize, &'static str),
    Request(usize, &'static str),
    Update(usize, &'static str),
    Refresh(usize),
    /// Blind, or attended if there is another call.
    Refer(usize, bool),
    Cancel(usize),
    HangUp(usize),
}

/// A request of its own.
pub(super) struct Client {
    pub(super) dialog: usize,
    pub(super) request: Message,
    pub(super) method: String,
    pub(super) branch: String,
    pub(super) interval: Duration,
    pub(super) next: Option<Instant>,
    pub(super) until: Option<Instant>,
}

/// A final answer to INVITE that waits for its ACK.
pub(super) struct Final {
    pub(super) dialog: usize,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) tag: String,
    pub(super) bytes: Vec<u8>,
    pub(super) success: bool,
    pub(super) interval: Duration,
    pub(super) next: Instant,
    pub(super) until: Instant,
}

pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) at: SocketAddr,
    pub(super) gateway: SocketAddr,
    /// By the caller's number.
    pub(super) plans: BTreeMap<String, Plan>,
    pub(super) dialogs: Vec<Dialog>,
    pub(super) clients: Vec<Client>,
    pub(super) finals: Vec<Final>,
    pub(super) unconfirmed: Vec<Unconfirmed>,
    /// Last response by branch and method.
    pub(super) responses: BTreeMap<(String, String), Vec<u8>>,
    later: BTreeMap<(Instant, u64), Later>,
    pub(super) outbox: Vec<Vec<u8>>,
    pub(super) rng: StdRng,
    counter: u64,
}

impl Peer {
    pub(super) fn new(
        name: &'static str,
        at: SocketAddr,
        gateway: SocketAddr,
        rng: StdRng,
    ) -> Self {
        Self {
            name,
            at,
            gateway,
            plans: BTreeMap::new(),
            dialogs: Vec::new(),
            clients: Vec::new(),
            finals: Vec::new(),
            unconfirmed: Vec::new(),
            responses: BTreeMap::new(),
            later: BTreeMap::new(),
            outbox: Vec::new(),
            rng,
            counter: 0,
        }
    }

    pub(super) fn roll(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound.max(1)
    }

    pub(super) fn unique(&mut self) -> String {
        self.counter += 1;
        format!("{}{}", self.name, self.counter)
    }

    pub(super) fn via(&mut self) -> String {
        let unique = self.unique();
        format!("SIP/2.0/UDP {};branch=z9hG4bK{unique};rport", self.at)
    }

    /// An address in a URI.
    pub(super) fn host(address: IpAddr) -> String {
        match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }

    pub(super) fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.name, self.at)
    }

    pub(super) fn sdp(&self, index: usize, direction: &str) -> String {
        audio(self.at.ip(), media_port(index), direction, "8 101")
    }

    /// Do something after a while.
    pub(super) fn after(&mut self, now: Instant, wait: Duration, what: Later) {
        self.counter += 1;
        self.later.insert((now + wait, self.counter), what);
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let clients = self
            .clients
            .iter()
            .filter_map(|client| [client.next, client.until].into_iter().flatten().min());
        let finals = self
            .finals
            .iter()
            .map(|waiting| waiting.next.min(waiting.until));
        let later = self.later.keys().map(|(at, _)| *at);
        let unconfirmed = self.unconfirmed.iter().map(Unconfirmed::next_timer);
        clients
            .chain(finals)
            .chain(unconfirmed)
            .chain(later.take(1))
            .min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.tick_clients(now);
        self.tick_finals(now);
        self.tick_unconfirmed(now);
        while let Some(entry) = self
            .later
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            match entry.remove() {
                Later::Ring(dialog, early) => self.ring(now, dialog, early),
                Later::Answer(dialog, status) => self.answer(now, dialog, status),
                Later::Reinvite(dialog, direction) => self.reinvite(now, dialog, direction),
                Later::Request(dialog, method) => self.plain_request(now, dialog, method),
                Later::Update(dialog, direction) => self.update(now, dialog, direction),
                Later::Refresh(dialog) => self.refresh(now, dialog),
                Later::Refer(dialog, attended) => self.refer(now, dialog, attended),
                Later::Cancel(dialog) => self.cancel(now, dialog),
                Later::HangUp(dialog) => self.hang_up(now, dialog),
            }
        }
    }

    fn tick_finals(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        for waiting in &mut self.finals {
            if waiting.until <= now {
                given_up.push((waiting.dialog, waiting.success));
            } else if waiting.next <= now {
                waiting.interval = (waiting.interval * 2).min(T2);
                waiting.next = now + waiting.interval;
                self.outbox.push(waiting.bytes.clone());
            }
        }
        self.finals.retain(|waiting| waiting.until > now);
        for (dialog, success) in given_up {
            // RFC 3261 §13.3.1.4: no ACK for a 2xx ends the dialog with BYE.
            if success {
                self.bye(now, dialog);
            }
        }
    }

    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let message = Message::parse(bytes);
        match message.status() {
            Some(status) => self.response(now, &message, status),
            None => self.request(now, &message),
        }
    }

    /// The dialog that a message is in, by Call-ID and own tag.
    pub(super) fn find(&self, call_id: &str, own_tag: Option<&str>) -> Option<usize> {
        let own_tag = own_tag?;
        self.dialogs
            .iter()
            .position(|dialog| dialog.call_id == call_id && dialog.own_tag == own_tag)
    }

    /// Ends a dialog that stands, with BYE.
    pub(super) fn bye(&mut self, now: Instant, index: usize) {
        let dialog = &self.dialogs[index];
        let unacknowledged = |waiting: &Final| waiting.dialog == index && waiting.success;
        if !dialog.caller && !dialog.confirmed && self.finals.iter().any(unacknowledged) {
            // RFC 3261 §15: the callee says no BYE before ACK, or before it has waited for that long enough.
            return self.after(now, T1, Later::HangUp(index));
        }
        if self.dialogs[index].state != State::Over {
            self.dialogs[index].state = State::Over;
            self.send_in_dialog(now, index, "BYE", None);
        }
    }

    /// Hangs up, as the state of the dialog allows.
    fn hang_up(&mut self, now: Instant, index: usize) {
        let dialog = &self.dialogs[index];
        match dialog.state {
            // RFC 3261 §15: the callee says no BYE before ACK.
            State::Talking if !dialog.caller && !dialog.confirmed => {
                self.after(now, T1, Later::HangUp(index));
            }
            State::Talking => self.bye(now, index),
            State::Early if dialog.caller => self.cancel(now, index),
            State::Early | State::Over => {}
        }
    }
}
