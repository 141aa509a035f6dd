//! What the guest says on its wires: one capture per link of everything that carries its card's address as the sender, read
//! back and named.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};

use e2e::{
    lab::topology::{Names, command},
    machine::folder,
};
use image_builder::qemu::CARDS;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What a frame of the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ARP, or IPv6 neighbour and multicast housekeeping.
    Neighbour,
    /// An answer to an echo request.
    Echo,
    /// A TCP segment with SYN and ACK from that port.
    Accept(u16),
    /// A TCP segment with RST from that port.
    Reset(u16),
    /// Another TCP segment from that port.
    Tcp(u16),
    /// A datagram from that port.
    Udp(u16),
    /// ICMP of that type, an error for example.
    Icmp(u8),
    /// Something with a source that is not the guest's: it passed through.
    Passed(IpAddr),
    /// Of another protocol.
    Unknown(u16),
}

/// A frame of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// When it was captured.
    pub at: SystemTime,
    /// What it is.
    pub kind: Kind,
}

/// A capture on one link.
pub struct Capture {
    process: Child,
    file: PathBuf,
    own: [IpAddr; 2],
}

/// The hosts' ends of the cables with their namespaces, in the order of the cards.
pub fn links(names: &Names) -> [(&str, &'static str); 3] {
    [
        (&names.external, "e0"),
        (&names.internal, "i0"),
        (&names.management, "m0"),
    ]
}

/// The guest's addresses, in the order of the cards.
pub fn guest() -> [[IpAddr; 2]; 3] {
    [
        ["198.51.100.1", "2001:db8:e::1"],
        ["192.0.2.1", "2001:db8:1::1"],
        ["203.0.113.1", "2001:db8:2::1"],
    ]
    .map(|pair| pair.map(|text| text.parse().unwrap()))
}

/// Begins captures on all three links; they run when this returns.
pub fn capture(names: &Names, name: &str) -> [Capture; 3] {
    let mut number = 0;
    links(names).map(|(namespace, link)| {
        let card = &CARDS[number];
        let own = guest()[number];
        number += 1;
        fs::create_dir_all(folder()).unwrap();
        let file = folder().join(format!("{name}-{}.pcap", card.zone));
        let _ = fs::remove_file(&file);
        let mut process = command(namespace, "tcpdump")
            .args([
                "--immediate-mode",
                "-U",
                "-n",
                "-Z",
                "root",
                "-i",
                link,
                "-w",
            ])
            .arg(&file)
            .arg(format!("ether src {}", card.mac))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(
                said.read_line(&mut line).unwrap() > 0,
                "tcpdump does not begin"
            );
        }
        // The pipe stays open until tcpdump ends, so that its last words do not kill it.
        process.stderr = Some(said.into_inner());
        Capture { process, file, own }
    })
}

impl Capture {
    /// Ends it and reads what was captured.
    pub fn end(mut self) -> Vec<Frame> {
        let pid = i32::try_from(self.process.id()).unwrap();
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.process.wait();
        read(&fs::read(&self.file).unwrap(), &self.own)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Frames of a capture file (pcap, microseconds, this machine's order of octets).
fn read(bytes: &[u8], own: &[IpAddr]) -> Vec<Frame> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|octets| u32::from_ne_bytes(octets.try_into().unwrap()))
    };
    assert_eq!(word(0), Some(0xa1b2_c3d4), "a capture file");
    let mut frames = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(micros), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
        let length = length as usize;
        let Some(frame) = bytes.get(at + 16..at + 16 + length) else {
            break;
        };
        at += 16 + length;
        frames.push(Frame {
            at: SystemTime::UNIX_EPOCH
                + Duration::from_secs(seconds.into())
                + Duration::from_micros(micros.into()),
            kind: kind(frame, own),
        });
    }
    frames
}

fn kind(frame: &[u8], own: &[IpAddr]) -> Kind {
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (source, protocol, payload): (IpAddr, u8, usize) = match half(12) {
        0x0806 => return Kind::Neighbour,
        0x0800 => {
            let octets: [u8; 4] = frame[26..30].try_into().unwrap();
            let header = usize::from(frame[14] & 0x0f) * 4;
            (Ipv4Addr::from(octets).into(), frame[23], 14 + header)
        }
        0x86dd => {
            let octets: [u8; 16] = frame[22..38].try_into().unwrap();
            let source = Ipv6Addr::from(octets);
            // Hop-by-hop options stand only in multicast listener reports.
            let housekeeping = frame[20] == 0
                || frame[20] == 58 && (130..=137).contains(&frame[54]) && frame[54] != 137
                || frame[20] == 58 && frame[54] == 143;
            if housekeeping
                && (source.is_unspecified()
                    || is_link_local(source)
                    || own.contains(&source.into()))
            {
                return Kind::Neighbour;
            }
            (source.into(), frame[20], 54)
        }
        other => return Kind::Unknown(other),
    };
    if !own.contains(&source) {
        return Kind::Passed(source);
    }
    match protocol {
        1 if frame[payload] == 0 => Kind::Echo,
        58 if frame[payload] == 129 => Kind::Echo,
        1 | 58 => Kind::Icmp(frame[payload]),
        6 => match (frame[payload + 13], half(payload)) {
            (flags, port) if flags & 0x04 != 0 => Kind::Reset(port),
            (flags, port) if flags & 0x12 == 0x12 => Kind::Accept(port),
            (_, port) => Kind::Tcp(port),
        },
        17 => Kind::Udp(half(payload)),
        other => Kind::Unknown(other.into()),
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}
