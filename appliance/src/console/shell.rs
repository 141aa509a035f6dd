//! Descriptors and clock of the console: waits for init and the terminals, hands bytes to the state machine, writes what
//! comes out. Decides nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use broker_proto::{
    MAX_MESSAGE,
    control::{FromChild, ToChild},
    decode, encode,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{read, write},
};
use sandbox::{Profile, channel::Channel};

use super::{app::App, terminal::Terminal};

/// Terminals at once.
const MAX_TERMINALS: usize = 4;

struct Line {
    name: String,
    fd: OwnedFd,
    terminal: Terminal,
}

struct Shell {
    control: Channel,
    app: App,
    lines: Vec<Line>,
    /// Messages that init did not take yet.
    unsent: Vec<Vec<u8>>,
    epoch: Instant,
    stop: bool,
}

/// Serves until init says stop or is gone.
///
/// # Errors
/// The system's: no poll, no control channel.
pub fn serve(control: Channel, profile: &Profile) -> Result<(), Box<dyn std::error::Error>> {
    sandbox::seal(profile)?;
    let mut shell = Shell {
        control,
        app: App::default(),
        lines: Vec::new(),
        unsent: vec![encode(&FromChild::Ready)?],
        epoch: Instant::now(),
        stop: false,
    };
    let mut buffer = vec![0; MAX_MESSAGE];
    while !shell.stop {
        shell.flush()?;
        let ready = shell.wait()?;
        let mut ready = ready.into_iter();
        if ready.next() == Some(true) {
            shell.take_control(&mut buffer)?;
        }
        shell.take_terminals(ready.collect());
        shell.tick();
    }
    Ok(())
}

impl Shell {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends what the state machine wants to say, draws, writes as far as the descriptors take it.
    fn flush(&mut self) -> io::Result<()> {
        for message in self.app.take_messages() {
            self.unsent
                .push(encode(&message).map_err(io::Error::other)?);
        }
        while let Some(message) = self.unsent.first_mut() {
            match self.control.send(message, &[]) {
                Ok(()) => {
                    // It may hold a password.
                    message.fill(0);
                    self.unsent.remove(0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let app = &self.app;
        self.lines.retain_mut(|line| {
            line.terminal.show(app);
            drain(line)
        });
        Ok(())
    }

    /// Which of control channel and terminals can be read.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let due = self
            .lines
            .iter()
            .filter_map(|line| line.terminal.due())
            .chain(self.app.due())
            .min();
        let timeout = match due {
            None => PollTimeout::NONE,
            Some(due) => PollTimeout::try_from(due.saturating_sub(self.now()).min(60_000))
                .unwrap_or(PollTimeout::MAX),
        };
        let mut flags = PollFlags::POLLIN;
        if !self.unsent.is_empty() {
            flags |= PollFlags::POLLOUT;
        }
        let mut polled = vec![PollFd::new(self.control.as_fd(), flags)];
        polled.extend(self.lines.iter().map(|line| {
            let waits = !line.terminal.output().is_empty();
            PollFd::new(
                line.fd.as_fd(),
                if waits {
                    PollFlags::POLLIN | PollFlags::POLLOUT
                } else {
                    PollFlags::POLLIN
                },
            )
        }));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        Ok(polled
            .iter()
            .map(|fd| {
                fd.revents()
                    .is_some_and(|events| events.intersects(readable))
            })
            .collect())
    }

    fn take_control(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let received = match self.control.recv(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "message from init dropped");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..received.length).unwrap_or_default();
            match decode::<ToChild>(bytes) {
                Ok(message) => self.message(message, received.descriptors),
                Err(error) => tracing::warn!(%error, "message from init not understood"),
            }
            if self.stop {
                return Ok(());
            }
        }
    }

    fn message(&mut self, message: ToChild, descriptors: Vec<OwnedFd>) {
        self.app.tick(self.now());
        match message {
            ToChild::File { name } => {
                if let (Some(fd), true) =
                    (descriptors.into_iter().next(), name.starts_with("console:"))
                {
                    self.add_terminal(name, fd);
                }
            }
            ToChild::Configuration { revision, document } => {
                self.app.configuration(revision, &document)
            }
            ToChild::Answer { id, result } => self.app.answer(id, result),
            ToChild::Status { lines } => self.app.status(lines),
            ToChild::LogIn { id, result } => self.app.logged_in(id, result),
            ToChild::Trial(trial) => self.app.trial(trial),
            ToChild::NetworkTested { id, cables, probes } => {
                self.app.tested(id, cables, probes);
            }
            ToChild::Stop => self.stop = true,
            ToChild::Peer { .. }
            | ToChild::Secret { .. }
            | ToChild::Link { .. }
            | ToChild::NetworkTest { .. }
            | ToChild::Gone { .. } => {
                tracing::warn!("message from init that is not for the console");
            }
        }
    }

    fn add_terminal(&mut self, name: String, fd: OwnedFd) {
        if let Err(error) = prepare(&fd) {
            tracing::warn!(terminal = name, %error, "terminal cannot be used");
            return;
        }
        self.lines.retain(|line| line.name != name);
        if self.lines.len() < MAX_TERMINALS {
            let terminal = Terminal::new(self.now());
            self.lines.push(Line { name, fd, terminal });
        }
    }

    fn take_terminals(&mut self, ready: Vec<bool>) {
        let now = self.now();
        let app = &mut self.app;
        app.tick(now);
        let mut ready = ready.into_iter();
        self.lines.retain_mut(|line| {
            if ready.next() != Some(true) {
                return true;
            }
            let mut bytes = [0; 512];
            match read(&line.fd, &mut bytes) {
                Ok(0) => gone(line, "hung up"),
                Ok(octets) => {
                    for key in line
                        .terminal
                        .input(bytes.get(..octets).unwrap_or_default(), now)
                    {
                        app.key(key);
                    }
                    bytes.fill(0);
                    true
                }
                Err(Errno::EAGAIN | Errno::EINTR) => true,
                Err(errno) => gone(line, errno.desc()),
            }
        });
    }

    fn tick(&mut self) {
        let now = self.now();
        self.app.tick(now);
        for line in &mut self.lines {
            if let Some(key) = line.terminal.tick(now) {
                self.app.key(key);
            }
        }
    }
}

/// Raw: every key arrives as it is pressed, Ctrl-C too, nothing is echoed. Nonblocking it is already, by the one who opened it.
fn prepare(fd: &OwnedFd) -> io::Result<()> {
    let mut settings = tcgetattr(fd)?;
    cfmakeraw(&mut settings);
    tcsetattr(fd, SetArg::TCSANOW, &settings)?;
    Ok(())
}

/// Writes what fits; false if the terminal is gone.
fn drain(line: &mut Line) -> bool {
    while !line.terminal.output().is_empty() {
        match write(&line.fd, line.terminal.output()) {
            Ok(octets) => line.terminal.written(octets),
            Err(Errno::EAGAIN) => return true,
            Err(Errno::EINTR) => {}
            Err(errno) => return gone(line, errno.desc()),
        }
    }
    true
}

fn gone(line: &Line, why: &str) -> bool {
    tracing::warn!(terminal = line.name, why, "terminal is gone");
    false
}
