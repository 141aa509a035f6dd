//! The dial plan's parts besides the routes themselves: how numbers are written in a place, when a route is for a call,
//! which trunks with which share, how much may go through a zone, a trunk or an account, and when a trunk counts as dead.

use core::fmt;

use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::{
    error::{Sentence, say},
    table::{Report, Section},
    value::{Scalar, Span, not_one_of, shown, words},
};

/// Most emergency numbers of a zone, or Resource-Priority values.
const MAX_NUMBERS: usize = 16;

words! {
    /// How a number is written where it goes to.
    pub enum NumberForm {
        /// As the route left it.
        Unchanged = "unchanged",
        /// E.164 with `+`.
        Plus = "e164",
        /// With the international prefix.
        International = "international",
        /// Own country with the national prefix, others with the international one.
        National = "national",
        /// E.164 without anything in front.
        Digits = "digits",
    }
}

/// How numbers are dialled in a place, and how they are written for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Numbering {
    /// Country code without `+`.
    pub country: String,
    /// Area code without national prefix; empty: numbers without area code are left as they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub area: String,
    /// What stands before a country code.
    pub international_prefix: String,
    /// What stands before an area code; empty: nothing.
    pub national_prefix: String,
    /// How many digits a number of the own area has.
    pub local_digits: Span<u8>,
    /// How a number is written on its way there.
    pub form: NumberForm,
}

impl Numbering {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &[
                "country",
                "area",
                "international_prefix",
                "national_prefix",
                "local_digits",
                "form",
            ],
        );
        let country: Option<String> = section.required(report, "country");
        let country = country.filter(|country| {
            let fits = (1..=3).contains(&country.len())
                && all_digits(country)
                && !country.starts_with('0');
            if !fits {
                report.error(
                    &section.key("country"),
                    say!(
                        "is no country code: 1 to 3 digits without + and without 0 in front, like \"49\"",
                        "ist keine Landesvorwahl: 1 bis 3 Ziffern ohne + und ohne 0 davor, etwa \"49\""
                    ),
                );
            }
            fits
        });
        let area = code(section, report, "area", "");
        let international_prefix = code(section, report, "international_prefix", "00");
        let national_prefix = code(section, report, "national_prefix", "0");
        let usual = Span { first: 6, last: 11 };
        let local_digits = section.or(report, "local_digits", usual);
        let form = section.or(report, "form", NumberForm::Unchanged);
        let numbering = Self {
            country: country?,
            area: area?,
            international_prefix: international_prefix?,
            national_prefix: national_prefix?,
            local_digits: local_digits?,
            form: form?,
        };
        numbering.check(section, report).then_some(numbering)
    }

    fn check(&self, section: &Section<'_, '_>, report: &mut Report<'_>) -> bool {
        let mut sound = true;
        let mut wrong = |report: &mut Report<'_>, key: &str, sentence: Sentence| {
            report.error(&section.key(key), sentence);
            sound = false;
        };
        if self.area.starts_with('0') {
            wrong(
                report,
                "area",
                say!(
                    "is written without the national prefix, \"30\" instead of \"030\"",
                    "steht ohne nationale Vorwahlziffer, \"30\" statt \"030\""
                ),
            );
        }
        if self.international_prefix.is_empty() && self.form == NumberForm::International {
            wrong(
                report,
                "form",
                say!(
                    "needs an international_prefix",
                    "braucht ein international_prefix"
                ),
            );
        }
        if self.national_prefix.is_empty() && self.form == NumberForm::National {
            wrong(
                report,
                "form",
                say!("needs a national_prefix", "braucht ein national_prefix"),
            );
        }
        if !self.national_prefix.is_empty() && self.national_prefix == self.international_prefix {
            wrong(
                report,
                "national_prefix",
                say!(
                    "is the same as international_prefix, so no number could be told from another",
                    "ist dasselbe wie international_prefix, keine Nummer wäre von einer anderen zu unterscheiden"
                ),
            );
        }
        if self.local_digits.first < 3 || self.local_digits.last > 14 {
            wrong(
                report,
                "local_digits",
                say!("must be within 3-14", "muss innerhalb von 3-14 liegen"),
            );
        }
        sound
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn code(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    key: &str,
    default: &str,
) -> Option<String> {
    let code = section.or(report, key, default.to_owned())?;
    if code.len() <= 6 && all_digits(&code) {
        return Some(code);
    }
    report.error(
        &section.key(key),
        say!(
            "is no dialling prefix: at most 6 digits",
            "ist keine Vorwahl: höchstens 6 Ziffern"
        ),
    );
    None
}

/// How much may go through something; `None`: as much as everything else allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Caps {
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// New calls per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_rate: Option<u32>,
    /// Media of all calls together, one way, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_kbit: Option<u32>,
}

impl Caps {
    /// Whether it bounds nothing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// The table `key` of a section, open if it is left out.
    pub(crate) fn read(
        section: &Section<'_, '_>,
        report: &mut Report<'_>,
        key: &str,
    ) -> Option<Self> {
        let Some(table) = section.table(report, key) else {
            return Some(Self::default());
        };
        table.only(report, &["calls", "call_rate", "bandwidth_kbit"]);
        let calls = optional_within(&table, report, "calls", (1, 100_000));
        let call_rate = optional_within(&table, report, "call_rate", (1, 100_000));
        let bandwidth = optional_within(&table, report, "bandwidth_kbit", (64, 100_000_000));
        Some(Self {
            calls: calls?,
            call_rate: call_rate?,
            bandwidth_kbit: bandwidth?,
        })
    }
}

/// OPTIONS to every address of a trunk, to see which are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Seconds between two questions to an address that is alive.
    pub interval_seconds: u32,
    /// It is dead after so many without an answer in a row.
    pub down_after: u8,
    /// It is alive again after so many answers in a row.
    pub up_after: u8,
    /// The interval of a dead one doubles up to this.
    pub retry_seconds_max: u32,
}

impl Health {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &[
                "interval_seconds",
                "down_after",
                "up_after",
                "retry_seconds_max",
            ],
        );
        let interval = optional_within(section, report, "interval_seconds", (5, 3600));
        let down = optional_within(section, report, "down_after", (1, 10));
        let up = optional_within(section, report, "up_after", (1, 10));
        let retry = optional_within(section, report, "retry_seconds_max", (5, 86_400));
        let (interval, retry) = (interval?.unwrap_or(30), retry?.unwrap_or(300));
        if retry < interval {
            report.error(
                &section.key("retry_seconds_max"),
                say!(
                    "is shorter than interval_seconds, and a dead address is never asked more often than a live one",
                    "ist kürzer als interval_seconds, und eine tote Adresse wird nie öfter gefragt als eine lebende"
                ),
            );
            return None;
        }
        Some(Self {
            interval_seconds: interval,
            down_after: u8::try_from(down?.unwrap_or(3)).ok()?,
            up_after: u8::try_from(up?.unwrap_or(2)).ok()?,
            retry_seconds_max: retry,
        })
    }
}

/// A whole number that may be left out, within bounds.
pub(crate) fn optional_within(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    key: &str,
    (least, most): (u32, u32),
) -> Option<Option<u32>> {
    let value: Option<u32> = section.optional(report, key)?;
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            report.error(
                &section.key(key),
                say!(
                    "must be from {least} to {most}",
                    "muss zwischen {least} und {most} liegen"
                ),
            );
            None
        }
        value => Some(value),
    }
}

/// What is peculiar about a zone's callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZonePolicy {
    /// Numbers that no limit stops.
    pub emergency: Vec<String>,
    /// Resource-Priority values of its known callers that are believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_priority: Vec<Priority>,
    /// How numbers are dialled there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbering: Option<Numbering>,
    /// How much its calls may take together.
    #[serde(rename = "limits", skip_serializing_if = "Caps::is_open")]
    pub caps: Caps,
}

impl Default for ZonePolicy {
    fn default() -> Self {
        Self {
            // Directive (EU) 2018/1972, article 109: the one number of all member states.
            emergency: vec!["112".into()],
            resource_priority: Vec::new(),
            numbering: None,
            caps: Caps::default(),
        }
    }
}

impl ZonePolicy {
    pub(crate) const KEYS: [&'static str; 4] =
        ["emergency", "resource_priority", "numbering", "limits"];

    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        let emergency = section.list_with(report, "emergency", MAX_NUMBERS, |value| {
            let number = String::read(value)?;
            let fits = (2..=15).contains(&number.len()) && all_digits(&number);
            let shown = shown(&number);
            fits.then_some(number).ok_or(say!(
                "`{shown}` is no emergency number: 2 to 15 digits, like \"112\"",
                "`{shown}` ist keine Notrufnummer: 2 bis 15 Ziffern, etwa \"112\""
            ))
        });
        let named = report.has(&section.key("emergency"));
        let priority = section.list(report, "resource_priority", MAX_NUMBERS);
        let numbering = match section.table(report, "numbering") {
            Some(table) => Some(Numbering::read(&table, report)?),
            None => None,
        };
        let caps = Caps::read(section, report, "limits");
        Some(Self {
            emergency: match named {
                true => emergency?,
                false => Self::default().emergency,
            },
            resource_priority: priority?,
            numbering,
            caps: caps?,
        })
    }
}

/// What is peculiar about a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrunkPolicy {
    /// Resource-Priority values that are believed of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_priority: Vec<Priority>,
    /// An emergency call that finds it full ends another one on it.
    pub preempt: bool,
    /// How numbers are written there; `None`: as in its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbering: Option<Numbering>,
    /// Whether its addresses are watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How much it may carry.
    #[serde(rename = "limits", skip_serializing_if = "Caps::is_open")]
    pub caps: Caps,
}

impl TrunkPolicy {
    pub(crate) const KEYS: [&'static str; 5] = [
        "resource_priority",
        "preempt",
        "numbering",
        "health",
        "limits",
    ];

    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        let priority = section.list(report, "resource_priority", MAX_NUMBERS);
        let preempt = section.or(report, "preempt", false);
        let numbering = match section.table(report, "numbering") {
            Some(table) => Some(Numbering::read(&table, report)?),
            None => None,
        };
        let health = match section.table(report, "health") {
            Some(table) => Some(Health::read(&table, report)?),
            None => None,
        };
        let caps = Caps::read(section, report, "limits")?;
        let preempt = preempt?;
        if preempt && caps.calls.is_none() {
            report.error(
                &section.key("preempt"),
                say!(
                    "needs to know when the trunk is full: set calls in its limits",
                    "muss wissen, wann der Trunk voll ist: calls in seinen limits setzen"
                ),
            );
        }
        Some(Self {
            resource_priority: priority?,
            preempt,
            numbering,
            health,
            caps,
        })
    }
}

/// A Resource-Priority value (RFC 4412 §3.1), `esnet.0`, or all of a namespace, `wps.*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Priority(pub String);

impl Scalar for Priority {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        let token = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b"-!%_+`'~".contains(&b)
                })
        };
        let fits = written
            .split_once('.')
            .is_some_and(|(namespace, value)| token(namespace) && (token(value) || value == "*"));
        let shown = shown(&written);
        fits.then_some(Self(written)).ok_or(say!(
            "`{shown}` is no Resource-Priority; write it like \"esnet.0\" or \"wps.*\", in small letters",
            "`{shown}` ist keine Resource-Priority; Schreibweise \"esnet.0\" oder \"wps.*\", in Kleinbuchstaben"
        ))
    }
}

/// A trunk of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkChoice {
    /// Its name.
    pub name: String,
    /// Lower ones are tried first.
    pub priority: u8,
    /// Share among those of the same priority.
    pub weight: u16,
    /// Skipped while it carries this many calls.
    pub below: Option<u32>,
}

impl TrunkChoice {
    /// The `index`-th of a list without priorities.
    #[must_use]
    pub fn in_order(name: &str, index: usize) -> Self {
        Self {
            name: name.to_owned(),
            priority: u8::try_from(index.saturating_add(1)).unwrap_or(u8::MAX),
            weight: 1,
            below: None,
        }
    }

    /// The key `trunks`: names in their order, or tables.
    pub(crate) fn list(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Vec<Self>> {
        let read = section.list_with(report, "trunks", crate::sip::MAX_TRUNKS, Written::read)?;
        let choices = read.into_iter().enumerate().map(|(index, written)| {
            let usual = Self::in_order(&written.name, index);
            Self {
                priority: written.priority.unwrap_or(usual.priority),
                weight: written.weight.unwrap_or(usual.weight),
                below: written.below,
                ..usual
            }
        });
        Some(choices.collect())
    }
}

/// One entry of `trunks` as it stands.
struct Written {
    name: String,
    priority: Option<u8>,
    weight: Option<u16>,
    below: Option<u32>,
}

impl Written {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let DeValue::Table(table) = value else {
            return Ok(Self {
                name: String::read(value)?,
                priority: None,
                weight: None,
                below: None,
            });
        };
        for key in table.keys() {
            let known = ["name", "priority", "weight", "below"];
            let written: &str = key.get_ref();
            if !known.contains(&written) {
                return Err(not_one_of(written, &known));
            }
        }
        let number = |key: &str, least: u32, most: u32| match table.get(key) {
            None => Ok(None),
            Some(value) => u32::read(value.get_ref())
                .ok()
                .filter(|value| (least..=most).contains(value))
                .map(Some)
                .ok_or(say!(
                    "{key} must be a whole number from {least} to {most}",
                    "{key} muss eine ganze Zahl von {least} bis {most} sein"
                )),
        };
        let name = table.get("name").ok_or(say!(
            "lacks the trunk's name; write it like {{ name = \"carrier\", priority = 1, weight = 70 }}",
            "es fehlt der Name des Trunks; Schreibweise {{ name = \"carrier\", priority = 1, weight = 70 }}"
        ))?;
        Ok(Self {
            name: String::read(name.get_ref())?,
            priority: number("priority", 0, 255)?.and_then(|n| u8::try_from(n).ok()),
            weight: number("weight", 0, 65_535)?.and_then(|n| u16::try_from(n).ok()),
            below: number("below", 1, 100_000)?,
        })
    }
}

impl Serialize for TrunkChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("trunk", 4)?;
        out.serialize_field("name", &self.name)?;
        out.serialize_field("priority", &self.priority)?;
        out.serialize_field("weight", &self.weight)?;
        if let Some(below) = self.below {
            out.serialize_field("below", &below)?;
        }
        out.end()
    }
}

/// Trunks of a route, printed as names alone where nothing else was said.
pub(crate) struct Choices<'a>(pub(crate) &'a [TrunkChoice]);

impl Serialize for Choices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut plain = self.0.iter().enumerate();
        if plain.all(|(index, choice)| *choice == TrunkChoice::in_order(&choice.name, index)) {
            return serializer.collect_seq(self.0.iter().map(|choice| &choice.name));
        }
        serializer.collect_seq(self.0)
    }
}

/// When a route is for a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Schedule {
    /// Days of the week.
    #[serde(serialize_with = "print_days")]
    pub days: u8,
    /// Times of day; empty: the whole day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
    /// Whose clock.
    pub zone: Clock,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn print_days<S: Serializer>(days: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    let names = DAYS.iter().enumerate();
    serializer.collect_seq(
        names
            .filter(|(day, _)| days & 1 << day != 0)
            .map(|(_, name)| name),
    )
}

impl Schedule {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["days", "hours", "zone"]);
        let days: Option<Vec<u8>> = section.list_with(report, "days", 14, read_days);
        let named = report.has(&section.key("days"));
        let hours = section.list(report, "hours", 16);
        let zone = section.required(report, "zone");
        let days = match named {
            false => 0x7f,
            true => days?.into_iter().fold(0, |all, some| all | some),
        };
        if days == 0 {
            report.error(
                &section.key("days"),
                say!(
                    "names no day, so the route would never be for any call",
                    "nennt keinen Tag, die Route gälte also nie"
                ),
            );
            return None;
        }
        Some(Self {
            days,
            hours: hours?,
            zone: zone?,
        })
    }
}

/// `mon` or `mon-fri`.
fn read_days(value: &DeValue<'_>) -> Result<u8, Sentence> {
    let written = String::read(value)?;
    let day = |text: &str| DAYS.iter().position(|name| *name == text);
    let (first, last) = written.split_once('-').unwrap_or((&written, &written));
    match (day(first), day(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).fold(0, |days, day| days | 1 << day))
        }
        // Over the week's end.
        (Some(first), Some(last)) => Ok((0..7)
            .filter(|day| *day >= first || *day <= last)
            .fold(0, |days, day| days | 1 << day)),
        _ => Err(not_one_of(&written, &[&DAYS[..], &["mon-fri"]].concat())),
    }
}

/// A time of day from one minute up to another, which is not part of it: `08:00-18:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hours {
    /// First minute of the day.
    pub from: u16,
    /// Minute at which it ends, up to 1440; not above `from`: on the next day.
    pub to: u16,
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", part(self.from), part(self.to))
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Hours {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        let minute = |text: &str| -> Option<u16> {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str| {
                let plain = text.len() == 2 && all_digits(text);
                text.parse::<u16>().ok().filter(|_| plain)
            };
            let (hour, minute) = (two(hour)?, two(minute)?);
            (minute < 60 && hour * 60 + minute <= 1440).then_some(hour * 60 + minute)
        };
        let hours = written
            .split_once('-')
            .and_then(|(from, to)| {
                Some(Self {
                    from: minute(from)?,
                    to: minute(to)?,
                })
            })
            .filter(|hours| hours.from < 1440 && hours.to > 0 && hours.from != hours.to);
        let shown = shown(&written);
        hours.ok_or(say!(
            "`{shown}` is no time of day; write it like \"08:00-18:00\" or \"22:00-06:00\"",
            "`{shown}` ist keine Tageszeit; Schreibweise \"08:00-18:00\" oder \"22:00-06:00\""
        ))
    }
}

/// A clock for times of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Clock {
    /// So many minutes east of Greenwich.
    Fixed(i16),
    /// A place with the summer time of the European Union: its name and its minutes in winter.
    European(&'static str, i16),
}

/// Places whose clocks change on the last Sundays of March and October at 01:00 UTC.
const EUROPE: [(&str, i16); 30] = [
    ("Europe/Lisbon", 0),
    ("Europe/London", 0),
    ("Europe/Dublin", 0),
    ("Europe/Amsterdam", 60),
    ("Europe/Belgrade", 60),
    ("Europe/Berlin", 60),
    ("Europe/Bratislava", 60),
    ("Europe/Brussels", 60),
    ("Europe/Budapest", 60),
    ("Europe/Copenhagen", 60),
    ("Europe/Ljubljana", 60),
    ("Europe/Luxembourg", 60),
    ("Europe/Madrid", 60),
    ("Europe/Malta", 60),
    ("Europe/Oslo", 60),
    ("Europe/Paris", 60),
    ("Europe/Prague", 60),
    ("Europe/Rome", 60),
    ("Europe/Stockholm", 60),
    ("Europe/Vaduz", 60),
    ("Europe/Vienna", 60),
    ("Europe/Warsaw", 60),
    ("Europe/Zagreb", 60),
    ("Europe/Zurich", 60),
    ("Europe/Athens", 120),
    ("Europe/Bucharest", 120),
    ("Europe/Helsinki", 120),
    ("Europe/Riga", 120),
    ("Europe/Sofia", 120),
    ("Europe/Vilnius", 120),
];

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::European(name, _) => f.write_str(name),
            Self::Fixed(0) => f.write_str("UTC"),
            Self::Fixed(east) => {
                let sign = if *east < 0 { '-' } else { '+' };
                let minutes = east.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Clock {
    fn read(value: &DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        if written == "UTC" {
            return Ok(Self::Fixed(0));
        }
        if let Some((name, east)) = EUROPE.iter().find(|(name, _)| *name == written) {
            return Ok(Self::European(name, *east));
        }
        let offset = || -> Option<i16> {
            let sign = match written.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = written.get(1..)?.split_once(':')?;
            let two = |text: &str| {
                let plain = text.len() == 2 && all_digits(text);
                text.parse::<i16>().ok().filter(|_| plain)
            };
            let (hours, minutes) = (two(hours)?, two(minutes)?);
            (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
        };
        let names: Vec<&str> = EUROPE.iter().map(|(name, _)| *name).collect();
        let near = crate::value::nearest(&written, &names).unwrap_or("Europe/Berlin");
        let shown = shown(&written);
        offset().map(Self::Fixed).ok_or(say!(
            "`{shown}` is no time zone known here; write \"{near}\", \"UTC\", or an offset like \"+01:00\" that stays the same all year",
            "`{shown}` ist hier keine bekannte Zeitzone; Schreibweise \"{near}\", \"UTC\" oder ein Abstand wie \"+01:00\", der das ganze Jahr gilt"
        ))
    }
}
