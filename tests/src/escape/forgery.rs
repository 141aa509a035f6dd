//! Forged and flooded requests to the firewall, run in the sandbox over the channel that the sbc would have. An attempt
//! worked if anything but a refusal came back; whether the firewall still serves others, the supervisor sees.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, RequestId,
    binding::{BindingToken, KeptBinding, MAX_BATCH, MAX_OCTETS},
    broker::{Admit, BanKey, BanScope, Family, Flow, FromBroker, LeaseId, ToBroker},
    control::{Command, FromChild, ToChild},
    decode, decode_together, encode,
    journal::{ToJournal, Wanted},
    settings::{Transport, ZoneId},
};
use nix::poll::{PollFd, PollFlags, poll};
use sandbox::Channel;

use super::attack::{REFUSED, WORKED};

/// Heading.
pub const GROUP: &str = "forged and flooded requests";

/// An attempt over a channel.
type Forgery = fn(&Channel) -> u8;

/// All of them, by name.
pub const FORGERIES: &[(&str, Forgery)] = &[
    ("random octets", random_octets),
    ("another version", another_version),
    ("a request cut at every length", cut_requests),
    ("octets after the request", trailing_octets),
    ("the longest message of nonsense", longest_nonsense),
    ("answers in place of requests", answers),
    ("init's words", words_of_init),
    ("a child's words to init", words_of_a_child),
    ("records for the journal", records),
    ("descriptors beside every request", descriptors),
    ("listeners that are not configured", listeners),
    ("media sockets in zones that are not there", unknown_zones),
    ("media peers that no zone has", foreign_peers),
    ("leases of others", foreign_leases),
    ("sockets as media that are none", foreign_sockets),
    ("connections to whom nobody configured", foreign_connections),
    ("bans of operators, PBX and trunks", bans_of_friends),
    (
        "bindings of nonsense, of others, too many and too long",
        forged_bindings,
    ),
    ("a flood of media sockets, no answer read", flood_of_media),
    ("a flood of listeners", flood_of_listeners),
    ("a flood of bans", flood_of_bans),
];

const ID: RequestId = RequestId(7);
const FLOOD: Duration = Duration::from_millis(500);

/// Sends as much as the channel takes; anything at all may come back but a grant.
fn pour(
    channel: &Channel,
    messages: impl IntoIterator<Item = Vec<u8>>,
    fds: &[BorrowedFd<'_>],
) -> u8 {
    let mut granted = REFUSED;
    for message in messages {
        match channel.send(&message, fds) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                granted |= answers_of(channel, 20)
            }
            // The firewall has hung up on us: as it should.
            Err(_) => break,
        }
    }
    granted | answers_of(channel, 100)
}

/// Reads what came back until nothing more comes for `patience_ms`.
fn answers_of(channel: &Channel, patience_ms: u8) -> u8 {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match channel.recv(&mut buffer) {
            Ok(received) => {
                let bytes = buffer.get(..received.length).unwrap_or_default();
                let harmless = |message: &FromBroker| {
                    matches!(
                        message,
                        FromBroker::Refused { .. }
                            | FromBroker::LeaseEnded { .. }
                            | FromBroker::Settings(_)
                    )
                };
                match decode_together::<FromBroker>(bytes) {
                    Ok(messages) if messages.iter().all(harmless) => {}
                    _ => return WORKED,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let readable = PollFd::new(channel.as_fd(), PollFlags::POLLIN);
                if poll(&mut [readable], patience_ms).unwrap_or(0) == 0 {
                    return REFUSED;
                }
            }
            Err(_) => return REFUSED,
        }
    }
}

fn requests(requests: impl IntoIterator<Item = ToBroker>) -> impl Iterator<Item = Vec<u8>> {
    // The silence of a sbc ends everything: each request is followed by a sign of life.
    requests
        .into_iter()
        .enumerate()
        .flat_map(|(sequence, request)| {
            let alive = ToBroker::Health {
                sequence: sequence as u64,
            };
            [request, alive]
                .into_iter()
                .filter_map(|message| encode(&message).ok())
        })
}

fn open_media() -> ToBroker {
    open_media_for(ZoneId(0), Flow::default())
}

fn open_media_for(zone: ZoneId, flow: Flow) -> ToBroker {
    ToBroker::OpenMedia {
        id: ID,
        zone,
        family: Family::V4,
        pair: true,
        flow,
        ttl_seconds: u32::MAX,
    }
}

/// A small generator (xorshift64*), so that a run can be repeated.
fn octets(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::from_fn(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        Some(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7])
    })
}

fn random_octets(channel: &Channel) -> u8 {
    pour(
        channel,
        (0..2_000_u64).map(|seed| {
            octets(seed + 1)
                .take(1 + (seed as usize * 37) % 900)
                .collect()
        }),
        &[],
    )
}

fn another_version(channel: &Channel) -> u8 {
    let Ok(request) = encode(&open_media()) else {
        return WORKED;
    };
    let versions = (0..=u8::MAX).filter(|version| *version != broker_proto::PROTOCOL_VERSION);
    let forged = versions.map(|version| {
        [version]
            .into_iter()
            .chain(request.iter().copied().skip(1))
            .collect()
    });
    pour(channel, forged, &[])
}

fn cut_requests(channel: &Channel) -> u8 {
    let Ok(request) = encode(&open_media()) else {
        return WORKED;
    };
    let cuts: Vec<Vec<u8>> = (1..request.len())
        .map(|length| request.iter().copied().take(length).collect())
        .collect();
    pour(channel, cuts, &[])
}

fn trailing_octets(channel: &Channel) -> u8 {
    let Ok(request) = encode(&open_media()) else {
        return WORKED;
    };
    pour(
        channel,
        (1..64).map(|more| request.iter().copied().chain(vec![0; more]).collect()),
        &[],
    )
}

fn longest_nonsense(channel: &Channel) -> u8 {
    pour(
        channel,
        (0..32).map(|octet| vec![octet; MAX_MESSAGE + usize::from(octet % 2)]),
        &[],
    )
}

fn answers(channel: &Channel) -> u8 {
    pour(
        channel,
        encode(&FromBroker::Done { id: ID })
            .into_iter()
            .chain(encode(&FromBroker::LeaseEnded { lease: LeaseId(1) })),
        &[],
    )
}

fn words_of_init(channel: &Channel) -> u8 {
    let document = String::from("schema = 1\n");
    pour(
        channel,
        encode(&ToChild::Configuration {
            revision: 99,
            document,
        })
        .into_iter()
        .chain(encode(&ToChild::Stop)),
        &[],
    )
}

fn words_of_a_child(channel: &Channel) -> u8 {
    let command = FromChild::Command {
        id: ID,
        command: Command::PowerOff,
    };
    pour(
        channel,
        encode(&command)
            .into_iter()
            .chain(encode(&FromChild::Ready)),
        &[],
    )
}

fn records(channel: &Channel) -> u8 {
    pour(
        channel,
        encode(&ToJournal::Query {
            id: ID,
            after: 0,
            limit: 100,
            wanted: Wanted::default(),
        }),
        &[],
    )
}

fn descriptors(channel: &Channel) -> u8 {
    // Refused ones, so that only the descriptors matter.
    let listen = ToBroker::Listen {
        id: ID,
        zone: ZoneId(0),
        transport: Transport::Udp,
        port: 9,
    };
    let own = channel.as_fd();
    pour(
        channel,
        requests((0..2_000).map(|_| listen.clone())),
        &[own, own, own, own],
    )
}

fn listeners(channel: &Channel) -> u8 {
    let ports = [0, 1, 22, 53, 80, 443, 5059, 8443, 16_384, 65_535];
    let listens = (0..4).flat_map(|zone| {
        ports.into_iter().map(move |port| ToBroker::Listen {
            id: ID,
            zone: ZoneId(zone),
            transport: Transport::Udp,
            port,
        })
    });
    pour(channel, requests(listens), &[])
}

fn unknown_zones(channel: &Channel) -> u8 {
    // 2 is the management zone: there is no media in it.
    pour(
        channel,
        requests((2..=u8::MAX).map(|zone| open_media_for(ZoneId(zone), Flow::default()))),
        &[],
    )
}

fn foreign_peers(channel: &Channel) -> u8 {
    let peers = [
        "203.0.113.10:20000",
        "203.0.113.1:8443",
        "198.51.100.1:5060",
        "192.0.2.1:5060",
        "127.0.0.1:20000",
        "0.0.0.0:20000",
        "255.255.255.255:20000",
        "224.0.0.1:20000",
        "198.51.100.66:53",
        "198.51.100.66:0",
        "198.51.100.66:1023",
        "192.0.2.10:20000",
        "[2001:db8:e::66]:20000",
        "[::1]:20000",
        "[::ffff:203.0.113.10]:20000",
    ];
    let peers: Vec<SocketAddr> = peers.iter().filter_map(|peer| peer.parse().ok()).collect();
    let flows = peers.into_iter().flat_map(|peer| {
        [
            Flow {
                admit: Admit::Peer(peer),
                send_to: None,
            },
            Flow {
                admit: Admit::Nobody,
                send_to: Some(peer),
            },
        ]
    });
    pour(
        channel,
        requests(flows.map(|flow| open_media_for(ZoneId(0), flow))),
        &[],
    )
}

fn foreign_leases(channel: &Channel) -> u8 {
    let leases = (0..64).chain([u64::MAX]).map(LeaseId);
    let requested = leases.flat_map(|lease| {
        [
            ToBroker::LatchMedia {
                id: ID,
                lease,
                rtp: Flow::default(),
                rtcp: Flow::default(),
            },
            ToBroker::RenewMedia {
                id: ID,
                lease,
                ttl_seconds: 60,
            },
            ToBroker::CloseMedia { id: ID, lease },
        ]
    });
    pour(channel, requests(requested), &[])
}

fn foreign_sockets(channel: &Channel) -> u8 {
    // The channel itself and standard output are no media sockets, whatever is said of them.
    let adopt = |lease| ToBroker::AdoptMedia {
        id: ID,
        lease: LeaseId(lease),
        zone: ZoneId(0),
        rtp: Flow::default(),
        rtcp: Flow::default(),
        ttl_seconds: u32::MAX,
    };
    let own = channel.as_fd();
    let output = io::stdout();
    let output = output.as_fd();
    let beside: [&[BorrowedFd<'_>]; 5] = [
        &[],
        &[own],
        &[own, own],
        &[output, own],
        &[own, own, own, own],
    ];
    let rounds = (0..8_u64).flat_map(|lease| beside.map(|fds| (lease, fds)));
    rounds.fold(REFUSED, |granted, (lease, fds)| {
        let alive = ToBroker::Health { sequence: lease };
        granted | pour(channel, encode(&adopt(lease)), fds) | pour(channel, encode(&alive), &[])
    })
}

fn foreign_connections(channel: &Channel) -> u8 {
    let peers = [
        "198.51.100.66:5060",
        "192.0.2.40:22",
        "192.0.2.10:22",
        "203.0.113.10:514",
        "8.8.8.8:53",
        "127.0.0.1:8443",
        "198.51.100.20:25",
        "203.0.113.1:8443",
    ];
    let connects = peers
        .iter()
        .filter_map(|peer| peer.parse().ok())
        .flat_map(|peer| {
            (0..3).flat_map(move |zone| {
                [Transport::Udp, Transport::Tcp].map(|transport| ToBroker::Connect {
                    id: ID,
                    zone: ZoneId(zone),
                    transport,
                    peer,
                })
            })
        });
    pour(channel, requests(connects), &[])
}

fn bans_of_friends(channel: &Channel) -> u8 {
    let hosts = [
        "203.0.113.10",
        "192.0.2.10",
        "198.51.100.20",
        "198.51.100.21",
        "198.51.100.1",
    ];
    let bans = hosts
        .iter()
        .filter_map(|host| host.parse().ok())
        .map(|host| ToBroker::Ban {
            id: ID,
            key: BanKey::Host(host),
            scope: BanScope::All,
            seconds: u32::MAX,
            reason: "\u{1b}[2J\r\n".repeat(30),
        });
    pour(channel, requests(bans), &[])
}

/// Of a phone that cannot be, unless `forge` makes it a worse one.
fn binding(number: usize, forge: impl FnOnce(&mut KeptBinding)) -> Option<KeptBinding> {
    let mut token = BindingToken::default();
    token
        .iter_mut()
        .zip(number.to_le_bytes())
        .for_each(|(octet, value)| *octet = value);
    let mut binding = KeptBinding {
        token,
        zone: ZoneId(0),
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().ok()?,
        peer: "203.0.113.10:5060".parse().ok()?,
        user: "1001".to_owned(),
        contact: "sip:1001@203.0.113.10".to_owned(),
        path: Vec::new(),
        outbound: None,
        q: 1000,
        told: u32::MAX,
        granted: u32::MAX,
        left: u32::MAX,
        call_id: String::new(),
        cseq: 0,
    };
    forge(&mut binding);
    Some(binding)
}

/// None of these is kept: the answer to the question after them has no binding.
fn forged_bindings(channel: &Channel) -> u8 {
    let peers = [
        "203.0.113.10:5060",
        "198.51.100.1:5060",
        "192.0.2.10:5060",
        "127.0.0.1:5060",
        "198.51.100.10:0",
        "255.255.255.255:5060",
        "[2001:db8:e::66]:5060",
        "[::ffff:203.0.113.10]:5060",
    ];
    let peers = peers.iter().filter_map(|peer| peer.parse().ok());
    let of_peers = peers.filter_map(|peer: SocketAddr| binding(1, |one| one.peer = peer));
    let of_zones = (1..=u8::MAX).filter_map(|zone| binding(2, |one| one.zone = ZoneId(zone)));
    let honest: Option<SocketAddr> = "198.51.100.10:5060".parse().ok();
    let too_long = binding(3, |one| {
        one.peer = honest.unwrap_or(one.peer);
        one.contact = "\u{1b}[2J\r\n".repeat(MAX_OCTETS);
    });
    let others_port = binding(4, |one| {
        one.peer = honest.unwrap_or(one.peer);
        one.local.set_port(8443);
    });
    let one_by_one: Vec<KeptBinding> = of_peers
        .chain(of_zones)
        .chain(too_long)
        .chain(others_port)
        .collect();
    let too_many = (0..=MAX_BATCH)
        .filter_map(|number| binding(number, |one| one.peer = honest.unwrap_or(one.peer)));
    let kept = |kept: Vec<KeptBinding>, gone| ToBroker::KeepBindings { id: ID, kept, gone };
    let foreign = (0..64).map(|number| [number; 12]).collect();
    let batches = one_by_one
        .chunks(16)
        .map(|batch| kept(batch.to_vec(), Vec::new()))
        .chain([
            kept(too_many.collect(), Vec::new()),
            kept(Vec::new(), foreign),
        ]);
    let batches: Vec<ToBroker> = batches.collect();
    // `Done` says that a message was heard, not that a binding was kept: the question says what was.
    for message in requests(batches) {
        if channel.send(&message, &[]).is_err() {
            return REFUSED;
        }
    }
    let asked = ToBroker::RecallBindings {
        id: ID,
        after: None,
    };
    for message in requests([asked]) {
        if channel.send(&message, &[]).is_err() {
            return REFUSED;
        }
    }
    left(channel)
}

/// Whether the firewall has a binding to give back; what it said before is passed over.
fn left(channel: &Channel) -> u8 {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match channel.recv(&mut buffer) {
            Ok(received) => {
                let bytes = buffer.get(..received.length).unwrap_or_default();
                match decode::<FromBroker>(bytes) {
                    Ok(FromBroker::Bindings { bindings, .. }) if bindings.is_empty() => {
                        return REFUSED;
                    }
                    Ok(FromBroker::Bindings { .. }) => return WORKED,
                    _ => {}
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let readable = PollFd::new(channel.as_fd(), PollFlags::POLLIN);
                if poll(&mut [readable], 5_000_u16).unwrap_or(0) == 0 {
                    return REFUSED;
                }
            }
            // The firewall has hung up on us: as it should.
            Err(_) => return REFUSED,
        }
    }
}

/// Grants are what a flood is about; that it does not starve others is the supervisor's question.
fn flood(channel: &Channel, request: &ToBroker) -> u8 {
    let Ok(message) = encode(request) else {
        return WORKED;
    };
    let until = Instant::now() + FLOOD;
    while Instant::now() < until {
        match channel.send(&message, &[]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let writable = PollFd::new(channel.as_fd(), PollFlags::POLLOUT);
                let _ = poll(&mut [writable], 10_u8);
            }
            Err(_) => break,
        }
    }
    REFUSED
}

fn flood_of_media(channel: &Channel) -> u8 {
    flood(channel, &open_media())
}

fn flood_of_listeners(channel: &Channel) -> u8 {
    flood(
        channel,
        &ToBroker::Listen {
            id: ID,
            zone: ZoneId(0),
            transport: Transport::Udp,
            port: 5060,
        },
    )
}

fn flood_of_bans(channel: &Channel) -> u8 {
    let key = BanKey::Host([198, 18, 0, 1].into());
    flood(
        channel,
        &ToBroker::Ban {
            id: ID,
            key,
            scope: BanScope::All,
            seconds: 60,
            reason: String::new(),
        },
    )
}
