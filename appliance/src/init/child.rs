//! A running process of the house as init sees it: its pid, its control channel, its log pipe. The firewall is started as it
//! is (it drops what it does not need itself), all others by the sandbox.

use std::{
    fs::File,
    io::{self, PipeReader, Read, pipe},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use broker_proto::{Role, control::ToChild, encode};
use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sandbox::{Launch, Profile, channel::Channel};

/// Descriptor at which a child finds its control channel.
const CONTROL: i32 = 3;
/// Longest log line that is kept.
const LINE: usize = 1_024;
/// Log lines a second that one process may write.
const LINES_PER_SECOND: u32 = 200;

/// See the module.
pub struct Child {
    /// Which.
    pub role: Role,
    /// In init's pid namespace.
    pub pid: i32,
    /// Its control channel.
    pub control: Channel,
    /// What it writes to standard error.
    pub log: PipeReader,
    /// When it was started.
    pub started: Instant,
    /// It said that it is sealed and serves.
    pub ready: bool,
    partial: Vec<u8>,
    window: Option<Instant>,
    lines: u32,
    suppressed: u32,
    /// Its control groups stay as long as it does.
    _sandboxed: Option<sandbox::Child>,
}

impl Child {
    /// Starts the process `role` from the folder of executables; `directory` is the journal's.
    ///
    /// # Errors
    /// There is no such executable, or a step of the sandbox failed: then nothing runs.
    pub fn start(role: Role, executables: &Path, directory: Option<&Path>) -> io::Result<Self> {
        let program = executables.join(format!("gatehouse-{}", role.name()));
        let (control, far) = Channel::pair()?;
        let (log, log_writer) = pipe()?;
        fcntl(&log, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let far: OwnedFd = far.into();
        let mut sandboxed = None;
        let pid = match Profile::for_role(role.name()) {
            Some(profile) => {
                let file = File::open(&program)?;
                let launch = Launch {
                    program: file.as_fd(),
                    name: role.name(),
                    profile: &profile,
                    control: far,
                    stderr: log_writer.into(),
                    directory: directory.filter(|_| profile.directory),
                };
                let child = sandbox::launch(launch)?;
                for missing in child.cgroup.missing() {
                    tracing::warn!(
                        process = role.name(),
                        missing,
                        "not bounded by control group"
                    );
                }
                let pid = i32::try_from(child.pid).map_err(io::Error::other)?;
                sandboxed = Some(child);
                pid
            }
            None => Self::start_plain(&program, far, log_writer.into())?,
        };
        Ok(Self {
            role,
            pid,
            control,
            log,
            started: Instant::now(),
            ready: false,
            partial: Vec::new(),
            window: None,
            lines: 0,
            suppressed: 0,
            _sandboxed: sandboxed,
        })
    }

    fn start_plain(program: &Path, control: OwnedFd, log: OwnedFd) -> io::Result<i32> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
            .fd_mappings(vec![FdMapping {
                parent_fd: control,
                child_fd: CONTROL,
            }])
            .map_err(io::Error::other)?;
        let child = command.spawn()?;
        i32::try_from(child.id()).map_err(io::Error::other)
    }

    /// Tells it something, with up to one descriptor.
    ///
    /// # Errors
    /// It does not read, or is gone.
    pub fn tell(&self, message: &ToChild, descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let bytes = encode(message).map_err(io::Error::other)?;
        let fds: Vec<_> = descriptor.iter().map(|fd| fd.as_fd()).collect();
        self.control.send(&bytes, &fds)
    }

    /// Whole lines that it wrote since the last call, within its rate; control characters are replaced.
    pub fn log_lines(&mut self, now: Instant) -> Vec<String> {
        let mut buffer = [0; 4_096];
        let mut lines = Vec::new();
        // Bounded: the pipe holds 64 KiB, and what is written meanwhile waits for the next round.
        for _ in 0..16 {
            match self.log.read(&mut buffer) {
                Ok(length) if length > 0 => self
                    .partial
                    .extend_from_slice(buffer.get(..length).unwrap_or_default()),
                _ => break,
            }
        }
        if self
            .window
            .is_none_or(|begin| now.duration_since(begin).as_secs() >= 1)
        {
            if self.suppressed > 0 {
                lines.push(format!("{} log lines suppressed", self.suppressed));
            }
            self.window = Some(now);
            self.lines = 0;
            self.suppressed = 0;
        }
        while let Some(end) = self.partial.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.push(&line, &mut lines);
        }
        if self.partial.len() > LINE {
            let line = std::mem::take(&mut self.partial);
            self.push(&line, &mut lines);
        }
        lines
    }

    fn push(&mut self, line: &[u8], lines: &mut Vec<String>) {
        if self.lines >= LINES_PER_SECOND {
            self.suppressed += 1;
            return;
        }
        self.lines += 1;
        let text = String::from_utf8_lossy(line.get(..line.len().min(LINE)).unwrap_or_default());
        lines.push(text.trim_end().replace(char::is_control, "\u{fffd}"));
    }
}
