//! The network test: echo requests to the configured hosts by sockets of its own, each bound to its zone's link and under
//! the mark that the ruleset knows. A thread that lives for one test, so that the loop waits for nobody.
//!
//! The sockets are echo sockets (`SOCK_DGRAM`, `IPPROTO_ICMP`): the kernel matches replies to requests and hands over
//! nothing else. What comes back is compared with what went out and never read.

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    network_test::{Host, Outcome, Probe},
};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use rand::TryRngCore as _;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    nftables::names::mark,
    policy::{Policy, echo::Target},
};

/// Hosts of one test, at most.
const MAX_HOSTS: usize = 128;
/// A request is sent again after this long without a reply: the first may be lost to address resolution.
const AGAIN: Duration = Duration::from_millis(900);
/// Longest wait for all replies. The kernel says after 3 s that nobody on the link has the address (arp(7)).
const PATIENCE: Duration = Duration::from_millis(3_600);
/// Octets behind the echo header.
const PAYLOAD: usize = 24;
/// Requests begun at one time; the ruleset lets 20 a second out.
const AT_ONCE: usize = 8;

/// A zone as the test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestZone {
    name: String,
    interface: String,
    targets: Vec<Target>,
    /// The gateway of this family is learnt: IPv4, IPv6.
    learnt: [bool; 2],
}

impl TestZone {
    /// All zones of a policy.
    #[must_use]
    pub fn all(policy: &Policy) -> Vec<Self> {
        let learnt = |zone: &crate::policy::Zone, v6| zone.family(v6).is_some_and(|a| a.learnt);
        policy
            .zones
            .iter()
            .map(|zone| Self {
                name: zone.name.clone(),
                interface: zone.interface.clone(),
                targets: zone.echo_targets.clone(),
                learnt: [learnt(zone, false), learnt(zone, true)],
            })
            .collect()
    }
}

/// The test under way, if any.
#[derive(Debug)]
pub(super) struct NetworkTest {
    running: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    done: SyncSender<(RequestId, Vec<Probe>)>,
    results: Receiver<(RequestId, Vec<Probe>)>,
}

impl NetworkTest {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let (done, results) = sync_channel(2);
        Ok(Self {
            running: Arc::default(),
            wake: Arc::new(EventFd::from_value_and_flags(0, flags)?),
            done,
            results,
        })
    }

    /// Readable when there is a result.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Begins a test; false if one is under way, or no thread can be had.
    pub(super) fn begin(&self, id: RequestId, zones: Vec<TestZone>) -> bool {
        if self.running.swap(true, Ordering::SeqCst) {
            return false;
        }
        let (running, wake, done) = (
            Arc::clone(&self.running),
            Arc::clone(&self.wake),
            self.done.clone(),
        );
        let started = thread::Builder::new()
            .name("network test".to_owned())
            .spawn(move || {
                let probes = probe(zones);
                running.store(false, Ordering::SeqCst);
                // The loop takes one result per wake-up; there is room for one more than can be under way.
                let _ = done.try_send((id, probes));
                let _ = wake.write(1);
            });
        if started.is_err() {
            self.running.store(false, Ordering::SeqCst);
        }
        started.is_ok()
    }

    /// The next result, if there is one.
    pub(super) fn take(&self) -> Option<(RequestId, Vec<Probe>)> {
        let result = self.results.try_recv().ok();
        if result.is_none() {
            let _ = self.wake.read();
        }
        result
    }
}

/// One host while it is tried.
struct Try {
    probe: Probe,
    interface: String,
    socket: Option<Socket>,
    payload: [u8; PAYLOAD],
    /// When each request went out.
    sent: Vec<Instant>,
}

/// Tries all hosts of the zones.
fn probe(zones: Vec<TestZone>) -> Vec<Probe> {
    let mut tries: Vec<Try> = zones
        .into_iter()
        .flat_map(|zone| {
            let learnt = learnt_gateways(&zone);
            let TestZone {
                name,
                interface,
                targets,
                ..
            } = zone;
            learnt
                .into_iter()
                .chain(targets)
                .map(move |target| Try::of(&name, &interface, target))
        })
        .take(MAX_HOSTS)
        .collect();
    for some in tries.chunks_mut(AT_ONCE) {
        round(some);
    }
    tries.into_iter().map(|each| each.probe).collect()
}

/// Tries some hosts side by side.
fn round(tries: &mut [Try]) {
    let begun = Instant::now();
    for each in tries.iter_mut() {
        each.begin();
    }
    loop {
        let elapsed = begun.elapsed();
        for each in tries.iter_mut() {
            let due = each.sent.last().is_some_and(|sent| sent.elapsed() >= AGAIN);
            if each.socket.is_some() && due && elapsed + AGAIN <= PATIENCE {
                each.request();
            }
        }
        let mut open: Vec<&mut Try> = tries
            .iter_mut()
            .filter(|each| each.socket.is_some())
            .collect();
        if open.is_empty() || elapsed >= PATIENCE {
            return;
        }
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd<'_>> = open
                .iter()
                .filter_map(|each| each.socket.as_ref())
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            let left = AGAIN.min(PATIENCE - elapsed) / 4 + Duration::from_millis(1);
            if poll(
                &mut polled,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            )
            .is_err()
            {
                return;
            }
            polled.iter().map(|fd| fd.any().unwrap_or(true)).collect()
        };
        for (each, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            each.receive();
        }
    }
}

impl Try {
    fn of(zone: &str, interface: &str, target: Target) -> Self {
        let mut payload = [0; PAYLOAD];
        // A payload that is guessed proves a host that is not there; it opens nothing.
        let _ = rand::rngs::OsRng.try_fill_bytes(&mut payload);
        Self {
            probe: Probe {
                zone: zone.to_owned(),
                host: target.host,
                name: target.name,
                address: target.address,
                outcome: Outcome::Silent,
            },
            interface: interface.to_owned(),
            socket: None,
            payload,
            sent: Vec::new(),
        }
    }

    fn begin(&mut self) {
        match self.open() {
            Ok(socket) => {
                self.socket = Some(socket);
                self.request();
            }
            Err(error) => self.ended(&error),
        }
    }

    fn open(&self) -> io::Result<Socket> {
        let index = if_nametoindex(self.interface.as_str()).map_err(|_| Errno::ENODEV)?;
        let (domain, protocol) = if self.probe.address.is_ipv6() {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
        socket.set_mark(mark::NETWORK_TEST)?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        let peer = match self.probe.address {
            // An address of the link means nothing without the link.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, index))
            }
            address => SocketAddr::new(address, 0),
        };
        socket.connect(&peer.into())?;
        Ok(socket)
    }

    fn request(&mut self) {
        let Some(socket) = &self.socket else { return };
        let number = u16::try_from(self.sent.len() + 1).unwrap_or(u16::MAX);
        let sent = socket.send(&self.message(true, number)).map(drop);
        self.sent.push(Instant::now());
        if let Err(error) = sent {
            self.ended(&error);
        }
    }

    /// RFC 792, RFC 4443 §4.1: type, code, checksum and identifier (both by the kernel), sequence number, data.
    fn message(&self, request: bool, number: u16) -> Vec<u8> {
        let kind = match (self.probe.address.is_ipv6(), request) {
            (false, true) => 8,
            (false, false) => 0,
            (true, true) => 128,
            (true, false) => 129,
        };
        let mut message = vec![kind, 0, 0, 0, 0, 0];
        message.extend(number.to_be_bytes());
        message.extend(self.payload);
        message
    }

    fn receive(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; 8 + PAYLOAD];
        let mut reader: &Socket = socket;
        let length = match reader.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return self.ended(&error),
        };
        // Checksum and identifier are the kernel's, which has checked them.
        if let Some(own) = buffer.get_mut(2..6) {
            own.fill(0);
        }
        let reply = buffer.get(..length).unwrap_or_default();
        let answered = (1_u16..).zip(&self.sent).find_map(|(number, sent)| {
            (self.message(false, number) == reply).then(|| sent.elapsed().as_micros())
        });
        if let Some(microseconds) = answered {
            self.socket = None;
            self.probe.outcome = Outcome::Answered {
                microseconds: u32::try_from(microseconds).unwrap_or(u32::MAX),
            };
        }
    }

    fn ended(&mut self, error: &io::Error) {
        self.socket = None;
        self.probe.outcome = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENODEV) => Outcome::NoCard,
            Some(Errno::ENETUNREACH | Errno::EADDRNOTAVAIL | Errno::EINVAL) => Outcome::NoRoute,
            Some(Errno::EPERM | Errno::EACCES) => Outcome::Refused,
            Some(Errno::EHOSTUNREACH | Errno::ECONNREFUSED | Errno::ENETDOWN) => {
                Outcome::Unreachable
            }
            _ => Outcome::Silent,
        };
        tracing::info!(zone = self.probe.zone, address = %self.probe.address, %error, "network test");
    }
}

/// Next hops of the default routes that the zone learnt.
fn learnt_gateways(zone: &TestZone) -> Vec<Target> {
    let [v4, v6] = zone.learnt;
    let mut gateways: Vec<IpAddr> = Vec::new();
    if v4 {
        let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
        gateways.extend(default_v4(&table, &zone.interface).map(IpAddr::V4));
    }
    if v6 {
        let table = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        gateways.extend(default_v6(&table, &zone.interface).map(IpAddr::V6));
    }
    gateways
        .into_iter()
        .map(|address| Target {
            host: Host::Gateway,
            name: String::new(),
            address,
        })
        .collect()
}

/// From `/proc/net/route`: interface, destination, gateway, in the kernel's own order of octets.
fn default_v4(table: &str, interface: &str) -> Option<Ipv4Addr> {
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let here = words.next()? == interface && words.next()? == "00000000";
        let gateway = u32::from_str_radix(words.next()?, 16).ok()?;
        (here && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

/// From `/proc/net/ipv6_route`: destination, length, source, length, next hop, four numbers, interface.
fn default_v6(table: &str, interface: &str) -> Option<Ipv6Addr> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, hop, .., device] = words.as_slice() else {
            return None;
        };
        let here =
            *device == interface && *length == "00" && destination.bytes().all(|b| b == b'0');
        let hop = u128::from_str_radix(hop, 16).ok()?;
        (here && hop != 0).then(|| Ipv6Addr::from(hop))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_that_was_lent_is_found_in_the_kernels_tables() {
        let v4 = "Iface\tDestination\tGateway \tFlags\nint0\t000200C0\t00000000\t0001\next0\t00000000\tFE6433C6\t0003\n";
        assert_eq!(
            default_v4(v4, "ext0"),
            Some(Ipv4Addr::new(198, 51, 100, 254))
        );
        assert_eq!(default_v4(v4, "int0"), None);
        let zero = "00000000000000000000000000000000";
        let hop = "fe800000000000000000000000000001";
        let v6 = format!(
            "{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00450003 ext0\n{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(default_v6(&v6, "ext0"), Some("fe80::1".parse().unwrap()));
        assert_eq!(default_v6(&v6, "lo"), None);
        assert_eq!(default_v6("rubbish\n", "ext0"), None);
    }
}
