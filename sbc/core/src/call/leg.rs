//! A leg: one dialog with its own Call-ID, tags, CSeq, Via and Contact. RFC 3261 §12. Made by a call, two at most in each.

use sbc_media::relay::Side;
use sbc_sip::{
    headers::NameAddr,
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
    uri::SipUri,
};

use super::ability::Ability;
use crate::{
    context::Context, offer_answer::OwnDescription, outgoing, stream_leg::Reach,
    surroundings::Peer, transport::NextHop,
};

/// One dialog, from INVITE on.
pub(crate) struct Leg {
    /// Where the dialog was set up to; its requests go there unless the far end's route set says better and is believed.
    pub(crate) hop: NextHop,
    /// Who the far end is.
    pub(crate) peer: Peer,
    /// Call-ID: the far end's on a leg that came in, our own on one that went out.
    pub(crate) call_id: String,
    pub(crate) own_tag: String,
    pub(crate) remote_tag: Option<String>,
    /// From of our requests, without tag.
    pub(crate) own: NameAddr,
    /// To of our requests, without tag.
    pub(crate) other: NameAddr,
    own_cseq: u32,
    remote_cseq: Option<u32>,
    routes: Vec<NameAddr>,
    remote_target: Option<SipUri>,
    /// Our descriptions towards the far end.
    pub(crate) description: OwnDescription,
    /// The far end's last description.
    pub(crate) described: Option<SessionDescription>,
    /// What the far end can do.
    pub(crate) ability: Ability,
    /// We made the Call-ID.
    pub(crate) owns_call_id: bool,
    /// A 2xx to INVITE was sent or received.
    pub(crate) confirmed: bool,
    /// BYE was sent or received.
    pub(crate) over: bool,
    /// The last ACK, sent again for each repeated 2xx, and its CSeq.
    pub(crate) acknowledged: Option<(u32, Request)>,
}

impl Leg {
    /// A leg towards a far end, before any message of it.
    pub(crate) fn new(
        cx: &mut Context,
        hop: NextHop,
        peer: Peer,
        call_id: String,
        own: NameAddr,
        other: NameAddr,
    ) -> Self {
        Self {
            hop,
            peer,
            call_id,
            own_tag: cx.identity.tag(),
            remote_tag: None,
            own,
            other,
            own_cseq: 0,
            remote_cseq: None,
            routes: Vec::new(),
            remote_target: None,
            description: OwnDescription::new(cx.identity.number()),
            described: None,
            ability: Ability::default(),
            owns_call_id: true,
            confirmed: false,
            over: false,
            acknowledged: None,
        }
    }

    /// Another dialog of the same INVITE, to be ended at once.
    pub(crate) fn stray(&self) -> Self {
        Self {
            hop: self.hop,
            peer: self.peer,
            call_id: self.call_id.clone(),
            own_tag: self.own_tag.clone(),
            remote_tag: None,
            own: self.own.clone(),
            other: self.other.clone(),
            own_cseq: self.own_cseq,
            remote_cseq: None,
            routes: Vec::new(),
            remote_target: None,
            description: OwnDescription::new(0),
            described: None,
            ability: self.ability,
            owns_call_id: self.owns_call_id,
            confirmed: true,
            over: false,
            acknowledged: None,
        }
    }

    /// Make the dialog findable by Call-ID and own tag.
    pub(crate) fn enter(&self, cx: &mut Context, call: u64, side: Side) {
        cx.dialogs
            .insert((self.call_id.clone(), self.own_tag.clone()), (call, side));
    }

    pub(crate) fn leave(&self, cx: &mut Context) {
        cx.dialogs
            .remove(&(self.call_id.clone(), self.own_tag.clone()));
    }

    /// What is known about the way to the far end's media.
    pub(crate) fn reach(&self) -> Reach {
        Reach {
            signalling: self.hop.peer().ip(),
            client: self.peer == Peer::Stranger,
        }
    }

    /// Take remote target and route set from the INVITE that makes this dialog. RFC 3261 §12.1.1.
    pub(crate) fn adopt_request(&mut self, request: &Request) {
        self.remote_tag = request.headers.from.tag().map(|tag| tag.to_string());
        self.remote_cseq = Some(request.headers.cseq.number);
        self.owns_call_id = false;
        self.ability.learn(&request.headers);
        self.routes = request.headers.record_routes.to_vec();
        self.refresh_target_from(&request.headers.contacts);
    }

    /// Take remote target and route set from a response to our INVITE. RFC 3261 §12.1.2.
    pub(crate) fn adopt_response(&mut self, response: &Response) {
        self.remote_tag = response.headers.to.tag().map(|tag| tag.to_string());
        self.ability.learn(&response.headers);
        self.routes = response
            .headers
            .record_routes
            .iter()
            .rev()
            .cloned()
            .collect();
        self.refresh_target_from(&response.headers.contacts);
    }

    /// The far end moves within the dialog (target refresh, RFC 3261 §12.2).
    pub(crate) fn refresh_target_from(&mut self, contacts: &[NameAddr]) {
        if let Some(uri) = contacts.first().and_then(|contact| contact.uri.sip()) {
            self.remote_target = Some(uri.as_request_uri().detached());
        }
    }

    /// Whether a request's CSeq comes after all before it; notes it. RFC 3261 §12.2.2.
    pub(crate) fn in_order(&mut self, cseq: u32) -> bool {
        let later = self.remote_cseq.is_none_or(|last| cseq > last);
        if later {
            self.remote_cseq = Some(cseq);
        }
        later
    }

    /// Where the far end is, as it says.
    pub(crate) const fn target(&self) -> Option<&SipUri> {
        self.remote_target.as_ref()
    }

    /// CSeq of the last request that we sent.
    pub(crate) const fn own_cseq(&self) -> u32 {
        self.own_cseq
    }

    /// Take the next CSeq.
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.own_cseq = self.own_cseq.saturating_add(1);
        self.own_cseq
    }

    /// A request of ours inside the dialog, and the way that it goes.
    pub(crate) fn request(&mut self, cx: &mut Context, method: Method) -> (NextHop, Request) {
        let cseq = match method {
            Method::Ack => self.own_cseq,
            _ => self.next_cseq(),
        };
        self.request_numbered(cx, method, cseq)
    }

    /// The same with a CSeq given: an ACK bears that of its INVITE.
    pub(crate) fn request_numbered(
        &self,
        cx: &mut Context,
        method: Method,
        cseq: u32,
    ) -> (NextHop, Request) {
        self.request_as(cx, method, cseq, &self.own_tag)
    }

    /// The same under another tag of ours: in an early dialog that is not the first.
    pub(crate) fn request_as(
        &self,
        cx: &mut Context,
        method: Method,
        cseq: u32,
        own_tag: &str,
    ) -> (NextHop, Request) {
        let hop = self.next_hop(cx);
        let uri = self
            .remote_target
            .clone()
            .or_else(|| self.other.uri.sip().cloned());
        let draft = outgoing::RequestDraft {
            method,
            uri: uri.unwrap_or_else(|| outgoing::uri_of(hop.peer())),
            from: self.own.clone().with_tag(own_tag),
            to: match &self.remote_tag {
                Some(tag) => self.other.clone().with_tag(tag.as_str()),
                None => self.other.clone(),
            },
            call_id: &self.call_id,
            cseq,
            max_forwards: 70,
            routes: &self.routes,
        };
        let request = outgoing::request(cx, &hop, draft);
        (hop, request)
    }

    /// Where requests of this dialog go: what its route set or remote target says, as far as that is believed of this
    /// far end, otherwise back the way that the dialog came. A client is never believed: it may sit behind a translator,
    /// and its Contact must not aim us at anybody else.
    fn next_hop(&self, cx: &Context) -> NextHop {
        let first = self
            .routes
            .first()
            .and_then(|route| route.uri.sip())
            .or(self.remote_target.as_ref());
        let Some((uri, address)) = first.and_then(|uri| Some((uri, uri.host.address()?))) else {
            return self.hop;
        };
        let zone = self.hop.zone();
        let believed = match self.peer {
            Peer::Stranger => false,
            Peer::Registrar | Peer::Internal => cx.surroundings.in_networks(zone, address),
            Peer::Trunk(_) => cx.surroundings.peer(zone, address) == self.peer,
        };
        if !believed || cx.surroundings.is_own(address) {
            return self.hop;
        }
        let peer = std::net::SocketAddr::new(address, uri.port.unwrap_or(5060));
        let transport = outgoing::transport_of(uri);
        if transport == self.hop.transport() && peer == self.hop.peer() {
            return self.hop;
        }
        if transport != broker_proto::settings::Transport::Udp && address == self.hop.peer().ip() {
            // The stream that stands is better than one that would have to be made.
            return self.hop;
        }
        NextHop::Address {
            zone,
            transport,
            peer,
        }
    }
}
