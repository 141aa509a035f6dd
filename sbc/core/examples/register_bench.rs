//! REGISTER refreshes answered from the cache per second on one core, relayed ones beside them, and memory of a binding:
//! `cargo run --release -p sbc-core --example register_bench [phones] [rounds]`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a program that measures looks at the clock and prints"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::settings::{
    Limits, Listener, Registrar, Registration, Settings, Transport, Zone, ZoneId, ZoneKind,
};
use sbc_core::{Core, Input, Output};

const EXTERNAL: ZoneId = ZoneId(0);
const INTERNAL: ZoneId = ZoneId(1);
const PBX: &str = "192.0.2.10:5060";
/// Phones that register together while memory is measured.
const BATCH: u32 = 100;

fn settings() -> Settings {
    let zone = |id, name: &str, kind, address: &str| Zone {
        id,
        name: name.into(),
        kind,
        addresses: address.parse().into_iter().collect(),
        networks: Vec::new(),
        policy: Default::default(),
    };
    let listener = |zone| Listener {
        zone,
        transport: Transport::Udp,
        port: 5060,
        certificates: Vec::new(),
        origins: Vec::new(),
    };
    Settings {
        revision: 1,
        domain: "lab.test".into(),
        zones: vec![
            zone(EXTERNAL, "external", ZoneKind::External, "198.51.100.1"),
            zone(INTERNAL, "internal", ZoneKind::Internal, "192.0.2.1"),
        ],
        listeners: vec![listener(EXTERNAL), listener(INTERNAL)],
        registrar: Some(Registrar {
            zone: INTERNAL,
            addresses: PBX.parse().into_iter().collect(),
            named: None,
            transport: Transport::Udp,
            large_requests_by_tcp: true,
            tls: None,
        }),
        trunks: Vec::new(),
        routes: Vec::new(),
        policies: Vec::new(),
        account: Default::default(),
        collector: None,
        name_servers: Vec::new(),
        limits: Limits {
            calls: 1,
            calls_per_source: 1,
            call_rate: 1,
            registrations: 1_000_000,
            connections: 1,
            message_octets: 16_384,
            media_timeout_seconds: 60,
            call_seconds: 3_600,
            idle_connection_seconds: 600,
            handshake_seconds: 10,
            min_se_seconds: 90,
            session_expires_seconds: 1_800,
        },
        registration: Registration {
            refresh_udp_seconds: 40_000,
            registrar_expires_seconds: 86_400,
            keepalive_seconds: 0,
            relay_rate: 1_000_000,
            source_rate: 1_000,
            ..Registration::default()
        },
        lab: true,
    }
}

fn address(phone: u32) -> SocketAddr {
    SocketAddr::new(
        Ipv4Addr::from(0x0a00_0000 + phone / 50).into(),
        u16::try_from(1_024 + phone % 50).unwrap_or(1_024),
    )
}

/// A REGISTER as a desk phone behind a translator writes it.
fn register(phone: u32, cseq: u32, count: Option<u32>) -> Vec<u8> {
    let credentials = count.map_or(String::new(), |count| {
        format!(
            "Authorization: Digest username=\"u{phone}\", realm=\"lab.test\", nonce=\"ZyRgo2ckX3c1MTdhZTk{phone}\", \
             uri=\"sip:lab.test\", response=\"5ccc069c403ebaf9f0171e9517f40e41\", algorithm=MD5, qop=auth, \
             cnonce=\"f2{count:06}\", nc={count:08x}\r\n"
        )
    });
    format!(
        "REGISTER sip:lab.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bK{phone}x{cseq};rport\r\n\
         From: <sip:u{phone}@lab.test>;tag=8d7f{phone}\r\nTo: <sip:u{phone}@lab.test>\r\n\
         Call-ID: 313837373834-{phone}@192.168.1.20\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:u{phone}@192.168.1.20:5060;line=ab{phone}>;reg-id=1;\
         +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{phone:012}>\"\r\n\
         User-Agent: Example-Desk/10.1.46.16\r\nMax-Forwards: 70\r\nExpires: 3600\r\nSupported: path\r\n{credentials}\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What the registrar answers to a relayed REGISTER.
fn answer(request: &str) -> Vec<u8> {
    let line = |name: &str| {
        request
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
    };
    let (start, more) = if line("Authorization:").is_empty() {
        let challenge = "WWW-Authenticate: Digest realm=\"lab.test\", nonce=\"ZyRgo2ckX3c1MTdhZTk\", qop=\"auth\"";
        ("SIP/2.0 401 Unauthorized", challenge)
    } else {
        ("SIP/2.0 200 OK", line("Contact:"))
    };
    let kept = ["Via:", "From:", "Call-ID:", "CSeq:"]
        .map(line)
        .join("\r\n");
    format!(
        "{start}\r\n{kept}\r\n{};tag=r\r\n{more}\r\nContent-Length: 0\r\n\r\n",
        line("To:")
    )
    .into_bytes()
}

/// A core with its registrar, in memory.
struct House {
    core: Core,
    now: Instant,
    accepted: u32,
}

impl House {
    fn new() -> Self {
        let now = Instant::now();
        let mut house = Self {
            core: Core::new(settings(), [7; 32], now, 0),
            now,
            accepted: 0,
        };
        for (zone, local) in [
            (EXTERNAL, "198.51.100.1:5060"),
            (INTERNAL, "192.0.2.1:5060"),
        ] {
            let input = Input::Listening {
                zone,
                transport: Transport::Udp,
                port: 5060,
                local: local.parse().into_iter().collect(),
            };
            house.core.handle(now, input);
        }
        house.drain();
        house
    }

    fn datagram(&mut self, zone: ZoneId, peer: SocketAddr, bytes: &[u8]) {
        let local = match zone {
            EXTERNAL => ([198, 51, 100, 1], 5060),
            _ => ([192, 0, 2, 1], 5060),
        };
        let input = Input::Datagram {
            zone,
            local: local.into(),
            peer,
            bytes,
        };
        self.core.handle(self.now, input);
        self.drain();
    }

    /// What left for the registrar is answered, what left for phones counted.
    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Datagram {
                    zone, peer, bytes, ..
                } if zone == INTERNAL => {
                    let answer = answer(&String::from_utf8_lossy(&bytes));
                    self.datagram(INTERNAL, peer, &answer);
                }
                Output::Datagram { bytes, .. } if bytes.starts_with(b"SIP/2.0 200") => {
                    self.accepted += 1;
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.core.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.core.handle(self.now, Input::Tick);
            self.drain();
        }
        self.now = end;
    }
}

fn file(path: &str) -> Vec<f64> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Octets of this process in memory.
fn resident() -> f64 {
    file("/proc/self/statm").get(1).copied().unwrap_or(0.0) * 4_096.0
}

/// Seconds that this thread was on a processor.
fn processor() -> f64 {
    file("/proc/thread-self/schedstat")
        .first()
        .copied()
        .unwrap_or(0.0)
        / 1e9
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<u32>().ok());
    let phones = arguments.next().unwrap_or(10_000);
    let rounds = arguments.next().unwrap_or(10);
    let mut house = House::new();
    // What every table takes whoever registers.
    let warm = BATCH;
    let (mut before, mut spent) = (0.0, 0.0);
    for first in (0..phones).step_by(BATCH as usize) {
        if first == warm {
            before = resident();
        }
        let batch = first..(first + BATCH).min(phones);
        let started = processor();
        for (cseq, count) in [(1, None), (2, Some(1))] {
            for phone in batch.clone() {
                house.datagram(EXTERNAL, address(phone), &register(phone, cseq, count));
            }
            house.pass(Duration::from_millis(30));
        }
        spent += processor() - started;
        // Transactions are over before the next come.
        house.pass(Duration::from_secs(40));
    }
    let each = (resident() - before) / f64::from(phones - warm);
    println!(
        "{} of {phones} phones registered through the registrar: {:.0} REGISTER/s relayed (registrar's part included)",
        house.accepted,
        f64::from(phones * 2) / spent
    );
    println!("{each:.0} octets for each registration");
    let mut spent = 0.0;
    house.accepted = 0;
    for round in 0..rounds {
        let messages: Vec<Vec<u8>> = (0..phones)
            .map(|phone| register(phone, 3 + round, Some(2 + round)))
            .collect();
        let started = processor();
        for (phone, message) in (0..phones).zip(&messages) {
            house.datagram(EXTERNAL, address(phone), message);
        }
        spent += processor() - started;
        house.pass(Duration::from_secs(10));
    }
    println!(
        "{} of {} refreshes of {} octets answered from the cache: {:.0}/s, {:.2} us each",
        house.accepted,
        phones * rounds,
        register(0, 3, Some(2)).len(),
        f64::from(house.accepted) / spent,
        spent * 1e6 / f64::from(house.accepted)
    );
    for (name, value) in house.core.counters() {
        if name.starts_with("sbc_bindings") || name.contains("refused") {
            println!("  {name} {value}");
        }
    }
}
