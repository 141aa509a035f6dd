//! TLS and WebSocket: real clients on the loopback, keys in a keyholder that the tests play.

use std::{
    cell::Cell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::ChannelKind,
    journal::{Record, ToJournal},
    keyholder::FromKeyholder,
    settings::{Listener, PeerTls, Settings, Transport, Trunk, TrunkPolicy, ZoneId},
};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use sbc::tls::profile;
use sbc_core::{BrokerAnswer, Input, Output};

use crate::{
    connection, echo,
    house::{End, Firewall, House, PATIENCE, REGISTERED, Seen, settings},
    keyholder::{Authority, Certified, Keyholder},
};

const PORT: u16 = 5061;
const TRUNK: [u8; 4] = [192, 0, 2, 20];
const NEXT_CENTURY: i32 = 2100;

struct Scene {
    house: House,
    firewall: Firewall,
    keyholder: Keyholder,
    channel: Arc<End>,
    authority: Authority,
}

/// An echoing product with the certificates `a` and `b` on TLS and WSS.
fn scene(change: impl FnOnce(&mut Settings)) -> Scene {
    scene_with(change, echo)
}

fn scene_with(
    change: impl FnOnce(&mut Settings),
    script: impl FnMut(&Input<'_>) -> Vec<Output> + Send + 'static,
) -> Scene {
    let authority = Authority::new("tests");
    let keyholder = Keyholder::default();
    for name in ["a", "b"] {
        let host = format!("{name}.example");
        keyholder.certificate(name, &authority.issue(&[&host], NEXT_CENTURY));
    }
    keyholder.authority("ca", &authority);
    let mut house = House::new(script, Vec::new());
    let channel = Arc::new(house.peer(Role::Keyholder, ChannelKind::Keyholder));
    keyholder.serve(Arc::clone(&channel));
    let mut settings = settings();
    let listener = |transport| Listener {
        zone: ZoneId(0),
        transport,
        port: PORT,
        certificates: vec!["a".into(), "b".into()],
        origins: Vec::new(),
    };
    settings.listeners = vec![listener(Transport::Tls), listener(Transport::Wss)];
    change(&mut settings);
    let firewall = house.firewall(settings);
    Scene {
        house,
        firewall,
        keyholder,
        channel,
        authority,
    }
}

/// A trunk on the loopback that must show a certificate for `trunk.example`.
fn trunk(settings: &mut Settings) {
    settings.trunks = vec![Trunk {
        name: "trunk".into(),
        zone: ZoneId(0),
        addresses: vec!["127.0.0.1:5061".parse().unwrap()],
        named: None,
        transport: Transport::Tls,
        large_requests_by_tcp: true,
        tls: Some(PeerTls {
            names: vec!["trunk.example".into()],
            authorities: vec!["ca".into()],
            certificate: Some("a".into()),
        }),
        registration: None,
        policy: TrunkPolicy::default(),
    }];
}

/// A trunk that is not where the tests' clients are.
fn trunk_elsewhere(settings: &mut Settings) {
    trunk(settings);
    settings.trunks[0].addresses = vec![(TRUNK, 5061).into()];
}

type Client = StreamOwned<ClientConnection, TcpStream>;

impl Scene {
    /// A TCP connection that the firewall accepted at the listener.
    fn connect(&self, transport: Transport) -> TcpStream {
        self.connect_from(transport, None)
    }

    /// The same as if it came from another host.
    fn connect_from(&self, transport: Transport, source: Option<[u8; 4]>) -> TcpStream {
        let (far, near) = connection();
        let peer = near.peer_addr().unwrap();
        let message = FromBroker::Accepted {
            zone: ZoneId(0),
            transport,
            local: SocketAddr::new([127, 0, 0, 1].into(), PORT),
            peer: source.map_or(peer, |source| SocketAddr::new(source.into(), peer.port())),
        };
        self.firewall.send(&message, vec![near.into()]);
        far
    }

    /// A handshake with `host`; fails if the product ends it.
    fn handshake(
        &self,
        transport: Transport,
        host: &str,
        version: &'static SupportedProtocolVersion,
        shown: Option<&Certified>,
    ) -> std::io::Result<Client> {
        let config = self.client(version, shown, profile::provider());
        self.handshake_as(transport, host, &config)
    }

    /// A client of TLS that trusts our authority.
    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<&Certified>,
        provider: Arc<CryptoProvider>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some(shown) => builder
                .with_client_auth_cert(vec![shown.der.clone()], shown.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        Arc::new(config)
    }

    fn handshake_as(
        &self,
        transport: Transport,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<Client> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = self.connect(transport);
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(session, stream))
    }

    /// As [`Self::handshake`], again until the certificates have come from the keyholder.
    fn patiently(
        &self,
        transport: Transport,
        host: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.handshake(transport, host, version, None) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }
}

fn says(client: &mut Client, words: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(words)?;
    let mut answer = vec![0; words.len()];
    client.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn both_versions_of_tls_carry_octets_under_the_certificate_of_the_wanted_host() {
    let mut scene = scene(|_| ());
    for version in [&TLS13, &TLS12] {
        for host in ["a.example", "b.example"] {
            let mut client = scene.patiently(Transport::Tls, host, version);
            let long = vec![b'x'; 20_000];
            for words in [b"hello".as_slice(), &long] {
                assert_eq!(says(&mut client, words).unwrap(), words);
            }
        }
    }
    assert_eq!(scene.house.counter("tls_handshakes_total"), 4);
    assert_eq!(scene.house.counter("tls_handshakes_failed_total"), 0);
}

#[test]
fn a_phone_that_comes_back_over_tls_1_3_costs_no_signature_and_over_1_2_one() {
    let mut scene = scene(trunk_elsewhere);
    drop(scene.patiently(Transport::Tls, "a.example", &TLS13));
    let signed = |scene: &Scene| scene.keyholder.signatures.load(Ordering::Relaxed);
    for (version, second, cost) in [
        (&TLS13, HandshakeKind::Resumed, 1),
        (&TLS12, HandshakeKind::Full, 3),
    ] {
        let phone = scene.client(version, None, profile::provider());
        let before = signed(&scene);
        for kind in [HandshakeKind::Full, second, second] {
            let mut client = scene
                .handshake_as(Transport::Tls, "a.example", &phone)
                .unwrap();
            assert_eq!(client.conn.handshake_kind(), Some(kind));
            // The ticket comes behind the first words.
            assert_eq!(says(&mut client, b"hello").unwrap(), b"hello");
        }
        assert_eq!(signed(&scene) - before, cost, "{version:?}");
    }
    assert_eq!(scene.house.counter("tls_handshakes_failed_total"), 0);
}

#[test]
fn a_session_outlives_a_commit_and_not_the_certificate_that_it_began_with() {
    let scene = scene(|_| ());
    drop(scene.patiently(Transport::Tls, "a.example", &TLS13));
    let phone = scene.client(&TLS13, None, profile::provider());
    let comes = || {
        let mut client = scene
            .handshake_as(Transport::Tls, "a.example", &phone)
            .unwrap();
        assert_eq!(says(&mut client, b"hello").unwrap(), b"hello");
        client.conn.handshake_kind().unwrap()
    };
    assert_eq!(comes(), HandshakeKind::Full);
    assert_eq!(comes(), HandshakeKind::Resumed);
    let renewed = scene.authority.issue(&["a.example"], NEXT_CENTURY);
    scene.keyholder.certificate("a", &renewed);
    let changed = FromKeyholder::Changed { key: "a".into() };
    scene.channel.send(&changed, Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while comes() == HandshakeKind::Resumed {
        assert!(Instant::now() < deadline, "the old session goes on");
    }
    assert_eq!(comes(), HandshakeKind::Resumed, "the new one does too");
}

#[test]
fn a_client_that_knows_pkcs1_signatures_only_is_served_over_tls_1_2() {
    let scene = scene(|_| ());
    drop(scene.patiently(Transport::Tls, "a.example", &TLS13));
    let renewed = scene.authority.issue_rsa(&["a.example"], NEXT_CENTURY);
    scene.keyholder.certificate("a", &renewed);
    let changed = FromKeyholder::Changed { key: "a".into() };
    scene.channel.send(&changed, Vec::new());
    let algorithms = profile::provider().signature_verification_algorithms;
    let only = |schemes: &[SignatureScheme]| {
        let mapping = algorithms.mapping.iter();
        let mapping: Vec<_> = mapping
            .filter(|(scheme, _)| schemes.contains(scheme))
            .copied()
            .collect();
        Arc::new(CryptoProvider {
            signature_verification_algorithms: WebPkiSupportedAlgorithms {
                all: algorithms.all,
                mapping: mapping.leak(),
            },
            ..(*profile::provider()).clone()
        })
    };
    let old = only(&[SignatureScheme::RSA_PKCS1_SHA256]);
    let newer = only(&[
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PSS_SHA256,
    ]);
    let comes = |provider: &Arc<CryptoProvider>, version| {
        let phone = scene.client(version, None, Arc::clone(provider));
        let mut client = scene.handshake_as(Transport::Tls, "a.example", &phone)?;
        says(&mut client, b"hello")
    };
    let deadline = Instant::now() + PATIENCE;
    while comes(&old, &TLS12).is_err() {
        assert!(Instant::now() < deadline, "refused");
    }
    assert!(comes(&newer, &TLS12).is_ok());
    assert!(comes(&newer, &TLS13).is_ok());
    assert!(comes(&old, &TLS13).is_err(), "RFC 8446 \u{a7}4.4.3");
}

#[test]
fn the_core_hears_of_a_connection_after_its_handshake_and_of_no_other() {
    let mut scene = scene(|settings| settings.limits.handshake_seconds = 1);
    drop(scene.patiently(Transport::Tls, "a.example", &TLS13));
    scene.house.expect(|seen| *seen == Seen::StreamClosed);
    let mut silent = scene.connect(Transport::Tls);
    let mut babbling = scene.connect(Transport::Tls);
    babbling
        .write_all(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        .unwrap();
    assert!(babbling.read_to_end(&mut Vec::new()).is_ok());
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "out of time");
    let mut client = scene.patiently(Transport::Tls, "a.example", &TLS13);
    says(&mut client, b"hello").unwrap();
    drop(client);
    let opened = Cell::new(0);
    scene.house.expect(|seen| {
        opened.set(opened.get() + u32::from(*seen == Seen::StreamOpened));
        *seen == Seen::StreamClosed
    });
    assert_eq!(opened.get(), 1);
    assert_eq!(scene.house.counter("sip_handshakes_late_total"), 1);
    assert_eq!(scene.house.counter("sip_connections_unproved"), 0);
}

#[test]
fn a_trunk_must_show_its_own_certificate_and_a_live_one() {
    let mut scene = scene(trunk);
    let rogue = Authority::new("rogue");
    let own = scene.authority.issue(&["trunk.example"], NEXT_CENTURY);
    let deadline = Instant::now() + PATIENCE;
    // Until the certificates have come.
    while scene.house.counter("tls_handshakes_total") == 0 {
        assert!(Instant::now() < deadline);
        if let Ok(mut client) = scene.handshake(Transport::Tls, "a.example", &TLS13, Some(&own)) {
            assert_eq!(says(&mut client, b"hello").unwrap(), b"hello");
        }
    }
    let journal = scene
        .house
        .peer(broker_proto::Role::Journal, ChannelKind::Journal);
    for version in [&TLS13, &TLS12] {
        let attempt = |shown: Option<&Certified>| {
            let mut client = scene.handshake(Transport::Tls, "a.example", version, shown)?;
            says(&mut client, b"hello")
        };
        for (who, shown) in [
            ("rogue", rogue.issue(&["trunk.example"], NEXT_CENTURY)),
            ("expired", scene.authority.issue(&["trunk.example"], 2021)),
            (
                "another",
                scene.authority.issue(&["other.example"], NEXT_CENTURY),
            ),
        ] {
            assert!(attempt(Some(&shown)).is_err(), "{who}");
        }
        assert!(attempt(None).is_err(), "none");
        assert_eq!(attempt(Some(&own)).unwrap(), b"hello");
    }
    assert_eq!(scene.house.counter("tls_handshakes_failed_total"), 8);
    // Why, to whoever looks: in the metrics, and in the events of a peer that is known.
    for reason in [
        "certificate-issuer",
        "certificate-expired",
        "certificate-name",
        "no-certificate",
    ] {
        let name = format!("tls_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(scene.house.counter(&name), 2, "{reason}");
    }
    for version in 0..2 {
        for reason in [
            "certificate-issuer",
            "certificate-expired",
            "certificate-name",
            "no-certificate",
        ] {
            let ToJournal::Append(Record::Event { code, fields, .. }) =
                journal.receive::<ToJournal>().unwrap().0
            else {
                panic!("an event")
            };
            assert_eq!(code, "tls-refused");
            let field = |name: &str| fields.iter().find(|(have, _)| have == name).cloned();
            assert_eq!(field("reason").unwrap().1, reason, "{version} {fields:?}");
            assert_eq!(field("by").unwrap().1, "them");
        }
    }
}

#[test]
fn a_trunk_that_nobody_vouches_for_gets_no_handshake() {
    let mut scene = scene(|settings| {
        trunk(settings);
        settings.trunks[0].tls = None;
    });
    let mut far = scene.connect(Transport::Tls);
    assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(scene.house.counter("sip_connections_refused_total"), 1);
}

#[test]
fn new_certificates_are_shown_to_new_connections_and_old_ones_go_on() {
    let scene = scene(|_| ());
    let mut old = scene.patiently(Transport::Tls, "a.example", &TLS13);
    let shown = |client: &Client| client.conn.peer_certificates().unwrap()[0].to_vec();
    let first = shown(&old);
    let renewed = scene.authority.issue(&["a.example"], NEXT_CENTURY);
    scene.keyholder.certificate("a", &renewed);
    let changed = FromKeyholder::Changed { key: "a".into() };
    scene.channel.send(&changed, Vec::new());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let new = scene.patiently(Transport::Tls, "a.example", &TLS13);
        if shown(&new) == renewed.der.to_vec() {
            break;
        }
        assert!(Instant::now() < deadline);
        assert_eq!(shown(&new), first);
    }
    assert_eq!(says(&mut old, b"still here").unwrap(), b"still here");
}

#[test]
fn the_oldest_silent_strangers_make_room_and_who_was_answered_stays() {
    let mut scene = scene(|settings| {
        settings.limits.connections = 8;
        trunk_elsewhere(settings);
    });
    let mut honest = scene.patiently(Transport::Tls, "a.example", &TLS13);
    says(&mut honest, b"hello").unwrap();
    // Nobody has said anything by these, but a phone is registered there, and the other is a trunk.
    let spared = [
        scene.connect_from(Transport::Tls, Some(REGISTERED)),
        scene.connect_from(Transport::Tls, Some(TRUNK)),
    ];
    let refused = scene.house.counter("sip_connections_refused_total");
    let silent: Vec<TcpStream> = (0..20).map(|_| scene.connect(Transport::Tls)).collect();
    for mut evicted in silent.into_iter().take(16) {
        evicted
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(evicted.read(&mut [0; 1]).unwrap(), 0);
    }
    assert_eq!(says(&mut honest, b"still here").unwrap(), b"still here");
    let mut next = scene.patiently(Transport::Tls, "a.example", &TLS13);
    says(&mut next, b"hello").unwrap();
    assert!(scene.house.counter("sip_connections_evicted_total") >= 16);
    for mut spared in spared {
        spared.set_nonblocking(true).unwrap();
        let still = spared.read(&mut [0; 1]).unwrap_err();
        assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
    }
    assert_eq!(
        scene.house.counter("sip_connections_refused_total"),
        refused
    );
}

#[test]
fn sip_crosses_websocket_over_tls_message_by_message() {
    let mut scene = scene(|_| ());
    let client = scene.patiently(Transport::Wss, "b.example", &TLS13);
    let request = tungstenite::http::Request::builder()
        .uri("wss://b.example/ws")
        .header("Host", "b.example")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Origin", "https://b.example")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", "sip")
        .body(())
        .unwrap();
    let (mut socket, response) = tungstenite::client(request, client).unwrap();
    assert_eq!(
        response.headers().get("Sec-WebSocket-Protocol").unwrap(),
        "sip"
    );
    for size in [4, 1300, 60_000] {
        let message = "x".repeat(size);
        socket
            .send(tungstenite::Message::text(message.clone()))
            .unwrap();
        assert_eq!(socket.read().unwrap().into_text().unwrap(), message);
    }
    socket
        .send(tungstenite::Message::Ping("ho".into()))
        .unwrap();
    assert_eq!(
        socket.read().unwrap(),
        tungstenite::Message::Pong("ho".into())
    );
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    scene.house.expect(|seen| *seen == Seen::StreamClosed);
    let mut other = scene.patiently(Transport::Wss, "b.example", &TLS13);
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404 "));
    assert_eq!(scene.house.counter("websocket_refused_total"), 1);
}

#[test]
fn we_connect_to_a_trunk_that_bears_its_name_and_to_no_other() {
    let far: SocketAddr = "127.0.0.1:5061".parse().unwrap();
    let mut asked = 0;
    // Every connection that the trunk opens has the core open one to it.
    let script = move |input: &Input<'_>| match *input {
        Input::Broker(BrokerAnswer::Connected { connection, .. }) => vec![Output::Stream {
            connection,
            bytes: b"hello".to_vec(),
        }],
        Input::StreamOpened { .. } => {
            asked += 1;
            vec![Output::Broker(ToBroker::Connect {
                id: RequestId(asked),
                zone: ZoneId(0),
                transport: Transport::Tls,
                peer: far,
            })]
        }
        _ => Vec::new(),
    };
    let scene = scene_with(trunk, script);
    let rogue = Authority::new("rogue");
    let own = scene.authority.issue(&["trunk.example"], NEXT_CENTURY);
    let other = scene.authority.issue(&["other.example"], NEXT_CENTURY);
    let forged = rogue.issue(&["trunk.example"], NEXT_CENTURY);
    let serve = |certified: &Certified| {
        let deadline = Instant::now() + PATIENCE;
        while scene
            .handshake(Transport::Tls, "a.example", &TLS12, Some(&own))
            .is_err()
        {
            assert!(Instant::now() < deadline);
        }
        let request = scene
            .firewall
            .expect(|message| matches!(message, ToBroker::Connect { .. }));
        let ToBroker::Connect { id, .. } = request else {
            unreachable!()
        };
        let (far_end, near) = connection();
        let connected = FromBroker::Connected {
            id,
            local: near.local_addr().unwrap(),
            peer: far,
        };
        scene.firewall.send(&connected, vec![near.into()]);
        let config = ServerConfig::builder_with_provider(profile::provider())
            .with_protocol_versions(&profile::VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.der.clone()], certified.private_key())
            .unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, far_end);
        let mut words = [0; 5];
        (id, stream.read_exact(&mut words).map(|()| words))
    };
    for certified in [&other, &forged] {
        let (id, heard) = serve(certified);
        assert!(heard.is_err());
        scene.house.expect(|seen| *seen == Seen::Refused(id));
    }
    assert_eq!(serve(&own).1.unwrap(), *b"hello");
}
