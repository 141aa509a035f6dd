//! Connections to configured far ends: registrars and trunks for the sbc, NTP servers for time. UDP sockets are connected
//! at once; a TCP connection is lent when the far end has accepted it. How many an asker keeps is bounded by its own
//! descriptor limit, how many it begins by rate and by [`MAX_PENDING`].

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
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
    kernel::{Binding, Kernel},
    ledger,
    permissions::{ConnectPermission, Purpose, family_of},
};
use crate::nftables::names::mark;

/// Connections of all roles that are not decided yet.
const MAX_PENDING: usize = 64;
/// How long a far end may take.
const PATIENCE: Duration = Duration::from_secs(5);
const RECEIVE_BUFFER: usize = 256 * 1024;

#[derive(Debug)]
struct Pending<S> {
    role: Role,
    id: RequestId,
    peer: SocketAddr,
    socket: Rc<S>,
    until: Instant,
}

/// Connections that are not decided yet.
#[derive(Debug)]
pub struct Connecting<S> {
    pending: BTreeMap<Token, Pending<S>>,
}

impl<S> Default for Connecting<S> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
        }
    }
}

impl<S> Connecting<S> {
    /// When the next one is given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }
}

impl<K: Kernel> Broker<K> {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        role: Role,
        id: RequestId,
        zone: ZoneId,
        transport: Transport,
        peer: SocketAddr,
    ) -> Result<(), Refusal> {
        let purpose = self.permissions.vet_connect(&ConnectPermission {
            role,
            zone,
            transport,
            peer,
        })?;
        let zone = self.permissions.zone(zone)?;
        let mut addresses = zone.addresses.iter().copied();
        let own = addresses
            .find(|own| family_of(*own) == family_of(peer.ip()))
            .ok_or(Refusal::NotConfigured)?;
        let mark = match purpose {
            Purpose::Sip => mark::CONNECT_SIP,
            Purpose::Time => mark::CONNECT_TIME,
            Purpose::Names => mark::CONNECT_NAMES,
        };
        let local = SocketAddr::new(own, 0);
        let binding = Binding {
            device: zone.device.clone(),
            local,
            mark,
            receive_buffer: RECEIVE_BUFFER,
        };
        if transport == Transport::Udp {
            let socket = self.kernel.connect_udp(&binding, peer);
            let lent = socket.and_then(|socket| Ok((self.kernel.local(&socket)?, socket)));
            let (local, socket) = lent.map_err(|error| self.not_connected(now, peer, &error))?;
            self.lend(
                role,
                FromBroker::Connected { id, local, peer },
                vec![Rc::new(socket)],
            );
            return Ok(());
        }
        if self.connecting.pending.len() >= MAX_PENDING {
            return Err(Refusal::Quota);
        }
        let begun = self.kernel.begin_connect_tcp(&binding, peer);
        let socket = Rc::new(begun.map_err(|error| self.not_connected(now, peer, &error))?);
        let token = self.token();
        self.outputs.push_back(Output::Watch {
            token,
            socket: Rc::clone(&socket),
            interest: Interest::Writable,
        });
        self.connecting.pending.insert(
            token,
            Pending {
                role,
                id,
                peer,
                socket,
                until: now + PATIENCE,
            },
        );
        Ok(())
    }

    /// A connection that was begun is decided.
    pub(super) fn finish_connect(&mut self, now: Instant, token: Token) {
        let Some(pending) = self.connecting.pending.get(&token) else {
            return;
        };
        let outcome = match self.kernel.finish_connect_tcp(&pending.socket) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            Err(error) => Err(error),
            Ok(()) => self.kernel.local(&pending.socket),
        };
        let Some(Pending {
            role,
            id,
            peer,
            socket,
            ..
        }) = self.connecting.pending.remove(&token)
        else {
            return;
        };
        self.outputs.push_back(Output::Unwatch {
            socket: Rc::clone(&socket),
        });
        match outcome {
            Ok(local) => self.lend(
                role,
                FromBroker::Connected { id, local, peer },
                vec![socket],
            ),
            Err(error) => self.refuse_connect(now, role, id, peer, &error),
        }
    }

    /// Gives up those that took too long.
    pub(super) fn expire_connects(&mut self, now: Instant) {
        let late = self
            .connecting
            .pending
            .iter()
            .filter(|(_, pending)| pending.until <= now);
        for token in late.map(|(token, _)| *token).collect::<Vec<_>>() {
            if let Some(Pending {
                role,
                id,
                peer,
                socket,
                ..
            }) = self.connecting.pending.remove(&token)
            {
                self.outputs.push_back(Output::Unwatch { socket });
                self.refuse_connect(now, role, id, peer, &io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Forgets those of a role that is gone.
    pub(super) fn abandon_connects(&mut self, role: Role) {
        let mine = self
            .connecting
            .pending
            .iter()
            .filter(|(_, pending)| pending.role == role);
        for token in mine.map(|(token, _)| *token).collect::<Vec<_>>() {
            if let Some(pending) = self.connecting.pending.remove(&token) {
                self.outputs.push_back(Output::Unwatch {
                    socket: pending.socket,
                });
            }
        }
    }

    fn refuse_connect(
        &mut self,
        now: Instant,
        role: Role,
        id: RequestId,
        peer: SocketAddr,
        error: &io::Error,
    ) {
        let reason = self.not_connected(now, peer, error);
        self.ledger
            .count(role.name(), "connect", ledger::word(reason));
        self.send(role, FromBroker::Refused { id, reason });
    }

    fn not_connected(&mut self, now: Instant, peer: SocketAddr, error: &io::Error) -> Refusal {
        self.ledger
            .fault(now, "connect", &format!("{peer}: {error}"));
        if is_refusal(error) {
            Refusal::PeerRefused
        } else {
            Refusal::System
        }
    }
}

/// Whether the far end itself said no: a reset, or ICMP about port or protocol. RFC 3261 §18.1.1 makes that, and not
/// silence, the reason to send by UDP instead.
fn is_refusal(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32)
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
        )
}
