//! Refused packets by reason and zone: counts from the ruleset's counters, the last packet of each from its log. Asked by
//! management; the kernel is read at most once a second, however often it asks.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use broker_proto::status::{DropInfo, LastDrop};
use nix::sys::socket::SockProtocol;

use crate::{
    netlink::{Socket, log::Log, packet::Tuple},
    nftables::names::parse_drop_counter,
};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// Most pairs of reason and zone whose last packet is kept: more than the ruleset has.
const MAX_LAST: usize = 1024;

/// Counts and last packets.
#[derive(Debug)]
pub(super) struct Drops {
    socket: Socket,
    log: Option<Log>,
    last: BTreeMap<(String, String), LastDrop>,
    read: Option<(Instant, Vec<DropInfo>)>,
}

impl Drops {
    /// Opens the sockets. Without the log (another process has the group) the counts still work.
    pub(super) fn open() -> io::Result<Self> {
        let log = Log::open()
            .inspect_err(|error| tracing::warn!(%error, "no log of refused packets: last drops stay unknown"))
            .ok();
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
            log,
            last: BTreeMap::new(),
            read: None,
        })
    }

    /// The descriptor to be watched, if there is a log.
    pub(super) fn log(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(AsFd::as_fd)
    }

    /// Takes what the log holds ready.
    pub(super) fn read_log(&mut self) {
        let Some(log) = &self.log else { return };
        for entry in log.take() {
            let Some((reason, zone)) = entry.prefix.split_once(' ') else {
                continue;
            };
            let name = (reason.to_owned(), zone.trim_end().to_owned());
            if self.last.len() >= MAX_LAST && !self.last.contains_key(&name) {
                continue;
            }
            let Some(tuple) = Tuple::read(&entry.head) else {
                continue;
            };
            let (source, destination) = tuple.ends();
            let protocol = tuple.protocol_name();
            self.last.insert(
                name,
                LastDrop {
                    unix_ms: unix_ms(),
                    source,
                    destination,
                    protocol,
                },
            );
        }
    }

    /// All reasons and zones that ever refused a packet.
    pub(super) fn list(&mut self, now: Instant) -> Vec<DropInfo> {
        if let Some((read, drops)) = &self.read
            && now.saturating_duration_since(*read) < FRESH
        {
            return drops.clone();
        }
        let counters = self.socket.counters(false).unwrap_or_else(|error| {
            tracing::warn!(%error, "counters of the ruleset can not be read");
            Vec::new()
        });
        let drops: Vec<DropInfo> = counters
            .iter()
            .filter(|counter| counter.packets > 0)
            .filter_map(|counter| {
                let (reason, zone) = parse_drop_counter(&counter.name)?;
                let last = self
                    .last
                    .get(&(reason.to_owned(), zone.to_owned()))
                    .cloned();
                Some(DropInfo {
                    reason: reason.to_owned(),
                    zone: zone.to_owned(),
                    count: counter.packets,
                    last,
                })
            })
            .collect();
        self.read = Some((now, drops.clone()));
        drops
    }

    /// Sets all to zero.
    pub(super) fn zero(&mut self) {
        if let Err(error) = self.socket.counters(true) {
            tracing::warn!(%error, "counters of the ruleset can not be set to zero");
        }
        self.last.clear();
        self.read = None;
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
