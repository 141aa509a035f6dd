//! From what was typed to a document: each part from its fields, each problem bound to the field it came from.

use appliance_config::{
    Bans, Caps, Card, Document, Host, Interface, Ipv4, Ipv6, Limits, Listener, Logging, Mac,
    Management, Media, NTP_PORT, Named, Registrar, Registration, Registrations, Route, SCHEMA,
    SIP_PORT, Sentence, Service, Sip, Transport, Trunk, TrunkPolicy, Zone, ZonePolicy,
    parse_endpoint,
};

use super::{
    draft::{
        CERTIFICATE, Draft, Id, Problem, Slot, TRUNK, is_tls_of, sentence, zone_name, zone_of,
    },
    plan,
};

impl Draft {
    /// A document of what is typed, over `base` (whose other parts it keeps). Problems are added to the list; what has a
    /// problem is left out, so that the rest can be checked.
    #[must_use]
    pub fn document(&self, base: Option<&Document>, problems: &mut Vec<Problem>) -> Document {
        let host = Host {
            name: self.value(Id::HostName).trim().to_owned(),
            language: self.language(),
            dns: self.parse_list(Id::Dns, problems, |text| text.parse().ok(), &DNS_FORM),
            ntp: self.parse_list(
                Id::Ntp,
                problems,
                |text| parse_endpoint(text, NTP_PORT),
                &NTP_FORM,
            ),
        };
        let mut zones: Vec<Zone> = Vec::new();
        for slot in Slot::ALL {
            zones.extend(self.zone(slot, base.and_then(|base| zone_of(base, slot)), problems));
        }
        let others = base.map(|base| {
            base.zones.iter().filter(|zone| {
                !Slot::ALL
                    .iter()
                    .any(|slot| zone_of(base, *slot).is_some_and(|z| z == *zone))
            })
        });
        zones.extend(others.into_iter().flatten().cloned());
        let [external, internal, management] = &Slot::ALL.map(|slot| zone_name(base, slot));
        let pbx_zone = base
            .and_then(|base| base.sip.registrar.as_ref())
            .map_or(internal, |registrar| &registrar.zone);
        let registrar = self.registrar(pbx_zone, base, problems);
        let trunk = self.trunk(external, base, problems);
        let mut trunks: Vec<Trunk> = trunk.into_iter().collect();
        trunks.extend(
            base.iter()
                .flat_map(|base| base.trunks.iter().skip(1))
                .cloned(),
        );
        let routes = match base {
            Some(base) if !self.plan_is_ours(base) => base.routes.clone(),
            _ => self.routes(registrar.is_some(), &trunks, problems),
        };
        let mut listeners = base.map_or_else(
            || listeners(external, internal, management),
            |base| base.listeners.clone(),
        );
        self.tls(external, &mut listeners);
        Document {
            schema: SCHEMA,
            lab: base.is_some_and(|base| base.lab),
            host,
            sip: Sip {
                account: base.map_or_else(Caps::default, |base| base.sip.account),
                domain: self.value(Id::Domain).trim().to_owned(),
                registrar,
            },
            management: base.map_or_else(Management::default, |base| base.management.clone()),
            zones,
            listeners,
            trunks,
            routes,
            policies: base.map_or_else(Vec::new, |base| base.policies.clone()),
            limits: base.map_or_else(Limits::default, |base| base.limits),
            registration: base.map_or_else(Registrations::default, |base| base.registration),
            bans: base.map_or_else(Bans::default, |base| base.bans.clone()),
            logging: base.map_or_else(Logging::default, |base| base.logging),
        }
    }

    /// SIP over TLS outside, as it was answered: what is there stays, with its port and certificates.
    fn tls(&self, external: &str, listeners: &mut Vec<Listener>) {
        if self.value(Id::Tls) != "yes" {
            return listeners.retain(|listener| !is_tls_of(listener, external));
        }
        if !listeners.iter().any(|l| is_tls_of(l, external)) {
            let plain = listeners.iter().rposition(|l| l.zone == external);
            let at = plain.map_or(0, |last| last + 1);
            let certificates = vec![CERTIFICATE.to_owned()];
            listeners.insert(at, listener(external, Service::SipTls, certificates));
        }
    }

    /// Whether a document's routes are those that the wizard would write: others were made elsewhere and are kept.
    #[must_use]
    pub fn plan_is_ours(&self, base: &Document) -> bool {
        let own = Self::of(base);
        own.routes(base.sip.registrar.is_some(), &base.trunks, &mut Vec::new()) == base.routes
    }

    fn routes(&self, pbx: bool, trunks: &[Trunk], problems: &mut Vec<Problem>) -> Vec<Route> {
        let numbers = self.value(Id::Numbers).trim();
        let range = plan::numbers(numbers);
        if range.is_none() && (!numbers.is_empty() || pbx) {
            problems.push((
                Id::Numbers,
                sentence(
                    "write the first and last internal number with equally many digits, like 1000-1999",
                    "erste und letzte interne Nummer mit gleich vielen Ziffern angeben, etwa 1000-1999",
                ),
            ));
        }
        let prefix = self.value(Id::TrunkPrefix).trim();
        let digits = prefix.strip_prefix('+').unwrap_or(prefix);
        if digits.len() > 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            problems.push((
                Id::TrunkPrefix,
                sentence(
                    "a number begins with + and has digits only, like +49301234",
                    "eine Rufnummer beginnt mit + und hat nur Ziffern, etwa +49301234",
                ),
            ));
            return Vec::new();
        }
        let names: Vec<&str> = trunks.iter().map(|trunk| trunk.name.as_str()).collect();
        plan::routes(range.filter(|_| pbx), &names, prefix)
    }

    fn zone(&self, slot: Slot, base: Option<&Zone>, problems: &mut Vec<Problem>) -> Option<Zone> {
        let interface = self.interface(slot, problems);
        let ipv4 = match self.value(Id::Method4(slot)) {
            "static" => self
                .address(Id::Address4(slot), problems, &ADDRESS4_FORM)
                .map(|address| Ipv4::Static {
                    address,
                    gateway: self.optional(Id::Gateway4(slot), problems, &GATEWAY4_FORM),
                }),
            "dhcp" => Some(Ipv4::Dhcp),
            _ => None,
        };
        let ipv6 = match self.value(Id::Method6(slot)) {
            "static" => self
                .address(Id::Address6(slot), problems, &ADDRESS6_FORM)
                .map(|address| Ipv6::Static {
                    address,
                    gateway: self.optional(Id::Gateway6(slot), problems, &GATEWAY6_FORM),
                }),
            "ra" => Some(Ipv6::Ra),
            _ => None,
        };
        Some(Zone {
            name: base.map_or_else(|| slot.kind().word().to_owned(), |zone| zone.name.clone()),
            kind: slot.kind(),
            interface: interface?,
            ipv4,
            ipv6,
            routed: base.map(|zone| zone.routed.clone()).unwrap_or_default(),
            media: base.map_or_else(Media::default, |zone| zone.media.clone()),
            not_bogon: base.map(|zone| zone.not_bogon.clone()).unwrap_or_default(),
            allow_list: base.map(|zone| zone.allow_list.clone()).unwrap_or_default(),
            policy: base.map_or_else(ZonePolicy::default, |zone| zone.policy.clone()),
        })
    }

    fn interface(&self, slot: Slot, problems: &mut Vec<Problem>) -> Option<Interface> {
        let value = self.value(Id::Card(slot));
        let card = match value.strip_prefix("name:") {
            Some(name) => Some(Card::Name(name.to_owned())),
            None => value.parse::<Mac>().ok().map(Card::Mac),
        };
        if card.is_none() {
            problems.push((
                Id::Card(slot),
                sentence(
                    "choose the port that this zone is connected to",
                    "den Anschluss wählen, an dem diese Zone hängt",
                ),
            ));
        }
        let vlan = self.value(Id::Vlan(slot)).trim();
        let number = vlan.parse().ok().filter(|vlan| (1..=4094).contains(vlan));
        if !vlan.is_empty() && number.is_none() {
            problems.push((
                Id::Vlan(slot),
                sentence(
                    "a VLAN's number is from 1 to 4094; empty: no VLAN",
                    "eine VLAN-Nummer liegt zwischen 1 und 4094; leer: kein VLAN",
                ),
            ));
        }
        Some(Interface {
            card: card?,
            vlan: number,
        })
    }

    fn registrar(
        &self,
        zone: &str,
        base: Option<&Document>,
        problems: &mut Vec<Problem>,
    ) -> Option<Registrar> {
        let old = base.and_then(|base| base.sip.registrar.as_ref());
        if let Some(old) = old.filter(|old| self.keeps(Id::Pbx, old.named.as_ref())) {
            return Some(old.clone());
        }
        let addresses = self.parse_list(
            Id::Pbx,
            problems,
            |text| parse_endpoint(text, SIP_PORT),
            &PEER_FORM,
        );
        (!addresses.is_empty()).then(|| Registrar {
            zone: zone.to_owned(),
            addresses,
            named: None,
            transport: transport(self.value(Id::PbxTransport)),
            large_requests_by_tcp: true,
            tls: old.and_then(|old| old.tls.clone()),
        })
    }

    fn trunk(
        &self,
        zone: &str,
        base: Option<&Document>,
        problems: &mut Vec<Problem>,
    ) -> Option<Trunk> {
        let old = base.and_then(|base| base.trunks.first());
        let named = old.and_then(|old| old.named.as_ref());
        let named = named.filter(|named| self.keeps(Id::Trunk, Some(named)));
        let addresses = match named {
            Some(_) => Vec::new(),
            None => self.parse_list(
                Id::Trunk,
                problems,
                |text| parse_endpoint(text, SIP_PORT),
                &PEER_FORM,
            ),
        };
        let (user, realm) = (
            self.value(Id::TrunkUser).trim(),
            self.value(Id::TrunkRealm).trim(),
        );
        if addresses.is_empty() && named.is_none() {
            if !user.is_empty() || !realm.is_empty() {
                problems.push((
                    Id::Trunk,
                    sentence(
                        "an account needs the carrier's address",
                        "zu einem Konto gehört die Adresse des Anbieters",
                    ),
                ));
            }
            return None;
        }
        let registration = old.and_then(|trunk| trunk.registration.as_ref());
        let name = old.map_or_else(|| TRUNK.to_owned(), |trunk| trunk.name.clone());
        if user.is_empty() != realm.is_empty() {
            let id = if user.is_empty() {
                Id::TrunkUser
            } else {
                Id::TrunkRealm
            };
            problems.push((
                id,
                sentence(
                    "user and realm belong together; leave both empty if the carrier knows the box by its address",
                    "Benutzer und Realm gehören zusammen; beide bleiben leer, wenn der Anbieter die Anlage an der Adresse erkennt",
                ),
            ));
        }
        let registers = !user.is_empty() && !realm.is_empty();
        if registers && registration.is_none() && self.value(Id::TrunkPassword).is_empty() {
            problems.push((
                Id::TrunkPassword,
                sentence(
                    "the account needs its password",
                    "zum Konto gehört das Passwort",
                ),
            ));
        }
        Some(Trunk {
            zone: old.map_or_else(|| zone.to_owned(), |trunk| trunk.zone.clone()),
            addresses,
            named: named.cloned(),
            transport: transport(self.value(Id::TrunkTransport)),
            large_requests_by_tcp: true,
            tls: old.and_then(|trunk| trunk.tls.clone()),
            registration: registers.then(|| Registration {
                user: user.to_owned(),
                realm: realm.to_owned(),
                interval_seconds: registration
                    .map_or(300, |registration| registration.interval_seconds),
                secret: registration
                    .map_or_else(|| name.clone(), |registration| registration.secret.clone()),
            }),
            policy: old.map_or_else(TrunkPolicy::default, |trunk| trunk.policy.clone()),
            name,
        })
    }

    /// Whether a peer that is known by name is still written so: names come with bounds that only the document can say.
    fn keeps(&self, id: Id, named: Option<&Named>) -> bool {
        named.is_some_and(|named| named.host.to_string() == self.value(id).trim())
    }

    fn parse_list<T>(
        &self,
        id: Id,
        problems: &mut Vec<Problem>,
        parse: impl Fn(&str) -> Option<T>,
        form: &Form,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for word in self
            .value(id)
            .split([' ', ',', ';'])
            .filter(|word| !word.is_empty())
        {
            match parse(word) {
                Some(value) => values.push(value),
                None => {
                    problems.push((id, form.wrong(word)));
                    return Vec::new();
                }
            }
        }
        values
    }

    fn address<T: core::str::FromStr>(
        &self,
        id: Id,
        problems: &mut Vec<Problem>,
        form: &Form,
    ) -> Option<T> {
        let text = self.value(id).trim();
        let value = text.parse().ok();
        if value.is_none() {
            problems.push((id, form.wrong(text)));
        }
        value
    }

    fn optional<T: core::str::FromStr>(
        &self,
        id: Id,
        problems: &mut Vec<Problem>,
        form: &Form,
    ) -> Option<T> {
        if self.value(id).trim().is_empty() {
            None
        } else {
            self.address(id, problems, form)
        }
    }
}

fn listeners(external: &str, internal: &str, management: &str) -> Vec<Listener> {
    let plain = |zone, service| listener(zone, service, Vec::new());
    vec![
        plain(external, Service::SipUdp),
        plain(external, Service::SipTcp),
        plain(internal, Service::SipUdp),
        plain(internal, Service::SipTcp),
        plain(management, Service::ManagementHttps),
    ]
}

fn listener(zone: &str, service: Service, certificates: Vec<String>) -> Listener {
    Listener {
        zone: zone.to_owned(),
        service,
        port: service.usual_port(),
        certificates,
        origins: Vec::new(),
    }
}

/// How something is spelt, for the sentence when it is not.
struct Form {
    english: &'static str,
    german: &'static str,
}

impl Form {
    fn wrong(&self, written: &str) -> Sentence {
        if written.is_empty() {
            return sentence(
                format!("is missing; {}", self.english),
                format!("fehlt; {}", self.german),
            );
        }
        let written: String = written.chars().take(40).collect();
        sentence(
            format!("`{written}` does not fit; {}", self.english),
            format!("`{written}` passt nicht; {}", self.german),
        )
    }
}

const DNS_FORM: Form = Form {
    english: "write addresses like 192.0.2.53 with blanks between them",
    german: "Adressen wie 192.0.2.53 mit Leerzeichen dazwischen angeben",
};
const NTP_FORM: Form = Form {
    english: "write addresses like 192.0.2.123; names are not looked up, because the clock must run before names can be trusted",
    german: "Adressen wie 192.0.2.123 angeben; Namen gehen nicht, denn die Uhr muss vor der Namensauflösung stimmen",
};
const PEER_FORM: Form = Form {
    english: "write addresses like 192.0.2.10 or 192.0.2.10:5070 with blanks between them",
    german: "Adressen wie 192.0.2.10 oder 192.0.2.10:5070 mit Leerzeichen dazwischen angeben",
};
const ADDRESS4_FORM: Form = Form {
    english: "write the address with its prefix length, like 192.0.2.1/24",
    german: "Adresse mit Präfixlänge angeben, etwa 192.0.2.1/24",
};
const ADDRESS6_FORM: Form = Form {
    english: "write the address with its prefix length, like 2001:db8::1/64",
    german: "Adresse mit Präfixlänge angeben, etwa 2001:db8::1/64",
};
const GATEWAY4_FORM: Form = Form {
    english: "write an address like 192.0.2.254, or leave it empty",
    german: "eine Adresse wie 192.0.2.254 angeben oder leer lassen",
};
const GATEWAY6_FORM: Form = Form {
    english: "write an address like fe80::1, or leave it empty",
    german: "eine Adresse wie fe80::1 angeben oder leer lassen",
};

fn transport(word: &str) -> Transport {
    match word {
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        "naptr" => Transport::Naptr,
        _ => Transport::Udp,
    }
}
