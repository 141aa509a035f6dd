//! A box on the real kernel whose three links are TUN devices: what a test writes to one has arrived by it, what the box
//! sends can be read from it. Every test makes a network namespace for its own thread, which ends with it.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod packet;
pub(crate) mod verdict;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    process::Command,
    time::{Duration, Instant},
};

use appliance_config::Document;
use firewall::{
    netlink::Socket as Netlink,
    nftables::{
        Kernel, Nft,
        names::{SetFamily, TABLE},
        render,
    },
    policy::{Policy, sysctls},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::SockProtocol,
};
use socket2::{Domain, Protocol, Socket, Type};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Links of the laboratory, in the order of the zones.
pub(crate) const LINKS: [&str; 3] = ["ext0", "int0", "mgmt0"];

/// The laboratory's policy.
pub(crate) fn lab() -> Policy {
    Policy::of(&document())
}

/// The laboratory's document.
pub(crate) fn document() -> Document {
    Document::parse(
        include_str!("../../../tests/lab/gatehouse.toml"),
        "gatehouse.toml",
    )
    .unwrap()
}

/// The box.
pub(crate) struct Bench {
    pub(crate) kernel: Nft,
    links: Vec<File>,
    counters: Netlink,
}

impl Bench {
    /// Makes it, closed. `None`, with a line: the test cannot run here.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP {test}: not root");
            return None;
        }
        let Ok(kernel) = Nft::find() else {
            println!("SKIP {test}: no nft");
            return None;
        };
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut bench = Self {
            kernel,
            links: Vec::new(),
            counters: Netlink::open(SockProtocol::NetlinkNetFilter).unwrap(),
        };
        // Rules before links; connection tracking's settings exist once a rule asks for it.
        bench.load(&lab());
        for sysctl in sysctls::boot() {
            let written = std::fs::write(format!("/proc/sys/{}", sysctl.path), &sysctl.value);
            assert!(
                sysctl.optional || written.is_ok(),
                "{sysctl:?}: {written:?}"
            );
        }
        ip("link set lo up");
        for (link, addresses) in LINKS.into_iter().zip([
            ["198.51.100.1/24 broadcast +", "2001:db8:e::1/64 nodad"],
            ["192.0.2.1/24 broadcast +", "2001:db8:1::1/64 nodad"],
            ["203.0.113.1/24 broadcast +", "2001:db8:2::1/64 nodad"],
        ]) {
            bench.links.push(tun::open(link));
            for address in addresses {
                ip(&format!("addr add {address} dev {link}"));
            }
            ip(&format!("link set {link} up"));
        }
        ip("route add default dev ext0");
        ip("-6 route add default dev ext0");
        Some(bench)
    }

    /// Puts a policy's ruleset in place.
    pub(crate) fn load(&mut self, policy: &Policy) {
        let present = self.kernel.present().unwrap();
        self.kernel
            .commit(&render(policy).transaction(&present))
            .unwrap();
    }

    /// Puts any text in place.
    pub(crate) fn nft(&mut self, text: &str) {
        self.kernel.commit(text).unwrap();
    }

    /// Adds an element.
    pub(crate) fn add(&mut self, set: &str, element: &str) {
        self.nft(&format!("add element inet {TABLE} {set} {{ {element} }}"));
    }

    /// Removes all elements of the sets that hold rates and flows.
    pub(crate) fn forget(&mut self) {
        for set in [
            "udp_rate",
            "peer_rate",
            "grey_rate",
            "syn_rate",
            "flow_rate",
            "connections",
            "media_rate",
            "media_out_rate",
        ] {
            for family in SetFamily::ALL {
                self.nft(&format!("flush set inet {TABLE} {set}{}", family.digit()));
            }
        }
    }

    /// A packet arrives by a link.
    pub(crate) fn arrive(&self, link: usize, packet: &[u8]) {
        let mut tun = &self.links[link];
        assert_eq!(tun.write(packet).unwrap(), packet.len());
    }

    /// What the box has sent by a link, without what it says of itself (neighbour and listener discovery).
    pub(crate) fn sent(&self, link: usize) -> Vec<Vec<u8>> {
        let mut tun = &self.links[link];
        let mut packets = Vec::new();
        loop {
            let mut ready = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::ZERO).unwrap() == 0 {
                return packets;
            }
            let mut buffer = [0; 2048];
            let length = tun.read(&mut buffer).unwrap();
            let packet = &buffer[..length];
            let discovery = packet[0] >> 4 == 6
                && (packet[6] == 0 || (packet[6] == 58 && (130..=143).contains(&packet[40])));
            if !discovery {
                packets.push(packet.to_vec());
            }
        }
    }

    /// Drop counters that are not zero.
    pub(crate) fn drops(&mut self) -> BTreeMap<String, u64> {
        let counters = self.counters.counters(false).unwrap();
        counters
            .into_iter()
            .filter(|c| c.packets > 0)
            .map(|c| (c.name, c.packets))
            .collect()
    }

    /// Sets all counters to zero.
    pub(crate) fn zero(&mut self) {
        self.counters.counters(true).unwrap();
    }

    /// Waits until some counter is not zero.
    pub(crate) fn await_drops(&mut self) -> BTreeMap<String, u64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let drops = self.drops();
            if !drops.is_empty() || Instant::now() > end {
                return drops;
            }
            std::thread::yield_now();
        }
    }
}

/// A UDP socket of the box with a mark.
pub(crate) fn udp(local: &str, mark: u32) -> Socket {
    let local: SocketAddr = local.parse().unwrap();
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_mark(mark).unwrap();
    socket.bind(&local.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A listening TCP socket of the box with a mark.
pub(crate) fn listener(local: &str, mark: u32) -> Socket {
    let local: SocketAddr = local.parse().unwrap();
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .unwrap();
    socket.set_mark(mark).unwrap();
    socket.bind(&local.into()).unwrap();
    socket.listen(128).unwrap();
    socket
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// TUN devices: the one thing here that has no safe call.
mod tun {
    use super::{AsRawFd, File, OpenOptions};

    /// `TUNSETIFF`, `IFF_TUN | IFF_NO_PI` of `linux/if_tun.h`.
    const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
    const TUN_WITHOUT_HEADER: i16 = 0x1001;

    #[allow(unsafe_code, reason = "no crate of the house makes a TUN device")]
    pub(super) fn open(name: &str) -> File {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&TUN_WITHOUT_HEADER.to_ne_bytes());
        // SAFETY: `request` is as long as `struct ifreq` and lives through the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), SET_INTERFACE, request.as_mut_ptr()) };
        assert_eq!(result, 0, "{name}: {}", std::io::Error::last_os_error());
        file
    }
}
