//! Probes without pause: frames made by hand and put on a link every few milliseconds, so that they reach the guest's card
//! whether or not it answers ARP. What should pass to another zone is among them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use e2e::lab::topology::{Names, inside};
use image_builder::qemu::CARDS;
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use crate::wire;

/// Between two volleys on one link.
const PACE: Duration = Duration::from_millis(25);
/// Ports that are asked, those that may answer later among them.
const TCP_PORTS: [u16; 7] = [22, 80, 443, 5060, 5061, 8443, 16_384];
const UDP_PORTS: [u16; 5] = [53, 123, 5060, 5061, 16_384];

/// Probes under way on all three links.
pub struct Probes {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    /// Begins.
    pub fn begin(names: &Names) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = wire::links(names)
            .into_iter()
            .enumerate()
            .map(|(number, (namespace, link))| {
                let gun = inside(namespace, || Gun::new(link, number)).unwrap();
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                thread::spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        sent.fetch_add(gun.volley(round), Ordering::Relaxed);
                        round = round.wrapping_add(1);
                        thread::sleep(PACE);
                    }
                })
            })
            .collect();
        Self {
            stop,
            sent,
            threads,
        }
    }

    /// How many were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends; says how many were sent.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.sent()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One link's sender.
struct Gun {
    socket: OwnedFd,
    link: LinkAddr,
    from: [u8; 6],
    to: [u8; 6],
    /// Own sources and the guest's addresses on this link, then a host in another zone.
    sources: [IpAddr; 2],
    guest: [IpAddr; 2],
    behind: [IpAddr; 2],
}

impl Gun {
    fn new(name: &str, number: usize) -> Self {
        let link = getifaddrs()
            .unwrap()
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .unwrap();
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let hosts = [
            ["198.51.100.66", "2001:db8:e::66"],
            ["192.0.2.40", "2001:db8:1::40"],
            ["203.0.113.10", "2001:db8:2::10"],
        ]
        .map(|pair| pair.map(|text| text.parse::<IpAddr>().unwrap()));
        let to: Vec<u8> = CARDS[number]
            .mac
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect();
        Self {
            socket,
            from: link.addr().unwrap(),
            link,
            to: to.try_into().unwrap(),
            sources: hosts[number],
            guest: wire::guest()[number],
            // From outside towards the inside, from inside towards management, from there towards the inside.
            behind: hosts[[1, 2, 1][number]],
        }
    }

    /// Sends one of each; says how many went out. The link may be down for a moment: then fewer do.
    fn volley(&self, round: u16) -> u64 {
        let source_port = 20_000 + round % 40_000;
        let mut frames = Vec::new();
        for (index, source) in self.sources.into_iter().enumerate() {
            for target in [self.guest[index], self.behind[index]] {
                for port in TCP_PORTS {
                    frames.push(self.packet(source, target, 6, tcp_syn(source_port, port, round)));
                }
                for port in UDP_PORTS {
                    frames.push(self.packet(source, target, 17, udp(source_port, port)));
                }
                let (echo, protocol) = if source.is_ipv4() { (8, 1) } else { (128, 58) };
                frames.push(self.packet(source, target, protocol, icmp_echo(echo, round)));
            }
        }
        frames.push(self.arp());
        frames.push(self.solicitation());
        frames
            .iter()
            .filter(|frame| {
                sendto(
                    self.socket.as_raw_fd(),
                    frame,
                    &self.link,
                    MsgFlags::empty(),
                )
                .is_ok()
            })
            .count() as u64
    }

    fn ethernet(&self, to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
        [&to[..], &self.from, &kind.to_be_bytes(), payload].concat()
    }

    fn packet(&self, source: IpAddr, target: IpAddr, protocol: u8, payload: Vec<u8>) -> Vec<u8> {
        match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let packet = ipv4(source, target, protocol, payload);
                self.ethernet(self.to, 0x0800, &packet)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let packet = ipv6(source, target, protocol, 64, payload);
                self.ethernet(self.to, 0x86dd, &packet)
            }
            _ => unreachable!("addresses come in pairs of one family"),
        }
    }

    /// Who has the guest's address? Tell me.
    fn arp(&self) -> Vec<u8> {
        let (IpAddr::V4(own), IpAddr::V4(guest)) = (self.sources[0], self.guest[0]) else {
            unreachable!("the first address is IPv4");
        };
        let request = [
            &[0, 1, 8, 0, 6, 4, 0, 1][..],
            &self.from,
            &own.octets(),
            &[0; 6],
            &guest.octets(),
        ]
        .concat();
        self.ethernet([0xff; 6], 0x0806, &request)
    }

    /// The same in IPv6 (RFC 4861 §4.3).
    fn solicitation(&self) -> Vec<u8> {
        let (IpAddr::V6(own), IpAddr::V6(guest)) = (self.sources[1], self.guest[1]) else {
            unreachable!("the second address is IPv6");
        };
        let last = guest.octets();
        let mut group = [0; 16];
        group[..13].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
        group[13..].copy_from_slice(&last[13..]);
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &last, &[1, 1], &self.from].concat();
        let packet = ipv6(own, group.into(), 58, 255, message);
        self.ethernet(
            [0x33, 0x33, 0xff, last[13], last[14], last[15]],
            0x86dd,
            &packet,
        )
    }
}

/// Checksums are zero in what these make; [`ipv4`] and [`ipv6`] put them in.
fn tcp_syn(source: u16, target: u16, round: u16) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), target.to_be_bytes()].concat();
    segment.extend_from_slice(&(u32::from(round) << 12).to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    // Maximum segment size: a SYN without any option is refused as one that no kernel sends.
    segment.extend_from_slice(&[2, 4, 0x05, 0xb4]);
    segment
}

fn udp(source: u16, target: u16) -> Vec<u8> {
    let text = b"OPTIONS sip:probe SIP/2.0\r\n\r\n";
    let length = 8 + text.len() as u16;
    [
        &source.to_be_bytes()[..],
        &target.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
        text,
    ]
    .concat()
}

fn icmp_echo(kind: u8, round: u16) -> Vec<u8> {
    [
        &[kind, 0, 0, 0, 0x67, 0x68][..],
        &round.to_be_bytes(),
        b"probe",
    ]
    .concat()
}

fn ipv4(source: Ipv4Addr, target: Ipv4Addr, protocol: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let mut pseudo = [source.octets(), target.octets()].concat();
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    let pseudo = if protocol == 1 { Vec::new() } else { pseudo };
    put_checksum(protocol, &pseudo, &mut payload);
    let length = 20 + payload.len() as u16;
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&target.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload].concat()
}

fn ipv6(source: Ipv6Addr, target: Ipv6Addr, next: u8, hops: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut pseudo = [source.octets(), target.octets()].concat();
    pseudo.extend_from_slice(&u32::from(length).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, next]);
    put_checksum(next, &pseudo, &mut payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[next, hops]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&target.octets());
    packet.extend(payload);
    packet
}

fn put_checksum(protocol: u8, pseudo: &[u8], payload: &mut [u8]) {
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    let sum = checksum(&[pseudo, payload].concat());
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
