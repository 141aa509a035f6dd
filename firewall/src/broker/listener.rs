//! Listeners, and the connections that arrive at them.
//!
//! UDP sockets are lent and kept: an sbc that is started again gets the same ones. While their holder is silent or gone they
//! are out of use: nothing arrives, nothing leaves. TCP listeners stay here; each accepted
//! connection is given away after bans and limits. Since a connection that was given away is never seen to close, the
//! broker counts what it gave and, when a limit seems to be reached, asks the kernel how many still live. Listeners of a
//! process that is gone stay bound and are not accepted from: the port neither answers with a reset nor falls to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    broker::{FromBroker, Refusal},
    settings::{Transport, ZoneId},
};

use super::{
    Broker, Interest, Output, Token,
    bucket::Bucket,
    kernel::{Binding, Kernel},
    permissions::{ListenPermission, ZonePermissions},
};
use crate::nftables::names::mark;

/// Addresses of a zone that a listener is bound to: as many as descriptors fit beside one message.
const MAX_ADDRESSES: usize = 4;
/// Octets that may wait at a UDP listener: 50 ms of a flood at its admitted rate.
const UDP_RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
const TCP_RECEIVE_BUFFER: usize = 256 * 1024;
/// A few answers: more at once than one client can be meant by.
const DHCP_RECEIVE_BUFFER: usize = 32 * 1024;
/// Connections that are accepted at one wake-up of one listener.
const ACCEPTS_PER_WAKEUP: usize = 32;
/// Accepted connections per second and at once, per role: what the ruleset lets through by default. A lower rate would refuse
/// honest callers for the sake of those who only open connections.
const ACCEPT_RATE: (u32, u32) = (2_000, 4_000);
/// Connections of trunks and PBX at once beyond the limit of all.
const CONFIGURED_ROOM: u32 = 256;
/// Wait before a listener is accepted from again after descriptors or memory ran out.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);
/// Wait between two questions to the kernel about live connections.
const RECOUNT_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Listening<S> {
    name: ListenPermission,
    binding: Binding,
    socket: Rc<S>,
    /// TCP only, while its role is there to be given connections.
    token: Option<Token>,
    /// UDP only: its holder is silent or gone, and nothing passes by it.
    withheld: bool,
}

/// Connections that were given to a role.
#[derive(Debug)]
struct Given {
    by_source: BTreeMap<IpAddr, u32>,
    total: u32,
    rate: Bucket,
    counted: Option<Instant>,
}

/// All listeners.
#[derive(Debug)]
pub struct Listeners<S> {
    all: Vec<Listening<S>>,
    given: BTreeMap<Role, Given>,
    resting: Vec<(Instant, ListenPermission)>,
}

impl<S> Default for Listeners<S> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            given: BTreeMap::new(),
            resting: Vec::new(),
        }
    }
}

impl<S> Listeners<S> {
    /// When [`Broker::wake_listeners`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.resting.iter().map(|(due, _)| *due).min()
    }

    /// Whether a token is a listener's.
    #[must_use]
    pub fn has(&self, token: Token) -> bool {
        self.all
            .iter()
            .any(|listening| listening.token == Some(token))
    }
}

impl<K: Kernel> Broker<K> {
    pub(super) fn listen(
        &mut self,
        now: Instant,
        role: Role,
        id: RequestId,
        zone: ZoneId,
        transport: Transport,
        port: u16,
    ) -> Result<(), Refusal> {
        let name = ListenPermission {
            role,
            zone,
            transport,
            port,
        };
        if !self.permissions.listen.contains(&name) {
            return Err(Refusal::NotConfigured);
        }
        let permissions = self.permissions.zone(zone)?;
        let bindings: Vec<Binding> = local_addresses(&name, permissions)
            .map(|address| binding(&name, &permissions.device, address))
            .collect();
        if bindings.is_empty() {
            return Err(Refusal::NotConfigured);
        }
        for binding in &bindings {
            if self
                .listeners
                .all
                .iter()
                .any(|known| known.name == name && known.binding == *binding)
            {
                continue;
            }
            let socket = match transport {
                Transport::Udp => self.kernel.bind_udp(binding),
                Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                    self.kernel.listen_tcp(binding)
                }
            };
            let socket = socket.map_err(|error| {
                self.ledger.fault(
                    now,
                    "listen",
                    &format!("{} {}: {error}", binding.device, binding.local),
                );
                Refusal::System
            })?;
            let listening = Listening {
                name,
                binding: binding.clone(),
                socket: Rc::new(socket),
                token: None,
                withheld: false,
            };
            self.listeners.all.push(listening);
        }
        let sockets = if transport == Transport::Udp {
            self.restore(now, |listening| listening.name == name);
            self.sockets(&name, &bindings)
        } else {
            Vec::new()
        };
        let local = bindings.iter().map(|binding| binding.local).collect();
        self.lend(role, FromBroker::Listening { id, local }, sockets);
        if transport != Transport::Udp {
            self.watch_listener(now, &name);
        }
        Ok(())
    }

    /// Connections wait at a listener.
    pub(super) fn accept(&mut self, now: Instant, token: Token) {
        for _ in 0..ACCEPTS_PER_WAKEUP {
            let Some(listening) = self
                .listeners
                .all
                .iter()
                .find(|listening| listening.token == Some(token))
            else {
                return;
            };
            let name = listening.name;
            let (socket, local, peer) = match self.kernel.accept(&listening.socket) {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => return self.rest(now, token, &error),
                // accept(2): whatever else went wrong is that one connection's fate.
                Err(_) => continue,
            };
            match self.vet_connection(now, &name, peer) {
                Ok(()) => {
                    let ListenPermission {
                        role,
                        zone,
                        transport,
                        ..
                    } = name;
                    self.ledger.count(role.name(), "accept", "granted");
                    let message = FromBroker::Accepted {
                        zone,
                        transport,
                        local,
                        peer,
                    };
                    self.lend(role, message, vec![Rc::new(socket)]);
                }
                // Dropping the socket closes the connection before anybody read a byte of it.
                Err((reason, word)) => {
                    self.ledger.refused(now, name.role, "accept", reason, || {
                        format!("{word} {peer}")
                    });
                }
            }
        }
    }

    /// Leaves a listener alone for a while: there is nothing to accept a connection with, and it would not get quiet.
    fn rest(&mut self, now: Instant, token: Token, error: &io::Error) {
        self.ledger.fault(now, "accept", &error.to_string());
        let resting = |listening: &&mut Listening<K::Socket>| listening.token == Some(token);
        if let Some(listening) = self.listeners.all.iter_mut().find(resting) {
            listening.token = None;
            let socket = Rc::clone(&listening.socket);
            self.outputs.push_back(Output::Unwatch { socket });
            self.listeners
                .resting
                .push((now + EXHAUSTION_PAUSE, listening.name));
        }
    }

    /// Accepts again where the rest is over.
    pub(super) fn wake_listeners(&mut self, now: Instant) {
        let resting = core::mem::take(&mut self.listeners.resting);
        let (due, later) = resting.into_iter().partition(|(due, _)| *due <= now);
        self.listeners.resting = later;
        for (_, name) in due {
            self.watch_listener(now, &name);
        }
    }

    /// Takes the UDP listeners of a silent or dead process out of use, and accepts no connection for it. The sockets are
    /// the ones that it holds, so that nothing has to be bound or lent again when it is back.
    pub(super) fn withhold_listeners(&mut self, now: Instant, role: Role) {
        for listening in &mut self.listeners.all {
            if listening.name.role != role {
                continue;
            }
            if listening.token.take().is_some() {
                let socket = Rc::clone(&listening.socket);
                self.outputs.push_back(Output::Unwatch { socket });
            }
            if listening.name.transport != Transport::Udp || listening.withheld {
                continue;
            }
            listening.withheld = true;
            let Listening {
                socket, binding, ..
            } = listening;
            if let Err(error) = self.kernel.withhold(socket, binding, true) {
                let text = format!("{}: {error}", binding.local);
                self.ledger.fault(now, "withhold", &text);
            }
        }
    }

    /// Gives a process that speaks again what [`Self::withhold_listeners`] took.
    pub(super) fn restore_listeners(&mut self, now: Instant, role: Role) {
        self.restore(now, |listening| listening.name.role == role);
        let of_role = self.listeners.all.iter().map(|listening| listening.name);
        let names: BTreeSet<ListenPermission> = of_role
            .filter(|name| name.role == role && name.transport != Transport::Udp)
            .collect();
        for name in names {
            self.watch_listener(now, &name);
        }
    }

    fn restore(&mut self, now: Instant, which: impl Fn(&Listening<K::Socket>) -> bool) {
        for listening in &mut self.listeners.all {
            if !listening.withheld || !which(listening) {
                continue;
            }
            let Listening {
                socket, binding, ..
            } = listening;
            match self.kernel.withhold(socket, binding, false) {
                Ok(()) => listening.withheld = false,
                Err(error) => {
                    let text = format!("{}: {error}", binding.local);
                    self.ledger.fault(now, "restore", &text);
                }
            }
        }
    }

    /// Stops accepting for a role that is gone.
    pub(super) fn pause_listeners(&mut self, role: Role) {
        for listening in self
            .listeners
            .all
            .iter_mut()
            .filter(|listening| listening.name.role == role)
        {
            if listening.token.take().is_some() {
                self.outputs.push_back(Output::Unwatch {
                    socket: Rc::clone(&listening.socket),
                });
            }
        }
        self.listeners.resting.retain(|(_, name)| name.role != role);
        self.listeners.given.remove(&role);
    }

    /// Closes what a new configuration does not have; what it adds is asked for by its owner.
    pub(super) fn settle_listeners(&mut self) {
        let permissions = &self.permissions;
        let (kept, closed): (Vec<_>, Vec<_>) =
            self.listeners.all.drain(..).partition(|listening| {
                permissions.listen.contains(&listening.name)
                    && permissions.zone(listening.name.zone).is_ok_and(|zone| {
                        local_addresses(&listening.name, zone).any(|address| {
                            binding(&listening.name, &zone.device, address) == listening.binding
                        })
                    })
            });
        self.listeners.all = kept;
        for listening in closed {
            if listening.token.is_some() {
                self.outputs.push_back(Output::Unwatch {
                    socket: Rc::clone(&listening.socket),
                });
            }
            self.kernel.shut(&listening.socket);
        }
    }

    /// A listener's sockets in the order of its addresses, whenever each was bound.
    fn sockets(&self, name: &ListenPermission, bindings: &[Binding]) -> Vec<Rc<K::Socket>> {
        let all = bindings.iter().filter_map(|binding| {
            self.listeners
                .all
                .iter()
                .find(|listening| listening.name == *name && listening.binding == *binding)
        });
        all.map(|listening| Rc::clone(&listening.socket)).collect()
    }

    fn watch_listener(&mut self, now: Instant, name: &ListenPermission) {
        for index in 0..self.listeners.all.len() {
            let token = self.token();
            let Some(listening) = self.listeners.all.get_mut(index) else {
                return;
            };
            if listening.name == *name && listening.token.is_none() {
                listening.token = Some(token);
                let socket = Rc::clone(&listening.socket);
                self.outputs.push_back(Output::Watch {
                    token,
                    socket,
                    interest: Interest::Readable,
                });
            }
        }
        self.listeners
            .given
            .entry(name.role)
            .or_insert_with(|| Given {
                by_source: BTreeMap::new(),
                total: 0,
                rate: Bucket::new(now, ACCEPT_RATE.0, ACCEPT_RATE.1),
                counted: None,
            });
    }

    /// Bans, rate, and limits per source and in all.
    fn vet_connection(
        &mut self,
        now: Instant,
        name: &ListenPermission,
        peer: SocketAddr,
    ) -> Result<(), (Refusal, &'static str)> {
        if self.bans.covers(peer) {
            return Err((Refusal::NotPermitted, "banned"));
        }
        let bounds = self.permissions.bounds;
        let allowed = self.permissions.is_allowed_source(peer.ip());
        let given = self
            .listeners
            .given
            .get(&name.role)
            .ok_or((Refusal::NotPermitted, "nobody to take it"))?;
        // Trunks and PBX have room of their own beyond what everybody may take, and no part in the others' rate.
        let configured = self.permissions.is_configured_peer(name.zone, peer.ip());
        let most = if configured {
            bounds.connections.saturating_add(CONFIGURED_ROOM)
        } else {
            bounds.connections
        };
        let full = |given: &Given| {
            if given.total >= most {
                Some("too many connections")
            } else if !allowed
                && !configured
                && given
                    .by_source
                    .get(&peer.ip())
                    .is_some_and(|count| *count >= bounds.connections_per_source)
            {
                Some("too many connections of this source")
            } else {
                None
            }
        };
        if full(given).is_some() {
            self.recount(now, name.role, peer.ip());
        }
        let given = self
            .listeners
            .given
            .get_mut(&name.role)
            .ok_or((Refusal::NotPermitted, "nobody to take it"))?;
        if let Some(why) = full(given) {
            return Err((Refusal::Quota, why));
        }
        if !configured && !given.rate.take(now) {
            return Err((Refusal::RateLimit, "too many connections per second"));
        }
        given.total += 1;
        *given.by_source.entry(peer.ip()).or_default() += 1;
        Ok(())
    }

    /// Replaces the count of given connections by the kernel's of live ones, less the one from `arriving` that is held
    /// but not given. Not too often: a flood of refused connections must not cost a question each.
    fn recount(&mut self, now: Instant, role: Role, arriving: IpAddr) {
        let ports: std::collections::BTreeSet<u16> = self
            .listeners
            .all
            .iter()
            .filter(|listening| listening.name.role == role && listening.token.is_some())
            .map(|listening| listening.name.port)
            .collect();
        let Some(given) = self.listeners.given.get_mut(&role) else {
            return;
        };
        if given
            .counted
            .is_some_and(|last| now.saturating_duration_since(last) < RECOUNT_PAUSE)
        {
            return;
        }
        given.counted = Some(now);
        let mut by_source = BTreeMap::<IpAddr, u32>::new();
        let mut total: u32 = 0;
        for port in ports {
            match self.kernel.connections(port) {
                Ok(peers) => {
                    for peer in peers {
                        total += 1;
                        *by_source.entry(peer).or_default() += 1;
                    }
                }
                Err(error) => {
                    self.ledger
                        .fault(now, "count-connections", &error.to_string());
                    return;
                }
            }
        }
        if let Some(count) = by_source.get_mut(&arriving) {
            *count -= 1;
            total -= 1;
        }
        (given.by_source, given.total) = (by_source, total);
    }
}

/// Whether this process or the system has nothing left to accept a connection with.
fn is_exhaustion(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let exhaustion = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    exhaustion
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Addresses that a listener is bound to: the zone's; for DHCP none, since it is heard before the zone has one.
fn local_addresses(
    name: &ListenPermission,
    zone: &ZonePermissions,
) -> impl Iterator<Item = IpAddr> {
    let none = (name.role == Role::Dhcp).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let own = zone.addresses.iter().copied().take(MAX_ADDRESSES);
    none.into_iter().chain(own.filter(move |_| none.is_none()))
}

fn binding(name: &ListenPermission, device: &str, address: IpAddr) -> Binding {
    let (mark, receive_buffer) = match (name.role, name.transport) {
        (Role::Dhcp, _) => (mark::DHCP, DHCP_RECEIVE_BUFFER),
        (Role::Management, _) => (mark::LISTEN_MANAGEMENT, TCP_RECEIVE_BUFFER),
        (_, Transport::Udp) => (mark::LISTEN_SIP, UDP_RECEIVE_BUFFER),
        _ => (mark::LISTEN_SIP, TCP_RECEIVE_BUFFER),
    };
    Binding {
        device: device.to_owned(),
        local: SocketAddr::new(address, name.port),
        mark,
        receive_buffer,
    }
}
