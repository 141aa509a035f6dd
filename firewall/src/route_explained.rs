//! `gatehouse-config route`: where a call would go and why, by the code that decides in the sbc. Every trunk counts as
//! alive and idle; among equal priorities the first is taken, so that the same question has the same answer.

use broker_proto::settings::{Named, Origin, Settings, Zone, ZoneKind};
use routing::{Called, Caller, Goal, Live, TrunkState, find};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    from: String,
    to: String,
    calling: String,
    unix_ms: u64,
}

impl Journey {
    /// `--from CALLER --to URI [--as USER] [--at TIME] FILE` in any order, and the file. `None`: something is missing or
    /// cannot be read.
    #[must_use]
    pub fn of<'a>(arguments: &[&'a str]) -> Option<(Self, &'a str)> {
        let (mut from, mut to, mut calling, mut at, mut file) = (None, None, None, None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let place = match *argument {
                "--from" => &mut from,
                "--to" => &mut to,
                "--as" => &mut calling,
                "--at" => &mut at,
                option if option.starts_with("--") => return None,
                name => {
                    if file.replace(name).is_some() {
                        return None;
                    }
                    continue;
                }
            };
            if place.replace(*rest.next()?).is_some() {
                return None;
            }
        }
        let unix_ms = match at {
            Some(text) => time(text)?,
            None => now(),
        };
        let journey = Self {
            from: from?.to_owned(),
            to: to?.to_owned(),
            calling: calling.unwrap_or_default().to_owned(),
            unix_ms,
        };
        Some((journey, file?))
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// `2026-11-24T08:30Z`, maybe with an offset like `+01:00` instead of Z, as ms since the Unix epoch.
fn time(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once(['T', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, east) = match clock.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let at = clock.rfind(['+', '-'])?;
            let (clock, offset) = clock.split_at_checked(at)?;
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            (clock, sign * minutes)
        }
    };
    let (hour, minute) = clock.split_once(':')?;
    let (hour, minute) = (hour.parse::<i64>().ok()?, minute.parse::<i64>().ok()?);
    let sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute);
    let days = routing::clock::day_of(year, month, day);
    let minutes = days * 1440 + hour * 60 + minute - east;
    u64::try_from(minutes * 60_000).ok().filter(|_| sound)
}

/// Who calls, in the words of `--from`.
struct Asker {
    caller: Vec<Origin>,
    zone: Option<usize>,
    user: String,
}

fn asker(settings: &Settings, from: &str) -> Result<Asker, String> {
    let zone_origin = |zone: &Zone| Origin::Zone(zone.name.clone());
    let zone_at = |id| settings.zones.iter().position(|zone: &Zone| zone.id == id);
    let named = |index: Option<usize>| index.and_then(|index| settings.zones.get(index));
    if let Some(name) = from.strip_prefix("trunk:") {
        let trunk = settings.trunks.iter().find(|trunk| trunk.name == name);
        let trunk = trunk.ok_or_else(|| format!("there is no trunk `{name}`"))?;
        let zone = zone_at(trunk.zone);
        let mut caller = vec![Origin::Trunk(name.to_owned())];
        caller.extend(named(zone).map(zone_origin));
        return Ok(Asker {
            caller,
            zone,
            user: String::new(),
        });
    }
    if let Some(user) = from.strip_prefix("registered:") {
        return Ok(Asker {
            caller: vec![Origin::Registered],
            zone: None,
            user: user.to_owned(),
        });
    }
    if from == "registrar" {
        let registrar = settings.registrar.as_ref();
        let registrar = registrar.ok_or("there is no [sip.registrar]")?;
        let zone = zone_at(registrar.zone);
        let mut caller = vec![Origin::Registrar, Origin::Internal];
        caller.extend(named(zone).map(zone_origin));
        return Ok(Asker {
            caller,
            zone,
            user: String::new(),
        });
    }
    let zone = settings.zones.iter().position(|zone| zone.name == from);
    let names: Vec<&str> = settings
        .zones
        .iter()
        .map(|zone| zone.name.as_str())
        .collect();
    let found = named(zone).ok_or_else(|| {
        format!(
            "there is no zone `{from}`; there are: {}, trunk:NAME, registered:USER, registrar",
            names.join(", ")
        )
    })?;
    let caller = match found.kind {
        ZoneKind::Internal => vec![Origin::Internal, zone_origin(found)],
        ZoneKind::External | ZoneKind::Partner | ZoneKind::Management => Vec::new(),
    };
    Ok(Asker {
        caller,
        zone,
        user: String::new(),
    })
}

/// Every trunk is alive and idle.
struct Quiet;

impl Live for Quiet {
    fn trunk(&self, _: usize) -> TrunkState {
        TrunkState::Up
    }

    fn calls(&self, _: usize) -> u32 {
        0
    }

    fn draw(&mut self, _: u32) -> u32 {
        0
    }
}

/// The steps of a call, one a line.
///
/// # Errors
/// The steps to its refusal, or what cannot be asked.
pub fn explain(settings: &Settings, journey: &Journey) -> Result<String, String> {
    let asker = asker(settings, &journey.from)?;
    let (user, host) = target(&journey.to)?;
    let caller = Caller {
        zone: asker
            .zone
            .and_then(|index| settings.zones.get(index))
            .map(|zone| zone.id),
        origins: &asker.caller,
    };
    let calling = match journey.calling.as_str() {
        "" => asker.user.as_str(),
        calling => calling,
    };
    let called = Called {
        user: &user,
        host,
        calling,
        spared: false,
    };
    let mut steps = vec![who(settings, &asker, &caller)];
    let way = find(
        settings,
        &caller,
        &called,
        journey.unix_ms,
        &mut Quiet,
        &mut steps,
    );
    if let Ok(way) = &way {
        steps.extend(after(settings, &way.goal, &way.failover));
    }
    let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
    match way {
        Ok(_) => Ok(text),
        Err(_) => Err(text.trim_end().to_owned()),
    }
}

fn who(settings: &Settings, asker: &Asker, caller: &Caller<'_>) -> String {
    if asker.caller.is_empty() {
        return "the caller is a stranger: nobody has vouched for it".to_owned();
    }
    let words: Vec<String> = asker.caller.iter().map(word).collect();
    let habits = match caller.habits(settings) {
        Some(numbering) => format!(
            "country {}, area `{}`, prefixes `{}` and `{}`",
            numbering.country,
            numbering.area,
            numbering.international_prefix,
            numbering.national_prefix
        ),
        None => "`+` and `00` only".to_owned(),
    };
    format!(
        "the caller counts as {}; its numbers are read with {habits}",
        words.join(", ")
    )
}

fn word(origin: &Origin) -> String {
    match origin {
        Origin::Registered => "registered".to_owned(),
        Origin::Internal => "internal".to_owned(),
        Origin::Registrar => "registrar".to_owned(),
        Origin::Trunk(name) => format!("trunk:{name}"),
        Origin::Zone(name) => format!("zone:{name}"),
    }
}

/// What happens next: where the request is sent, and when another trunk is tried.
fn after(settings: &Settings, goal: &Goal, failover: &[u16]) -> Vec<String> {
    let Goal::Trunks(tries) = goal else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for one in tries {
        let Some(trunk) = settings.trunks.get(one.index) else {
            continue;
        };
        if let Some(named) = &trunk.named {
            lines.extend(by_name(&trunk.name, named));
            continue;
        }
        let addresses: Vec<String> = trunk.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "trunk `{}` is reached over {:?} at {}",
            trunk.name,
            trunk.transport,
            addresses.join(", then ")
        ));
    }
    let codes: Vec<String> = failover.iter().map(ToString::to_string).collect();
    let also = match codes.is_empty() {
        true => String::new(),
        false => format!(", {}", codes.join(", ")),
    };
    lines.push(format!(
        "the next one is tried after silence, 408, 430, 5xx{also}"
    ));
    lines
}

/// How a trunk is found that is known by name (RFC 3263). Nobody is asked here: the explanation is the same everywhere.
fn by_name(trunk: &str, named: &Named) -> [String; 2] {
    let host = &named.host;
    let words: Vec<String> = named.transports.iter().map(|t| format!("{t:?}")).collect();
    let words = words.join(" or ");
    let how = match (named.port, named.by_naptr) {
        (Some(port), _) => format!("{words} at the addresses of `{host}`, port {port}"),
        (None, true) => {
            format!("{words} as NAPTR of `{host}` says, at the targets of its SRV records in turn")
        }
        (None, false) => {
            format!("{words} at the targets of the SRV records of `{host}` in turn, or at `{host}`")
        }
    };
    let list = |items: Vec<String>| items.join(", ");
    let networks = list(named.networks.iter().map(ToString::to_string).collect());
    let ports = list(named.ports.iter().map(ToString::to_string).collect());
    [
        format!("trunk `{trunk}` is reached over {how}"),
        format!("only addresses in {networks} count, at port {ports}"),
    ]
}

/// User part with its parameters, and host, of `sip:user@host…`, `tel:number…` or a bare number.
fn target(text: &str) -> Result<(String, &str), String> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("tel", text));
    match scheme {
        "tel" => Ok((rest.to_owned(), "")),
        "sip" | "sips" => {
            let (user, place) = rest
                .split_once('@')
                .ok_or_else(|| format!("`{text}` names no user"))?;
            let place = place.split([';', '?']).next().unwrap_or_default();
            let host = match place.find(']') {
                Some(end) => place.get(..=end).unwrap_or(place),
                None => place.split(':').next().unwrap_or_default(),
            };
            let user = user.split(':').next().unwrap_or_default();
            Ok((unescaped(user), host))
        }
        _ => Err(format!("`{text}` is neither a sip nor a tel URI")),
    }
}

/// `%2B` and the like resolved; what is no escape stays.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|code| u8::from_str_radix(core::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(octet) => {
                out.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{settings::to_settings, testing::lab};

    fn asked(arguments: &[&str]) -> Result<String, String> {
        let (journey, _) = Journey::of(&[arguments, &["FILE"]].concat()).expect("arguments");
        explain(&to_settings(&lab(), 0), &journey)
    }

    #[test]
    fn a_call_out_is_explained_to_its_last_trunk() {
        let steps = asked(&["--from", "internal", "--to", "sip:0049-30.1234567@lab.test"]).unwrap();
        for line in [
            "the caller counts as internal, zone:internal",
            "`0049-30.1234567` is the number `+49301234567`",
            "route `binding` is passed over: it is for other callers",
            "route `premium` is passed over: it is for other numbers",
            "route `international` takes it and calls `+49301234567`",
            "1. trunk `trunk1` (priority 1, weight 1): calls `+49301234567`",
            "2. trunk `trunk2` (priority 2, weight 1)",
            "trunk `trunk1` is reached over Udp at 198.51.100.20:5060, then [2001:db8:e::20]:5060",
            "after silence, 408, 430, 5xx",
        ] {
            assert!(steps.contains(line), "`{line}` in\n{steps}");
        }
    }

    #[test]
    fn a_trunk_that_is_known_by_name_is_explained_without_asking_for_it() {
        let text = include_str!("../../appliance/config/example.toml").replace(
            "trunks = [\"backup\", \"carrier\"]",
            "trunks = [\"cloud\", \"backup\", \"carrier\"]",
        );
        let document = appliance_config::Document::parse(&text, "example.toml").unwrap();
        let to = ["--from", "internal", "--to", "tel:112", "FILE"];
        let (journey, _) = Journey::of(&to).unwrap();
        let steps = explain(&to_settings(&document, 0), &journey).unwrap();
        for line in [
            "trunk `cloud` is reached over Udp or Tcp as NAPTR of `sip.cloud.example` says, at the targets of its SRV records in turn",
            "only addresses in 192.0.35.0/24 count, at port 5060, 5070",
        ] {
            assert!(steps.contains(line), "`{line}` in\n{steps}");
        }
    }

    #[test]
    fn the_lab_contract_stands_line_by_line() {
        let place = |from: &str, to: &str| match asked(&["--from", from, "--to", to]) {
            Ok(steps) => steps,
            Err(steps) => steps,
        };
        for (from, to, line) in [
            (
                "registered:1001",
                "sip:1002@lab.test",
                "to the PBX: calls `1002` as `1001`",
            ),
            (
                "trunk:trunk1",
                "sip:1002@lab.test",
                "to the PBX: calls `1002`",
            ),
            (
                "trunk:trunk2",
                "sip:+49305551002@198.51.100.1",
                "to the PBX: calls `1002`",
            ),
            (
                "trunk:trunk1",
                "sip:+49305551200@198.51.100.1",
                "refused with 404",
            ),
            ("internal", "sip:+1900123456@lab.test", "refused with 403"),
            ("internal", "tel:001900123456", "refused with 403"),
            ("registered:1001", "tel:+882123456789", "refused with 403"),
            (
                "registrar",
                "sip:1001@lab.test",
                "to the phone registered as `1001`",
            ),
            ("trunk:trunk1", "tel:+493012345678", "refused with 404"),
            ("external", "sip:1001@lab.test", "no answer (stranger)"),
        ] {
            let steps = place(from, to);
            assert!(steps.contains(line), "{from} {to}: `{line}` in\n{steps}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        assert!(
            asked(&["--from", "moon", "--to", "tel:+49"])
                .unwrap_err()
                .contains("there is no zone `moon`")
        );
        assert!(
            asked(&["--from", "trunk:x", "--to", "tel:+49"])
                .unwrap_err()
                .contains("no trunk `x`")
        );
        assert!(
            asked(&["--from", "internal", "--to", "mailto:x"])
                .unwrap_err()
                .contains("neither")
        );
        for wrong in [
            &["--from", "internal", "FILE"][..],
            &[
                "--from",
                "internal",
                "--to",
                "1",
                "--at",
                "yesterday",
                "FILE",
            ],
            &["--from", "internal", "--to", "1", "A", "B"],
            &["--from", "internal", "--from", "x", "--to", "1", "A"],
            &["--to"],
        ] {
            assert_eq!(Journey::of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_time_is_read_with_its_offset() {
        assert_eq!(time("1970-01-02T00:00Z"), Some(86_400_000));
        assert_eq!(time("1970-01-02T01:30+01:30"), Some(86_400_000));
        assert_eq!(time("2026-13-01T00:00Z"), None);
        assert_eq!(time("2026-11-24"), None);
    }
}
