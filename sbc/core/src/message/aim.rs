//! Where a request beside calls goes: the PBX's to the phone behind a contact of ours, a registered phone's to the PBX
//! whatever it is about (addresses there need be no numbers), everybody else's by the routes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sbc_sip::message::{Request, Response};

use super::PATIENCE;
use crate::{
    context::Context,
    core::Core,
    dispatch::Source,
    health,
    surroundings::Peer,
    target::{self, Target},
};

/// How long a place may be silent while there is another one.
const SILENCE: Duration = Duration::from_secs(5);

/// The places that are left to try, and how long anybody waits for them. RFC 3263 §4.3.
#[derive(Clone)]
pub(crate) struct Tries {
    left: VecDeque<Target>,
    /// Status codes after which the next place is tried, besides the usual ones.
    failover: Vec<u16>,
    until: Instant,
}

impl Tries {
    fn new(now: Instant, left: VecDeque<Target>, failover: Vec<u16>) -> Self {
        Self {
            left,
            failover,
            until: now + PATIENCE,
        }
    }

    /// The place after one that failed, if its failure is worth another try.
    pub(crate) fn next(
        &mut self,
        cx: &mut Context,
        failed: &Target,
        answered: Result<&Response, u16>,
    ) -> Option<Target> {
        let status = answered.map_or_else(|status| status, |response| response.status.as_u16());
        if let Err(408 | 503) = answered {
            health::suspect(cx, &failed.hop);
        }
        if answered.is_ok() && matches!(failed.peer, Peer::Trunk(_) | Peer::Registrar) {
            // Who refuses by one of its addresses is not asked by the others.
            self.left.retain(|target| target.peer != failed.peer);
        }
        let worth = matches!(status, 408 | 430 | 500..=599) || self.failover.contains(&status);
        if !worth || cx.now >= self.until {
            return None;
        }
        let next = self.left.pop_front()?;
        cx.counters.count("requests_failover_total", "", "");
        Some(next)
    }

    /// How long the place that is tried now is waited for.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let rest = self.until.saturating_duration_since(now);
        if self.left.is_empty() {
            rest
        } else {
            rest.min(SILENCE)
        }
    }
}

impl Core {
    /// The first target of a request and those after it; `Err`: status for a known peer, and word for the counter.
    pub(crate) fn aim(
        &mut self,
        source: &Source,
        request: &Request,
    ) -> Result<(Target, Tries), (u16, &'static str)> {
        let mut tries = self.tries(source, request)?;
        let first = tries.left.pop_front().ok_or((503, "no-way"))?;
        Ok((first, tries))
    }

    fn tries(&mut self, source: &Source, request: &Request) -> Result<Tries, (u16, &'static str)> {
        let calling = target::dialled(&request.headers.from.uri);
        let called = target::dialled(&request.uri);
        // Nobody speaks for another account than the one that it registered.
        if source.peer == Peer::Stranger && !self.registration.speaks_for(&source.flow, &calling) {
            return Err((403, "not-the-account"));
        }
        if source.peer == Peer::Stranger && self.cx.surroundings.registrar().is_some() {
            let ours = request
                .uri
                .host()
                .is_some_and(|host| self.cx.surroundings.is_our_host(&host.to_string()));
            if !ours || called.len() > 64 {
                return Err((404, "not-our-domain"));
            }
            let targets = target::to_registrar(&self.cx, &calling, &called);
            return Ok(Tries::new(self.cx.now, targets, Vec::new()));
        }
        let bindings = &self.registration.bindings;
        let from = (source.peer, &source.flow);
        // A message takes no place among calls.
        let limits = (0, true);
        let to = (calling.as_str(), &request.uri);
        let way = target::find(&mut self.cx, bindings, from, to, limits)
            .map_err(|none| (none.status, none.reason))?;
        Ok(Tries::new(self.cx.now, way.targets, way.failover))
    }
}
