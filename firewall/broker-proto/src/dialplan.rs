//! What routing knows besides who is where: how numbers are written, when a line of the table is for a call, in which order
//! trunks are tried, when one counts as dead, how much each may carry. Part of [`crate::settings`]; `routing` decides by it.

use serde::{Deserialize, Serialize};

/// How a number is written where it goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NumberForm {
    /// As the route left it.
    #[default]
    Unchanged,
    /// E.164 with `+`: `+493012345`.
    Plus,
    /// With the international prefix: `00493012345`.
    International,
    /// Own country with the national prefix, `03012345`; others with the international one.
    National,
    /// E.164 without anything in front: `493012345`.
    Digits,
}

/// How numbers are dialled in a place, and how they are written for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbering {
    /// Country code without `+`.
    pub country: String,
    /// Area code without national prefix; empty: numbers without area code are left as they are.
    pub area: String,
    /// What stands before a country code, `00`.
    pub international_prefix: String,
    /// What stands before an area code, `0`; empty: none is dialled, and national numbers are not told from local ones.
    pub national_prefix: String,
    /// Fewest and most digits of a number of the own area; other lengths are extensions and left as they are.
    pub local_digits: (u8, u8),
    /// How a number is written on its way there.
    pub form: NumberForm,
}

/// One step of a number pattern: digits out of a set, so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigitClass {
    /// Bit n is set if the digit n fits; bit 10: `+`.
    pub digits: u16,
    /// Fewest.
    pub least: u8,
    /// Most.
    pub most: u8,
}

/// A clock for times of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeZone {
    /// Minutes east of Greenwich, the whole year.
    Fixed(i16),
    /// Minutes east of Greenwich in winter; one hour more in the summer time of the European Union (directive 2000/84).
    EuropeanSummer(i16),
}

/// When a route is for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Bit 0: Monday … bit 6: Sunday.
    pub days: u8,
    /// First and last minute of the day; the first above the last: over midnight, and the day is that of the first. Empty:
    /// the whole day.
    pub hours: Vec<(u16, u16)>,
    /// Whose clock.
    pub zone: TimeZone,
}

/// Which calls a route is for besides callers and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteConditions {
    /// Hosts of the Request-URI; empty: any. The word `own` stands for our domain and addresses.
    pub domains: Vec<String>,
    /// When; `None`: always.
    pub when: Option<Schedule>,
    /// Status codes from 400 to 499 after which the next trunk is tried too, besides 408, 430 and 5xx.
    pub failover: Vec<u16>,
    /// If no trunk of the route can take the call, later routes may; otherwise 503.
    pub next_if_unavailable: bool,
}

/// A trunk of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkChoice {
    /// Its name.
    pub name: String,
    /// Lower ones are tried first.
    pub priority: u8,
    /// Share among those of the same priority; 0: only after the others (RFC 2782).
    pub weight: u16,
    /// Skipped while it carries this many calls.
    pub below: Option<u32>,
}

impl TrunkChoice {
    /// The `index`-th of a list without priorities: tried in the order in which they stand.
    #[must_use]
    pub fn in_order(name: &str, index: usize) -> Self {
        Self {
            name: name.to_owned(),
            priority: u8::try_from(index.saturating_add(1)).unwrap_or(u8::MAX),
            weight: 1,
            below: None,
        }
    }
}

/// How much may go through something; `None`: as much as everything else allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Calls at once.
    pub calls: Option<u32>,
    /// New calls per second.
    pub call_rate: Option<u32>,
    /// Media of all calls together, one way, in kbit/s.
    pub bandwidth_kbit: Option<u32>,
}

/// OPTIONS to every address of a trunk, to see which are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What is peculiar about a zone's callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonePolicy {
    /// How numbers are dialled there.
    pub numbering: Option<Numbering>,
    /// Numbers that no limit stops.
    pub emergency: Vec<String>,
    /// How much its calls may take together.
    pub caps: Caps,
    /// Resource-Priority values (RFC 4412) of its known callers that are believed, in small letters: `esnet.0`, or
    /// `wps.*` for a namespace.
    pub resource_priority: Vec<String>,
}

/// What is peculiar about a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkPolicy {
    /// How numbers are written there; `None`: as in its zone.
    pub numbering: Option<Numbering>,
    /// Whether its addresses are watched.
    pub health: Option<Health>,
    /// How much it may carry.
    pub caps: Caps,
    /// As [`ZonePolicy::resource_priority`].
    pub resource_priority: Vec<String>,
    /// An emergency call that finds it full ends another one on it.
    pub preempt: bool,
}
