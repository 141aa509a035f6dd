//! The routing table: the first route that is for a call, and its trunks in the order in which they are tried. Weights are
//! drawn as RFC 2782 does for SRV records, from the lot that the asker gives.

use broker_proto::settings::{Origin, Route, RouteAction, Settings, TrunkChoice};

use crate::{
    caller::{Caller, registrar_numbering, trunk_numbering},
    clock,
    explain::{Explain, Mismatch, Skip, Step},
    number::{Dialled, format, normalise, plain},
    pattern::fits,
};

/// The word for our own domain and addresses in a route's domains.
const OWN: &str = "own";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// User part of the Request-URI or number of a tel URI with its parameters, escapes resolved.
    pub user: &'a str,
    /// Host of the Request-URI; empty: none, as of a tel URI.
    pub host: &'a str,
    /// User part of From, escapes resolved.
    pub calling: &'a str,
    /// A trusted peer marked the call as one that no limit stops (RFC 4412).
    pub spared: bool,
}

/// How a trunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkState {
    /// It can take a call.
    Up,
    /// None of its addresses answers.
    Down,
    /// It carries as much as it may, by the limit of this name.
    Full(&'static str),
}

/// What lives: trunks by their index in the settings, and the lot.
pub trait Live {
    /// How a trunk is.
    fn trunk(&self, index: usize) -> TrunkState;
    /// Calls that a trunk carries.
    fn calls(&self, index: usize) -> u32;
    /// A number below `bound`, which is not zero.
    fn draw(&mut self, bound: u32) -> u32;
}

/// A trunk to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkTry {
    /// Index in the settings.
    pub index: usize,
    /// The called number as it is written there.
    pub called: String,
    /// The calling user as it is written there.
    pub calling: String,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The PBX.
    Registrar {
        /// The called number as it is written there.
        called: String,
        /// The calling user as it is written there.
        calling: String,
    },
    /// A phone that registered through us.
    Binding {
        /// Under this user.
        user: String,
        /// The calling user as it is written there.
        calling: String,
    },
    /// Trunks, at least one, in the order in which they are tried.
    Trunks(Vec<TrunkTry>),
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The route's name.
    pub route: String,
    /// Where to.
    pub goal: Goal,
    /// No limit counts.
    pub emergency: bool,
    /// Status codes after which the next target is tried too, besides the usual ones.
    pub failover: Vec<u16>,
}

/// Why a call goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWay {
    /// Status for a known caller; a stranger gets silence.
    pub status: u16,
    /// Stable word for counter and log.
    pub reason: &'static str,
    /// Whether it may be otherwise soon: worth a Retry-After.
    pub passing: bool,
}

const fn no(status: u16, reason: &'static str) -> NoWay {
    NoWay {
        status,
        reason,
        passing: false,
    }
}

/// Where a call goes.
///
/// # Errors
/// What the caller is told instead.
pub fn find(
    settings: &Settings,
    caller: &Caller<'_>,
    called: &Called<'_>,
    unix_ms: u64,
    live: &mut dyn Live,
    explain: &mut dyn Explain,
) -> Result<Way, NoWay> {
    let way = search(settings, caller, called, unix_ms, live, explain);
    if let Err(refused) = &way {
        let status = if caller.origins.is_empty() {
            0
        } else {
            refused.status
        };
        let reason = refused.reason;
        explain.step(&Step::Refused { status, reason });
    }
    way
}

/// Whether an emergency number is called.
#[must_use]
pub fn is_emergency(settings: &Settings, caller: &Caller<'_>, user: &str) -> bool {
    let numbers = caller.emergency_numbers(settings);
    !numbers.is_empty()
        && user
            .split(';')
            .next()
            .and_then(plain)
            .is_some_and(|number| numbers.contains(&number))
}

/// The calling user as it is written in a place: a number that is understood in that place's form, anything else as it
/// is.
#[must_use]
pub fn calling_for(
    settings: &Settings,
    caller: &Caller<'_>,
    calling: &str,
    place: Option<&broker_proto::settings::Numbering>,
) -> String {
    let habits = caller.habits(settings);
    if habits.is_none() && place.is_none() {
        return calling.to_owned();
    }
    let number = Dialled::of(calling)
        .and_then(|dialled| normalise(&dialled, habits, |host| is_own(settings, host)));
    match number {
        Some(number) => format(&number, place),
        None => calling.to_owned(),
    }
}

fn search(
    settings: &Settings,
    caller: &Caller<'_>,
    called: &Called<'_>,
    unix_ms: u64,
    live: &mut dyn Live,
    explain: &mut dyn Explain,
) -> Result<Way, NoWay> {
    if caller.origins.is_empty() {
        return Err(no(403, "stranger"));
    }
    let emergency = is_emergency(settings, caller, called.user);
    let own = |host: &str| is_own(settings, host);
    let number = if emergency {
        called.user.split(';').next().and_then(plain)
    } else {
        Dialled::of(called.user)
            .and_then(|dialled| normalise(&dialled, caller.habits(settings), own))
    };
    explain.step(&Step::Dialled {
        user: called.user,
        number: number.as_deref(),
    });
    if emergency {
        explain.step(&Step::Emergency);
    } else if called.spared {
        explain.step(&Step::Spared);
    }
    let spared = emergency || called.spared;
    let mut refusal = no(404, "no-route");
    for route in &settings.routes {
        let because = match mismatch(settings, route, caller, called, number.as_deref(), unix_ms) {
            Some(Reason::Time(clock)) => {
                let because = Mismatch::Time(&clock);
                explain.step(&Step::Passed {
                    route: &route.name,
                    because,
                });
                continue;
            }
            Some(Reason::Other(because)) => because,
            None => match take(
                settings,
                route,
                caller,
                called,
                number.as_deref(),
                spared,
                live,
                explain,
            ) {
                Ok(way) => return Ok(way),
                Err(Taken::No(refused)) => return Err(refused),
                Err(Taken::Next(refused)) => {
                    refusal = refused;
                    Mismatch::Unavailable
                }
                Err(Taken::TooShort) => Mismatch::TooShort,
            },
        };
        explain.step(&Step::Passed {
            route: &route.name,
            because,
        });
    }
    Err(refusal)
}

enum Reason<'a> {
    Time(String),
    Other(Mismatch<'a>),
}

fn mismatch<'a>(
    settings: &Settings,
    route: &Route,
    caller: &Caller<'_>,
    called: &Called<'a>,
    number: Option<&str>,
    unix_ms: u64,
) -> Option<Reason<'a>> {
    let conditions = &route.conditions;
    let among = |origin: &Origin| caller.origins.contains(origin);
    if !route.from.iter().any(among) {
        return Some(Reason::Other(Mismatch::Caller));
    }
    if !fits(&route.called, number) {
        return Some(Reason::Other(Mismatch::Number));
    }
    let named = |domain: &String| {
        domain.eq_ignore_ascii_case(called.host)
            || (domain == OWN && (called.host.is_empty() || is_own(settings, called.host)))
    };
    if !conditions.domains.is_empty() && !conditions.domains.iter().any(named) {
        return Some(Reason::Other(Mismatch::Domain(called.host)));
    }
    let schedule = conditions.when.as_ref()?;
    (!clock::is_on(schedule, unix_ms))
        .then(|| Reason::Time(clock::local(schedule.zone, unix_ms).text()))
}

/// Whether a host is our domain or one of our addresses.
fn is_own(settings: &Settings, host: &str) -> bool {
    if host.eq_ignore_ascii_case(&settings.domain) {
        return true;
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().is_ok_and(|address| {
        let mut zones = settings.zones.iter();
        zones.any(|zone| zone.addresses.contains(&address))
    })
}

enum Taken {
    /// The call is refused.
    No(NoWay),
    /// Later routes may try.
    Next(NoWay),
    /// The number is too short for what the route cuts.
    TooShort,
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one decision, each of another kind"
)]
fn take(
    settings: &Settings,
    route: &Route,
    caller: &Caller<'_>,
    called: &Called<'_>,
    number: Option<&str>,
    spared: bool,
    live: &mut dyn Live,
    explain: &mut dyn Explain,
) -> Result<Way, Taken> {
    let whole = number.unwrap_or(called.user);
    let rest = whole
        .get(usize::from(route.strip)..)
        .ok_or(Taken::TooShort)?;
    let number = format!("{}{rest}", route.prepend);
    explain.step(&Step::Matched {
        route: &route.name,
        number: &number,
    });
    let calling = |place| calling_for(settings, caller, called.calling, place);
    let goal = match &route.action {
        RouteAction::Refuse(status) if (400..=699).contains(status) => {
            return Err(Taken::No(no(*status, "route-refuses")));
        }
        RouteAction::Refuse(_) => return Err(Taken::No(no(403, "route-refuses"))),
        // The PBX's own call would come straight back to it.
        RouteAction::Registrar if caller.origins.contains(&Origin::Registrar) => {
            return Err(Taken::No(no(482, "loop")));
        }
        RouteAction::Registrar => {
            let place = registrar_numbering(settings);
            let (called, calling) = (format(&number, place), calling(place));
            explain.step(&Step::ToRegistrar {
                called: &called,
                calling: &calling,
            });
            Goal::Registrar { called, calling }
        }
        RouteAction::Binding => {
            explain.step(&Step::ToBinding { user: &number });
            let calling = calling(registrar_numbering(settings));
            Goal::Binding {
                user: number,
                calling,
            }
        }
        RouteAction::Trunks(choices) => {
            let (order, refusal) = usable(settings, choices, spared, live, explain);
            let mut tries = Vec::with_capacity(order.len());
            for (index, choice) in order {
                let Some(trunk) = settings.trunks.get(index) else {
                    continue;
                };
                let place = trunk_numbering(settings, trunk);
                let (called, calling) = (format(&number, place), calling(place));
                explain.step(&Step::Tried {
                    place: tries.len().saturating_add(1),
                    trunk: &trunk.name,
                    priority: choice.priority,
                    weight: choice.weight,
                    called: &called,
                    calling: &calling,
                });
                tries.push(TrunkTry {
                    index,
                    called,
                    calling,
                });
            }
            if tries.is_empty() {
                return Err(match route.conditions.next_if_unavailable {
                    true => Taken::Next(refusal),
                    false => Taken::No(refusal),
                });
            }
            Goal::Trunks(tries)
        }
    };
    Ok(Way {
        route: route.name.clone(),
        goal,
        emergency: spared,
        failover: route.conditions.failover.clone(),
    })
}

/// The trunks of a route that can take a call, in the order in which they are tried, and what to say if there is none.
fn usable<'c>(
    settings: &Settings,
    choices: &'c [TrunkChoice],
    spared: bool,
    live: &mut dyn Live,
    explain: &mut dyn Explain,
) -> (Vec<(usize, &'c TrunkChoice)>, NoWay) {
    let mut refusal = no(503, "no-way");
    let mut good = Vec::new();
    let mut last = Vec::new();
    for choice in choices {
        let index = settings
            .trunks
            .iter()
            .position(|trunk| trunk.name == choice.name);
        let Some(index) = index else {
            explain.step(&Step::Skipped {
                trunk: &choice.name,
                because: Skip::Unknown,
            });
            continue;
        };
        let load = choice.below.map(|below| (live.calls(index), below));
        let skip = match (live.trunk(index), load) {
            // Better a try that is lost than none.
            (TrunkState::Down, _) if spared => {
                last.push((index, choice));
                continue;
            }
            (TrunkState::Down, _) => Some((Skip::Down, "trunks-down")),
            (TrunkState::Full(limit), _) if !spared => Some((Skip::Full(limit), "trunks-full")),
            (_, Some((calls, below))) if calls >= below && !spared => {
                Some((Skip::Load(calls), "trunks-full"))
            }
            _ => None,
        };
        match skip {
            Some((because, reason)) => {
                refusal = NoWay {
                    passing: true,
                    ..no(503, reason)
                };
                explain.step(&Step::Skipped {
                    trunk: &choice.name,
                    because,
                });
            }
            None => good.push((index, choice)),
        }
    }
    let mut order = drawn(good, live);
    order.extend(drawn(last, live));
    (order, refusal)
}

/// Priorities ascending; among equals a lot by weight, those of weight 0 last. RFC 2782, "Weight".
fn drawn<'c>(
    mut choices: Vec<(usize, &'c TrunkChoice)>,
    live: &mut dyn Live,
) -> Vec<(usize, &'c TrunkChoice)> {
    let mut order = Vec::with_capacity(choices.len());
    while let Some(first) = choices.iter().map(|(_, choice)| choice.priority).min() {
        let total: u32 = choices
            .iter()
            .filter(|(_, choice)| choice.priority == first)
            .map(|(_, choice)| u32::from(choice.weight))
            .sum();
        let mut lot = if total == 0 {
            0
        } else {
            live.draw(total).min(total - 1)
        };
        let mut found = None;
        for (place, (_, choice)) in choices.iter().enumerate() {
            if choice.priority != first {
                continue;
            }
            let weight = u32::from(choice.weight);
            if total == 0 || lot < weight {
                found = Some(place);
                break;
            }
            lot -= weight;
        }
        match found {
            Some(place) => order.push(choices.remove(place)),
            None => break,
        }
    }
    order
}

#[cfg(test)]
mod tests;
