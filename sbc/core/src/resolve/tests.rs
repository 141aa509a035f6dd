//! The pure parts against answers by hand, and the resolver in a core against name servers by hand.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::{Refusal, ToBroker},
    settings::{NameServer, Named, Settings, Transport},
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record as Wire, RecordType,
        rdata::{A, AAAA, CNAME, NAPTR, SOA, SRV},
    },
};

use super::{
    cache::Cache,
    message::{Asked, Fault, Kind, Question, Record, Said},
    selection::{Nowhere, Reached, Site, Wanted},
};
use crate::{
    BrokerAnswer, ConnectionId, Core, Input, Output,
    testing::{EXTERNAL, epoch, settings},
};

mod cut;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn a(owner: &str, address: &str) -> Wire {
    let data = match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Wire::from_rdata(name(owner), 300, data)
}

fn srv(owner: &str, priority: u16, weight: u16, port: u16, target: &str) -> Wire {
    let data = SRV::new(priority, weight, port, name(target));
    Wire::from_rdata(name(owner), 300, RData::SRV(data))
}

fn naptr(owner: &str, order: u16, service: &str, replacement: &str) -> Wire {
    let data = NAPTR::new(
        order,
        10,
        (*b"s").into(),
        service.as_bytes().into(),
        Box::default(),
        name(replacement),
    );
    Wire::from_rdata(name(owner), 300, RData::NAPTR(data))
}

fn cname(owner: &str, target: &str) -> Wire {
    Wire::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

fn soa(owner: &str, minimum: u32) -> Wire {
    let data = SOA::new(name("ns.test"), name("root.test"), 1, 2, 3, 4, minimum);
    Wire::from_rdata(name(owner), 3_600, RData::SOA(data))
}

/// An answer to a question as it came.
pub(crate) fn reply(
    question: &[u8],
    code: ResponseCode,
    answers: Vec<Wire>,
    more: Vec<Wire>,
) -> Message {
    let question = Message::from_vec(question).unwrap();
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.add_queries(question.queries);
    message.add_answers(answers);
    message.add_authorities(more);
    message
}

fn asked(host: &str, kind: Kind) -> Asked {
    let question = Question {
        name: host.to_owned(),
        kind,
    };
    Asked::new(&question, 0x1234, 0x5555).unwrap()
}

fn says(asked: &Asked, code: ResponseCode, answers: Vec<Wire>) -> Result<Said, Fault> {
    let message = reply(&asked.octets().unwrap(), code, answers, Vec::new());
    asked.read(&message.to_vec().unwrap())
}

#[test]
fn only_what_repeats_number_and_question_is_an_answer() {
    let asked = asked("sip.carrier.test", Kind::A);
    let good = || {
        let answers = vec![a("sip.carrier.test", "198.51.100.20")];
        reply(
            &asked.octets().unwrap(),
            ResponseCode::NoError,
            answers,
            Vec::new(),
        )
    };
    let read = |message: &Message| asked.read(&message.to_vec().unwrap());
    let address = Record::Address("198.51.100.20".parse().unwrap());
    assert_eq!(read(&good()), Ok(Said::Records(vec![address], 300)));
    let mut other = good();
    other.metadata.id ^= 1;
    assert_eq!(read(&other), Err(Fault::Stray));
    let mut other = good();
    other.metadata.message_type = MessageType::Query;
    assert_eq!(read(&other), Err(Fault::Stray));
    for query in [
        // The same name, but not as it was written.
        Query::query(name("sip.carrier.test"), RecordType::A),
        Query::query(name("sip.other.test"), RecordType::A),
    ] {
        let mut other = good();
        other.queries = vec![query];
        assert_eq!(read(&other), Err(Fault::Stray));
    }
    let mut other = good();
    other.queries[0].query_type = RecordType::AAAA;
    assert_eq!(read(&other), Err(Fault::Stray));
    other.queries.clear();
    assert_eq!(read(&other), Err(Fault::Stray));
}

#[test]
fn what_is_cut_long_or_broken_is_refused_with_its_reason() {
    let asked = asked("sip.carrier.test", Kind::A);
    let whole = |answers| {
        let question = asked.octets().unwrap();
        reply(&question, ResponseCode::NoError, answers, Vec::new())
    };
    let mut cut = whole(Vec::new());
    cut.metadata.truncation = true;
    assert_eq!(asked.read(&cut.to_vec().unwrap()), Err(Fault::Truncated));
    let mut long = whole(Vec::new()).to_vec().unwrap();
    long.resize(1_300, 0);
    assert_eq!(asked.read(&long), Err(Fault::Oversized));
    let bytes = whole(vec![a("sip.carrier.test", "198.51.100.20")])
        .to_vec()
        .unwrap();
    for length in 0..bytes.len() {
        assert!(asked.read(&bytes[..length]).is_err(), "{length}");
    }
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::FormErr,
    ] {
        assert_eq!(says(&asked, code, Vec::new()), Err(Fault::Failure));
    }
}

#[test]
fn a_name_that_points_to_itself_ends() {
    let asked = asked("a.test", Kind::A);
    let answers = vec![cname("a.test", "b.test"), cname("b.test", "a.test")];
    assert_eq!(
        says(&asked, ResponseCode::NoError, answers),
        Err(Fault::Loop)
    );
    // A pointer in the octets that points to itself (RFC 1035 §4.1.4).
    let question = asked.octets().unwrap();
    let mut bytes = reply(&question, ResponseCode::NoError, Vec::new(), Vec::new())
        .to_vec()
        .unwrap();
    bytes[7] = 1;
    let here = u16::try_from(bytes.len()).unwrap() | 0xc000;
    bytes.extend(here.to_be_bytes());
    bytes.extend([0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 51, 100, 66]);
    assert_eq!(asked.read(&bytes), Err(Fault::Malformed));
}

#[test]
fn aliases_are_followed_and_their_time_counts() {
    let asked = asked("sip.test", Kind::A);
    let answers = vec![
        a("host.other", "198.51.100.20"),
        cname("sip.test", "host.other"),
        // Nobody asked for it.
        a("bank.test", "198.51.100.66"),
    ];
    let address = Record::Address("198.51.100.20".parse().unwrap());
    assert_eq!(
        says(&asked, ResponseCode::NoError, answers),
        Ok(Said::Records(vec![address], 60))
    );
    let answers = vec![cname("sip.test", "host.other")];
    assert_eq!(
        says(&asked, ResponseCode::NoError, answers),
        Ok(Said::Alias("host.other".into(), 60))
    );
}

#[test]
fn records_of_other_names_do_not_answer() {
    let asked = asked("sip.test", Kind::A);
    let answers = vec![a("bank.test", "198.51.100.66")];
    assert_eq!(
        says(&asked, ResponseCode::NoError, answers),
        Ok(Said::Nothing(None))
    );
}

#[test]
fn a_denial_holds_as_long_as_its_soa_says() {
    let asked = asked("sip.carrier.test", Kind::Srv);
    let question = asked.octets().unwrap();
    let deny = |authority| {
        let message = reply(
            &question,
            ResponseCode::NXDomain,
            Vec::new(),
            vec![authority],
        );
        asked.read(&message.to_vec().unwrap())
    };
    assert_eq!(deny(soa("carrier.test", 900)), Ok(Said::Nothing(Some(900))));
    assert_eq!(
        deny(soa("carrier.test", 9_000)),
        Ok(Said::Nothing(Some(3_600)))
    );
    // The SOA of a zone that the name does not lie in.
    assert_eq!(deny(soa("other.test", 900)), Ok(Said::Nothing(None)));
}

pub(crate) fn carrier() -> Named {
    Named {
        host: "carrier.test".into(),
        port: None,
        by_naptr: true,
        transports: vec![Transport::Udp, Transport::Tcp],
        networks: vec![
            "198.51.100.0/24".parse().unwrap(),
            "2001:db8:e::/64".parse().unwrap(),
        ],
        ports: vec![5060, 5070],
    }
}

/// What the cache is to know: names with their records, none: denied.
fn known(zone: &[(&str, Kind, Vec<Record>)], now: Instant) -> Cache {
    let mut cache = Cache::default();
    for (host, kind, records) in zone {
        let question = Question {
            name: (*host).to_owned(),
            kind: *kind,
        };
        let said = if records.is_empty() {
            Said::Nothing(None)
        } else {
            Said::Records(records.clone(), 60)
        };
        cache.learn(question, said, now);
    }
    cache
}

fn address(text: &str) -> Record {
    Record::Address(text.parse().unwrap())
}

fn site(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    Record::Srv {
        priority,
        weight,
        port,
        target: target.into(),
    }
}

fn way(order: u16, service: &str, replacement: &str) -> Record {
    Record::Naptr {
        order,
        preference: 0,
        service: service.into(),
        replacement: replacement.into(),
    }
}

fn walk(named: &Named, zone: &[(&str, Kind, Vec<Record>)]) -> Result<Reached, Nowhere> {
    let now = epoch();
    let cache = known(zone, now);
    let own = ["198.51.100.1".parse().unwrap()];
    let wanted = Wanted {
        named,
        families: &[false, true],
        own: &own,
    };
    let walk = wanted.walk(&cache, now);
    assert!(walk.ask.is_empty(), "{:?}", walk.ask);
    walk.found
}

fn places(reached: &Reached) -> Vec<String> {
    let sites = reached.sites.iter().flat_map(|site| &site.addresses);
    sites.map(ToString::to_string).collect()
}

#[test]
fn the_transport_is_the_first_of_naptr_that_we_have() {
    let zone = [
        (
            "carrier.test",
            Kind::Naptr,
            vec![
                way(30, "SIP+D2U", "u.carrier.test"),
                way(20, "SIP+D2T", "t.carrier.test"),
                way(10, "SIPS+D2T", "s.carrier.test"),
            ],
        ),
        (
            "t.carrier.test",
            Kind::Srv,
            vec![site(1, 0, 5070, "h.carrier.test")],
        ),
        ("h.carrier.test", Kind::A, vec![address("198.51.100.20")]),
        (
            "h.carrier.test",
            Kind::Aaaa,
            vec![address("2001:db8:e::20")],
        ),
    ];
    let reached = walk(&carrier(), &zone).unwrap();
    assert_eq!(reached.transport, Transport::Tcp);
    assert_eq!(
        places(&reached),
        ["198.51.100.20:5070", "[2001:db8:e::20]:5070"]
    );
}

#[test]
fn naptr_never_leads_away_from_tls() {
    let named = Named {
        transports: vec![Transport::Tls],
        ..carrier()
    };
    let zone = [(
        "carrier.test",
        Kind::Naptr,
        vec![way(10, "SIP+D2U", "u.carrier.test")],
    )];
    assert_eq!(walk(&named, &zone), Err(Nowhere::Unfit));
}

#[test]
fn without_naptr_srv_of_each_transport_and_without_srv_the_host_is_asked_for() {
    let none = || Vec::new();
    let mut zone = vec![
        ("carrier.test", Kind::Naptr, none()),
        ("_sip._udp.carrier.test", Kind::Srv, none()),
        (
            "_sip._tcp.carrier.test",
            Kind::Srv,
            vec![site(1, 1, 5070, "h.test")],
        ),
        ("h.test", Kind::A, vec![address("198.51.100.21")]),
        ("h.test", Kind::Aaaa, none()),
    ];
    let reached = walk(&carrier(), &zone).unwrap();
    assert_eq!(
        (reached.transport, places(&reached)),
        (Transport::Tcp, vec!["198.51.100.21:5070".to_owned()])
    );
    zone[2].2.clear();
    zone.push(("carrier.test", Kind::A, vec![address("198.51.100.22")]));
    zone.push(("carrier.test", Kind::Aaaa, none()));
    let reached = walk(&carrier(), &zone).unwrap();
    assert_eq!(
        (reached.transport, places(&reached)),
        (Transport::Udp, vec!["198.51.100.22:5060".to_owned()])
    );
}

#[test]
fn with_a_port_neither_naptr_nor_srv_is_asked_for() {
    let named = Named {
        port: Some(5070),
        by_naptr: false,
        transports: vec![Transport::Tcp],
        ..carrier()
    };
    let zone = [
        ("carrier.test", Kind::A, vec![address("198.51.100.22")]),
        ("carrier.test", Kind::Aaaa, Vec::new()),
    ];
    let reached = walk(&named, &zone).unwrap();
    assert_eq!(places(&reached), ["198.51.100.22:5070"]);
    assert_eq!(reached.transport, Transport::Tcp);
}

#[test]
fn a_target_of_dot_says_that_there_is_no_such_service() {
    let named = Named {
        by_naptr: false,
        transports: vec![Transport::Udp],
        ..carrier()
    };
    let zone = [("_sip._udp.carrier.test", Kind::Srv, vec![site(0, 0, 0, "")])];
    assert_eq!(walk(&named, &zone), Err(Nowhere::Unfit));
}

#[test]
fn an_address_outside_the_networks_or_ports_or_our_own_counts_for_nothing() {
    let named = Named {
        by_naptr: false,
        transports: vec![Transport::Udp],
        ..carrier()
    };
    let at = |port, host: &str| {
        let zone = [
            (
                "_sip._udp.carrier.test",
                Kind::Srv,
                vec![site(1, 0, port, "h.test")],
            ),
            ("h.test", Kind::A, vec![address(host)]),
            ("h.test", Kind::Aaaa, vec![address("::ffff:198.51.100.20")]),
        ];
        walk(&named, &zone)
    };
    assert!(at(5060, "198.51.100.20").is_ok());
    for (port, host) in [
        (5060, "192.0.2.10"),
        (22, "198.51.100.20"),
        (5060, "198.51.100.1"),
        (5060, "127.0.0.1"),
    ] {
        assert_eq!(at(port, host), Err(Nowhere::Unfit), "{host}:{port}");
    }
}

#[test]
fn weights_are_shares_and_priorities_come_first() {
    let one = |priority, weight, host: u8| Site {
        priority,
        weight,
        addresses: vec![SocketAddr::from(([198, 51, 100, host], 5060))],
    };
    let reached = Reached {
        transport: Transport::Udp,
        sites: vec![one(1, 0, 10), one(1, 25, 11), one(1, 75, 12), one(2, 0, 13)],
    };
    let mut state = 1_u64;
    let mut draw = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut first: BTreeMap<u8, u32> = BTreeMap::new();
    for _ in 0..10_000 {
        let order = reached.order(&mut draw);
        assert_eq!(order.len(), 4);
        assert_eq!(order[3].to_string(), "198.51.100.13:5060");
        let IpAddr::V4(host) = order[0].ip() else {
            panic!()
        };
        *first.entry(host.octets()[3]).or_default() += 1;
    }
    assert!((2_200..2_800).contains(&first[&11]), "{first:?}");
    assert!((7_100..7_800).contains(&first[&12]), "{first:?}");
    // Without weight it is taken now and then (RFC 2782: a very small chance).
    assert!((1..300).contains(&first[&10]), "{first:?}");
}

struct House {
    core: Core,
    now: Instant,
    next: u64,
    /// Sockets to name servers, and what was asked by them last.
    sockets: BTreeMap<ConnectionId, (SocketAddr, Vec<u8>)>,
    requests: Vec<(RequestId, SocketAddr)>,
    /// Of them those for a stream.
    streams: Vec<RequestId>,
    log: Vec<(&'static str, Vec<(&'static str, String)>)>,
    questions: usize,
}

const SERVERS: [&str; 2] = ["198.51.100.53:53", "198.51.100.54:53"];

impl House {
    fn new() -> Self {
        Self::with(carrier())
    }

    fn with(named: Named) -> Self {
        let mut settings: Settings = settings();
        settings.trunks.truncate(1);
        settings.trunks[0].addresses.clear();
        settings.trunks[0].named = Some(named);
        settings.name_servers = SERVERS
            .map(|address| NameServer {
                zone: EXTERNAL,
                address: address.parse().unwrap(),
            })
            .to_vec();
        let now = epoch();
        let mut house = Self {
            core: Core::new(settings, [7; 32], now, 1_700_000_000_000),
            now,
            next: 1_000,
            sockets: BTreeMap::new(),
            requests: Vec::new(),
            streams: Vec::new(),
            log: Vec::new(),
            questions: 0,
        };
        house.drain();
        house
    }

    fn input(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Broker(ToBroker::Connect {
                    id,
                    zone,
                    transport,
                    peer,
                }) => {
                    assert_eq!(zone, EXTERNAL);
                    if transport != Transport::Udp {
                        assert_eq!(transport, Transport::Tcp);
                        self.streams.push(id);
                    }
                    self.requests.push((id, peer));
                }
                Output::Ask { connection, bytes } => {
                    self.questions += 1;
                    self.sockets.get_mut(&connection).unwrap().1 = bytes;
                }
                Output::Stream { connection, bytes } => {
                    self.questions += 1;
                    let (length, question) = bytes.split_first_chunk::<2>().unwrap();
                    assert_eq!(usize::from(u16::from_be_bytes(*length)), question.len());
                    self.sockets.get_mut(&connection).unwrap().1 = question.to_vec();
                }
                Output::CloseStream { connection } => {
                    self.sockets.remove(&connection);
                }
                Output::Log { code, fields, .. } => self.log.push((code, fields)),
                _ => {}
            }
        }
    }

    fn lend(&mut self) {
        for (id, peer) in std::mem::take(&mut self.requests) {
            self.next += 1;
            let connection = ConnectionId(self.next);
            self.sockets.insert(connection, (peer, Vec::new()));
            self.input(Input::Broker(BrokerAnswer::Connected {
                id,
                connection,
                local: "198.51.100.1:40000".parse().unwrap(),
                peer,
            }));
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
            self.lend();
        }
        self.now = end;
    }

    /// Answers every question by `zone`, until there is none.
    fn serve(&mut self, zone: impl Fn(&str, RecordType) -> Option<Vec<Wire>>) {
        self.lend();
        while let Some((connection, (_, bytes))) = self.sockets.pop_first() {
            self.sockets
                .insert(connection, (SERVERS[0].parse().unwrap(), bytes.clone()));
            let query = Message::from_vec(&bytes).unwrap().queries[0].clone();
            let host = query.name.to_lowercase().to_ascii();
            let answers = zone(host.trim_end_matches('.'), query.query_type);
            let code = if answers.is_some() {
                ResponseCode::NoError
            } else {
                ResponseCode::NXDomain
            };
            let denial = vec![soa("test", 600)];
            let message = reply(&bytes, code, answers.unwrap_or_default(), denial);
            let bytes = message.to_vec().unwrap();
            self.input(Input::Answer {
                connection,
                bytes: &bytes,
            });
            assert!(
                !self.sockets.contains_key(&connection),
                "answered, but open"
            );
            self.lend();
        }
    }

    fn addresses(&self) -> Vec<String> {
        let trunk = self.core.cx.surroundings.trunk(0).unwrap();
        trunk.addresses.iter().map(ToString::to_string).collect()
    }

    fn said(&self, code: &str) -> usize {
        self.log.iter().filter(|(have, _)| *have == code).count()
    }
}

pub(crate) fn zone(host: &str, kind: RecordType) -> Option<Vec<Wire>> {
    match (host, kind) {
        ("carrier.test", RecordType::NAPTR) => Some(vec![naptr(
            "carrier.test",
            10,
            "SIP+D2U",
            "_sip._udp.carrier.test",
        )]),
        ("_sip._udp.carrier.test", RecordType::SRV) => Some(vec![
            srv(host, 10, 0, 5060, "one.carrier.test"),
            srv(host, 20, 0, 5070, "two.carrier.test"),
        ]),
        ("one.carrier.test", RecordType::A) => Some(vec![a(host, "198.51.100.20")]),
        ("two.carrier.test", RecordType::A) => Some(vec![a(host, "198.51.100.21")]),
        ("one.carrier.test" | "two.carrier.test", RecordType::AAAA) => Some(Vec::new()),
        _ => None,
    }
}

const FOUND: [&str; 2] = ["198.51.100.20:5060", "198.51.100.21:5070"];

#[test]
fn a_carrier_by_name_is_found_before_any_call() {
    let mut house = House::new();
    house.serve(zone);
    assert_eq!(house.addresses(), FOUND);
    assert_eq!(house.said("name-resolved"), 1);
    assert_eq!(house.questions, 6);
    assert!(house.sockets.is_empty());
}

#[test]
fn a_lost_question_is_asked_again_of_the_next_server_by_another_socket() {
    let mut house = House::new();
    house.lend();
    let (first, (server, question)) = house.sockets.pop_first().unwrap();
    assert_eq!(server.to_string(), SERVERS[0]);
    house.sockets.insert(first, (server, question.clone()));
    house.wait(Duration::from_secs(1));
    house.lend();
    let (second, (server, again)) = house.sockets.first_key_value().unwrap();
    assert_eq!(server.to_string(), SERVERS[1]);
    assert_ne!(first, *second);
    assert_ne!(question, *again);
    house.serve(zone);
    assert_eq!(house.addresses(), FOUND);
}

#[test]
fn whoever_guesses_is_shut_out_after_a_few_tries() {
    let mut house = House::new();
    house.lend();
    let (&socket, (_, question)) = house.sockets.first_key_value().unwrap();
    let question = question.clone();
    let mut forged = reply(&question, ResponseCode::NXDomain, Vec::new(), Vec::new());
    for _ in 0..17 {
        forged.metadata.id = forged.metadata.id.wrapping_add(1);
        let bytes = forged.to_vec().unwrap();
        house.input(Input::Answer {
            connection: socket,
            bytes: &bytes,
        });
    }
    assert!(!house.sockets.contains_key(&socket));
    house.serve(zone);
    assert_eq!(house.addresses(), FOUND);
}

#[test]
fn servers_that_fail_are_asked_a_few_times_and_then_left_alone() {
    let mut house = House::new();
    house.wait(Duration::from_secs(20));
    let asked = house.questions;
    assert!((4..=24).contains(&asked), "{asked}");
    assert!(house.addresses().is_empty());
    house.wait(Duration::from_secs(600));
    assert_eq!(house.said("name-unresolved"), 1);
    assert!(house.questions < 500, "{}", house.questions);
    for _ in 0..60 {
        house.wait(Duration::from_secs(1));
        house.serve(zone);
    }
    assert_eq!(house.addresses(), FOUND);
}

#[test]
fn what_was_known_outlives_the_name_servers() {
    let mut house = House::new();
    house.serve(zone);
    house.wait(Duration::from_secs(7_200));
    assert_eq!(house.addresses(), FOUND);
    assert_eq!(house.said("name-unresolved"), 1);
}

#[test]
fn a_new_answer_takes_the_place_of_the_old_when_that_ends() {
    let mut house = House::new();
    house.serve(zone);
    let asked = house.questions;
    house.wait(Duration::from_secs(299));
    assert_eq!(house.questions, asked, "nothing is asked before its time");
    house.wait(Duration::from_secs(1));
    house.serve(|host, kind| match (host, kind) {
        ("one.carrier.test", RecordType::A) => Some(vec![a(host, "198.51.100.30")]),
        _ => zone(host, kind),
    });
    assert_eq!(
        house.addresses(),
        ["198.51.100.30:5060", "198.51.100.21:5070"]
    );
    assert_eq!(house.said("name-resolved"), 2);
}

#[test]
fn a_denial_takes_the_places_away_and_is_said_once() {
    let mut house = House::new();
    house.serve(zone);
    house.wait(Duration::from_secs(300));
    house.serve(|_, _| None);
    assert!(house.addresses().is_empty());
    house.wait(Duration::from_secs(601));
    house.serve(|_, _| None);
    assert_eq!(house.said("name-unresolved"), 1);
}

#[test]
fn a_lying_server_moves_nobody_out_of_his_networks() {
    let mut house = House::new();
    house.serve(zone);
    house.wait(Duration::from_secs(300));
    house.serve(|host, kind| match (host, kind) {
        (_, RecordType::A) => Some(vec![a(host, "192.0.2.10")]),
        _ => zone(host, kind),
    });
    assert_eq!(house.addresses(), FOUND);
    assert_eq!(house.said("name-outside-networks"), 1);
}

#[test]
fn refused_sockets_do_not_make_a_storm() {
    let mut house = House::new();
    let mut asked = 0;
    for _ in 0..100 {
        for (id, _) in std::mem::take(&mut house.requests) {
            asked += 1;
            house.input(Input::Broker(BrokerAnswer::Refused {
                id,
                reason: Refusal::RateLimit,
            }));
        }
    }
    assert!((4..=40).contains(&asked), "{asked}");
}

#[test]
fn new_settings_forget_the_names_that_are_gone_and_keep_the_others() {
    let mut house = House::new();
    house.serve(zone);
    let mut same = house.core.cx.settings().clone();
    same.trunks[0].addresses.clear();
    house.input(Input::Settings(Box::new(same.clone())));
    assert_eq!(house.addresses(), FOUND);
    same.trunks[0].named.as_mut().unwrap().host = "other.test".into();
    house.input(Input::Settings(Box::new(same)));
    assert!(house.addresses().is_empty());
}
