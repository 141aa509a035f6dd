//! The time process as init starts it: in its sandbox, with two servers on the loopback and the test as init and firewall.
//! Shows that what it needs of the system is allowed there, and that what the servers agree on reaches init.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::{
    fs::File,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant, SystemTime},
};

use broker_proto::{
    MAX_MESSAGE, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
};
use nix::poll::{PollFd, PollFlags, poll};
use sandbox::{Launch, Profile, channel::Channel};
use serde::{Serialize, de::DeserializeOwned};

const PATIENCE: Duration = Duration::from_secs(20);
/// How far the servers' clocks are ahead of ours.
const AHEAD: Duration = Duration::from_secs(7);
/// As the document names them; the test connects their sockets to the loopback.
const NAMED: [&str; 2] = ["198.51.100.41:123", "198.51.100.42:123"];

/// A server that answers `count` requests, by its own clock.
fn server(count: usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        for _ in 0..count {
            let mut request = [0; 64];
            let (length, from) = socket.recv_from(&mut request).unwrap();
            assert_eq!((length, request[0]), (48, 0x23));
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                + AHEAD;
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            let stamp = ((now.as_secs() + 2_208_988_800) << 32 | fraction).to_be_bytes();
            let mut reply = [0; 48];
            reply[..4].copy_from_slice(&[0x24, 2, 6, 0xec]);
            reply[24..32].copy_from_slice(&request[40..48]);
            reply[32..40].copy_from_slice(&stamp);
            reply[40..48].copy_from_slice(&stamp);
            socket.send_to(&reply, from).unwrap();
        }
    });
    address
}

fn tell<T: Serialize>(channel: &Channel, message: &T, descriptors: &[BorrowedFd<'_>]) {
    channel
        .send(&encode(message).unwrap(), descriptors)
        .unwrap();
}

fn hear<T: DeserializeOwned>(channel: &Channel) -> Option<T> {
    let mut buffer = vec![0; MAX_MESSAGE];
    match channel.recv(&mut buffer) {
        Ok(received) => Some(decode(&buffer[..received.length]).unwrap()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("the process is gone: {error}"),
    }
}

#[test]
fn what_two_servers_agree_on_reaches_init() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP time: not root");
        return;
    }
    let profile = Profile::for_role("time").unwrap();
    let program = File::open(env!("CARGO_BIN_EXE_gatehouse-time")).unwrap();
    let (control, far) = Channel::pair().unwrap();
    // A pipe, as init gives: the sandbox lets nobody write to a file.
    let (_log, writer) = io::pipe().unwrap();
    let child = sandbox::launch(Launch {
        program: program.as_fd(),
        name: "time-test",
        profile: &profile,
        control: OwnedFd::from(far),
        stderr: writer.into(),
        directory: None,
    })
    .unwrap();
    let (broker, far) = Channel::pair().unwrap();
    tell(
        &control,
        &ToChild::Peer {
            role: Role::Firewall,
            channel: ChannelKind::Broker,
        },
        &[far.as_fd()],
    );
    drop(far);
    let lab = include_str!("../../tests/lab/gatehouse.toml");
    let ntp = format!("language = \"en\"\nntp = {NAMED:?}");
    let document = lab.replace("language = \"en\"", &ntp);
    tell(
        &control,
        &ToChild::Configuration {
            revision: 1,
            document,
        },
        &[],
    );

    let servers = NAMED.map(|named| (named.parse::<SocketAddr>().unwrap(), server(1)));
    let end = Instant::now() + PATIENCE;
    let mut ready = false;
    let offset = loop {
        assert!(Instant::now() < end, "no offset within {PATIENCE:?}");
        let mut fds =
            [&control, &broker].map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN));
        poll(&mut fds, 100_u16).unwrap();
        match hear::<FromChild>(&control) {
            Some(FromChild::Ready) => ready = true,
            Some(FromChild::ClockOffset {
                nanoseconds,
                server,
            }) => {
                assert!(servers.iter().any(|(named, _)| *named == server));
                break nanoseconds;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        if let Some(ToBroker::Connect { id, peer, .. }) = hear::<ToBroker>(&broker) {
            let (_, real) = servers
                .iter()
                .find(|(named, _)| *named == peer)
                .expect("a configured server");
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(real).unwrap();
            let local = socket.local_addr().unwrap();
            tell(
                &broker,
                &FromBroker::Connected { id, local, peer },
                &[socket.as_fd()],
            );
        }
    };
    assert!(ready);
    let off = offset - i64::try_from(AHEAD.as_nanos()).unwrap();
    assert!(off.abs() < 1_000_000_000, "{offset}");
    tell(&control, &ToChild::Stop, &[]);
    let mut fds = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 10_000_u16).unwrap(), 1, "it does not stop");
}
