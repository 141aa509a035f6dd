//! What a REGISTER wants, read from its typed fields: contacts with their times, preferences and flows. RFC 3261 §10.2,
//! RFC 5626 §4.2, RFC 3327.

use broker_proto::settings::{ShortRefresh, Transport};
use sbc_sip::{
    headers::NameAddr,
    message::Request,
    text::Text,
    uri::{Host, SipUri, Uri},
};

use super::bindings::Token;
use crate::{context::Context, transport::Flow};

/// Contacts of one REGISTER at most.
pub(super) const CONTACTS: usize = 8;
/// Seconds that a binding lasts if nobody says (RFC 3261 §10.2.1.1).
const USUAL_SECONDS: u32 = 3_600;
/// Seconds that a binding may last at most.
pub(super) const LONGEST_SECONDS: u32 = 86_400;
/// Proxies between a phone and us, at most.
pub(super) const PATH: usize = 4;
/// Octets of an instance, at most.
pub(super) const INSTANCE: usize = 128;

/// A contact that is to be bound or, with no seconds, to go.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) contact: SipUri,
    pub(super) token: Token,
    pub(super) seconds: u32,
    /// Preference in thousandths.
    pub(super) q: u16,
    /// Instance and number of the flow (RFC 5626).
    pub(super) outbound: Option<Box<(Text, u32)>>,
}

/// What a REGISTER wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// To know its bindings.
    Query,
    /// Contacts.
    Contacts(Vec<Wanted>),
    /// All bindings to go.
    RemoveAll,
}

impl Wish {
    /// Contacts that are to be bound.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Wanted> {
        let contacts = match self {
            Self::Contacts(contacts) => &contacts[..],
            Self::Query | Self::RemoveAll => &[],
        };
        contacts.iter().filter(|wanted| wanted.seconds > 0)
    }
}

/// Read the wish of a REGISTER for `user`; `Err`: status and reason.
pub(super) fn read(
    cx: &Context,
    user: &str,
    request: &Request,
) -> Result<Wish, (u16, &'static str)> {
    let expires = request.headers.expires();
    let contacts = &request.headers.contacts;
    if request.headers.contact_star {
        // RFC 3261 §10.2.2.
        return match expires {
            Some(0) if contacts.is_empty() => Ok(Wish::RemoveAll),
            _ => Err((400, "star-without-zero")),
        };
    }
    if contacts.is_empty() {
        return Ok(Wish::Query);
    }
    if contacts.len() > CONTACTS {
        return Err((400, "too-many-contacts"));
    }
    let wanted = contacts
        .iter()
        .map(|contact| wanted(cx, user, contact, expires))
        .collect::<Result<Vec<Wanted>, _>>()?;
    let least = cx.settings().registration.min_expires_seconds;
    if wanted
        .iter()
        .any(|wanted| (1..least).contains(&wanted.seconds))
    {
        return Err((423, "interval-too-brief"));
    }
    for (index, one) in wanted.iter().enumerate() {
        if wanted
            .iter()
            .skip(index + 1)
            .any(|other| other.token == one.token)
        {
            return Err((400, "contact-twice"));
        }
    }
    // RFC 5626 §4.2: one flow in one REGISTER.
    if wanted.len() > 1 && wanted.iter().any(|wanted| wanted.outbound.is_some()) {
        return Err((400, "flows-in-one-register"));
    }
    Ok(Wish::Contacts(wanted))
}

fn wanted(
    cx: &Context,
    user: &str,
    contact: &NameAddr,
    expires: Option<u32>,
) -> Result<Wanted, (u16, &'static str)> {
    let Uri::Sip(uri) = &contact.uri else {
        return Err((400, "contact-not-sip"));
    };
    let uri = uri.as_request_uri().detached();
    let outbound = outbound(contact);
    // RFC 5626 §6: a flow is another way to the same instance, whatever contact it has now. Any other contact is always
    // the same for the same URI, so that a refresh is one.
    let token = match &outbound {
        Some(flow) => cx
            .identity
            .derived_octets(&["flow", user, &flow.0, &flow.1.to_string()]),
        None => cx
            .identity
            .derived_octets(&["contact", user, &uri.to_string()]),
    };
    Ok(Wanted {
        contact: uri,
        token: Token(token),
        seconds: asked(contact, expires),
        q: contact.q_thousandths(),
        outbound,
    })
}

/// Seconds that a contact asks for.
pub(super) fn asked(contact: &NameAddr, expires: Option<u32>) -> u32 {
    contact
        .expires()
        .or(expires)
        .unwrap_or(USUAL_SECONDS)
        .min(LONGEST_SECONDS)
}

/// Instance and number of a flow, if the contact names both (RFC 5626 §6).
fn outbound(contact: &NameAddr) -> Option<Box<(Text, u32)>> {
    let instance = contact.params.value("+sip.instance")?;
    let number = contact.params.plain("reg-id")?.parse().ok()?;
    let fits = (1..=INSTANCE).contains(&instance.len()) && number > 0;
    fits.then(|| Box::new((Text::from(&*instance), number)))
}

/// Proxies that a REGISTER came through and that want requests to the phone to come through them (RFC 3327).
pub(super) fn path(request: &Request) -> Result<Box<[NameAddr]>, (u16, &'static str)> {
    let path = request.headers.path().unwrap_or_default();
    if path.len() > PATH {
        return Err((400, "path-too-long"));
    }
    Ok(path.iter().map(NameAddr::detached).collect())
}

/// Whether a translator lies between us and a phone: it calls itself by another address than the one it is seen by. On a
/// connection the port is never the one that it listens on.
pub(super) fn behind_nat(flow: &Flow, contact: &SipUri) -> bool {
    let Host::Address(address) = contact.host else {
        return true;
    };
    let port = flow.connection.is_none() && contact.port.unwrap_or(5060) != flow.peer.port();
    address.to_canonical() != flow.peer.ip().to_canonical() || port
}

/// Seconds that a phone is granted at most, if it is to refresh often.
pub(super) fn short(cx: &Context, flow: &Flow, behind_nat: bool) -> Option<u32> {
    let settings = &cx.settings().registration;
    let applies = match settings.short_refresh {
        ShortRefresh::Nat => behind_nat,
        ShortRefresh::Udp => behind_nat || flow.transport == Transport::Udp,
        ShortRefresh::All => true,
    };
    applies.then_some(match flow.connection {
        None => settings.refresh_udp_seconds,
        Some(_) => settings.refresh_stream_seconds,
    })
}

/// Seconds that a phone is told: what it asked for, as far as the registrar granted it; of a short time a little less for
/// some than for others, so that those who came together do not come back together.
pub(super) fn told(cx: &mut Context, asked: u32, granted: u32, short: Option<u32>) -> u32 {
    let seconds = asked.min(granted);
    match short {
        Some(short) if seconds >= short => {
            let part = u64::from(short / 8).max(1);
            short - u32::try_from(cx.identity.number() % part).unwrap_or(0)
        }
        _ => seconds,
    }
}
