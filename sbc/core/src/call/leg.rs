//! A leg: one dialog (RFC 3261 §12, `sbc_sip::dialog`) with the way that it goes and what its far end can do. Made by a
//! call, two at most in each, and one for each early dialog.

use std::collections::VecDeque;

use sbc_media::relay::Side;
use sbc_sip::{
    dialog::Dialog,
    headers::{CallId, Headers, NameAddr, SessionId},
    message::{Request, Response},
    method::Method,
    sdp::SessionDescription,
    uri::SipUri,
};

use super::ability::Ability;
use crate::{
    context::Context,
    offer_answer::OwnDescription,
    outgoing,
    policy::{self, formats, session_id},
    stream_leg::Reach,
    surroundings::Peer,
    transport::NextHop,
};

/// ACKs that are kept: INVITEs of one leg whose 2xx may still come again, ever less likely.
const ACKS: usize = 3;

/// One dialog, from INVITE on.
pub(crate) struct Leg {
    /// Where the dialog was set up to; its requests go there unless the far end's route set says better and is believed.
    pub(crate) hop: NextHop,
    /// Who the far end is.
    pub(crate) peer: Peer,
    dialog: Dialog,
    /// Our descriptions towards the far end.
    pub(crate) description: OwnDescription,
    /// The far end's last description.
    pub(crate) described: Option<SessionDescription>,
    /// What the far end can do.
    pub(crate) ability: Ability,
    /// The far end's half of the Session-ID; 0 before it is known.
    session: u128,
    /// We made the Call-ID.
    pub(crate) owns_call_id: bool,
    /// A 2xx to INVITE was sent or received.
    pub(crate) confirmed: bool,
    /// BYE was sent or received.
    pub(crate) over: bool,
    /// The last ACKs, sent again for each repeated 2xx, and their CSeq.
    acknowledged: VecDeque<(u32, Box<Request>)>,
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
            dialog: Dialog::new(CallId::new(&call_id), cx.identity.tag(), &own, &other),
            session: 0,
            description: OwnDescription::new(cx.identity.number()),
            described: None,
            ability: Ability::default(),
            owns_call_id: true,
            confirmed: false,
            over: false,
            acknowledged: VecDeque::new(),
        }
    }

    /// Another dialog of the same INVITE, to be ended at once.
    pub(crate) fn stray(&self) -> Self {
        Self {
            hop: self.hop,
            peer: self.peer,
            dialog: self.dialog.forked(),
            session: self.session,
            description: OwnDescription::new(0),
            described: None,
            ability: self.ability,
            owns_call_id: self.owns_call_id,
            confirmed: true,
            over: false,
            acknowledged: VecDeque::new(),
        }
    }

    /// Call-ID: the far end's on a leg that came in, our own on one that went out.
    pub(crate) fn call_id(&self) -> &str {
        self.dialog.call_id().text()
    }

    /// What both ends of this leg agreed on for its media.
    pub(crate) fn codecs(&self) -> String {
        match (self.description.last(), &self.described) {
            (Some(own), Some(theirs)) => formats::agreed(own, theirs),
            _ => String::new(),
        }
    }

    /// Our tag.
    pub(crate) fn own_tag(&self) -> &str {
        self.dialog.local_tag()
    }

    /// The far end's tag, as soon as it has one.
    pub(crate) fn remote_tag(&self) -> Option<&str> {
        self.dialog.remote_tag().map(|tag| tag.as_str())
    }

    /// Our address in the dialog.
    pub(crate) const fn own(&self) -> &NameAddr {
        self.dialog.local()
    }

    /// The far end's address in the dialog.
    pub(crate) const fn other(&self) -> &NameAddr {
        self.dialog.remote()
    }

    /// The ACK for the 2xx of that CSeq.
    pub(crate) fn ack_of(&self, cseq: u32) -> Option<&Request> {
        let mut acks = self.acknowledged.iter();
        acks.find(|(have, _)| *have == cseq).map(|(_, ack)| &**ack)
    }

    /// Keep an ACK: a 2xx may come again after those of later requests.
    pub(crate) fn keep_ack(&mut self, cseq: u32, ack: Request) {
        if self.acknowledged.len() >= ACKS {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back((cseq, Box::new(ack)));
    }

    /// Another tag of ours, while none is told yet.
    pub(crate) fn set_own_tag(&mut self, tag: &str) {
        self.dialog.set_local_tag(tag);
    }

    /// Whether a request comes from the dialog's far end.
    pub(crate) fn is_from_remote(&self, request: &Request) -> bool {
        self.dialog.is_from_remote(request)
    }

    /// Make the dialog findable by Call-ID and own tag.
    pub(crate) fn enter(&self, cx: &mut Context, call: u64, side: Side) {
        cx.dialogs.insert(self.name(), (call, side));
        cx.traces.belongs(self.call_id(), call);
    }

    pub(crate) fn leave(&self, cx: &mut Context) {
        cx.dialogs.remove(&self.name());
    }

    fn name(&self) -> (String, String) {
        (self.call_id().to_owned(), self.own_tag().to_owned())
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
        self.owns_call_id = false;
        self.ability.learn(&request.headers);
        self.learn_session(&request.headers);
        self.dialog.handle_first_request(request);
    }

    /// Take remote target and route set from a response to our INVITE. RFC 3261 §12.1.2.
    pub(crate) fn adopt_response(&mut self, response: &Response) {
        self.ability.learn(&response.headers);
        self.learn_session(&response.headers);
        self.dialog.handle_first_response(response);
    }

    fn learn_session(&mut self, headers: &Headers) {
        let theirs = headers.session_id().and_then(SessionId::local_number);
        self.session = theirs.unwrap_or(self.session);
    }

    /// The far end moves within the dialog (target refresh, RFC 3261 §12.2).
    pub(crate) fn refresh_target_from(&mut self, contacts: &[NameAddr]) {
        self.dialog.refresh_target(contacts);
    }

    /// Whether a request's CSeq comes after all before it; notes it. RFC 3261 §12.2.2.
    pub(crate) fn in_order(&mut self, cseq: u32) -> bool {
        self.dialog.is_in_order(cseq)
    }

    /// Where the far end is, as it says.
    pub(crate) const fn target(&self) -> Option<&SipUri> {
        self.dialog.remote_target()
    }

    /// CSeq of the last request that we sent.
    pub(crate) const fn own_cseq(&self) -> u32 {
        self.dialog.local_cseq()
    }

    /// Take the next CSeq.
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.dialog.next_cseq()
    }

    /// A request of ours inside the dialog, and the way that it goes.
    pub(crate) fn request(&mut self, cx: &mut Context, method: Method) -> (NextHop, Request) {
        let cseq = match method {
            Method::Ack => self.own_cseq(),
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
        let hop = self.next_hop(cx);
        let via = outgoing::via(cx, &hop);
        let mut request = outgoing::signed(self.dialog.request(method, cseq, via));
        let rules = policy::rules(&cx.surroundings, self.peer, hop.zone());
        let session = session_id::of_request(&rules, &cx.identity, self.call_id(), self.session);
        request.headers.fields.extend(session);
        (hop, request)
    }

    /// The same under another tag of ours: in an early dialog that is not the first.
    pub(crate) fn request_as(
        &self,
        cx: &mut Context,
        method: Method,
        cseq: u32,
        own_tag: &str,
    ) -> (NextHop, Request) {
        let (hop, mut request) = self.request_numbered(cx, method, cseq);
        request.headers.from = request.headers.from.with_tag(own_tag);
        (hop, request)
    }

    /// Where requests of this dialog go: what its route set or remote target says, as far as that is believed of this
    /// far end, otherwise back the way that the dialog came. A client is never believed: it may sit behind a translator,
    /// and its Contact must not aim us at anybody else.
    fn next_hop(&self, cx: &Context) -> NextHop {
        let first = self.dialog.next_hop();
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
