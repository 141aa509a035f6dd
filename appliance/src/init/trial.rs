//! A changed configuration on trial: in force, not stored, and taken back after 60 s unless an operator keeps it (whoever
//! locked himself out, or the telephones, gets the old one back by waiting). At most one exists. The first set-up has none:
//! there is nothing to go back to.

use std::time::{Duration, Instant};

use broker_proto::{
    RequestId, Role,
    control::{RollBack, SecretBytes, ToChild, Trial},
    journal::Severity,
};

use super::{House, house::Running};

/// How long an operator has.
const TIME: Duration = Duration::from_secs(60);

/// See the module.
pub struct OnTrial {
    /// What to go back to.
    before: Running,
    /// Secrets to be stored if it is kept.
    given: Vec<(String, SecretBytes)>,
    ends: Instant,
}

impl House {
    /// The firewall took the new configuration: the trial begins.
    pub fn begin_trial(
        &mut self,
        before: Running,
        given: Vec<(String, SecretBytes)>,
        now: Instant,
    ) {
        self.trial = Some(OnTrial {
            before,
            given,
            ends: now + TIME,
        });
        let seconds = TIME.as_secs().to_string();
        self.record(
            Severity::Notice,
            "configuration-on-trial",
            &[("seconds", &seconds)],
        );
        self.tell_trial(now);
    }

    /// Tells the console of a trial under way.
    pub fn tell_trial(&mut self, now: Instant) {
        let Some(trial) = &self.trial else { return };
        let left = trial.ends.saturating_duration_since(now).as_millis();
        let seconds = u32::try_from(left.div_ceil(1000)).unwrap_or(0);
        self.tell(
            Role::Console,
            &ToChild::Trial(Trial::Running { seconds }),
            None,
        );
    }

    /// The operator keeps what is on trial: now it is stored.
    pub fn keep(&mut self, id: RequestId) {
        let Some(trial) = self.trial.take() else {
            self.answer_console(id, Err(vec![NONE.to_owned()]));
            return;
        };
        let Some(document) = self
            .running
            .as_ref()
            .map(|running| running.document.clone())
        else {
            return;
        };
        let stored = self.open_store().and_then(|mut store| {
            store
                .commit(&document, &trial.given)
                .map_err(|error| error.to_string())
        });
        match stored {
            Ok(revision) => {
                if let Some(running) = &mut self.running {
                    running.revision = revision;
                }
                let revision = revision.to_string();
                self.record(
                    Severity::Notice,
                    "configuration-stored",
                    &[("revision", &revision)],
                );
                self.answer_console(id, Ok(String::new()));
                self.tell(Role::Console, &ToChild::Trial(Trial::Kept), None);
            }
            Err(reason) => {
                self.complaints.push(reason.clone());
                self.trial = Some(trial);
                self.roll_back(RollBack::NotStored);
                self.answer_console(id, Err(vec![reason]));
            }
        }
    }

    /// The operator wants the old configuration back.
    pub fn go_back(&mut self, id: RequestId) {
        if self.trial.is_none() {
            self.answer_console(id, Err(vec![NONE.to_owned()]));
            return;
        }
        self.roll_back(RollBack::Asked);
        self.answer_console(id, Ok(String::new()));
    }

    /// Ends a trial whose time is up.
    pub fn look_at_trial(&mut self, now: Instant) {
        if self.trial.as_ref().is_some_and(|trial| trial.ends <= now) {
            self.roll_back(RollBack::TimeUp);
        }
    }

    fn roll_back(&mut self, why: RollBack) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        let revision = trial.before.revision.to_string();
        let reason = format!("{why:?}");
        self.say(&format!(
            "back to configuration revision {revision}: {reason}"
        ));
        self.record(
            Severity::Warning,
            "configuration-rolled-back",
            &[("to", &revision), ("reason", &reason)],
        );
        self.running = Some(trial.before);
        self.spread();
        self.tell(Role::Console, &ToChild::Trial(Trial::RolledBack(why)), None);
    }

    fn answer_console(&mut self, id: RequestId, result: Result<String, Vec<String>>) {
        self.tell(Role::Console, &ToChild::Answer { id, result }, None);
    }
}

const NONE: &str = "no configuration is on trial";
