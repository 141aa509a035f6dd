//! The supervisor of the suite: as root, outside. It launches this very program in place of the sbc, lends it a socket,
//! counts what comes back and prints it. Its own network namespace keeps whatever might get out on the loopback.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    net::UdpSocket,
    os::{fd::AsFd, linux::net::SocketAddrExt, unix::net},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
};
use sandbox::{Channel, Launch, Profile, process};
use tempfile::TempDir;

use super::{
    INSIDE, broker,
    inside::{END, Report},
};

/// The suite must be through by then.
pub const PATIENCE: Duration = Duration::from_secs(110);

/// A socket outside, in the abstract name space, that attempts try to reach.
pub const ABSTRACT: &str = "gatehouse-escape-outside";

/// Attempts that got through, and how many are printed.
const PRINTED: usize = 40;

/// Counts of one heading.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tried: usize,
    refused: usize,
}

/// Runs the suite in the place of `role` and prints its result. Success only if every attempt was refused.
#[must_use]
pub fn run(role: &str) -> ExitCode {
    let begin = Instant::now();
    let mut tally = Tally::default();
    let ran = attacks(role, &mut tally);
    match ran.and_then(|()| tally.print(role, begin.elapsed())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("escape suite: could not be run: {error}");
            ExitCode::from(2)
        }
    }
}

/// What came back.
#[derive(Default)]
pub struct Tally {
    groups: BTreeMap<String, Count>,
    through: Vec<String>,
}

impl Tally {
    /// Counts one attempt.
    pub fn add(&mut self, report: &Report) {
        let count = self.groups.entry(report.group.clone()).or_default();
        count.tried += 1;
        if report.refused {
            count.refused += 1;
        } else {
            self.through.push(format!(
                "{}: {}: {}",
                report.group, report.name, report.ending
            ));
        }
    }

    fn print(&self, role: &str, took: Duration) -> io::Result<bool> {
        let mut out = io::stdout().lock();
        for (group, Count { tried, refused }) in &self.groups {
            writeln!(out, "{group}: tried {tried} refused {refused}")?;
        }
        for line in self.through.iter().take(PRINTED) {
            writeln!(out, "NOT REFUSED {line}")?;
        }
        if let Some(profile) = Profile::for_role(role) {
            let calls = profile.allowed();
            let names: Vec<&str> = calls.iter().map(|(_, name)| *name).collect();
            writeln!(out, "{role} may call {}: {}", calls.len(), names.join(" "))?;
        }
        let tried: usize = self.groups.values().map(|count| count.tried).sum();
        let refused: usize = self.groups.values().map(|count| count.refused).sum();
        let all = tried == refused && tried > 0;
        writeln!(
            out,
            "tried {tried} refused {refused} in {:.1} s: {}",
            took.as_secs_f64(),
            if all {
                "every attempt was refused"
            } else {
                "the sandbox leaks"
            }
        )?;
        Ok(all)
    }
}

fn attacks(role: &str, tally: &mut Tally) -> io::Result<()> {
    // A name to reach for, in the network namespace of whoever started the suite.
    let _named = net::UnixListener::bind_addr(&net::SocketAddr::from_abstract_name(ABSTRACT)?).ok();
    unshare(CloneFlags::CLONE_NEWNET)?;
    let lent = UdpSocket::bind("0.0.0.0:0")?;
    let profile = Profile::for_role(role).ok_or_else(|| io::Error::other("no such role"))?;
    let directory = profile.directory.then(TempDir::new).transpose()?;
    let (near, far) = Channel::pair()?;
    let program = File::open("/proc/self/exe")?;
    let child = sandbox::launch(Launch {
        program: program.as_fd(),
        name: &format!("{INSIDE}{role}"),
        profile: &profile,
        control: far.into(),
        stderr: io::stderr().as_fd().try_clone_to_owned()?,
        directory: directory.as_ref().map(TempDir::path),
    })?;
    for missing in child.cgroup.missing() {
        println!("warning: not bounded by a control group: {missing}");
    }
    for folder in child.cgroup.folders() {
        // In the unified hierarchy one task over the bound of memory takes its whole group with it, which is right for the
        // product. Here the attempt is to end alone, and the process that counts is to live. A v1 group has no such file.
        let _ = fs::write(folder.join("memory.oom.group"), "0");
    }
    let result = near
        .send(b"go", &[lent.as_fd()])
        .and_then(|()| collect(&near, tally));
    let result = result.and_then(|()| {
        if role == "sbc" {
            broker::attacks(&near, tally)
        } else {
            Ok(())
        }
    });
    process::kill(&child.pidfd);
    let ending = process::wait(child.pid)?;
    result.map_err(|error| io::Error::other(format!("{error}; inside: {ending}")))
}

/// Counts the reports of one part.
///
/// # Errors
/// The attacker is gone, or too slow.
pub fn collect(near: &Channel, tally: &mut Tally) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        match near.recv(&mut buffer) {
            Ok(received) => match buffer.get(..received.length) {
                Some(END) => return Ok(()),
                bytes => tally.add(
                    &bytes
                        .and_then(Report::from_bytes)
                        .ok_or(io::ErrorKind::InvalidData)?,
                ),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                if poll(&mut [PollFd::new(near.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
