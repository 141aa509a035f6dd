//! Between init and each of its children, over descriptor 3 of the child. Init makes every socket pair of the house and
//! hands each end over as [`ToChild::Peer`]; when a process is started again, its neighbours get new ends the same way.

use serde::{Deserialize, Serialize};

use crate::{
    Role,
    network_test::{Cable, Probe},
};

/// From init to a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// One descriptor: the socket pair's end that leads to `role`'s process (for broker, journal, keyholder and status
    /// messages the pair of roles says which enum is spoken). Replaces an earlier one.
    Peer {
        /// Who is at the other end.
        role: Role,
        /// Which of the channels of that pair.
        channel: ChannelKind,
    },
    /// One descriptor: a file opened by init for the child (the journal's directory, the console's terminal).
    File {
        /// What it is.
        name: String,
    },
    /// The checked configuration document in canonical form and its revision: to firewall, management, time, dhcp, console.
    Configuration {
        /// Counts commits.
        revision: u64,
        /// Canonical TOML, checked by init. Empty: none yet, stay closed.
        document: String,
    },
    /// A secret or key for the keyholder; to no one else.
    Secret {
        /// Its name.
        name: String,
        /// Its bytes (PEM of a private key, or a password).
        value: SecretBytes,
    },
    /// Answer to the child's [`FromChild::Propose`] or [`FromChild::Command`].
    Answer {
        /// Of the request.
        id: crate::RequestId,
        /// `Err`: lines that a person reads.
        result: Result<String, Vec<String>>,
    },
    /// To the console: lines for the status page, at most once a second and on change.
    Status {
        /// Human-readable `key` and `value` pairs, in order.
        lines: Vec<(String, String)>,
    },
    /// To dhcp: the link of a zone that takes its address from the network; at start and whenever links change.
    Link {
        /// The zone's name.
        zone: String,
        /// Hardware address.
        mac: [u8; 6],
        /// The cable carries.
        carrier: bool,
        /// The address that was lent to the zone last, over restarts too.
        remembered: Option<core::net::Ipv4Addr>,
    },
    /// To the firewall: send echo requests to the configured hosts; it answers with [`FromChild::NetworkTested`].
    NetworkTest {
        /// Pairs the answer.
        id: crate::RequestId,
    },
    /// To the console: what came of [`Command::NetworkTest`].
    NetworkTested {
        /// Of the request.
        id: crate::RequestId,
        /// Zones and their cables.
        cables: Vec<(String, Cable)>,
        /// One for each host.
        probes: Vec<Probe>,
    },
    /// To the console: answer to [`FromChild::LogIn`].
    LogIn {
        /// Of the request.
        id: crate::RequestId,
        /// What came of it.
        result: LogIn,
    },
    /// To the console: a configuration is on trial, or no longer; at its start, and again when the console is new.
    Trial(Trial),
    /// To the firewall: the sbc's process is gone or was started again (its broker socket says so too).
    Gone {
        /// Who.
        role: Role,
    },
    /// Finish in an orderly way and exit.
    Stop,
}

/// Kinds of channel between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChannelKind {
    /// `broker::{ToBroker, FromBroker}`; the other end is the firewall (for the firewall: the asker).
    Broker,
    /// `journal::{ToJournal, FromJournal}`.
    Journal,
    /// `keyholder::{ToKeyholder, FromKeyholder}`.
    Keyholder,
    /// `status::{ToStatus, FromStatus}`: management asks sbc, firewall or init.
    Status,
}

/// From a child to init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// Sealed and serving. Until then the process counts as starting.
    Ready,
    /// From the firewall: the closed ruleset stands, links may go up.
    Closed,
    /// From the firewall: the ruleset of this revision stands.
    Committed {
        /// Which.
        revision: u64,
    },
    /// From the firewall: a document was refused; the running ruleset stays.
    CommitFailed {
        /// Which.
        revision: u64,
        /// Why, for a person.
        reason: String,
    },
    /// From the firewall: this process is silent; kill it and start it again.
    Silent {
        /// Who.
        role: Role,
    },
    /// From console or management: check, store and apply this document.
    Propose {
        /// Pairs the answer.
        id: crate::RequestId,
        /// TOML.
        document: String,
        /// Passwords and the like to be stored in the keyholder, by name.
        secrets: Vec<(String, SecretBytes)>,
    },
    /// From console (all) and management (none but `Reset`): something to be done.
    Command {
        /// Pairs the answer.
        id: crate::RequestId,
        /// What.
        command: Command,
    },
    /// From console: an operator's password, for what needs one.
    LogIn {
        /// Pairs the answer.
        id: crate::RequestId,
        /// As typed.
        password: SecretBytes,
    },
    /// From console, before the first set-up is confirmed: make key and certificate for this document. The answer is the
    /// certificate's fingerprint; nothing is stored before a proposal that fits.
    Prepare {
        /// Pairs the answer.
        id: crate::RequestId,
        /// TOML.
        document: String,
    },
    /// From the firewall: answer to [`ToChild::NetworkTest`]. At most 128.
    NetworkTested {
        /// Of the request.
        id: crate::RequestId,
        /// One for each host.
        probes: Vec<Probe>,
    },
    /// From dhcp: a server lent an address, or more time for it; init checks it again and sets it.
    Lease {
        /// The zone's name.
        zone: String,
        /// The address.
        address: core::net::Ipv4Addr,
        /// Length of its network's prefix.
        prefix: u8,
        /// Next hop of the default route.
        gateway: Option<core::net::Ipv4Addr>,
        /// Seconds from now until it is the box's no longer.
        seconds: u32,
    },
    /// From dhcp: the address is the box's no longer.
    LeaseLost {
        /// The zone's name.
        zone: String,
    },
    /// From management: figures for the console's status page, once a second or so.
    Figures {
        /// Live calls.
        calls: u64,
        /// Bans in force.
        bans: u64,
    },
    /// From time: the clock is off by this much; init decides whether to step or slew.
    ClockOffset {
        /// Server minus own clock, in ns.
        nanoseconds: i64,
        /// The server, for the record.
        server: core::net::SocketAddr,
    },
}

/// What the console may ask of init.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Power off.
    PowerOff,
    /// Restart the machine.
    Reboot,
    /// Erase configuration, secrets and records, then restart.
    FactoryReset,
    /// Run the escape suite; the answer is its report.
    SelfTest,
    /// Have a port blink: index in the order of [`Self::Ports`]. The answer is [`BLINKS`], or that of [`Self::Ports`] where
    /// the card cannot.
    Identify(u32),
    /// List the network ports: the answer has one line each, `name mac driver link`.
    Ports,
    /// Send echo requests to gateways, DNS, NTP, PBX and trunks; answered by [`ToChild::NetworkTested`].
    NetworkTest,
    /// The operator leaves.
    LogOut,
    /// Keep the configuration that is on trial.
    Keep,
    /// Go back from the configuration that is on trial to the one before it.
    GoBack,
}

/// Answer to [`Command::Identify`] of a port that blinks.
pub const BLINKS: &str = "blinks";

/// What came of a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogIn {
    /// The console may ask for everything, until it logs out or ends.
    Opened,
    /// Not the password. The next try counts only after so many seconds.
    Wrong {
        /// How many.
        wait_seconds: u32,
    },
    /// Too soon after a wrong one; not even looked at.
    TooSoon {
        /// Seconds to wait.
        wait_seconds: u32,
    },
    /// The keyholder does not answer just now.
    Unavailable,
}

/// A changed configuration is in force on trial until a person keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trial {
    /// It goes back by itself after so many seconds.
    Running {
        /// How many are left.
        seconds: u32,
    },
    /// It was kept, and is stored.
    Kept,
    /// The one before it is in force again.
    RolledBack(RollBack),
}

/// Why a trial ended in the old configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollBack {
    /// Nobody kept it in time.
    TimeUp,
    /// An operator wanted it so.
    Asked,
    /// The data partition did not take it.
    NotStored,
}

/// Bytes that never print and are wiped by their holder.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretBytes(pub Vec<u8>);

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&self.0);
    }
}
