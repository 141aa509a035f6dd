//! A changed configuration on trial: the question whether to keep it, with the seconds that are left, and what became of it.
//! Init counts and decides; a console that is started again is told of a trial under way.

use broker_proto::control::{RollBack, Trial};

use super::{
    app::{App, Place},
    draft::{Draft, Id},
    page::Item,
};

impl App {
    /// What init says about a trial.
    pub fn trial(&mut self, trial: Trial) {
        match trial {
            Trial::Running { seconds } => {
                self.trial_ends_ms = Some(self.now_ms + u64::from(seconds) * 1000);
                self.tried = self.base.clone();
                self.go(Place::Trial);
            }
            Trial::Kept | Trial::RolledBack(_) => {
                self.trial_ends_ms = None;
                let tried = self.tried.take();
                // What was typed is not lost: the next reconfiguration begins with it.
                if let (Trial::RolledBack(_), Some(tried), true) = (trial, tried, self.operator) {
                    self.draft = Draft::of(&tried);
                    self.dirty = true;
                }
                self.go(Place::TrialOver(trial));
            }
        }
    }

    /// Seconds that are left, rounded up.
    pub(super) fn trial_seconds(&self) -> u64 {
        let ends = self.trial_ends_ms.unwrap_or(0);
        ends.saturating_sub(self.now_ms).div_ceil(1000)
    }

    /// When the number of seconds changes.
    pub(super) fn trial_due(&self) -> Option<u64> {
        let ends = self.trial_ends_ms?;
        let left = ends.checked_sub(self.now_ms).filter(|left| *left > 0)?;
        (self.place == Place::Trial).then(|| self.now_ms + (left - 1) % 1000 + 1)
    }
}

pub(super) fn running(app: &App) -> (String, Vec<Item>, Vec<(Id, String)>) {
    let seconds = app.trial_seconds();
    let mut items = vec![
        Item::Warning(app.say(
            "The new configuration is in force, on trial.",
            "Die neue Konfiguration gilt, auf Probe.",
        )),
        Item::Gap,
        Item::Text(app.say(
            &format!("If nobody keeps it, the old one comes back by itself in {seconds} s. Calls go on either way."),
            &format!("Behält sie niemand, gilt in {seconds} s von selbst wieder die alte. Gespräche laufen so oder so weiter."),
        )),
    ];
    let buttons = if app.may_act() {
        vec![
            (Id::Back, app.say("Go back now", "Jetzt zurück")),
            (Id::Confirm, app.say("Keep it", "Behalten")),
        ]
    } else {
        items.push(Item::Gap);
        items.push(Item::Text(app.say(
            "To keep it, log in first.",
            "Zum Behalten bitte zuerst anmelden.",
        )));
        vec![(Id::Entry(5), app.say("Log in", "Anmelden"))]
    };
    let title = app.say("Keep this configuration?", "Diese Konfiguration behalten?");
    (title, items, buttons)
}

pub(super) fn over(app: &App, trial: Trial) -> (String, Vec<Item>, Vec<(Id, String)>) {
    let (title, first, then) = match trial {
        Trial::Running { .. } | Trial::Kept => (
            app.say("Kept", "Behalten"),
            app.say(
                "The new configuration is kept and stored.",
                "Die neue Konfiguration ist behalten und gespeichert.",
            ),
            None,
        ),
        Trial::RolledBack(why) => {
            let first = match why {
                RollBack::TimeUp => app.say(
                    "Nobody kept the new configuration in time; the old one is in force again.",
                    "Niemand hat die neue Konfiguration rechtzeitig behalten; es gilt wieder die alte.",
                ),
                RollBack::Asked => app.say(
                    "The old configuration is in force again.",
                    "Es gilt wieder die alte Konfiguration.",
                ),
                RollBack::NotStored => app.say(
                    "The new configuration could not be stored; the old one is in force again.",
                    "Die neue Konfiguration ließ sich nicht speichern; es gilt wieder die alte.",
                ),
            };
            let then = app.dirty.then(|| {
                app.say(
                    "What you typed is kept, without the passwords: Reconfigure goes on with it.",
                    "Das Eingegebene bleibt erhalten, ohne die Passwörter: Einrichten geht damit weiter.",
                )
            });
            (app.say("Rolled back", "Zurückgenommen"), first, then)
        }
    };
    let mut items = vec![Item::Warning(first)];
    items.extend(then.map(Item::Text));
    let back = app.say("To the status page", "Zur Statusseite");
    (title, items, vec![(Id::Back, back)])
}
