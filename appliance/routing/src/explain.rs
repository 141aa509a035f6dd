//! The steps of a decision, for those who ask why: one sentence each. The core asks nobody and pays nothing.

use core::fmt;

/// Whoever wants to know the steps.
pub trait Explain {
    /// One more step was taken.
    fn step(&mut self, step: &Step<'_>);
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Explain for Silent {
    fn step(&mut self, _: &Step<'_>) {}
}

impl Explain for Vec<String> {
    fn step(&mut self, step: &Step<'_>) {
        self.push(step.to_string());
    }
}

/// Why a route is not for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// It is for other callers.
    Caller,
    /// It is for other domains.
    Domain(&'a str),
    /// It is for other numbers.
    Number,
    /// It is for another time; what its clock shows.
    Time(&'a str),
    /// It cuts more than the number has.
    TooShort,
    /// No trunk of it can take the call, and it lets later ones try.
    Unavailable,
}

/// Why a trunk is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// There is no such trunk.
    Unknown,
    /// None of its addresses answers.
    Down,
    /// It carries as much as it may.
    Full(&'static str),
    /// It carries as many calls as this route lets it.
    Load(u32),
}

/// One step of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// What was dialled, and its normal form.
    Dialled {
        /// As it came.
        user: &'a str,
        /// Its normal form; `None`: no number.
        number: Option<&'a str>,
    },
    /// The number is an emergency number: no limit counts.
    Emergency,
    /// A trusted peer marked the call as urgent: no limit counts.
    Spared,
    /// A route is not for this call.
    Passed {
        /// Its name.
        route: &'a str,
        /// Why.
        because: Mismatch<'a>,
    },
    /// A route is for this call.
    Matched {
        /// Its name.
        route: &'a str,
        /// The number that it calls.
        number: &'a str,
    },
    /// A trunk of the route is not tried.
    Skipped {
        /// Its name.
        trunk: &'a str,
        /// Why.
        because: Skip,
    },
    /// A trunk of the route is tried at this place.
    Tried {
        /// From 1.
        place: usize,
        /// Its name.
        trunk: &'a str,
        /// Of the choice.
        priority: u8,
        /// Of the choice.
        weight: u16,
        /// The called number as it is written there.
        called: &'a str,
        /// The calling number as it is written there.
        calling: &'a str,
    },
    /// To the PBX.
    ToRegistrar {
        /// The called number as it is written there.
        called: &'a str,
        /// The calling number as it is written there.
        calling: &'a str,
    },
    /// To a phone that registered through us.
    ToBinding {
        /// Under which user.
        user: &'a str,
    },
    /// Nowhere.
    Refused {
        /// With this status; 0: with silence.
        status: u16,
        /// Word of the reason.
        reason: &'a str,
    },
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("it is for other callers"),
            Self::Domain(host) => write!(f, "it is for other domains than `{host}`"),
            Self::Number => f.write_str("it is for other numbers"),
            Self::Time(clock) => write!(f, "it is for another time than {clock}"),
            Self::TooShort => f.write_str("it cuts more than the number has"),
            Self::Unavailable => f.write_str("none of its trunks can take the call"),
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such trunk"),
            Self::Down => f.write_str("none of its addresses answers"),
            Self::Full(limit) => write!(f, "it is full ({limit})"),
            Self::Load(calls) => {
                write!(f, "it carries {calls} calls, as many as this route lets it")
            }
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialled { user, number } => match number {
                Some(number) if number == user => {
                    write!(f, "`{user}` is a number in its normal form")
                }
                Some(number) => write!(f, "`{user}` is the number `{number}`"),
                None => write!(f, "`{user}` is no number that this caller can dial"),
            },
            Self::Emergency => {
                f.write_str("an emergency number: no limit counts, dead trunks are tried too")
            }
            Self::Spared => f.write_str("marked as urgent by a trusted peer: no limit counts"),
            Self::Passed { route, because } => {
                write!(f, "route `{route}` is passed over: {because}")
            }
            Self::Matched { route, number } => {
                write!(f, "route `{route}` takes it and calls `{number}`")
            }
            Self::Skipped { trunk, because } => write!(f, "trunk `{trunk}` is left out: {because}"),
            Self::Tried {
                place,
                trunk,
                priority,
                weight,
                called,
                calling,
            } => write!(
                f,
                "{place}. trunk `{trunk}` (priority {priority}, weight {weight}): calls `{called}` as `{calling}`"
            ),
            Self::ToRegistrar { called, calling } => {
                write!(f, "to the PBX: calls `{called}` as `{calling}`")
            }
            Self::ToBinding { user } => write!(f, "to the phone registered as `{user}`, or 480"),
            Self::Refused { status: 0, reason } => write!(f, "no answer ({reason})"),
            Self::Refused { status, reason } => write!(f, "refused with {status} ({reason})"),
        }
    }
}
