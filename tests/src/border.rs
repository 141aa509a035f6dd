//! The product's core in memory between scripted parties: the laboratory's configuration, a firewall that grants what it is
//! asked for, media that prove themselves, a clock that jumps. Driven by octets ([`Border::play`]), so that a search and a
//! corpus speak the same language; whatever leaves is kept. Used by the differential test and by the search in `fuzz`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use appliance_config::Document;
use broker_proto::{
    broker::{Family, LeaseId, ToBroker},
    keyholder::{FromKeyholder, ToKeyholder},
    settings::{Settings, Transport, ZoneId},
};
use sbc_core::{BrokerAnswer, ConnectionId, Core, Input, Output};
use sbc_media::relay::{
    Component, Learn, LegMedia, LegStats, MediaCommand, MediaEvent, Side, StreamId,
};

/// External zone of the laboratory.
pub const EXTERNAL: ZoneId = ZoneId(0);
/// Internal zone of the laboratory.
pub const INTERNAL: ZoneId = ZoneId(1);

/// Who may speak: carriers, strangers, the PBX, telephones inside; both families.
pub const PARTIES: [(ZoneId, &str); 8] = [
    (EXTERNAL, "198.51.100.20:5060"),
    (EXTERNAL, "198.51.100.21:5060"),
    (EXTERNAL, "198.51.100.66:5066"),
    (EXTERNAL, "[2001:db8:e::20]:5060"),
    (INTERNAL, "192.0.2.10:5060"),
    (INTERNAL, "192.0.2.55:5061"),
    (INTERNAL, "[2001:db8:1::10]:5060"),
    (INTERNAL, "192.0.2.10:40000"),
];

const METHODS: [&str; 14] = [
    "INVITE",
    "INVITE",
    "REGISTER",
    "OPTIONS",
    "BYE",
    "ACK",
    "CANCEL",
    "UPDATE",
    "PRACK",
    "INFO",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
];

const STATUSES: [&str; 16] = [
    "100 Trying",
    "180 Ringing",
    "183 Session Progress",
    "200 OK",
    "202 Accepted",
    "302 Moved Temporarily",
    "401 Unauthorized",
    "407 Proxy Authentication Required",
    "404 Not Found",
    "422 Session Interval Too Small",
    "486 Busy Here",
    "487 Request Terminated",
    "488 Not Acceptable Here",
    "491 Request Pending",
    "503 Service Unavailable",
    "603 Decline",
];

/// A message that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where to.
    pub peer: SocketAddr,
    /// By which listener's address, or none over a connection.
    pub local: Option<SocketAddr>,
    /// Its octets.
    pub bytes: Vec<u8>,
}

/// The core and its world.
pub struct Border {
    core: Core,
    now: Instant,
    start: Instant,
    settings: Settings,
    /// Everything that left, in order.
    pub sent: Vec<Sent>,
    /// How many of those were kept last for answers.
    leases: BTreeMap<LeaseId, Instant>,
    next_lease: u64,
    next_connection: u64,
    connections: BTreeMap<ConnectionId, SocketAddr>,
    count: u32,
}

/// The laboratory's settings, with calls that end after two minutes and no registration at a carrier.
///
/// # Panics
/// The laboratory's configuration is refused.
#[must_use]
pub fn settings() -> Settings {
    let text = include_str!("../lab/gatehouse.toml");
    let document = Document::parse(text, "gatehouse.toml").expect("the laboratory's document");
    let mut settings = firewall::policy::settings::to_settings(&document, 1);
    settings.limits.call_seconds = 120;
    for trunk in &mut settings.trunks {
        trunk.registration = None;
    }
    settings
}

impl Border {
    /// A core that stands and listens, with names drawn from `seed`.
    #[must_use]
    pub fn new(settings: Settings, seed: u8) -> Self {
        let now = Instant::now();
        let mut border = Self {
            core: Core::new(settings.clone(), [seed; 32], now, 1_700_000_000_000),
            now,
            start: now,
            settings,
            sent: Vec::new(),
            leases: BTreeMap::new(),
            next_lease: 0,
            next_connection: 1 << 32,
            connections: BTreeMap::new(),
            count: 0,
        };
        border.drain();
        border
    }

    /// The product's own address towards a party.
    ///
    /// # Panics
    /// The zone has no address of that family.
    #[must_use]
    pub fn own(&self, zone: ZoneId, peer: SocketAddr) -> SocketAddr {
        let address = self.settings.zones[usize::from(zone.0)]
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == peer.is_ipv4());
        SocketAddr::new(*address.expect("an address"), 5060)
    }

    /// A datagram comes in.
    pub fn datagram(&mut self, zone: ZoneId, peer: SocketAddr, bytes: &[u8]) {
        let local = self.own(zone, peer);
        self.input(Input::Datagram {
            zone,
            local,
            peer,
            bytes,
        });
    }

    /// Time passes, and what is due happens.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let lease = self.leases.values().min().copied();
            let next = self.core.poll_timeout().into_iter().chain(lease).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if self.core.poll_timeout().is_some_and(|at| at <= self.now) {
                self.input(Input::Tick);
            }
            let ended = self.leases.iter().find(|(_, until)| **until <= self.now);
            if let Some(lease) = ended.map(|(lease, _)| *lease) {
                self.leases.remove(&lease);
                self.input(Input::Broker(BrokerAnswer::LeaseEnded { lease }));
            }
        }
    }

    /// How much of everything there is: calls, dialogs, transactions that are not over.
    #[must_use]
    pub fn left(&self) -> Vec<(String, u64)> {
        let names = [
            "sbc_calls",
            "sbc_dialogs",
            "sbc_client_transactions",
            "sbc_server_transactions",
            "sbc_broker_requests",
        ];
        self.core
            .counters()
            .into_iter()
            .filter(|(name, value)| *value > 0 && names.contains(&name.as_str()))
            .collect()
    }

    /// Steps from octets: what to do, with which party or choice, and text for it (a length of two octets before it).
    /// Octets that are no step end it.
    pub fn play(&mut self, mut octets: &[u8]) {
        while let [what, choice, high, low, rest @ ..] = octets {
            let length = usize::from(u16::from_be_bytes([*high, *low]) % 4_096).min(rest.len());
            let (text, after) = rest.split_at(length);
            octets = after;
            self.step(*what, *choice, text);
            // A search must not grow without end.
            if self.sent.len() > 4_096 {
                return;
            }
        }
    }

    fn step(&mut self, what: u8, choice: u8, text: &[u8]) {
        let (zone, peer) = PARTIES[usize::from(choice) % PARTIES.len()];
        let peer: SocketAddr = peer.parse().expect("an address");
        match what % 8 {
            0 => self.datagram(zone, peer, text),
            1 => self.wait(Duration::from_millis(u64::from(choice) * 250)),
            2 => {
                let request = self.request(zone, peer, choice >> 3, text);
                self.datagram(zone, peer, &request);
            }
            3 | 4 => {
                if let Some((zone, peer, answer)) = self.answer(what, choice, text) {
                    self.datagram(zone, peer, &answer);
                }
            }
            5 | 6 => {
                if let Some((zone, peer, request)) = self.within(choice, text) {
                    self.datagram(zone, peer, &request);
                }
            }
            _ => self.stream(zone, peer, choice, text),
        }
    }

    /// A new request. `text`: header fields, display name, user called and lines of SDP between zero octets.
    fn request(&mut self, zone: ZoneId, peer: SocketAddr, choice: u8, text: &[u8]) -> Vec<u8> {
        self.count += 1;
        let method = METHODS[usize::from(choice) % METHODS.len()];
        let own = self.own(zone, peer);
        let mut parts = text.split(|octet| *octet == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (fields, display, user, lines) = (part(), part(), part(), part());
        let called: &[u8] = match user {
            b"" if zone == INTERNAL => b"+491234567890",
            b"" => b"1001",
            user => user,
        };
        let mut bytes = Vec::new();
        let mut push = |piece: &[u8]| bytes.extend_from_slice(piece);
        push(format!("{method} sip:").as_bytes());
        push(called);
        push(
            format!(
                "@{own} SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK{0};rport\r\nMax-Forwards: 70\r\nCall-ID: c{0}\r\n\
                 CSeq: {0} {method}\r\nContact: <sip:x@{peer}>\r\nFrom: ",
                self.count
            )
            .as_bytes(),
        );
        push(display);
        push(format!(" <sip:1002@{peer}>;tag=f{}\r\nTo: <sip:", self.count).as_bytes());
        push(called);
        push(format!("@{own}>\r\n").as_bytes());
        push(fields);
        if !fields.is_empty() && !fields.ends_with(b"\r\n") {
            push(b"\r\n");
        }
        with_body(bytes, method == "INVITE", peer, lines)
    }

    /// An answer to a request that left lately, made of its own lines.
    fn answer(&self, what: u8, choice: u8, text: &[u8]) -> Option<(ZoneId, SocketAddr, Vec<u8>)> {
        let requests =
            self.sent.iter().rev().filter(|sent| {
                !sent.bytes.starts_with(b"SIP/2.0") && !sent.bytes.starts_with(b"ACK ")
            });
        let sent = requests.take(8).nth(usize::from(choice >> 5))?;
        let status = STATUSES[usize::from(choice) % STATUSES.len()];
        let head = String::from_utf8_lossy(&sent.bytes);
        let mut answer = format!("SIP/2.0 {status}\r\n").into_bytes();
        for line in head
            .split("\r\n")
            .skip(1)
            .take_while(|line| !line.is_empty())
        {
            let name = line.split(':').next().unwrap_or_default();
            if ["Via", "From", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
                answer.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            if name == "To" {
                let tag = if line.contains(";tag=") {
                    ""
                } else {
                    ";tag=t1"
                };
                answer.extend_from_slice(format!("{line}{tag}\r\n").as_bytes());
            }
        }
        answer.extend_from_slice(format!("Contact: <sip:y@{}>\r\n", sent.peer).as_bytes());
        let mut parts = text.split(|octet| *octet == 0);
        let (fields, lines) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        answer.extend_from_slice(fields);
        if !fields.is_empty() && !fields.ends_with(b"\r\n") {
            answer.extend_from_slice(b"\r\n");
        }
        let answer = with_body(answer, what % 8 == 3, sent.peer, lines);
        Some((zone_of(sent.peer), sent.peer, answer))
    }

    /// A request inside a dialog that a 2xx of the product made.
    fn within(&mut self, choice: u8, text: &[u8]) -> Option<(ZoneId, SocketAddr, Vec<u8>)> {
        self.count += 1;
        let ok = self
            .sent
            .iter()
            .rev()
            .filter(|sent| {
                sent.bytes.starts_with(b"SIP/2.0 2") || sent.bytes.starts_with(b"SIP/2.0 18")
            })
            .take(4)
            .nth(usize::from(choice >> 6))?;
        let head = String::from_utf8_lossy(&ok.bytes);
        let line = |wanted: &str| {
            head.split("\r\n")
                .find(|line| line.starts_with(wanted))
                .unwrap_or_default()
                .to_owned()
        };
        let contact = line("Contact: ");
        let target = contact
            .split(['<', '>'])
            .nth(1)
            .unwrap_or("sip:nowhere@192.0.2.1");
        let method = METHODS[usize::from(choice & 63) % METHODS.len()];
        let cseq = if method == "ACK" {
            line("CSeq: ")
                .split(' ')
                .nth(1)
                .and_then(|number| number.parse().ok())
                .unwrap_or(1)
        } else {
            self.count + 100
        };
        let (from, to, call) = (line("From: "), line("To: "), line("Call-ID: "));
        let (peer, number) = (ok.peer, self.count);
        let mut bytes = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bKd{number}\r\nMax-Forwards: 70\r\n\
             {from}\r\n{to}\r\n{call}\r\nCSeq: {cseq} {method}\r\nContact: <sip:x@{peer}>\r\n"
        )
        .into_bytes();
        let mut parts = text.split(|octet| *octet == 0);
        let (fields, lines) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        bytes.extend_from_slice(fields);
        if !fields.is_empty() && !fields.ends_with(b"\r\n") {
            bytes.extend_from_slice(b"\r\n");
        }
        let offers = ["INVITE", "UPDATE"].contains(&method);
        Some((zone_of(peer), peer, with_body(bytes, offers, peer, lines)))
    }

    /// Octets of a connection: opened by its first ones, closed by none.
    fn stream(&mut self, zone: ZoneId, peer: SocketAddr, choice: u8, text: &[u8]) {
        let connection = ConnectionId(u64::from(choice) + 1);
        if text.is_empty() {
            if self.connections.remove(&connection).is_some() {
                self.input(Input::StreamClosed { connection });
            }
            return;
        }
        if self.connections.insert(connection, peer).is_none() {
            let local = self.own(zone, peer);
            self.input(Input::StreamOpened {
                connection,
                zone,
                transport: Transport::Tcp,
                local,
                peer,
            });
        }
        self.input(Input::Stream {
            connection,
            bytes: text,
        });
    }

    /// Hands one input over and deals with all that follows.
    pub fn input(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Datagram {
                    local, peer, bytes, ..
                } => self.sent.push(Sent {
                    peer,
                    local: Some(local),
                    bytes,
                }),
                Output::Stream { connection, bytes } => {
                    if let Some(peer) = self.connections.get(&connection) {
                        self.sent.push(Sent {
                            peer: *peer,
                            local: None,
                            bytes,
                        });
                    }
                }
                Output::CloseStream { connection }
                    if self.connections.remove(&connection).is_some() =>
                {
                    self.core
                        .handle(self.now, Input::StreamClosed { connection });
                }
                Output::CloseStream { .. } => {}
                Output::Broker(request) => self.grant(request),
                Output::Media(command) => self.media(command),
                Output::Keyholder(ToKeyholder::Digest { id, .. }) => {
                    let response = "0123456789abcdef0123456789abcdef".into();
                    let answer = FromKeyholder::Response { id, response };
                    self.core.handle(self.now, Input::Keyholder(answer));
                }
                _ => {}
            }
        }
    }

    fn grant(&mut self, request: ToBroker) {
        let answer = match request {
            ToBroker::Listen {
                zone,
                transport,
                port,
                ..
            } => {
                let addresses = &self.settings.zones[usize::from(zone.0)].addresses;
                let local = addresses
                    .iter()
                    .map(|address| SocketAddr::new(*address, port))
                    .collect();
                let listening = Input::Listening {
                    port,
                    zone,
                    transport,
                    local,
                };
                return self.core.handle(self.now, listening);
            }
            ToBroker::OpenMedia {
                id,
                zone,
                family,
                pair,
                ttl_seconds,
                ..
            } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                let address = self.settings.zones[usize::from(zone.0)]
                    .addresses
                    .iter()
                    .find(|address| address.is_ipv4() == (family == Family::V4))
                    .copied()
                    .unwrap_or(IpAddr::from([192, 0, 2, 1]));
                let port = 16_384 + u16::try_from(self.next_lease % 8_000).unwrap_or(0) * 2;
                let until = self.now + Duration::from_secs(u64::from(ttl_seconds));
                self.leases.insert(lease, until);
                BrokerAnswer::MediaOpened {
                    id,
                    lease,
                    rtp: SocketAddr::new(address, port),
                    rtcp: pair.then(|| SocketAddr::new(address, port + 1)),
                    ttl_seconds,
                }
            }
            ToBroker::RenewMedia {
                id,
                lease,
                ttl_seconds,
            } => {
                let until = self.now + Duration::from_secs(u64::from(ttl_seconds));
                self.leases.entry(lease).and_modify(|have| *have = until);
                BrokerAnswer::Done { id }
            }
            ToBroker::CloseMedia { id, lease } => {
                assert!(
                    self.leases.remove(&lease).is_some(),
                    "a lease is closed that is not held"
                );
                BrokerAnswer::Done { id }
            }
            ToBroker::LatchMedia { id, .. }
            | ToBroker::Ban { id, .. }
            | ToBroker::KeepBindings { id, .. } => BrokerAnswer::Done { id },
            ToBroker::RecallBindings { id, .. } => BrokerAnswer::Bindings {
                id,
                bindings: Vec::new(),
                next: None,
            },
            ToBroker::Connect { id, zone, peer, .. } => {
                self.next_connection += 1;
                let connection = ConnectionId(self.next_connection);
                self.connections.insert(connection, peer);
                BrokerAnswer::Connected {
                    id,
                    connection,
                    local: SocketAddr::new(self.own(zone, peer).ip(), 40_000),
                    peer,
                }
            }
            _ => return,
        };
        self.core.handle(self.now, Input::Broker(answer));
    }

    fn media(&mut self, command: MediaCommand) {
        match command {
            MediaCommand::Start { stream, a, b, .. } => {
                self.prove(stream, Side::A, a);
                self.prove(stream, Side::B, b);
            }
            MediaCommand::Change { stream, side, leg } => self.prove(stream, side, leg),
            MediaCommand::Stop { stream } => {
                let stats = LegStats::default();
                let report = MediaEvent::Report {
                    stream,
                    a: stats,
                    b: stats,
                    last: true,
                };
                self.core.handle(self.now, Input::Media(report));
            }
        }
    }

    fn prove(&mut self, stream: StreamId, side: Side, leg: LegMedia) {
        if let Learn::Host { host, .. } = leg.learn {
            let source = leg.send_to.unwrap_or(SocketAddr::new(host, 49_000));
            let proved = MediaEvent::Proved {
                stream,
                side,
                component: Component::Rtp,
                source,
            };
            self.core.handle(self.now, Input::Media(proved));
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}

fn zone_of(peer: SocketAddr) -> ZoneId {
    let text = peer.to_string();
    if text.starts_with("192.0.2.") || text.starts_with("[2001:db8:1:") {
        INTERNAL
    } else {
        EXTERNAL
    }
}

/// The message with a session description if it has one, and its length.
fn with_body(mut bytes: Vec<u8>, describes: bool, peer: SocketAddr, lines: &[u8]) -> Vec<u8> {
    if !describes {
        bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        return bytes;
    }
    let (host, family) = (peer.ip(), if peer.is_ipv4() { "IP4" } else { "IP6" });
    let mut body = format!(
        "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 8 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\n"
    )
    .into_bytes();
    body.extend_from_slice(lines);
    let head = format!(
        "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}
