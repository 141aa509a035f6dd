//! The 2,000 cases of PROTOS c07-sip (University of Oulu) on the wire, from the carrier that the product trusts: after each
//! an OPTIONS of the same carrier is answered within a second, no process was started again, and the sbc grows by
//! nothing but the ladders of the calls, which have a bound of their own, when all of them come again.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    agent::Agent,
    api,
    lab::{product, root, topology::Names},
    parties::GATEWAY_EXTERNAL,
};

use crate::{Lab, LabTest, secure::resident};

pub const TESTS: &[LabTest] = &[(
    "after_each_protos_case_options_is_answered_within_a_second",
    on_the_wire,
)];

/// Longest wait for the answer to OPTIONS.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most octets of a datagram; larger cases are for streams.
const DATAGRAM: usize = 65_507;
/// What the sbc may have grown by, in KiB: its tables of transactions that are still remembered.
const GROWTH: u64 = 16 * 1024;
/// So often all of them.
const ROUNDS: usize = 2;
/// What it may have grown by the last time, in KiB, beside ladders: the allocator's own.
const PLATEAU: u64 = 1024;
/// Octets of all ladders, at most.
const LADDERS: u64 = 8 << 20;
/// Until what was remembered of the first time is forgotten (RFC 3261 §17: 64 · T1, and a little).
const FORGETTING: Duration = Duration::from_secs(60);

/// `length SP octets`: the message and its teardown.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file;
    let mut records = Vec::new();
    while let Some(space) = rest.iter().position(|octet| *octet == b' ') {
        let length = std::str::from_utf8(&rest[..space]).unwrap().trim();
        let end = space + 1 + length.parse::<usize>().unwrap();
        records.push(rest[space + 1..end].to_vec());
        rest = &rest[end..];
    }
    records
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let from = from.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// A record with the places filled in that its authors left open; nothing else is touched.
fn filled_in(record: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = record.to_vec();
    for (name, value) in [
        ("<From>", "+491701234567@198.51.100.20"),
        ("<To>", "+49305551001@198.51.100.1"),
        ("<From-Address>", "198.51.100.20"),
        ("<From-IP>", "198.51.100.20"),
        ("<Local-Port>", "5060"),
        ("<Call-ID>", &format!("protos{number}")),
        ("<CSeq>", "1"),
        ("<Branch-ID>", &format!("z9hG4bKprotos{number}")),
        ("<Teardown-Method>", "CANCEL"),
    ] {
        bytes = replaced(&bytes, name, value);
    }
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let body = body.map_or(0, |at| bytes.len() - at - 4);
    replaced(&bytes, "<Content-Length>", &body.to_string())
}

/// The cases in order, unpacked by `tar`; none where that or the data is not to be had.
fn cases() -> Vec<Vec<Vec<u8>>> {
    let data = std::env::var_os("GH_TESTDATA")
        .map_or_else(|| root().join("../shared/testdata"), PathBuf::from);
    let target = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar")
        .arg("--zstd")
        .arg("-xf")
        .arg(data.join("protos-c07-sip/cases-0000-1999.tar.zst"))
        .arg("-C")
        .arg(target.path())
        .status();
    if !unpacked.is_ok_and(|status| status.success()) {
        println!("    skipped: no test data at {}, or no tar", data.display());
        return Vec::new();
    }
    let folder = fs::read_dir(target.path().join("protos-c07-sip")).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| records(&fs::read(path).unwrap()))
        .collect()
}

/// The PBX: takes no call, until told to stop; what reached it is counted.
fn refuse_all(names: &Names, stop: &AtomicBool, reached: &AtomicU64) {
    let pbx = Agent::bind(&names.internal, "192.0.2.10:5060", "pbx").unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Some(request) = pbx.receive(Duration::from_millis(50)) else {
            continue;
        };
        if !["", "ACK"].contains(&request.method()) {
            reached.fetch_add(1, Ordering::Relaxed);
            pbx.respond(&request, "404 Not Found", "t", "", "");
        }
    }
}

/// Sends OPTIONS, again as RFC 3261 §17.1.2 has it but sooner; how long until its answer. What comes meanwhile is
/// acknowledged and counted.
fn probe(trunk: &Agent, finals: &mut BTreeMap<u16, u64>) -> Option<Duration> {
    let gateway = GATEWAY_EXTERNAL.parse().unwrap();
    let (text, _) = trunk.request("OPTIONS", "sip:198.51.100.1", gateway, "", "");
    let own = e2e::agent::Message::read(text.as_bytes(), trunk.local);
    let begun = Instant::now();
    let mut sent: Option<Instant> = None;
    while begun.elapsed() < PATIENCE {
        if sent.is_none_or(|at| at.elapsed() > Duration::from_millis(250)) {
            trunk.send(gateway, text.as_bytes()).unwrap();
            sent = Some(Instant::now());
        }
        let Some(message) = trunk.receive(Duration::from_millis(50)) else {
            continue;
        };
        if message.header("call-id") == own.header("call-id") {
            return (message.status() == 200).then(|| begun.elapsed());
        }
        if message.status() >= 200 {
            *finals.entry(message.status()).or_default() += 1;
        }
    }
    None
}

/// Octets of the ladders that are kept of calls.
fn traces(lab: &Lab) -> u64 {
    let answer = api::request(&lab.names, "GET", "/metrics", Some(product::API_TOKEN)).unwrap();
    let mut lines = answer.text.lines();
    let gauge = |line: &&str| line.contains("sbc_trace_octets") && !line.starts_with('#');
    let value = lines
        .find(gauge)
        .and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.expect("a gauge of the ladders")
}

/// Whether the sbc comes to remember no transaction.
fn forgotten(lab: &Lab) -> bool {
    api::eventually(FORGETTING, || {
        api::request(&lab.names, "GET", "/metrics", Some(product::API_TOKEN)).is_ok_and(|answer| {
            let mut lines = answer.text.lines();
            lines.any(|line| line.contains("sbc_server_transactions") && line.ends_with(" 0"))
        })
    })
}

fn on_the_wire(lab: &Lab) {
    let cases = cases();
    if cases.is_empty() {
        return;
    }
    let trunk = Agent::bind(&lab.names.external, "198.51.100.20:5060", "trunk1").unwrap();
    let gateway = GATEWAY_EXTERNAL.parse().unwrap();
    let (stop, reached) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (stop, reached) = (&stop, &reached);
        scope.spawn(move || refuse_all(&lab.names, stop, reached));
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let pids = ["sbc", "firewall", "keyholder"].map(product::pid_of);
            let mut finals = BTreeMap::new();
            assert!(probe(&trunk, &mut finals).is_some(), "before any case");
            let (before, begun) = (resident("sbc"), Instant::now());
            let (mut sent, mut large, mut longest) = (0, 0, Duration::ZERO);
            let mut after = Vec::new();
            for round in 0..ROUNDS {
                for (number, case) in cases.iter().enumerate() {
                    for record in case {
                        let bytes = filled_in(record, round * cases.len() + number);
                        if bytes.len() > DATAGRAM {
                            large += 1;
                            continue;
                        }
                        trunk.send(gateway, &bytes).unwrap();
                        sent += 1;
                    }
                    let took = probe(&trunk, &mut finals);
                    let took = took.unwrap_or_else(|| panic!("no answer after case {number}"));
                    longest = longest.max(took);
                }
                let peak = resident("sbc");
                assert!(forgotten(lab), "transactions of round {round} are kept");
                after.push((peak, resident("sbc"), traces(lab)));
            }
            println!(
                "    {ROUNDS} times {} cases, {sent} datagrams ({large} too large for one), {} requests reached the PBX, \
                 finals {finals:?}, OPTIONS answered after {longest:?} at most, {:?} in all; sbc {before} KiB before, \
                 after each round, when its transactions were over, and octets of traces: {after:?}",
                cases.len(),
                reached.load(Ordering::Relaxed),
                begun.elapsed()
            );
            assert_eq!(
                ["sbc", "firewall", "keyholder"].map(product::pid_of),
                pids,
                "a process was started again"
            );
            let peaks: Vec<u64> = after.iter().map(|(peak, ..)| *peak).collect();
            assert!(peaks[0] <= before + GROWTH, "{before} KiB, then {peaks:?}");
            // A ladder costs its octets and what stands around each step.
            let (first, last) = (after[0].2, after[ROUNDS - 1].2);
            let ladders = last.saturating_sub(first) * 2 / 1024;
            let grown = peaks[ROUNDS - 1].saturating_sub(peaks[0]);
            assert!(last <= LADDERS && grown <= ladders + PLATEAU, "{after:?}");
        }));
        stop.store(true, Ordering::Relaxed);
        shown.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
