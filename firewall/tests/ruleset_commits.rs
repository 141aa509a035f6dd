//! Random commits on the real kernel: after each the table is what the same policy gives from nothing, elements stay, and
//! at no moment does a probe pass that the rulesets before and after both refuse. Probes are sent without pause meanwhile.
//! `GATEHOUSE_COMMITS` says how many (1,000), `GATEHOUSE_SEED` repeats a run. As root only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod wire;

use std::{
    collections::BTreeSet,
    mem::MaybeUninit,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use firewall::{
    nftables::{Kernel, Present, names::mark, render},
    policy::{Limits, Policy},
};
use ipnet::IpNet;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use socket2::Socket;
use wire::{
    Bench, lab,
    packet::{rtp, udp},
};

/// Policies of one pool; each pool serves [`COMMITS_PER_POOL`] commits.
const POOL: usize = 16;
const COMMITS_PER_POOL: usize = 1_000;
/// Elements are compared at every so many commits: the kernel's answer is long.
const ELEMENTS_EVERY: usize = 20;

/// Elements that must be there after each commit.
const ELEMENTS: [(&str, &str); 5] = [
    ("media_peer4", "198.51.100.1 . 20000 . 198.51.100.10 . 4000"),
    ("media_any6", "2001:db8:e::1 . 20000"),
    ("media_out4", "198.51.100.1 . 20000 . 198.51.100.10 . 4000"),
    ("ban_host_all4", "198.51.100.68"),
    ("ban_flow_sip6", "2001:db8:e::68 . 5060"),
];

/// Own ends that probes go to.
const TARGETS: [&str; 7] = [
    "198.51.100.1:5060",
    "198.51.100.1:5070",
    "198.51.100.1:20000",
    "[2001:db8:e::1]:5060",
    "[2001:db8:e::1]:20000",
    "192.0.2.1:5060",
    "192.0.2.1:5070",
];

/// Link, source, destination.
const PROBES: [(usize, &str, &str); 16] = [
    (0, "198.51.100.66:5060", "198.51.100.1:5060"),
    (0, "198.51.100.66:5060", "198.51.100.1:5070"),
    (0, "10.1.2.3:5060", "198.51.100.1:5060"),
    (0, "10.1.2.3:5060", "198.51.100.1:5070"),
    (0, "192.0.2.10:5060", "198.51.100.1:5060"),
    (0, "192.0.2.10:5060", "198.51.100.1:5070"),
    (0, "198.51.100.68:5060", "198.51.100.1:5060"),
    (0, "198.51.100.10:4000", "198.51.100.1:20000"),
    (0, "198.51.100.66:4000", "198.51.100.1:20000"),
    (0, "[2001:db8:e::66]:5060", "[2001:db8:e::1]:5060"),
    (0, "[2001:db8:e::68]:5060", "[2001:db8:e::1]:5060"),
    (0, "[2001:db8:e::66]:4000", "[2001:db8:e::1]:20000"),
    (1, "192.0.2.10:5060", "192.0.2.1:5060"),
    (1, "192.0.3.10:5060", "192.0.2.1:5070"),
    (1, "198.51.100.66:5060", "192.0.2.1:5060"),
    (1, "192.0.2.10:5060", "198.51.100.1:5060"),
];

/// A probe's packet; its number stands in the last eight octets.
fn probe(index: usize, number: u64) -> Vec<u8> {
    let (_, source, destination) = PROBES[index];
    let mut payload = rtp();
    let end = payload.len() - 8;
    payload[end..].copy_from_slice(&number.to_be_bytes());
    udp(source, destination, &payload).bytes()
}

/// A policy that differs from the laboratory's in ways that matter to the probes. Rates never do: a probe passes or not.
fn random(rng: &mut StdRng) -> Policy {
    let mut policy = lab();
    let much = 1_000_000;
    policy.limits = Limits {
        sip_rate_per_source: much / 50,
        flow_rate_per_source: much,
        flow_rate: much,
        media_packet_rate: much,
        ..policy.limits
    };
    let ports: [&[u16]; 4] = [&[], &[5060], &[5070], &[5060, 5070]];
    for zone in policy.zones.iter_mut().take(2) {
        let wanted = *ports.choose(rng).unwrap();
        let model = zone.listeners[0];
        zone.listeners = wanted
            .iter()
            .map(|port| firewall::policy::Listener {
                port: *port,
                ..model
            })
            .collect();
        if rng.random_bool(0.3) {
            zone.media = None;
        }
        if rng.random_bool(0.3) {
            zone.v6 = None;
        }
        if rng.random_bool(0.3) {
            zone.bogons.clear();
        }
        if rng.random_bool(0.3) {
            zone.allow_list = vec![
                "198.51.100.64/29".parse::<IpNet>().unwrap(),
                "2001:db8:e::68/128".parse().unwrap(),
            ];
        }
        if rng.random_bool(0.2) {
            zone.peers.clear();
        }
    }
    if rng.random_bool(0.3) {
        policy.zones[1].networks = vec!["192.0.2.0/23".parse().unwrap()];
    }
    match rng.random_range(0..10) {
        0 => policy.zones.clear(),
        1 => drop(policy.zones.remove(1)),
        2 => drop(policy.zones.remove(0)),
        _ => {}
    }
    policy
}

/// The box with everything that probes need.
struct Range {
    bench: Bench,
    sockets: Vec<Socket>,
}

impl Range {
    fn new() -> Option<Self> {
        let mut bench = Bench::new("commits")?;
        let sockets = TARGETS.map(|target| {
            let socket = wire::udp(target, mark::LISTEN_SIP);
            socket.set_nonblocking(true).unwrap();
            socket
        });
        for (set, element) in ELEMENTS {
            bench.add(set, element);
        }
        Some(Self {
            bench,
            sockets: sockets.into(),
        })
    }
}

/// Numbers of the probes that have arrived at the sockets.
fn arrived(sockets: &[Socket]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for socket in sockets {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 512];
        while let Ok(length) = socket.recv(&mut buffer) {
            let octets: Vec<u8> = buffer[length - 8..length]
                .iter()
                .map(|octet| safe(*octet))
                .collect();
            numbers.push(u64::from_be_bytes(octets.try_into().unwrap()));
        }
    }
    numbers
}

#[allow(
    unsafe_code,
    reason = "socket2 reads into uninitialised octets and says how many it has written"
)]
fn safe(octet: MaybeUninit<u8>) -> u8 {
    // SAFETY: only octets below the length that `recv` returned are asked for.
    unsafe { octet.assume_init() }
}

/// The listing with its blocks in one order: the kernel lists chains in the order in which they were made.
fn normal(listing: &str) -> String {
    let mut blocks: Vec<&str> = listing
        .split("\n\n")
        .map(|block| block.trim_matches(['\n', '}']))
        .collect();
    if let Some(first) = blocks.first_mut() {
        *first = first
            .trim_start_matches("table inet gatehouse {")
            .trim_matches('\n');
    }
    blocks.sort_unstable();
    blocks.join("\n\n")
}

/// What a policy gives from nothing: the listing, and which probes pass.
struct Reference {
    policy: Policy,
    listing: String,
    passes: Vec<bool>,
}

fn references(range: &mut Range, rng: &mut StdRng) -> Vec<Reference> {
    let mut pool = Vec::new();
    for _ in 0..POOL {
        let policy = random(rng);
        range.bench.nft("delete table inet gatehouse");
        range
            .bench
            .nft(&render(&policy).transaction(&Present::default()));
        let listing = normal(&range.bench.kernel.list().unwrap());
        for (set, element) in ELEMENTS {
            range.bench.add(set, element);
        }
        let passes = (0..PROBES.len()).map(|index| {
            range.bench.arrive(PROBES[index].0, &probe(index, 1));
            !arrived(&range.sockets).is_empty()
        });
        let passes = passes.collect();
        pool.push(Reference {
            policy,
            listing,
            passes,
        });
    }
    pool
}

fn elements_stand() {
    let output = Command::new("nft")
        .args(["list", "table", "inet", "gatehouse"])
        .output()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    for (set, element) in ELEMENTS {
        let block = listing
            .split(&format!("\tset {set} {{"))
            .nth(1)
            .unwrap()
            .split("\n\t}")
            .next()
            .unwrap();
        assert!(block.contains(element), "{set} lost {element}: {block}");
    }
}

/// What went on while the commits ran.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    passed: u64,
    during_commits: u64,
}

/// Sends probes until `stop`. `epoch` counts commits begun and ended: odd while one runs; commit n leads from policy
/// `order[n]` to `order[n + 1]`.
fn shoot(
    range: &Range,
    epoch: &AtomicU64,
    stop: &AtomicBool,
    order: &[usize],
    pool: &[Reference],
) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::SeqCst) {
        for (index, (link, source, destination)) in PROBES.into_iter().enumerate() {
            tally.sent += 1;
            let packet = probe(index, tally.sent);
            let before = epoch.load(Ordering::SeqCst);
            range.bench.arrive(link, &packet);
            let numbers = arrived(&range.sockets);
            let after = epoch.load(Ordering::SeqCst);
            tally.during_commits += before & 1;
            assert!(
                numbers.iter().all(|number| *number == tally.sent),
                "a probe came late"
            );
            if numbers.is_empty() {
                continue;
            }
            tally.passed += 1;
            let first = usize::try_from(before / 2).unwrap();
            let last = usize::try_from(after.div_ceil(2)).unwrap();
            let may = order[first..=last]
                .iter()
                .any(|policy| pool[*policy].passes[index]);
            assert!(
                may,
                "{:?} passed between policies {:?}",
                (source, destination),
                &order[first..=last]
            );
        }
    }
    tally
}

#[test]
fn random_commits_leave_the_sets_alone_and_let_nothing_through() {
    let commits = std::env::var("GATEHOUSE_COMMITS")
        .ok()
        .map_or(1_000, |text| text.parse::<usize>().unwrap());
    let seed = std::env::var("GATEHOUSE_SEED")
        .ok()
        .map_or_else(rand::random, |text| text.parse::<u64>().unwrap());
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut done = 0;
    let mut total = Tally::default();
    let began = Instant::now();
    while done < commits {
        let count = COMMITS_PER_POOL.min(commits - done);
        let pool_seed = rng.random();
        // A namespace of its own, for the references; it ends with the thread.
        let made = thread::spawn(move || {
            let mut range = Range::new()?;
            Some(references(
                &mut range,
                &mut StdRng::seed_from_u64(pool_seed),
            ))
        });
        let Some(pool) = made.join().unwrap() else {
            return;
        };
        let tally = run(pool, count, &mut rng);
        total.sent += tally.sent;
        total.passed += tally.passed;
        total.during_commits += tally.during_commits;
        done += count;
    }
    assert!(
        total.during_commits > 0 && total.passed > 0 && total.passed < total.sent,
        "{total:?}"
    );
    println!(
        "{done} commits in {:.1} s; probes: {} sent, {} of them during a commit, {} passed, 0 that both rulesets refuse",
        began.elapsed().as_secs_f32(),
        total.sent,
        total.during_commits,
        total.passed
    );
}

/// One pool's commits, in a thread and namespace of their own.
fn run(pool: Vec<Reference>, count: usize, rng: &mut StdRng) -> Tally {
    let order: Vec<usize> = (0..=count)
        .map(|_| rng.random_range(0..pool.len()))
        .collect();
    thread::spawn(move || {
        let mut range = Range::new().unwrap();
        range.bench.load(&pool[order[0]].policy);
        let mut kernel = range.bench.kernel.clone();
        let (epoch, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        thread::scope(|scope| {
            // Whatever happens here, the probes end.
            let stopper = Stopper(&stop);
            let shots = scope.spawn(|| shoot(&range, &epoch, &stop, &order, &pool));
            let mut present = kernel.present().unwrap();
            for (commit, policy) in order.iter().enumerate().skip(1) {
                let reference = &pool[*policy];
                let transaction = render(&reference.policy).transaction(&present);
                epoch.fetch_add(1, Ordering::SeqCst);
                kernel.commit(&transaction).unwrap();
                epoch.fetch_add(1, Ordering::SeqCst);
                let listing = normal(&kernel.list().unwrap());
                assert!(
                    listing == reference.listing,
                    "commit {commit}: {}",
                    difference(&listing, &reference.listing)
                );
                present = firewall::nftables::kernel::parse(&listing);
                if commit % ELEMENTS_EVERY == 0 {
                    elements_stand();
                }
                if shots.is_finished() {
                    break;
                }
            }
            elements_stand();
            drop(stopper);
            shots.join().unwrap()
        })
    })
    .join()
    .unwrap()
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn difference(found: &str, expected: &str) -> String {
    let lines = |text: &str| text.lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>();
    let (found, expected) = (lines(found), lines(expected));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).cloned().collect::<Vec<_>>().join("\n")
    };
    format!(
        "found only:\n{}\nexpected only:\n{}",
        only(&found, &expected),
        only(&expected, &found)
    )
}
