//! The supervisor: starts the processes of the house in their order, gives each its channels, starts the dead again, and
//! answers what console, time and firewall ask. One event loop, no threads; one exists.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use appliance_config::{Document, Ipv4};
use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    control::{ChannelKind, FromChild, SecretBytes, ToChild},
    decode, encode,
    journal::{Record, Severity, ToJournal},
    status::{FromStatus, ToStatus},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use sandbox::channel::Channel;

use super::{
    child::Child,
    clock::{Correction, correction},
    commands::{Blinking, SelfTest},
    lease::Leases,
    links,
    logbook::Logbook,
    operator::Operator,
    options::Options,
    power::End,
    rtnetlink::Netlink,
    secrets::Prepared,
    slot::Slot,
    status,
    trial::OnTrial,
    wiring::EDGES,
};
use crate::dhcp::lease::Lease;

/// Time for an orderly stop of all processes.
pub(super) const STOP_TIME: Duration = Duration::from_secs(3);

/// The configuration in force, or about to be.
pub struct Running {
    /// Counts commits.
    pub revision: u64,
    /// Checked.
    pub document: Document,
    /// Canonical text, as the children get it.
    pub text: String,
    /// What the keyholder gets.
    pub secrets: Vec<(String, SecretBytes)>,
}

/// A proposal that waits for the firewall's word.
pub struct Pending {
    /// Who asked.
    pub role: Role,
    /// Pairs the answer.
    pub id: RequestId,
    /// Revision that was sent to the firewall.
    pub revision: u64,
    /// What to go back to.
    pub before: Option<Running>,
    /// What the asker is told if it works.
    pub answer: String,
    /// Secrets that are stored when it is kept; `None`: it is stored already.
    pub unstored: Option<Vec<(String, SecretBytes)>>,
}

/// See the module.
pub struct House {
    /// How init was started.
    pub options: Options,
    /// All places.
    pub slots: Vec<Slot>,
    /// Links and addresses.
    pub netlink: Netlink,
    /// Addresses that were lent.
    pub(super) leases: Leases,
    /// Log lines.
    pub logbook: Logbook,
    /// The configuration.
    pub running: Option<Running>,
    /// The proposal under way.
    pub pending: Option<Pending>,
    /// What a person should know: broken files, missing cards.
    pub complaints: Vec<String>,
    /// The journal's directory.
    pub journal_directory: PathBuf,
    /// The closed ruleset stands.
    pub closed: bool,
    /// Revision whose ruleset stands.
    pub committed: Option<u64>,
    /// Everything wanted serves.
    pub ready: bool,
    /// Init is to end.
    pub end: Option<End>,
    /// The clock was set from outside since the start.
    pub clock_set: bool,
    /// Live calls and bans, as management last counted them.
    pub figures: Option<(u64, u64)>,
    /// The self-test under way.
    pub self_test: Option<SelfTest>,
    /// The network test under way, and how long it may take.
    pub network_test: Option<(RequestId, Instant)>,
    /// The card that is to blink.
    pub(super) blinking: Option<Blinking>,
    /// Who is at the console.
    pub operator: Operator,
    /// The configuration on trial.
    pub(super) trial: Option<OnTrial>,
    /// The certificate of a configuration that is not confirmed yet.
    pub(super) prepared: Option<Prepared>,
    /// Where passwords are verified.
    pub(super) keyholder: Option<Channel>,
    journal: Option<Channel>,
    management: Option<Channel>,
    unsent: Vec<Vec<u8>>,
    links_dirty: bool,
}

/// Records kept while the journal is not there.
const UNSENT: usize = 256;

impl House {
    /// With nothing running.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn new(options: Options, journal_directory: PathBuf) -> io::Result<Self> {
        let logbook = Logbook::open(options.lab.is_some());
        let slots = Role::ALL
            .into_iter()
            .filter(|role| *role != Role::Init)
            .map(Slot::new)
            .collect();
        Ok(Self {
            options,
            slots,
            netlink: Netlink::open()?,
            leases: Leases::default(),
            logbook,
            running: None,
            pending: None,
            complaints: Vec::new(),
            journal_directory,
            closed: false,
            committed: None,
            ready: false,
            end: None,
            clock_set: false,
            figures: None,
            self_test: None,
            network_test: None,
            blinking: None,
            operator: Operator::default(),
            trial: None,
            prepared: None,
            keyholder: None,
            journal: None,
            management: None,
            unsent: Vec::new(),
            links_dirty: false,
        })
    }

    /// A line of init's own.
    pub fn say(&mut self, line: &str) {
        self.logbook.write("init", line);
    }

    /// A record in the journal; kept, within bounds, while the journal is not there.
    pub fn record(&mut self, severity: Severity, code: &str, fields: &[(&str, &str)]) {
        let fields = fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let record = Record::Event {
            severity,
            code: code.into(),
            fields,
        };
        if let Ok(bytes) = encode(&ToJournal::Append(record)) {
            self.unsent.push(bytes);
        }
        let excess = self.unsent.len().saturating_sub(UNSENT);
        self.unsent.drain(..excess);
        self.flush_records();
    }

    fn flush_records(&mut self) {
        let Some(journal) = &self.journal else { return };
        let sent = self
            .unsent
            .iter()
            .take_while(|bytes| journal.send(bytes, &[]).is_ok())
            .count();
        self.unsent.drain(..sent);
    }

    fn slot(&mut self, role: Role) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.role == role)
    }

    fn child(&self, role: Role) -> Option<&Child> {
        self.slots
            .iter()
            .find(|slot| slot.role == role)?
            .child
            .as_ref()
    }

    /// Says which processes are to run as far as things have come: the firewall always; the others when rules stand; the
    /// console on the appliance from the start, because a person must be able to set the box up.
    pub fn want(&mut self) {
        let committed = self.committed.is_some();
        let appliance = self.options.lab.is_none();
        let asks = self.running.as_ref().is_some_and(|running| {
            let mut zones = running.document.zones.iter();
            zones.any(|zone| zone.ipv4 == Some(Ipv4::Dhcp))
        });
        for slot in &mut self.slots {
            slot.wanted = match slot.role {
                Role::Init => false,
                Role::Firewall | Role::Journal | Role::Keyholder => true,
                Role::Console => appliance,
                Role::Sbc | Role::Time | Role::Management => committed || slot.wanted,
                // Once started it stays, idle when no zone needs it any more.
                Role::Dhcp => asks && committed || slot.wanted,
            };
        }
    }

    /// Starts what is wanted, not running and due.
    pub fn start_due(&mut self, now: Instant) {
        let due: Vec<Role> = self
            .slots
            .iter()
            .filter(|slot| slot.due(now).is_some_and(|due| due <= now))
            .map(|slot| slot.role)
            .collect();
        for role in due {
            self.start(role, now);
        }
    }

    fn start(&mut self, role: Role, now: Instant) {
        let directory = (role == Role::Journal).then(|| self.journal_directory.clone());
        match Child::start(role, &self.options.executables, directory.as_deref()) {
            Ok(child) => {
                self.say(&format!("{role} started, pid {}", child.pid));
                if let Some(slot) = self.slot(role) {
                    slot.child = Some(child);
                }
                self.wire(role);
                self.brief(role);
            }
            Err(error) => {
                self.say(&format!("{role} not started: {error}"));
                if let Some(slot) = self.slot(role) {
                    slot.ended(now);
                }
            }
        }
    }

    /// Gives a new process its channels, and its neighbours theirs.
    fn wire(&mut self, role: Role) {
        for edge in EDGES {
            let Some(other) = edge.other(role) else {
                continue;
            };
            if other != Role::Init && self.child(other).is_none() {
                continue;
            }
            let (near, far) = match Channel::pair() {
                Ok(pair) => pair,
                Err(error) => {
                    self.say(&format!("no channel between {role} and {other}: {error}"));
                    continue;
                }
            };
            self.hand_over(role, other, edge.kind, near);
            if other == Role::Init {
                match edge.kind {
                    ChannelKind::Journal => self.journal = Some(far),
                    ChannelKind::Keyholder => self.keyholder = Some(far),
                    _ => self.management = Some(far),
                }
            } else {
                self.hand_over(other, role, edge.kind, far);
            }
        }
    }

    fn hand_over(&mut self, to: Role, peer: Role, channel: ChannelKind, end: Channel) {
        let fd = end.into();
        self.tell(
            to,
            &ToChild::Peer {
                role: peer,
                channel,
            },
            Some(&fd),
        );
    }

    /// Tells a process what it needs to know from the start.
    fn brief(&mut self, role: Role) {
        match role {
            Role::Keyholder => {
                let secrets = self
                    .running
                    .as_ref()
                    .map(|running| running.secrets.clone())
                    .unwrap_or_default();
                for (name, value) in secrets {
                    self.tell(role, &ToChild::Secret { name, value }, None);
                }
                self.tell_configuration(role);
            }
            // The firewall gets it when its closed ruleset stands.
            Role::Management | Role::Time | Role::Dhcp | Role::Console => {
                self.tell_configuration(role)
            }
            Role::Journal => self.flush_records(),
            Role::Init | Role::Firewall | Role::Sbc => {}
        }
        if role == Role::Dhcp {
            self.apply_links();
        }
        if role == Role::Console {
            self.hand_over_terminals();
            self.tell_trial(Instant::now());
        }
    }

    fn hand_over_terminals(&mut self) {
        let _ = std::fs::write("/proc/sys/kernel/printk", "1 4 1 7");
        for name in ["ttyS0", "tty1"] {
            match super::open_terminal(name) {
                Ok(fd) => self.tell(
                    Role::Console,
                    &ToChild::File {
                        name: format!("console:{name}"),
                    },
                    Some(&fd),
                ),
                Err(error) => self.say(&format!("terminal {name}: {error}")),
            }
        }
        self.logbook.leave_screen();
    }

    fn tell_configuration(&mut self, role: Role) {
        let (revision, document) = self.running.as_ref().map_or((0, String::new()), |running| {
            (running.revision, running.text.clone())
        });
        self.tell(role, &ToChild::Configuration { revision, document }, None);
    }

    /// Tells a process something; one that does not read is killed, and started again by its death.
    pub fn tell(
        &mut self,
        role: Role,
        message: &ToChild,
        descriptor: Option<&std::os::fd::OwnedFd>,
    ) {
        let Some(child) = self.child(role) else {
            return;
        };
        let pid = child.pid;
        if let Err(error) = child.tell(message, descriptor) {
            self.say(&format!("{role} does not listen ({error}): killed"));
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Reaps every process that ended.
    pub fn reap(&mut self, now: Instant) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, code) => (pid, format!("exit code {code}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("signal {signal}")),
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            let found = self.slots.iter_mut().find(|slot| {
                slot.child
                    .as_ref()
                    .is_some_and(|child| child.pid == pid.as_raw())
            });
            let Some(slot) = found else { continue };
            let role = slot.role;
            let last_words = slot
                .child
                .as_mut()
                .map(|child| child.log_lines(now))
                .unwrap_or_default();
            slot.ended(now);
            for line in last_words {
                self.logbook.write(role.name(), &line);
            }
            self.say(&format!("{role} ended: {how}"));
            if self.end.is_none() {
                self.record(
                    Severity::Error,
                    "process-ended",
                    &[("process", role.name()), ("how", &how)],
                );
            }
            self.after_death(role);
        }
    }

    fn after_death(&mut self, role: Role) {
        self.ready = false;
        match role {
            Role::Firewall => {
                // The kernel keeps the rules; a new daemon begins with the closed ruleset and commits again.
                self.closed = false;
                self.committed = None;
            }
            Role::Journal => self.journal = None,
            Role::Keyholder => self.keyholder = None,
            // Whoever was logged in sits before a new console.
            Role::Console => self.operator.leave(),
            Role::Management => {
                self.management = None;
                self.figures = None;
            }
            _ => {}
        }
        if role != Role::Firewall && self.child(Role::Firewall).is_some() {
            self.tell(Role::Firewall, &ToChild::Gone { role }, None);
        }
    }

    /// Reads what a child wrote to its log pipe.
    pub fn read_log(&mut self, role: Role, now: Instant) {
        let lines = self
            .slot(role)
            .and_then(|slot| slot.child.as_mut())
            .map(|child| child.log_lines(now));
        for line in lines.unwrap_or_default() {
            self.logbook.write(role.name(), &line);
        }
    }

    /// Reads what a child says by its control channel. Bounded per round.
    pub fn read_control(&mut self, role: Role, now: Instant) {
        let mut buffer = vec![0; MAX_MESSAGE];
        for _ in 0..16 {
            let Some(child) = self.child(role) else {
                return;
            };
            let received = match child.control.recv(&mut buffer) {
                Ok(received) => received,
                // A process that closed its control channel is ending; its death is reaped.
                Err(_) => return,
            };
            match decode::<FromChild>(buffer.get(..received.length).unwrap_or_default()) {
                Ok(message) => self.heard(role, message, now),
                Err(error) => self.say(&format!("{role}: control message refused: {error}")),
            }
        }
    }

    /// Whether a child closed its control channel although it runs (its descriptor would wake the loop for ever).
    pub fn heard_hang_up(&mut self, role: Role) {
        if let Some(child) = self.child(role) {
            let _ = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
        }
    }

    fn heard(&mut self, role: Role, message: FromChild, now: Instant) {
        match (role, message) {
            (_, FromChild::Ready) => {
                if let Some(child) = self.slot(role).and_then(|slot| slot.child.as_mut()) {
                    child.ready = true;
                }
            }
            (Role::Firewall, FromChild::Closed) => {
                self.closed = true;
                self.record(Severity::Notice, "ruleset-closed", &[]);
                self.say("closed ruleset stands");
                self.bring_up();
            }
            (Role::Firewall, FromChild::Committed { revision }) => {
                self.firewall_committed(revision)
            }
            (Role::Firewall, FromChild::CommitFailed { revision, reason }) => {
                self.firewall_refused(revision, &reason)
            }
            (Role::Firewall, FromChild::Silent { role }) => {
                self.say(&format!("{role} is silent: killed"));
                self.record(
                    Severity::Alert,
                    "process-silent",
                    &[("process", role.name())],
                );
                if let Some(child) = self.child(role) {
                    let _ = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
                }
            }
            (
                Role::Console | Role::Management,
                FromChild::Propose {
                    id,
                    document,
                    secrets,
                },
            ) => {
                if role != Role::Console || self.console_may(None) {
                    self.propose(role, id, &document, secrets);
                } else {
                    self.refuse_console(id, "configuration");
                }
            }
            (Role::Console, FromChild::Command { id, command }) => {
                if self.console_may(Some(command)) {
                    self.command(id, command, now);
                } else {
                    self.refuse_console(id, &format!("{command:?}"));
                }
            }
            (Role::Management, FromChild::Figures { calls, bans }) => {
                self.figures = Some((calls, bans));
            }
            (Role::Console, FromChild::LogIn { id, password }) => self.log_in(id, password, now),
            (Role::Console, FromChild::Prepare { id, document }) => self.prepare(id, &document),
            (Role::Firewall, FromChild::NetworkTested { id, probes }) => {
                self.network_tested(id, probes);
            }
            (
                Role::Time,
                FromChild::ClockOffset {
                    nanoseconds,
                    server,
                },
            ) => self.correct_clock(nanoseconds, &server.to_string()),
            (
                Role::Dhcp,
                FromChild::Lease {
                    zone,
                    address,
                    prefix,
                    gateway,
                    seconds,
                },
            ) => {
                let lease = Lease {
                    address,
                    prefix,
                    gateway,
                    seconds,
                };
                self.leased(&zone, lease, now);
            }
            (Role::Dhcp, FromChild::LeaseLost { zone }) => self.lease_lost(&zone),
            (role, message) => {
                let kind = format!("{message:?}");
                let kind = kind
                    .split([' ', '(', '{'])
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                self.say(&format!("{role} may not say {kind}"));
                self.record(
                    Severity::Alert,
                    "control-message-refused",
                    &[("process", role.name()), ("message", &kind)],
                );
            }
        }
    }

    /// Links and rules of the configuration; only behind the closed ruleset.
    pub fn bring_up(&mut self) {
        if !self.closed || self.running.is_none() {
            return;
        }
        self.apply_links();
        self.record(Severity::Notice, "links-up", &[]);
        self.tell_configuration(Role::Firewall);
    }

    /// Addresses and routes as configured; complaints are kept for the console.
    pub fn apply_links(&mut self) {
        // Whoever asks: no link goes up before the closed ruleset stands.
        if !self.closed {
            return;
        }
        self.prune_leases(Instant::now());
        let Some(running) = &self.running else { return };
        let complaints = match links::apply(&mut self.netlink, &running.document, &self.leases) {
            Ok(complaints) => complaints,
            Err(error) => vec![format!("network cards: {error}")],
        };
        for complaint in &complaints {
            if !self.complaints.contains(complaint) {
                self.say(&complaint.clone());
                self.record(
                    Severity::Error,
                    "link-not-configured",
                    &[("reason", &complaint.clone())],
                );
            }
        }
        self.complaints
            .retain(|complaint| !complaint.starts_with("zone ") && !complaint.starts_with("card "));
        self.complaints.extend(complaints);
        self.tell_links();
    }

    /// A link came, went or changed.
    pub fn links_changed(&mut self) {
        self.links_dirty = true;
    }

    /// Once a round: what changed since.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.links_dirty) && self.closed {
            self.apply_links();
        }
        self.want();
        let serving = self
            .slots
            .iter()
            .filter(|slot| slot.wanted)
            .all(|slot| slot.child.as_ref().is_some_and(|child| child.ready));
        let ready = serving && self.committed.is_some();
        if ready && !self.ready {
            self.ready = true;
            let revision = self.committed.unwrap_or_default().to_string();
            self.say(&format!(
                "Gatehouse ready, configuration revision {revision}"
            ));
            self.record(Severity::Notice, "ready", &[("revision", &revision)]);
        }
    }

    /// Looks at what management asks.
    pub fn answer_management(&mut self) {
        let mut buffer = vec![0; MAX_MESSAGE];
        for _ in 0..16 {
            let Some(channel) = &self.management else {
                return;
            };
            let question = match channel.recv(&mut buffer) {
                Ok(received) => {
                    decode::<ToStatus>(buffer.get(..received.length).unwrap_or_default())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.management = None;
                    return;
                }
            };
            let answer = match question {
                Ok(ToStatus::Processes { id }) => FromStatus::Processes {
                    id,
                    processes: status::processes(&self.slots),
                },
                Ok(
                    ToStatus::Calls { id, .. }
                    | ToStatus::Ladder { id, .. }
                    | ToStatus::Counters { id }
                    | ToStatus::Bans { id, .. }
                    | ToStatus::Unban { id, .. }
                    | ToStatus::Drops { id }
                    | ToStatus::Reset { id },
                ) => FromStatus::Refused { id },
                Err(_) => continue,
            };
            if let Ok(bytes) = encode(&answer) {
                let _ = channel.send(&bytes, &[]);
            }
        }
    }

    /// The channel that management's questions come by.
    pub fn management_channel(&self) -> Option<&Channel> {
        self.management.as_ref()
    }

    fn correct_clock(&mut self, offset_ns: i64, server: &str) {
        let decision = correction(offset_ns, !self.clock_set);
        let offset_ms = (offset_ns / 1_000_000).to_string();
        let result = match decision {
            Correction::None => Ok(()),
            Correction::Step(offset) => sandbox::clock::step(offset),
            Correction::Slew(offset) => sandbox::clock::slew(offset),
            Correction::Refuse => Err(io::Error::other("the offset is too large to believe")),
        };
        self.clock_set |= result.is_ok();
        match (decision, result) {
            (Correction::None, _) => {}
            (_, Ok(())) => {
                self.record(
                    Severity::Notice,
                    "clock-corrected",
                    &[("offset_ms", &offset_ms), ("server", server)],
                );
            }
            (_, Err(error)) => {
                let reason = error.to_string();
                self.record(
                    Severity::Warning,
                    "clock-not-corrected",
                    &[
                        ("offset_ms", &offset_ms),
                        ("server", server),
                        ("reason", &reason),
                    ],
                );
            }
        }
    }

    /// Asks every process to stop.
    pub fn stop_all(&mut self) {
        for role in Role::ALL.into_iter().rev() {
            if let Some(slot) = self.slot(role) {
                slot.wanted = false;
            }
            // The journal and the firewall go last, so that what the others say is kept and nothing opens meanwhile.
            if !matches!(role, Role::Journal | Role::Firewall) {
                self.tell(role, &ToChild::Stop, None);
            }
        }
    }

    /// Asks journal and firewall to stop.
    pub fn stop_last(&mut self) {
        self.record(Severity::Notice, "stopping", &[]);
        for role in [Role::Journal, Role::Firewall] {
            self.tell(role, &ToChild::Stop, None);
        }
    }

    /// Whether one of `roles` still runs.
    pub fn runs(&self, mut roles: impl FnMut(Role) -> bool) -> bool {
        self.slots
            .iter()
            .any(|slot| roles(slot.role) && slot.child.is_some())
    }

    /// Ends what did not stop by itself.
    pub fn kill_all(&mut self) {
        for slot in &self.slots {
            if let Some(child) = &slot.child {
                let _ = kill(Pid::from_raw(child.pid), Signal::SIGKILL);
            }
        }
    }
}
