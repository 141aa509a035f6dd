//! No parser differential: what left the product is read alike by the product, by Kamailio and by Wireshark's dissector:
//! From, To, Call-ID, Request-URI, Content-Length and body. The messages come out of the core in memory, driven by torture
//! messages, the cases of PROTOS, seeds of the search and dice. Needs kamailio, tshark and root (a network namespace of its
//! own); without them it says so and ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use e2e::{
    bench::namespace,
    border::{Border, PARTIES, settings},
    lab::root,
};
use sbc_sip::{
    limits::Limits,
    message::{Framing, Message, parse},
};

/// Different messages that are enough; each of the three reads all of them.
const MOST: usize = 12_000;

/// What a reader makes of a message. Octets, so that nobody's idea of text matters.
#[derive(Clone, PartialEq, Eq, Default)]
struct Reading {
    from: (Vec<u8>, Vec<u8>),
    to: (Vec<u8>, Vec<u8>),
    call_id: Vec<u8>,
    /// Request-URI, or the status code of a response.
    start: Vec<u8>,
    content_length: Vec<u8>,
    body: Vec<u8>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        write!(
            f,
            "from {:?} {:?} to {:?} {:?} call-id {:?} start {:?} length {:?} body {:?}",
            text(&self.from.0),
            text(&self.from.1),
            text(&self.to.0),
            text(&self.to.1),
            text(&self.call_id),
            text(&self.start),
            text(&self.content_length),
            text(&self.body)
        )
    }
}

fn ours(bytes: &[u8]) -> Option<Reading> {
    let message = parse(bytes, Framing::Stream, &Limits::default()).ok()?;
    let (headers, start, body) = match &message {
        Message::Request(request) => (&request.headers, request.uri.to_string(), &request.body),
        Message::Response(response) => (
            &response.headers,
            response.status.to_string(),
            &response.body,
        ),
    };
    let address = |address: &sbc_sip::headers::NameAddr| {
        let tag = address.tag().map(|tag| tag.as_bytes().to_vec());
        (
            address.uri.to_string().into_bytes(),
            tag.unwrap_or_default(),
        )
    };
    Some(Reading {
        from: address(&headers.from),
        to: address(&headers.to),
        call_id: headers.call_id.text().as_bytes().to_vec(),
        start: start.into_bytes(),
        content_length: body.len().to_string().into_bytes(),
        body: body.clone(),
    })
}

#[test]
fn what_left_is_read_alike_by_three_parsers() {
    let has = |program: &str| {
        Command::new(program)
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !nix::unistd::geteuid().is_root() || !has("kamailio") || !has("tshark") {
        println!("skipped: needs root, kamailio and tshark");
        return;
    }
    let messages = collect();
    assert!(messages.len() > 1_000, "{} messages only", messages.len());
    let folder = tempfile::tempdir().unwrap();
    // RFC 3261 §8.2.6.2: a refusal of a malformed request says its From and To again, to its sender and nobody else.
    let (messages, echoes): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|bytes| ours(bytes).is_some());
    assert!(
        echoes
            .iter()
            .all(|bytes| bytes.starts_with(b"SIP/2.0 4") || bytes.starts_with(b"SIP/2.0 5")),
        "a message that is none left"
    );
    let own: Vec<Option<Reading>> = messages.iter().map(|bytes| ours(bytes)).collect();
    let kamailio = kamailio(&messages, folder.path());
    let wireshark = wireshark(&messages, folder.path());
    let mut differences = Vec::new();
    let mut beyond = 0;
    for (index, bytes) in messages.iter().enumerate() {
        for (name, theirs) in [("kamailio", &kamailio), ("wireshark", &wireshark)] {
            let theirs = theirs.get(&index);
            if name == "wireshark" && is_beyond_wireshark(bytes) {
                beyond += 1;
                continue;
            }
            if own[index].is_none() || theirs != own[index].as_ref() {
                differences.push(format!(
                    "{name} {theirs:?}\nown {:?}\n{}",
                    own[index],
                    String::from_utf8_lossy(bytes)
                ));
            }
        }
    }
    println!(
        "differential: {} messages that left ({} requests), read by three, {} differences; besides {} refusals that say a \
         malformed field again, and {beyond} that the dissector does not read to their end",
        messages.len(),
        messages
            .iter()
            .filter(|bytes| !bytes.starts_with(b"SIP/"))
            .count(),
        differences.len(),
        echoes.len()
    );
    assert!(
        differences.is_empty(),
        "{}\n{} differences",
        differences[..differences.len().min(5)].join("\n---\n"),
        differences.len()
    );
}

/// The dissector stops at a CSeq whose method is longer than 16 octets.
fn is_beyond_wireshark(bytes: &[u8]) -> bool {
    let message = parse(bytes, Framing::Stream, &Limits::default());
    let method = message.map(|message| match message {
        Message::Request(request) => request.headers.cseq.method,
        Message::Response(response) => response.headers.cseq.method,
    });
    method.is_ok_and(|method| method.as_str().len() > 16)
}

// --- what leaves ---------------------------------------------------------------------------------------------------

/// Different messages that left the core.
fn collect() -> Vec<Vec<u8>> {
    let mut left = Left::default();
    let data = std::env::var_os("GH_TESTDATA")
        .map_or_else(|| root().join("../shared/testdata"), PathBuf::from);
    for folder in ["rfc4475", "rfc5118"] {
        left.files(&data.join("sip-torture").join(folder));
    }
    for folder in ["sip", "sip-dialog"] {
        left.files(&data.join("fuzz-seeds").join(folder));
    }
    left.protos(&data);
    for entry in fs::read_dir(root().join("tests/fuzz/corpus/core"))
        .into_iter()
        .flatten()
        .flatten()
    {
        left.play(&fs::read(entry.path()).unwrap());
    }
    let mut seed = 1_u64;
    while left.messages.len() < MOST && seed < 4_000 {
        left.play(&dice(seed));
        seed += 1;
    }
    left.messages
}

#[derive(Default)]
struct Left {
    seen: BTreeSet<Vec<u8>>,
    messages: Vec<Vec<u8>>,
}

impl Left {
    /// Every message of a folder from every party.
    fn files(&mut self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else {
            println!("skipped: no test data at {}", folder.display());
            return;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            self.message(&fs::read(path).unwrap());
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        for (zone, peer) in PARTIES {
            let mut border = Border::new(settings(), 3);
            border.datagram(zone, peer.parse().unwrap(), bytes);
            // Whoever got a request rings, then answers.
            for choice in [1, 2, 3] {
                border.play(&[3, choice, 0, 0]);
            }
            border.wait(Duration::from_secs(40));
            self.keep(&border);
        }
    }

    fn protos(&mut self, data: &Path) {
        let archive = data.join("protos-c07-sip/cases-0000-1999.tar.zst");
        let target = tempfile::tempdir().unwrap();
        let unpacked = Command::new("tar")
            .arg("--zstd")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(target.path())
            .status();
        if !unpacked.is_ok_and(|status| status.success()) {
            println!("skipped: cannot unpack {}", archive.display());
            return;
        }
        let folder = target.path().join("protos-c07-sip");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            let record = first_record(&fs::read(path).unwrap());
            let mut border = Border::new(settings(), 5);
            let (zone, peer) = PARTIES[0];
            border.datagram(zone, peer.parse().unwrap(), &record);
            border.play(&[3, 3, 0, 0]);
            border.wait(Duration::from_secs(40));
            self.keep(&border);
        }
    }

    fn play(&mut self, octets: &[u8]) {
        let mut border = Border::new(settings(), octets.first().copied().unwrap_or(1));
        border.play(octets);
        border.wait(Duration::from_secs(200));
        self.keep(&border);
    }

    fn keep(&mut self, border: &Border) {
        for sent in &border.sent {
            let is_message = sent.bytes.iter().any(|octet| !octet.is_ascii_whitespace());
            if is_message && sent.local.is_some() && self.seen.insert(sent.bytes.clone()) {
                self.messages.push(sent.bytes.clone());
            }
        }
    }
}

/// The INVITE of a case of PROTOS with its blanks filled in.
fn first_record(file: &[u8]) -> Vec<u8> {
    let space = file.iter().position(|octet| *octet == b' ').unwrap();
    let length: usize = String::from_utf8_lossy(&file[..space])
        .trim()
        .parse()
        .unwrap();
    let mut bytes = file[space + 1..space + 1 + length].to_vec();
    for (name, value) in [
        ("<From>", "user@198.51.100.20"),
        ("<To>", "1001@198.51.100.1"),
        ("<From-Address>", "198.51.100.20"),
        ("<From-IP>", "198.51.100.20"),
        ("<Local-Port>", "5060"),
        ("<Call-ID>", "1"),
        ("<CSeq>", "1"),
        ("<Branch-ID>", "z9hG4bK1"),
        ("<Teardown-Method>", "INVITE"),
    ] {
        bytes = replaced(&bytes, name.as_bytes(), value.as_bytes());
    }
    let body = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(0, |at| bytes.len() - at - 4);
    replaced(&bytes, b"<Content-Length>", body.to_string().as_bytes())
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// Steps of [`Border::play`] by a seed: calls, registrations and requests inside dialogs with odd values in every place.
fn dice(seed: u64) -> Vec<u8> {
    const DISPLAYS: [&str; 12] = [
        "",
        "Alice",
        "\"Alice \\\"A\\\" <sip:x@y>\"",
        "\"sip:evil@evil.example;tag=1\"",
        "\"\u{e4}\u{4e2d}\u{1f600}\"",
        "\"a\tb\"",
        "Two Words",
        "\"\\\\\"",
        "\", <sip:x@x.example>\"",
        "\"%0d%0aVia: x\"",
        "\"\u{200f}\u{202e}\"",
        "\"<\"",
    ];
    const USERS: [&str; 12] = [
        "",
        "1001",
        "%31001",
        "+4930555%31001",
        "+491234567890;phone-context=x",
        "1001;tag=9",
        "a%40b",
        "%00",
        "1001:pw",
        "+49-1234-567890",
        "1100",
        "+4915112345678",
    ];
    const FIELDS: [&str; 16] = [
        "",
        "Subject: hello\r\n folded",
        "P-Asserted-Identity: \"A;B\" <sip:+49123@a.example;user=phone>",
        "Privacy: id",
        "Session-Expires: 1800;refresher=uac\r\nSupported: timer, 100rel, replaces",
        "Reason: Q.850;cause=17;text=\"bu,s;y\"",
        "Diversion: <sip:a@a.example;x=%3Cy>;reason=\"user-busy\"",
        "Route: <sip:192.0.2.1;lr>",
        "User-Agent: x (y \"z)",
        "Refer-To: <sip:+49123456789@lab.test?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>",
        "Event: dialog;id=7\r\nExpires: 600",
        "Content-Disposition: session;handling=optional",
        "Require: 100rel",
        "X-Odd: \u{fffd};a=\"b\"",
        "Expires: 60\r\nAuthorization: Digest username=\"1001\", realm=\"a\\\"b\", nonce=\"n\", uri=\"sip:x\", response=\"0\"",
        "Contact: \"C\" <sip:c@192.0.2.55;ob>;+sip.instance=\"<urn:uuid:0>\";reg-id=1;q=0.5",
    ];
    const LINES: [&str; 8] = [
        "",
        "a=sendonly\r\n",
        "a=ptime:20\r\na=fmtp:101 0-16\r\n",
        "m=video 30002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f;x=\"y\"\r\n",
        "a=odd:\u{e9} ; ,\r\n",
        "b=AS:64\r\n",
        "a=inactive\r\nm=application 0 TCP *\r\n",
        "a=rtcp:30001 IN IP4 198.51.100.20\r\n",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut roll = move |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below
    };
    let mut octets = Vec::new();
    let mut step = |what: usize, choice: usize, text: String| {
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        octets.extend_from_slice(&[what.try_into().unwrap(), choice.try_into().unwrap()]);
        octets.extend_from_slice(&length);
        octets.extend_from_slice(text.as_bytes());
    };
    for _ in 0..1 + roll(3) {
        let text = format!(
            "{}\0{}\0{}\0{}",
            FIELDS[roll(16)],
            DISPLAYS[roll(12)],
            USERS[roll(12)],
            LINES[roll(8)]
        );
        // Mostly an INVITE, in a third of all cases any method.
        let method = if roll(3) == 0 { roll(14) } else { 0 };
        let party = [0, 0, 1, 4, 4, 5, 6, 3][roll(8)];
        step(2, method * 8 + party, text);
        for _ in 0..roll(5) {
            match roll(4) {
                0 => step(1, roll(40), String::new()),
                1 => step(
                    5,
                    roll(256),
                    format!("{}\0{}", FIELDS[roll(16)], LINES[roll(8)]),
                ),
                _ => step(
                    3 + roll(2),
                    [1, 2, 3, 3, 3, 6, 7, 10, 14, 15][roll(10)] + 32 * roll(2),
                    format!("{}\0{}", FIELDS[roll(16)], LINES[roll(8)]),
                ),
            }
        }
    }
    octets
}

// --- Kamailio ------------------------------------------------------------------------------------------------------

const CONFIGURATION: &str = r#"#!KAMAILIO
debug=0
log_stderror=yes
log_facility=LOG_LOCAL0
children=1
auto_aliases=no
disable_tcp=yes
pv_buffer_size=200000
pv_buffer_slots=24
listen=udp:127.0.0.1:5060
loadmodule "pv.so"
loadmodule "xlog.so"
modparam("xlog", "buf_size", 400000)
modparam("xlog", "methods_filter", 0)
request_route {
    xlog("L_ALERT", "READ|$sp|$(fu{s.encode.hexa})|$(ft{s.encode.hexa})|$(tu{s.encode.hexa})|$(tt{s.encode.hexa})|$(ci{s.encode.hexa})|$(ru{s.encode.hexa})|$(cl{s.encode.hexa})|$(rb{s.encode.hexa})|\n");
    exit;
}
reply_route {
    xlog("L_ALERT", "READ|$sp|$(fu{s.encode.hexa})|$(ft{s.encode.hexa})|$(tu{s.encode.hexa})|$(tt{s.encode.hexa})|$(ci{s.encode.hexa})|$(rs{s.encode.hexa})|$(cl{s.encode.hexa})|$(rb{s.encode.hexa})|\n");
    drop;
}
"#;

/// What Kamailio reads, by the message's place. Each message comes from a port of its own, by which its line is known.
fn kamailio(messages: &[Vec<u8>], folder: &Path) -> BTreeMap<usize, Reading> {
    let configuration = folder.join("kamailio.cfg");
    fs::write(&configuration, CONFIGURATION).unwrap();
    let messages = messages.to_vec();
    let folder = folder.to_owned();
    // The namespace is the thread's, and goes with it.
    thread::spawn(move || {
        namespace::enter(&[Ipv4Addr::new(127, 0, 0, 1)]).unwrap();
        let mut child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "64", "-M", "32", "-f"])
            .arg(&configuration)
            .arg("-Y")
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        let readings = ask(&messages, &lines);
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        readings
    })
    .join()
    .unwrap()
}

fn lines_of(stderr: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            if send
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    receive
}

fn ask(messages: &[Vec<u8>], lines: &mpsc::Receiver<String>) -> BTreeMap<usize, Reading> {
    let target: SocketAddr = "127.0.0.1:5060".parse().unwrap();
    // It is up when it reads a probe.
    let probe = b"OPTIONS sip:probe SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKp\r\nFrom: <sip:a@a>;tag=1\r\n\
                  To: <sip:b@b>\r\nCall-ID: p\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut complaints = Vec::new();
    let up = (0..100).any(|_| {
        let _ = socket.send_to(probe, target);
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) if line.contains("READ|") => true,
            Ok(line) => {
                complaints.push(line);
                false
            }
            Err(_) => false,
        }
    });
    assert!(up, "kamailio does not answer: {}", complaints.join("\n"));
    let mut readings = BTreeMap::new();
    for (batch, chunk) in messages.chunks(200).enumerate() {
        let mut ports = BTreeMap::new();
        let mut sockets = Vec::new();
        for (index, bytes) in chunk.iter().enumerate() {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            ports.insert(socket.local_addr().unwrap().port(), batch * 200 + index);
            socket.send_to(bytes, target).unwrap();
            sockets.push(socket);
        }
        let mut awaited = chunk.len();
        while awaited > 0 {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(4)) else {
                break;
            };
            let Some((_, line)) = line.split_once("READ|") else {
                continue;
            };
            let parts: Vec<&str> = line.split('|').collect();
            if let Some(index) = parts[0].parse().ok().and_then(|port| ports.remove(&port)) {
                awaited -= 1;
                readings.insert(index, reading_of(&parts[1..]));
            }
        }
    }
    readings
}

fn reading_of(parts: &[&str]) -> Reading {
    let octets = |index: usize| match hexadecimal(parts[index]) {
        // Kamailio's word for nothing.
        octets if octets == b"<null>" => Vec::new(),
        octets => octets,
    };
    Reading {
        from: (octets(0), octets(1)),
        to: (octets(2), octets(3)),
        call_id: octets(4),
        start: octets(5),
        content_length: octets(6),
        body: octets(7),
    }
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.filter_map(octet).collect()
}

// --- Wireshark -----------------------------------------------------------------------------------------------------

/// What the dissector reads, by the message's place: one packet each in a capture file.
fn wireshark(messages: &[Vec<u8>], folder: &Path) -> BTreeMap<usize, Reading> {
    let capture = folder.join("messages.pcap");
    let mut file = std::io::BufWriter::new(fs::File::create(&capture).unwrap());
    // Version 2.4, raw IP.
    file.write_all(&[
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0,
    ])
    .unwrap();
    for (index, bytes) in messages.iter().enumerate() {
        let packet = packet(bytes);
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        let second = u32::try_from(index).unwrap().to_le_bytes();
        for part in [&second[..], &[0; 4], &length, &length, &packet] {
            file.write_all(part).unwrap();
        }
    }
    file.flush().unwrap();
    drop(file);
    let mut child = Command::new("tshark")
        .args(["-n", "-T", "pdml", "-J", "sip raw", "-r"])
        .arg(&capture)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut readings = BTreeMap::new();
    let (mut index, mut reading) = (0, Reading::default());
    for line in BufReader::new(child.stdout.take().unwrap())
        .split(b'\n')
        .map_while(Result::ok)
    {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_start();
        if line.starts_with("</packet>") {
            readings.insert(index, std::mem::take(&mut reading));
            index += 1;
        }
        if attribute(line, "name") == Some("sip.msg_body") {
            // Its octets are given with what they are taken apart into, so their place is used instead.
            let number = |name| attribute(line, name).and_then(|text| text.parse::<usize>().ok());
            if let (Some(at), Some(size)) = (number("pos"), number("size")) {
                reading.body = packet(&messages[index])[at..at + size].to_vec();
            }
        }
        let (Some(name), Some(value)) = (attribute(line, "name"), attribute(line, "value")) else {
            continue;
        };
        let slot = match name {
            "sip.from.addr" => &mut reading.from.0,
            "sip.from.tag" => &mut reading.from.1,
            "sip.to.addr" => &mut reading.to.0,
            "sip.to.tag" => &mut reading.to.1,
            "sip.Call-ID" => &mut reading.call_id,
            "sip.r-uri" | "sip.Status-Code" => &mut reading.start,
            "sip.Content-Length" => &mut reading.content_length,
            _ => continue,
        };
        if slot.is_empty() {
            let octets = hexadecimal(value);
            // Of these two the dissector marks the whole line.
            *slot = match name {
                "sip.Call-ID" | "sip.Content-Length" => after_name(&octets),
                _ => octets,
            };
        }
    }
    child.wait().unwrap();
    readings
}

/// What stands behind the name of a header field, without the line break.
fn after_name(line: &[u8]) -> Vec<u8> {
    let colon = line.iter().position(|octet| *octet == b':');
    let value = colon.and_then(|colon| line.get(colon + 1..));
    value.unwrap_or_default().trim_ascii().to_vec()
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// IPv4 and UDP round it, to port 5060.
fn packet(bytes: &[u8]) -> Vec<u8> {
    let octets = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(octets(28 + bytes.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(octets(5060));
    packet.extend(octets(5060));
    packet.extend(octets(8 + bytes.len()));
    packet.extend([0, 0]);
    packet.extend_from_slice(bytes);
    packet
}
