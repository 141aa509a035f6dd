//! Listeners, registrar, trunks and routes: what `firewall` turns into the typed settings of the sbc.

use std::net::SocketAddr;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    error::say,
    table::{Report, Section},
    value::{Span, endpoint, print_endpoint, words},
    zone::{check_name, read_name},
};

/// Most listeners of a document.
pub const MAX_LISTENERS: usize = 64;
/// Most trunks of a document.
pub const MAX_TRUNKS: usize = 64;
/// Most routes of a document.
pub const MAX_ROUTES: usize = 1000;
/// Most addresses of a registrar or trunk.
pub const MAX_ADDRESSES: usize = 16;
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
}

/// The registrar and PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registrar {
    /// Name of its zone.
    pub zone: String,
    /// Its addresses, in order of preference; printed without port where it is 5060.
    #[serde(serialize_with = "print_sip")]
    pub addresses: Vec<SocketAddr>,
    /// How it is reached.
    pub transport: Transport,
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
        section.only(report, &["domain", "registrar"]);
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
                table.only(report, &["zone", "addresses", "transport", "tls"]);
                let zone = table.required(report, "zone");
                let addresses = read_addresses(&table, report);
                let transport = table.or(report, "transport", Transport::Udp);
                let tls = PeerTls::optional(&table, report);
                Some(Registrar {
                    zone: zone?,
                    addresses: addresses?,
                    transport: transport?,
                    tls: tls?,
                })
            }
        };
        Some(Self {
            domain: domain?,
            registrar,
        })
    }
}

fn read_addresses(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Vec<SocketAddr>> {
    let addresses = section.list_with(report, "addresses", MAX_ADDRESSES, |value| {
        endpoint(value, SIP_PORT)
    })?;
    if addresses.is_empty() {
        section.missing(report, "addresses");
        return None;
    }
    Some(addresses)
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
    /// Its addresses, in order of preference; requests from any port of them are the trunk's.
    #[serde(serialize_with = "print_sip")]
    pub addresses: Vec<SocketAddr>,
    /// How it is reached.
    pub transport: Transport,
    /// Over TLS, both ways: whose certificate it must show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PeerTls>,
    /// Whether the product registers there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
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
        section.only(
            report,
            &[
                "name",
                "zone",
                "addresses",
                "transport",
                "tls",
                "registration",
            ],
        );
        let name = read_name(section, report);
        let zone = section.required(report, "zone");
        let addresses = read_addresses(section, report);
        let transport = section.or(report, "transport", Transport::Udp);
        let tls = PeerTls::optional(section, report);
        let registration = match section.table(report, "registration") {
            None => None,
            Some(table) => Some(Registration::read(&table, report)?),
        };
        Some(Self {
            name: name?,
            zone: zone?,
            addresses: addresses?,
            transport: transport?,
            tls: tls?,
            registration,
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

/// Who a caller is, as far as routing cares. Spelt `registered`, `internal`, `registrar`, `trunk:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A source with a live binding that the registrar accepted.
    Registered,
    /// A host of an internal zone (the PBX among them).
    Internal,
    /// The PBX itself.
    Registrar,
    /// The trunk of that name.
    Trunk(String),
}

impl core::fmt::Display for Origin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Registered => f.write_str("registered"),
            Self::Internal => f.write_str("internal"),
            Self::Registrar => f.write_str("registrar"),
            Self::Trunk(name) => write!(f, "trunk:{name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl crate::value::Scalar for Origin {
    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, crate::error::Sentence> {
        let written = String::read(value)?;
        match written.as_str() {
            "registered" => Ok(Self::Registered),
            "internal" => Ok(Self::Internal),
            "registrar" => Ok(Self::Registrar),
            other => match other.strip_prefix("trunk:") {
                Some(name) if !name.is_empty() => Ok(Self::Trunk(name.to_owned())),
                _ => Err(crate::value::not_one_of(
                    other,
                    &["registered", "internal", "registrar", "trunk:NAME"],
                )),
            },
        }
    }
}

words! {
    /// What is done with a call that a route matched; `trunks` and `status` belong to two of them.
    pub enum ActionWord {
        /// To the PBX.
        Registrar = "registrar",
        /// To the first of the trunks that takes it.
        Trunks = "trunks",
        /// To a live binding of the called number.
        Binding = "binding",
        /// Refused with a status code.
        Refuse = "refuse",
    }
}

/// What is done with a call that a route matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// To the PBX.
    Registrar,
    /// To the first of these trunks that takes it.
    Trunks(Vec<String>),
    /// To a live binding of the called number, or 480.
    Binding,
    /// Refused with this status code (4xx–6xx).
    Refuse(u16),
}

/// Which called numbers a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Called {
    /// First characters, maybe none; `+` allowed.
    pub prefix: String,
    /// How many digits may follow the prefix.
    pub digits: Span<u8>,
    /// Lowest and highest value of those digits.
    pub range: Option<Span<u64>>,
}

/// One line of the routing table; the first that matches counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name; stands in call records.
    pub name: String,
    /// Callers it is for; empty: nobody.
    pub from: Vec<Origin>,
    /// Called numbers it is for.
    pub called: Called,
    /// Characters cut from the front of the number.
    pub strip: u8,
    /// Characters put in front afterwards.
    pub prepend: String,
    /// What is done.
    pub action: Action,
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("route", 10)?;
        out.serialize_field("name", &self.name)?;
        out.serialize_field("from", &self.from)?;
        out.serialize_field("prefix", &self.called.prefix)?;
        out.serialize_field("digits", &self.called.digits)?;
        if let Some(range) = self.called.range {
            out.serialize_field("range", &range)?;
        }
        if self.strip != 0 {
            out.serialize_field("strip", &self.strip)?;
        }
        if !self.prepend.is_empty() {
            out.serialize_field("prepend", &self.prepend)?;
        }
        match &self.action {
            Action::Registrar => out.serialize_field("action", &ActionWord::Registrar)?,
            Action::Binding => out.serialize_field("action", &ActionWord::Binding)?,
            Action::Trunks(trunks) => {
                out.serialize_field("action", &ActionWord::Trunks)?;
                out.serialize_field("trunks", trunks)?;
            }
            Action::Refuse(status) => {
                out.serialize_field("action", &ActionWord::Refuse)?;
                out.serialize_field("status", status)?;
            }
        }
        out.end()
    }
}

impl Route {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &[
                "name", "from", "prefix", "digits", "range", "strip", "prepend", "action",
                "trunks", "status",
            ],
        );
        let name = read_name(section, report);
        let from = section.list(report, "from", MAX_TRUNKS + 3);
        let prefix = section.or(report, "prefix", String::new());
        let prefix =
            prefix.and_then(|prefix| check_dialled(report, &section.key("prefix"), prefix));
        let digits = section.required(report, "digits");
        let range = section.optional(report, "range");
        let strip = section.or(report, "strip", 0);
        let prepend = section.or(report, "prepend", String::new());
        let prepend =
            prepend.and_then(|prepend| check_dialled(report, &section.key("prepend"), prepend));
        let action = read_action(section, report);
        let action = action?;
        let called = Called {
            prefix: prefix?,
            digits: digits?,
            range: range?,
        };
        Some(Self {
            name: name?,
            from: from?,
            called,
            strip: strip?,
            prepend: prepend?,
            action,
        })
    }
}

fn check_dialled(report: &mut Report<'_>, key: &str, text: String) -> Option<String> {
    let digits = text.strip_prefix('+').unwrap_or(&text);
    if digits.len() <= 32
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'*' || b == b'#')
    {
        return Some(text);
    }
    report.error(
        key,
        say!(
            "is not the beginning of a number: at most 32 digits, * and #, with + only in front",
            "ist kein Rufnummernanfang: höchstens 32 Ziffern, * und #, ein + nur vorn"
        ),
    );
    None
}

fn read_action(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Action> {
    let word: Option<ActionWord> = section.required(report, "action");
    let trunks: Vec<String> = section.list(report, "trunks", MAX_TRUNKS)?;
    let status: Option<u16> = section.optional(report, "status")?;
    let word = word?;
    if word != ActionWord::Trunks && !trunks.is_empty() {
        report.error(
            &section.key("trunks"),
            say!(
                "belongs to action = \"trunks\" only",
                "gehört nur zu action = \"trunks\""
            ),
        );
    }
    if word != ActionWord::Refuse && status.is_some() {
        report.error(
            &section.key("status"),
            say!(
                "belongs to action = \"refuse\" only",
                "gehört nur zu action = \"refuse\""
            ),
        );
    }
    match word {
        ActionWord::Registrar => Some(Action::Registrar),
        ActionWord::Binding => Some(Action::Binding),
        ActionWord::Trunks if trunks.is_empty() => {
            section.missing(report, "trunks");
            None
        }
        ActionWord::Trunks => Some(Action::Trunks(trunks)),
        ActionWord::Refuse => match status.unwrap_or(403) {
            status @ 400..=699 => Some(Action::Refuse(status)),
            _ => {
                report.error(
                    &section.key("status"),
                    say!(
                        "a refusal's status code is from 400 to 699",
                        "der Statuscode einer Ablehnung liegt zwischen 400 und 699"
                    ),
                );
                None
            }
        },
    }
}
