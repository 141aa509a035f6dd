//! What the shell needs of the core, as a trait: its tests put a scripted one in its place.

use std::{net::IpAddr, time::Instant};

use broker_proto::status::{CallInfo, LadderStep};
use sbc_core::{Core, Input, Output};

/// The back-to-back user agent, seen from outside.
pub trait Engine {
    /// Something happened at `now`.
    fn handle(&mut self, now: Instant, input: Input<'_>);
    /// The next thing to be done; to be asked until there is none before the next input.
    fn poll(&mut self) -> Option<Output>;
    /// When `Input::Tick` is due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Whether nothing is left to be done after `Input::Stop`.
    fn is_idle(&self) -> bool;
    /// Live calls from the `offset`-th on, at most `limit`, and whether there are more.
    fn calls(&self, now: Instant, offset: u32, limit: u32) -> (Vec<CallInfo>, bool);
    /// What happened in a call from the `offset`-th step on, and whether there is more; `None`: not kept.
    fn ladder(&self, call: u64, offset: u32) -> Option<(Vec<LadderStep>, bool)>;
    /// Whether a phone is registered from there.
    fn is_registered(&self, source: IpAddr) -> bool;
    /// Counters by name for `/metrics`.
    fn counters(&self) -> Vec<(String, u64)>;
    /// Laboratory only: forget bindings, rates and counts. False, and no effect: not allowed.
    fn reset(&mut self, now: Instant) -> bool;
}

impl Engine for Core {
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        self.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn calls(&self, now: Instant, offset: u32, limit: u32) -> (Vec<CallInfo>, bool) {
        self.calls(now, offset, limit)
    }

    fn ladder(&self, call: u64, offset: u32) -> Option<(Vec<LadderStep>, bool)> {
        self.ladder(call, offset)
    }

    fn is_registered(&self, source: IpAddr) -> bool {
        self.is_registered(source)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        self.counters()
    }

    fn reset(&mut self, now: Instant) -> bool {
        self.reset(now)
    }
}
