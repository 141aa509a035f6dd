//! Listeners, registrar and trunks: what `firewall` turns into the typed settings of the sbc.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::{
    dialplan::{Caps, TrunkPolicy},
    error::say,
    named::Named,
    table::{Report, Section},
    value::{endpoint, print_endpoint, words},
    zone::{check_name, read_name},
};

/// Most listeners of a document.
pub const MAX_LISTENERS: usize = 64;
/// Most trunks of a document.
pub const MAX_TRUNKS: usize = 64;
/// Most addresses of a registrar or trunk.
pub const MAX_ADDRESSES: usize = 16;
/// Key of what a peer reached by datagrams gets by streams.
const LARGE: &str = "large_requests_by_tcp";
/// Most certificates, authorities, names or origins in one list.
pub const MAX_NAMES: usize = 16;
/// Port of SIP over UDP and TCP (RFC 3261 §19.1.2).
pub const SIP_PORT: u16 = 5060;

words! {
    /// What a listener serves.
    pub enum Service {
        /// SIP over UDP.
        SipUdp = "sip-udp",
        /// SIP over TCP.
        SipTcp = "sip-tcp",
        /// SIP over TLS.
        SipTls = "sip-tls",
        /// SIP over WebSocket (RFC 7118), path `/ws`.
        Ws = "ws",
        /// SIP over WebSocket over TLS.
        Wss = "wss",
        /// REST API, metrics and health of the management process.
        ManagementHttps = "management-https",
    }
}

impl Service {
    /// Whether the service stands on UDP; otherwise on TCP.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        matches!(self, Self::SipUdp)
    }

    /// Whether clients begin with a TLS handshake that the sbc does.
    #[must_use]
    pub const fn is_sip_over_tls(self) -> bool {
        matches!(self, Self::SipTls | Self::Wss)
    }

    /// Whether messages come over WebSocket.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Whether the sbc asks for its socket.
    #[must_use]
    pub const fn is_sip(self) -> bool {
        !matches!(self, Self::ManagementHttps)
    }

    /// Its usual port.
    #[must_use]
    pub const fn usual_port(self) -> u16 {
        match self {
            Self::SipUdp | Self::SipTcp => SIP_PORT,
            Self::SipTls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
            Self::ManagementHttps => 8443,
        }
    }
}

/// A port on which the box answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Name of the zone, on all of whose addresses it listens.
    pub zone: String,
    /// What it serves.
    pub service: Service,
    /// Port; left out: the service's usual one.
    pub port: u16,
    /// Over TLS: names of certificates in the keyholder; the first is shown to who names no host, or one of none of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// Over WebSocket: origins of pages that may connect besides those of the same host; `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
}

impl Listener {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &["zone", "service", "port", "certificates", "origins"],
        );
        let zone = section.required(report, "zone");
        let service: Option<Service> = section.required(report, "service");
        let port: Option<Option<u16>> = section.optional(report, "port");
        if port == Some(Some(0)) {
            report.error(
                &section.key("port"),
                say!(
                    "port 0 cannot be listened on",
                    "auf Port 0 kann nichts angeboten werden"
                ),
            );
        }
        let certificates = read_names(section, report, "certificates");
        let origins: Option<Vec<String>> = section.list(report, "origins", MAX_NAMES);
        let service = service?;
        Some(Self {
            zone: zone?,
            service,
            port: port?.unwrap_or(service.usual_port()),
            certificates: certificates?,
            origins: origins?,
        })
    }
}

words! {
    /// How a registrar or trunk is reached.
    pub enum Transport {
        /// SIP over UDP.
        Udp = "udp",
        /// SIP over TCP.
        Tcp = "tcp",
        /// SIP over TLS, by the rules of its table `tls`.
        Tls = "tls",
        /// As the NAPTR records of its host say (RFC 3263): over TLS if it has a table `tls`, otherwise over UDP or TCP.
        Naptr = "naptr",
    }
}

/// How a trunk or PBX is told apart over TLS (RFC 5922).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerTls {
    /// Its certificate bears one of these: a DNS name, an address, or `sip:` and a domain; none: one of its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Who vouches for it: names of bundles of certificates beside the secrets.
    pub authorities: Vec<String>,
    /// What is shown to it when it asks: name of a certificate in the keyholder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl PeerTls {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["names", "authorities", "certificate"]);
        let names: Option<Vec<String>> = section.list(report, "names", MAX_NAMES);
        for (index, name) in names.iter().flatten().enumerate() {
            if !is_certificate_name(name) {
                report.error(
                    &section.key(&format!("names[{index}]")),
                    say!(
                        "is no name of a certificate: write a host or domain in small letters, an address, or sip: and a domain",
                        "ist kein Name eines Zertifikats; möglich: ein Rechner- oder Domainname in Kleinbuchstaben, eine Adresse, oder sip: und eine Domain"
                    ),
                );
            }
        }
        let authorities = read_names(section, report, "authorities");
        if authorities.as_ref().is_some_and(Vec::is_empty) {
            section.missing(report, "authorities");
        }
        let certificate: Option<Option<String>> = section.optional(report, "certificate");
        let certificate =
            certificate?.and_then(|name| check_name(report, &section.key("certificate"), name));
        Some(Self {
            names: names?,
            authorities: authorities?,
            certificate,
        })
    }

    fn optional(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Option<Self>> {
        match section.table(report, "tls") {
            None => Some(None),
            Some(table) => Self::read(&table, report).map(Some),
        }
    }
}

/// A DNS name, an address, or `sip:` and a domain (RFC 5922 §7.1).
fn is_certificate_name(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
        || is_host_name(name.strip_prefix("sip:").unwrap_or(name))
}

/// A list of names of secrets.
fn read_names(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    key: &str,
) -> Option<Vec<String>> {
    let names: Vec<String> = section.list(report, key, MAX_NAMES)?;
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| check_name(report, &section.key(&format!("{key}[{index}]")), name))
        .collect()
}

/// Identity of the organisation in SIP, and its PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sip {
    /// SIP domain and realm.
    pub domain: String,
    /// The registrar and PBX, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registrar: Option<Registrar>,
    /// How much one account (a registered user) may take.
    #[serde(skip_serializing_if = "Caps::is_open")]
    pub account: Caps,
}

/// The registrar and PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registrar {
    /// Name of its zone.
    pub zone: String,
    /// Its addresses, in order of preference; printed without port where it is 5060. None, if it is known by name.
    #[serde(serialize_with = "print_sip", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// It is known by name.
    #[serde(flatten)]
    pub named: Option<Named>,
    /// How it is reached.
    pub transport: Transport,
    /// Over UDP: whether requests too large for a datagram go by TCP to the same port (RFC 3261 §18.1.1).
    pub large_requests_by_tcp: bool,
    /// Over TLS: whose certificate it must show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTls>,
}

pub(crate) fn print_sip<S: Serializer>(
    addresses: &[SocketAddr],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        addresses
            .iter()
            .map(|address| print_endpoint(address, SIP_PORT)),
    )
}

impl Sip {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["domain", "registrar", "account"]);
        let domain: Option<String> = section.required(report, "domain");
        let domain = domain.and_then(|domain| {
            if is_host_name(&domain) {
                return Some(domain);
            }
            report.error(
                &section.key("domain"),
                say!(
                    "is not a domain name; write it like example.org, in small letters",
                    "ist kein Domainname; Schreibweise example.org, in Kleinbuchstaben"
                ),
            );
            None
        });
        let registrar = match section.table(report, "registrar") {
            None => None,
            Some(table) => {
                let own = ["zone", "addresses", "transport", LARGE, "tls"];
                table.only(report, &[&own[..], &Named::KEYS].concat());
                let zone = table.required(report, "zone");
                let large_requests_by_tcp = table.or(report, LARGE, true);
                let tls = PeerTls::optional(&table, report);
                let place = Place::read(&table, matches!(tls, Some(Some(_))), report);
                let place = place?;
                Some(Registrar {
                    zone: zone?,
                    addresses: place.addresses,
                    named: place.named,
                    transport: place.transport,
                    large_requests_by_tcp: large_requests_by_tcp?,
                    tls: tls?,
                })
            }
        };
        let account = Caps::read(section, report, "account");
        Some(Self {
            domain: domain?,
            registrar,
            account: account?,
        })
    }
}

/// Where a peer is and how it is reached: by `addresses` or by `host`.
struct Place {
    addresses: Vec<SocketAddr>,
    named: Option<Named>,
    transport: Transport,
}

impl Place {
    fn read(section: &Section<'_, '_>, tls: bool, report: &mut Report<'_>) -> Option<Self> {
        let transport: Option<Option<Transport>> = section.optional(report, "transport");
        let said = transport.flatten();
        let addresses = section.list_with(report, "addresses", MAX_ADDRESSES, |value| {
            endpoint(value, SIP_PORT)
        });
        let usual = said.filter(|said| *said != Transport::Naptr);
        let usual = usual.or(tls.then_some(Transport::Tls));
        let named = Named::optional(section, usual, report);
        let (addresses, named, transport) = (addresses?, named?, transport?);
        if let Some(named) = &named
            && !addresses.is_empty()
        {
            let name = &named.host.name;
            report.error(
                &section.key("addresses"),
                say!(
                    "`{name}` is looked up; a peer has either `host` or `addresses`",
                    "`{name}` wird nachgeschlagen; eine Gegenstelle hat entweder `host` oder `addresses`"
                ),
            );
            return None;
        }
        let Some(host) = named.as_ref().map(|named| &named.host) else {
            if transport == Some(Transport::Naptr) {
                report.error(
                    &section.key("transport"),
                    say!(
                        "NAPTR records belong to a `host`; for addresses say udp, tcp or tls",
                        "NAPTR-Einträge gehören zu einem `host`; bei Adressen ist udp, tcp oder tls anzugeben"
                    ),
                );
                return None;
            }
            if addresses.is_empty() {
                section.missing(report, "addresses");
                return None;
            }
            return Some(Self {
                addresses,
                named,
                transport: transport.unwrap_or(Transport::Udp),
            });
        };
        if host.port.is_some() && transport == Some(Transport::Naptr) {
            report.error(
                &section.key("transport"),
                say!(
                    "with a port in `host` no NAPTR record is asked for (RFC 3263); say udp, tcp or tls, or leave the port out",
                    "mit einem Port in `host` wird kein NAPTR-Eintrag abgefragt (RFC 3263); möglich: udp, tcp oder tls, oder kein Port"
                ),
            );
            return None;
        }
        // RFC 3263 §4.1: what a port and no transport stand for.
        let left_out = match (host.port, tls) {
            (None, _) => Transport::Naptr,
            (Some(_), true) => Transport::Tls,
            (Some(_), false) => Transport::Udp,
        };
        Some(Self {
            addresses,
            transport: transport.unwrap_or(left_out),
            named,
        })
    }
}

/// RFC 1123 name in small letters: labels of 1–63 letters, digits and hyphens, at most 253 octets.
pub(crate) fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

/// A carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// Name of its zone.
    pub zone: String,
    /// Its addresses, in order of preference; requests from any port of them are the trunk's. None, if it is known by name.
    #[serde(serialize_with = "print_sip", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SocketAddr>,
    /// It is known by name.
    #[serde(flatten)]
    pub named: Option<Named>,
    /// How it is reached.
    pub transport: Transport,
    /// Over UDP: whether requests too large for a datagram go by TCP to the same port (RFC 3261 §18.1.1).
    pub large_requests_by_tcp: bool,
    /// Over TLS, both ways: whose certificate it must show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTls>,
    /// Whether the product registers there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Numbers, limits, health and priority.
    #[serde(flatten)]
    pub policy: TrunkPolicy,
}

/// Registration of the product at a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// User part of the address-of-record, and digest user name.
    pub user: String,
    /// Domain of the address-of-record, and digest realm that is answered.
    pub realm: String,
    /// Seconds between registrations, at most.
    pub interval_seconds: u32,
    /// Name of the password in the keyholder.
    pub secret: String,
}

impl Trunk {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        let own = [
            "name",
            "zone",
            "addresses",
            "transport",
            LARGE,
            "tls",
            "registration",
        ];
        section.only(
            report,
            &[&own[..], &Named::KEYS, &TrunkPolicy::KEYS].concat(),
        );
        let name = read_name(section, report);
        let zone = section.required(report, "zone");
        let large_requests_by_tcp = section.or(report, LARGE, true);
        let tls = PeerTls::optional(section, report);
        let place = Place::read(section, matches!(tls, Some(Some(_))), report);
        let registration = match section.table(report, "registration") {
            None => None,
            Some(table) => Some(Registration::read(&table, report)?),
        };
        let policy = TrunkPolicy::read(section, report);
        let place = place?;
        Some(Self {
            name: name?,
            zone: zone?,
            addresses: place.addresses,
            named: place.named,
            transport: place.transport,
            large_requests_by_tcp: large_requests_by_tcp?,
            tls: tls?,
            registration,
            policy: policy?,
        })
    }
}

impl Registration {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["user", "realm", "interval_seconds", "secret"]);
        let user: Option<String> = section.required(report, "user");
        let realm: Option<String> = section.required(report, "realm");
        let interval_seconds = section.or(report, "interval_seconds", 300);
        let secret: Option<String> = section.required(report, "secret");
        let secret = secret.and_then(|secret| check_name(report, &section.key("secret"), secret));
        let user = user.filter(|user| {
            let fits = (1..=64).contains(&user.len())
                && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&b));
            if !fits {
                report.error(
                    &section.key("user"),
                    say!(
                        "a SIP user here is 1 to 64 letters, digits and - _ . ! ~ * ' ( ) +",
                        "ein SIP-Benutzer besteht hier aus 1 bis 64 Buchstaben, Ziffern und - _ . ! ~ * ' ( ) +"
                    ),
                );
            }
            fits
        });
        let realm = realm.filter(|realm| {
            let fits = is_host_name(realm);
            if !fits {
                report.error(
                    &section.key("realm"),
                    say!(
                        "is not a domain name; write it like carrier.example, in small letters",
                        "ist kein Domainname; Schreibweise carrier.example, in Kleinbuchstaben"
                    ),
                );
            }
            fits
        });
        Some(Self {
            user: user?,
            realm: realm?,
            interval_seconds: interval_seconds?,
            secret: secret?,
        })
    }
}
