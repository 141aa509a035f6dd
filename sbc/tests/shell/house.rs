//! The neighbours of the shell, and a core that does as it is told.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, ToChild},
    settings::{Caps, Limits, Listener, Settings, Transport, Zone, ZoneId, ZoneKind, ZonePolicy},
    status::{CallInfo, FromStatus, ToStatus},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::channel::Channel;
use sbc::{
    engine::Engine,
    health::Pulse,
    media::pool::Pool,
    signalling::{self, Handshaking},
    tls::{desk::Desk, handshakes::Handshakes},
};
use sbc_core::{BrokerAnswer, Input, Output};
use sbc_media::relay::MediaEvent;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the core saw, without what the tests do not ask about.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Settings,
    Listening(Vec<SocketAddr>),
    StreamOpened,
    Stream,
    StreamClosed,
    Refused(RequestId),
    BrokerLost,
    Media(MediaEvent),
    Stop,
    Other,
}

type Script = Box<dyn FnMut(&Input<'_>) -> Vec<Output> + Send>;

/// Where the scripted core has a phone.
pub const REGISTERED: [u8; 4] = [192, 0, 2, 77];

/// A core that does what the script says.
pub struct Scripted {
    script: Script,
    out: VecDeque<Output>,
    seen: Sender<Seen>,
    stopped: bool,
    lab: bool,
}

impl Engine for Scripted {
    fn handle(&mut self, _now: Instant, input: Input<'_>) {
        let seen = match &input {
            Input::Settings(_) => Seen::Settings,
            Input::Listening { local, .. } => Seen::Listening(local.clone()),
            Input::StreamOpened { .. } => Seen::StreamOpened,
            Input::Stream { .. } => Seen::Stream,
            Input::StreamClosed { .. } => Seen::StreamClosed,
            Input::Broker(BrokerAnswer::Refused { id, .. }) => Seen::Refused(*id),
            Input::BrokerLost => Seen::BrokerLost,
            Input::Media(event) => Seen::Media(*event),
            Input::Stop => Seen::Stop,
            _ => Seen::Other,
        };
        self.stopped |= seen == Seen::Stop;
        if let Input::Settings(settings) = &input {
            self.lab = settings.lab;
        }
        // The test may be over.
        let _ = self.seen.send(seen);
        self.out.extend((self.script)(&input));
    }

    fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_idle(&self) -> bool {
        self.stopped
    }

    fn calls(&self, _now: Instant, _offset: u32, _limit: u32) -> (Vec<CallInfo>, bool) {
        (Vec::new(), false)
    }

    fn ladder(
        &self,
        _call: u64,
        _offset: u32,
    ) -> Option<(Vec<broker_proto::status::LadderStep>, bool)> {
        None
    }

    fn is_registered(&self, source: std::net::IpAddr) -> bool {
        source == std::net::IpAddr::from(REGISTERED)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn reset(&mut self, _now: Instant) -> bool {
        self.lab
    }
}

/// The shell in a thread of its own, and everybody around it.
pub struct House {
    pub control: End,
    seen: Receiver<Seen>,
    status: Option<End>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl House {
    /// A shell whose core does `script`, and `first` when it gets its first settings.
    pub fn new(
        script: impl FnMut(&Input<'_>) -> Vec<Output> + Send + 'static,
        first: Vec<Output>,
    ) -> Self {
        let (init, child) = Channel::pair().unwrap();
        let (sender, seen) = channel();
        let script: Mutex<Option<Script>> = Mutex::new(Some(Box::new(script)));
        let factory = Box::new(move |settings: Settings, _, _| {
            sender.send(Seen::Settings).unwrap();
            Scripted {
                script: script.lock().unwrap().take().unwrap(),
                out: first.clone().into(),
                seen: sender.clone(),
                stopped: false,
                lab: settings.lab,
            }
        });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let (sender, events) = tokio::sync::mpsc::channel(64);
            let pool = Pool::start(1, &sender).unwrap();
            let pulse = Pulse::default();
            pulse.start(pool.counters()).unwrap();
            let desk = Desk::default();
            let (sender, outcomes) = tokio::sync::mpsc::channel(64);
            let handshaking = Handshaking {
                threads: Handshakes::start(2, &sender).unwrap(),
                desk,
                outcomes,
            };
            let served = runtime.block_on(async {
                let terminate = signal(SignalKind::terminate()).unwrap();
                signalling::serve(child, factory, pool, events, handshaking, pulse, terminate).await
            });
            served.map_err(|error| error.to_string())
        });
        Self {
            control: End(Arc::new(init), Mutex::default()),
            seen,
            status: None,
            thread: Some(thread),
        }
    }

    /// A firewall that introduces itself with `settings`.
    pub fn firewall(&mut self, settings: Settings) -> Firewall {
        let firewall = Firewall {
            channel: self.peer(Role::Firewall, ChannelKind::Broker),
        };
        firewall.send(&FromBroker::Settings(Box::new(settings)), Vec::new());
        firewall
    }

    /// The far end of a channel that init hands over.
    pub fn peer(&mut self, role: Role, channel: ChannelKind) -> End {
        let (near, far) = Channel::pair().unwrap();
        self.control
            .send(&ToChild::Peer { role, channel }, vec![near.into()]);
        End(Arc::new(far), Mutex::default())
    }

    /// Asks as management does.
    pub fn ask(&mut self, question: &ToStatus) -> FromStatus {
        if self.status.is_none() {
            self.status = Some(self.peer(Role::Management, ChannelKind::Status));
        }
        let status = self.status.as_ref().unwrap();
        status.send(question, Vec::new());
        status.receive().unwrap().0
    }

    /// A counter as management sees it.
    pub fn counter(&mut self, name: &str) -> u64 {
        let answer = self.ask(&ToStatus::Counters { id: RequestId(1) });
        let FromStatus::Counters { counters, .. } = answer else {
            panic!("{answer:?}")
        };
        counters.iter().find(|(own, _)| own == name).unwrap().1
    }

    /// Waits until the core sees it.
    pub fn expect(&self, wanted: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self
                .seen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap();
            if wanted(&seen) {
                return;
            }
        }
    }

    pub fn lose_init(&mut self) {
        let (unused, _) = Channel::pair().unwrap();
        self.control = End(Arc::new(unused), Mutex::default());
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> Result<(), String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

/// The firewall's end of the broker channel.
pub struct Firewall {
    pub channel: End,
}

impl Firewall {
    pub fn send(&self, message: &FromBroker, descriptors: Vec<OwnedFd>) {
        self.channel.send(message, descriptors);
    }

    /// Waits for a request; passes over others, of which there are many (`Health`).
    pub fn expect(&self, wanted: impl Fn(&ToBroker) -> bool) -> ToBroker {
        self.expect_with(wanted).0
    }

    /// The same, with the descriptors that came beside it.
    pub fn expect_with(&self, wanted: impl Fn(&ToBroker) -> bool) -> (ToBroker, Vec<OwnedFd>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no such request");
            let (message, descriptors) = self.channel.receive::<ToBroker>().unwrap();
            if wanted(&message) {
                return (message, descriptors);
            }
        }
    }
}

/// What goes over a channel.
pub trait Message: serde::Serialize + serde::de::DeserializeOwned {}

impl<T: serde::Serialize + serde::de::DeserializeOwned> Message for T {}

/// One end of a channel, with waiting. Behind it: messages of a packet of which an earlier one was asked for.
pub struct End(Arc<Channel>, Mutex<VecDeque<Vec<u8>>>);

impl End {
    pub fn send<T: serde::Serialize>(&self, message: &T, descriptors: Vec<OwnedFd>) {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.0
            .send(&broker_proto::encode(message).unwrap(), &borrowed)
            .unwrap();
    }

    pub fn raw(&self, bytes: &[u8]) {
        self.0.send(bytes, &[]).unwrap();
    }

    pub fn receive<T: Message>(&self) -> Option<(T, Vec<OwnedFd>)> {
        self.receive_within(PATIENCE)
    }

    fn unpack<T: Message>(&self, bytes: &[u8]) -> Result<T, broker_proto::ProtocolError> {
        let mut messages = broker_proto::decode_together::<T>(bytes)?.into_iter();
        let first = messages.next();
        let rest = messages.map(|message| broker_proto::encode(&message).unwrap());
        self.1.lock().unwrap().extend(rest);
        first.ok_or(broker_proto::ProtocolError::Empty)
    }

    fn left_over<T: Message>(&self) -> Option<T> {
        let bytes = self.1.lock().unwrap().pop_front()?;
        broker_proto::decode(&bytes).ok()
    }

    /// The next message; `None` when the far end is gone, or says nothing for so long.
    pub fn next<T: Message>(&self, time: Duration) -> Option<T> {
        if let Some(message) = self.left_over() {
            return Some(message);
        }
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::try_from(time).ok()?).ok()?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let received = self.0.recv(&mut buffer).ok()?;
        self.unpack(&buffer[..received.length]).ok()
    }

    /// `None`: nothing came.
    pub fn receive_within<T: Message>(&self, time: Duration) -> Option<(T, Vec<OwnedFd>)> {
        if let Some(message) = self.left_over() {
            return Some((message, Vec::new()));
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        let timeout = PollTimeout::try_from(time).unwrap();
        if poll(
            &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
            timeout,
        )
        .unwrap()
            == 0
        {
            return None;
        }
        match self.0.recv(&mut buffer) {
            Ok(received) => Some((
                self.unpack(&buffer[..received.length]).unwrap(),
                received.descriptors,
            )),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn nonblocking(socket: UdpSocket) -> UdpSocket {
    socket.set_nonblocking(true).unwrap();
    socket
}

/// One zone on the loopback, one listener of each kind.
pub fn settings() -> Settings {
    let zone = Zone {
        id: ZoneId(0),
        name: "internal".into(),
        kind: ZoneKind::Internal,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        networks: Vec::new(),
        policy: ZonePolicy::default(),
    };
    let listener = |transport| Listener {
        zone: ZoneId(0),
        transport,
        port: 5060,
        certificates: Vec::new(),
        origins: Vec::new(),
    };
    Settings {
        revision: 1,
        domain: "lab.test".into(),
        zones: vec![zone],
        listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
        registrar: None,
        trunks: Vec::new(),
        routes: Vec::new(),
        policies: Vec::new(),
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        account: Caps::default(),
        limits: Limits {
            calls: 100,
            calls_per_source: 10,
            call_rate: 100,
            registrations: 100,
            connections: 10,
            message_octets: 65_535,
            media_timeout_seconds: 60,
            call_seconds: 3600,
            handshake_seconds: 10,
            idle_connection_seconds: 300,
            session_expires_seconds: 0,
            min_se_seconds: 90,
        },
        lab: false,
    }
}
