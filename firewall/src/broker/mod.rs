//! Answers the sandboxed processes: the only door between the layers. Every request is checked against the
//! configuration ([`permissions`]), the asker's role, rates and quotas; what is granted is a descriptor with its purpose
//! fixed (address, device, mark) and, for media, a pinhole as narrow as the flow that was named.
//!
//! The broker is a state machine over a [`kernel::Kernel`]: the daemon gives it requests, readiness and time, and drains
//! [`Broker::poll`] after each. What an asker can hold at most: the leases and bans of the quotas below, as many
//! connected and accepted sockets as its own descriptor limit allows.
//!
//! | module | noun |
//! |---|---|
//! | [`permissions`] | what the configuration allows |
//! | [`lease`] | lent media sockets and their pinholes |
//! | [`listener`] | listeners and the connections that arrive at them |
//! | [`connect`] | connections to configured far ends |
//! | [`ban`] | bans with reason and evidence |
//! | [`kept`] | bindings that one sbc leaves for the next |
//! | [`liveness`] | whether the sbc lives |
//! | [`rights`] | who may ask what, and how often |
//! | [`bucket`], [`ledger`] | rates; counters, log lines, records |
//! | [`kernel`], [`linux`] | what the kernel is asked to do; that it does it |

pub mod ban;
pub mod bucket;
pub mod connect;
#[cfg(test)]
pub(crate) mod fake;
mod kept;
pub mod kernel;
pub mod lease;
pub mod ledger;
pub mod linux;
pub mod listener;
pub mod liveness;
pub mod permissions;
mod rights;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    broker::{FromBroker, Refusal, ToBroker},
    journal::{Record, Severity},
    settings::Settings,
    status::BanInfo,
};
use rand::{SeedableRng, rngs::StdRng};

use self::{
    ban::Bans,
    bucket::Bucket,
    connect::Connecting,
    kept::Kept,
    kernel::Kernel,
    lease::Leases,
    ledger::Ledger,
    listener::Listeners,
    liveness::{Liveness, Step},
    permissions::Permissions,
    rights::{buckets, may_ask},
};
use crate::{
    netlink::{Change, Element, elements::describe},
    nftables::names::{Set, SetFamily},
};

/// Wait between two looks at the addresses of a zone that learns them.
const LEARN_PAUSE: Duration = Duration::from_secs(1);
/// Wait before elements that the kernel would not take out are tried again.
const LEFTOVER_PAUSE: Duration = Duration::from_millis(20);

/// Names a socket that the daemon watches for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a watched socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A connection waits at a listener.
    Readable,
    /// A connection that was begun is decided.
    Writable,
}

/// What the daemon is to do for the broker.
#[derive(Debug)]
pub enum Output<S> {
    /// Send a message, with copies of these sockets.
    Send {
        /// To whom.
        role: Role,
        /// What.
        message: FromBroker,
        /// Lent sockets, in the order of the addresses in the message.
        sockets: Vec<Rc<S>>,
    },
    /// Call [`Broker::ready`] whenever this socket is.
    Watch {
        /// Its name.
        token: Token,
        /// The socket.
        socket: Rc<S>,
        /// For what.
        interest: Interest,
    },
    /// Stop that.
    Unwatch {
        /// The socket.
        socket: Rc<S>,
    },
    /// Append to the journal.
    Journal(Record),
    /// Have init kill this process.
    Silent(Role),
    /// Close this process's channel, and have init kill it: it misbehaves.
    Expel(Role),
}

/// One process that asks.
#[derive(Debug)]
struct Asker {
    buckets: BTreeMap<&'static str, Bucket>,
    budget: Bucket,
    liveness: Liveness,
}

/// The broker.
#[derive(Debug)]
pub struct Broker<K: Kernel> {
    kernel: K,
    permissions: Permissions,
    settings: Option<Box<Settings>>,
    open: bool,
    random: StdRng,
    askers: BTreeMap<Role, Asker>,
    leases: Leases<K::Socket>,
    listeners: Listeners<K::Socket>,
    connecting: Connecting<K::Socket>,
    bans: Bans,
    kept: Kept,
    leftovers: BTreeSet<Element>,
    leftovers_due: Option<Instant>,
    learn_due: Option<Instant>,
    ledger: Ledger,
    next_token: u64,
    outputs: VecDeque<Output<K::Socket>>,
}

/// The sets that hold pinholes.
const PINHOLE_SETS: [Set; 4] = [Set::MediaAny, Set::MediaHost, Set::MediaPeer, Set::MediaOut];
/// The sets that hold bans.
const BAN_SETS: [Set; 4] = [
    Set::BanHostSip,
    Set::BanHostAll,
    Set::BanFlowSip,
    Set::BanFlowAll,
];

impl<K: Kernel> Broker<K> {
    /// A broker that refuses everything until the first [`Self::commit`]. `seed` comes from the system's randomness:
    /// media ports must not be predictable.
    pub fn new(kernel: K, now: Instant, seed: [u8; 32]) -> Self {
        Self {
            kernel,
            permissions: Permissions::default(),
            settings: None,
            open: false,
            random: StdRng::from_seed(seed),
            askers: BTreeMap::new(),
            leases: Leases::default(),
            listeners: Listeners::default(),
            connecting: Connecting::default(),
            bans: Bans::default(),
            kept: Kept::default(),
            leftovers: BTreeSet::new(),
            leftovers_due: None,
            learn_due: None,
            ledger: Ledger::new(now),
            next_token: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes out whatever pinholes an earlier life of the firewall left in the kernel's sets; its leases are unknown.
    /// Bans stay: they time out by themselves.
    ///
    /// # Errors
    /// As the kernel says; then the firewall must stay closed.
    pub fn forget_earlier_life(&mut self) -> io::Result<()> {
        self.kernel.change(&flush(&PINHOLE_SETS))
    }

    /// Lists the bans that an earlier life of the firewall left in the kernel's sets, with the time that is left to each.
    ///
    /// # Errors
    /// As the kernel says; the bans hold all the same.
    pub fn remember_bans(&mut self, now: Instant) -> io::Result<()> {
        for set in BAN_SETS {
            for family in SetFamily::ALL {
                for (key, left) in self.kernel.timed(set, family)? {
                    self.bans.remember(now, set, &key, left);
                }
            }
        }
        Ok(())
    }

    /// The ruleset of a new configuration stands. Leases, bans and listeners that it still allows are kept.
    pub fn commit(&mut self, now: Instant, permissions: Permissions, settings: Box<Settings>) {
        self.open = true;
        let (bounds, revision) = (permissions.bounds, settings.revision);
        self.permissions = permissions;
        self.settings = Some(settings);
        self.learn(now);
        for asker in self.askers.values_mut() {
            (asker.buckets, asker.budget) = buckets(now, &bounds);
        }
        self.settle_listeners();
        self.settle_leases(now);
        self.kept.shrink(bounds.registrations);
        let lifted = self.bans.lift_allowed(&self.permissions);
        self.withdraw(now, &lifted);
        let record = [("revision", revision.to_string())];
        self.ledger
            .event(Severity::Notice, "ruleset-committed", record);
        self.send_settings();
    }

    /// There is no configuration any more: all that was granted by it ends, and nothing is granted.
    pub fn close(&mut self, now: Instant) {
        self.open = false;
        self.settings = None;
        self.permissions = Permissions::default();
        self.learn_due = None;
        self.settle_listeners();
        self.settle_leases(now);
    }

    /// A process has a (new) channel. Whatever an earlier process of that role held is gone.
    pub fn attach(&mut self, now: Instant, role: Role) {
        self.detach(now, role);
        let (buckets, budget) = buckets(now, &self.permissions.bounds);
        self.askers.insert(
            role,
            Asker {
                buckets,
                budget,
                liveness: Liveness::default(),
            },
        );
        if role == Role::Sbc {
            self.send_settings();
        }
    }

    /// A process's channel is at its end: it is dead, or as good as dead. All that it was lent is closed at once.
    pub fn detach(&mut self, now: Instant, role: Role) {
        if self.askers.remove(&role).is_none() {
            return;
        }
        if role == Role::Sbc {
            self.end_all_leases(now);
            self.withhold_listeners(now, role);
        }
        self.pause_listeners(role);
        self.abandon_connects(role);
        self.ledger.count(role.name(), "channel", "ended");
        self.ledger.event(
            Severity::Warning,
            "process-gone",
            [("role", role.name().to_owned())],
        );
    }

    /// A request of an attached process.
    pub fn request(&mut self, now: Instant, role: Role, request: &ToBroker) {
        self.request_with(now, role, request, Vec::new());
    }

    /// A request of an attached process with the sockets that came beside it: `AdoptMedia` alone has any.
    pub fn request_with(
        &mut self,
        now: Instant,
        role: Role,
        request: &ToBroker,
        sockets: Vec<K::Socket>,
    ) {
        if !self.is_within_budget(now, role) {
            self.disbelieve(now, role);
            return self.outputs.push_back(Output::Expel(role));
        }
        let what = ledger::kind(request);
        match self.decide(now, role, request, sockets) {
            Ok(()) => self.ledger.count(role.name(), what, "granted"),
            Err(reason) => {
                let detail = || match request {
                    // Who is registered is nobody's business in a log.
                    ToBroker::KeepBindings { kept, gone, .. } => {
                        format!("kept={} gone={}", kept.len(), gone.len())
                    }
                    _ => ban::sanitise(&format!("{request:?}")),
                };
                self.ledger.refused(now, role, what, reason, detail);
                if let Some(id) = request.id() {
                    self.send(role, FromBroker::Refused { id, reason });
                }
            }
        }
    }

    /// A watched socket is ready.
    pub fn ready(&mut self, now: Instant, token: Token) {
        if self.listeners.has(token) {
            self.accept(now, token);
        } else {
            self.finish_connect(now, token);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some(step) = self
            .askers
            .get_mut(&Role::Sbc)
            .and_then(|asker| asker.liveness.tick(now))
        {
            self.step(now, step);
        }
        self.end_due_leases(now);
        self.expire_connects(now);
        self.wake_listeners(now);
        self.bans.expire(now);
        self.kept.expire(now);
        if self.learn_due.is_some_and(|due| due <= now) && self.learn(now) {
            self.settle_listeners();
            self.settle_leases(now);
            self.send_settings();
        }
        if self.leftovers_due.is_some_and(|due| due <= now) {
            self.leftovers_due = None;
            let again: Vec<Change> = self
                .leftovers
                .iter()
                .map(|element| Change::Remove(*element))
                .collect();
            self.leftovers.clear();
            self.withdraw(now, &again);
        }
    }

    /// When [`Self::tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let liveness = self
            .askers
            .get(&Role::Sbc)
            .and_then(|asker| asker.liveness.deadline());
        [
            liveness,
            self.leases.deadline(),
            self.connecting.deadline(),
            self.listeners.deadline(),
            self.bans.deadline(),
            self.leftovers_due,
            self.learn_due,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is to be done next. To be drained after each call of the methods above.
    pub fn poll(&mut self) -> Option<Output<K::Socket>> {
        self.outputs
            .extend(self.ledger.take_records().into_iter().map(Output::Journal));
        self.outputs.pop_front()
    }

    /// A process has more to say than is heard at one turn: whatever that is, it is no silence.
    pub fn busy(&mut self, now: Instant, role: Role) {
        if let Some(asker) = self.askers.get_mut(&role) {
            asker.liveness.busy(now);
        }
    }

    /// Notes that a message could not be delivered because its receiver does not read.
    pub fn undelivered(&mut self, role: Role) {
        self.ledger.count(role.name(), "message", "undelivered");
    }

    /// Notes a message that is none.
    pub fn malformed(&mut self, now: Instant, role: Role, why: &str) {
        self.ledger.count(role.name(), "message", "malformed");
        self.disbelieve(now, role);
        let fields = [("role", role.name().to_owned()), ("why", why.to_owned())];
        self.ledger
            .rare_event(now, Severity::Alert, "broker-malformed", fields);
    }

    /// Bans from the `offset`-th on, and whether there are more.
    #[must_use]
    pub fn bans(&self, now: Instant, offset: u32) -> (Vec<BanInfo>, bool) {
        self.bans.list(now, offset)
    }

    /// Lifts the ban listed as `key`. `false` if there is none.
    pub fn unban(&mut self, now: Instant, key: &str) -> bool {
        let changes = self.bans.lift(key);
        self.withdraw(now, &changes);
        if !changes.is_empty() {
            self.ledger
                .event(Severity::Notice, "ban-lifted", [("key", key.to_owned())]);
        }
        !changes.is_empty()
    }

    /// For the laboratory: no bans, counters at zero.
    pub fn reset(&mut self, now: Instant) {
        self.bans = Bans::default();
        self.kept = Kept::default();
        if let Err(error) = self.kernel.change(&flush(&BAN_SETS)) {
            self.ledger.fault(now, "flush-bans", &error.to_string());
        }
        self.ledger.zero();
    }

    /// Whether the configuration says `lab = true`.
    #[must_use]
    pub const fn is_lab(&self) -> bool {
        self.permissions.lab
    }

    /// Named counters and gauges.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let gauge = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let trusted = self
            .askers
            .get(&Role::Sbc)
            .is_some_and(|asker| asker.liveness.is_trusted());
        let mut counters = vec![
            ("firewall_open".to_owned(), u64::from(self.open)),
            ("firewall_sbc_trusted".to_owned(), u64::from(trusted)),
            ("firewall_leases".to_owned(), gauge(self.leases.len())),
            ("firewall_bans".to_owned(), gauge(self.bans.len())),
            ("firewall_bindings_kept".to_owned(), gauge(self.kept.len())),
            (
                "firewall_elements_left_over".to_owned(),
                gauge(self.leftovers.len()),
            ),
        ];
        counters.extend(self.ledger.counters());
        counters
    }

    /// Refusing costs time, too: who asks more than all its rates together would allow is not refused but expelled.
    fn is_within_budget(&mut self, now: Instant, role: Role) -> bool {
        let Some(asker) = self.askers.get_mut(&role) else {
            return true;
        };
        let within = asker.budget.take(now);
        if !within {
            self.ledger.count(role.name(), "message", "over-budget");
            let fields = [("role", role.name().to_owned())];
            self.ledger
                .rare_event(now, Severity::Alert, "broker-flooded", fields);
        }
        within
    }

    fn decide(
        &mut self,
        now: Instant,
        role: Role,
        request: &ToBroker,
        sockets: Vec<K::Socket>,
    ) -> Result<(), Refusal> {
        if !may_ask(role, request) {
            return Err(Refusal::NotPermitted);
        }
        let asker = self.askers.get_mut(&role).ok_or(Refusal::NotPermitted)?;
        let bucket = asker
            .buckets
            .get_mut(ledger::kind(request))
            .ok_or(Refusal::NotPermitted)?;
        if !bucket.take(now) {
            return Err(Refusal::RateLimit);
        }
        if let ToBroker::Health { .. } = request {
            if let Some(step) = asker.liveness.health(now) {
                self.step(now, step);
            }
            return Ok(());
        }
        if !self.open {
            return Err(Refusal::Closed);
        }
        match *request {
            ToBroker::Listen {
                id,
                zone,
                transport,
                port,
            } => self.listen(now, role, id, zone, transport, port),
            ToBroker::OpenMedia {
                id,
                zone,
                family,
                pair,
                flow,
                ttl_seconds,
            } => {
                let wish = lease::Wish {
                    zone,
                    family,
                    pair,
                    flow,
                    ttl_seconds,
                };
                self.open_media(now, role, id, &wish)
            }
            ToBroker::LatchMedia {
                id,
                lease,
                rtp,
                rtcp,
            } => {
                self.latch_media(now, lease, [rtp, rtcp])?;
                self.done(role, id)
            }
            ToBroker::RenewMedia {
                id,
                lease,
                ttl_seconds,
            } => {
                self.renew_media(now, lease, ttl_seconds)?;
                self.done(role, id)
            }
            ToBroker::CloseMedia { id, lease } => {
                self.close_media(now, lease)?;
                self.done(role, id)
            }
            ToBroker::AdoptMedia {
                id,
                lease,
                zone,
                rtp,
                rtcp,
                ttl_seconds,
            } => {
                let claim = lease::Claim {
                    lease,
                    zone,
                    flows: [rtp, rtcp],
                    ttl_seconds,
                };
                self.adopt_media(now, &claim, sockets)?;
                self.done(role, id)
            }
            ToBroker::Connect {
                id,
                zone,
                transport,
                peer,
            } => self.connect(now, role, id, zone, transport, peer),
            ToBroker::Ban {
                id,
                key,
                scope,
                seconds,
                ref reason,
            } => {
                let vetted = self.bans.vet(&self.permissions, key, scope, seconds)?;
                self.apply(now, &vetted.changes())
                    .map_err(|_| Refusal::System)?;
                self.bans.enter(now, &vetted, reason, role);
                let fields = [
                    ("key", ban::text(&key)),
                    ("seconds", vetted.seconds().to_string()),
                    ("reason", ban::sanitise(reason)),
                    ("by", role.name().to_owned()),
                ];
                self.ledger.ban(now, fields);
                self.done(role, id)
            }
            ToBroker::KeepBindings {
                id,
                ref kept,
                ref gone,
            } => {
                self.keep_bindings(now, role, kept, gone)?;
                self.done(role, id)
            }
            ToBroker::RecallBindings { id, after } => {
                self.recall_bindings(now, role, id, after);
                Ok(())
            }
            ToBroker::Health { .. } => Ok(()),
        }
    }

    fn step(&mut self, now: Instant, step: Step) {
        match step {
            Step::Suspend => {
                self.suspend_pinholes(now);
                self.withhold_listeners(now, Role::Sbc);
                self.ledger.rare_event(
                    now,
                    Severity::Warning,
                    "sbc-silent",
                    [("effect", "pinholes and listeners closed".into())],
                );
            }
            Step::Resume => {
                self.resume_pinholes(now);
                self.restore_listeners(now, Role::Sbc);
                self.ledger.rare_event(
                    now,
                    Severity::Notice,
                    "sbc-back",
                    [("effect", "pinholes open again".into())],
                );
            }
            Step::Condemn => {
                self.ledger.event(
                    Severity::Alert,
                    "sbc-condemned",
                    [("effect", "to be killed".into())],
                );
                self.outputs.push_back(Output::Silent(Role::Sbc));
            }
        }
    }

    fn done(&mut self, role: Role, id: RequestId) -> Result<(), Refusal> {
        self.send(role, FromBroker::Done { id });
        Ok(())
    }

    fn send(&mut self, role: Role, message: FromBroker) {
        self.lend(role, message, Vec::new());
    }

    fn lend(&mut self, role: Role, message: FromBroker, sockets: Vec<Rc<K::Socket>>) {
        self.outputs.push_back(Output::Send {
            role,
            message,
            sockets,
        });
    }

    fn send_settings(&mut self) {
        if let Some(settings) = self
            .settings
            .clone()
            .filter(|_| self.askers.contains_key(&Role::Sbc))
        {
            self.send(Role::Sbc, FromBroker::Settings(settings));
        }
    }

    /// Looks which addresses the zones have that learn them. Whether any changed.
    fn learn(&mut self, now: Instant) -> bool {
        self.learn_due = None;
        let mut changed = false;
        for (index, zone) in self
            .permissions
            .zones
            .iter_mut()
            .enumerate()
            .filter(|(_, zone)| zone.learnt)
        {
            self.learn_due = Some(now + LEARN_PAUSE);
            // A device that is not there has no addresses; it may come back.
            let mut addresses = self.kernel.addresses(&zone.device).unwrap_or_default();
            addresses.sort_unstable();
            if addresses != zone.addresses {
                zone.addresses.clone_from(&addresses);
                changed = true;
            }
            if let Some(settings) = self
                .settings
                .as_mut()
                .and_then(|settings| settings.zones.get_mut(index))
            {
                settings.addresses = addresses;
            }
        }
        changed
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Changes the kernel's sets. A failure is counted and told here.
    fn apply(&mut self, now: Instant, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            if let Change::Add(element, _) = change {
                self.leftovers.remove(element);
            }
        }
        self.kernel.change(changes).inspect_err(|error| {
            self.ledger.fault(
                now,
                "change-elements",
                &format!("{error}: {}", describe(changes)),
            );
        })
    }

    /// Takes elements out; what the kernel will not take out now is tried again until it does.
    fn withdraw(&mut self, now: Instant, changes: &[Change]) {
        if !changes.is_empty() && self.apply(now, changes).is_err() {
            self.leftovers
                .extend(changes.iter().filter_map(|change| match change {
                    Change::Remove(element) => Some(*element),
                    _ => None,
                }));
            self.leftovers_due = Some(now + LEFTOVER_PAUSE);
        }
    }
}

fn flush(sets: &[Set]) -> Vec<Change> {
    sets.iter()
        .flat_map(|set| SetFamily::ALL.map(|family| Change::Flush(*set, family)))
        .collect()
}
