//! The real sbc program, and the real keyholder, in their real sandboxes, with a firewall, an init and a journal that the
//! bench plays.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, Role,
    control::{ChannelKind, FromChild, SecretBytes, ToChild},
    decode, encode,
    settings::Settings,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::{Channel, Child, Launch, Profile, launch};

use super::firewall::{self, Accepting};

const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks of the journal at its channels.
const JOURNAL_PAUSE: Duration = Duration::from_millis(10);

/// A program of ours, sandboxed as init does it.
struct Process {
    child: Child,
    control: Channel,
}

impl Process {
    /// Starts it. The binary stands beside this one, or in `$GH_BIN`.
    fn start(role: Role) -> io::Result<Self> {
        let path = folder()?.join(format!("gatehouse-{}", role.name()));
        let program = File::open(&path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let profile = Profile::for_role(role.name()).ok_or(io::ErrorKind::NotFound)?;
        let (control, child_end) = Channel::pair()?;
        let (log, log_end) = nix::unistd::pipe()?;
        let child = launch(Launch {
            program: program.as_fd(),
            name: role.name(),
            profile: &profile,
            control: child_end.into(),
            stderr: log_end,
            directory: None,
        })?;
        pass_on(log);
        Ok(Self { child, control })
    }

    fn tell(&self, message: &ToChild, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = encode(message).map_err(io::Error::other)?;
        self.control.send(&message, descriptors)
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

impl Drop for Process {
    fn drop(&mut self) {
        sandbox::process::kill(&self.child.pidfd);
        // It was killed: there is nothing to learn from how it ended.
        let _ = sandbox::process::wait(self.child.pid);
    }
}

/// The running program.
pub struct Product {
    process: Process,
    accepting: Arc<Accepting>,
}

impl Product {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it does not start or does not get ready; needs root, as init does.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let product = Self {
            process: Process::start(Role::Sbc)?,
            accepting: Arc::default(),
        };
        let broker = product.peer(Role::Firewall, ChannelKind::Broker)?;
        firewall::serve(broker, settings, Arc::clone(&product.accepting));
        swallow(product.peer(Role::Journal, ChannelKind::Journal)?);
        product.process.wait_until_ready()?;
        Ok(product)
    }

    /// Its process number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.process.child.pid
    }

    /// Processor time that accepting its connections has taken, which the firewall does for it.
    #[must_use]
    pub fn accepting(&self) -> Duration {
        self.accepting.time()
    }

    /// A channel to it, as init hands it over.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peer(&self, role: Role, channel: ChannelKind) -> io::Result<Channel> {
        let (near, far) = Channel::pair()?;
        let message = ToChild::Peer { role, channel };
        self.process.tell(&message, &[near.as_fd()])?;
        Ok(far)
    }
}

/// The running keyholder.
pub struct Keyholder(Process);

impl Keyholder {
    /// Starts it with one secret, at the service of a product.
    ///
    /// # Errors
    /// As [`Product::start`].
    pub fn start(product: &Product, name: &str, pem: &str) -> io::Result<Self> {
        let process = Process::start(Role::Keyholder)?;
        process.wait_until_ready()?;
        let secret = ToChild::Secret {
            name: name.to_owned(),
            value: SecretBytes(pem.as_bytes().to_vec()),
        };
        process.tell(&secret, &[])?;
        let far = product.peer(Role::Keyholder, ChannelKind::Keyholder)?;
        let message = ToChild::Peer {
            role: Role::Sbc,
            channel: ChannelKind::Keyholder,
        };
        process.tell(&message, &[far.as_fd()])?;
        Ok(Self(process))
    }

    /// Its process number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.0.child.pid
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

/// Reads what the journal would keep, with the journal's pauses.
fn swallow(channel: Channel) {
    thread::spawn(move || {
        let mut channel = File::from(OwnedFd::from(channel));
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            match channel.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(JOURNAL_PAUSE);
                    let mut waiting = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut waiting, PollTimeout::NONE).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
}
