//! A document in words: what will answer, who may talk to whom, what is refused. For the review page; a person who knows no
//! nftables must be able to see what is put into force.

use appliance_config::{
    Action, Called, Card, Document, Ipv4, Ipv6, Language, Named, Origin, Route, Service,
    TrunkChoice, Zone, ZoneKind,
};

/// Lines of text, empty ones between the parts.
#[must_use]
pub fn in_words(document: &Document, language: Language) -> Vec<String> {
    let german = language == Language::German;
    let say = |english: &str, german_text: &str| {
        if german {
            german_text.to_owned()
        } else {
            english.to_owned()
        }
    };
    let mut lines = Vec::new();
    for zone in &document.zones {
        lines.push(zone_line(zone, german));
        lines.push(answers(document, zone, german));
        lines.push(reach(document, zone, german));
        lines.push(String::new());
    }
    lines.push(say(
        "Nothing is forwarded between the zones. Calls pass as new calls, media port by port, for as long as the call lasts.",
        "Zwischen den Zonen wird nichts weitergeleitet. Gespräche gehen als neue Gespräche hindurch, Medien Port für Port, solange das Gespräch dauert.",
    ));
    lines.push(say(
        "Everything else is dropped without an answer.",
        "Alles andere wird ohne Antwort verworfen.",
    ));
    lines.push(String::new());
    lines.extend(telephony(document, german));
    lines.push(String::new());
    lines.extend(
        document
            .routes
            .iter()
            .enumerate()
            .map(|(n, route)| route_line(n + 1, route, german)),
    );
    if document.routes.is_empty() {
        lines.push(say(
            "There is no route: no call will pass.",
            "Es gibt keine Route: Kein Gespräch kommt zustande.",
        ));
    }
    lines
}

fn zone_line(zone: &Zone, german: bool) -> String {
    let kind = match (zone.kind, german) {
        (ZoneKind::External, false) => "external",
        (ZoneKind::External, true) => "extern",
        (ZoneKind::Internal, false) => "internal",
        (ZoneKind::Internal, true) => "intern",
        (ZoneKind::Management, false) => "management",
        (ZoneKind::Management, true) => "Verwaltung",
        (ZoneKind::Partner, false) => "partner",
        (ZoneKind::Partner, true) => "Partner",
    };
    let card = match &zone.interface.card {
        Card::Name(name) => name.clone(),
        Card::Mac(mac) => mac.to_string(),
    };
    let vlan = zone
        .interface
        .vlan
        .map(|vlan| format!(", VLAN {vlan}"))
        .unwrap_or_default();
    let addresses = addresses(zone, german);
    let (zone_word, port) = if german {
        ("Zone", "Anschluss")
    } else {
        ("Zone", "port")
    };
    format!(
        "{zone_word} {} ({kind}): {port} {card}{vlan}, {addresses}",
        zone.name
    )
}

fn addresses(zone: &Zone, german: bool) -> String {
    let mut parts = Vec::new();
    match zone.ipv4 {
        Some(Ipv4::Static { address, gateway }) => parts.push(with_gateway(
            address.to_string(),
            gateway.map(|g| g.to_string()),
        )),
        Some(Ipv4::Dhcp) => parts.push(
            if german {
                "IPv4 per DHCP"
            } else {
                "IPv4 by DHCP"
            }
            .to_owned(),
        ),
        None => parts.push(if german { "kein IPv4" } else { "no IPv4" }.to_owned()),
    }
    match zone.ipv6 {
        Some(Ipv6::Static { address, gateway }) => parts.push(with_gateway(
            address.to_string(),
            gateway.map(|g| g.to_string()),
        )),
        Some(Ipv6::Ra) => {
            parts.push(
                if german {
                    "IPv6 per Router-Advertisement"
                } else {
                    "IPv6 by router advertisement"
                }
                .to_owned(),
            );
        }
        None => parts.push(if german { "kein IPv6" } else { "no IPv6" }.to_owned()),
    }
    parts.join(", ")
}

fn with_gateway(address: String, gateway: Option<String>) -> String {
    match gateway {
        Some(gateway) => format!("{address} (Gateway {gateway})"),
        None => address,
    }
}

fn answers(document: &Document, zone: &Zone, german: bool) -> String {
    let listeners: Vec<String> = document
        .listeners
        .iter()
        .filter(|listener| listener.zone == zone.name)
        .map(|listener| {
            let service = match (listener.service, german) {
                (Service::SipUdp | Service::SipTcp, _) => "SIP",
                (Service::SipTls, _) => "SIP-TLS",
                (Service::Ws | Service::Wss, _) => "WebSocket",
                (Service::ManagementHttps, false) => "management HTTPS",
                (Service::ManagementHttps, true) => "Verwaltung HTTPS",
            };
            let transport = if listener.service.is_udp() {
                "UDP"
            } else {
                "TCP"
            };
            format!("{service} ({transport} {})", listener.port)
        })
        .collect();
    match (listeners.is_empty(), german) {
        (true, false) => "  Nothing answers there.".into(),
        (true, true) => "  Dort antwortet nichts.".into(),
        (false, false) => format!(
            "  Answers: {}; echo requests, limited.",
            listeners.join(", ")
        ),
        (false, true) => format!(
            "  Antwortet: {}; Echo-Anfragen, begrenzt.",
            listeners.join(", ")
        ),
    }
}

fn reach(document: &Document, zone: &Zone, german: bool) -> String {
    let media = zone.media.ports;
    let networks = |zone: &Zone| {
        let networks = if zone.media.networks.is_empty() {
            zone.networks()
        } else {
            zone.media.networks.clone()
        };
        networks
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let named = !zone.media.networks.is_empty();
    match (zone.kind, german) {
        (ZoneKind::Management, false) => {
            "  Only from here the box is operated; no calls, no media.".into()
        }
        (ZoneKind::Management, true) => {
            "  Nur von hier wird die Anlage bedient; keine Gespräche, keine Medien.".into()
        }
        (ZoneKind::External | ZoneKind::Partner, false) if !named => format!(
            "  Media: UDP {media}, each port only for its call and its peer. Believed sources: everybody but the {} special-purpose and inner networks.",
            document.bogons(zone).len() + document.zones.len() - 1
        ),
        (ZoneKind::External | ZoneKind::Partner, true) if !named => format!(
            "  Medien: UDP {media}, jeder Port nur für sein Gespräch und seine Gegenstelle. Geglaubte Absender: alle außer den {} Sonder- und inneren Netzen.",
            document.bogons(zone).len() + document.zones.len() - 1
        ),
        (_, false) => format!(
            "  Media: UDP {media}, each port only for its call, only from and to {}.",
            networks(zone)
        ),
        (_, true) => format!(
            "  Medien: UDP {media}, jeder Port nur für sein Gespräch, nur von und zu {}.",
            networks(zone)
        ),
    }
}

fn telephony(document: &Document, german: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let place = |addresses: &[std::net::SocketAddr], named: Option<&Named>| match named {
        Some(named) => named.host.to_string(),
        None => addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let domain = &document.sip.domain;
    lines.push(match (&document.sip.registrar, german) {
        (Some(pbx), false) => {
            format!("PBX of {domain}: {} over {}. Registrations from outside are passed on to it; it checks the passwords.", place(&pbx.addresses, pbx.named.as_ref()), pbx.transport.word().to_uppercase())
        }
        (Some(pbx), true) => {
            format!("Telefonanlage von {domain}: {} über {}. Anmeldungen von außen gehen an sie; sie prüft die Passwörter.", place(&pbx.addresses, pbx.named.as_ref()), pbx.transport.word().to_uppercase())
        }
        (None, false) => format!("There is no PBX for {domain}: nobody can register."),
        (None, true) => format!("Es gibt keine Telefonanlage für {domain}: Niemand kann sich anmelden."),
    });
    for trunk in &document.trunks {
        let how = match (&trunk.registration, german) {
            (Some(registration), false) => format!(
                "the box registers as {} at {}",
                registration.user, registration.realm
            ),
            (Some(registration), true) => format!(
                "die Anlage meldet sich als {} bei {} an",
                registration.user, registration.realm
            ),
            (None, false) => "recognised by its address".into(),
            (None, true) => "an der Adresse erkannt".into(),
        };
        let (word, over) = if german {
            ("Anbieter", "über")
        } else {
            ("Carrier", "over")
        };
        let transport = trunk.transport.word().to_uppercase();
        lines.push(format!(
            "{word} {}: {} {over} {transport}; {how}.",
            trunk.name,
            place(&trunk.addresses, trunk.named.as_ref())
        ));
    }
    lines.extend(encrypted(document, german));
    lines.push(
        if german {
            "Unbekannte bekommen auf Anrufe keine Antwort."
        } else {
            "Calls of strangers get no answer at all."
        }
        .into(),
    );
    lines
}

/// Where SIP over TLS is accepted, and what telephones have to believe for it.
fn encrypted(document: &Document, german: bool) -> Vec<String> {
    let tls = document.listeners.iter();
    let tls: Vec<String> = tls
        .filter(|listener| listener.service == Service::SipTls)
        .map(|listener| {
            let (zone, port) = (&listener.zone, listener.port);
            let certificate = listener.certificates.join(", ");
            if german {
                format!("Verschlüsseltes SIP (TLS) wird in Zone {zone} auf Port {port} angenommen, mit dem Zertifikat `{certificate}`.")
            } else {
                format!("Encrypted SIP (TLS) is accepted in zone {zone} on port {port}, with the certificate `{certificate}`.")
            }
        })
        .collect();
    if !tls.is_empty() {
        return tls;
    }
    let none = if german {
        "Verschlüsseltes SIP (TLS) wird nicht angenommen."
    } else {
        "Encrypted SIP (TLS) is not accepted."
    };
    vec![none.to_owned()]
}

fn route_line(number: usize, route: &Route, german: bool) -> String {
    let from: Vec<String> = route
        .from
        .iter()
        .map(|origin| match (origin, german) {
            (Origin::Registered, false) => "registered users".into(),
            (Origin::Registered, true) => "angemeldete Benutzer".into(),
            (Origin::Internal, false) => "internal hosts".into(),
            (Origin::Internal, true) => "interne Rechner".into(),
            (Origin::Registrar, false) => "the PBX".into(),
            (Origin::Registrar, true) => "die Telefonanlage".into(),
            (Origin::Trunk(name), _) => name.clone(),
            (Origin::Zone(name), false) => format!("known callers in {name}"),
            (Origin::Zone(name), true) => format!("bekannte Anrufer in {name}"),
        })
        .collect();
    let mut called = called_line(&route.called, german);
    if !route.domains.is_empty() {
        called.push_str(&format!(" @ {}", route.domains.join(", ")));
    }
    if let Some(when) = &route.when {
        let hours: Vec<String> = when.hours.iter().map(ToString::to_string).collect();
        let (word, all) = if german {
            ("zu bestimmten Zeiten", "ganztags")
        } else {
            ("at certain times", "all day")
        };
        let hours = if hours.is_empty() {
            all.to_owned()
        } else {
            hours.join(", ")
        };
        called.push_str(&format!(" ({word}: {hours})"));
    }
    let names = |trunks: &[TrunkChoice], then: &str| {
        let names: Vec<&str> = trunks.iter().map(|trunk| trunk.name.as_str()).collect();
        names.join(then)
    };
    let target = match (&route.action, german) {
        (Action::Registrar, false) => "to the PBX".to_owned(),
        (Action::Registrar, true) => "an die Telefonanlage".to_owned(),
        (Action::Trunks(trunks), false) => format!("to {}", names(trunks, ", then ")),
        (Action::Trunks(trunks), true) => format!("an {}", names(trunks, ", sonst ")),
        (Action::Binding, false) => "to the phone registered under it".to_owned(),
        (Action::Binding, true) => "an das darunter angemeldete Telefon".to_owned(),
        (Action::Refuse(status), false) => format!("refused ({status})"),
        (Action::Refuse(status), true) => format!("abgelehnt ({status})"),
    };
    format!("{number:>2}. {} -> {called}: {target}", from.join(", "))
}

fn called_line(called: &Called, german: bool) -> String {
    let called = match (called, german) {
        (Called::Number(called), _) => called,
        (Called::Pattern(pattern), _) => return pattern.to_string(),
        (Called::Anything, false) => return "anything".into(),
        (Called::Anything, true) => return "alles".into(),
    };
    let (prefix, digits) = (&called.prefix, called.digits);
    if digits.last == 0 {
        return prefix.clone();
    }
    match (called.range, german) {
        (Some(range), _) => {
            let width = usize::from(digits.first);
            format!("{prefix}[{:0width$}-{:0width$}]", range.first, range.last)
        }
        (None, false) => format!("{prefix} + {digits} digits"),
        (None, true) => format!("{prefix} + {digits} Ziffern"),
    }
}
