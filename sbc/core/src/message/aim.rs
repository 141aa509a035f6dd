//! Where a request beside calls goes: the PBX's to the phone behind a contact of ours, a registered phone's to the PBX
//! whatever it is about (addresses there need be no numbers), everybody else's by the routes.

use sbc_sip::message::Request;

use crate::{
    core::Core,
    dispatch::Source,
    surroundings::Peer,
    target::{self, Target},
};

impl Core {
    /// The target of a request; `Err`: status for a known peer, and word for the counter.
    pub(crate) fn aim(
        &mut self,
        source: &Source,
        request: &Request,
    ) -> Result<Target, (u16, &'static str)> {
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
            return targets.into_iter().next().ok_or((503, "no-way"));
        }
        let bindings = &self.registration.bindings;
        let from = (source.peer, &source.flow);
        // A message takes no place among calls.
        let limits = (0, true);
        let to = (calling.as_str(), &request.uri);
        let way = target::find(&mut self.cx, bindings, from, to, limits)
            .map_err(|none| (none.status, none.reason))?;
        way.targets.into_iter().next().ok_or((503, "no-way"))
    }
}
