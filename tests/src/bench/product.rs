//! The real sbc program, in its real sandbox, with a firewall, an init and a journal that the bench plays.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, Role,
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
    settings::Settings,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::{Channel, Child, Launch, Profile, launch};

use super::firewall;

const PATIENCE: Duration = Duration::from_secs(10);

/// The running program.
pub struct Product {
    child: Child,
    control: Channel,
}

impl Product {
    /// Starts it and waits until it serves. The binary stands beside this one, or in `$GH_BIN`.
    ///
    /// # Errors
    /// When it does not start or does not get ready; needs root, as init does.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let path = folder()?.join("gatehouse-sbc");
        let program = File::open(&path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let profile = Profile::for_role(Role::Sbc.name()).ok_or(io::ErrorKind::NotFound)?;
        let (control, child_end) = Channel::pair()?;
        let (log, log_end) = nix::unistd::pipe()?;
        let child = launch(Launch {
            program: program.as_fd(),
            name: Role::Sbc.name(),
            profile: &profile,
            control: child_end.into(),
            stderr: log_end,
            directory: None,
        })?;
        pass_on(log);
        let product = Self { child, control };
        firewall::serve(product.peer(Role::Firewall, ChannelKind::Broker)?, settings);
        swallow(product.peer(Role::Journal, ChannelKind::Journal)?);
        product.wait_until_ready()?;
        Ok(product)
    }

    /// Its process number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.child.pid
    }

    /// A channel to it, as init hands it over.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peer(&self, role: Role, channel: ChannelKind) -> io::Result<Channel> {
        let (near, far) = Channel::pair()?;
        let message = encode(&ToChild::Peer { role, channel }).map_err(io::Error::other)?;
        self.control.send(&message, &[near.as_fd()])?;
        Ok(far)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut channel = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
            poll(&mut channel, PollTimeout::from(100_u16))?;
            match self.control.recv(&mut buffer) {
                Ok(received) => {
                    let bytes = buffer.get(..received.length).unwrap_or_default();
                    if decode(bytes) == Ok(FromChild::Ready) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        sandbox::process::kill(&self.child.pidfd);
        // It was killed: there is nothing to learn from how it ended.
        let _ = sandbox::process::wait(self.child.pid);
    }
}

fn folder() -> io::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("GH_BIN") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    own.parent()
        .map(PathBuf::from)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Its log lines go to our standard error.
fn pass_on(log: OwnedFd) {
    thread::spawn(move || {
        // Nothing depends on the log.
        let _ = io::copy(&mut File::from(log), &mut io::stderr());
    });
}

/// Reads what the journal would keep.
fn swallow(channel: Channel) {
    thread::spawn(move || {
        let mut channel = File::from(OwnedFd::from(channel));
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let mut waiting = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, PollTimeout::NONE).is_err() {
                return;
            }
            match channel.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    });
}
