//! The kernel's side of a commit, behind a trait: [`Nft`] starts the program `nft` with fixed arguments and an empty
//! environment and hands it the text by a pipe; tests put another in its place. Called by `commit` and `gatehouse-config`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::{names::TABLE, ruleset::Present};
use crate::policy::sysctls::Sysctl;

/// Octets of the program's complaints that are passed on.
const MAX_COMPLAINT: usize = 2_000;

/// Places where the program may lie.
const PLACES: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/bin/nft"];

/// Why the kernel's table is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The program is not there.
    #[error("nft is not installed")]
    Missing,
    /// It could not be run.
    #[error("nft could not be run: {0}")]
    Run(#[from] io::Error),
    /// It, or the kernel, refused the text; nothing has changed.
    #[error("nft refused the ruleset: {0}")]
    Refused(String),
}

/// What can load, check and list the table.
pub trait Kernel {
    /// Carries a transaction out: all of it or nothing.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    fn commit(&mut self, transaction: &str) -> Result<(), KernelError>;

    /// Whether the kernel would take a transaction; changes nothing.
    ///
    /// # Errors
    /// Why not.
    fn check(&mut self, transaction: &str) -> Result<(), KernelError>;

    /// The table as it stands, without values and elements; empty if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    fn list(&mut self) -> Result<String, KernelError>;

    /// Writes a kernel setting.
    ///
    /// # Errors
    /// As the system says; `NotFound` if the machine lacks it.
    fn set(&mut self, setting: &Sysctl) -> io::Result<()>;

    /// Names of what the table holds.
    ///
    /// # Errors
    /// If it cannot be read.
    fn present(&mut self) -> Result<Present, KernelError> {
        Ok(parse(&self.list()?))
    }
}

/// The program `nft`.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
}

impl Nft {
    /// Finds it.
    ///
    /// # Errors
    /// `Missing`.
    pub fn find() -> Result<Self, KernelError> {
        let place = PLACES
            .iter()
            .find(|place| Path::new(place).is_file())
            .ok_or(KernelError::Missing)?;
        Ok(Self {
            program: PathBuf::from(place),
        })
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<String, KernelError> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // Written beside reading: the program may complain before it has read everything.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let end = complaint.floor_char_boundary(MAX_COMPLAINT);
        complaint.truncate(end);
        Err(KernelError::Refused(complaint))
    }
}

impl Kernel for Nft {
    fn commit(&mut self, transaction: &str) -> Result<(), KernelError> {
        self.run(&["-f", "-"], transaction).map(|_| ())
    }

    fn check(&mut self, transaction: &str) -> Result<(), KernelError> {
        self.run(&["-c", "-f", "-"], transaction).map(|_| ())
    }

    fn set(&mut self, setting: &Sysctl) -> io::Result<()> {
        // Never made anew: a file that is not there is a setting that this kernel lacks.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .open(Path::new("/proc/sys").join(&setting.path))?;
        file.write_all(setting.value.as_bytes())
    }

    fn list(&mut self) -> Result<String, KernelError> {
        let tables = self.run(&["list", "tables", "inet"], "")?;
        if !tables
            .lines()
            .any(|line| line.trim() == format!("table inet {TABLE}"))
        {
            return Ok(String::new());
        }
        self.run(&["-s", "-t", "list", "table", "inet", TABLE], "")
    }
}

/// Names in a listing: one tab, the kind, the name.
#[must_use]
pub fn parse(listing: &str) -> Present {
    let mut present = Present::default();
    for line in listing.lines() {
        let Some(line) = line
            .strip_prefix('\t')
            .filter(|line| !line.starts_with('\t'))
        else {
            continue;
        };
        let mut words = line.split_whitespace();
        let (kind, name) = (words.next(), words.next().map(ToOwned::to_owned));
        match kind {
            Some("chain") => present.chains.extend(name),
            Some("counter") => present.counters.extend(name),
            Some("set") => present.sets.extend(name),
            _ => {}
        }
    }
    present
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_gives_its_names() {
        let listing = "table inet gatehouse {\n\tcounter drop/a/b {\n\t}\n\n\tset media_any4 {\n\t\ttype ipv4_addr\n\t}\n\n\tchain input {\n\t\tset x\n\t}\n}\n";
        let present = parse(listing);
        assert_eq!(present.chains, ["input".to_owned()].into());
        assert_eq!(present.counters, ["drop/a/b".to_owned()].into());
        assert_eq!(present.sets, ["media_any4".to_owned()].into());
    }
}
