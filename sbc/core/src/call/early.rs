//! Early dialogs: each that the callee's side makes is one of ours towards the caller, under a tag of its own. RFC 3261
//! §12.1 and §13.2.2.4, RFC 3960 (the description that came last is the one that is heard), RFC 6228 (199).

use sbc_media::relay::Side;
use sbc_sip::{
    message::{Request, Response},
    sdp::SessionDescription,
};

use super::{Call, FORKS, leg::Leg, reliable::Reliable};
use crate::context::Context;

/// A callee's early dialog and the caller's that stands for it.
pub(super) struct Fork {
    pub(super) remote_tag: String,
    pub(super) own_tag: String,
    /// Our dialog with the callee.
    pub(super) dialog: Leg,
    /// CSeq of the last request of the caller, of the callee.
    pub(super) heard: (Option<u32>, Option<u32>),
    /// The callee's description.
    pub(super) described: Option<SessionDescription>,
    /// The callee's answer came in a response that we confirmed: it stands, whatever the 2xx says.
    pub(super) firm: bool,
    /// The caller confirmed the response with its answer.
    pub(super) told: bool,
    /// RSeq of the callee's last reliable response.
    pub(super) rseq: Option<u32>,
    /// The callee's response whose PRACK waits for the caller's.
    pub(super) unconfirmed: Option<u32>,
    /// Reliable responses to the caller.
    pub(super) reliable: Reliable,
}

impl Fork {
    /// Whether a request comes after all before it from that side; notes it. RFC 3261 §12.2.2.
    pub(super) fn in_order(&mut self, side: Side, cseq: u32) -> bool {
        let last = match side {
            Side::A => &mut self.heard.0,
            Side::B => &mut self.heard.1,
        };
        let later = last.is_none_or(|last| cseq > last);
        if later {
            *last = Some(cseq);
        }
        later
    }
}

impl Call {
    /// The early dialog of a response by its place; `None`: it has no tag, or there are too many.
    pub(super) fn fork(&mut self, cx: &mut Context, response: &Response) -> Option<usize> {
        let remote_tag = response.headers.to.tag()?.to_string();
        let known = self
            .forks
            .iter()
            .position(|fork| fork.remote_tag == remote_tag);
        if let Some(index) = known {
            if let Some(fork) = self.forks.get_mut(index) {
                fork.dialog.ability.learn(&response.headers);
                fork.dialog.refresh_target_from(&response.headers.contacts);
            }
            return Some(index);
        }
        if self.forks.len() >= FORKS {
            cx.counters.count("sip_forks_refused_total", "", "");
            return None;
        }
        // The caller's tag of an early dialog is never another callee's.
        let own_tag = match std::mem::replace(&mut self.tag_used, true) {
            false => self.a.own_tag().to_owned(),
            true => cx.identity.tag(),
        };
        cx.dialogs.insert(
            (self.a.call_id().to_owned(), own_tag.clone()),
            (self.id, Side::A),
        );
        let mut dialog = self.b.as_ref()?.stray();
        dialog.adopt_response(response);
        let first = 1 + u32::try_from(cx.identity.number() % 1_000_000).unwrap_or(0);
        let caller = self.exchange.as_ref().map(|exchange| exchange.cseq);
        self.forks.push(Fork {
            remote_tag,
            own_tag,
            dialog,
            heard: (caller, None),
            described: None,
            firm: false,
            told: false,
            rseq: None,
            unconfirmed: None,
            reliable: Reliable::new(first),
        });
        Some(self.forks.len() - 1)
    }

    /// The early dialog of a request of `side`, while there is no other dialog.
    pub(super) fn fork_of(&self, side: Side, request: &Request) -> Option<usize> {
        let (to, from) = (request.headers.to.tag()?, request.headers.from.tag()?);
        let mut forks = self.forks.iter();
        match side {
            Side::A if self.a.remote_tag() == Some(from) => {
                forks.position(|fork| fork.own_tag == to.as_str())
            }
            Side::A => None,
            Side::B => forks.position(|fork| fork.remote_tag == from.as_str()),
        }
    }

    /// Of the caller's early dialogs, one becomes the dialog; the others are forgotten.
    pub(super) fn settle_fork(&mut self, cx: &mut Context, index: Option<usize>) {
        let mut forks = std::mem::take(&mut self.forks);
        let settled = index
            .filter(|index| *index < forks.len())
            .map(|index| Box::new(forks.remove(index)));
        for fork in forks {
            cx.dialogs
                .remove(&(self.a.call_id().to_owned(), fork.own_tag));
        }
        if let Some(fork) = &settled {
            self.a.leave(cx);
            self.a.set_own_tag(&fork.own_tag);
            if let Some(cseq) = fork.heard.0 {
                self.a.in_order(cseq);
            }
            if let (Some(leg), Some(cseq)) = (&mut self.b, fork.heard.1) {
                leg.in_order(cseq);
            }
        }
        self.a.enter(cx, self.id, Side::A);
        self.settled = settled;
    }

    /// All early dialogs end with the try at a callee.
    pub(super) fn drop_forks(&mut self, cx: &mut Context) {
        for fork in std::mem::take(&mut self.forks) {
            if fork.own_tag != self.a.own_tag() {
                cx.dialogs
                    .remove(&(self.a.call_id().to_owned(), fork.own_tag));
            }
        }
        self.offer_lost(cx);
    }

    /// An early dialog ended before the others (199).
    pub(super) fn end_fork(&mut self, cx: &mut Context, index: usize) {
        if index >= self.forks.len() {
            return;
        }
        let fork = self.forks.remove(index);
        if fork.own_tag != self.a.own_tag() {
            cx.dialogs
                .remove(&(self.a.call_id().to_owned(), fork.own_tag));
        }
    }
}
