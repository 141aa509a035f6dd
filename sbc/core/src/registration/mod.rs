//! REGISTER relayed to the registrar. RFC 3261 §10.
//!
//! The registrar challenges and judges; we hold no password. Each contact of a phone is replaced by one of our own, whose
//! user part is a token that only we can read; a binding comes to be on the registrar's 2xx alone, together with the way
//! that the REGISTER came by. To outside, a name that the registrar does not know is met as one that it knows: with a
//! challenge, after the same time.
//!
//! | file | what it does |
//! |---|---|
//! | `wish` | what a REGISTER asks for |
//! | `refresh` | answers short refreshes without the registrar |
//! | `gate` | how many go to the registrar, who comes back when |
//! | `away` | failover among its addresses; life without it |
//! | `credential` | credentials heard by one way are worth nothing by another |
//! | `mask` | challenges for names that nobody knows |
//! | `legacy` | what the next life of the process needs to find the phones again |
//! | `keepalive`, `bindings` | the way to a phone; the table |

mod away;
pub(crate) mod bindings;
mod credential;
mod gate;
mod keepalive;
mod legacy;
mod mask;
pub(crate) mod refresh;
mod wish;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sbc_sip::{
    digest::Auth,
    headers::NameAddr,
    message::{Request, Response},
    method::Method,
    uri::SipUri,
};

use crate::{
    context::Context,
    event::Event,
    outgoing::{self, Answer, Credentials},
    surroundings::Peer,
    target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::Flow,
};
use bindings::{Binding, Bindings, Confirmed, Token};
use credential::{Credential, Spent};
use gate::{Closed, Gate};
use mask::Mask;
use refresh::Reach;
use wish::{LONGEST_SECONDS, Wanted, Wish};

/// Relayed REGISTERs under way at once.
const UNDER_WAY: usize = 10_000;
/// The reason of a REGISTER that was answered from here.
pub(crate) const CACHED: &str = "cached";
/// Answers to strangers leave at multiples of this after the REGISTER.
const SLOT: Duration = Duration::from_millis(25);

/// A REGISTER on its way to the registrar.
struct Relayed {
    flow: Flow,
    user: Arc<str>,
    wish: Wish,
    path: Box<[NameAddr]>,
    credentials: Credentials,
    confirmed: Confirmed,
    /// The source is one that we know: it is told what the registrar says.
    known: bool,
    /// Its credentials were heard from somebody else and are left out.
    stripped: bool,
    /// The registrar does not know the name; a challenge for one that it knows is fetched instead.
    masking: bool,
    /// The registrar named a longer interval and was asked again.
    asked_again: bool,
    /// Slots are counted from here.
    received: Instant,
    /// It left for the registrar last.
    sent: Instant,
    /// To which address, and how many have been tried.
    address: usize,
    tried: usize,
    /// An answer that waits for its slot.
    held: Option<Box<Answer<'static>>>,
}

/// Relayed REGISTERs and the bindings that came of them.
pub(crate) struct Registration {
    pub(crate) bindings: Bindings,
    /// By server transaction.
    under_way: BTreeMap<u64, Relayed>,
    mask: Mask,
    spent: Spent,
    gate: Gate,
    presence: away::Presence,
    legacy: legacy::Legacy,
    /// The registrar's address that answered last.
    preferred: usize,
    probed: usize,
    /// Fewest seconds that the registrar grants.
    least: u32,
    cseq: u32,
}

impl Registration {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bindings: Bindings::default(),
            under_way: BTreeMap::new(),
            mask: Mask::default(),
            spent: Spent::default(),
            gate: Gate::new(now),
            presence: away::Presence::Present,
            legacy: legacy::Legacy::default(),
            preferred: 0,
            probed: 0,
            least: 0,
            cseq: 0,
        }
    }

    /// How many are on their way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many sources are watched.
    pub(crate) fn sources(&self) -> usize {
        self.gate.len()
    }

    /// Whether a REGISTER that cannot be answered from here may go to the registrar now; otherwise it was answered, or is
    /// not to be: the reason.
    pub(crate) fn admit(
        &mut self,
        cx: &mut Context,
        flow: &Flow,
        request: &Request,
        (known, internal): (bool, bool),
    ) -> Result<(), &'static str> {
        let settings = cx.settings().registration;
        let answers = outgoing::has_credentials(request);
        let source = if internal {
            Ok(())
        } else {
            self.gate.source(cx.now, &settings, flow.peer.ip())
        };
        let closed = match source {
            Err(closed) => closed,
            Ok(()) if self.is_away() => Closed::Away,
            Ok(()) if self.under_way.len() >= UNDER_WAY => Closed::Busy,
            Ok(()) => match self.gate.relay(cx.now, &settings, answers) {
                Ok(()) => return Ok(()),
                Err(closed) => closed,
            },
        };
        if closed == Closed::Busy && self.refresh(cx, flow, request, Reach::Whole) {
            return Err(CACHED);
        }
        let told = known || closed == Closed::Busy && self.gate.may_answer(cx.now);
        if told {
            let answer = self.come_back(cx);
            // What is sent twice gets two answers; no table remembers it.
            let tag = format!("{:016x}", refresh::branch_number(cx, request));
            transactions::respond_statelessly(cx, flow, request, &tag, answer);
        }
        Err(closed.word())
    }

    /// A REGISTER that was admitted, in the server transaction `server`. `known`: the source is no stranger;
    /// `may`: it is one that may register.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context,
        server: u64,
        flow: Flow,
        request: &Request,
        (known, may): (bool, bool),
    ) {
        let Err((status, reason)) = self.relay(cx, server, flow, request, (known, may)) else {
            return;
        };
        let user = request.headers.to.uri.user().map(outgoing::plain_user);
        refused_event(cx, &flow, user.as_deref().unwrap_or_default(), reason);
        let answer = match status {
            // Said before anybody was asked, so the same for all names.
            423 => Answer {
                status: outgoing::status(423),
                min_expires: Some(cx.settings().registration.min_expires_seconds),
                ..Answer::default()
            },
            // What is wrong with a stranger's REGISTER is nobody's business.
            _ if !known => return transactions::forget_server(cx, server),
            503 => self.come_back(cx),
            _ => Answer {
                status: outgoing::status(status),
                ..Answer::default()
            },
        };
        transactions::respond(cx, server, answer);
    }

    fn relay(
        &mut self,
        cx: &mut Context,
        server: u64,
        flow: Flow,
        request: &Request,
        (known, may): (bool, bool),
    ) -> Result<(), (u16, &'static str)> {
        if away::addresses(cx).is_empty() {
            return Err((503, "no-registrar"));
        }
        let to = request.headers.to.uri.sip().ok_or((404, "not-a-sip-uri"))?;
        if !cx.surroundings.is_our_host(&to.host.to_string()) {
            return Err((404, "not-our-domain"));
        }
        let user = to
            .user
            .as_ref()
            .map(outgoing::plain_user)
            .ok_or((404, "no-user"))?;
        let mut wish = wish::read(cx, &user, request)?;
        self.known_again(&user, &mut wish);
        if !may {
            return Err((403, "may-not-register"));
        }
        let confirmed = Confirmed {
            call_id: request.headers.call_id.text().detached(),
            cseq: request.headers.cseq.number,
            branch: refresh::branch_number(cx, request),
            credential: Credential::of(&cx.identity, request),
        };
        self.check_order(&user, &wish, &confirmed)?;
        self.check_room(cx, &flow, &wish)?;
        let stripped = confirmed
            .credential
            .is_some_and(|credential| self.spent.is_replay(&cx.identity, &credential, &flow));
        if stripped {
            refused_event(cx, &flow, &user, "replay");
        } else if let Some(credential) = confirmed.credential {
            let most = self.bindings.len();
            self.spent.used(&cx.identity, credential, &flow, most);
        }
        let relayed = Relayed {
            flow,
            user: user.into(),
            path: wish::path(request)?,
            wish,
            credentials: if stripped {
                Credentials::default()
            } else {
                Credentials::of(request)
            },
            confirmed,
            known,
            stripped,
            masking: false,
            asked_again: false,
            received: cx.now,
            sent: cx.now,
            address: self.preferred,
            tried: 0,
            held: None,
        };
        self.under_way.insert(server, relayed);
        self.send(cx, server);
        Ok(())
    }

    /// RFC 3261 §10.3, step 7: what is older than what a binding was confirmed by changes nothing.
    fn check_order(
        &self,
        user: &str,
        wish: &Wish,
        confirmed: &Confirmed,
    ) -> Result<(), (u16, &'static str)> {
        let is_newer = |binding: &Binding| {
            binding.confirmed.call_id != confirmed.call_id
                || binding.confirmed.cseq < confirmed.cseq
        };
        let in_order = match wish {
            Wish::Query => true,
            Wish::RemoveAll => self.bindings.of_user(user).into_iter().all(is_newer),
            Wish::Contacts(contacts) => contacts
                .iter()
                .filter_map(|wanted| self.bindings.by_token(wanted.token))
                .all(is_newer),
        };
        in_order.then_some(()).ok_or((500, "out-of-order"))
    }

    /// Whether the table and the source have room for what is new.
    fn check_room(
        &self,
        cx: &Context,
        flow: &Flow,
        wish: &Wish,
    ) -> Result<(), (u16, &'static str)> {
        let fresh = wish
            .bound()
            .filter(|wanted| self.bindings.number_of(wanted.token).is_none())
            .count();
        if fresh == 0 {
            return Ok(());
        }
        let limit = usize::try_from(cx.settings().limits.registrations).unwrap_or(usize::MAX);
        if self.bindings.len().saturating_add(fresh) > limit {
            return Err((503, "table-full"));
        }
        let internal = cx.surroundings.peer(flow.zone, flow.peer.ip()) == Peer::Internal;
        let most = cx.settings().registration.contacts_per_source;
        let have = usize::try_from(self.bindings.of_source(flow.peer.ip())).unwrap_or(usize::MAX);
        if !internal && have.saturating_add(fresh) > usize::try_from(most).unwrap_or(usize::MAX) {
            return Err((503, "source-full"));
        }
        Ok(())
    }

    /// Send a relayed REGISTER to the address that it is for.
    fn send(&mut self, cx: &mut Context, id: u64) {
        let hops = away::addresses(cx);
        let Some(domain) = target::domain(cx) else {
            return;
        };
        let Some(relayed) = self.under_way.get_mut(&id) else {
            return;
        };
        let place = relayed.address.checked_rem(hops.len()).unwrap_or(0);
        let own = hops.get(place).map(|hop| (hop, outgoing::contact(cx, hop)));
        let Some((hop, Some(own))) = own else {
            return;
        };
        (relayed.address, relayed.tried, relayed.sent) = (place, relayed.tried + 1, cx.now);
        let user = Arc::clone(&relayed.user);
        let contacts: Vec<Option<(NameAddr, u32)>> = match &relayed.wish {
            Wish::Query => Vec::new(),
            Wish::RemoveAll => vec![None],
            Wish::Contacts(contacts) => contacts
                .iter()
                .map(|wanted| {
                    let uri = own.clone().with_user(&wanted.token.to_string());
                    let seconds = inside(cx, &relayed.flow, wanted, self.least);
                    Some((outgoing::preferred(uri, wanted.q), seconds))
                })
                .collect(),
        };
        let names: String = match &relayed.wish {
            Wish::Query => String::new(),
            Wish::RemoveAll => "*".to_owned(),
            Wish::Contacts(contacts) => contacts
                .iter()
                .map(|wanted| wanted.token.to_string())
                .collect(),
        };
        let call_id = cx.identity.derived(&["register", &user, &names]);
        let credentials = relayed.credentials.clone();
        self.cseq = self.cseq.saturating_add(1);
        let mut request = self.register(cx, hop, &user, domain, &call_id);
        outgoing::register(&mut request, &contacts, &credentials);
        cx.timers
            .set(TimerKey::RegisterSlot(id), cx.now + away::PATIENCE);
        transactions::request(cx, *hop, request, Owner::Registration(id));
    }

    /// A REGISTER of ours for `user`, without contacts.
    fn register(
        &self,
        cx: &mut Context,
        hop: &crate::transport::NextHop,
        user: &str,
        domain: sbc_sip::uri::Host,
        call_id: &str,
    ) -> Request {
        let aor = NameAddr::new(target::user_at(user, domain.clone()));
        let own_tag = cx.identity.tag();
        let draft = outgoing::RequestDraft {
            method: Method::Register,
            uri: SipUri::new(domain),
            from: aor.clone().with_tag(own_tag),
            to: aor,
            call_id,
            cseq: self.cseq,
            max_forwards: 70,
            routes: &[],
        };
        outgoing::request(cx, hop, draft)
    }

    /// The registrar's final response, or `None` if there was none in time.
    pub(crate) fn response(&mut self, cx: &mut Context, id: u64, response: Option<&Response>) {
        let Some(response) = response else {
            if self
                .under_way
                .get(&id)
                .is_some_and(|relayed| relayed.held.is_none())
            {
                self.silent(cx, id, true);
            }
            return;
        };
        let status = response.status.as_u16();
        if status == 503 {
            // RFC 3263 §4.3: as if it had not answered.
            return self.silent(cx, id, true);
        }
        let address = self.under_way.get(&id).map(|relayed| relayed.address);
        self.answered(cx, address);
        let Some(relayed) = self.under_way.get_mut(&id) else {
            return;
        };
        if relayed.held.is_some() {
            return;
        }
        if relayed.masking {
            return self.masked(cx, id, response);
        }
        match status {
            200..=299 => self.accepted(cx, id, response),
            401 | 407 => self.challenged(cx, id, response),
            423 if !relayed.asked_again => {
                // RFC 3261 §10.2.8. The interval inside is ours, not the phone's.
                relayed.asked_again = true;
                relayed.tried = 0;
                let least = response.headers.min_expires().unwrap_or(3_600);
                self.least = self.least.max(least.min(LONGEST_SECONDS));
                self.gate.charge();
                self.send(cx, id);
            }
            500..=599 => {
                let known = relayed.known;
                self.under_way.remove(&id);
                cx.timers.cancel(TimerKey::RegisterSlot(id));
                if known {
                    let answer = self.come_back(cx);
                    transactions::respond(cx, id, answer);
                } else {
                    transactions::forget_server(cx, id);
                }
            }
            // Unknown name, forbidden, or whatever else would tell one name from another.
            _ => {
                let (flow, user) = (relayed.flow, Arc::clone(&relayed.user));
                refused_event(cx, &flow, &user, "registrar-says-no");
                self.mask(cx, id);
            }
        }
    }

    /// The registrar challenged.
    fn challenged(&mut self, cx: &mut Context, id: u64, response: &Response) {
        let Some(relayed) = self.under_way.get(&id) else {
            return;
        };
        let answered = relayed.confirmed.credential.is_some() && !relayed.stripped;
        let (user, flow) = (Arc::clone(&relayed.user), relayed.flow);
        let stripped = relayed.stripped;
        let mut challenges = outgoing::challenges(response);
        self.mask
            .learn(&challenges, (!answered).then(|| Arc::clone(&user)));
        if stripped {
            // The phone's password was not wrong, its nonce was not its own any more.
            challenges
                .iter_mut()
                .for_each(|(_, challenge)| outgoing::make_stale(challenge));
        }
        let stale = challenges.iter().any(|(_, challenge)| {
            let stale = challenge.params.value("stale");
            stale.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        });
        if answered && !stale {
            self.gate.wrong_password(flow.peer.ip());
            cx.counters.count("authentication_failures_total", "", "");
            cx.event(&Event::AuthFailed {
                flow: &flow,
                user: &user,
            });
        }
        let answer = Answer {
            status: response.status,
            challenges,
            ..Answer::default()
        };
        self.hold(cx, id, answer);
    }

    /// The registrar knows no such name: ask it for a challenge that it gives to one that it knows, so that there is
    /// nothing to tell them apart by. Without such a name, or if it fails, a challenge of the same shape is made up.
    fn mask(&mut self, cx: &mut Context, id: u64) {
        let hops = away::addresses(cx);
        let (known, domain) = (self.mask.known(), target::domain(cx));
        let Some(relayed) = self.under_way.get_mut(&id) else {
            return;
        };
        let place = relayed.address.checked_rem(hops.len()).unwrap_or(0);
        let (Some(known), Some(domain), Some(hop)) = (known, domain, hops.get(place)) else {
            return self.make_up(cx, id);
        };
        relayed.masking = true;
        self.gate.charge();
        self.cseq = self.cseq.saturating_add(1);
        let call_id = cx.identity.name();
        let request = self.register(cx, hop, &known, domain, &call_id);
        transactions::request(cx, *hop, request, Owner::Registration(id));
    }

    /// What the registrar said to a known name, told to an unknown one.
    fn masked(&mut self, cx: &mut Context, id: u64, response: &Response) {
        if !matches!(response.status.as_u16(), 401 | 407) {
            self.mask.forget_known();
            return self.make_up(cx, id);
        }
        let challenges = outgoing::challenges(response);
        self.mask.learn(&challenges, None);
        let answer = Answer {
            status: response.status,
            challenges,
            ..Answer::default()
        };
        self.hold(cx, id, answer);
    }

    fn make_up(&mut self, cx: &mut Context, id: u64) {
        let challenges = self.challenge(cx);
        let answer = Answer {
            status: outgoing::status(401),
            challenges,
            ..Answer::default()
        };
        self.hold(cx, id, answer);
    }

    /// Keep an answer until the next slot, so that its time tells nothing about how the registrar came to it.
    fn hold(&mut self, cx: &mut Context, id: u64, answer: Answer<'static>) {
        let Some(relayed) = self.under_way.get_mut(&id) else {
            return;
        };
        let passed = cx
            .now
            .saturating_duration_since(relayed.received)
            .as_millis();
        let slots = u32::try_from(passed / SLOT.as_millis()).unwrap_or(u32::MAX - 1) + 1;
        let at = relayed.received + SLOT.saturating_mul(slots);
        relayed.held = Some(Box::new(answer));
        cx.timers.set(TimerKey::RegisterSlot(id), at);
    }

    /// A slot has come, or the registrar's time is over.
    pub(crate) fn slot(&mut self, cx: &mut Context, id: u64) {
        match self
            .under_way
            .get_mut(&id)
            .map(|relayed| relayed.held.take())
        {
            Some(Some(answer)) => {
                self.under_way.remove(&id);
                transactions::respond(cx, id, *answer);
            }
            Some(None) => self.impatient(cx, id),
            None => {}
        }
    }

    /// The server transaction ended before its answer.
    pub(crate) fn server_ended(&mut self, cx: &mut Context, id: u64) {
        if self.under_way.remove(&id).is_some() {
            cx.timers.cancel(TimerKey::RegisterSlot(id));
        }
    }

    fn accepted(&mut self, cx: &mut Context, id: u64, response: &Response) {
        let Some(relayed) = self.under_way.remove(&id) else {
            return;
        };
        cx.timers.cancel(TimerKey::RegisterSlot(id));
        let mut shown = Vec::new();
        match &relayed.wish {
            // Contacts by other ways are nobody's business on this one.
            Wish::Query => shown.extend(
                self.bindings
                    .of_flow(&relayed.flow)
                    .filter(|binding| binding.user == relayed.user)
                    .map(|binding| binding.number),
            ),
            Wish::RemoveAll => {
                let all = self.bindings.of_user(&relayed.user);
                let all: Vec<u64> = all.iter().map(|binding| binding.number).collect();
                for number in all {
                    self.unbind(cx, number, "unregistered");
                }
            }
            Wish::Contacts(contacts) => {
                for wanted in contacts {
                    let granted = match wanted.seconds {
                        0 => 0,
                        seconds => {
                            granted(response, wanted.token).map_or(seconds, |granted| granted)
                        }
                    };
                    if granted > 0 {
                        shown.extend(self.bind(cx, &relayed, wanted, granted.min(LONGEST_SECONDS)));
                    } else if let Some(number) = self.bindings.number_of(wanted.token) {
                        self.unbind(cx, number, "unregistered");
                    }
                }
            }
        }
        cx.counters.count("registrations_total", "", "");
        let answer = self.success(cx, shown.into_iter());
        transactions::respond(cx, id, answer);
    }

    /// Enter a binding that the registrar accepted for so many seconds. `None`: the table is full.
    fn bind(
        &mut self,
        cx: &mut Context,
        relayed: &Relayed,
        wanted: &Wanted,
        granted: u32,
    ) -> Option<u64> {
        let limit = usize::try_from(cx.settings().limits.registrations).unwrap_or(usize::MAX);
        let fresh = self.bindings.number_of(wanted.token).is_none();
        if fresh && self.bindings.len() >= limit {
            refused_event(cx, &relayed.flow, &relayed.user, "table-full");
            return None;
        }
        if fresh {
            self.make_room(cx, &relayed.user);
        }
        let behind_nat = wish::behind_nat(&relayed.flow, &wanted.contact);
        let short = wish::short(cx, &relayed.flow, behind_nat);
        let told = wish::told(cx, wanted.seconds, granted, short);
        let number = cx.next_number();
        let seconds = |count| Duration::from_secs(u64::from(count));
        let outbound = wanted.outbound.is_some();
        let binding = Binding {
            number,
            user: Arc::clone(&relayed.user),
            contact: wanted.contact.clone(),
            token: wanted.token,
            flow: relayed.flow,
            q: wanted.q,
            outbound: wanted.outbound.clone(),
            path: relayed.path.clone(),
            behind_nat,
            told,
            expires: cx.now + seconds(told),
            granted,
            granted_until: cx.now + seconds(granted),
            confirmed: relayed.confirmed.clone(),
            tag: cx.identity.number(),
            keepalive: keepalive::begin(cx, &relayed.flow, behind_nat, outbound),
        };
        let deadline = binding.deadline();
        if let Some(old) = self.bindings.insert(binding) {
            cx.timers.cancel(TimerKey::Binding(old));
        }
        cx.timers.set(TimerKey::Binding(number), deadline);
        self.changed(cx, wanted.token);
        if fresh {
            let (flow, user) = (&relayed.flow, &*relayed.user);
            cx.event(&Event::RegNew { flow, user });
        }
        Some(number)
    }

    /// An account has so many contacts at most: what would end first makes room for what is new, since it is the phone that
    /// has been away for longest.
    fn make_room(&mut self, cx: &mut Context, user: &str) {
        let most = cx.settings().registration.contacts_per_account.max(1);
        let have = self.bindings.of_user(user);
        if have.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            return;
        }
        let oldest = have
            .iter()
            .min_by_key(|binding| binding.expires)
            .map(|binding| binding.number);
        if let Some(number) = oldest {
            self.unbind(cx, number, "displaced");
        }
    }

    /// Forget every binding.
    pub(crate) fn clear(&mut self, cx: &mut Context) {
        for number in self.bindings.clear() {
            cx.timers.cancel(TimerKey::Binding(number));
        }
        self.spent.clear();
        self.legacy.clear();
        let answered = self.gate.answered;
        self.gate = Gate::new(cx.now);
        self.gate.answered = answered;
        self.registrar_changed(cx);
    }

    /// Old entries of the rate tables go.
    pub(crate) fn sweep(&mut self, cx: &Context) {
        self.gate.sweep(cx.now, &cx.settings().registration);
    }

    /// A challenge of the registrar's shape.
    pub(crate) fn challenge(&self, cx: &mut Context) -> Vec<(bool, Auth)> {
        let domain = cx.settings().domain.clone();
        self.mask.challenge(&mut cx.identity, &domain)
    }

    /// Whether a binding came from there.
    pub(crate) fn is_source(&self, source: std::net::IpAddr) -> bool {
        self.bindings.of_source(source.to_canonical()) > 0
    }

    /// Whether a From user is one that this way is registered as.
    pub(crate) fn speaks_for(&self, flow: &Flow, user: &str) -> bool {
        self.bindings
            .of_flow(flow)
            .any(|binding| *binding.user == *user)
    }
}

/// A registration was refused, whatever was answered.
fn refused_event(cx: &mut Context, flow: &Flow, user: &str, reason: &'static str) {
    cx.counters
        .count("registrations_refused_total", "reason", reason);
    cx.event(&Event::RegRefused { flow, user, reason });
}

/// Seconds that the registrar is asked for on behalf of a contact: long for a phone that refreshes often.
fn inside(cx: &Context, flow: &Flow, wanted: &Wanted, least: u32) -> u32 {
    if wanted.seconds == 0 {
        return 0;
    }
    let nat = wish::behind_nat(flow, &wanted.contact);
    let long = match wish::short(cx, flow, nat) {
        Some(_) => cx.settings().registration.registrar_expires_seconds,
        None => 0,
    };
    wanted.seconds.max(long).max(least)
}

/// Seconds that the registrar granted to one of our contacts.
fn granted(response: &Response, token: Token) -> Option<u32> {
    let token = token.to_string();
    let ours = response.contacts().iter().find(|contact| {
        contact
            .uri
            .user()
            .is_some_and(|user| user.as_str() == token)
    })?;
    ours.expires().or_else(|| response.headers.expires())
}

/// Whether a source that asks to register may do so at all: carriers and the PBX have no business here.
pub(crate) const fn may_register(peer: Peer) -> bool {
    matches!(peer, Peer::Stranger | Peer::Internal)
}
