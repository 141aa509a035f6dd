//! Leases: media sockets that were lent, and their pinholes. A lease ends by `CloseMedia`, by its time to live, with its
//! owner's death, or when a new configuration no longer allows it; in each case the pinhole goes first, then the socket
//! is shut for every copy of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    broker::{Admit, Family, Flow, FromBroker, LeaseId, Refusal},
    journal::Severity,
    settings::ZoneId,
};
use rand::Rng;

use super::{
    Broker, PINHOLE_SETS,
    bucket::Bucket,
    flush,
    kernel::{Binding, Kernel},
    permissions::family_of,
};
use crate::{
    netlink::{Change, Element},
    nftables::names::{Set, mark},
};

/// Longest time to live, in seconds. Also the longest that a pinhole outlives a firewall process that died.
pub const MAX_TTL_SECONDS: u32 = 300;
/// How much later than the lease its elements time out in the kernel by themselves.
const KERNEL_SLACK: Duration = Duration::from_secs(2);
/// Leases per call: two legs with audio and video, and room for a call that is being changed.
const LEASES_PER_CALL: u32 = 6;
/// Leases beyond those of calls: early offers.
const SPARE_LEASES: u32 = 16;
/// Random draws of a port before all are tried in order.
const DRAWS: usize = 32;
/// Binds in one request before it is refused: ports taken by others than us are few.
const MAX_BINDS: usize = 64;
/// Flow changes of one lease per second, and at once.
const LATCH_RATE: (u32, u32) = (10, 20);
/// Elements that are put back in one transaction after a silence.
const RESUME_BATCH: usize = 4096;
/// Octets that may wait at a media socket.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// What `OpenMedia` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub(super) zone: ZoneId,
    pub(super) family: Family,
    pub(super) pair: bool,
    pub(super) flow: Flow,
    pub(super) ttl_seconds: u32,
}

/// What `AdoptMedia` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub(super) lease: LeaseId,
    pub(super) zone: ZoneId,
    /// RTP, RTCP of a pair.
    pub(super) flows: [Flow; 2],
    pub(super) ttl_seconds: u32,
}

/// One socket of a lease.
#[derive(Debug)]
struct MediaSocket<S> {
    socket: Rc<S>,
    binding: Binding,
    flow: Flow,
    /// The peer that it is connected to.
    aimed: Option<SocketAddr>,
}

#[derive(Debug)]
struct Lease<S> {
    /// By name: numbers may change with the configuration.
    zone: String,
    family: Family,
    /// RTP, and RTCP of a pair.
    sockets: Vec<MediaSocket<S>>,
    ends: Instant,
    latches: Bucket,
}

/// All leases.
#[derive(Debug)]
pub struct Leases<S> {
    table: BTreeMap<LeaseId, Lease<S>>,
    ends: BTreeSet<(Instant, LeaseId)>,
    ports: BTreeSet<SocketAddr>,
    next: u64,
    /// The owner is silent: nothing of all this is in the kernel.
    suspended: bool,
}

impl<S> Default for Leases<S> {
    fn default() -> Self {
        Self {
            table: BTreeMap::new(),
            ends: BTreeSet::new(),
            ports: BTreeSet::new(),
            next: 0,
            suspended: false,
        }
    }
}

impl<S> Leases<S> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// When the next one ends by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    fn take(&mut self, id: LeaseId) -> Option<Lease<S>> {
        let lease = self.table.remove(&id)?;
        self.ends.remove(&(lease.ends, id));
        for socket in &lease.sockets {
            self.ports.remove(&socket.binding.local);
        }
        Some(lease)
    }
}

impl<S> Lease<S> {
    fn elements(&self) -> BTreeSet<Element> {
        self.sockets
            .iter()
            .flat_map(|socket| elements(socket.binding.local, &socket.flow))
            .collect()
    }
}

/// The elements that make a flow of the socket at `local`.
fn elements(local: SocketAddr, flow: &Flow) -> impl Iterator<Item = Element> + use<> {
    let at = move |set| Element::new(set, local.ip()).port(local.port());
    let inward = match flow.admit {
        Admit::Nobody => None,
        Admit::MediaNetworks => Some(at(Set::MediaAny)),
        Admit::Host(host) => Some(at(Set::MediaHost).address(host)),
        Admit::Peer(peer) => Some(at(Set::MediaPeer).address(peer.ip()).port(peer.port())),
    };
    let outward = flow
        .send_to
        .map(|peer| at(Set::MediaOut).address(peer.ip()).port(peer.port()));
    inward.into_iter().chain(outward)
}

impl<K: Kernel> Broker<K> {
    pub(super) fn open_media(
        &mut self,
        now: Instant,
        role: Role,
        id: RequestId,
        wish: &Wish,
    ) -> Result<(), Refusal> {
        if wish.ttl_seconds == 0 {
            return Err(Refusal::OutOfRange);
        }
        self.room_for(1 + usize::from(wish.pair))?;
        let zone = self.permissions.zone(wish.zone)?;
        let range = zone.media.as_ref().ok_or(Refusal::NotConfigured)?.ports;
        let mut addresses = zone.addresses.iter().copied();
        let address = addresses
            .find(|address| family_of(*address) == wish.family)
            .ok_or(Refusal::NotConfigured)?;
        self.permissions
            .vet_flow(wish.zone, wish.family, &wish.flow)?;
        let (zone, device) = (zone.name.clone(), zone.device.clone());

        let bound = self.bind_media(now, address, &device, range, wish.pair)?;
        let flows = [
            wish.flow,
            Flow {
                send_to: None,
                ..wish.flow
            },
        ];
        let sockets = bound
            .into_iter()
            .zip(flows)
            .map(|((socket, binding), flow)| MediaSocket {
                socket: Rc::new(socket),
                binding,
                flow,
                aimed: None,
            })
            .collect();
        let ttl_seconds = wish.ttl_seconds.min(MAX_TTL_SECONDS);
        let ends = now + Duration::from_secs(u64::from(ttl_seconds));
        let latches = Bucket::new(now, LATCH_RATE.0, LATCH_RATE.1);
        let mut lease = Lease {
            zone,
            family: wish.family,
            sockets,
            ends,
            latches,
        };

        self.admit_lease(now, &mut lease)?;
        let name = self.name_lease();
        self.enter_lease(name, lease);
        let Some(lease) = self.leases.table.get(&name) else {
            return Err(Refusal::System);
        };
        let mut locals = lease.sockets.iter().map(|socket| socket.binding.local);
        let rtp = locals.next().ok_or(Refusal::System)?;
        let message = FromBroker::MediaOpened {
            id,
            lease: name,
            rtp,
            rtcp: locals.next(),
            ttl_seconds,
        };
        let sockets = lease
            .sockets
            .iter()
            .map(|socket| Rc::clone(&socket.socket))
            .collect();
        self.lend(role, message, sockets);
        Ok(())
    }

    /// Takes sockets back that an earlier life of this process lent. No claim is believed: a mark is what nobody but this
    /// process can have set, so whatever has the mark, the device and an address and port of a media socket is one.
    pub(super) fn adopt_media(
        &mut self,
        now: Instant,
        claim: &Claim,
        sockets: Vec<K::Socket>,
    ) -> Result<(), Refusal> {
        let count = sockets.len();
        let known = self.leases.table.contains_key(&claim.lease);
        if claim.ttl_seconds == 0 || !(1..=2).contains(&count) || known {
            return Err(Refusal::OutOfRange);
        }
        self.room_for(count)?;
        let zone = self.permissions.zone(claim.zone)?;
        let (first, last) = zone.media.as_ref().ok_or(Refusal::NotConfigured)?.ports;
        let mut adopted: Vec<MediaSocket<K::Socket>> = Vec::new();
        for (socket, flow) in sockets.into_iter().zip(claim.flows) {
            let lent = self.kernel.lent(&socket).map_err(|_| Refusal::OutOfRange)?;
            let Binding {
                ref device,
                local,
                mark,
                ..
            } = lent.binding;
            let follows = adopted.last().is_none_or(|rtp| {
                let rtp = rtp.binding.local;
                rtp.ip() == local.ip()
                    && rtp.port() % 2 == 0
                    && rtp.port().checked_add(1) == Some(local.port())
            });
            let is_media = mark == mark::MEDIA
                && *device == zone.device
                && zone.addresses.contains(&local.ip())
                && (first..=last).contains(&local.port());
            if !is_media || !follows || self.leases.ports.contains(&local) {
                return Err(Refusal::NotPermitted);
            }
            self.permissions
                .vet_flow(claim.zone, family_of(local.ip()), &flow)?;
            adopted.push(MediaSocket {
                socket: Rc::new(socket),
                binding: lent.binding,
                flow,
                aimed: lent.aimed,
            });
        }
        let rtp = adopted.first().ok_or(Refusal::OutOfRange)?;
        let ttl_seconds = claim.ttl_seconds.min(MAX_TTL_SECONDS);
        let mut lease = Lease {
            zone: zone.name.clone(),
            family: family_of(rtp.binding.local.ip()),
            sockets: adopted,
            ends: now + Duration::from_secs(u64::from(ttl_seconds)),
            latches: Bucket::new(now, LATCH_RATE.0, LATCH_RATE.1),
        };
        self.admit_lease(now, &mut lease)?;
        self.enter_lease(claim.lease, lease);
        Ok(())
    }

    /// Whether as many sockets more may be lent.
    fn room_for(&self, sockets: usize) -> Result<(), Refusal> {
        let bounds = &self.permissions.bounds;
        let leases = bounds
            .calls
            .saturating_mul(LEASES_PER_CALL)
            .saturating_add(SPARE_LEASES);
        let most = |bound| usize::try_from(bound).unwrap_or(usize::MAX);
        if self.leases.len() >= most(leases)
            || self.leases.ports.len() + sockets > most(bounds.media_sockets)
        {
            return Err(Refusal::Quota);
        }
        Ok(())
    }

    /// Opens the pinhole of a lease that is not entered yet.
    fn admit_lease(&mut self, now: Instant, lease: &mut Lease<K::Socket>) -> Result<(), Refusal> {
        if !self.leases.suspended {
            let changes: Vec<Change> = adds(lease.elements(), now, lease.ends).collect();
            self.apply(now, &changes).map_err(|_| Refusal::System)?;
        }
        for socket in &mut lease.sockets {
            aim(&mut self.kernel, socket);
        }
        Ok(())
    }

    pub(super) fn latch_media(
        &mut self,
        now: Instant,
        id: LeaseId,
        flows: [Flow; 2],
    ) -> Result<(), Refusal> {
        let lease = self
            .leases
            .table
            .get_mut(&id)
            .ok_or(Refusal::UnknownLease)?;
        if !lease.latches.take(now) {
            return Err(Refusal::RateLimit);
        }
        let family = lease.family;
        let count = lease.sockets.len();
        let (before, ends) = (lease.elements(), lease.ends);
        let zone = self
            .permissions
            .zones
            .iter()
            .position(|zone| zone.name == lease.zone);
        let zone = zone
            .and_then(|index| u8::try_from(index).ok())
            .map(ZoneId)
            .ok_or(Refusal::NotConfigured)?;
        for flow in flows.iter().take(count) {
            self.permissions.vet_flow(zone, family, flow)?;
        }
        let locals: Vec<SocketAddr> = lease
            .sockets
            .iter()
            .map(|socket| socket.binding.local)
            .collect();
        let after: BTreeSet<Element> = locals
            .iter()
            .zip(&flows)
            .flat_map(|(local, flow)| elements(*local, flow))
            .collect();
        if !self.leases.suspended {
            let gone = before
                .difference(&after)
                .map(|element| Change::Remove(*element));
            let changes: Vec<Change> = gone
                .chain(adds(after.difference(&before).copied(), now, ends))
                .collect();
            self.apply(now, &changes).map_err(|_| Refusal::System)?;
        }
        let lease = self
            .leases
            .table
            .get_mut(&id)
            .ok_or(Refusal::UnknownLease)?;
        for (socket, flow) in lease.sockets.iter_mut().zip(flows) {
            socket.flow = flow;
            aim(&mut self.kernel, socket);
        }
        Ok(())
    }

    pub(super) fn renew_media(
        &mut self,
        now: Instant,
        id: LeaseId,
        ttl_seconds: u32,
    ) -> Result<(), Refusal> {
        if ttl_seconds == 0 {
            return Err(Refusal::OutOfRange);
        }
        let lease = self.leases.table.get(&id).ok_or(Refusal::UnknownLease)?;
        let ends = now + Duration::from_secs(u64::from(ttl_seconds.min(MAX_TTL_SECONDS)));
        if !self.leases.suspended {
            // An element's timeout does not change by adding it again: out and in, within one transaction.
            let elements = lease.elements();
            let out = elements.iter().map(|element| Change::Remove(*element));
            let changes: Vec<Change> = out.chain(adds(elements.clone(), now, ends)).collect();
            self.apply(now, &changes).map_err(|_| Refusal::System)?;
        }
        let lease = self
            .leases
            .table
            .get_mut(&id)
            .ok_or(Refusal::UnknownLease)?;
        self.leases.ends.remove(&(lease.ends, id));
        lease.ends = ends;
        self.leases.ends.insert((ends, id));
        Ok(())
    }

    pub(super) fn close_media(&mut self, now: Instant, id: LeaseId) -> Result<(), Refusal> {
        let lease = self.leases.take(id).ok_or(Refusal::UnknownLease)?;
        self.end_lease(now, lease);
        Ok(())
    }

    /// Ends those whose time is over, and tells their owner.
    pub(super) fn end_due_leases(&mut self, now: Instant) {
        while let Some((_, id)) = self
            .leases
            .ends
            .first()
            .copied()
            .filter(|(ends, _)| *ends <= now)
        {
            self.end_untimely(now, id, "expired");
        }
    }

    /// Ends all: their owner is gone. One flush of each set, so that the time does not depend on their number.
    pub(super) fn end_all_leases(&mut self, now: Instant) {
        let leases: Vec<_> = core::mem::take(&mut self.leases.table)
            .into_values()
            .collect();
        self.leases.ends.clear();
        self.leases.ports.clear();
        self.take_out_all(now, &leases);
        for socket in leases.iter().flat_map(|lease| &lease.sockets) {
            self.kernel.shut(&socket.socket);
        }
        self.leases.suspended = false;
        if !leases.is_empty() {
            let fields = [
                ("leases", leases.len().to_string()),
                ("effect", "pinholes closed".to_owned()),
            ];
            self.ledger.event(Severity::Warning, "leases-ended", fields);
        }
    }

    pub(super) fn suspend_pinholes(&mut self, now: Instant) {
        if !core::mem::replace(&mut self.leases.suspended, true) {
            let table = core::mem::take(&mut self.leases.table);
            self.take_out_all(now, table.values());
            self.leases.table = table;
        }
    }

    pub(super) fn resume_pinholes(&mut self, now: Instant) {
        self.leases.suspended = false;
        let changes: Vec<Change> = self
            .leases
            .table
            .values()
            .flat_map(|lease| adds(lease.elements(), now, lease.ends))
            .collect();
        for batch in changes.chunks(RESUME_BATCH) {
            // Those of a failed batch stay closed until the call changes or ends; the failure was told.
            let _ = self.apply(now, batch);
        }
    }

    /// Ends leases that a new configuration no longer allows.
    pub(super) fn settle_leases(&mut self, now: Instant) {
        let permissions = &self.permissions;
        let unfit = self.leases.table.iter().filter(|(_, lease)| {
            let zone = permissions
                .zones
                .iter()
                .enumerate()
                .find(|(_, zone)| zone.name == lease.zone);
            let Some((index, zone)) = zone else {
                return true;
            };
            let id = ZoneId(u8::try_from(index).unwrap_or(u8::MAX));
            lease.sockets.iter().any(|socket| {
                zone.device != socket.binding.device
                    || !zone.addresses.contains(&socket.binding.local.ip())
                    || permissions
                        .vet_flow(id, lease.family, &socket.flow)
                        .is_err()
            })
        });
        for id in unfit.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_untimely(now, id, "not-allowed-any-more");
        }
    }

    fn end_untimely(&mut self, now: Instant, id: LeaseId, why: &'static str) {
        if let Some(lease) = self.leases.take(id) {
            self.end_lease(now, lease);
            self.ledger.count(Role::Sbc.name(), "lease", why);
            self.ledger.rare_event(
                now,
                Severity::Notice,
                "lease-ended",
                [("why", why.to_owned())],
            );
            self.send(Role::Sbc, FromBroker::LeaseEnded { lease: id });
        }
    }

    fn end_lease(&mut self, now: Instant, lease: Lease<K::Socket>) {
        if !self.leases.suspended {
            let changes: Vec<Change> = lease.elements().into_iter().map(Change::Remove).collect();
            self.withdraw(now, &changes);
        }
        for socket in &lease.sockets {
            self.kernel.shut(&socket.socket);
        }
    }

    /// Empties the sets; if that fails, takes out element by element until it is done.
    fn take_out_all<'a>(
        &mut self,
        now: Instant,
        leases: impl IntoIterator<Item = &'a Lease<K::Socket>>,
    ) where
        K::Socket: 'a,
    {
        if self.apply(now, &flush(&PINHOLE_SETS)).is_err() {
            let elements = leases.into_iter().flat_map(Lease::elements);
            let changes: Vec<Change> = elements.map(Change::Remove).collect();
            self.withdraw(now, &changes);
        }
    }

    fn name_lease(&mut self) -> LeaseId {
        if self.leases.next == 0 {
            // Begins anywhere, so that a name from before a restart of the firewall means nothing.
            self.leases.next = self.random.random_range(1..u64::MAX / 2);
        }
        loop {
            let name = LeaseId(self.leases.next);
            self.leases.next += 1;
            if !self.leases.table.contains_key(&name) {
                return name;
            }
        }
    }

    fn enter_lease(&mut self, id: LeaseId, lease: Lease<K::Socket>) {
        self.leases.ends.insert((lease.ends, id));
        self.leases
            .ports
            .extend(lease.sockets.iter().map(|socket| socket.binding.local));
        self.leases.table.insert(id, lease);
    }

    /// Binds a port, or an even port and the next, drawn from those that are free.
    fn bind_media(
        &mut self,
        now: Instant,
        address: IpAddr,
        device: &str,
        range: (u16, u16),
        pair: bool,
    ) -> Result<Vec<(K::Socket, Binding)>, Refusal> {
        let (first, step) = if pair {
            (u32::from(range.0).next_multiple_of(2), 2)
        } else {
            (u32::from(range.0), 1)
        };
        let count = (u32::from(range.1) + 1).saturating_sub(first) / step;
        if count == 0 {
            return Err(Refusal::PortsExhausted);
        }
        let begin = self.random.random_range(0..count);
        let draws: Vec<u32> = (0..DRAWS)
            .map(|_| self.random.random_range(0..count))
            .collect();
        let mut binds = 0;
        for place in draws
            .into_iter()
            .chain((0..count).map(|n| (begin + n) % count))
        {
            let ports = (0..step).filter_map(|n| u16::try_from(first + place * step + n).ok());
            let locals: Vec<SocketAddr> =
                ports.map(|port| SocketAddr::new(address, port)).collect();
            if locals.iter().any(|local| self.leases.ports.contains(local)) {
                continue;
            }
            binds += 1;
            let bound: io::Result<Vec<_>> = locals
                .into_iter()
                .map(|local| self.bind_one(local, device))
                .collect();
            match bound {
                Ok(bound) => return Ok(bound),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && binds < MAX_BINDS => {}
                Err(error) => {
                    self.ledger.fault(now, "bind-media", &error.to_string());
                    return Err(Refusal::System);
                }
            }
        }
        Err(Refusal::PortsExhausted)
    }

    fn bind_one(&mut self, local: SocketAddr, device: &str) -> io::Result<(K::Socket, Binding)> {
        let binding = Binding {
            device: device.to_owned(),
            local,
            mark: mark::MEDIA,
            receive_buffer: RECEIVE_BUFFER,
        };
        Ok((self.kernel.bind_udp(&binding)?, binding))
    }
}

/// Puts elements in for as long as the lease lasts, and a little: if this process dies, the kernel still ends them.
fn adds(
    elements: impl IntoIterator<Item = Element>,
    now: Instant,
    ends: Instant,
) -> impl Iterator<Item = Change> {
    let timeout = ends.saturating_duration_since(now) + KERNEL_SLACK;
    elements
        .into_iter()
        .map(move |element| Change::Add(element, Some(timeout)))
}

/// Connects the socket to its peer if it has exactly one for both directions: then the kernel filters once more.
/// A failure (no route yet) costs only that; the ruleset decides anyway.
fn aim<K: Kernel>(kernel: &mut K, socket: &mut MediaSocket<K::Socket>) {
    let wanted = match socket.flow {
        Flow {
            admit: Admit::Peer(from),
            send_to: Some(to),
        } if from == to => Some(to),
        _ => None,
    };
    if wanted == socket.aimed {
        return;
    }
    match kernel.aim(&socket.socket, &socket.binding, wanted) {
        Ok(()) => socket.aimed = wanted,
        Err(error) => {
            tracing::debug!(local = %socket.binding.local, %error, "media socket not connected to its peer")
        }
    }
}
