//! A daemon on the real kernel, in a network namespace of its own thread, with a neighbour namespace behind its external
//! link. Namespaces have no names: they end with their threads, whatever happens to the test.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
};
use firewall::{
    daemon::{Daemon, commit::Ruleset},
    netlink::Socket,
    nftables::names::{Set, SetFamily},
};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sched::{CloneFlags, unshare},
    sys::socket::SockProtocol,
};
use sandbox::channel::Channel;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the test can run; a line says so if not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIP {test}: not root");
    }
    root
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which does what it is told.
pub(crate) struct Namespace {
    jobs: Sender<Job>,
    tid: i32,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, todo) = channel::<Job>();
        let (ready, made) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in todo {
                job();
            }
        });
        Self {
            jobs,
            tid: made.recv().unwrap(),
        }
    }

    /// Runs something in it and waits for the result.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = done.send(job());
            }))
            .unwrap();
        result.recv().unwrap()
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        self.run(move || {
            assert!(
                Command::new("ip")
                    .args(&arguments)
                    .status()
                    .unwrap()
                    .success(),
                "ip {arguments:?}"
            );
        });
    }
}

/// The daemon, init's end of its control channel, and the neighbour.
pub(crate) struct House {
    pub(crate) gateway: Namespace,
    pub(crate) outside: Namespace,
    pub(crate) control: Channel,
    daemon: Running,
}

/// The daemon: a thread of the test, or the program as init starts it.
enum Running {
    Thread(thread::JoinHandle<()>),
    Process(Child),
    Stopped,
}

impl House {
    /// Starts a daemon that has said `Closed`.
    pub(crate) fn closed(ruleset: impl Ruleset) -> Self {
        Self::start(|gateway, far| {
            // A thread that is started in the namespace's thread is in that namespace.
            Running::Thread(gateway.run(move || {
                thread::spawn(move || {
                    Daemon::start(far, ruleset, || Ok(()))
                        .unwrap()
                        .run()
                        .unwrap()
                })
            }))
        })
    }

    /// Starts the program, which has said `Closed`, with its control channel at descriptor 3.
    pub(crate) fn process(program: &'static str) -> Self {
        Self::start(|gateway, far| spawn(gateway, far, program))
    }

    /// Kills the program without warning and starts it again in the same namespace.
    pub(crate) fn kill_and_restart(&mut self, program: &'static str) {
        if let Running::Process(child) = &mut self.daemon {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (control, far) = Channel::pair().unwrap();
        self.control = control;
        self.daemon = spawn(&self.gateway, far, program);
        self.expect_closed();
    }

    fn expect_closed(&self) {
        assert_eq!(receive::<FromChild>(&self.control).0, FromChild::Closed);
        assert_eq!(receive::<FromChild>(&self.control).0, FromChild::Ready);
    }

    fn start(run: impl FnOnce(&Namespace, Channel) -> Running) -> Self {
        let (gateway, outside) = (Namespace::new(), Namespace::new());
        gateway.ip("link set lo up");
        for (link, far, addresses) in [
            ("ext0", "e0", ["198.51.100.1/24", "2001:db8:e::1/64 nodad"]),
            ("int0", "i0", ["192.0.2.1/24", "2001:db8:1::1/64 nodad"]),
            ("mgmt0", "m0", ["203.0.113.1/24", "2001:db8:2::1/64 nodad"]),
        ] {
            let other = outside.tid;
            gateway.ip(&format!(
                "link add {link} type veth peer name {far} netns {other}"
            ));
            for address in addresses {
                gateway.ip(&format!("addr add {address} dev {link}"));
            }
            gateway.ip(&format!("link set {link} up"));
        }
        for address in [
            "198.51.100.10/24",
            "198.51.100.66/24",
            "2001:db8:e::10/64 nodad",
        ] {
            outside.ip(&format!("addr add {address} dev e0"));
        }
        for link in ["e0", "i0", "m0"] {
            outside.ip(&format!("link set {link} up"));
        }
        let (control, far) = Channel::pair().unwrap();
        let daemon = run(&gateway, far);
        let house = Self {
            gateway,
            outside,
            control,
            daemon,
        };
        house.expect_closed();
        house
    }

    /// The same with a configuration committed.
    pub(crate) fn open(ruleset: impl Ruleset, document: &str) -> Self {
        let house = Self::closed(ruleset);
        house.commit(1, document);
        house
    }

    pub(crate) fn commit(&self, revision: u64, document: &str) {
        self.tell(
            &ToChild::Configuration {
                revision,
                document: document.to_owned(),
            },
            None,
        );
        assert_eq!(
            receive::<FromChild>(&self.control).0,
            FromChild::Committed { revision }
        );
    }

    pub(crate) fn tell(&self, message: &ToChild, fd: Option<OwnedFd>) {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        self.control.send(&encode(message).unwrap(), &fds).unwrap();
    }

    /// A fresh channel for a role; the near end.
    pub(crate) fn attach(&self, role: Role, channel: ChannelKind) -> Channel {
        let (near, far) = Channel::pair().unwrap();
        self.tell(&ToChild::Peer { role, channel }, Some(far.into()));
        near
    }

    /// A channel for the sbc, whose settings have been read.
    pub(crate) fn sbc(&self) -> Channel {
        let near = self.attach(Role::Sbc, ChannelKind::Broker);
        assert!(matches!(receive(&near).0, FromBroker::Settings(_)));
        near
    }

    /// A netlink socket in the daemon's namespace.
    pub(crate) fn netlink(&self) -> Socket {
        self.gateway
            .run(|| Socket::open(SockProtocol::NetlinkNetFilter).unwrap())
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.daemon {
            Running::Process(child) => child.id(),
            Running::Thread(_) | Running::Stopped => std::process::id(),
        }
    }

    /// Stops the daemon.
    pub(crate) fn stop(mut self) {
        self.tell(&ToChild::Stop, None);
        match std::mem::replace(&mut self.daemon, Running::Stopped) {
            Running::Thread(daemon) => daemon.join().unwrap(),
            Running::Process(mut child) => assert!(child.wait().unwrap().success()),
            Running::Stopped => {}
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A test that failed: a thread ends with the control channel, a process is killed.
        if let Running::Process(child) = &mut self.daemon {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(gateway: &Namespace, control: Channel, program: &'static str) -> Running {
    let control: OwnedFd = control.into();
    Running::Process(gateway.run(move || {
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" 3<&0 0</dev/null", program])
            .env_clear();
        command.stdin(Stdio::from(control)).spawn().unwrap()
    }))
}

/// Waits for a message.
pub(crate) fn receive<T: serde::de::DeserializeOwned>(channel: &Channel) -> (T, Vec<OwnedFd>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    let until = Instant::now() + PATIENCE;
    loop {
        match channel.recv(&mut buffer) {
            Ok(received) => {
                return (
                    decode(&buffer[..received.length]).unwrap(),
                    received.descriptors,
                );
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "nothing came");
        wait_readable(channel, Duration::from_secs(1));
    }
}

/// Waits until there is something to read, or the time is over.
pub(crate) fn wait_readable(channel: &Channel, time: Duration) {
    let mut polled = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut polled, u16::try_from(time.as_millis()).unwrap());
}

pub(crate) fn send(channel: &Channel, request: &ToBroker) {
    channel.send(&encode(request).unwrap(), &[]).unwrap();
}

/// Sends a request and waits for its answer.
pub(crate) fn ask(channel: &Channel, request: &ToBroker) -> (FromBroker, Vec<OwnedFd>) {
    send(channel, request);
    receive(channel)
}

/// Lets this thread go first, as the daemon does, so that the time it measures is not its own waiting. Best effort.
pub(crate) fn go_first() {
    let tid = nix::unistd::gettid().to_string();
    let _ = Command::new("chrt")
        .args(["--rr", "--pid", "1", &tid])
        .status();
}

/// Elements in all pinhole sets.
pub(crate) fn pinholes(netlink: &mut Socket) -> usize {
    [Set::MediaAny, Set::MediaHost, Set::MediaPeer, Set::MediaOut]
        .into_iter()
        .flat_map(|set| SetFamily::ALL.map(|family| netlink.elements(set, family).unwrap().len()))
        .sum()
}

/// Asks again and again until it is so; how long that took.
pub(crate) fn until(mut so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "it never came so");
        // Between two looks only: a thread that goes first must leave the processor to what it looks at.
        thread::sleep(Duration::from_micros(200));
    }
    begun.elapsed()
}

/// p50, p99 and maximum.
pub(crate) fn figures(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!(
        "p50 {:?}, p99 {:?}, max {:?} over {} runs",
        at(50),
        at(99),
        at(100),
        times.len()
    )
}

pub(crate) const ID: RequestId = RequestId(1);
