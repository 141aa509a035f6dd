//! What happened in a call, message by message with the decision at each step: kept for every live call and for the last
//! ones that ended, so that a ladder over both legs can be drawn. Bounded in calls, steps and octets; the oldest go first.
//! What is kept is without secrets ([`redact`]). A message that the collector is to see leaves as HEP3 ([`hep`]).
//!
//! Fed in two places: [`crate::core::Core`] tells what came in, [`Context::emit`] what leaves. Whoever decides something
//! about a call says so with [`Context::decided`].

mod collector;
mod hep;
mod redact;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use broker_proto::{
    settings::{Transport, ZoneId},
    status::{LadderKind, LadderStep},
};

pub(crate) use collector::Collector;
pub(crate) use redact::number;

use crate::{
    context::Context,
    transport::{self, Flow},
};

/// Calls that are kept at most, live ones among them.
const CALLS: usize = 1_024;
/// Steps of one call that are kept: the first ones say how it came about, the last ones how it ended.
const FIRST: usize = 24;
const LAST: usize = 40;
/// Octets of a step's text.
const TEXT: usize = 2_048;
/// Octets of all texts.
const OCTETS: usize = 8 << 20;
/// Call-IDs of one call: two legs, and what was tried before.
const CALL_IDS: usize = 16;
/// Steps and octets of text in one answer to management, whose messages have a limit.
const PAGE: usize = 32;
const PAGE_OCTETS: usize = 40_000;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) zone: ZoneId,
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

impl From<Flow> for Way {
    fn from(flow: Flow) -> Self {
        Self {
            zone: flow.zone,
            transport: flow.transport,
            local: flow.local,
            peer: flow.peer,
        }
    }
}

struct Step {
    unix_ms: u64,
    kind: LadderKind,
    /// None of a decision.
    way: Option<Way>,
    text: String,
}

#[derive(Default)]
struct Trace {
    call: Option<u64>,
    call_ids: BTreeSet<String>,
    first: Vec<Step>,
    last: VecDeque<Step>,
    /// Steps between first and last that are kept no more.
    passed_over: u64,
}

impl Trace {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.first.iter().chain(&self.last)
    }

    fn octets(&self) -> usize {
        self.steps().map(|step| step.text.len()).sum()
    }
}

/// All traces.
#[derive(Default)]
pub(crate) struct Traces {
    /// By age.
    traces: BTreeMap<u64, Trace>,
    by_call_id: BTreeMap<String, u64>,
    by_call: BTreeMap<u64, u64>,
    octets: usize,
    next: u64,
}

impl Traces {
    /// How many calls are kept, and how many octets of text.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.traces.len(), self.octets)
    }

    fn is_kept(&self, call_id: &str) -> bool {
        self.by_call_id.contains_key(call_id)
    }

    fn begin(&mut self, call_id: &str) -> u64 {
        if let Some(serial) = self.by_call_id.get(call_id) {
            return *serial;
        }
        while self.traces.len() >= CALLS {
            self.forget_oldest();
        }
        self.next += 1;
        let mut trace = Trace::default();
        trace.call_ids.insert(call_id.to_owned());
        self.traces.insert(self.next, trace);
        self.by_call_id.insert(call_id.to_owned(), self.next);
        self.next
    }

    /// A Call-ID belongs to a call: the first one that a call has names its trace, all others join.
    pub(crate) fn belongs(&mut self, call_id: &str, call: u64) -> u64 {
        let serial = match (self.by_call.get(&call), self.by_call_id.get(call_id)) {
            (Some(serial), Some(joined)) if serial == joined => return *serial,
            (Some(serial), _) | (None, Some(serial)) => *serial,
            // A call that nobody's INVITE made: a transfer.
            (None, None) => self.begin(call_id),
        };
        let Some(trace) = self.traces.get_mut(&serial) else {
            return serial;
        };
        trace.call = Some(call);
        self.by_call.insert(call, serial);
        if trace.call_ids.len() < CALL_IDS && trace.call_ids.insert(call_id.to_owned()) {
            self.by_call_id.insert(call_id.to_owned(), serial);
        }
        serial
    }

    fn push(&mut self, serial: u64, step: Step) {
        let Some(trace) = self.traces.get_mut(&serial) else {
            return;
        };
        self.octets += step.text.len();
        if trace.first.len() < FIRST {
            trace.first.push(step);
        } else {
            if trace.last.len() >= LAST
                && let Some(old) = trace.last.pop_front()
            {
                self.octets = self.octets.saturating_sub(old.text.len());
                trace.passed_over = trace.passed_over.saturating_add(1);
            }
            trace.last.push_back(step);
        }
        while self.octets > OCTETS && self.traces.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((serial, trace)) = self.traces.pop_first() else {
            return;
        };
        self.octets = self.octets.saturating_sub(trace.octets());
        for call_id in &trace.call_ids {
            if self.by_call_id.get(call_id) == Some(&serial) {
                self.by_call_id.remove(call_id);
            }
        }
        if let Some(call) = trace.call {
            self.by_call.remove(&call);
        }
    }

    fn of_call(&self, call: u64) -> Option<&Trace> {
        self.traces.get(self.by_call.get(&call)?)
    }
}

/// The first `most` octets of a text, cut where a character ends.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    // What is counted is what is held: a large message leaves no large buffer behind.
    if text.capacity() > text.len().saturating_add(text.len() / 4) {
        text.shrink_to_fit();
    }
    text
}

impl Context {
    /// A message of a peer that we know came in. `begins`: a new call may begin with it.
    pub(crate) fn heard(&mut self, way: Way, call_id: &str, begins: bool, bytes: &[u8]) {
        let kept = begins || self.traces.is_kept(call_id);
        if !kept && !self.collector.is_there() {
            return;
        }
        let text = redact::redact(bytes);
        self.capture(way, true, call_id, &text);
        if kept {
            let serial = self.traces.begin(call_id);
            self.keep(serial, LadderKind::Received, Some(way), text);
        }
    }

    /// A message leaves.
    pub(crate) fn said(&mut self, way: Way, bytes: &[u8]) {
        let Some(call_id) = redact::call_id(bytes) else {
            return;
        };
        let first = (call_id.to_owned(), String::new());
        let call = self
            .dialogs
            .range(first..)
            .next()
            .filter(|((have, _), _)| have == call_id)
            .map(|(_, (call, _))| *call);
        let serial = match call {
            Some(call) => Some(self.traces.belongs(call_id, call)),
            None => self.traces.by_call_id.get(call_id).copied(),
        };
        if serial.is_none() && !self.collector.is_there() {
            return;
        }
        let text = redact::redact(bytes);
        self.capture(way, false, call_id, &text);
        if let Some(serial) = serial {
            self.keep(serial, LadderKind::Sent, Some(way), text);
        }
    }

    /// The number by which the ladder of a call is asked for that was refused before it became one: the same for all that
    /// have its Call-ID. `None`: nothing of it is kept.
    pub(crate) fn name_refused(&mut self, call_id: &str) -> Option<u64> {
        let serial = self.traces.by_call_id.get(call_id)?;
        if let Some(call) = self.traces.traces.get(serial)?.call {
            return Some(call);
        }
        let number = self.next_number();
        self.traces.belongs(call_id, number);
        Some(number)
    }

    /// Something was decided about the call that a request of that Call-ID makes or belongs to.
    pub(crate) fn decided(&mut self, call_id: &str, what: &str) {
        if let Some(serial) = self.traces.by_call_id.get(call_id).copied() {
            let what = redact::without_passwords(what).into_owned();
            self.keep(serial, LadderKind::Decision, None, what);
        }
    }

    fn keep(&mut self, serial: u64, kind: LadderKind, way: Option<Way>, text: String) {
        let step = Step {
            unix_ms: self.wall_clock(),
            kind,
            way,
            text: cut(text, TEXT),
        };
        self.traces.push(serial, step);
    }

    /// Steps of a call from the `offset`-th on as many as fit an answer, and whether there are more; `None`: no such call
    /// is kept.
    pub(crate) fn ladder(&self, call: u64, offset: u32) -> Option<(Vec<LadderStep>, bool)> {
        let trace = self.traces.of_call(call)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut octets = 0;
        let mut left = trace.steps().skip(offset).peekable();
        let mut steps = Vec::new();
        while let Some(step) = left.next_if(|step| {
            octets += step.text.len();
            steps.is_empty() || (steps.len() < PAGE && octets <= PAGE_OCTETS)
        }) {
            steps.push(self.told(step));
        }
        Some((steps, left.peek().is_some()))
    }

    fn told(&self, step: &Step) -> LadderStep {
        let way = step.way;
        LadderStep {
            unix_ms: step.unix_ms,
            kind: step.kind,
            zone: way.map(|way| self.zone_name(way.zone)).unwrap_or_default(),
            remote: way.map(|way| way.peer),
            transport: way
                .map(|way| transport::word(way.transport).to_owned())
                .unwrap_or_default(),
            text: step.text.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
