//! The routing table: which callers and numbers a line is for, and what is done with their calls.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    dialplan::{Choices, Schedule, TrunkChoice},
    error::say,
    pattern::Pattern,
    sip::{MAX_TRUNKS, is_host_name},
    table::{Report, Section},
    value::{Span, words},
    zone::{MAX_ZONES, read_name},
};

/// Most routes of a document.
pub const MAX_ROUTES: usize = 1000;
/// Most domains of a route, or status codes.
const MAX_DOMAINS: usize = 32;
/// The word for our own domain and addresses among a route's domains.
pub const OWN_DOMAIN: &str = "own";

/// Who a caller is, as far as routing cares. Spelt `registered`, `internal`, `registrar`, `trunk:NAME`,
/// `zone:NAME`.
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
    /// A known caller in the zone of that name.
    Zone(String),
}

/// Spellings of an [`Origin`].
pub(crate) const ORIGINS: [&str; 5] = [
    "registered",
    "internal",
    "registrar",
    "trunk:NAME",
    "zone:NAME",
];

impl core::fmt::Display for Origin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Registered => f.write_str("registered"),
            Self::Internal => f.write_str("internal"),
            Self::Registrar => f.write_str("registrar"),
            Self::Trunk(name) => write!(f, "trunk:{name}"),
            Self::Zone(name) => write!(f, "zone:{name}"),
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
            other => match other.split_once(':') {
                Some(("trunk", name)) if !name.is_empty() => Ok(Self::Trunk(name.to_owned())),
                Some(("zone", name)) if !name.is_empty() => Ok(Self::Zone(name.to_owned())),
                _ => Err(crate::value::not_one_of(other, &ORIGINS)),
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
    Trunks(Vec<TrunkChoice>),
    /// To a live binding of the called number, or 480.
    Binding,
    /// Refused with this status code (4xx–6xx).
    Refuse(u16),
}

words! {
    /// What becomes of a call if none of the route's trunks can take it.
    pub enum IfUnavailable {
        /// 503.
        Refuse = "refuse",
        /// Later routes may take it.
        Next = "next",
    }
}

/// Which called users a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Called {
    /// Numbers with a prefix.
    Number(Prefixed),
    /// Numbers of a pattern.
    Pattern(Pattern),
    /// Whatever it is, also a name; of named domains only.
    Anything,
}

impl Called {
    /// The numbers with a prefix, if it is these.
    #[must_use]
    pub const fn prefixed(&self) -> Option<&Prefixed> {
        match self {
            Self::Number(called) => Some(called),
            Self::Pattern(_) | Self::Anything => None,
        }
    }
}

/// Numbers with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefixed {
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
    /// Hosts of the Request-URI that it is for; empty: any. The word `own` is our domain and addresses.
    pub domains: Vec<String>,
    /// When it is for a call; `None`: always.
    pub when: Option<Schedule>,
    /// Characters cut from the front of the number.
    pub strip: u8,
    /// Characters put in front afterwards.
    pub prepend: String,
    /// What is done.
    pub action: Action,
    /// Status codes from 400 to 499 after which the next trunk is tried too.
    pub failover: Vec<u16>,
    /// What becomes of a call if none of the trunks can take it.
    pub if_unavailable: IfUnavailable,
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("route", 15)?;
        out.serialize_field("name", &self.name)?;
        out.serialize_field("from", &self.from)?;
        match &self.called {
            Called::Number(called) => {
                out.serialize_field("prefix", &called.prefix)?;
                out.serialize_field("digits", &called.digits)?;
                if let Some(range) = called.range {
                    out.serialize_field("range", &range)?;
                }
            }
            Called::Pattern(pattern) => out.serialize_field("pattern", pattern)?,
            Called::Anything => {}
        }
        if !self.domains.is_empty() {
            out.serialize_field("domain", &self.domains)?;
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
                out.serialize_field("trunks", &Choices(trunks))?;
                if !self.failover.is_empty() {
                    out.serialize_field("failover", &self.failover)?;
                }
                if self.if_unavailable != IfUnavailable::Refuse {
                    out.serialize_field("if_unavailable", &self.if_unavailable)?;
                }
            }
            Action::Refuse(status) => {
                out.serialize_field("action", &ActionWord::Refuse)?;
                out.serialize_field("status", status)?;
            }
        }
        if let Some(when) = &self.when {
            out.serialize_field("when", when)?;
        }
        out.end()
    }
}

impl Route {
    /// A line for these callers and numbers with a prefix, always and for any domain.
    #[must_use]
    pub fn plain(name: &str, from: Vec<Origin>, called: Prefixed, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            from,
            called: Called::Number(called),
            domains: Vec::new(),
            when: None,
            strip: 0,
            prepend: String::new(),
            action,
            failover: Vec::new(),
            if_unavailable: IfUnavailable::Refuse,
        }
    }

    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &[
                "name",
                "from",
                "prefix",
                "digits",
                "range",
                "pattern",
                "domain",
                "when",
                "strip",
                "prepend",
                "action",
                "trunks",
                "status",
                "failover",
                "if_unavailable",
            ],
        );
        let name = read_name(section, report);
        let from = section.list(report, "from", MAX_TRUNKS + 3 + MAX_ZONES);
        let domains = section.list_with(report, "domain", MAX_DOMAINS, read_domain);
        let called = read_called(section, report);
        let when = match section.table(report, "when") {
            Some(table) => Schedule::read(&table, report).map(Some),
            None => Some(None),
        };
        let strip = section.or(report, "strip", 0);
        let prepend = section.or(report, "prepend", String::new());
        let prepend =
            prepend.and_then(|prepend| check_dialled(report, &section.key("prepend"), prepend));
        let action = read_action(section, report);
        let failover = section.list_with(report, "failover", MAX_DOMAINS, read_failover);
        let if_unavailable = section.or(report, "if_unavailable", IfUnavailable::Refuse);
        let action = action?;
        if called == Some(Called::Anything) && domains.as_ref().is_some_and(Vec::is_empty) {
            section.missing(report, "digits");
            return None;
        }
        if !matches!(action, Action::Trunks(_)) {
            for key in ["failover", "if_unavailable"] {
                let key = section.key(key);
                if report.has(&key) {
                    report.error(&key, trunks_only());
                }
            }
        }
        Some(Self {
            name: name?,
            from: from?,
            called: called?,
            domains: domains?,
            when: when?,
            strip: strip?,
            prepend: prepend?,
            action,
            failover: failover?,
            if_unavailable: if_unavailable?,
        })
    }
}

/// The keys `prefix`, `digits` and `range`, or `pattern` instead; a route for named domains needs none.
fn read_called(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Called> {
    let pattern: Option<Option<Pattern>> = section.optional(report, "pattern");
    let prefix = section.or(report, "prefix", String::new());
    let prefix = prefix.and_then(|prefix| check_dialled(report, &section.key("prefix"), prefix));
    let digits: Option<Option<Span<u8>>> = section.optional(report, "digits");
    let range = section.optional(report, "range");
    let has = |report: &Report<'_>, key| report.has(&section.key(key));
    let parts = ["prefix", "digits", "range"].map(|key| has(report, key));
    if has(report, "pattern") {
        if parts.contains(&true) {
            report.error(
                &section.key("pattern"),
                say!(
                    "says all about the number; prefix, digits and range do not stand beside it",
                    "sagt alles über die Nummer; prefix, digits und range stehen nicht daneben"
                ),
            );
            return None;
        }
        return pattern?.map(Called::Pattern);
    }
    if parts == [false; 3] && has(report, "domain") {
        return Some(Called::Anything);
    }
    let digits = match digits? {
        Some(digits) => digits,
        None => {
            section.missing(report, "digits");
            return None;
        }
    };
    Some(Called::Number(Prefixed {
        prefix: prefix?,
        digits,
        range: range?,
    }))
}

fn read_domain(value: &toml::de::DeValue<'_>) -> Result<String, crate::error::Sentence> {
    let written = <String as crate::value::Scalar>::read(value)?;
    let bare = written
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => written.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    let fits = written == OWN_DOMAIN || address || is_host_name(&written);
    let shown = crate::value::shown(&written);
    fits.then_some(written).ok_or(say!(
        "`{shown}` is no host of a SIP URI; write a name in small letters, an address, [an IPv6 address], or own",
        "`{shown}` ist kein Rechner einer SIP-URI; Schreibweise: ein Name in Kleinbuchstaben, eine Adresse, [eine IPv6-Adresse] oder own"
    ))
}

fn read_failover(value: &toml::de::DeValue<'_>) -> Result<u16, crate::error::Sentence> {
    match <u16 as crate::value::Scalar>::read(value)? {
        // RFC 3261 §21.4: these are between the caller and us, or the end of a call.
        code @ (401 | 407 | 482 | 483 | 487) => Err(say!(
            "{code} is no reason to try another trunk",
            "{code} ist kein Grund für einen anderen Trunk"
        )),
        code @ 400..=499 => Ok(code),
        code => Err(say!(
            "{code} is none of 400-499: 5xx and silence always lead to the next trunk, 6xx never does",
            "{code} liegt nicht in 400-499: 5xx und Schweigen führen immer zum nächsten Trunk, 6xx nie"
        )),
    }
}

fn trunks_only() -> crate::error::Sentence {
    say!(
        "belongs to action = \"trunks\" only",
        "gehört nur zu action = \"trunks\""
    )
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
    let trunks = TrunkChoice::list(section, report)?;
    let status: Option<u16> = section.optional(report, "status")?;
    let word = word?;
    if word != ActionWord::Trunks && !trunks.is_empty() {
        report.error(&section.key("trunks"), trunks_only());
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
