//! What the person has typed so far, as typed: the wizard's memory. A [`Document`] is made of it, or of what is good in it,
//! with each problem bound to the field it came from.

use std::{collections::BTreeMap, net::SocketAddr};

use appliance_config::{
    Card, Document, Ipv4, Ipv6, Language, Listener, NTP_PORT, Named, SIP_PORT, Sentence, Service,
    Zone, ZoneKind,
};
use broker_proto::control::SecretBytes;
use zeroize::Zeroize;

use super::plan;

/// The three zones that the wizard asks for; others in a document are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Strangers.
    External,
    /// The organisation.
    Internal,
    /// Operators.
    Management,
}

impl Slot {
    /// In the order of the pages.
    pub const ALL: [Self; 3] = [Self::External, Self::Internal, Self::Management];

    pub(super) const fn kind(self) -> ZoneKind {
        match self {
            Self::External => ZoneKind::External,
            Self::Internal => ZoneKind::Internal,
            Self::Management => ZoneKind::Management,
        }
    }
}

/// Everything that can be typed, chosen or pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// Language of the console.
    Language,
    /// Host name.
    HostName,
    /// Identify the port of that index.
    Identify(usize),
    /// Which card a zone is on.
    Card(Slot),
    /// VLAN on it.
    Vlan(Slot),
    /// `static`, `dhcp` or `off`.
    Method4(Slot),
    /// With prefix length.
    Address4(Slot),
    /// Of the default route.
    Gateway4(Slot),
    /// `static`, `ra` or `off`.
    Method6(Slot),
    /// With prefix length.
    Address6(Slot),
    /// Of the default route.
    Gateway6(Slot),
    /// Name servers.
    Dns,
    /// Time servers.
    Ntp,
    /// Of the operators.
    Password,
    /// Once more.
    PasswordAgain,
    /// SIP domain.
    Domain,
    /// Addresses of the PBX.
    Pbx,
    /// How it is reached.
    PbxTransport,
    /// `yes` or `no`: SIP over TLS outside.
    Tls,
    /// Internal numbers, `1000-1999`.
    Numbers,
    /// Addresses of the carrier.
    Trunk,
    /// How it is reached.
    TrunkTransport,
    /// Digest user.
    TrunkUser,
    /// Digest realm.
    TrunkRealm,
    /// Digest password.
    TrunkPassword,
    /// Front of the numbers that the carrier sends, `+49301234`.
    TrunkPrefix,
    /// One page back.
    Back,
    /// One page on.
    Next,
    /// Put it into force.
    Confirm,
    /// An entry of a menu or dialogue.
    Entry(usize),
    /// The word that confirms an erasure.
    Word,
    /// The operators' password, at the log-in.
    LogIn,
}

impl Id {
    /// Whether what is typed there is never shown.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Password | Self::PasswordAgain | Self::TrunkPassword | Self::LogIn
        )
    }
}

/// Name of the trunk that the wizard makes.
pub(super) const TRUNK: &str = "trunk1";

/// Fewest characters of an operator's password, as the keyholder takes it.
pub const MIN_PASSWORD: usize = crate::keyholder::password::MIN_CHARACTERS;

/// Name of the certificate that the wizard's SIP over TLS shows; made when it is put into force, unless it is there.
pub(super) const CERTIFICATE: &str = "sip";

/// Whether a listener is that of SIP over TLS in a zone.
pub(super) fn is_tls_of(listener: &Listener, zone: &str) -> bool {
    listener.service == Service::SipTls && listener.zone == zone
}

/// A problem of one field.
pub type Problem = (Id, Sentence);

/// A sentence in both languages.
#[must_use]
pub fn sentence(english: impl Into<String>, german: impl Into<String>) -> Sentence {
    Sentence {
        english: english.into(),
        german: german.into(),
    }
}

/// See the module. Has no `Debug`: passwords are in it.
#[derive(Clone, Default)]
pub struct Draft {
    values: BTreeMap<Id, String>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.values.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Draft {
    /// What a new box begins with.
    #[must_use]
    pub fn new() -> Self {
        let mut draft = Self::default();
        draft.set(Id::Language, "en".into());
        draft.set(Id::HostName, "gatehouse".into());
        for slot in Slot::ALL {
            draft.set(Id::Method4(slot), "static".into());
            draft.set(Id::Method6(slot), "off".into());
        }
        draft.set(Id::PbxTransport, "udp".into());
        draft.set(Id::Tls, "yes".into());
        draft.set(Id::TrunkTransport, "udp".into());
        draft
    }

    /// What an existing document says, in the fields of the wizard.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let mut draft = Self::new();
        draft.set(Id::Language, document.host.language.word().into());
        draft.set(Id::HostName, document.host.name.clone());
        draft.set(Id::Dns, list(&document.host.dns));
        draft.set(Id::Ntp, endpoints(&document.host.ntp, NTP_PORT));
        for slot in Slot::ALL {
            if let Some(zone) = zone_of(document, slot) {
                draft.set_zone(slot, zone);
            }
        }
        draft.set(Id::Domain, document.sip.domain.clone());
        if let Some(registrar) = &document.sip.registrar {
            let place = place(&registrar.addresses, registrar.named.as_ref());
            draft.set(Id::Pbx, place);
            draft.set(Id::PbxTransport, registrar.transport.word().into());
        }
        if let Some(trunk) = document.trunks.first() {
            let place = place(&trunk.addresses, trunk.named.as_ref());
            draft.set(Id::Trunk, place);
            draft.set(Id::TrunkTransport, trunk.transport.word().into());
            if let Some(registration) = &trunk.registration {
                draft.set(Id::TrunkUser, registration.user.clone());
                draft.set(Id::TrunkRealm, registration.realm.clone());
            }
        }
        let external = zone_name(Some(document), Slot::External);
        let tls = document.listeners.iter().any(|l| is_tls_of(l, &external));
        draft.set(Id::Tls, if tls { "yes" } else { "no" }.into());
        let (numbers, prefix) = plan::recognise(&document.routes);
        draft.set(Id::Numbers, numbers);
        draft.set(Id::TrunkPrefix, prefix);
        draft
    }

    fn set_zone(&mut self, slot: Slot, zone: &Zone) {
        self.set(Id::Card(slot), card_value(&zone.interface.card));
        self.set(
            Id::Vlan(slot),
            zone.interface
                .vlan
                .map(|vlan| vlan.to_string())
                .unwrap_or_default(),
        );
        let (method, address, gateway) = match zone.ipv4 {
            None => ("off", String::new(), String::new()),
            Some(Ipv4::Dhcp) => ("dhcp", String::new(), String::new()),
            Some(Ipv4::Static { address, gateway }) => (
                "static",
                address.to_string(),
                gateway.map(|g| g.to_string()).unwrap_or_default(),
            ),
        };
        self.set(Id::Method4(slot), method.into());
        self.set(Id::Address4(slot), address);
        self.set(Id::Gateway4(slot), gateway);
        let (method, address, gateway) = match zone.ipv6 {
            None => ("off", String::new(), String::new()),
            Some(Ipv6::Ra) => ("ra", String::new(), String::new()),
            Some(Ipv6::Static { address, gateway }) => (
                "static",
                address.to_string(),
                gateway.map(|g| g.to_string()).unwrap_or_default(),
            ),
        };
        self.set(Id::Method6(slot), method.into());
        self.set(Id::Address6(slot), address);
        self.set(Id::Gateway6(slot), gateway);
    }

    /// As typed; empty if nothing was.
    #[must_use]
    pub fn value(&self, id: Id) -> &str {
        self.values.get(&id).map_or("", String::as_str)
    }

    /// Types it.
    pub fn set(&mut self, id: Id, value: String) {
        if let Some(mut old) = self.values.insert(id, value) {
            old.zeroize();
        }
    }

    /// Language of the console.
    #[must_use]
    pub fn language(&self) -> Language {
        if self.value(Id::Language) == "de" {
            Language::German
        } else {
            Language::English
        }
    }

    /// What is wrong with the passwords.
    pub fn check_passwords(&self, first: bool, problems: &mut Vec<Problem>) {
        let (password, again) = (self.value(Id::Password), self.value(Id::PasswordAgain));
        if password.is_empty() && again.is_empty() && !first {
            return;
        }
        if password.chars().count() < MIN_PASSWORD {
            problems.push((
                Id::Password,
                sentence(
                    format!("a password has {MIN_PASSWORD} characters at least"),
                    format!("ein Passwort hat mindestens {MIN_PASSWORD} Zeichen"),
                ),
            ));
        } else if password != again {
            problems.push((
                Id::PasswordAgain,
                sentence(
                    "is not the same as above; type both again",
                    "stimmt nicht mit dem oberen überein; beide neu eingeben",
                ),
            ));
        }
    }

    /// Passwords that were typed, by their names in the document.
    #[must_use]
    pub fn secrets(&self, document: &Document) -> Vec<(String, SecretBytes)> {
        let mut secrets = Vec::new();
        let mut add = |name: &str, id: Id| {
            let value = self.value(id);
            if !value.is_empty() {
                secrets.push((name.to_owned(), SecretBytes(value.as_bytes().to_vec())));
            }
        };
        add(&document.management.password, Id::Password);
        if let Some(registration) = document
            .trunks
            .first()
            .and_then(|trunk| trunk.registration.as_ref())
        {
            add(&registration.secret, Id::TrunkPassword);
        }
        secrets
    }

    /// Forgets the passwords: they are stored, or given up.
    pub fn forget_secrets(&mut self) {
        for id in [Id::Password, Id::PasswordAgain, Id::TrunkPassword] {
            self.set(id, String::new());
        }
    }

    /// The field in which a key of the document is typed; `None` if the wizard does not ask for it.
    #[must_use]
    pub fn field_of(key: &str, base: Option<&Document>) -> Option<Id> {
        for slot in Slot::ALL {
            let zone = format!("zone.{}", zone_name(base, slot));
            let Some(rest) = key
                .strip_prefix(&zone)
                .filter(|rest| rest.is_empty() || rest.starts_with('.'))
            else {
                continue;
            };
            return Some(match rest {
                ".interface.vlan" => Id::Vlan(slot),
                ".ipv4.address" => Id::Address4(slot),
                ".ipv4.gateway" => Id::Gateway4(slot),
                ".ipv6.address" => Id::Address6(slot),
                ".ipv6.gateway" => Id::Gateway6(slot),
                rest if rest.starts_with(".interface") => Id::Card(slot),
                rest if rest.starts_with(".ipv6") => Id::Method6(slot),
                _ => Id::Method4(slot),
            });
        }
        let trunk = base.and_then(|base| base.trunks.first());
        let trunk = format!(
            "trunk.{}.registration",
            trunk.map_or(TRUNK, |trunk| &trunk.name)
        );
        match key.strip_prefix(&trunk) {
            Some(".user") => return Some(Id::TrunkUser),
            Some(".realm") => return Some(Id::TrunkRealm),
            _ => {}
        }
        const FIELDS: [(&str, Id); 8] = [
            ("host.name", Id::HostName),
            ("host.dns", Id::Dns),
            ("host.ntp", Id::Ntp),
            ("sip.domain", Id::Domain),
            ("sip.registrar", Id::Pbx),
            ("route.direct-dial", Id::TrunkPrefix),
            ("route", Id::Numbers),
            ("trunk", Id::Trunk),
        ];
        FIELDS
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map(|(_, id)| *id)
    }
}

/// How a card stands in a field.
#[must_use]
pub fn card_value(card: &Card) -> String {
    match card {
        Card::Mac(mac) => mac.to_string(),
        Card::Name(name) => format!("name:{name}"),
    }
}

pub(super) fn zone_of(document: &Document, slot: Slot) -> Option<&Zone> {
    document.zones.iter().find(|zone| zone.kind == slot.kind())
}

pub(super) fn zone_name(base: Option<&Document>, slot: Slot) -> String {
    base.and_then(|base| zone_of(base, slot))
        .map_or_else(|| slot.kind().word().to_owned(), |zone| zone.name.clone())
}

fn list<T: ToString>(values: &[T]) -> String {
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a peer is: its name, or its addresses.
fn place(addresses: &[SocketAddr], named: Option<&Named>) -> String {
    named.map_or_else(
        || endpoints(addresses, SIP_PORT),
        |named| named.host.to_string(),
    )
}

fn endpoints(values: &[SocketAddr], usual: u16) -> String {
    let one = |value: &SocketAddr| {
        if value.port() == usual {
            value.ip().to_string()
        } else {
            value.to_string()
        }
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}
