//! The pages around the wizard: review, status with its menu, questions, answers.

use appliance_config::{Language, diff};

use super::{
    app::{App, Job, Place},
    draft::Id,
    network, operator,
    page::{Item, Kind, Page},
    rules,
    steps::Step,
    trial,
};

/// The word that has to be typed before everything is erased.
pub(super) const ERASE: (&str, &str) = ("ERASE", "ENTFERNEN");

/// The last page of the wizard: what is to be put into force, in words.
pub(super) fn review(app: &App) -> Page {
    let (problems, others, document) = app.all_problems();
    let german = app.language() == Language::German;
    let mut items = Vec::new();
    let mut buttons = vec![(Id::Back, app.say("Back", "Zurück"))];
    if problems.is_empty() && others.is_empty() {
        items.push(Item::Text(app.say(
            "Please read; Up/Down scrolls. Nothing of it is in force before you confirm.",
            "Bitte lesen; Auf/Ab blättert. Nichts davon gilt, bevor es bestätigt ist.",
        )));
        items.push(Item::Gap);
        items.push(Item::Text(app.say(
            "Certificate of the management pages (SHA-256), to be compared in the browser:",
            "Zertifikat der Verwaltungsseiten (SHA-256), zum Vergleich im Browser:",
        )));
        let fingerprint = app.fingerprint(&document);
        let ready = matches!(fingerprint, Some(Ok(_))) || app.base.is_some();
        match fingerprint {
            Some(Ok(print)) => items.extend(halves(&print).map(Item::Text)),
            Some(Err(why)) => items.extend(why.into_iter().map(Item::Warning)),
            None => items.push(Item::Text(app.say("is being made", "entsteht gerade"))),
        }
        items.push(Item::Gap);
        if let Some(base) = &app.base {
            let changes = diff(base, &document);
            let none = changes.is_empty();
            items.push(Item::Warning(if none {
                app.say("Nothing changes.", "Es ändert sich nichts.")
            } else {
                app.say("Changes:", "Änderungen:")
            }));
            items.extend(
                changes
                    .iter()
                    .map(|change| Item::Text(format!("  {change}"))),
            );
            items.push(Item::Gap);
        }
        items.extend(
            rules::in_words(&document, app.language())
                .into_iter()
                .map(|line| {
                    if line.is_empty() {
                        Item::Gap
                    } else {
                        Item::Text(line)
                    }
                }),
        );
        if ready {
            buttons.push((
                Id::Confirm,
                app.say("Confirm: put it into force", "Bestätigen: in Kraft setzen"),
            ));
        }
    } else {
        items.push(Item::Warning(
            app.say("Before this can be confirmed:", "Vor der Bestätigung:"),
        ));
        for (id, sentence) in &problems {
            let page = Step::of(*id)
                .and_then(|step| Step::ALL.iter().position(|s| *s == step))
                .map_or(0, |place| place + 1);
            let word = app.say("Page", "Seite");
            let sentence = if german {
                &sentence.german
            } else {
                &sentence.english
            };
            items.push(Item::Text(format!("  {word} {page}: {sentence}")));
        }
        items.extend(others.iter().map(|sentence| {
            Item::Text(format!(
                "  {}",
                if german {
                    &sentence.german
                } else {
                    &sentence.english
                }
            ))
        }));
    }
    Page {
        title: format!("Gatehouse - {}", app.say("Review", "Prüfen")),
        progress: format!("{0}/{0}", Step::ALL.len()),
        items,
        buttons,
        message: None,
        help: app.say(
            "Up/Down, Page: scroll  Tab: button  Enter: press  Esc: back",
            "Auf/Ab, Bild: blättern  Tab: Knopf  Enter: drücken  Esc: zurück",
        ),
    }
}

/// A fingerprint in two lines that can be read out: 16 octets each.
fn halves(fingerprint: &str) -> impl Iterator<Item = String> {
    let (first, second) = fingerprint
        .split_at_checked(48)
        .unwrap_or((fingerprint, ""));
    let lines = [first.trim_end_matches(':'), second];
    lines
        .map(|line| format!("  {line}"))
        .into_iter()
        .filter(|line| !line.trim().is_empty())
}

/// Every page outside the wizard.
pub(super) fn page(app: &App) -> Page {
    let (title, items, buttons) = match &app.place {
        Place::Starting | Place::Step(_) => (
            app.say("starting", "startet"),
            vec![Item::Text(
                app.say("Gatehouse is starting.", "Gatehouse startet."),
            )],
            Vec::new(),
        ),
        Place::Interrupted(_) => interrupted(app),
        Place::Paused(_) => paused(app),
        Place::Working(job) => (
            working(app, *job),
            vec![Item::Text(app.say("Please wait.", "Bitte warten."))],
            Vec::new(),
        ),
        Place::Answered(job, result) => answered(app, *job, result),
        Place::Status => status(app),
        Place::Power => power(app),
        Place::Erase => erase(app),
        Place::EraseWord => erase_word(app),
        Place::LogIn => operator::page(app),
        Place::Tested(cables, probes) => (
            working(app, Job::NetworkTest),
            network::in_words(app, cables, probes),
            vec![(Id::Back, app.say("Back", "Zurück"))],
        ),
        Place::Trial => trial::running(app),
        Place::TrialOver(trial) => trial::over(app, *trial),
    };
    Page {
        title: format!("Gatehouse - {title}"),
        progress: if app.revision > 0 {
            format!("#{}", app.revision)
        } else {
            String::new()
        },
        items,
        buttons,
        message: None,
        help: app.say(
            "Tab/arrows: move  Enter: press  Esc: back  Ctrl-L: redraw",
            "Tab/Pfeile: gehen  Enter: drücken  Esc: zurück  Strg-L: neu zeichnen",
        ),
    }
}

type Parts = (String, Vec<Item>, Vec<(Id, String)>);

fn lines(entries: Vec<(usize, String)>) -> Vec<Item> {
    entries
        .into_iter()
        .map(|(entry, text)| Item::Line {
            id: Id::Entry(entry),
            text,
        })
        .collect()
}

fn interrupted(app: &App) -> Parts {
    let mut items = vec![
        Item::Text(app.say(
            "Leave the set-up? What you typed is kept.",
            "Einrichtung verlassen? Das Eingegebene bleibt erhalten.",
        )),
        Item::Gap,
    ];
    items.extend(lines(vec![
        (0, app.say("Go on where I was", "Weitermachen, wo ich war")),
        (
            1,
            app.say(
                "Leave; keep what I typed",
                "Verlassen; Eingegebenes behalten",
            ),
        ),
        (
            2,
            app.say(
                "Discard what I typed and begin anew",
                "Eingegebenes verwerfen und neu beginnen",
            ),
        ),
    ]));
    (app.say("Set-up", "Einrichtung"), items, Vec::new())
}

fn paused(app: &App) -> Parts {
    let mut items = vec![
        Item::Text(app.say(
            "The set-up is not finished. Nothing is listening, and nothing passes.",
            "Die Einrichtung ist nicht abgeschlossen. Kein Dienst ist offen, und nichts kommt hindurch.",
        )),
        Item::Gap,
    ];
    items.extend(lines(vec![
        (
            0,
            app.say("Go on with the set-up", "Einrichtung fortsetzen"),
        ),
        (
            2,
            app.say(
                "Discard what I typed and begin anew",
                "Eingegebenes verwerfen und neu beginnen",
            ),
        ),
        (3, app.say("Power off", "Ausschalten")),
        (4, app.say("Restart", "Neu starten")),
    ]));
    (
        app.say("Set-up paused", "Einrichtung unterbrochen"),
        items,
        Vec::new(),
    )
}

fn working(app: &App, job: Job) -> String {
    match job {
        Job::Propose => app.say("checking and applying", "wird geprüft und angewandt"),
        Job::Identify(_) => app.say("identify", "kenntlich machen"),
        Job::NetworkTest => app.say("network test", "Netztest"),
        Job::SelfTest => app.say("self-test", "Selbsttest"),
        Job::FactoryReset => app.say("erasing", "wird gelöscht"),
        Job::PowerOff => app.say("powering off", "schaltet aus"),
        Job::Reboot => app.say("restarting", "startet neu"),
        Job::Keep => app.say("keeping", "wird behalten"),
        Job::GoBack => app.say("going back", "geht zurück"),
    }
}

fn answered(app: &App, job: Job, result: &Result<Vec<String>, Vec<String>>) -> Parts {
    let mut items = Vec::new();
    let back = match (job, result) {
        (Job::Propose, Ok(_)) => {
            items.push(Item::Warning(
                app.say("The configuration is in force.", "Die Konfiguration gilt."),
            ));
            app.say("To the status page", "Zur Statusseite")
        }
        (Job::Propose, Err(_)) => {
            items.push(Item::Warning(app.say(
                "The configuration was refused; nothing has changed. What you typed is kept.",
                "Die Konfiguration wurde abgelehnt; nichts hat sich geändert. Das Eingegebene bleibt erhalten.",
            )));
            app.say("Back to the review", "Zurück zur Prüfung")
        }
        (_, Err(_)) => {
            items.push(Item::Warning(app.say("That failed:", "Das ging nicht:")));
            app.say("Back", "Zurück")
        }
        (_, Ok(_)) => app.say("Back", "Zurück"),
    };
    let (Ok(lines) | Err(lines)) = result;
    items.extend(lines.iter().cloned().map(Item::Text));
    (working(app, job), items, vec![(Id::Back, back)])
}

fn status(app: &App) -> Parts {
    let mut items: Vec<Item> = app.complaints().into_iter().map(Item::Warning).collect();
    let widest = app
        .status
        .iter()
        .map(|(key, _)| key.chars().count())
        .max()
        .unwrap_or(0)
        .min(28);
    for (key, value) in app.status.iter().filter(|(key, _)| key != "warning") {
        items.push(Item::Text(format!(
            "{:<widest$}  {value}",
            key_in_words(app, key)
        )));
    }
    if app.status.is_empty() {
        items.push(Item::Text(app.say("No report yet.", "Noch kein Bericht.")));
    }
    let title = app
        .base
        .as_ref()
        .map_or_else(String::new, |base| base.host.name.clone());
    if !app.may_act() {
        let log_in = (Id::Entry(5), app.say("Log in", "Anmelden"));
        return (title, items, vec![log_in]);
    }
    let buttons = [
        app.say("Reconfigure", "Einrichten"),
        app.say("Network test", "Netztest"),
        app.say("Self-test", "Selbsttest"),
        app.say("Factory reset", "Werkszustand"),
        app.say("Power", "Strom"),
        app.say("Log out", "Abmelden"),
    ];
    let buttons = buttons
        .into_iter()
        .enumerate()
        .map(|(n, label)| (Id::Entry(n), label));
    (title, items, buttons.collect())
}

/// German for the keys that init is known to send.
fn key_in_words(app: &App, key: &str) -> String {
    if app.language() != Language::German {
        return key.to_owned();
    }
    const KEYS: [(&str, &str); 10] = [
        ("calls", "Gespräche"),
        ("bans", "Sperren"),
        ("version", "Version"),
        ("state", "Zustand"),
        ("host", "Rechner"),
        ("revision", "Konfiguration"),
        ("certificate", "Zertifikat SHA-256"),
        ("uptime", "Laufzeit"),
        ("registrations", "Anmeldungen"),
        ("drops", "Verworfen"),
    ];
    let translated = [("zone ", "Zone "), ("process ", "Prozess ")]
        .iter()
        .find_map(|(english, german)| Some(format!("{german}{}", key.strip_prefix(english)?)));
    if let Some(translated) = translated {
        return translated;
    }
    KEYS.iter()
        .find(|(english, _)| *english == key)
        .map_or(key, |(_, german)| german)
        .to_owned()
}

fn power(app: &App) -> Parts {
    let mut items = vec![
        Item::Text(app.say("Live calls end.", "Laufende Gespräche enden.")),
        Item::Gap,
    ];
    items.extend(lines(vec![
        (0, app.say("Power off", "Ausschalten")),
        (1, app.say("Restart", "Neu starten")),
    ]));
    (
        app.say("Power", "Strom"),
        items,
        vec![(Id::Back, app.say("Back", "Zurück"))],
    )
}

fn erase(app: &App) -> Parts {
    let items = vec![
        Item::Warning(app.say("Factory reset", "Werkszustand")),
        Item::Text(app.say(
            "Erases configuration, passwords, keys, certificates and all records, then restarts into the set-up. This cannot be undone.",
            "Löscht Konfiguration, Passwörter, Schlüssel, Zertifikate und alle Aufzeichnungen und startet neu mit der Einrichtung. Das ist unumkehrbar.",
        )),
    ];
    let buttons = vec![
        (Id::Back, app.say("No, back", "Nein, zurück")),
        (Id::Confirm, app.say("Yes, go on", "Ja, weiter")),
    ];
    (app.say("Factory reset", "Werkszustand"), items, buttons)
}

fn erase_word(app: &App) -> Parts {
    let word = app.say(ERASE.0, ERASE.1);
    let items = vec![
        Item::Text(app.say(
            "To be sure, type this word and press the button:",
            "Zur Sicherheit dieses Wort eingeben und den Knopf drücken:",
        )),
        Item::Warning(word.clone()),
        Item::Gap,
        Item::Field {
            id: Id::Word,
            label: app.say("Word", "Wort"),
            kind: Kind::Text,
            value: app.draft.value(Id::Word).to_owned(),
            error: None,
        },
    ];
    let buttons = vec![
        (Id::Back, app.say("No, back", "Nein, zurück")),
        (Id::Confirm, app.say("Erase everything", "Alles löschen")),
    ];
    (app.say("Factory reset", "Werkszustand"), items, buttons)
}
