//! Where a call may go: the route's action as a list of places to try, in order.

use std::collections::VecDeque;

use broker_proto::settings::{RouteAction, Transport};
use sbc_sip::{
    headers::NameAddr,
    uri::{Host, SipUri, Uri},
};

use crate::{
    context::Context,
    registration::bindings::{Binding, Bindings},
    routing,
    surroundings::Peer,
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
    /// Its challenges mean the caller, whose credentials go there: only the registrar's do.
    pub(crate) passes_challenges: bool,
}

/// Why a call goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoTarget {
    /// Status for a known peer; a stranger gets silence.
    pub(crate) status: u16,
    /// Stable word for counter and log.
    pub(crate) reason: &'static str,
}

/// Where a call goes.
pub(crate) struct Way {
    /// The route's name; empty: none was needed.
    pub(crate) route: String,
    /// At least one.
    pub(crate) targets: VecDeque<Target>,
}

const fn refused(status: u16, reason: &'static str) -> NoTarget {
    NoTarget { status, reason }
}

/// Where a call of `calling` to the Request-URI's user goes that came from `peer` by `flow`.
pub(crate) fn find(
    cx: &Context,
    bindings: &Bindings,
    (peer, flow): (Peer, &Flow),
    calling: &str,
    called: &str,
) -> Result<Way, NoTarget> {
    if peer == Peer::Registrar
        && let Some(binding) = bindings.by_token(called)
    {
        let targets = VecDeque::from([to_binding(cx, binding, calling)?]);
        return Ok(Way {
            route: String::new(),
            targets,
        });
    }
    let origins = cx.surroundings.origins(peer, bindings.is_registered(flow));
    let decision =
        routing::decide(&cx.settings().routes, &origins, called).ok_or(refused(404, "no-route"))?;
    let targets: VecDeque<Target> = match &decision.action {
        RouteAction::Refuse(status) => {
            let status = if (400..=699).contains(status) {
                *status
            } else {
                403
            };
            return Err(refused(status, "route-refuses"));
        }
        // The PBX's own call would come straight back to it.
        RouteAction::Registrar if peer == Peer::Registrar => return Err(refused(482, "loop")),
        RouteAction::Registrar => to_registrar(cx, calling, &decision.number),
        RouteAction::Trunks(names) => names
            .iter()
            .flat_map(|name| to_trunk(cx, name, calling, &decision.number))
            .collect(),
        RouteAction::Binding => {
            let binding = bindings
                .by_user(&decision.number)
                .ok_or(refused(480, "not-registered"))?;
            VecDeque::from([to_binding(cx, binding, calling)?])
        }
    };
    if targets.is_empty() {
        return Err(refused(503, "no-way"));
    }
    Ok(Way {
        route: decision.route,
        targets,
    })
}

fn to_binding(cx: &Context, binding: &Binding, calling: &str) -> Result<Target, NoTarget> {
    let domain = domain(cx).ok_or(refused(503, "no-way"))?;
    if binding
        .flow
        .connection
        .is_some_and(|connection| cx.connections.flow(connection).is_none())
    {
        return Err(refused(480, "connection-gone"));
    }
    Ok(Target {
        hop: NextHop::Flow(binding.flow),
        peer: cx
            .surroundings
            .peer(binding.flow.zone, binding.flow.peer.ip()),
        uri: binding.contact.as_request_uri(),
        own: NameAddr::new(user_at(calling, domain.clone())),
        other: NameAddr::new(user_at(&binding.user, domain)),
        passes_challenges: false,
    })
}

fn to_registrar(cx: &Context, calling: &str, number: &str) -> VecDeque<Target> {
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
            passes_challenges: true,
        })
        .collect()
}

fn to_trunk(cx: &Context, name: &str, calling: &str, number: &str) -> Vec<Target> {
    let Some((index, trunk)) = cx.surroundings.trunk_named(name) else {
        return Vec::new();
    };
    let (zone, transport) = (trunk.zone, trunk.transport);
    trunk
        .addresses
        .iter()
        .map(|peer| NextHop::Address {
            zone,
            transport,
            peer: *peer,
        })
        .filter_map(|hop| {
            let own = transport::own_address(cx, &hop)?;
            let mut uri = user_at(number, Host::Address(hop.peer().ip()));
            if hop.peer().port() != 5060 {
                uri = uri.with_port(hop.peer().port());
            }
            match transport {
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
                passes_challenges: false,
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
