//! What a launched program does to itself, first thing: [`confine`] takes the file system and the network away
//! (Landlock) and checks that it was launched as it should be; [`seal`] leaves it the system calls of its list. Between
//! the two it takes its control channel, primes its crypto library and starts its threads, all of which must run before
//! `seal` (a thread that has just been made still calls the system to set itself up: wait for each to say hello).

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::{launch::DIRECTORY, profile::Profile, syscalls};

/// Why a program must not go on. Each ends it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Not started by init's launcher, or a step of it was left out.
    #[error("not launched into a sandbox: {0}")]
    NotLaunched(&'static str),
    /// The kernel has no Landlock, or too old a one.
    #[error("Landlock: {0}")]
    Landlock(String),
    /// The kernel refused the list of system calls, or a thread could not be brought under it.
    #[error("seccomp: {0}")]
    Seccomp(String),
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Landlock with no right, but for the directory of a profile that has one. Call before any thread is started: it binds
/// the calling thread and those it makes.
///
/// # Errors
/// [`ConfineError`]; the caller must exit.
pub fn confine(profile: &Profile) -> Result<(), ConfineError> {
    launched(profile)?;
    // The start of the program made it readable to its own uid again. prctl(2), PR_SET_DUMPABLE.
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)?;
    landlock(profile)
}

/// From here on the list of the profile, in all threads; what is outside it kills the process.
///
/// # Errors
/// [`ConfineError`]; the caller must exit.
pub fn seal(profile: &Profile) -> Result<(), ConfineError> {
    Filter::compile(profile)?.apply()
}

/// A list ready to be applied: `seal` in two steps, for those who apply it often (the escape suite).
#[derive(Debug)]
pub struct Filter(seccompiler::BpfProgram);

impl Filter {
    /// The profile's list as the kernel runs it.
    ///
    /// # Errors
    /// None for the lists of the house.
    pub fn compile(profile: &Profile) -> Result<Self, ConfineError> {
        syscalls::compile(profile.groups)
            .map(Self)
            .map_err(|error| ConfineError::Seccomp(error.to_string()))
    }

    /// Binds all threads of this process to it.
    ///
    /// # Errors
    /// [`ConfineError::Seccomp`].
    pub fn apply(&self) -> Result<(), ConfineError> {
        seccompiler::apply_filter_all_threads(&self.0)
            .map_err(|error| ConfineError::Seccomp(error.to_string()))
    }
}

/// Trust nothing: look whether the launcher did its work.
fn launched(profile: &Profile) -> Result<(), ConfineError> {
    let uid = nix::unistd::getresuid().map_err(io::Error::from)?;
    let gid = nix::unistd::getresgid().map_err(io::Error::from)?;
    let uids = [
        uid.real.as_raw(),
        uid.effective.as_raw(),
        uid.saved.as_raw(),
    ];
    let gids = [
        gid.real.as_raw(),
        gid.effective.as_raw(),
        gid.saved.as_raw(),
    ];
    if uids != [profile.uid; 3] || gids != [profile.uid; 3] {
        return Err(ConfineError::NotLaunched("not the uid of the role"));
    }
    if !nix::unistd::getgroups()
        .map_err(io::Error::from)?
        .is_empty()
    {
        return Err(ConfineError::NotLaunched("a group is left"));
    }
    if std::process::id() != 1 {
        return Err(ConfineError::NotLaunched("not alone in a pid namespace"));
    }
    for set in [
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
        caps::CapSet::Inheritable,
        caps::CapSet::Ambient,
        caps::CapSet::Bounding,
    ] {
        let held = caps::read(None, set).map_err(|error| io::Error::other(error.to_string()))?;
        if !held.is_empty() {
            return Err(ConfineError::NotLaunched("a capability is left"));
        }
    }
    if !nix::sys::prctl::get_no_new_privs().map_err(io::Error::from)? {
        return Err(ConfineError::NotLaunched("new privileges are possible"));
    }
    Ok(())
}

fn landlock(profile: &Profile) -> Result<(), ConfineError> {
    let failed = |error: &dyn std::fmt::Display| ConfineError::Landlock(error.to_string());
    // ABI 5 (TCP, device ioctls) must be there; scopes (6) are there in the image's kernel, and taken where they are.
    let all = AccessFs::from_all(ABI::V5);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .map_err(|error| failed(&error))?
        .handle_access(AccessNet::from_all(ABI::V5))
        .map_err(|error| failed(&error))?
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))
        .map_err(|error| failed(&error))?
        .create()
        .map_err(|error| failed(&error))?;
    if profile.directory {
        let folder = PathFd::new(DIRECTORY).map_err(|error| failed(&error))?;
        // Regular files and their names; no device, socket, pipe, link, program or directory can be made.
        let files = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::MakeReg
            | AccessFs::RemoveFile
            | AccessFs::Truncate;
        rules = rules
            .add_rule(PathBeneath::new(folder, files))
            .map_err(|error| failed(&error))?;
    }
    rules.restrict_self().map_err(|error| failed(&error))?;
    Ok(())
}
