//! The netlink edge against the real kernel: each test makes a network namespace for its own thread, with the sets that
//! `names` describes. As root only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use firewall::{
    netlink::{Change, Element, Socket, log::Log, packet::Tuple},
    nftables::names::{LOG_GROUP, Set, SetFamily, TABLE, drop_counter, log_prefix},
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::SockProtocol,
};

/// Enters a namespace of its own. `false`, with a line: not root.
fn alone(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP {test}: not root");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    true
}

fn nft(text: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}

/// A table with some of the sets.
fn table(rest: &str) {
    let sets = [
        (
            "media_peer4",
            "ipv4_addr . inet_service . ipv4_addr . inet_service",
        ),
        (
            "media_peer6",
            "ipv6_addr . inet_service . ipv6_addr . inet_service",
        ),
        ("ban_host_sip4", "ipv4_addr"),
        ("ban_flow_sip6", "ipv6_addr . inet_service"),
    ];
    let sets: String = sets
        .iter()
        .map(|(name, kind)| format!("set {name} {{ type {kind}; flags timeout; size 65536; }}\n"))
        .collect();
    nft(&format!("table inet {TABLE} {{\n{sets}{rest}\n}}"));
}

fn open() -> Socket {
    Socket::open(SockProtocol::NetlinkNetFilter).unwrap()
}

fn pinhole(n: u16) -> Element {
    Element::new(Set::MediaPeer, "192.0.2.1".parse().unwrap())
        .port(n)
        .address("198.51.100.7".parse().unwrap())
        .port(4000)
}

#[test]
fn elements_go_in_are_listed_as_nft_lists_them_and_go_out() {
    if !alone("netlink elements") {
        return;
    }
    table("");
    let mut socket = open();
    let v6 = Element::new(Set::BanFlowSip, "2001:db8::66".parse().unwrap()).port(5060);
    let ban = Element::new(Set::BanHostSip, "198.51.100.66".parse().unwrap());
    let hour = Some(Duration::from_secs(3600));
    socket
        .change(&[
            Change::Add(pinhole(16384), None),
            Change::Add(v6, hour),
            Change::Add(ban, hour),
        ])
        .unwrap();
    let output = Command::new("nft")
        .args(["list", "table", "inet", TABLE])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "192.0.2.1 . 16384 . 198.51.100.7 . 4000",
        "2001:db8::66 . 5060 timeout 1h",
        "198.51.100.66 timeout 1h",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(
        socket.elements(Set::MediaPeer, SetFamily::V4).unwrap(),
        [pinhole(16384).key().to_vec()]
    );
    socket
        .change(&[Change::Remove(pinhole(16384)), Change::Remove(ban)])
        .unwrap();
    assert!(
        socket
            .elements(Set::MediaPeer, SetFamily::V4)
            .unwrap()
            .is_empty()
    );
    assert!(
        socket
            .elements(Set::BanHostSip, SetFamily::V4)
            .unwrap()
            .is_empty()
    );
    socket
        .change(&[Change::Flush(Set::BanFlowSip, SetFamily::V6)])
        .unwrap();
    assert!(
        socket
            .elements(Set::BanFlowSip, SetFamily::V6)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_is_gone_can_be_taken_out_again_and_what_is_there_put_in_again() {
    if !alone("netlink repetition") {
        return;
    }
    table("");
    let mut socket = open();
    socket.change(&[Change::Remove(pinhole(1))]).unwrap();
    socket.change(&[Change::Add(pinhole(1), None)]).unwrap();
    socket.change(&[Change::Add(pinhole(1), None)]).unwrap();
    socket
        .change(&[
            Change::Remove(pinhole(1)),
            Change::Add(pinhole(1), Some(Duration::from_secs(9))),
        ])
        .unwrap();
    assert_eq!(
        socket
            .elements(Set::MediaPeer, SetFamily::V4)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn one_bad_change_undoes_all_of_its_transaction() {
    if !alone("netlink atomicity") {
        return;
    }
    table("");
    let mut socket = open();
    let no_such_set = Element::new(Set::MediaAny, "192.0.2.1".parse().unwrap()).port(1);
    for changes in [
        vec![
            Change::Add(pinhole(1), None),
            Change::Add(no_such_set, None),
        ],
        vec![
            Change::Add(no_such_set, None),
            Change::Add(pinhole(1), None),
        ],
    ] {
        let error = socket.change(&changes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        assert!(
            socket
                .elements(Set::MediaPeer, SetFamily::V4)
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn without_the_table_everything_is_an_error_and_nothing_hangs() {
    if !alone("netlink without table") {
        return;
    }
    let mut socket = open();
    let begun = Instant::now();
    assert!(socket.change(&[Change::Add(pinhole(1), None)]).is_err());
    assert!(
        socket
            .change(&[Change::Flush(Set::MediaPeer, SetFamily::V4)])
            .is_err()
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn thousands_of_elements_fit_one_transaction_and_the_time_of_one_is_told() {
    if !alone("netlink amount") {
        return;
    }
    table("");
    let mut socket = open();
    let all: Vec<u16> = (1..=8000).collect();
    let adds: Vec<Change> = all.iter().map(|n| Change::Add(pinhole(*n), None)).collect();
    let begun = Instant::now();
    socket.change(&adds).unwrap();
    let together = begun.elapsed();
    assert_eq!(
        socket
            .elements(Set::MediaPeer, SetFamily::V4)
            .unwrap()
            .len(),
        all.len()
    );
    let mut times: Vec<Duration> = (1..=1000)
        .map(|n| {
            let begun = Instant::now();
            socket.change(&[Change::Remove(pinhole(n))]).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    let begun = Instant::now();
    socket
        .change(&[Change::Flush(Set::MediaPeer, SetFamily::V4)])
        .unwrap();
    let flush = begun.elapsed();
    println!(
        "netlink: 8,000 elements in one transaction {together:?}, one removal p50 {:?} p99 {:?}, flush of 7,000 {flush:?}",
        times[500], times[990]
    );
    assert!(
        socket
            .elements(Set::MediaPeer, SetFamily::V4)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn counters_and_the_log_tell_of_a_refused_packet() {
    if !alone("netlink counters") {
        return;
    }
    let (counter, prefix) = (
        drop_counter("no-pinhole", "external"),
        log_prefix("no-pinhole", "external"),
    );
    table(&format!(
        "counter {counter} {{ }}
        chain out {{ type filter hook output priority 0; udp dport 9999 counter name {counter} log prefix \"{prefix}\" group {LOG_GROUP} drop; }}"
    ));
    assert!(
        Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .unwrap()
            .success()
    );
    let log = Log::open().unwrap();
    let mut socket = open();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = udp.send_to(b"x", "127.0.0.1:9999").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let found = |socket: &mut Socket, zero| {
        let counters = socket.counters(zero).unwrap();
        counters.iter().find(|c| c.name == counter).unwrap().packets
    };
    assert_eq!(found(&mut socket, false), 1);
    assert_eq!(found(&mut socket, true), 1);
    assert_eq!(found(&mut socket, false), 0);
    let mut polled = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(&log),
        nix::poll::PollFlags::POLLIN,
    )];
    assert_eq!(nix::poll::poll(&mut polled, 5000_u16).unwrap(), 1);
    let entries = log.take();
    assert_eq!(entries[0].prefix, prefix);
    let tuple = Tuple::read(&entries[0].head).unwrap();
    assert_eq!(tuple.ends().1, "127.0.0.1:9999");
}
