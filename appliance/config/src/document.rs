//! The document as a whole: parsed, checked, printed. One exists per revision; init keeps it, `firewall` renders it, the
//! console proposes it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use toml::de::DeTable;

use crate::{
    bogons,
    check::{Known, Paths, check},
    dialplan::Caps,
    error::{ConfigError, say},
    limits::{Bans, Limits, Logging, Registrations},
    policy::{MAX_POLICIES, Policy},
    route::{MAX_ROUTES, Route},
    sip::{Listener, MAX_LISTENERS, MAX_TRUNKS, Sip, Trunk, is_host_name},
    table::{Report, Section},
    value::{endpoint, print_endpoint, words},
    zone::{Card, MAX_ZONES, Zone, ZoneKind, check_name},
};

/// Octets of a document, at most.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// The version of the schema that this crate reads and prints.
pub const SCHEMA: u32 = 1;
/// Most DNS or NTP servers.
pub const MAX_SERVERS: usize = 8;
/// Port of NTP (RFC 5905).
pub const NTP_PORT: u16 = 123;

/// `gatehouse.toml`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Laboratory: allows `lab/reset`. Weakens nothing else.
    pub lab: bool,
    /// The box itself.
    pub host: Host,
    /// Identity in SIP, and the PBX.
    pub sip: Sip,
    /// References to the secrets of the management process.
    pub management: Management,
    /// Networks the box stands in; the index of a zone is its number in all messages.
    #[serde(rename = "zone")]
    pub zones: Vec<Zone>,
    /// Ports on which the box answers.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// Carriers.
    #[serde(rename = "trunk", skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<Trunk>,
    /// Routing table, first match counts.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What passes besides calls.
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Bounds of packets and calls.
    pub limits: Limits,
    /// Registrations of phones.
    pub registration: Registrations,
    /// Bans of sources.
    pub bans: Bans,
    /// What is written down.
    pub logging: Logging,
}

/// The box itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Host name, one label.
    pub name: String,
    /// Language of the console.
    pub language: Language,
    /// Name servers, in order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Time servers, by address: the clock must not depend on names, whose signatures depend on the clock.
    #[serde(serialize_with = "print_ntp", skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<SocketAddr>,
}

fn print_ntp<S: Serializer>(servers: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        servers
            .iter()
            .map(|server| print_endpoint(server, NTP_PORT)),
    )
}

words! {
    /// Languages of the console.
    pub enum Language {
        /// English
        English = "en",
        /// German
        German = "de",
    }
}

/// Names under which the management process's secrets lie in the keyholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Management {
    /// Key and certificate of HTTPS.
    pub certificate: String,
    /// Bearer token of the API.
    pub token: String,
    /// Password of the operators.
    pub password: String,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            certificate: "management".into(),
            token: "api-token".into(),
            password: "operator".into(),
        }
    }
}

impl Document {
    /// Reads and checks a whole document.
    ///
    /// # Errors
    /// Everything that is wrong with it (at most 100 offences), in the order of the lines. `file_name` is only printed.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Vec<ConfigError>> {
        let mut report = Report::new(file_name, if text.len() > MAX_DOCUMENT { "" } else { text });
        let document = Self::read(text, &mut report);
        match document {
            Some(document) if report.is_clean() => Ok(document),
            _ => Err(report.into_errors()),
        }
    }

    /// What is allowed and probably not meant: routes that overlap, emergency numbers that go nowhere. Empty for a document
    /// that is refused.
    #[must_use]
    pub fn warnings(text: &str, file_name: &str) -> Vec<ConfigError> {
        let mut report = Report::new(file_name, if text.len() > MAX_DOCUMENT { "" } else { text });
        match Self::read(text, &mut report) {
            Some(_) if report.is_clean() => report.into_warnings(),
            _ => Vec::new(),
        }
    }

    /// Checks a document that was built in memory, as [`Self::parse`] would.
    ///
    /// # Errors
    /// Everything that is wrong, with the lines of the canonical form.
    pub fn check(&self, file_name: &str) -> Result<(), Vec<ConfigError>> {
        Self::parse(&self.canonical(), file_name).map(|_| ())
    }

    /// The one text of this document: the same for equal documents, every default printed, comments gone.
    #[must_use]
    pub fn canonical(&self) -> String {
        // Every type here is a table of strings, numbers and lists, which the serialiser cannot refuse.
        toml::to_string(self).unwrap_or_default()
    }

    fn read(text: &str, report: &mut Report<'_>) -> Option<Self> {
        if text.len() > MAX_DOCUMENT {
            report.error(
                "",
                say!(
                    "is larger than {MAX_DOCUMENT} octets",
                    "ist größer als {MAX_DOCUMENT} Oktette"
                ),
            );
            return None;
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in &errors {
                let what = crate::value::shown(error.message());
                report.error_at(
                    error.span().map_or(0, |span| span.start),
                    "",
                    say!("is not TOML here: {what}", "ist hier kein TOML: {what}"),
                );
            }
            return None;
        }
        let root = Section::root(&table);
        // A document of another version would drown in unknown keys: say the one thing that matters.
        let schema: u32 = root.required(report, "schema")?;
        if schema != SCHEMA {
            report.error(
                "schema",
                say!(
                    "this version reads schema {SCHEMA}, the document says {schema}",
                    "diese Version liest Schema {SCHEMA}, das Dokument sagt {schema}"
                ),
            );
            return None;
        }
        Self::read_tables(&root, report)
    }

    fn read_tables(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        root.only(
            report,
            &[
                "schema",
                "lab",
                "host",
                "sip",
                "management",
                "zone",
                "listener",
                "trunk",
                "route",
                "policy",
                "limits",
                "registration",
                "bans",
                "logging",
            ],
        );
        let lab = root.or(report, "lab", false);
        let host =
            required_table(root, report, "host").and_then(|table| Host::read(&table, report));
        let sip = required_table(root, report, "sip").and_then(|table| Sip::read(&table, report));
        let management = match root.table(report, "management") {
            Some(table) => Management::read(&table, report),
            None => Some(Management::default()),
        };
        let mut known = Known::default();
        let zones = read_all(
            root,
            report,
            ("zone", MAX_ZONES),
            &mut known.zones,
            Zone::read,
        );
        let listeners = read_all(
            root,
            report,
            ("listener", MAX_LISTENERS),
            &mut known.listeners,
            Listener::read,
        );
        let trunks = read_all(
            root,
            report,
            ("trunk", MAX_TRUNKS),
            &mut known.trunks,
            Trunk::read,
        );
        let routes = read_all(
            root,
            report,
            ("route", MAX_ROUTES),
            &mut known.routes,
            Route::read,
        );
        let policies = read_all(
            root,
            report,
            ("policy", MAX_POLICIES),
            &mut known.policies,
            Policy::read,
        );
        let limits = match root.table(report, "limits") {
            Some(table) => Limits::from_section(&table, report),
            None => Some(Limits::default()),
        };
        let registration = match root.table(report, "registration") {
            Some(table) => Registrations::read(&table, report),
            None => Some(Registrations::default()),
        };
        let bans = match root.table(report, "bans") {
            Some(table) => Bans::read(&table, report),
            None => Some(Bans::default()),
        };
        let logging = match root.table(report, "logging") {
            Some(table) => Logging::from_section(&table, report),
            None => Some(Logging::default()),
        };
        known.sip = sip.is_some();
        // What could not be read is reported; a stand-in lets the checks look at the rest.
        let document = Self {
            schema: SCHEMA,
            lab: lab.unwrap_or_default(),
            host: host.unwrap_or_else(|| Host {
                name: "gatehouse".into(),
                language: Language::English,
                dns: Vec::new(),
                ntp: Vec::new(),
            }),
            sip: sip.unwrap_or_else(|| Sip {
                domain: "invalid".into(),
                registrar: None,
                account: Caps::default(),
            }),
            management: management.unwrap_or_default(),
            zones,
            listeners,
            trunks,
            routes,
            policies,
            limits: limits.unwrap_or_default(),
            registration: registration.unwrap_or_default(),
            bans: bans.unwrap_or_default(),
            logging: logging.unwrap_or_default(),
        };
        check(&document, &known, report);
        Some(document)
    }

    /// The zone of that name and its number.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<(usize, &Zone)> {
        self.zones
            .iter()
            .enumerate()
            .find(|(_, zone)| zone.name == name)
    }

    /// The one management zone.
    #[must_use]
    pub fn management_zone(&self) -> Option<&Zone> {
        self.zones
            .iter()
            .find(|zone| zone.kind == ZoneKind::Management)
    }

    /// The box's own static addresses in all zones.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        self.zones.iter().flat_map(Zone::addresses).collect()
    }

    /// Sources that are never banned in a zone.
    #[must_use]
    pub fn allow_list(&self, zone: &Zone) -> Vec<IpNet> {
        self.bans
            .allow_list
            .iter()
            .chain(&zone.allow_list)
            .copied()
            .collect()
    }

    /// Sources that are not believed in an external or partner zone: the list of [`crate::bogons`] less `not_bogon` and less
    /// the zone's own networks, as disjoint networks; empty for other kinds, whose sources are bound to their networks anyway.
    #[must_use]
    pub fn bogons(&self, zone: &Zone) -> Vec<IpNet> {
        match zone.kind {
            ZoneKind::External | ZoneKind::Partner => {
                bogons::without(zone.not_bogon.iter().copied().chain(zone.networks()))
            }
            ZoneKind::Internal | ZoneKind::Management => Vec::new(),
        }
    }

    /// Name of the link below a zone's VLAN, `None` without VLAN: the link of the zone that has the same card untagged if
    /// there is one, else [`Zone::vlan_parent`].
    #[must_use]
    pub fn parent_ifname(&self, zone: &Zone) -> Option<String> {
        let own = zone.vlan_parent()?;
        let untagged = self.zones.iter().find(|other| {
            other.interface.card == zone.interface.card && other.interface.vlan.is_none()
        });
        match (untagged, &zone.interface.card) {
            (Some(other), Card::Mac(_)) => Some(other.name.clone()),
            _ => Some(own),
        }
    }

    /// Names of all secrets that the document refers to, each once.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        let management = &self.management;
        let mut names: Vec<&str> = vec![
            &management.certificate,
            &management.token,
            &management.password,
        ];
        names.extend(
            self.trunks
                .iter()
                .filter_map(|trunk| trunk.registration.as_ref())
                .map(|r| r.secret.as_str()),
        );
        names.extend(
            self.listeners
                .iter()
                .flat_map(|l| &l.certificates)
                .map(String::as_str),
        );
        let registrar = self.sip.registrar.iter().filter_map(|pbx| pbx.tls.as_ref());
        let trunks = self.trunks.iter().filter_map(|trunk| trunk.tls.as_ref());
        for tls in registrar.chain(trunks) {
            names.extend(
                tls.authorities
                    .iter()
                    .chain(&tls.certificate)
                    .map(String::as_str),
            );
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn required_table<'t, 'i>(
    root: &Section<'t, 'i>,
    report: &mut Report<'_>,
    key: &str,
) -> Option<Section<'t, 'i>> {
    let table = root.table(report, key);
    if table.is_none() && !report.has(key) {
        root.missing(report, key);
    }
    table
}

/// Reads a list of tables; the paths of those that could be read, and of those that could not, go to `paths`.
fn read_all<T>(
    root: &Section<'_, '_>,
    report: &mut Report<'_>,
    (key, most): (&str, usize),
    paths: &mut Paths,
    read: impl Fn(&Section<'_, '_>, &mut Report<'_>) -> Option<T>,
) -> Vec<T> {
    let mut out = Vec::new();
    for table in root.tables(report, key, most) {
        match read(&table, report) {
            Some(value) => {
                out.push(value);
                paths.read.push(table.path);
            }
            None => paths.unread.push(table.path),
        }
    }
    out
}

impl Host {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["name", "language", "dns", "ntp"]);
        let name: Option<String> = section.required(report, "name");
        let name = name.filter(|name| {
            let fits = is_host_name(name) && !name.contains('.');
            if !fits {
                report.error(
                    &section.key("name"),
                    say!(
                        "is not a host name: 1 to 63 small letters, digits and hyphens, without dots",
                        "ist kein Rechnername: 1 bis 63 Kleinbuchstaben, Ziffern und Bindestriche, ohne Punkte"
                    ),
                );
            }
            fits
        });
        let language = section.or(report, "language", Language::English);
        let dns = section.list(report, "dns", MAX_SERVERS);
        let ntp = section.list_with(report, "ntp", MAX_SERVERS, |value| {
            endpoint(value, NTP_PORT)
        });
        Some(Self {
            name: name?,
            language: language?,
            dns: dns?,
            ntp: ntp?,
        })
    }
}

impl Management {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["certificate", "token", "password"]);
        let default = Self::default();
        let mut name = |key: &str, default: String| -> Option<String> {
            let name = section.or(report, key, default)?;
            check_name(report, &section.key(key), name)
        };
        let certificate = name("certificate", default.certificate);
        let token = name("token", default.token);
        let password = name("password", default.password);
        Some(Self {
            certificate: certificate?,
            token: token?,
            password: password?,
        })
    }
}
