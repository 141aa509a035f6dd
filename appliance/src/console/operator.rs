//! The operator's log-in at the console of a box that is set up: the page, the password's way to init, and the way out, by
//! the menu or when nobody has pressed a key for ten minutes. Init decides who is in; the console only shows it.

use broker_proto::{
    RequestId,
    control::{Command, FromChild, LogIn, SecretBytes},
};

use super::{
    app::{App, Place},
    draft::{Id, sentence},
    page::{Item, Kind},
};

/// Without a key for so long, in ms, the operator is logged out.
pub(super) const IDLE_MS: u64 = 600_000;

impl App {
    /// Whether what changes or tests something is offered.
    pub(super) fn may_act(&self) -> bool {
        self.operator || self.base.is_none()
    }

    /// Sends what was typed to init, and forgets it.
    pub(super) fn log_in(&mut self) {
        if self.logging_in.is_some() {
            return;
        }
        let password = SecretBytes(self.draft.value(Id::LogIn).as_bytes().to_vec());
        self.draft.set(Id::LogIn, String::new());
        if password.0.is_empty() {
            self.message = Some(sentence(
                "Type the password first.",
                "Bitte zuerst das Passwort eingeben.",
            ));
            return;
        }
        let id = self.fresh_id();
        self.out.push(FromChild::LogIn { id, password });
        self.logging_in = Some(id);
        self.message = Some(sentence("It is being checked.", "Es wird geprüft."));
    }

    /// What init says to a password.
    pub fn logged_in(&mut self, id: RequestId, result: LogIn) {
        if self.logging_in.take_if(|asked| *asked == id).is_none() {
            return;
        }
        match result {
            LogIn::Opened => {
                self.operator = true;
                if self.place == Place::LogIn {
                    self.leave_log_in();
                }
            }
            LogIn::Wrong { wait_seconds } => {
                self.message = Some(sentence(
                    format!("That is not the password. The next try counts in {wait_seconds} s."),
                    format!(
                        "Das ist nicht das Passwort. Der nächste Versuch zählt in {wait_seconds} s."
                    ),
                ));
            }
            LogIn::TooSoon { wait_seconds } => {
                self.message = Some(sentence(
                    format!("Too soon: please wait {wait_seconds} s and type it again."),
                    format!("Zu früh: bitte {wait_seconds} s warten und noch einmal eingeben."),
                ));
            }
            LogIn::Unavailable => {
                self.message = Some(sentence(
                    "The password cannot be checked just now; try again.",
                    "Das Passwort kann gerade nicht geprüft werden; bitte noch einmal versuchen.",
                ));
            }
        }
    }

    /// To where the log-in was asked for.
    pub(super) fn leave_log_in(&mut self) {
        self.draft.set(Id::LogIn, String::new());
        let place = if self.trial_ends_ms.is_some() {
            Place::Trial
        } else {
            Place::Status
        };
        self.go(place);
    }

    /// The operator leaves; what was typed and is not in force is forgotten, since the next one may be somebody else.
    pub(super) fn log_out(&mut self) {
        self.operator = false;
        let id = self.fresh_id();
        self.out.push(FromChild::Command {
            id,
            command: Command::LogOut,
        });
        self.dirty = false;
        self.draft = self.fresh_draft();
        self.waiting = None;
        self.go(Place::Status);
        if self.trial_ends_ms.is_some() {
            self.go(Place::Trial);
        }
    }

    /// Logs out whoever went away.
    pub(super) fn tick_operator(&mut self) {
        if self.operator_due().is_some_and(|due| due <= self.now_ms) {
            self.log_out();
            self.message = Some(sentence(
                "Logged out: no key was pressed for ten minutes.",
                "Abgemeldet: zehn Minuten lang wurde keine Taste gedrückt.",
            ));
        }
    }

    /// When [`Self::tick_operator`] has something to do.
    pub(super) fn operator_due(&self) -> Option<u64> {
        (self.operator && self.base.is_some()).then_some(self.last_key_ms + IDLE_MS)
    }
}

pub(super) fn page(app: &App) -> (String, Vec<Item>, Vec<(Id, String)>) {
    let typed = if app.draft.value(Id::LogIn).is_empty() {
        String::new()
    } else {
        app.say("(typed, not shown)", "(eingegeben, nicht gezeigt)")
    };
    let items = vec![
        Item::Text(app.say(
            "Whatever changes or tests something needs the operators' password.",
            "Was etwas ändert oder prüft, braucht das Passwort der Betreuer.",
        )),
        Item::Gap,
        Item::Field {
            id: Id::LogIn,
            label: app.say("Password", "Passwort"),
            kind: Kind::Text,
            value: typed,
            error: None,
        },
    ];
    let buttons = vec![
        (Id::Confirm, app.say("Log in", "Anmelden")),
        (Id::Back, app.say("Back", "Zurück")),
    ];
    (app.say("Log in", "Anmelden"), items, buttons)
}
