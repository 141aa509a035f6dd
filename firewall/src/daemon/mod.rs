//! The firewall's process: one loop over init's control channel, the askers' channels, listeners, and time. Called by
//! `gatehouse-firewall`, which init starts first of all.
//!
//! Order: the closed ruleset stands → `Closed` → documents come, are committed by a thread of their own → `Committed`.
//! Everything that an asker can cause is bounded per turn of the loop: messages per channel, connections per listener,
//! log entries. A channel whose reader does not read, or whose writer writes what is no message, is closed, which ends
//! everything that was lent through it, and init is asked to kill the process.
//!
//! | module | noun |
//! |---|---|
//! | [`commit`] | the thread that loads rulesets |
//! | [`drops`] | refused packets |
//! | [`network_test`] | echo requests to the configured hosts |
//! | [`post`] | answers that leave together |
//! | [`privilege`] | what is kept of root's rights |
//! | [`status`] | answers to management |
//! | [`watch`] | what the loop waits for |

pub mod commit;
mod drops;
pub mod network_test;
mod post;
pub mod privilege;
mod status;
mod watch;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, Packet, Role,
    broker::{MAX_REQUEST, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, decode_together, encode,
    journal::{Record, Severity, ToJournal},
};
use rand::TryRngCore;
use sandbox::channel::Channel;

use self::{
    commit::{Committer, Outcome, Ruleset},
    drops::Drops,
    network_test::{NetworkTest, TestZone},
    post::Post,
    watch::{Event, Source, Watch},
};
use crate::broker::{Broker, Interest, Output, Token, linux::Linux};

/// Messages that are taken from one channel at one turn of the loop.
const MESSAGES_PER_TURN: usize = 64;
/// Records that wait for the journal: at boot it starts after the firewall.
const MAX_WAITING_RECORDS: usize = 256;
/// Longest sleep: nothing depends on it, it only bounds the harm of a deadline that was forgotten.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The closed ruleset does not stand: no link may go up.
    #[error("the closed ruleset was refused: {0}")]
    NotClosed(String),
    /// The system refused something without which there is no firewall.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// The process.
#[derive(Debug)]
pub struct Daemon {
    control: Channel,
    watch: Watch,
    broker: Broker<Linux>,
    askers: BTreeMap<Role, Channel>,
    management: Option<Channel>,
    journal: Option<Channel>,
    records: VecDeque<Record>,
    records_lost: u64,
    drops: Drops,
    network_test: NetworkTest,
    test_zones: Vec<TestZone>,
    committer: Committer,
    buffer: Vec<u8>,
    stop: bool,
}

impl Daemon {
    /// Closes the firewall and gets ready to serve. `control` leads to init; `begin` runs first in the thread that commits.
    ///
    /// # Errors
    /// Whatever makes it impossible to be a firewall.
    pub fn start(
        control: Channel,
        mut ruleset: impl Ruleset,
        begin: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, DaemonError> {
        let now = Instant::now();
        ruleset.close().map_err(DaemonError::NotClosed)?;
        let kernel = Linux::open().map_err(because("open netlink"))?;
        let mut seed = [0; 32];
        rand::rngs::OsRng
            .try_fill_bytes(&mut seed)
            .map_err(|e| because("draw a seed")(io::Error::other(e)))?;
        let mut broker = Broker::new(kernel, now, seed);
        broker
            .forget_earlier_life()
            .map_err(because("flush pinholes of an earlier life"))?;
        if let Err(error) = broker.remember_bans(now) {
            tracing::warn!(%error, "bans of an earlier life hold, but are not listed");
        }
        let committer =
            Committer::start(ruleset, begin).map_err(because("start the committing thread"))?;
        let drops = Drops::open().map_err(because("open the counters"))?;
        let network_test = NetworkTest::new().map_err(because("make an event descriptor"))?;
        let watch = Watch::new().map_err(because("make an epoll instance"))?;
        let daemon = Self {
            control,
            watch,
            broker,
            askers: BTreeMap::new(),
            management: None,
            journal: None,
            records: VecDeque::new(),
            records_lost: 0,
            drops,
            network_test,
            test_zones: Vec::new(),
            committer,
            buffer: vec![0; MAX_MESSAGE],
            stop: false,
        };
        daemon
            .watch_own()
            .map_err(because("watch the control channel"))?;
        Ok(daemon)
    }

    /// Serves until init says `Stop` or is gone. Then every pinhole is closed; the ruleset stays.
    ///
    /// # Errors
    /// Only if waiting itself fails.
    pub fn run(mut self) -> Result<(), DaemonError> {
        self.tell_init(&FromChild::Closed);
        self.tell_init(&FromChild::Ready);
        let mut events = Vec::new();
        while !self.stop {
            let sleep = self.broker.deadline().map_or(LONGEST_SLEEP, |due| {
                due.saturating_duration_since(Instant::now())
                    .min(LONGEST_SLEEP)
            });
            self.watch
                .wait(sleep, &mut events)
                .map_err(because("wait"))?;
            // Whoever spoke before `now` is heard before anybody is called silent, however long this process itself was
            // kept from running: so look again after the clock was read.
            let now = Instant::now();
            self.watch
                .wait(Duration::ZERO, &mut events)
                .map_err(because("wait"))?;
            for event in core::mem::take(&mut events) {
                self.handle(now, event);
                self.drain(now);
            }
            self.broker.tick(now);
            self.drain(now);
        }
        let now = Instant::now();
        for role in core::mem::take(&mut self.askers).into_keys() {
            self.broker.detach(now, role);
        }
        self.drain(now);
        Ok(())
    }

    fn handle(&mut self, now: Instant, event: Event) {
        match event.source {
            Source::Control => self.read_control(now),
            Source::Commit => {
                while let Some(outcome) = self.committer.take() {
                    self.committed(now, outcome);
                }
            }
            Source::NetworkTest => {
                while let Some((id, probes)) = self.network_test.take() {
                    self.tell_init(&FromChild::NetworkTested { id, probes });
                }
            }
            Source::Log => self.drops.read_log(),
            Source::Asker(role) => self.read_asker(now, role, event.hung_up),
            Source::Management => self.read_management(now),
            Source::Journal => self.read_journal(),
            Source::Broker(token) => self.broker.ready(now, Token(token)),
        }
    }

    fn watch_own(&self) -> io::Result<()> {
        self.watch.add(self.control.as_fd(), Source::Control)?;
        self.watch.add(self.committer.wake(), Source::Commit)?;
        self.watch
            .add(self.network_test.wake(), Source::NetworkTest)?;
        if let Some(log) = self.drops.log() {
            self.watch.add(log, Source::Log)?;
        }
        Ok(())
    }

    fn read_control(&mut self, now: Instant) {
        for _ in 0..MESSAGES_PER_TURN {
            let received = match self.control.recv(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "init sent what is no message");
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "init is gone");
                    self.stop = true;
                    return;
                }
            };
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            match decode::<ToChild>(bytes) {
                Ok(message) => self.obey(now, message, received.descriptors),
                Err(error) => tracing::error!(%error, "init sent what is no message"),
            }
        }
    }

    fn obey(&mut self, now: Instant, message: ToChild, mut descriptors: Vec<OwnedFd>) {
        match message {
            ToChild::Peer { role, channel } => match descriptors.pop() {
                Some(fd) => self.connect_peer(now, role, channel, Channel::from_fd(fd)),
                None => tracing::error!(%role, "a peer without its channel"),
            },
            ToChild::Configuration { revision, document } => {
                if document.is_empty() {
                    // No configuration: nothing may be granted even before the closed ruleset stands.
                    self.broker.close(now);
                }
                if let Err(reason) = self.committer.begin(revision, document) {
                    self.tell_init(&FromChild::CommitFailed { revision, reason });
                }
            }
            ToChild::Gone { role } => self.disconnect(now, role),
            ToChild::NetworkTest { id } => {
                if !self.network_test.begin(id, self.test_zones.clone()) {
                    tracing::warn!("a network test is under way already");
                }
            }
            ToChild::Stop => self.stop = true,
            ToChild::File { .. }
            | ToChild::NetworkTested { .. }
            | ToChild::LogIn { .. }
            | ToChild::Trial(_)
            | ToChild::Secret { .. }
            | ToChild::Answer { .. }
            | ToChild::Link { .. }
            | ToChild::Status { .. } => {
                tracing::warn!("init sent a message that is not for the firewall");
            }
        }
    }

    fn connect_peer(&mut self, now: Instant, role: Role, kind: ChannelKind, channel: Channel) {
        let source = match (kind, role) {
            (ChannelKind::Broker, _) => Source::Asker(role),
            (ChannelKind::Status, Role::Management) => Source::Management,
            (ChannelKind::Journal, Role::Journal) => Source::Journal,
            _ => {
                tracing::warn!(%role, ?kind, "a channel that the firewall does not serve");
                return;
            }
        };
        if source == Source::Asker(role) {
            self.disconnect(now, role);
        }
        if let Err(error) = self.watch.add(channel.as_fd(), source) {
            tracing::error!(%role, %error, "channel can not be watched");
            return;
        }
        match source {
            Source::Management => self.management = Some(channel),
            Source::Journal => {
                self.journal = Some(channel);
                self.send_records();
            }
            _ => {
                self.askers.insert(role, channel);
                self.broker.attach(now, role);
                self.drain(now);
            }
        }
    }

    /// Closes an asker's channel; the broker takes back what went through it.
    fn disconnect(&mut self, now: Instant, role: Role) {
        if self.askers.remove(&role).is_some() {
            self.broker.detach(now, role);
            self.drain(now);
        }
    }

    /// Closes the channel of an asker that misbehaves, and has it killed.
    fn condemn(&mut self, now: Instant, role: Role) {
        self.disconnect(now, role);
        self.tell_init(&FromChild::Silent { role });
    }

    fn read_asker(&mut self, now: Instant, role: Role, hung_up: bool) {
        // The event may be that of an earlier channel, which was replaced in this very turn.
        if hung_up && self.askers.get(&role).is_some_and(watch::is_hung_up) {
            // What it asked before it died is of no use to anybody: close first.
            return self.disconnect(now, role);
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(channel) = self.askers.get(&role) else {
                return;
            };
            let received = match channel.recv(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.broker.malformed(now, role, &error.to_string());
                    return self.condemn(now, role);
                }
                Err(_) => return self.disconnect(now, role),
            };
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            if bytes.len() > MAX_REQUEST {
                self.broker
                    .malformed(now, role, "a request of such a length");
                return self.condemn(now, role);
            }
            let requests = match decode_together::<ToBroker>(bytes) {
                Ok(requests) => requests,
                Err(error) => {
                    self.broker.malformed(now, role, &error.to_string());
                    return self.condemn(now, role);
                }
            };
            if received.descriptors.is_empty() {
                for request in &requests {
                    self.broker.request(now, role, request);
                }
            } else if let [request @ ToBroker::AdoptMedia { .. }] = &requests[..] {
                self.broker
                    .request_with(now, role, request, received.descriptors);
            } else {
                self.broker
                    .malformed(now, role, "descriptors beside a request");
                return self.condemn(now, role);
            }
            self.drain(now);
        }
        // It still has more to say: that may be too much, but it is no silence.
        self.broker.busy(now, role);
    }

    fn read_management(&mut self, now: Instant) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(channel) = &self.management else {
                return;
            };
            let received = match channel.recv(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.management = None;
                    return;
                }
            };
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            let Ok(request) = decode(bytes) else {
                tracing::warn!("management sent what is no message");
                self.management = None;
                return;
            };
            let answer = status::answer(now, request, &mut self.broker, &mut self.drops);
            let sent = encode(&answer)
                .map_err(io::Error::other)
                .and_then(|bytes| channel.send(&bytes, &[]));
            if let Err(error) = sent {
                tracing::warn!(%error, "no answer to management");
            }
        }
    }

    /// The journal does not answer appends; only its end is of interest.
    fn read_journal(&mut self) {
        let Some(channel) = &self.journal else { return };
        match channel.recv(&mut self.buffer) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.journal = None,
        }
    }

    fn committed(&mut self, now: Instant, outcome: Outcome) {
        let revision = outcome.revision;
        match outcome.result {
            Ok(committed) => {
                let (permissions, settings) = (committed.permissions, Box::new(committed.settings));
                self.test_zones = committed.test_zones;
                self.broker.commit(now, permissions, settings);
                tracing::info!(revision, "ruleset committed");
                self.tell_init(&FromChild::Committed { revision });
            }
            Err(reason) => {
                tracing::error!(revision, reason, "commit failed, the running ruleset stays");
                let fields = vec![
                    ("revision".to_owned(), revision.to_string()),
                    ("reason".to_owned(), reason.clone()),
                ];
                let code = "commit-failed".to_owned();
                self.record(Record::Event {
                    severity: Severity::Error,
                    code,
                    fields,
                });
                self.tell_init(&FromChild::CommitFailed { revision, reason });
            }
        }
    }

    /// Does what the broker wants done. Answers to the same process go out together.
    fn drain(&mut self, now: Instant) {
        let mut post = Post::default();
        while let Some(output) = self.broker.poll() {
            match output {
                Output::Send {
                    role,
                    message,
                    sockets,
                } => {
                    if let Some((message, sockets)) = post.put(role, message, sockets) {
                        self.deliver(now, std::mem::take(&mut post));
                        // An empty one takes whatever comes.
                        let _ = post.put(role, message, sockets);
                    }
                }
                Output::Watch {
                    token,
                    socket,
                    interest,
                } => {
                    let source = Source::Broker(token.0);
                    let watched = match interest {
                        Interest::Readable => self.watch.add(socket.as_fd(), source),
                        Interest::Writable => self.watch.add_writable(socket.as_fd(), source),
                    };
                    if let Err(error) = watched {
                        tracing::error!(%error, "socket can not be watched");
                    }
                }
                Output::Unwatch { socket } => self.watch.remove(socket.as_fd()),
                Output::Journal(record) => self.record(record),
                Output::Expel(role) => self.condemn(now, role),
                Output::Silent(role) => self.tell_init(&FromChild::Silent { role }),
            }
        }
        self.deliver(now, post);
    }

    fn deliver(&mut self, now: Instant, post: Post) {
        let Some(role) = post.role else { return };
        let accepted = post.is_accepted();
        let Err(error) = self.send(role, post) else {
            return;
        };
        self.broker.undelivered(role);
        // A connection that finds no reader is closed; anything else that can not be told is the end.
        let minor = accepted
            || error.kind() == io::ErrorKind::BrokenPipe
            || error.kind() == io::ErrorKind::NotConnected;
        if !minor {
            tracing::error!(%role, %error, "it does not read its answers");
            self.condemn(now, role);
        }
    }

    fn send(&self, role: Role, post: Post) -> io::Result<()> {
        let channel = self.askers.get(&role).ok_or(io::ErrorKind::NotConnected)?;
        let mut packet = Packet::default();
        for message in &post.messages {
            packet
                .push(message, MAX_MESSAGE)
                .map_err(io::Error::other)?;
        }
        let descriptors: Vec<_> = post.sockets.iter().map(|socket| socket.as_fd()).collect();
        channel.send(&packet.into_bytes(), &descriptors)
    }

    fn tell_init(&self, message: &FromChild) {
        let sent = encode(message)
            .map_err(io::Error::other)
            .and_then(|bytes| self.control.send(&bytes, &[]));
        if let Err(error) = sent {
            tracing::error!(%error, "init was not told");
        }
    }

    fn record(&mut self, record: Record) {
        if self.records.len() >= MAX_WAITING_RECORDS {
            self.records_lost += 1;
            return;
        }
        self.records.push_back(record);
        self.send_records();
    }

    /// Sends what waits for the journal, as far as it reads. The firewall never waits for it.
    fn send_records(&mut self) {
        let Some(channel) = &self.journal else { return };
        while let Some(record) = self.records.front() {
            let append = ToJournal::Append(record.clone());
            match encode(&append)
                .map_err(io::Error::other)
                .and_then(|bytes| channel.send(&bytes, &[]))
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.journal = None;
                    return;
                }
                // One that can not be encoded would block all behind it.
                Ok(()) | Err(_) => {
                    self.records.pop_front();
                }
            }
        }
        if self.records_lost > 0 {
            let fields = vec![(
                "count".to_owned(),
                core::mem::take(&mut self.records_lost).to_string(),
            )];
            let code = "records-lost".to_owned();
            self.records.push_back(Record::Event {
                severity: Severity::Warning,
                code,
                fields,
            });
        }
    }
}

fn because(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |error| DaemonError::System { what, error }
}
