//! Dialogs: RFC 3261 §12. One per leg of a call or subscription, from its first request on: it numbers the requests of its
//! side, checks those of the other, and knows where they go. How far it has come (early, confirmed, over) is its user's to
//! know, because that depends on what is done by it.

mod acceptance;
#[cfg(test)]
mod tests;

pub use acceptance::{Acceptance, AcceptanceStep};

use crate::headers::{CallId, Cseq, Field, Headers, NameAddr, Via};
use crate::message::{Request, Response};
use crate::method::Method;
use crate::text::Text;
use crate::uri::{SipUri, Uri};

/// Highest CSeq. RFC 3261 §8.1.1.5.
const LAST_CSEQ: u32 = (1 << 31) - 1;

/// One end of a dialog. Everything in it is in buffers of its own: it outlives the messages that made it.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: CallId,
    local_tag: Text,
    remote_tag: Option<Text>,
    /// From of our requests, with our tag.
    local: NameAddr,
    /// To of our requests, with the other end's tag as soon as it has one.
    remote: NameAddr,
    remote_target: Option<SipUri>,
    route_set: Vec<NameAddr>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
}

impl Dialog {
    /// An end that has heard nothing of the other yet. `local` and `remote`: From and To of its requests; tags and other
    /// parameters in them are not taken over.
    #[must_use]
    pub fn new(
        call_id: CallId,
        local_tag: impl Into<Text>,
        local: &NameAddr,
        remote: &NameAddr,
    ) -> Self {
        let local_tag = local_tag.into().detached();
        Self {
            call_id: call_id.detached(),
            local: bare(local).with_tag(local_tag.clone()),
            local_tag,
            remote_tag: None,
            remote: bare(remote),
            remote_target: None,
            route_set: Vec::new(),
            local_cseq: 0,
            remote_cseq: None,
        }
    }

    /// The end of another dialog that the same request of ours makes (it forked): all but the other end.
    #[must_use]
    pub fn forked(&self) -> Self {
        Self {
            remote_tag: None,
            remote: bare(&self.remote),
            remote_target: None,
            route_set: Vec::new(),
            remote_cseq: None,
            ..self.clone()
        }
    }

    /// A request came that makes the dialog. RFC 3261 §12.1.1.
    pub fn handle_first_request(&mut self, request: &Request) {
        let headers = &request.headers;
        self.set_remote_tag(headers.from.tag());
        self.remote_cseq = Some(headers.cseq.number);
        self.route_set = headers
            .record_routes
            .iter()
            .map(NameAddr::detached)
            .collect();
        self.refresh_target(&headers.contacts);
    }

    /// A response to our request came that makes the dialog, or confirms it. RFC 3261 §12.1.2 and §13.2.2.4: the route set
    /// is that of the last one.
    pub fn handle_first_response(&mut self, response: &Response) {
        let headers = &response.headers;
        self.set_remote_tag(headers.to.tag());
        self.route_set = headers
            .record_routes
            .iter()
            .rev()
            .map(NameAddr::detached)
            .collect();
        self.refresh_target(&headers.contacts);
    }

    fn set_remote_tag(&mut self, tag: Option<&Text>) {
        self.remote_tag = tag.map(Text::detached);
        if let Some(tag) = &self.remote_tag {
            self.remote
                .params
                .set_plain(Text::from_static("tag"), tag.clone());
        }
    }

    /// Call-ID.
    #[must_use]
    pub const fn call_id(&self) -> &CallId {
        &self.call_id
    }

    /// From of our requests.
    #[must_use]
    pub const fn local(&self) -> &NameAddr {
        &self.local
    }

    /// To of our requests.
    #[must_use]
    pub const fn remote(&self) -> &NameAddr {
        &self.remote
    }

    /// Where the other end is reached, as it says itself.
    #[must_use]
    pub const fn remote_target(&self) -> Option<&SipUri> {
        self.remote_target.as_ref()
    }

    /// Tag of this end.
    #[must_use]
    pub const fn local_tag(&self) -> &Text {
        &self.local_tag
    }

    /// Tag of the other end; none before it is heard, or if it speaks RFC 2543.
    #[must_use]
    pub const fn remote_tag(&self) -> Option<&Text> {
        self.remote_tag.as_ref()
    }

    /// Another tag for this end, before its first response has fixed it.
    pub fn set_local_tag(&mut self, tag: impl Into<Text>) {
        self.local_tag = tag.into().detached();
        self.local
            .params
            .set_plain(Text::from_static("tag"), self.local_tag.clone());
    }

    /// The other end moves: Contact of a target refresh. RFC 3261 §12.2.1.2 and §12.2.2. What is no SIP URI moves nothing.
    pub fn refresh_target(&mut self, contacts: &[NameAddr]) {
        if let Some(uri) = contacts.first().and_then(|contact| contact.uri.sip()) {
            // What a Contact hides in header fields never gets into a request.
            self.remote_target = Some(uri.as_request_uri().detached());
        }
    }

    /// Whether a request with this CSeq comes after all before it; takes note of it. If not: 500. RFC 3261 §12.2.2.
    pub fn is_in_order(&mut self, cseq: u32) -> bool {
        let later = self.remote_cseq.is_none_or(|last| cseq > last);
        if later {
            self.remote_cseq = Some(cseq);
        }
        later
    }

    /// Whether a request is the other end's: its From has the other end's tag. If not: 481. RFC 3261 §12.2.2.
    #[must_use]
    pub fn is_from_remote(&self, request: &Request) -> bool {
        request.headers.from.tag() == self.remote_tag.as_ref()
    }

    /// CSeq of the last request of ours.
    #[must_use]
    pub const fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// CSeq of the next request of ours. ACK and CANCEL take that of their INVITE.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.saturating_add(1).min(LAST_CSEQ);
        self.local_cseq
    }

    /// The URI to which a request is sent: the first route if there is one, else the remote target. RFC 3261 §8.1.2.
    #[must_use]
    pub fn next_hop(&self) -> Option<&SipUri> {
        self.route_set
            .first()
            .and_then(|route| route.uri.sip())
            .or(self.remote_target.as_ref())
    }

    /// A request of our own. RFC 3261 §12.2.1.1. `cseq`: see [`Self::next_cseq`]. The ACK for a 2xx is one with a branch of
    /// its own (§13.2.2.4). Contact is the user's to add, because it depends on the way.
    #[must_use]
    pub fn request(&self, method: Method, cseq: u32, via: Via) -> Request {
        let cseq = Cseq {
            number: cseq,
            method: method.clone(),
        };
        let (local, remote) = (self.local.clone(), self.remote.clone());
        let mut headers = Headers::new(vec![via], local, remote, self.call_id.clone(), cseq);
        headers.push(Field::MaxForwards(70));
        let target = match &self.remote_target {
            Some(target) => Uri::Sip(target.clone()),
            None => self.remote.uri.clone(),
        };
        let first = self.route_set.first().and_then(|route| route.uri.sip());
        let uri = match first {
            // A strict router gets its own URI as Request-URI, the target comes last.
            Some(first) if !first.is_loose_router() => {
                headers
                    .routes
                    .extend(self.route_set.iter().skip(1).cloned());
                headers.routes.extend(match target {
                    Uri::Sip(target) => Some(NameAddr::new(target)),
                    _ => None,
                });
                Uri::Sip(first.as_request_uri())
            }
            _ => {
                headers.routes.clone_from(&self.route_set);
                target
            }
        };
        Request::new(method, uri, headers)
    }
}

/// The address without its parameters, in buffers of its own.
fn bare(address: &NameAddr) -> NameAddr {
    let mut bare = NameAddr::new(address.uri.clone());
    bare.display.clone_from(&address.display);
    bare.detached()
}
