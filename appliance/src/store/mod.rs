//! The configuration store on the data partition: documents by revision, and the secrets they refer to. Init owns the one
//! that exists. A commit is there as a whole or not at all, whenever the power goes; what is broken on disk is passed over
//! with a complaint, so that the newest good revision always runs.
//!
//! # On disk
//! ```text
//! revisions/0000000007.toml   header line (revision, length, SHA-256), then the canonical document; the newest two are kept
//! secrets/NAME.0000000007     header line, then the bytes; belongs to revision 7 and later ones
//! new                         being written; never read
//! ```
//! A revision is switched on by one rename after all its secrets are durable, so document and secrets change together.

mod disk;
mod record;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, path::Path};

use appliance_config::{Document, MAX_DOCUMENT};
use broker_proto::control::SecretBytes;
use zeroize::Zeroizing;

pub use disk::{Disk, FileSystem};
use record::{Record, RecordError};

/// Octets of one secret, at most.
pub const MAX_SECRET: usize = 64 * 1024;
/// Secrets of one commit, at most.
pub const MAX_SECRETS: usize = 256;

const REVISIONS: &str = "revisions";
const SECRETS: &str = "secrets";
/// The file that is being written. One name, so that a cut leaves one remainder at most.
const NEW: &str = "new";

/// Why nothing was stored. What was stored before still is.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// ENOSPC or EDQUOT.
    #[error("the data partition is full; nothing was changed and the configuration in force stays")]
    Full,
    /// Any other refusal of the disk.
    #[error("the data partition refused to {doing}: {source}; the configuration in force stays")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// A secret's name or size.
    #[error(
        "a secret's name is 1 to 32 small letters, digits, - and _, and its value at most 64 KiB"
    )]
    BadSecret,
    /// More than [`MAX_SECRETS`].
    #[error("more than 256 secrets in one commit")]
    TooManySecrets,
}

impl StoreError {
    fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk { doing, source },
        }
    }
}

/// The revision that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts commits.
    pub revision: u64,
    /// Read and checked.
    pub document: Document,
}

/// What the disk holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest good revision; `None`: there is none, the box is (to be) set up.
    pub stored: Option<Stored>,
    /// What was found broken, one line each, for log and console.
    pub complaints: Vec<String>,
}

/// The store of one data partition.
pub struct Store<D: Disk = FileSystem> {
    disk: D,
    /// Highest revision ever seen: a number is not used twice.
    highest: u64,
}

impl Store<FileSystem> {
    /// The store in a directory, which is made if need be.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let disk =
            FileSystem::open(directory).map_err(StoreError::while_doing("open the store"))?;
        Self::on(disk)
    }
}

impl<D: Disk> Store<D> {
    /// The store on a disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn on(disk: D) -> Result<Self, StoreError> {
        for directory in [REVISIONS, SECRETS] {
            disk.make_directory(directory)
                .map_err(StoreError::while_doing("make a directory"))?;
        }
        disk.sync_directory("")
            .map_err(StoreError::while_doing("write a directory"))?;
        let mut store = Self { disk, highest: 0 };
        store.highest = store
            .all_revisions()
            .into_iter()
            .chain(store.all_secrets().into_iter().map(|(_, r)| r))
            .max()
            .unwrap_or(0);
        Ok(store)
    }

    /// The number that the next commit gets.
    #[must_use]
    pub const fn next_revision(&self) -> u64 {
        self.highest.saturating_add(1)
    }

    /// The newest good revision. Never fails: what cannot be read is a complaint.
    pub fn load(&self) -> Loaded {
        let mut complaints = Vec::new();
        let stored = self.newest_good(u64::MAX, &mut complaints);
        Loaded { stored, complaints }
    }

    fn newest_good(&self, below: u64, complaints: &mut Vec<String>) -> Option<Stored> {
        let mut revisions = self.all_revisions();
        revisions.retain(|revision| *revision < below);
        revisions.sort_unstable();
        revisions
            .into_iter()
            .rev()
            .find_map(|revision| match self.read_revision(revision) {
                Ok(document) => Some(Stored { revision, document }),
                Err(sentence) => {
                    complaints.push(format!(
                        "configuration revision {revision} is passed over: {sentence}"
                    ));
                    None
                }
            })
    }

    fn read_revision(&self, revision: u64) -> Result<Document, String> {
        let bytes = self.read(&revision_path(revision), MAX_DOCUMENT)?;
        let body = Record::open(&bytes, revision).map_err(|error| error.to_string())?;
        let text = core::str::from_utf8(body).map_err(|_| "it is not text".to_owned())?;
        Document::parse(text, &revision_path(revision)).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("{} offences, the first: {first}", errors.len())
        })
    }

    fn read(&self, path: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
        self.disk
            .read(path, most + Record::HEADER)
            .map(Zeroizing::new)
            .map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Makes `document` and `secrets` the newest revision, durably, and returns its number. Afterwards this revision and
    /// the newest good one before it are kept.
    ///
    /// # Errors
    /// Nothing was changed: no room, the disk's refusal, a bad secret.
    pub fn commit(
        &mut self,
        document: &Document,
        secrets: &[(String, SecretBytes)],
    ) -> Result<u64, StoreError> {
        if secrets.len() > MAX_SECRETS {
            return Err(StoreError::TooManySecrets);
        }
        let revision = self.next_revision();
        self.drop_orphans()?;
        // Also a failed commit uses its number up: what it left behind can then never be taken for a later revision's.
        self.highest = revision;
        let written = self.write_revision(revision, document, secrets);
        if written.is_err() {
            self.withdraw(revision);
        }
        written?;
        self.forget_old(revision);
        Ok(revision)
    }

    /// Secrets of a revision that was withdrawn, or cut off before its rename: no later revision may read them.
    fn drop_orphans(&self) -> Result<(), StoreError> {
        let newest = self.all_revisions().into_iter().max().unwrap_or(0);
        let orphans: Vec<_> = self
            .all_secrets()
            .into_iter()
            .filter(|(_, of)| *of > newest)
            .collect();
        for (name, of) in &orphans {
            self.disk
                .remove(&secret_path(name, *of))
                .map_err(StoreError::while_doing("clear up"))?;
        }
        if orphans.is_empty() {
            return Ok(());
        }
        self.disk
            .sync_directory(SECRETS)
            .map_err(StoreError::while_doing("clear up"))
    }

    fn write_revision(
        &self,
        revision: u64,
        document: &Document,
        secrets: &[(String, SecretBytes)],
    ) -> Result<(), StoreError> {
        for (name, value) in secrets {
            self.write_secret(revision, name, value)?;
        }
        if !secrets.is_empty() {
            self.disk
                .sync_directory(SECRETS)
                .map_err(StoreError::while_doing("write the secrets"))?;
        }
        let path = revision_path(revision);
        self.replace(
            &path,
            &Record::seal(document.canonical().as_bytes(), revision),
        )?;
        self.disk
            .sync_directory(REVISIONS)
            .map_err(StoreError::while_doing("write the configuration"))
    }

    /// Keeps a secret for the newest revision and all later ones; replaces an older value of that name.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn put_secret(&mut self, name: &str, value: &SecretBytes) -> Result<(), StoreError> {
        let revision = self
            .newest_good(u64::MAX, &mut Vec::new())
            .map_or(0, |stored| stored.revision);
        self.write_secret(revision, name, value)?;
        self.disk
            .sync_directory(SECRETS)
            .map_err(StoreError::while_doing("write the secrets"))
    }

    fn write_secret(
        &self,
        revision: u64,
        name: &str,
        value: &SecretBytes,
    ) -> Result<(), StoreError> {
        if !is_secret_name(name) || value.0.len() > MAX_SECRET {
            return Err(StoreError::BadSecret);
        }
        self.replace(
            &secret_path(name, revision),
            &Record::seal(&value.0, revision),
        )
    }

    /// The whole file or nothing of it: its bytes are durable before its name is.
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self
            .disk
            .write(NEW, bytes)
            .and_then(|()| self.disk.sync(NEW))
            .and_then(|()| self.disk.rename(NEW, path));
        written.map_err(|error| {
            let _ = self.disk.remove(NEW);
            StoreError::while_doing("write a file")(error)
        })
    }

    /// Takes back what a failed commit left, as far as the disk lets us. The revision's file goes first, and durably,
    /// so that it never stands without its secrets.
    fn withdraw(&self, revision: u64) {
        let _ = self.disk.remove(&revision_path(revision));
        let _ = self.disk.sync_directory(REVISIONS);
        for (name, of) in self.all_secrets() {
            if of == revision {
                let _ = self.disk.remove(&secret_path(&name, of));
            }
        }
    }

    /// Drops a revision that turned out not to run (the firewall refused it), if a good older one is there to fall back to.
    /// Returns what runs then; `None`: nothing was dropped.
    ///
    /// # Errors
    /// The disk's; the revision may or may not be gone then.
    pub fn discard(&mut self, revision: u64) -> Result<Option<Stored>, StoreError> {
        let Some(older) = self.newest_good(revision, &mut Vec::new()) else {
            return Ok(None);
        };
        self.disk
            .remove(&revision_path(revision))
            .map_err(StoreError::while_doing("drop a revision"))?;
        self.disk
            .sync_directory(REVISIONS)
            .map_err(StoreError::while_doing("drop a revision"))?;
        self.withdraw(revision);
        Ok(Some(older))
    }

    /// Removes revisions behind the newest good one before `newest`, and secrets that no kept revision reads.
    fn forget_old(&self, newest: u64) {
        let previous = self
            .newest_good(newest, &mut Vec::new())
            .map_or(newest, |stored| stored.revision);
        for revision in self.all_revisions() {
            if revision != newest && revision != previous {
                let _ = self.disk.remove(&revision_path(revision));
            }
        }
        // A secret of revision r is read by revisions from r up to the next value of the same name.
        let mut by_name: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (name, revision) in self.all_secrets() {
            by_name.entry(name).or_default().push(revision);
        }
        for (name, mut revisions) in by_name {
            revisions.sort_unstable();
            let kept = revisions
                .iter()
                .copied()
                .filter(|revision| *revision <= previous)
                .max()
                .unwrap_or(0);
            for revision in revisions.into_iter().filter(|revision| *revision < kept) {
                let _ = self.disk.remove(&secret_path(&name, revision));
            }
        }
    }

    /// The secrets that a revision reads: of each name the newest good value that is not younger. Second: complaints.
    pub fn secrets(&self, revision: u64) -> (Vec<(String, SecretBytes)>, Vec<String>) {
        let mut complaints = Vec::new();
        let mut found: BTreeMap<String, (u64, SecretBytes)> = BTreeMap::new();
        let mut candidates = self.all_secrets();
        candidates.sort_by_key(|(_, of)| core::cmp::Reverse(*of));
        for (name, of) in candidates {
            if of > revision || found.contains_key(&name) {
                continue;
            }
            let read = self
                .read(&secret_path(&name, of), MAX_SECRET)
                .and_then(|bytes| {
                    let body =
                        Record::open(&bytes, of).map_err(|error: RecordError| error.to_string())?;
                    Ok(SecretBytes(body.to_vec()))
                });
            match read {
                Ok(value) => {
                    found.insert(name, (of, value));
                }
                Err(sentence) => complaints.push(format!(
                    "secret {name} of revision {of} is passed over: {sentence}"
                )),
            }
        }
        (
            found
                .into_iter()
                .map(|(name, (_, value))| (name, value))
                .collect(),
            complaints,
        )
    }

    /// Removes every revision and secret: factory reset.
    ///
    /// # Errors
    /// The disk's, with some of it perhaps gone.
    pub fn erase(&mut self) -> Result<(), StoreError> {
        let doing = "erase the store";
        // The newest last: a cut in between must not bring an older configuration back to life.
        let mut revisions = self.all_revisions();
        revisions.sort_unstable();
        for revision in revisions {
            self.disk
                .remove(&revision_path(revision))
                .map_err(StoreError::while_doing(doing))?;
            self.disk
                .sync_directory(REVISIONS)
                .map_err(StoreError::while_doing(doing))?;
        }
        for (name, revision) in self.all_secrets() {
            self.disk
                .remove(&secret_path(&name, revision))
                .map_err(StoreError::while_doing(doing))?;
        }
        self.disk
            .sync_directory(SECRETS)
            .map_err(StoreError::while_doing(doing))
    }

    fn all_revisions(&self) -> Vec<u64> {
        let names = self.disk.list(REVISIONS).unwrap_or_default();
        names
            .iter()
            .filter_map(|name| number(name.strip_suffix(".toml")?))
            .collect()
    }

    fn all_secrets(&self) -> Vec<(String, u64)> {
        let names = self.disk.list(SECRETS).unwrap_or_default();
        names
            .iter()
            .filter_map(|name| {
                let (name, revision) = name.rsplit_once('.')?;
                Some((
                    is_secret_name(name).then(|| name.to_owned())?,
                    number(revision)?,
                ))
            })
            .collect()
    }
}

fn revision_path(revision: u64) -> String {
    format!("{REVISIONS}/{revision:010}.toml")
}

fn secret_path(name: &str, revision: u64) -> String {
    format!("{SECRETS}/{name}.{revision:010}")
}

/// Only numbers that are written as this store writes them.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (format!("{number:010}") == text).then_some(number)
}

/// As in the document: names that are safe as file names.
fn is_secret_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
