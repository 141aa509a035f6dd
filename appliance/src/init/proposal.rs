//! A configuration on its way in: checked, completed with the secrets it needs, stored, applied, and taken back if the
//! firewall refuses it. Comes from the console, from management, or from an unattended source.

use std::time::Instant;

use appliance_config::Document;
use broker_proto::{
    RequestId, Role,
    control::{SecretBytes, ToChild},
    journal::Severity,
};

use super::{
    House,
    house::{Pending, Running},
    secrets,
};
use crate::store::Store;

/// Secrets by name.
type Secrets = Vec<(String, SecretBytes)>;

impl House {
    /// Takes the configuration in force at the start: the newest good one of the store, or one that is offered.
    pub fn load(&mut self, store: &mut Store) {
        let loaded = store.load();
        for complaint in &loaded.complaints {
            self.say(complaint);
            self.record(
                Severity::Alert,
                "configuration-broken",
                &[("reason", complaint)],
            );
        }
        self.complaints.extend(loaded.complaints);
        if let Some(stored) = loaded.stored {
            let (secrets, complaints) = store.secrets(stored.revision);
            self.complaints.extend(complaints);
            self.running = Some(running(stored.revision, stored.document, secrets));
        }
    }

    /// Stores what an unattended source offers, unless it is what was stored last.
    pub fn accept_offer(&mut self, store: &mut Store, offer: super::sources::Offer) {
        let document = match Document::parse(&offer.document, "gatehouse.toml") {
            Ok(document) => document,
            Err(errors) => {
                for error in errors {
                    let line = format!("configuration from {}: {error}", offer.origin);
                    self.say(&line);
                    self.record(
                        Severity::Error,
                        "configuration-refused",
                        &[("reason", &line)],
                    );
                    self.complaints.push(line);
                }
                return;
            }
        };
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.document == document)
        {
            return;
        }
        match self.store(store, document, offer.secrets) {
            Ok(running) => {
                self.say(&format!(
                    "configuration from {} is revision {}",
                    offer.origin, running.revision
                ));
                self.running = Some(running);
            }
            Err(reason) => {
                let line = format!("configuration from {}: {reason}", offer.origin);
                self.say(&line);
                self.complaints.push(line);
            }
        }
    }

    /// Checks, stores and applies a proposal; the answer comes when the firewall has committed or refused.
    pub fn propose(&mut self, role: Role, id: RequestId, text: &str, given: Secrets) {
        let result = if self.pending.is_some() || self.trial.is_some() {
            Err(vec![
                "another configuration is just being applied or on trial".to_owned(),
            ])
        } else {
            Document::parse(text, "gatehouse.toml")
                .map_err(|errors| errors.iter().map(ToString::to_string).collect())
                .and_then(|document| self.take(document, given))
        };
        match result {
            Ok((running, unstored)) => {
                let revision = running.revision;
                let answer = answer(&running);
                let before = self.running.replace(running);
                self.pending = Some(Pending {
                    role,
                    id,
                    revision,
                    before,
                    answer,
                    unstored,
                });
                self.spread();
            }
            Err(lines) => {
                self.record(
                    Severity::Warning,
                    "configuration-refused",
                    &[("from", role.name()), ("reason", &lines.join("; "))],
                );
                self.tell(
                    role,
                    &ToChild::Answer {
                        id,
                        result: Err(lines),
                    },
                    None,
                );
            }
        }
    }

    /// The first configuration is stored and then put into force; a later one is put into force on trial, and stored when
    /// it is kept. The second value are then the secrets to be stored with it.
    fn take(
        &mut self,
        document: Document,
        given: Secrets,
    ) -> Result<(Running, Option<Secrets>), Vec<String>> {
        let mut store = self.open_store().map_err(|reason| vec![reason])?;
        let taken = match &self.running {
            None => self
                .store(&mut store, document, given)
                .map(|running| (running, None)),
            Some(before) => {
                let before = before.secrets.clone();
                self.rehearse(store.next_revision(), before, document, given)
                    .map(|(running, given)| (running, Some(given)))
            }
        };
        taken.map_err(|reason| vec![reason])
    }

    /// As [`Self::store`], in memory.
    fn rehearse(
        &self,
        revision: u64,
        before: Secrets,
        document: Document,
        given: Secrets,
    ) -> Result<(Running, Secrets), String> {
        let present: Vec<String> = before.iter().map(|(name, _)| name.clone()).collect();
        let given = secrets::complete(&document, given, &present, None)
            .map_err(|error| error.to_string())?;
        let mut secrets = before;
        secrets.retain(|(name, _)| !given.iter().any(|(new, _)| new == name));
        secrets.extend(given.iter().cloned());
        Ok((running(revision, document, secrets), given))
    }

    /// Makes key and certificate for a document that is about to be confirmed, and tells the certificate's fingerprint.
    pub fn prepare(&mut self, id: RequestId, text: &str) {
        let result = if self.running.is_some() {
            Err(vec!["the box has its certificate".to_owned()])
        } else {
            Document::parse(text, "gatehouse.toml")
                .map_err(|errors| errors.iter().map(ToString::to_string).collect())
                .and_then(|document| {
                    let fits = self.prepared.as_ref().is_some_and(|p| p.fits(&document));
                    if !fits {
                        let made = secrets::Prepared::make(&document);
                        self.prepared = Some(made.map_err(|error| vec![error.to_string()])?);
                    }
                    let prepared = self.prepared.as_ref();
                    Ok(prepared
                        .map(secrets::Prepared::fingerprint)
                        .unwrap_or_default())
                })
        };
        self.tell(Role::Console, &ToChild::Answer { id, result }, None);
    }

    fn store(
        &mut self,
        store: &mut Store,
        document: Document,
        given: Secrets,
    ) -> Result<Running, String> {
        let present: Vec<String> = self
            .running
            .as_ref()
            .map(|running| {
                running
                    .secrets
                    .iter()
                    .map(|(name, _)| name.clone())
                    .collect()
            })
            .unwrap_or_default();
        let given = secrets::complete(&document, given, &present, self.prepared.as_ref())
            .map_err(|error| error.to_string())?;
        let revision = store
            .commit(&document, &given)
            .map_err(|error| error.to_string())?;
        let (secrets, complaints) = store.secrets(revision);
        self.complaints.extend(complaints);
        self.prepared = None;
        self.record(
            Severity::Notice,
            "configuration-stored",
            &[("revision", &revision.to_string())],
        );
        Ok(running(revision, document, secrets))
    }

    /// Tells everyone the configuration in force: links first, then the firewall, then those who read it.
    pub fn spread(&mut self) {
        self.bring_up();
        let Some(running) = &self.running else { return };
        let secrets = running.secrets.clone();
        let (revision, document) = (running.revision, running.text.clone());
        for (name, value) in secrets {
            self.tell(Role::Keyholder, &ToChild::Secret { name, value }, None);
        }
        for role in [
            Role::Keyholder,
            Role::Management,
            Role::Time,
            Role::Dhcp,
            Role::Console,
        ] {
            self.tell(
                role,
                &ToChild::Configuration {
                    revision,
                    document: document.clone(),
                },
                None,
            );
        }
        // Links of zones that the DHCP process learns of only now.
        self.tell_links();
    }

    /// The firewall's ruleset of `revision` stands.
    pub fn firewall_committed(&mut self, revision: u64) {
        self.committed = Some(revision);
        self.say(&format!("ruleset of revision {revision} stands"));
        self.record(
            Severity::Notice,
            "configuration-applied",
            &[("revision", &revision.to_string())],
        );
        if let Some(pending) = self.pending.take_if(|pending| pending.revision == revision) {
            self.tell(
                pending.role,
                &ToChild::Answer {
                    id: pending.id,
                    result: Ok(pending.answer),
                },
                None,
            );
            if let (Some(before), Some(unstored)) = (pending.before, pending.unstored) {
                self.begin_trial(before, unstored, Instant::now());
            }
        }
    }

    /// The firewall refused `revision`; what ran before runs on.
    pub fn firewall_refused(&mut self, revision: u64, reason: &str) {
        self.say(&format!("ruleset of revision {revision} refused: {reason}"));
        self.record(
            Severity::Alert,
            "configuration-refused",
            &[("revision", &revision.to_string()), ("reason", reason)],
        );
        let line = format!("the firewall refused configuration revision {revision}: {reason}");
        if !self.complaints.contains(&line) {
            self.complaints.push(line);
        }
        let Some(pending) = self.pending.take_if(|pending| pending.revision == revision) else {
            return;
        };
        if pending.unstored.is_none()
            && let Err(error) = self
                .open_store()
                .and_then(|mut store| store.discard(revision).map_err(|error| error.to_string()))
        {
            self.say(&format!(
                "revision {revision} not taken back from the store: {error}"
            ));
        }
        self.running = pending.before;
        self.spread();
        let lines = vec![format!("the firewall refused this configuration: {reason}")];
        self.tell(
            pending.role,
            &ToChild::Answer {
                id: pending.id,
                result: Err(lines),
            },
            None,
        );
    }

    pub(super) fn open_store(&self) -> Result<Store, String> {
        Store::open(&self.store_directory()).map_err(|error| error.to_string())
    }
}

/// What the asker is told when `running` is in force.
fn answer(running: &Running) -> String {
    let certificate = running
        .secrets
        .iter()
        .find(|(name, _)| *name == running.document.management.certificate);
    let fingerprint = certificate
        .and_then(|(_, pem)| secrets::fingerprint(&pem.0))
        .unwrap_or_default();
    format!(
        "revision {}\ncertificate SHA-256 {fingerprint}",
        running.revision
    )
}

/// `document` as it runs.
pub(super) fn running(revision: u64, document: Document, secrets: Secrets) -> Running {
    let text = document.canonical();
    Running {
        revision,
        document,
        text,
        secrets,
    }
}
