//! SIP over TLS and WebSocket: calls, who is refused, what a crowd of half-open connections does to an honest caller, what a
//! connection costs, and that the private key is nowhere in the sbc.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::FileExt as _,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    agent::{Agent, description},
    api,
    figures::Figures,
    lab::{
        pki,
        product::{self, API_TOKEN},
        topology,
    },
    secure_agent::{SecureAgent, Trust, connect},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[
    ("a_trunk_calls_over_tls_by_its_certificate", trunk_call),
    (
        "rogue_expired_and_missing_certificates_are_refused",
        refused,
    ),
    ("old_versions_and_suites_are_refused", profile),
    ("a_phone_registers_over_tls_and_is_called", registers_tls),
    ("a_browser_registers_over_wss_and_is_called", registers_wss),
    ("strangers_pages_and_paths_get_nothing", pages),
    ("the_private_key_is_nowhere_in_the_sbc", key_hunt),
    ("an_idle_tls_connection_costs_little", memory),
    ("an_honest_call_connects_among_10000_half_open", half_open),
];

const TLS4: &str = "198.51.100.1:5061";
const TLS6: &str = "[2001:db8:e::1]:5061";
const WSS4: &str = "198.51.100.1:443";
const HOST: &str = "sbc.lab.test";
const TRUNK: &str = "198.51.100.20";
/// Sources of the crowd; each holds a connection that begins a handshake and says no more, and opens it again when the
/// product closes it.
const CROWD: u32 = 10_000;
/// Connections that the crowd opens in a second: below what the ruleset lets in, so that it is no flood of SYN.
const CROWD_RATE: u32 = 1_500;
/// Idle connections whose memory is measured.
const IDLE: u32 = 1_000;

fn tcp(lab: &Lab, source: &str, to: &str) -> io::Result<TcpStream> {
    connect(
        &lab.names.external,
        source.parse().unwrap(),
        to.parse().unwrap(),
    )
}

fn tls(lab: &Lab, source: &str, to: &str, shown: Option<&str>) -> io::Result<SecureAgent> {
    let folder = pki::folder();
    let trust = Trust {
        folder: &folder,
        shown,
    };
    SecureAgent::tls(tcp(lab, source, to)?, HOST, &trust)
}

/// INVITE to 200 and ACK, then BYE; the PBX is a hand-made agent. Returns the time to the 200.
fn call(trunk: &mut SecureAgent, pbx: &Agent, name: &str) -> Duration {
    let (uri, body) = (
        "sip:+49305551002@lab.test",
        description("198.51.100.20:30000".parse().unwrap()),
    );
    let begun = Instant::now();
    let invite = trunk.request(("INVITE", uri), "+4930777", name, 1, "", &body);
    trunk.send(&invite).unwrap();
    let inside = pbx.expect_request("INVITE");
    let answer = description("192.0.2.10:31000".parse().unwrap());
    pbx.respond(&inside, "200 OK", "p", "", &answer);
    let ok = trunk.expect("200", |message| message.status() == 200);
    let took = begun.elapsed();
    let contact = ok.header("contact");
    assert!(contact.contains("transport=tls"), "{contact}");
    let target = e2e::agent::uri_of(contact).to_owned();
    for (number, method) in [(1, "ACK"), (2, "BYE")] {
        let text = trunk
            .request((method, &target), "+4930777", name, number, "", "")
            .replace(
                &format!("To: <{target}>"),
                &format!("To: {}", ok.header("to")),
            );
        trunk.send(&text).unwrap();
        let inside = pbx.expect_request(method);
        if method == "BYE" {
            pbx.respond(&inside, "200 OK", "", "", "");
        }
    }
    let _ = trunk.expect("200 to BYE", |message| {
        message.status() == 200 && message.header("cseq").ends_with("BYE")
    });
    took
}

fn trunk_call(lab: &Lab) {
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    for (source, to) in [(TRUNK, TLS4), ("2001:db8:e::20", TLS6)] {
        let mut trunk = tls(lab, source, to, Some("trunk1")).unwrap();
        let took = call(&mut trunk, &pbx, &format!("tls{}", source.len()));
        println!("over TLS from {source}: answered after {took:?}");
    }
}

fn refused(lab: &Lab) {
    for shown in [Some("rogue"), Some("expired"), None] {
        for to in [TLS4, WSS4] {
            let ended = tls(lab, TRUNK, to, shown).and_then(|mut agent| {
                // TLS 1.3: a client's certificate is judged after its handshake is done.
                let options = agent.request(("OPTIONS", "sip:lab.test"), "x", "r", 1, "", "");
                agent.send(&options)?;
                agent.receive()
            });
            assert!(ended.is_err(), "{shown:?} at {to}");
        }
    }
    let mut own = tls(lab, TRUNK, TLS4, Some("trunk1")).unwrap();
    let options = own.request(("OPTIONS", "sip:lab.test"), "x", "o", 1, "", "");
    own.send(&options).unwrap();
    let _ = own.expect("200", |message| message.status() == 200);
}

fn profile(lab: &Lab) {
    let shakes = |arguments: &[&str]| {
        let output = topology::command(&lab.names.external, "openssl")
            .args([
                "s_client",
                "-connect",
                TLS4,
                "-verify_return_error",
                "-CAfile",
            ])
            .arg(pki::folder().join("ca.pem"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.success()
    };
    let weak = "ALL:@SECLEVEL=0";
    for good in [
        vec!["-tls1_3"],
        vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
    ] {
        assert!(shakes(&good), "{good:?}");
    }
    for bad in [
        vec!["-tls1", "-cipher", weak],
        vec!["-tls1_1", "-cipher", weak],
        vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        vec![
            "-tls1_2",
            "-cipher",
            "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0",
        ],
        vec!["-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"],
        vec![
            "-tls1_2",
            "-cipher",
            "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0",
        ],
    ] {
        assert!(!shakes(&bad), "{bad:?}");
    }
}

fn registers_tls(lab: &Lab) {
    registers(lab, tls(lab, "198.51.100.10", TLS4, None).unwrap(), "1001");
}

fn registers_wss(lab: &Lab) {
    let folder = pki::folder();
    let trust = Trust {
        folder: &folder,
        shown: None,
    };
    let stream = tcp(lab, "198.51.100.11", WSS4).unwrap();
    let carol = SecureAgent::wss(stream, HOST, "https://sbc.lab.test", &trust).unwrap();
    registers(lab, carol, "1003");
}

/// Registers by the PBX's challenge, is called by the PBX over the same connection, and answers OPTIONS's like.
fn registers(lab: &Lab, mut phone: SecureAgent, user: &str) {
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    let line = ("REGISTER", "sip:lab.test");
    let first = phone.request(line, user, "reg", 1, "Expires: 300\r\n", "");
    phone.send(&first).unwrap();
    let inside = pbx.expect_request("REGISTER");
    let challenge = "WWW-Authenticate: Digest realm=\"lab.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    pbx.respond(&inside, "401 Unauthorized", "r1", challenge, "");
    let _ = phone.expect("401", |message| message.status() == 401);
    let credentials = format!(
        "Expires: 300\r\nAuthorization: Digest username=\"{user}\", realm=\"lab.test\", nonce=\"n1\", uri=\"sip:lab.test\", response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"xyz\"\r\n"
    );
    let second = phone.request(line, user, "reg", 2, &credentials, "");
    phone.send(&second).unwrap();
    let inside = pbx.expect_request("REGISTER");
    let contact = inside
        .header("contact")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let more = format!("Expires: 300\r\nX-Contact: {contact}\r\n");
    pbx.respond(&inside, "200 OK", "r2", &more, "");
    let _ = phone.expect("200", |message| message.status() == 200);

    // The PBX calls the binding: the same connection carries the call.
    let target = e2e::agent::uri_of(&contact).to_owned();
    let media = "192.0.2.10:31000".parse().unwrap();
    let gateway = "192.0.2.1:5060".parse().unwrap();
    let (_, mut caller) = pbx.invite(&target, gateway, media);
    let invite = phone.expect("INVITE", |message| message.method() == "INVITE");
    let via = invite.header("via");
    assert!(
        via.starts_with(&format!("SIP/2.0/{} ", phone.via())),
        "{via}"
    );
    let word = format!("transport={}", phone.word());
    assert!(
        invite.header("contact").contains(&word),
        "{}",
        invite.text()
    );
    let own = SocketAddr::new(phone.local.ip(), 30_000);
    phone.respond(&invite, "200 OK", "", &answer_to(&invite.body, own));
    let answer = pbx.expect_status(200);
    pbx.acknowledge(&mut caller, &answer);
    let _ = phone.expect("ACK", |message| message.method() == "ACK");
    pbx.send_in(&mut caller, "BYE", "", "");
    let bye = phone.expect("BYE", |message| message.method() == "BYE");
    phone.respond(&bye, "200 OK", "", "");
    let _ = pbx.expect_status(200);

    let options = phone.request(("OPTIONS", "sip:lab.test"), user, "opt", 1, "", "");
    phone.send(&options).unwrap();
    let _ = phone.expect("200 to OPTIONS", |message| {
        message.status() == 200 && message.header("cseq").ends_with("OPTIONS")
    });
}

/// A description with the key that the offer asks for, if it does (RFC 4568; the key is the standard's example).
fn answer_to(offer: &str, own: SocketAddr) -> String {
    let suite = "AES_CM_128_HMAC_SHA1_80";
    let offered = offer
        .lines()
        .find(|line| line.starts_with("a=crypto:") && line.contains(suite));
    let tag = offered.and_then(|line| line.strip_prefix("a=crypto:")?.split(' ').next());
    match tag {
        None => description(own),
        Some(tag) => {
            description(own).replace("RTP/AVP", "RTP/SAVP")
                + &format!(
                    "a=crypto:{tag} {suite} inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
                )
        }
    }
}

fn pages(lab: &Lab) {
    let folder = pki::folder();
    let trust = Trust {
        folder: &folder,
        shown: None,
    };
    let evil = SecureAgent::wss(
        tcp(lab, "198.51.100.66", WSS4).unwrap(),
        HOST,
        "https://evil.example",
        &trust,
    );
    assert!(evil.is_err());
    let answer = topology::command(&lab.names.external, "curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
            "--http1.1",
        ])
        .arg("--cacert")
        .arg(folder.join("ca.pem"))
        .args([
            "--resolve",
            "sbc.lab.test:443:198.51.100.1",
            "https://sbc.lab.test/j/x",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "404 0");
}

/// Whether `needle` is in the memory of a process, and how many octets were read.
fn holds(pid: i32, needles: &[&[u8]]) -> (Vec<bool>, u64) {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut found, mut octets) = (vec![false; needles.len()], 0);
    for line in maps.lines() {
        let mut fields = line.split(' ');
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (number(from), number(to));
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let mut have = 0;
        // A mapping may have holes that were never touched, or shrink meanwhile.
        while have < bytes.len() {
            match memory.read_at(&mut bytes[have..], from + have as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => have += count,
            }
        }
        octets += have as u64;
        for (found, needle) in found.iter_mut().zip(needles) {
            *found |= contains(&bytes[..have], needle);
        }
    }
    (found, octets)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    bytes
        .iter()
        .enumerate()
        .filter(|(_, octet)| **octet == first)
        .any(|(at, _)| bytes[at..].starts_with(needle))
}

/// The secret number of an EC private key in PKCS#8 (RFC 5915: an octet string of 32 octets after `version 1`).
fn scalar(der: &[u8]) -> &[u8] {
    let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = der.windows(5).position(|window| window == mark).unwrap() + 5;
    &der[at..at + 32]
}

fn key_hunt(lab: &Lab) {
    let _connections: Vec<SecureAgent> = (0..20)
        .map(|_| tls(lab, "198.51.100.10", TLS4, None).unwrap())
        .collect();
    let key = PrivateKeyDer::from_pem_file(pki::folder().join("sbc.key")).unwrap();
    let certificate = CertificateDer::from_pem_file(pki::folder().join("sbc.pem")).unwrap();
    let number = scalar(key.secret_der()).to_vec();
    let little: Vec<u8> = number.iter().rev().copied().collect();
    let text = fs::read_to_string(pki::folder().join("sbc.key")).unwrap();
    let line = text.lines().nth(1).unwrap().as_bytes().to_vec();
    let needles: [&[u8]; 5] = [&number, &little, key.secret_der(), &line, &certificate];
    let (found, octets) = holds(product::pid_of("sbc").unwrap(), &needles);
    // That it finds the certificate, and in the keyholder the key, shows that it looks.
    assert_eq!(found, [false, false, false, false, true]);
    let (kept, _) = holds(product::pid_of("keyholder").unwrap(), &needles);
    assert!(kept[0] || kept[1] || kept[2] || kept[3]);
    println!("{octets} octets of the sbc searched, 0 of the key found");
}

pub fn resident(process: &str) -> u64 {
    let pid = product::pid_of(process).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap()
}

/// Source number `n` of the wide Internet.
fn wide(n: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 10)) + n).into()
}

fn memory(lab: &Lab) {
    // The first ones pay for what all share.
    let open = |n| tls(lab, &wide(n).to_string(), TLS4, None).unwrap();
    let mut agents: Vec<SecureAgent> = (0..50).map(open).collect();
    let before = resident("sbc");
    agents.extend((50..50 + IDLE).map(open));
    let after = resident("sbc");
    let each = (after.saturating_sub(before) * 1024) / u64::from(IDLE);
    println!("{each} octets of the sbc for an idle TLS connection");
    assert!(each <= 30_000, "{each}");
}

/// A connection that began a handshake and says no more.
fn begin_half(n: u32) -> io::Result<Socket> {
    let to: SocketAddr = TLS4.parse().unwrap();
    let socket = Socket::new(
        Domain::IPV4,
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.bind(&SocketAddr::new(wide(n), 0).into())?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket)
}

/// Holds the crowd open until told to stop; `begun` counts the connections that it began.
fn crowd(stop: &AtomicBool, begun: &AtomicU64) {
    let mut held: VecDeque<(Socket, bool, u32)> = VecDeque::new();
    let pause = Duration::from_secs(1) / CROWD_RATE;
    let mut due = Instant::now();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() < due {
            thread::yield_now();
            continue;
        }
        due += pause;
        if held.len() < CROWD as usize {
            if let Ok(socket) = begin_half(next % CROWD) {
                held.push_back((socket, false, next % CROWD));
                begun.fetch_add(1, Ordering::Relaxed);
            }
            next += 1;
        }
        // A few are looked at each time: the first octets of a record leave once they stand; dead ones are opened anew.
        for _ in 0..12 {
            let Some((socket, spoke, n)) = held.pop_front() else {
                break;
            };
            let mut octet = [std::mem::MaybeUninit::uninit(); 1];
            let alive = match socket.peek(&mut octet) {
                Ok(0) => false,
                Err(error) => matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ),
                Ok(_) => true,
            };
            if !alive {
                continue;
            }
            let spoke = spoke || (&socket).write_all(&[22, 3, 1, 2, 0, 1, 0]).is_ok();
            held.push_back((socket, spoke, n));
        }
    }
}

/// A counter of the product, or the sum of those that begin so.
fn counted(lab: &Lab, name: &str) -> u64 {
    let answer = api::request(&lab.names, "GET", "/metrics", Some(API_TOKEN)).unwrap();
    let lines = answer.text.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .map(|value| value as u64)
        .sum()
}

fn half_open(lab: &Lab) {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let wanted = hard.max(u64::from(CROWD) + 1_000);
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, wanted, wanted)
        .unwrap();
    let (stop, begun) = (AtomicBool::new(false), AtomicU64::new(0));
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    thread::scope(|scope| {
        let (stop, begun) = (&stop, &begun);
        let namespace = lab.names.external.clone();
        scope.spawn(move || topology::inside(&namespace, || crowd(stop, begun)));
        let measured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let stands = api::eventually(Duration::from_secs(60), || {
                begun.load(Ordering::Relaxed) >= u64::from(CROWD)
            });
            assert!(
                stands,
                "the crowd is only {}",
                begun.load(Ordering::Relaxed)
            );
            let mut calls = Vec::new();
            for number in 0..20 {
                let from = Instant::now();
                let mut trunk = tls(lab, TRUNK, TLS4, Some("trunk1")).unwrap();
                call(&mut trunk, &pbx, &format!("crowd{number}"));
                calls.push(from.elapsed());
            }
            let mut strangers = Vec::new();
            for _ in 0..20 {
                let from = Instant::now();
                let _agent = tls(lab, "198.51.100.30", TLS4, None).unwrap();
                strangers.push(from.elapsed());
            }
            let word = |name: &str| format!("gatehouse_{name}");
            println!(
                "    {} of the crowd are held now, {} were closed for newer ones, {} refused at the door",
                counted(lab, &word("sip_connections_unproved")),
                counted(lab, &word("sip_connections_evicted_total")),
                counted(lab, &word("sip_connections_refused_total")),
            );
            (Figures::of(calls), Figures::of(strangers))
        }));
        stop.store(true, Ordering::Relaxed);
        let (calls, strangers) = measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let begun = begun.load(Ordering::Relaxed);
        println!(
            "{begun} half-open connections of {CROWD} sources; a trunk's call from SYN to the end of BYE: {calls}; a stranger's handshake: {strangers}"
        );
        assert!(calls.max < Duration::from_secs(1), "{calls}");
        assert!(strangers.max < Duration::from_secs(1), "{strangers}");
    });
}
