//! The process in the sandbox. It goes the way of every sandboxed process (confine, control channel, first descriptors),
//! then, instead of sealing itself and serving, makes a copy of itself for each attempt, which seals itself and attacks.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::alarm,
};
use sandbox::{Channel, Profile, channel::CONTROL_FD, confine::Filter, probe};

use super::{
    arguments,
    attack::{Attack, BROKEN},
    egress, forgery, named, numbers, resources, second_line,
};

/// Seconds after which an attempt that hangs is ended by its alarm; it counts as not refused.
const PATIENCE_SECONDS: u32 = 10;

/// What one attempt came to, as it crosses to the supervisor.
pub struct Report {
    /// Heading.
    pub group: String,
    /// What was tried.
    pub name: String,
    /// How the process ended.
    pub ending: String,
    /// Whether that is a refusal.
    pub refused: bool,
}

impl Report {
    fn to_bytes(&self) -> Vec<u8> {
        let refused = if self.refused {
            "refused"
        } else {
            "not refused"
        };
        [self.group.as_str(), &self.name, &self.ending, refused]
            .join("\t")
            .into_bytes()
    }

    /// `None`: no report of this suite.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(bytes)
            .ok()?
            .split('\t')
            .map(str::to_owned);
        let report = Self {
            group: fields.next()?,
            name: fields.next()?,
            ending: fields.next()?,
            refused: fields.next()? == "refused",
        };
        fields.next().is_none().then_some(report)
    }
}

/// Last message of a part.
pub const END: &[u8] = b"end";
/// Asks for [`egress`] with a media socket and a listener.
pub const EGRESS: &[u8] = b"egress";
/// Asks for one of [`forgery::FORGERIES`], by its number as the last octet, with a channel.
pub const FORGE: &[u8] = b"forge";

/// Runs all attempts in the place of `role` and reports each.
#[must_use]
pub fn run(role: &str) -> ExitCode {
    match attack_all(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("escape suite, inside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn attack_all(role: &str) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else: what did the launcher leave open?
    let open = probe::open_descriptors(1 << 16);
    let mut buffer = [0; 256];
    let profile = Profile::for_role(role).ok_or("no profile")?;
    sandbox::confine(&profile)?;
    let control = Channel::control()?;
    wait(&control, PollFlags::POLLIN)?;
    let lent: OwnedFd = control
        .recv(&mut buffer)?
        .descriptors
        .into_iter()
        .next()
        .ok_or("no socket was lent")?;
    let filter = Filter::compile(&profile)?;

    let mut attacks = numbers::attacks(&profile);
    attacks.extend(arguments::attacks(&profile));
    attacks.extend(named::attacks(&profile));
    attacks.extend(resources::attacks(&profile, open, &lent));
    attacks.extend(second_line::attacks(&profile));
    run_all(attacks, &filter, &control)?;
    while let Some((kind, fds)) = next_command(&control)? {
        match kind {
            Commanded::Egress => {
                let sockets: Vec<_> = ["media", "listener"].into_iter().zip(fds).collect();
                run_all(egress::attacks(&sockets), &filter, &control)?;
            }
            Commanded::Forge(number) => {
                run_all(
                    forgery(number, fds).into_iter().collect(),
                    &filter,
                    &control,
                )?;
            }
        }
    }
    Ok(())
}

fn run_all(attacks: Vec<Attack>, filter: &Filter, control: &Channel) -> io::Result<()> {
    for attack in attacks {
        let report = attempt(attack, filter)?;
        tell(control, &report.to_bytes())?;
    }
    tell(control, END)
}

/// Part of the suite that the supervisor asks for, with the descriptors for it.
enum Commanded {
    Egress,
    Forge(u8),
}

fn next_command(control: &Channel) -> io::Result<Option<(Commanded, Vec<OwnedFd>)>> {
    let mut buffer = [0; 64];
    wait(control, PollFlags::POLLIN)?;
    let received = match control.recv(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let bytes = buffer.get(..received.length).unwrap_or_default();
    let command = match bytes.strip_prefix(FORGE) {
        Some([number]) => Commanded::Forge(*number),
        _ if bytes == EGRESS => Commanded::Egress,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok(Some((command, received.descriptors)))
}

fn forgery(number: u8, fds: Vec<OwnedFd>) -> Option<Attack> {
    let (name, run) = *forgery::FORGERIES.get(usize::from(number))?;
    let channel = Channel::from_fd(fds.into_iter().next()?);
    Some(Attack::permitted(forgery::GROUP, name, move || {
        run(&channel)
    }))
}

fn attempt(attack: Attack, filter: &Filter) -> io::Result<Report> {
    let Attack {
        group,
        name,
        sealed,
        refusal,
        run,
    } = attack;
    let ending = probe::attempt(|| {
        alarm::set(PATIENCE_SECONDS);
        if sealed && filter.apply().is_err() {
            return BROKEN;
        }
        run()
    })?;
    Ok(Report {
        group: group.to_owned(),
        name,
        ending: ending.to_string(),
        refused: refusal.holds(ending),
    })
}

/// The supervisor may be slower than the attacks.
fn tell(control: &Channel, bytes: &[u8]) -> io::Result<()> {
    loop {
        match control.send(bytes, &[]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(control, PollFlags::POLLOUT)?
            }
            other => return other,
        }
    }
}

fn wait(control: &Channel, what: PollFlags) -> io::Result<()> {
    poll(&mut [PollFd::new(control.as_fd(), what)], PollTimeout::NONE)?;
    Ok(())
}

/// The role in whose place this program was started by the suite's launcher; `None`: a person or init started it.
#[must_use]
pub fn role() -> Option<String> {
    let name = std::env::args().next()?;
    let role = name.strip_prefix(super::INSIDE)?;
    probe::open_descriptors(CONTROL_FD + 1)
        .contains(&CONTROL_FD)
        .then(|| role.to_owned())
}
