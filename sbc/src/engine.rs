//! What the shell needs of the core, as a trait: its tests put a scripted one in its place.

use std::time::Instant;

use broker_proto::status::CallInfo;
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
    /// Live calls in order of their names, from the `offset`-th on, at most `limit`.
    fn calls(&self, offset: usize, limit: usize) -> Vec<CallInfo>;
    /// How many calls are live.
    fn call_count(&self) -> usize;
    /// Counters by name for `/metrics`.
    fn counters(&self) -> Vec<(String, u64)>;
    /// Laboratory only: forget bindings, rates and counts.
    fn reset(&mut self, now: Instant);
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

    fn calls(&self, offset: usize, limit: usize) -> Vec<CallInfo> {
        self.calls(offset, limit)
    }

    fn call_count(&self) -> usize {
        self.call_count()
    }

    fn counters(&self) -> Vec<(String, u64)> {
        self.counters()
    }

    fn reset(&mut self, now: Instant) {
        self.reset(now);
    }
}
