//! The pages of the wizard, from the draft. Which comes after which, what is asked on each, which fields are whose.

use appliance_config::Language;

use super::{
    draft::{Draft, Id, Problem, Slot},
    page::{Item, Kind, Page},
};

/// A page of the wizard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Language.
    Language,
    /// Host name.
    Host,
    /// Which port is which zone.
    Ports,
    /// Addresses of a zone.
    Zone(Slot),
    /// Name and time servers.
    Servers,
    /// Operators' password, certificate.
    Password,
    /// Domain, PBX, internal numbers.
    Telephony,
    /// Carrier.
    Carrier,
    /// The whole in words.
    Review,
}

impl Step {
    /// In order.
    pub const ALL: [Self; 11] = [
        Self::Language,
        Self::Host,
        Self::Ports,
        Self::Zone(Slot::External),
        Self::Zone(Slot::Internal),
        Self::Zone(Slot::Management),
        Self::Servers,
        Self::Password,
        Self::Telephony,
        Self::Carrier,
        Self::Review,
    ];

    fn place(self) -> usize {
        Self::ALL.iter().position(|step| *step == self).unwrap_or(0)
    }

    /// The page behind; `None` behind the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self.place() + 1).copied()
    }

    /// The page before; `None` before the first.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        self.place()
            .checked_sub(1)
            .and_then(|place| Self::ALL.get(place))
            .copied()
    }

    /// The page on which a field is.
    #[must_use]
    pub fn of(id: Id) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|step| step.fields().contains(&id))
    }

    /// Fields of the page, in order.
    #[must_use]
    pub fn fields(self) -> Vec<Id> {
        match self {
            Self::Language => vec![Id::Language],
            Self::Host => vec![Id::HostName],
            Self::Ports => Slot::ALL
                .iter()
                .flat_map(|slot| [Id::Card(*slot), Id::Vlan(*slot)])
                .collect(),
            Self::Zone(slot) => vec![
                Id::Method4(slot),
                Id::Address4(slot),
                Id::Gateway4(slot),
                Id::Method6(slot),
                Id::Address6(slot),
                Id::Gateway6(slot),
            ],
            Self::Servers => vec![Id::Dns, Id::Ntp],
            Self::Password => vec![Id::Password, Id::PasswordAgain],
            Self::Telephony => vec![Id::Domain, Id::Pbx, Id::PbxTransport, Id::Numbers, Id::Tls],
            Self::Carrier => {
                vec![
                    Id::Trunk,
                    Id::TrunkTransport,
                    Id::TrunkUser,
                    Id::TrunkRealm,
                    Id::TrunkPassword,
                    Id::TrunkPrefix,
                ]
            }
            Self::Review => Vec::new(),
        }
    }
}

/// A network port as init lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The kernel's name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// Driver.
    pub driver: String,
    /// `up`, `down`, speed: as init says it.
    pub link: String,
}

impl Port {
    /// Ports from the lines of an answer, `name mac driver link`; at most 64.
    #[must_use]
    pub fn list(text: &str) -> Vec<Self> {
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().map(str::to_owned);
                Some(Self {
                    name: words.next()?,
                    mac: words.next()?,
                    driver: words.next()?,
                    link: words.collect::<Vec<_>>().join(" "),
                })
            })
            .take(64)
            .collect()
    }
}

/// What a page of the wizard is made of.
pub struct Context<'a> {
    /// What was typed.
    pub draft: &'a Draft,
    /// Ports that the machine has.
    pub ports: &'a [Port],
    /// What is wrong, where.
    pub problems: &'a [Problem],
    /// SHA-256 of the management certificate, if init told it.
    pub fingerprint: Option<&'a str>,
    /// Warnings from init.
    pub complaints: &'a [String],
    /// The box was never set up.
    pub first: bool,
    /// The routes were made elsewhere and are kept.
    pub foreign_routes: bool,
}

impl Context<'_> {
    fn german(&self) -> bool {
        self.draft.language() == Language::German
    }

    fn say(&self, english: &str, german: &str) -> String {
        if self.german() { german } else { english }.to_owned()
    }

    fn error(&self, id: Id) -> Option<String> {
        let (_, sentence) = self.problems.iter().find(|(of, _)| *of == id)?;
        Some(if self.german() {
            sentence.german.clone()
        } else {
            sentence.english.clone()
        })
    }

    fn text(&self, id: Id, english: &str, german: &str) -> Item {
        let typed = self.draft.value(id);
        let value = if !id.is_secret() {
            typed.to_owned()
        } else if typed.is_empty() {
            String::new()
        } else {
            self.say("(typed, not shown)", "(eingegeben, nicht gezeigt)")
        };
        Item::Field {
            id,
            label: self.say(english, german),
            kind: Kind::Text,
            value,
            error: self.error(id),
        }
    }

    fn choice(&self, id: Id, label: (&str, &str), options: Vec<(String, String)>) -> Item {
        Item::Field {
            id,
            label: self.say(label.0, label.1),
            kind: Kind::Choice(options),
            value: self.draft.value(id).to_owned(),
            error: self.error(id),
        }
    }

    /// The page for a step other than the review.
    #[must_use]
    pub fn page(&self, step: Step) -> Page {
        let (title, items) = match step {
            Step::Language => self.language(),
            Step::Host => self.host(),
            Step::Ports => self.port_list(),
            Step::Zone(slot) => self.zone(slot),
            Step::Servers => self.servers(),
            Step::Password => self.password(),
            Step::Telephony => self.telephony(),
            Step::Carrier => self.carrier(),
            Step::Review => (self.say("Review", "Prüfen"), Vec::new()),
        };
        let mut buttons = Vec::new();
        if step.previous().is_some() || !self.first {
            buttons.push((Id::Back, self.say("Back", "Zurück")));
        }
        buttons.push((Id::Next, self.say("Next", "Weiter")));
        Page {
            title: format!("Gatehouse - {title}"),
            progress: format!("{}/{}", step.place() + 1, Step::ALL.len()),
            items,
            buttons,
            message: None,
            help: self.say(
                "Tab/arrows: move  Left/Right: choose  Enter: next  Esc: back  Ctrl-L: redraw",
                "Tab/Pfeile: gehen  Links/Rechts: wählen  Enter: weiter  Esc: zurück",
            ),
        }
    }

    fn language(&self) -> (String, Vec<Item>) {
        let mut items: Vec<Item> = self.complaints.iter().cloned().map(Item::Warning).collect();
        items.extend([
            Item::Text("Language of this console. / Sprache dieser Konsole.".into()),
            Item::Gap,
            self.choice(
                Id::Language,
                ("Language / Sprache", "Sprache / Language"),
                vec![("en".into(), "English".into()), ("de".into(), "Deutsch".into())],
            ),
            Item::Gap,
            Item::Text(self.say(
                "Nothing is listening and nothing passes until you confirm the last page. Ctrl-C asks before it leaves; what you typed is kept.",
                "Bis zur Bestätigung der letzten Seite ist kein Dienst offen, und nichts kommt hindurch. Strg-C fragt nach; das Eingegebene bleibt erhalten.",
            )),
        ]);
        (self.say("Language", "Sprache"), items)
    }

    fn host(&self) -> (String, Vec<Item>) {
        let items = vec![
            Item::Text(self.say(
                "The name of this machine, one word without dots.",
                "Der Name dieser Maschine, ein Wort ohne Punkte.",
            )),
            Item::Gap,
            self.text(Id::HostName, "Host name", "Rechnername"),
        ];
        (self.say("Host name", "Rechnername"), items)
    }

    fn port_list(&self) -> (String, Vec<Item>) {
        let mut items = vec![Item::Text(self.say(
            "The ports of this machine. Enter on a port makes it blink where the card can; or unplug its cable and see its link change here.",
            "Die Anschlüsse dieser Maschine. Enter lässt einen Anschluss blinken, wo die Karte das kann; oder das Kabel ziehen und hier den Link beobachten.",
        ))];
        if self.ports.is_empty() {
            items.push(Item::Warning(self.say(
                "No network port was found yet.",
                "Noch kein Netzanschluss gefunden.",
            )));
        }
        for (index, port) in self.ports.iter().enumerate() {
            items.push(Item::Line {
                id: Id::Identify(index),
                text: format!(
                    "{:<10} {:<18} {:<12} {}",
                    port.name,
                    port.mac,
                    port.driver,
                    self.link(&port.link)
                ),
            });
        }
        items.push(Item::Gap);
        let labels = [
            ("External zone", "Externe Zone"),
            ("Internal zone", "Interne Zone"),
            ("Management zone", "Verwaltungszone"),
        ];
        for (slot, label) in Slot::ALL.into_iter().zip(labels) {
            items.push(self.choice(Id::Card(slot), label, self.cards(slot)));
            items.push(self.text(
                Id::Vlan(slot),
                "  VLAN (empty: none)",
                "  VLAN (leer: keines)",
            ));
        }
        (self.say("Ports and zones", "Anschlüsse und Zonen"), items)
    }

    fn link(&self, link: &str) -> String {
        match link {
            "up" => self.say("link up", "Link da"),
            "down" => self.say("no link", "kein Link"),
            other => other.to_owned(),
        }
    }

    /// Choices for a zone's card: the ports, and what is chosen now even if the machine does not have it (any more).
    fn cards(&self, slot: Slot) -> Vec<(String, String)> {
        let mut options: Vec<(String, String)> = self
            .ports
            .iter()
            .map(|port| (port.mac.clone(), format!("{} {}", port.name, port.mac)))
            .collect();
        let chosen = self.draft.value(Id::Card(slot));
        if !chosen.is_empty() && !options.iter().any(|(value, _)| value == chosen) {
            let name = chosen.strip_prefix("name:").unwrap_or(chosen);
            let there =
                chosen.starts_with("name:") && self.ports.iter().any(|port| port.name == name);
            let label = if there {
                name.to_owned()
            } else {
                format!("{name} {}", self.say("(not found)", "(fehlt)"))
            };
            options.push((chosen.to_owned(), label));
        }
        options.insert(0, (String::new(), self.say("choose", "wählen")));
        options
    }

    fn zone(&self, slot: Slot) -> (String, Vec<Item>) {
        let (title, text) = match slot {
            Slot::External => (
                self.say("External zone", "Externe Zone"),
                self.say(
                    "The side of strangers: Internet, carriers, roaming users.",
                    "Die Seite der Fremden: Internet, Anbieter, Benutzer unterwegs.",
                ),
            ),
            Slot::Internal => (
                self.say("Internal zone", "Interne Zone"),
                self.say(
                    "The organisation's own network with its PBX and phones.",
                    "Das eigene Netz mit Telefonanlage und Telefonen.",
                ),
            ),
            Slot::Management => (
                self.say("Management zone", "Verwaltungszone"),
                self.say(
                    "The network of the operators; the box is managed from nowhere else.",
                    "Das Netz der Betreuer; die Anlage wird von nirgends sonst bedient.",
                ),
            ),
        };
        let fixed = ("static".to_owned(), self.say("static", "fest"));
        let off = ("off".to_owned(), self.say("off", "aus"));
        let (mut v4, mut v6) = (vec![fixed.clone()], vec![fixed]);
        if slot == Slot::External {
            v4.push(("dhcp".into(), "DHCP".into()));
            v6.push((
                "ra".into(),
                self.say("router advertisement", "Router-Advertisement"),
            ));
        }
        v4.push(off.clone());
        v6.push(off);
        let mut items = vec![
            Item::Text(text),
            Item::Gap,
            self.choice(Id::Method4(slot), ("IPv4", "IPv4"), v4),
        ];
        if self.draft.value(Id::Method4(slot)) == "static" {
            items.push(self.text(Id::Address4(slot), "  address/length", "  Adresse/Länge"));
            items.push(self.text(Id::Gateway4(slot), "  default gateway", "  Default-Gateway"));
        }
        items.push(self.choice(Id::Method6(slot), ("IPv6", "IPv6"), v6));
        if self.draft.value(Id::Method6(slot)) == "static" {
            items.push(self.text(Id::Address6(slot), "  address/length", "  Adresse/Länge"));
            items.push(self.text(Id::Gateway6(slot), "  default gateway", "  Default-Gateway"));
        }
        items.push(Item::Gap);
        items.push(Item::Text(self.say(
            "One zone has the default gateway, usually the external one.",
            "Eine Zone hat das Default-Gateway, üblicherweise die externe.",
        )));
        (title, items)
    }

    fn servers(&self) -> (String, Vec<Item>) {
        let items = vec![
            Item::Text(self.say(
                "Addresses, with blanks between them. Both may stay empty; without a time server the clock runs by itself.",
                "Adressen, durch Leerzeichen getrennt. Beides darf leer bleiben; ohne Zeitserver läuft die Uhr frei.",
            )),
            Item::Gap,
            self.text(Id::Dns, "Name servers (DNS)", "Nameserver (DNS)"),
            self.text(Id::Ntp, "Time servers (NTP)", "Zeitserver (NTP)"),
        ];
        (self.say("Servers", "Server"), items)
    }

    fn password(&self) -> (String, Vec<Item>) {
        let fingerprint = self.fingerprint.map_or_else(
            || self.say("Key and certificate are made when all is filled in; the last page shows the fingerprint before you confirm.", "Schlüssel und Zertifikat entstehen, wenn alles ausgefüllt ist; die letzte Seite zeigt den Fingerabdruck vor der Bestätigung."),
            str::to_owned,
        );
        let mut items = vec![
            Item::Text(self.say(
                "The password of the operators. Twelve characters at least; it is not shown while you type.",
                "Das Passwort der Betreuer. Mindestens zwölf Zeichen; es wird beim Tippen nicht gezeigt.",
            )),
            Item::Gap,
            self.text(Id::Password, "Password", "Passwort"),
            self.text(Id::PasswordAgain, "Once more", "Noch einmal"),
            Item::Gap,
            Item::Text(self.say(
                "Fingerprint (SHA-256) of the management certificate, to be compared in the browser:",
                "Fingerabdruck (SHA-256) des Verwaltungszertifikats, zum Vergleich im Browser:",
            )),
            Item::Text(fingerprint),
        ];
        if !self.first {
            items.insert(
                1,
                Item::Text(self.say("Empty: it stays as it is.", "Leer: Es bleibt, wie es ist.")),
            );
        }
        (self.say("Management", "Verwaltung"), items)
    }

    fn telephony(&self) -> (String, Vec<Item>) {
        let items = vec![
            Item::Text(self.say(
                "The SIP domain, and the PBX that knows accounts and passwords. Without a PBX nobody can register.",
                "Die SIP-Domain und die Telefonanlage, die Konten und Passwörter kennt. Ohne sie kann sich niemand anmelden.",
            )),
            Item::Gap,
            self.text(Id::Domain, "SIP domain", "SIP-Domain"),
            self.text(Id::Pbx, "PBX addresses", "Adressen der Telefonanlage"),
            self.choice(Id::PbxTransport, ("  over", "  über"), transports()),
            self.text(Id::Numbers, "Internal numbers", "Interne Nummern"),
            Item::Text(self.numbers_hint()),
            Item::Gap,
            Item::Text(self.say(
                "Accept encrypted SIP from outside (TLS, port 5061)?",
                "Verschlüsseltes SIP von außen annehmen (TLS, Port 5061)?",
            )),
            self.choice(
                Id::Tls,
                ("Encrypted SIP", "Verschlüsseltes SIP"),
                vec![
                    ("yes".into(), self.say("yes", "ja")),
                    ("no".into(), self.say("no", "nein")),
                ],
            ),
        ];
        (self.say("Telephony", "Telefonie"), items)
    }

    fn numbers_hint(&self) -> String {
        if self.foreign_routes {
            self.say(
                "The routing table was made elsewhere and is kept as it is.",
                "Die Routingtabelle wurde anderswo angelegt und bleibt, wie sie ist.",
            )
        } else {
            self.say(
                "Numbers: first and last, like 1000-1999.",
                "Nummern: erste und letzte, etwa 1000-1999.",
            )
        }
    }

    fn carrier(&self) -> (String, Vec<Item>) {
        let items = vec![
            Item::Text(self.say(
                "The carrier for calls outside. Empty: there is none. User, realm and password only if the box has to register there.",
                "Der Anbieter für Gespräche nach draußen. Leer: keiner. Benutzer, Realm und Passwort nur, wenn die Anlage sich dort anmelden muss.",
            )),
            Item::Gap,
            self.text(Id::Trunk, "Carrier addresses", "Adressen des Anbieters"),
            self.choice(Id::TrunkTransport, ("  over", "  über"), transports()),
            self.text(Id::TrunkUser, "User", "Benutzer"),
            self.text(Id::TrunkRealm, "Realm", "Realm"),
            self.text(Id::TrunkPassword, "Password", "Passwort"),
            self.text(Id::TrunkPrefix, "Own number, front part", "Eigene Rufnummer, Kopf"),
            Item::Text(self.say(
                "Like +49301234: what stands before the internal number in calls from the carrier.",
                "Etwa +49301234: was bei Anrufen vom Anbieter vor der internen Nummer steht.",
            )),
        ];
        (self.say("Carrier", "Anbieter"), items)
    }
}

fn transports() -> Vec<(String, String)> {
    vec![("udp".into(), "UDP".into()), ("tcp".into(), "TCP".into())]
}
