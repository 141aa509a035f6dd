//! A network test in words: zone by zone the cable, and each host with what came of it.

use broker_proto::network_test::{Cable, Host, Outcome, Probe};

use super::{app::App, page::Item};

/// Lines for the page.
pub(super) fn in_words(app: &App, cables: &[(String, Cable)], probes: &[Probe]) -> Vec<Item> {
    let mut items = Vec::new();
    for (zone, cable) in cables {
        let cable = match cable {
            Cable::Connected => app.say("cable connected", "Kabel steckt"),
            Cable::Unplugged => app.say("no cable", "kein Kabel"),
            Cable::NoCard => app.say("the card is missing", "die Karte fehlt"),
        };
        items.push(Item::Warning(format!("{zone}: {cable}")));
        let before = items.len();
        items.extend(
            probes
                .iter()
                .filter(|probe| probe.zone == *zone)
                .map(|probe| Item::Text(line(app, probe))),
        );
        if items.len() == before {
            items.push(Item::Text(format!(
                "  {}",
                app.say("nothing to test here", "hier ist nichts zu prüfen")
            )));
        }
    }
    items
}

fn line(app: &App, probe: &Probe) -> String {
    let host = match probe.host {
        Host::Gateway => app.say("gateway", "Gateway"),
        Host::NameServer => app.say("name server", "Nameserver"),
        Host::TimeServer => app.say("time server", "Zeitserver"),
        Host::Pbx => app.say("PBX", "Telefonanlage"),
        Host::Trunk => format!("{} {}", app.say("carrier", "Anbieter"), probe.name),
    };
    let outcome = match probe.outcome {
        Outcome::Answered { microseconds } => {
            let (whole, tenth) = (microseconds / 1000, microseconds % 1000 / 100);
            app.say(
                &format!("answers ({whole}.{tenth} ms)"),
                &format!("antwortet ({whole},{tenth} ms)"),
            )
        }
        Outcome::Silent => app.say("does not answer", "antwortet nicht"),
        Outcome::Unreachable => app.say("cannot be reached", "ist nicht erreichbar"),
        Outcome::NoRoute => app.say("there is no way to it", "es führt kein Weg dorthin"),
        Outcome::NoCard => app.say("the card is missing", "die Karte fehlt"),
        Outcome::Refused => app.say("own rules forbid it", "eigene Regeln verbieten es"),
    };
    format!("  {host:<18} {}: {outcome}", probe.address)
}
