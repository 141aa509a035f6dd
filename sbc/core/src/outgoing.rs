//! Everything that leaves, built from typed fields: requests of our own and responses; and what is read of requests for them.
//! No other module writes a header field (CANCEL and the ACK for a refusal follow from their INVITE by the standard).

use std::net::SocketAddr;

use broker_proto::{policy::AddedField, settings::Transport};
use sbc_sip::{
    Quoted, Value,
    digest::Auth,
    headers::{
        CallId, Cseq, DisplayName, Field, HeaderName, Headers, MediaType, NameAddr, Replaces,
        RetryAfter, Via,
    },
    limits::Limits,
    message::{self, BodyPart, Framing, Message, Request, Response},
    method::Method,
    sdp::SessionDescription,
    status::StatusCode,
    text::Text,
    uri::{Host, SipUri, Uri, escape},
};

use crate::{
    call::Original,
    context::Context,
    offer_answer,
    target::Target,
    transport::{self, NextHop},
};

pub(crate) mod events;

/// The name that we show; never a version.
const PRODUCT: &str = "Gatehouse";
/// Methods that we understand; PUBLISH needs a policy, so it is not among those that are offered.
pub(crate) const METHODS: [Method; 14] = [
    Method::Publish,
    Method::Invite,
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Options,
    Method::Info,
    Method::Register,
    Method::Prack,
    Method::Update,
    Method::Refer,
    Method::Subscribe,
    Method::Notify,
    Method::Message,
];
/// Extensions that we understand wherever a request may require them, and what RFC 5626 and RFC 3327 want of a registrar.
pub(crate) const EXTENSIONS: [&str; 6] = [
    "100rel",
    "timer",
    "replaces",
    "norefersub",
    "outbound",
    "path",
];
/// Characters of a display name that cross.
const DISPLAY: usize = 128;

/// Limits of the parser for a message of at most so many octets.
pub(crate) fn limits(message_octets: u32) -> Limits {
    let most = usize::try_from(message_octets).unwrap_or(usize::MAX);
    let usual = Limits::default();
    Limits {
        message: usual.message.min(most),
        body: usual.body.min(most),
        ..usual
    }
}

/// A message that breaks the grammar, and the answer to give to a peer that we know.
pub(crate) struct Malformed {
    pub(crate) reason: &'static str,
    pub(crate) answer: Option<Vec<u8>>,
    /// Where the next message of its stream begins is not to be known.
    pub(crate) framing_lost: bool,
}

/// Read one message. `tag` and `source`: To tag of the answer to a malformed one, and where it came from.
pub(crate) fn parse(
    bytes: &[u8],
    limits: &Limits,
    framing: Framing,
    (tag, source): (&str, SocketAddr),
) -> Result<Message, Malformed> {
    message::parse(bytes, framing, limits).map_err(|rejected| {
        let salvage = rejected.salvage.filter(|_| !rejected.is_response);
        let answer = salvage.and_then(|mut salvage| {
            note_source(&mut salvage.vias, source);
            salvage.answer(rejected.error.status(), tag, &[("Server", PRODUCT)])
        });
        Malformed {
            reason: rejected.error.reason(),
            answer,
            framing_lost: rejected.error.framing_lost(),
        }
    })
}

/// Note in the top Via where a request came from: RFC 3261 §18.2.1, RFC 3581 §4.
pub(crate) fn note_source(vias: &mut [Via], source: SocketAddr) {
    if let Some(via) = vias.first_mut() {
        via.set_source(source);
    }
}

/// Typed parts of a request of ours.
pub(crate) struct RequestDraft<'a> {
    pub(crate) method: Method,
    pub(crate) uri: SipUri,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: &'a str,
    pub(crate) cseq: u32,
    pub(crate) max_forwards: u8,
    pub(crate) routes: &'a [NameAddr],
}

/// A request of our own with a fresh branch.
pub(crate) fn request(cx: &mut Context, hop: &NextHop, draft: RequestDraft<'_>) -> Request {
    let cseq = Cseq {
        number: draft.cseq,
        method: draft.method.clone(),
    };
    let vias = vec![via(cx, hop)];
    let mut headers = Headers::new(vias, draft.from, draft.to, CallId::new(draft.call_id), cseq);
    headers.routes = draft.routes.to_vec();
    headers.push(Field::MaxForwards(draft.max_forwards));
    signed(Request::new(draft.method, Uri::Sip(draft.uri), headers))
}

/// A Via of our own with a fresh branch.
pub(crate) fn via(cx: &mut Context, hop: &NextHop) -> Via {
    let own = transport::own_address(cx, hop).unwrap_or(hop.peer());
    let branch = cx.identity.branch();
    let mut via = Via::new(transport::via_word(hop.transport()), own.into(), branch);
    if hop.transport() == Transport::Tls && matches!(hop, NextHop::Address { .. }) {
        // RFC 5923 §5.1: the peer may use this connection for its own requests.
        via.params.set_flag(Text::from_static("alias"));
    }
    via
}

/// The same with our name in it.
pub(crate) fn signed(mut request: Request) -> Request {
    request
        .headers
        .push(Field::text(HeaderName::UserAgent, PRODUCT));
    request
}

/// Our contact on the leg that goes by this way.
pub(crate) fn contact(cx: &Context, hop: &NextHop) -> Option<SipUri> {
    let own = transport::own_address(cx, hop)?;
    let uri = uri_of(own);
    Some(match hop.transport() {
        Transport::Udp => uri,
        Transport::Tcp => uri.with_param("transport", "tcp"),
        Transport::Tls => uri.with_param("transport", "tls"),
        // RFC 7118 §5.2.1: one word for both; the far end keeps the connection anyway.
        Transport::Ws | Transport::Wss => uri.with_param("transport", "ws"),
    })
}

/// `sip:address:port`.
pub(crate) fn uri_of(address: SocketAddr) -> SipUri {
    SipUri::new(Host::Address(address.ip())).with_port(address.port())
}

/// The same URI at another address.
pub(crate) fn uri_at(uri: &SipUri, address: SocketAddr) -> SipUri {
    let mut uri = uri.clone();
    uri.host = Host::Address(address.ip());
    uri.with_port(address.port())
}

/// Where we are by our own Via in a response, and where its sender saw us (RFC 3581 §4).
pub(crate) fn seen_at(response: &Response) -> Option<(SocketAddr, SocketAddr)> {
    let via = response.headers.vias.first()?;
    let own = SocketAddr::new(via.sent_by.host.address()?, via.port());
    let seen = via.received()?;
    let port = via.rport().flatten().unwrap_or(own.port());
    Some((own, SocketAddr::new(seen, port)))
}

/// The transport that a URI asks for.
pub(crate) fn transport_of(uri: &SipUri) -> Transport {
    match uri.transport() {
        Some(word) if word.eq_ignore_ascii_case("tcp") => Transport::Tcp,
        Some(word) if word.eq_ignore_ascii_case("tls") => Transport::Tls,
        _ if uri.secure => Transport::Tls,
        _ => Transport::Udp,
    }
}

/// Contact, Allow and the description of an INVITE.
pub(crate) fn finish_invite(
    request: &mut Request,
    contact: Option<SipUri>,
    body: Option<SessionDescription>,
) {
    request.headers.contacts.extend(contact.map(NameAddr::new));
    request.headers.push(allow());
    request.headers.push(accept());
    if let Some(body) = body {
        set_description(request, &body);
    }
}

/// Option tags that the far end may make use of.
pub(crate) fn supported(tags: &[&'static str]) -> Field {
    Field::Supported(tags.iter().map(|tag| Text::from_static(tag)).collect())
}

/// Methods that we offer.
fn allow() -> Field {
    let offered = METHODS.iter().filter(|method| **method != Method::Publish);
    Field::Allow(offered.cloned().collect())
}

/// Bodies that we understand.
fn accept() -> Field {
    Field::Accept(vec![MediaType::sdp(), dtmf_relay()])
}

/// `application/dtmf-relay`.
pub(crate) fn dtmf_relay() -> MediaType {
    MediaType::new(
        Text::from_static("application"),
        Text::from_static("dtmf-relay"),
    )
}

/// Request-URI and hops of a request that makes a dialog with a target.
pub(crate) fn aim_at(request: &mut Request, uri: &SipUri, hops: u8) {
    request.uri = Uri::Sip(uri.clone());
    request.headers.set(Field::MaxForwards(hops));
}

/// What the first INVITE to a target has besides.
pub(crate) fn first_invite(request: &mut Request, target: &Target, original: &Original) {
    request.uri = Uri::Sip(target.uri.clone());
    request.headers.routes = target.routes.clone();
    request
        .headers
        .set(Field::MaxForwards(original.max_forwards));
    if target.passes_challenges {
        original.credentials.write(request);
    }
    if let Some(replaces) = &original.replaces {
        // RFC 3891 §4: who does not know it must not ring instead.
        let replaces = Replaces::clone(replaces);
        let tag = Text::from_static("replaces");
        request.headers.push(Field::Require(vec![tag]));
        request.headers.push(Field::Replaces(replaces));
    }
}

/// A session description as the body.
pub(crate) fn set_description(request: &mut Request, description: &SessionDescription) {
    request.set_body(MediaType::sdp(), description.to_string().into_bytes());
}

/// Contacts of a REGISTER, each with the seconds asked for; `None` is `*`. And the phone's credentials.
pub(crate) fn register(
    request: &mut Request,
    contacts: &[Option<(NameAddr, u32)>],
    credentials: &Credentials,
) {
    for contact in contacts {
        match contact {
            Some((contact, seconds)) => {
                request
                    .headers
                    .contacts
                    .push(lasting(contact.clone(), *seconds));
                if contacts.len() == 1 {
                    request.headers.push(Field::Expires(*seconds));
                }
            }
            None => {
                request.headers.contact_star = true;
                request.headers.push(Field::Expires(0));
            }
        }
    }
    credentials.write(request);
}

/// A contact with its `expires`.
fn lasting(mut contact: NameAddr, seconds: u32) -> NameAddr {
    contact
        .params
        .set_plain(Text::from_static("expires"), seconds.to_string());
    contact
}

/// Fields that the configuration adds.
pub(crate) fn add_fields(headers: &mut Headers, added: &[AddedField]) {
    for field in added {
        if let Some(field) = Field::extension(&field.name, &field.value) {
            headers.push(field);
        }
    }
}

/// A contact of a phone as it is told that it is bound, with instance and number of its flow if it has one.
pub(crate) fn bound_contact(contact: SipUri, seconds: u32, flow: Option<&(Text, u32)>) -> NameAddr {
    let mut contact = lasting(NameAddr::new(contact), seconds);
    if let Some((instance, number)) = flow {
        let instance = Value::Quoted(Quoted::from_plain(instance));
        contact
            .params
            .set(Text::from_static("+sip.instance"), Some(instance));
        contact
            .params
            .set_plain(Text::from_static("reg-id"), number.to_string());
    }
    contact
}

/// A contact with its preference, if it is not the usual one.
pub(crate) fn preferred(contact: SipUri, q_thousandths: u16) -> NameAddr {
    let mut contact = NameAddr::new(contact);
    if q_thousandths < 1000 {
        contact
            .params
            .set_plain(Text::from_static("q"), format!("0.{q_thousandths:03}"));
    }
    contact
}

/// Typed parts of a response of ours.
#[derive(Clone, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    /// To tag of a response that makes a dialog; otherwise the transaction's.
    pub(crate) tag: Option<&'a str>,
    pub(crate) contact: Option<SipUri>,
    /// Contacts of a registration.
    pub(crate) contacts: Vec<NameAddr>,
    /// Seconds after which a phone with flows shows that it lives (RFC 5626).
    pub(crate) flow_timer: Option<u32>,
    /// Proxies that requests to a registered phone will come through (RFC 3327).
    pub(crate) path: Vec<NameAddr>,
    pub(crate) body: Option<SessionDescription>,
    /// Challenges; `true`: of a proxy.
    pub(crate) challenges: Vec<(bool, Auth)>,
    /// Name what we understand.
    pub(crate) allow: bool,
    pub(crate) accept: bool,
    pub(crate) retry_after: Option<u32>,
    pub(crate) min_expires: Option<u32>,
    pub(crate) unsupported: Vec<Text>,
    /// Fields that cross by policy.
    pub(crate) fields: Vec<Field>,
}

impl Default for Answer<'_> {
    fn default() -> Self {
        Self {
            status: StatusCode::SERVER_INTERNAL_ERROR,
            tag: None,
            contact: None,
            contacts: Vec::new(),
            flow_timer: None,
            path: Vec::new(),
            body: None,
            challenges: Vec::new(),
            allow: false,
            accept: false,
            retry_after: None,
            min_expires: None,
            unsupported: Vec::new(),
            fields: Vec::new(),
        }
    }
}

/// A response to a request. `own_tag`: To tag where neither request nor answer have one. RFC 3261 §8.2.6.
pub(crate) fn response(request: &Request, own_tag: &str, answer: Answer<'_>) -> Response {
    let asked = &request.headers;
    let mut response = Response::to_request(request, answer.status, answer.tag.unwrap_or(own_tag));
    let headers = &mut response.headers;
    if request.method == Method::Invite && (101..300).contains(&answer.status.as_u16()) {
        headers.record_routes = asked.record_routes.clone();
    }
    headers.contacts.extend(answer.contact.map(NameAddr::new));
    headers.contacts.extend(answer.contacts);
    if let Some(seconds) = answer.flow_timer {
        // RFC 5626 §6: that the registrar keeps flows, and that the phone must.
        headers.push(Field::Require(vec![Text::from_static("outbound")]));
        headers.push(Field::FlowTimer(seconds));
    }
    if !answer.path.is_empty() {
        headers.push(Field::Path(answer.path));
    }
    if answer.allow {
        headers.push(allow());
        headers.push(supported(&["timer", "replaces", "norefersub"]));
    }
    if answer.accept {
        headers.push(accept());
    }
    for (proxy, challenge) in answer.challenges {
        headers.push(if proxy {
            Field::ProxyAuthenticate(challenge)
        } else {
            Field::WwwAuthenticate(challenge)
        });
    }
    headers.fields.extend(
        answer
            .retry_after
            .map(|seconds| Field::RetryAfter(RetryAfter::new(seconds))),
    );
    headers
        .fields
        .extend(answer.min_expires.map(Field::MinExpires));
    if !answer.unsupported.is_empty() {
        headers.push(Field::Unsupported(answer.unsupported));
    }
    headers.fields.extend(answer.fields);
    headers.push(Field::text(HeaderName::Server, PRODUCT));
    if let Some(description) = answer.body {
        response.set_body(MediaType::sdp(), description.to_string().into_bytes());
    }
    response
}

/// A status code that may be told; 500 for what is none.
pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::new(code).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR)
}

/// Digest credentials on their way to the registrar.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    user: Vec<Auth>,
    proxy: Vec<Auth>,
}

impl Credentials {
    /// Those of a request.
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            user: request
                .headers
                .authorization()
                .filter_map(credential)
                .collect(),
            proxy: request
                .headers
                .proxy_authorization()
                .filter_map(credential)
                .collect(),
        }
    }

    pub(crate) fn write(&self, request: &mut Request) {
        request
            .headers
            .fields
            .extend(self.user.iter().cloned().map(Field::Authorization));
        request
            .headers
            .fields
            .extend(self.proxy.iter().cloned().map(Field::ProxyAuthorization));
    }
}

/// The registrar's challenges on their way to a phone.
pub(crate) fn challenges(response: &Response) -> Vec<(bool, Auth)> {
    response
        .headers
        .challenges()
        .filter(|(_, auth)| auth.is_digest())
        .map(|(proxy, auth)| {
            let params = auth.params.only(&CHALLENGE);
            let scheme = Text::from_static("Digest");
            (proxy, Auth { scheme, params })
        })
        .collect()
}

/// Whether a request has digest credentials.
pub(crate) fn has_credentials(request: &Request) -> bool {
    let headers = &request.headers;
    headers.authorization().next().is_some() || headers.proxy_authorization().next().is_some()
}

/// Say of a challenge that the nonce of the credentials that it answers was too old, not the password wrong.
pub(crate) fn make_stale(challenge: &mut Auth) {
    if challenge.params.value("stale").is_none() {
        challenge
            .params
            .push_token("stale", Text::from_static("true"));
    }
}

/// Parameters of a challenge that cross: RFC 7616 §3.3 without `domain`, which names hosts.
const CHALLENGE: [&str; 8] = [
    "realm",
    "nonce",
    "opaque",
    "stale",
    "algorithm",
    "qop",
    "charset",
    "userhash",
];
/// Parameters of credentials that cross: RFC 7616 §3.4.
const CREDENTIAL: [&str; 12] = [
    "username",
    "username*",
    "userhash",
    "realm",
    "nonce",
    "uri",
    "response",
    "algorithm",
    "cnonce",
    "opaque",
    "qop",
    "nc",
];

fn credential(auth: &Auth) -> Option<Auth> {
    auth.is_digest().then(|| Auth {
        scheme: Text::from_static("Digest"),
        params: auth.params.only(&CREDENTIAL),
    })
}

/// User-Agent as it stands.
pub(crate) fn user_agent(request: &Request) -> &str {
    request
        .headers
        .text(&HeaderName::UserAgent)
        .map_or("", |text| text.as_str())
}

/// The same address without tag and display name.
pub(crate) fn without_tag(address: NameAddr) -> NameAddr {
    NameAddr::new(address.uri.detached())
}

/// The display name, as far as it may cross.
pub(crate) fn display_of(address: &NameAddr) -> Option<DisplayName> {
    let plain = address.display.as_ref()?.to_plain();
    let shown: String = plain
        .chars()
        .filter(|character| !character.is_control())
        .take(DISPLAY)
        .collect();
    (!shown.is_empty()).then(|| DisplayName::new(&shown))
}

/// A user part with its escapes resolved; as it stands if what they mean is no text.
pub(crate) fn plain_user(user: &Text) -> String {
    match String::from_utf8(escape::resolve(user).into_owned()) {
        Ok(plain) if !plain.contains(char::is_control) => plain,
        _ => user.to_string(),
    }
}

/// The session description of a body, alone or in a multipart.
pub(crate) fn description(body: Option<BodyPart<'_>>) -> Option<SessionDescription> {
    let body = message::session_description(&body?, &Limits::default())?;
    offer_answer::read(body.bytes)
}

/// The offer of an INVITE, none if it has no body; `Err`: the status that refuses its body. The request itself is sound,
/// so a description that cannot be read is 488, not 400.
pub(crate) fn offer_of(request: &Request) -> Result<Option<SessionDescription>, u16> {
    let body = request.body_part();
    if let Some(description) = body
        .as_ref()
        .and_then(|body| message::session_description(body, &Limits::default()))
    {
        return offer_answer::read(description.bytes).map(Some).ok_or(488);
    }
    match body {
        Some(body)
            if body.kind.is("application", "dtmf-relay") || body.kind.is("application", "dtmf") =>
        {
            Err(415)
        }
        // One that may be ignored is (RFC 5621 §7); any other was refused before.
        _ => Ok(None),
    }
}

/// The word of a method for a counter.
pub(crate) const fn method_word(method: &Method) -> &'static str {
    match method {
        Method::Invite => "INVITE",
        Method::Ack => "ACK",
        Method::Bye => "BYE",
        Method::Cancel => "CANCEL",
        Method::Options => "OPTIONS",
        Method::Register => "REGISTER",
        Method::Info => "INFO",
        Method::Prack => "PRACK",
        Method::Update => "UPDATE",
        Method::Refer => "REFER",
        Method::Subscribe => "SUBSCRIBE",
        Method::Notify => "NOTIFY",
        Method::Message => "MESSAGE",
        Method::Publish => "PUBLISH",
        _ => "other",
    }
}
