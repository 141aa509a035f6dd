//! The dial plan of a checked document as the sbc's settings: routes, numbers, limits, health. Called by [`super::settings`].

use appliance_config::{
    Action, Called, Caps, Clock, IfUnavailable, NumberForm, Numbering, Origin, Priority, Route,
    Schedule, TrunkPolicy, ZonePolicy,
};
use broker_proto::settings as to;

/// A line of the routing table.
pub(super) fn route(route: &Route) -> to::Route {
    let action = match &route.action {
        Action::Registrar => to::RouteAction::Registrar,
        Action::Trunks(choices) => {
            let choices = choices.iter().map(|choice| to::TrunkChoice {
                name: choice.name.clone(),
                priority: choice.priority,
                weight: choice.weight,
                below: choice.below,
            });
            to::RouteAction::Trunks(choices.collect())
        }
        Action::Binding => to::RouteAction::Binding,
        Action::Refuse(status) => to::RouteAction::Refuse(*status),
    };
    to::Route {
        name: route.name.clone(),
        from: route.from.iter().map(origin).collect(),
        called: called(&route.called),
        conditions: to::RouteConditions {
            domains: route.domains.clone(),
            when: route.when.as_ref().map(schedule),
            failover: route.failover.clone(),
            next_if_unavailable: route.if_unavailable == IfUnavailable::Next,
        },
        strip: route.strip,
        prepend: route.prepend.clone(),
        action,
    }
}

fn origin(origin: &Origin) -> to::Origin {
    match origin {
        Origin::Registered => to::Origin::Registered,
        Origin::Internal => to::Origin::Internal,
        Origin::Registrar => to::Origin::Registrar,
        Origin::Trunk(name) => to::Origin::Trunk(name.clone()),
        Origin::Zone(name) => to::Origin::Zone(name.clone()),
    }
}

fn called(called: &Called) -> to::Called {
    match called {
        Called::Number(called) => to::Called::Number(to::NumberPattern {
            prefix: called.prefix.clone(),
            digits_min: called.digits.first,
            digits_max: called.digits.last,
            range: called.range.map(|range| (range.first, range.last)),
        }),
        Called::Pattern(pattern) => {
            let classes = pattern.classes.iter().map(|class| to::DigitClass {
                digits: class.digits,
                least: class.least,
                most: class.most,
            });
            to::Called::Pattern(classes.collect())
        }
        Called::Anything => to::Called::Anything,
    }
}

fn schedule(schedule: &Schedule) -> to::Schedule {
    // A document's hours end before their last minute; over midnight they end on the next day.
    let hours = schedule
        .hours
        .iter()
        .map(|hours| (hours.from, hours.to.saturating_sub(1)));
    to::Schedule {
        days: schedule.days,
        hours: hours.collect(),
        zone: match schedule.zone {
            Clock::Fixed(east) => to::TimeZone::Fixed(east),
            Clock::European(_, east) => to::TimeZone::EuropeanSummer(east),
        },
    }
}

/// Limits of a zone, trunk or account.
pub(super) const fn caps(caps: &Caps) -> to::Caps {
    to::Caps {
        calls: caps.calls,
        call_rate: caps.call_rate,
        bandwidth_kbit: caps.bandwidth_kbit,
    }
}

/// What is peculiar about a zone's callers.
pub(super) fn zone(policy: &ZonePolicy) -> to::ZonePolicy {
    to::ZonePolicy {
        numbering: policy.numbering.as_ref().map(numbering),
        emergency: policy.emergency.clone(),
        caps: caps(&policy.caps),
        resource_priority: priorities(&policy.resource_priority),
    }
}

/// What is peculiar about a trunk.
pub(super) fn trunk(policy: &TrunkPolicy) -> to::TrunkPolicy {
    to::TrunkPolicy {
        numbering: policy.numbering.as_ref().map(numbering),
        health: policy.health.map(|health| to::Health {
            interval_seconds: health.interval_seconds,
            down_after: health.down_after,
            up_after: health.up_after,
            retry_seconds_max: health.retry_seconds_max,
        }),
        caps: caps(&policy.caps),
        resource_priority: priorities(&policy.resource_priority),
        preempt: policy.preempt,
    }
}

fn priorities(values: &[Priority]) -> Vec<String> {
    values.iter().map(|value| value.0.clone()).collect()
}

fn numbering(numbering: &Numbering) -> to::Numbering {
    to::Numbering {
        country: numbering.country.clone(),
        area: numbering.area.clone(),
        international_prefix: numbering.international_prefix.clone(),
        national_prefix: numbering.national_prefix.clone(),
        local_digits: (numbering.local_digits.first, numbering.local_digits.last),
        form: match numbering.form {
            NumberForm::Unchanged => to::NumberForm::Unchanged,
            NumberForm::Plus => to::NumberForm::Plus,
            NumberForm::International => to::NumberForm::International,
            NumberForm::National => to::NumberForm::National,
            NumberForm::Digits => to::NumberForm::Digits,
        },
    }
}
