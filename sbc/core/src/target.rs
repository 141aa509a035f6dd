//! Where a call may go: the route's action as a list of places to try, in order.

use std::{collections::VecDeque, net::SocketAddr};

use broker_proto::settings::{Transport, ZoneId};
use routing::{Goal, Live, TrunkState, TrunkTry};
use sbc_sip::{
    headers::{NameAddr, Replaces},
    uri::{Host, SipUri, Uri},
};

use crate::{
    context::Context,
    health::TrunkHealth,
    identity::Identity,
    io::ConnectionId,
    ledger::{Ledger, Reached, Subject},
    outgoing,
    registration::bindings::{Binding, Bindings, Token},
    surroundings::{Peer, Surroundings},
    transport::{self, Flow, NextHop},
};

/// One place to try.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) hop: NextHop,
    /// Who is there.
    pub(crate) peer: Peer,
    /// Request-URI.
    pub(crate) uri: SipUri,
    /// From, without tag and display name.
    pub(crate) own: NameAddr,
    /// To, without tag.
    pub(crate) other: NameAddr,
    /// Route of the first request: what a phone's REGISTER came through (RFC 3327), what a carrier wants (RFC 3608).
    pub(crate) routes: Vec<NameAddr>,
    /// Its challenges mean the caller, whose credentials go there: only the registrar's do.
    pub(crate) passes_challenges: bool,
    /// The account whose phone is there.
    pub(crate) account: Option<String>,
}

impl Target {
    /// Where a call to it counts.
    pub(crate) fn subjects(&self, surroundings: &Surroundings, from: ZoneId) -> Vec<Subject> {
        let mut subjects = Vec::new();
        if self.hop.zone() != from {
            subjects.push(Subject::Zone(self.hop.zone()));
        }
        if let Peer::Trunk(index) = self.peer {
            let trunk = surroundings.trunk(index);
            subjects.extend(trunk.map(|trunk| Subject::Trunk(trunk.name.clone())));
        }
        subjects.extend(self.account.clone().map(Subject::Account));
        subjects
    }

    /// The limit that a call from a zone would break there.
    pub(crate) fn limit(&self, cx: &mut Context, from: ZoneId, kbit: u64) -> Option<Limit> {
        let Context {
            surroundings,
            ledger,
            now,
            ..
        } = cx;
        let subjects = self.subjects(surroundings, from);
        subjects.into_iter().find_map(|subject| {
            let may = ledger.may(*now, surroundings.settings(), &subject, kbit);
            may.err().map(|limit| (limit, subject))
        })
    }
}

/// A limit that is reached, and whose it is.
pub(crate) type Limit = (Reached, Subject);

/// Why a call goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoTarget {
    /// Status for a known peer; a stranger gets silence.
    pub(crate) status: u16,
    /// Stable word for counter and log.
    pub(crate) reason: &'static str,
    /// It may be otherwise soon: worth a Retry-After.
    pub(crate) passing: bool,
    /// The limit that is reached.
    pub(crate) limit: Option<Limit>,
}

/// Where a call goes.
pub(crate) struct Way {
    /// The route's name; empty: none was needed.
    pub(crate) route: String,
    /// At least one.
    pub(crate) targets: VecDeque<Target>,
    /// Status codes after which the next target is tried too, besides the usual ones.
    pub(crate) failover: Vec<u16>,
    /// The callee's dialog whose place the caller wants.
    pub(crate) replaces: Option<Box<Replaces>>,
}

const fn refused(status: u16, reason: &'static str) -> NoTarget {
    NoTarget {
        status,
        reason,
        passing: false,
        limit: None,
    }
}

/// What lives of the trunks, for the dial plan.
struct Trunks<'a> {
    surroundings: &'a Surroundings,
    health: &'a TrunkHealth,
    ledger: &'a Ledger,
    identity: &'a mut Identity,
}

impl Live for Trunks<'_> {
    fn trunk(&self, index: usize) -> TrunkState {
        let Some(trunk) = self.surroundings.trunk(index) else {
            return TrunkState::Down;
        };
        let up = |address: &SocketAddr| self.health.is_up(&trunk.name, *address);
        if !trunk.addresses.iter().any(up) {
            return TrunkState::Down;
        }
        let calls = self.calls(index);
        match trunk.policy.caps.calls {
            Some(most) if calls >= most => TrunkState::Full("calls"),
            _ => TrunkState::Up,
        }
    }

    fn calls(&self, index: usize) -> u32 {
        let trunk = self.surroundings.trunk(index);
        trunk.map_or(0, |trunk| {
            self.ledger.calls(&Subject::Trunk(trunk.name.clone()))
        })
    }

    fn draw(&mut self, bound: u32) -> u32 {
        let lot = self.identity.number().checked_rem(u64::from(bound));
        u32::try_from(lot.unwrap_or(0)).unwrap_or(0)
    }
}

/// Who is called or calls: a SIP user part, or the number of a tel URI with its context (RFC 3966); escapes resolved.
pub(crate) fn dialled(uri: &Uri) -> String {
    let user = uri.user().map(outgoing::plain_user).unwrap_or_default();
    match uri {
        Uri::Tel(tel) => match tel.params.value("phone-context") {
            Some(context) => format!("{user};phone-context={context}"),
            None => user,
        },
        _ => user,
    }
}

/// Where a call of `calling` to the Request-URI goes that came from `peer` by `flow`.
pub(crate) fn find(
    cx: &mut Context,
    bindings: &Bindings,
    (peer, flow): (Peer, &Flow),
    (calling, uri): (&str, &Uri),
    (kbit, spared): (u64, bool),
) -> Result<Way, NoTarget> {
    let called = dialled(uri);
    if let (Peer::Registrar, Some(token)) = (peer, Token::read(&called)) {
        // RFC 5626 §5.3: the phone has gone, or its connection.
        let binding = bindings
            .by_token(token)
            .ok_or(refused(430, "flow-failed"))?;
        let target = to_binding(cx, binding, calling)?;
        let targets = admitted(cx, VecDeque::from([target]), (flow.zone, kbit, spared))?;
        return Ok(Way {
            route: String::new(),
            targets,
            failover: Vec::new(),
            replaces: None,
        });
    }
    let origins = cx
        .surroundings
        .origins(peer, flow.zone, bindings.is_registered(flow));
    let caller = routing::Caller {
        zone: Some(flow.zone),
        origins: &origins,
    };
    let host = uri.host().map(ToString::to_string).unwrap_or_default();
    let asked = routing::Called {
        user: &called,
        host: &host,
        calling,
        spared,
    };
    let unix_ms = cx.wall_clock();
    let found = {
        let Context {
            surroundings,
            identity,
            health,
            ledger,
            ..
        } = &mut *cx;
        let surroundings: &Surroundings = surroundings;
        let mut live = Trunks {
            surroundings,
            health,
            ledger,
            identity,
        };
        routing::find(
            surroundings.settings(),
            &caller,
            &asked,
            unix_ms,
            &mut live,
            &mut routing::Silent,
        )
    };
    let way = found.map_err(|no| NoTarget {
        status: no.status,
        reason: no.reason,
        passing: no.passing,
        limit: None,
    })?;
    let mut targets: VecDeque<Target> = match &way.goal {
        // Phones go on calling each other.
        Goal::Registrar { called, calling } if cx.registrar_away && bindings.has_user(called) => {
            to_bindings(cx, bindings, calling, called)
        }
        Goal::Registrar { called, calling } => to_registrar(cx, calling, called),
        Goal::Trunks(tries) => {
            let tries = tries.iter();
            let mut all = VecDeque::new();
            for one in tries {
                all.extend(to_trunk(cx, one, spared || way.emergency));
            }
            all
        }
        Goal::Binding { user, calling } => {
            if !bindings.has_user(user) {
                return Err(refused(480, "not-registered"));
            }
            to_bindings(cx, bindings, calling, user)
        }
    };
    if targets.is_empty() {
        return Err(refused(503, "no-way"));
    }
    let (health, now) = (&cx.health, cx.now);
    targets
        .make_contiguous()
        .sort_by_key(|target| health.is_avoided(now, &target.hop));
    let targets = admitted(cx, targets, (flow.zone, kbit, spared || way.emergency))?;
    Ok(Way {
        route: way.route,
        targets,
        failover: way.failover,
        replaces: None,
    })
}

/// The registrar itself for a number that is the PBX's own to know: in our domain, or at one of its or our addresses.
pub(crate) fn at_registrar(
    cx: &mut Context,
    (from, kbit): (ZoneId, u64),
    calling: &str,
    uri: &Uri,
) -> Result<Way, NoTarget> {
    let host = uri.host().map(ToString::to_string).unwrap_or_default();
    let its_own = cx.surroundings.is_our_host(&host)
        || cx.surroundings.registrar().is_some_and(|registrar| {
            let named = registrar.named.as_ref();
            named.is_some_and(|named| named.host.eq_ignore_ascii_case(&host))
                || registrar
                    .addresses
                    .iter()
                    .any(|at| Host::Address(at.ip()).to_string() == host)
        });
    let number = dialled(uri);
    if !its_own || number.is_empty() {
        return Err(refused(404, "no-route"));
    }
    let targets = to_registrar(cx, calling, &number);
    if targets.is_empty() {
        return Err(refused(503, "no-way"));
    }
    Ok(Way {
        route: String::new(),
        targets: admitted(cx, targets, (from, kbit, false))?,
        failover: Vec::new(),
        replaces: None,
    })
}

/// All contacts of a number, the preferred ones first (RFC 3261 §16.6).
fn to_bindings(cx: &Context, bindings: &Bindings, calling: &str, number: &str) -> VecDeque<Target> {
    bindings
        .of_user(number)
        .into_iter()
        .filter_map(|binding| to_binding(cx, binding, calling).ok())
        .collect()
}

/// The targets that no limit forbids, or the limit that forbids the last of them.
fn admitted(
    cx: &mut Context,
    targets: VecDeque<Target>,
    (from, kbit, spared): (ZoneId, u64, bool),
) -> Result<VecDeque<Target>, NoTarget> {
    if spared {
        return Ok(targets);
    }
    let mut reached = None;
    let mut good = VecDeque::with_capacity(targets.len());
    for target in targets {
        match target.limit(cx, from, kbit) {
            None => good.push_back(target),
            Some(limit) => reached = Some(limit),
        }
    }
    match reached {
        Some(limit) if good.is_empty() => {
            // The callee's phone has all the calls that it may have: that is busy (RFC 3261 §21.4.24).
            let (status, reason) = match limit.1 {
                Subject::Account(_) => (486, "callee-limit"),
                Subject::Zone(_) | Subject::Trunk(_) => (503, "limit"),
            };
            Err(NoTarget {
                passing: true,
                limit: Some(limit),
                ..refused(status, reason)
            })
        }
        _ => Ok(good),
    }
}

fn to_binding(cx: &Context, binding: &Binding, calling: &str) -> Result<Target, NoTarget> {
    let domain = domain(cx).ok_or(refused(503, "no-way"))?;
    if binding
        .flow
        .connection
        .is_some_and(|connection| cx.connections.flow(connection).is_none())
    {
        // RFC 5626 §5.3. Of an earlier life of this process: the phone comes back by a new one in a moment.
        let gone = binding.flow.connection == Some(ConnectionId::GONE);
        return Err(match gone {
            true => refused(480, "awaits-flow"),
            false => refused(430, "flow-failed"),
        });
    }
    Ok(Target {
        hop: NextHop::Flow(binding.flow),
        peer: cx
            .surroundings
            .peer(binding.flow.zone, binding.flow.peer.ip()),
        uri: binding.contact.as_request_uri(),
        own: NameAddr::new(user_at(calling, domain.clone())),
        other: NameAddr::new(user_at(&binding.user, domain)),
        routes: binding.path.to_vec(),
        passes_challenges: false,
        account: Some(binding.user.to_string()),
    })
}

pub(crate) fn to_registrar(cx: &Context, calling: &str, number: &str) -> VecDeque<Target> {
    let (Some(registrar), Some(domain)) = (cx.surroundings.registrar(), domain(cx)) else {
        return VecDeque::new();
    };
    let (zone, transport) = (registrar.zone, registrar.transport);
    registrar
        .addresses
        .iter()
        .map(|peer| NextHop::Address {
            zone,
            transport,
            peer: *peer,
        })
        .filter(|hop| transport::own_address(cx, hop).is_some())
        .map(|hop| Target {
            hop,
            peer: Peer::Registrar,
            uri: user_at(number, domain.clone()),
            own: NameAddr::new(user_at(calling, domain.clone())),
            other: NameAddr::new(user_at(number, domain.clone())),
            routes: Vec::new(),
            passes_challenges: true,
            account: None,
        })
        .collect()
}

fn to_trunk(cx: &mut Context, one: &TrunkTry, spared: bool) -> Vec<Target> {
    let (index, calling, number) = (one.index, &one.calling, &one.called);
    let identity = &mut cx.identity;
    let mut draw = |bound| identity.number().checked_rem(bound).unwrap_or(0);
    let addresses = cx.surroundings.in_order(index, &mut draw);
    let cx = &*cx;
    let Some(trunk) = cx.surroundings.trunk(index) else {
        return Vec::new();
    };
    let (zone, transport) = (trunk.zone, trunk.transport);
    let up = |address: &&SocketAddr| cx.health.is_up(&trunk.name, **address);
    // A cry for help tries what seems dead too, after the rest.
    let dead = addresses.iter().filter(|address| spared && !up(address));
    // RFC 3261 §8.1.1.1: who is known by name is called by it, wherever it is.
    let named = trunk.named.as_ref();
    let named = named.and_then(|named| Some((Host::parse_text(&named.host).ok()?, named)));
    addresses
        .iter()
        .filter(up)
        .chain(dead)
        .map(|peer| NextHop::Address {
            zone,
            transport,
            peer: *peer,
        })
        .filter_map(|hop| {
            let own = transport::own_address(cx, &hop)?;
            let (host, port, chosen) = match &named {
                Some((host, named)) => (host.clone(), named.port, named.by_naptr),
                None => (hop.peer().ip().into(), Some(hop.peer().port()), false),
            };
            let mut uri = user_at(number, host);
            if let Some(port) = port.filter(|port| *port != 5060) {
                uri = uri.with_port(port);
            }
            match transport {
                _ if chosen => {}
                Transport::Tcp => uri = uri.with_param("transport", "tcp"),
                Transport::Tls => uri = uri.with_param("transport", "tls"),
                Transport::Udp | Transport::Ws | Transport::Wss => {}
            }
            Some(Target {
                hop,
                peer: Peer::Trunk(index),
                own: NameAddr::new(user_at(calling, Host::Address(own.ip()))),
                other: NameAddr::new(Uri::Sip(uri.clone())),
                uri,
                routes: cx.service_routes.get(&index).cloned().unwrap_or_default(),
                passes_challenges: false,
                account: None,
            })
        })
        .collect()
}

/// Our domain as a host.
pub(crate) fn domain(cx: &Context) -> Option<Host> {
    Host::parse_text(&cx.settings().domain).ok()
}

/// `sip:user@host` from a user part whose escapes are resolved; no user for an empty one.
pub(crate) fn user_at(user: &str, host: Host) -> SipUri {
    let uri = SipUri::new(host);
    if user.is_empty() {
        uri
    } else {
        uri.with_user(user)
    }
}
