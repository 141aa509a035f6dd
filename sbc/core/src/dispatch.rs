//! A message from the network: parsed, judged by its source, handed to whom it is for. RFC 3261 §8.2 and §16.3.
//!
//! A stranger is answered by nobody but the registrar (through us); everything else of a stranger is silence: a counter
//! and a log line, no octet. Known peers get the status that their request deserves.

use broker_proto::settings::Transport;
use sbc_sip::{
    message::{Framing, Message, Request},
    method::Method,
    status::StatusCode,
    verdict::{Abilities, Refusal, judge},
};

use crate::{
    admission::{self, Shed},
    call::leg::Leg,
    core::Core,
    event::Event,
    outgoing::{self, Answer},
    registration::{self, CACHED, refresh::Reach},
    surroundings::Peer,
    target, transactions,
    transport::{self, Flow, NextHop},
};

/// Seconds after which a peer that was refused for load may try again.
const RETRY_AFTER: u32 = 5;

/// What we can do.
const ABILITIES: Abilities<'static> = Abilities {
    extensions: &outgoing::EXTENSIONS,
    methods: &outgoing::METHODS,
    bodies: &[
        ("application", "sdp"),
        ("application", "dtmf-relay"),
        ("application", "dtmf"),
        ("message", "sipfrag"),
        ("application", "media_control+xml"),
        ("application", "simple-message-summary"),
        ("application", "pidf+xml"),
        ("application", "dialog-info+xml"),
        ("application", "conference-info+xml"),
        ("text", "plain"),
    ],
};

/// Who sent something, as far as admission cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) flow: Flow,
    pub(crate) peer: Peer,
    /// It has a live binding.
    pub(crate) registered: bool,
    /// It speaks in a dialog that is its own.
    pub(crate) in_dialog: bool,
}

impl Source {
    /// Whether it may speak in a dialog: a client by the way that the dialog came by and no other, a carrier from any of
    /// its addresses, the organisation's own hosts for each other (the PBX hands calls on to phones).
    pub(crate) fn may_speak(&self, leg: &Leg) -> bool {
        if leg.hop.zone() != self.flow.zone {
            return false;
        }
        match leg.peer {
            Peer::Stranger => {
                self.flow.peer == leg.hop.peer()
                    && matches!(leg.hop, NextHop::Flow(flow) if flow.connection == self.flow.connection)
            }
            Peer::Registrar | Peer::Internal => {
                matches!(self.peer, Peer::Registrar | Peer::Internal)
            }
            Peer::Trunk(_) => self.peer == leg.peer,
        }
    }

    /// Not a stranger.
    pub(crate) fn is_known(&self) -> bool {
        self.registered || self.in_dialog || self.peer != Peer::Stranger
    }
}

impl Core {
    pub(crate) fn datagram(&mut self, flow: Flow, bytes: &[u8]) {
        // Keep-alives of clients behind a translator: line ends are nothing to answer on UDP.
        if bytes.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0))
            || self.registration.stun(&mut self.cx, &flow, bytes)
        {
            return;
        }
        self.message(flow, bytes);
    }

    /// One message's octets.
    pub(crate) fn message(&mut self, flow: Flow, bytes: &[u8]) {
        let registered = self.registration.bindings.is_registered(&flow);
        let source = Source {
            flow,
            peer: self.cx.surroundings.peer(flow.zone, flow.peer.ip()),
            registered,
            in_dialog: false,
        };
        let limits = outgoing::limits(self.cx.settings().limits.message_octets);
        // Over WebSocket the frame says where the message ends (RFC 7118 §4): Content-Length may be missing.
        let framing = if flow.connection.is_some() && !flow.transport.is_websocket() {
            Framing::Stream
        } else {
            Framing::Datagram
        };
        let tag = self.cx.identity.tag();
        let parsed = outgoing::parse(bytes, &limits, framing, (&tag, flow.peer));
        match parsed {
            Ok(Message::Request(mut request)) => {
                if source.is_known() {
                    let begins =
                        request.method == Method::Invite && request.headers.to.tag().is_none();
                    let call_id = request.headers.call_id.text();
                    self.cx.heard(flow.into(), call_id, begins, bytes);
                }
                self.reuse(source, &request);
                outgoing::note_source(&mut request.headers.vias, flow.peer);
                self.request(source, *request);
            }
            Ok(Message::Response(response)) => {
                if source.is_known() {
                    let call_id = response.headers.call_id.text();
                    self.cx.heard(flow.into(), call_id, false, bytes);
                }
                if !transactions::receive_response(&mut self.cx, &flow, response) {
                    self.cx
                        .counters
                        .count("sip_refused_total", "reason", "stray-response");
                }
            }
            Err(offence) => self.malformed(source, &offence),
        }
    }

    /// Take note of a connection that its peer lets us use: a trunk's over TLS, which has shown its certificate. RFC 5923.
    fn reuse(&mut self, source: Source, request: &Request) {
        let proved = source.flow.transport == Transport::Tls
            && matches!(source.peer, Peer::Trunk(_) | Peer::Registrar);
        if let (true, Some(via)) = (proved, request.top_via())
            && via.params.has("alias")
        {
            transport::reuse(&mut self.cx, source.flow, via.port());
        }
    }

    /// A message that breaks the grammar. RFC 3261 §8.2 wants a 400; it is given to a source that has shown itself honest: a
    /// peer, a phone that is registered or has a call, a connection (its address is its own). To anybody else silence.
    fn malformed(&mut self, source: Source, offence: &outgoing::Malformed) {
        let address = source.flow.peer.ip();
        let honest = source.is_known()
            || source.flow.connection.is_some()
            || self.per_source.contains_key(&admission::aggregate(address));
        let known = source.is_known();
        if let (true, Some(bytes)) = (honest, &offence.answer)
            && self.rates.request(self.cx.now, address, known).is_ok()
        {
            let hop = NextHop::Flow(source.flow);
            let _unreachable = transport::send(&mut self.cx, &hop, None, bytes.clone());
        }
        self.refuse_silently(source, offence.reason);
        if let (true, Some(connection)) = (offence.framing_lost, source.flow.connection) {
            self.close_stream(connection);
        }
    }

    /// Count a message that is not answered, and tell of it.
    pub(crate) fn refuse_silently(&mut self, source: Source, reason: &'static str) {
        self.cx
            .counters
            .count("sip_refused_total", "reason", reason);
        let flow = &source.flow;
        self.cx.event(&Event::Drop { flow, reason });
        // A stranger that gets no answer keeps no connection either.
        if let (false, Some(connection)) = (source.is_known(), source.flow.connection) {
            self.close_stream(connection);
        }
    }

    fn request(&mut self, source: Source, request: Request) {
        let method = outgoing::method_word(&request.method);
        self.cx
            .counters
            .count("sip_requests_total", "method", method);
        let user = request
            .headers
            .from
            .uri
            .user()
            .map_or("", |user| user.as_str());
        let tag = request.headers.from.tag().map_or("", |tag| tag.as_str());
        if admission::is_scanner(outgoing::user_agent(&request), user, tag) {
            self.refuse_silently(source, "scanner");
            return;
        }
        if self.refreshed(source, &request)
            || transactions::absorb(&mut self.cx, &source.flow, &request)
        {
            return;
        }
        match &request.method {
            Method::Ack => self.ack(source, &request),
            _ if request.headers.to.tag().is_some() && request.method != Method::Cancel => {
                self.in_dialog(source, &request);
            }
            _ => self.outside_dialog(source, &request),
        }
    }

    /// Open a server transaction, if there is room.
    pub(crate) fn serve(&mut self, source: Source, request: &Request) -> Option<u64> {
        let server = transactions::receive_request(&mut self.cx, source.flow, request);
        if server.is_none() {
            self.refuse_without_transaction(source, request, "transactions-full");
        }
        server
    }

    /// There is no room for a transaction: a known peer is told once when to come again, which costs nothing to remember
    /// (RFC 3261 §8.2.7); its repetitions are told again.
    fn refuse_without_transaction(
        &mut self,
        source: Source,
        request: &Request,
        reason: &'static str,
    ) {
        if !source.is_known() {
            self.refuse_silently(source, reason);
        } else {
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after: Some(RETRY_AFTER),
                ..Answer::default()
            };
            self.refused_event(source, request, reason, answer.status);
            let tag = self.cx.identity.tag();
            transactions::respond_statelessly(&mut self.cx, &source.flow, request, &tag, answer);
        }
    }

    /// Answer a request of a known peer with a status alone; a stranger's with silence.
    pub(crate) fn refuse(
        &mut self,
        source: Source,
        request: &Request,
        status: u16,
        reason: &'static str,
    ) {
        self.refuse_with(
            source,
            request,
            reason,
            Answer {
                status: outgoing::status(status),
                ..Answer::default()
            },
        );
    }

    pub(crate) fn refuse_with(
        &mut self,
        source: Source,
        request: &Request,
        reason: &'static str,
        answer: Answer<'_>,
    ) {
        if !source.is_known() {
            self.refuse_silently(source, reason);
            return;
        }
        self.refused_event(source, request, reason, answer.status);
        let decision = format!("refused: {} {reason}", answer.status.as_u16());
        self.cx.decided(request.headers.call_id.text(), &decision);
        if let Some(server) = self.serve(source, request) {
            transactions::respond(&mut self.cx, server, answer);
        }
    }

    /// A request of a known peer gets a status that refuses it.
    fn refused_event(
        &mut self,
        source: Source,
        request: &Request,
        reason: &'static str,
        status: StatusCode,
    ) {
        self.cx
            .counters
            .count("sip_refused_total", "reason", reason);
        let (flow, status) = (&source.flow, status.as_u16());
        if request.method != Method::Invite || request.headers.to.tag().is_some() {
            let method = outgoing::method_word(&request.method);
            self.cx.event(&Event::Refused {
                flow,
                method,
                status,
                reason,
            });
            return;
        }
        let id = self.cx.name_refused(request.headers.call_id.text());
        self.cx.event(&Event::CallRefused {
            id,
            flow,
            calling: &target::dialled(&request.headers.from.uri),
            called: &target::dialled(&request.uri),
            call_id: request.headers.call_id.text(),
            status,
            reason,
        });
    }

    fn ack(&mut self, source: Source, request: &Request) {
        if let Some((call, side)) = self.dialog(source, request)
            && let Some(call) = self.calls.get_mut(&call)
        {
            call.ack(&mut self.cx, side, request);
        }
    }

    /// The call and leg of a request inside a dialog, if it comes from where the dialog's far end is.
    fn dialog(&self, source: Source, request: &Request) -> Option<(u64, sbc_media::relay::Side)> {
        let key = (
            request.headers.call_id.text().to_string(),
            request.headers.to.tag()?.to_string(),
        );
        let (call, side) = self.cx.dialogs.get(&key).copied()?;
        self.calls
            .get(&call)?
            .may_speak(side, &source)
            .then_some((call, side))
    }

    fn in_dialog(&mut self, mut source: Source, request: &Request) {
        let Some((id, side)) = self.dialog(source, request) else {
            if self.in_subscription(source, request) {
                return;
            }
            self.refuse(source, request, 481, "no-dialog");
            return;
        };
        source.in_dialog = true;
        if self.bad_basics(source, request) {
            return;
        }
        let Some(server) = self.serve(source, request) else {
            return;
        };
        if let Some(call) = self.calls.get_mut(&id) {
            call.request(&mut self.cx, side, server, request);
        }
    }

    fn outside_dialog(&mut self, source: Source, request: &Request) {
        // A REGISTER has rates of its own, and a cry for help has none.
        let known = source.is_known();
        if (known || request.method != Method::Register)
            && self.spared(&source, request).is_none()
            && let Err(shed) = self
                .rates
                .request(self.cx.now, source.flow.peer.ip(), known)
        {
            self.shed(source, request, shed);
            return;
        }
        if request.method != Method::Cancel {
            // Room is kept for what ends calls.
            if self.cx.transactions.is_crowded() {
                self.refuse_without_transaction(source, request, "transactions-crowded");
                return;
            }
            if self.bad_basics(source, request) {
                return;
            }
        }
        // RFC 3261 §8.2.2.2: the same request by another path. §16.3: one of ours that has come back.
        for (bad, reason) in [
            (self.cx.transactions.is_merged(request), "merged"),
            (self.cx.transactions.is_looped(request), "loop"),
        ] {
            if bad {
                self.refuse(source, request, 482, reason);
                return;
            }
        }
        match request.method {
            Method::Invite => self.invite(source, request),
            Method::Cancel => self.cancel(source, request),
            Method::Register => self.register(source, request),
            Method::Options => self.options(source, request),
            Method::Subscribe => self.subscribe(source, request),
            Method::Message => self.message_request(source, request),
            Method::Publish => self.publish_request(source, request),
            Method::Notify => self.notify_request(source, request),
            _ => self.refuse(source, request, 481, "no-dialog"),
        }
    }

    /// There is too much to do: known peers are told when to come again.
    pub(crate) fn shed(&mut self, source: Source, request: &Request, shed: Shed) {
        let answer = Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(RETRY_AFTER),
            ..Answer::default()
        };
        if source.is_known() {
            let (flow, reason) = (&source.flow, shed.word());
            self.cx.event(&Event::Limit {
                flow,
                reason,
                subject: None,
            });
        }
        self.refuse_with(source, request, shed.word(), answer);
    }

    fn cancel(&mut self, source: Source, request: &Request) {
        let Some(invite) = transactions::invite_of_cancel(&self.cx, &source.flow, request) else {
            self.refuse(source, request, 481, "no-transaction");
            return;
        };
        // What takes a call back is never refused for want of room.
        match transactions::receive_request(&mut self.cx, source.flow, request) {
            Some(server) => transactions::respond_plain(&mut self.cx, server, 200),
            None => {
                let answer = Answer {
                    status: StatusCode::OK,
                    ..Answer::default()
                };
                let tag = self.cx.identity.tag();
                transactions::respond_statelessly(
                    &mut self.cx,
                    &source.flow,
                    request,
                    &tag,
                    answer,
                );
            }
        }
        let call = transactions::call_of(&self.cx, invite);
        if let Some(call) = call.and_then(|call| self.calls.get_mut(&call)) {
            call.cancel(&mut self.cx, invite, request);
        }
    }

    fn register(&mut self, source: Source, request: &Request) {
        let internal = source.peer == Peer::Internal;
        let admitted = self.registration.admit(
            &mut self.cx,
            &source.flow,
            request,
            (source.is_known(), internal),
        );
        if let Err(reason) = admitted {
            match source.is_known() {
                _ if reason == CACHED => {}
                // It was told when to come back.
                true => {
                    let status = StatusCode::SERVICE_UNAVAILABLE;
                    self.refused_event(source, request, reason, status);
                }
                false => self.refuse_silently(source, reason),
            }
            return;
        }
        let may = registration::may_register(source.peer);
        let Some(server) = self.serve(source, request) else {
            return;
        };
        self.registration.request(
            &mut self.cx,
            server,
            source.flow,
            request,
            (source.is_known(), may),
        );
    }

    /// Answer a short refresh of a phone without the registrar and without a transaction: its repetition is told by the
    /// binding.
    fn refreshed(&mut self, source: Source, request: &Request) -> bool {
        source.registered
            && request.method == Method::Register
            && judge(request, &ABILITIES).is_ok()
            && self
                .registration
                .refresh(&mut self.cx, &source.flow, request, Reach::Half)
    }

    fn options(&mut self, source: Source, request: &Request) {
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        if let Some(server) = self.serve(source, request) {
            let answer = Answer {
                status: StatusCode::OK,
                allow: true,
                accept: true,
                ..Answer::default()
            };
            transactions::respond(&mut self.cx, server, answer);
        }
    }

    /// What any request must get right, in the order of RFC 3261 §8.2. `true`: it was refused.
    pub(crate) fn bad_basics(&mut self, source: Source, request: &Request) -> bool {
        let Err(refusal) = judge(request, &ABILITIES) else {
            return false;
        };
        let mut answer = Answer {
            status: refusal.status(),
            ..Answer::default()
        };
        let reason = refusal.reason();
        match refusal {
            Refusal::MethodNotAllowed | Refusal::MethodUnknown => answer.allow = true,
            Refusal::BodyType | Refusal::NothingAcceptable => answer.accept = true,
            Refusal::Extensions(tags) => answer.unsupported = tags,
            Refusal::UnknownCredentials => {
                answer.challenges = self.registration.challenge(&mut self.cx)
            }
            Refusal::Body | Refusal::Scheme | Refusal::NoAccount | Refusal::TooManyHops => {}
        }
        self.refuse_with(source, request, reason, answer);
        true
    }
}
