//! The management process: HTTPS on the management zone, from listeners that the firewall lends it connection by connection.
//! It has no socket of its own, no key (the keyholder signs), no file; what it shows it asks of the others.

mod api;
mod events;
mod ladder;
mod link;
mod metrics;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use appliance_config::{Document, Service};
use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
    journal::FromJournal,
    settings::{Transport, ZoneId},
    status::{FromStatus, ToStatus},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sandbox::{Profile, channel::Channel};
use tokio::{io::unix::AsyncFd, net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use link::{KeyholderLink, Link, lock, receive, watch};

/// Connections at once, in all and from one address.
const MAX_CONNECTIONS: usize = 64;
const MAX_PER_SOURCE: usize = 24;
/// TLS handshake, request head, and a whole connection may last this long.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
const HEAD_TIME: Duration = Duration::from_secs(10);
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// Wait before a refused listener or a missing certificate is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything a request may need.
pub struct Links {
    sbc: Arc<Link<FromStatus>>,
    firewall: Arc<Link<FromStatus>>,
    init: Arc<Link<FromStatus>>,
    journal: Arc<Link<FromJournal>>,
    keyholder: Arc<KeyholderLink>,
    /// The configuration says `lab = true`.
    lab: AtomicBool,
    /// Name of the API token in the keyholder.
    token: Mutex<String>,
    /// Requests without a valid token.
    refused_logins: AtomicU64,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            sbc: Arc::default(),
            firewall: Arc::default(),
            init: Arc::default(),
            journal: Arc::default(),
            keyholder: Arc::default(),
            lab: AtomicBool::new(false),
            token: Mutex::new("api-token".into()),
            refused_logins: AtomicU64::new(0),
        }
    }
}

/// A listener as `Listen` names it.
type Listener = (ZoneId, u16);

/// What the process is to listen on and whether it does.
#[derive(Default)]
struct Listeners {
    broker: Option<Arc<AsyncFd<Channel>>>,
    wanted: BTreeSet<Listener>,
    asked: BTreeMap<u32, Listener>,
    next: u32,
}

impl Listeners {
    /// Asks for the listeners that are wanted and neither held nor asked for.
    fn ask(&mut self) {
        let Some(broker) = &self.broker else { return };
        for &(zone, port) in &self.wanted {
            if self.asked.values().any(|asked| *asked == (zone, port)) {
                continue;
            }
            self.next += 1;
            let question = ToBroker::Listen {
                id: RequestId(self.next),
                zone,
                transport: Transport::Tls,
                port,
            };
            let sent = encode(&question)
                .map_err(io::Error::other)
                .and_then(|bytes| broker.get_ref().send(&bytes, &[]));
            match sent {
                Ok(()) => {
                    self.asked.insert(self.next, (zone, port));
                }
                Err(error) => {
                    tracing::warn!(%error, "the firewall could not be asked for a listener")
                }
            }
        }
    }
}

/// The process.
struct Management {
    links: Arc<Links>,
    listeners: Arc<Mutex<Listeners>>,
    connections: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    resolver: Arc<tls::Resolver>,
    acceptor: TlsAcceptor,
    router: axum::Router,
}

/// The process: primes the crypto library, seals itself, serves until init says stop or is gone.
///
/// # Errors
/// Init is gone, or the sandbox could not be sealed.
pub fn serve(control: Channel, profile: &Profile) -> Result<(), Box<dyn std::error::Error>> {
    let links = Arc::new(Links::default());
    let resolver = tls::Resolver::new(Arc::clone(&links.keyholder));
    let acceptor = TlsAcceptor::from(tls::server_config(Arc::clone(&resolver))?);
    let router = api::router(Arc::clone(&links));
    tls::prime()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let management = Arc::new(Management {
        links,
        listeners: Arc::default(),
        connections: Arc::default(),
        resolver,
        acceptor,
        router,
    });
    runtime.block_on(async {
        let control = watch(control)?;
        sandbox::seal(profile)?;
        control.get_ref().send(&encode(&FromChild::Ready)?, &[])?;
        management.run(&control).await;
        Ok(())
    })
}

impl Management {
    async fn run(self: &Arc<Self>, control: &AsyncFd<Channel>) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut retry = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                received = receive(control, &mut buffer) => {
                    let Some((length, descriptors)) = received else { return };
                    match decode::<ToChild>(buffer.get(..length).unwrap_or_default()) {
                        Ok(ToChild::Stop) => return,
                        Ok(message) => {
                            if let Err(error) = self.control(message, descriptors) {
                                tracing::error!(%error, "a channel could not be used");
                            }
                        }
                        Err(error) => tracing::error!(%error, "control message refused"),
                    }
                }
                _ = retry.tick() => {
                    if !self.resolver.is_loaded() {
                        self.load_certificate();
                    }
                    lock(&self.listeners).ask();
                    self.tell_figures(control).await;
                }
            }
        }
    }

    /// Tells init how many calls and bans there are, for the console. A neighbour that does not answer is left out this time.
    async fn tell_figures(&self, control: &AsyncFd<Channel>) {
        let (sbc, firewall) = tokio::join!(
            self.links.sbc.ask(|id| ToStatus::Counters { id }),
            self.links.firewall.ask(|id| ToStatus::Counters { id })
        );
        let (Ok(sbc), Ok(firewall)) = (sbc, firewall) else {
            return;
        };
        let (Some(calls), Some(bans)) = (
            figure(&sbc, "sbc_calls"),
            figure(&firewall, "firewall_bans"),
        ) else {
            return;
        };
        if let Ok(bytes) = encode(&FromChild::Figures { calls, bans }) {
            let _ = control.get_ref().send(&bytes, &[]);
        }
    }

    fn control(self: &Arc<Self>, message: ToChild, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            ToChild::Peer { role, channel } => {
                let Some(fd) = descriptors.into_iter().next() else {
                    return Ok(());
                };
                self.connect(role, channel, Channel::from_fd(fd))
            }
            ToChild::Configuration { document, .. } => {
                self.configure(&document);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn connect(
        self: &Arc<Self>,
        role: Role,
        kind: ChannelKind,
        channel: Channel,
    ) -> io::Result<()> {
        match (role, kind) {
            (Role::Sbc, ChannelKind::Status) => self.links.sbc.connect(channel),
            (Role::Firewall, ChannelKind::Status) => self.links.firewall.connect(channel),
            (Role::Init, ChannelKind::Status) => self.links.init.connect(channel),
            (Role::Journal, ChannelKind::Journal) => self.links.journal.connect(channel),
            (Role::Keyholder, ChannelKind::Keyholder) => {
                self.links.keyholder.connect(channel);
                self.load_certificate();
                Ok(())
            }
            (Role::Firewall, ChannelKind::Broker) => self.connect_broker(channel),
            _ => Ok(()),
        }
    }

    fn configure(&self, document: &str) {
        // Init checked it; an error here is ours, and what runs stays.
        let Ok(document) = Document::parse(document, "gatehouse.toml") else {
            tracing::error!("the configuration was not understood");
            return;
        };
        self.links.lab.store(document.lab, Ordering::Relaxed);
        (*lock(&self.links.token)).clone_from(&document.management.token);
        let wanted = document
            .listeners
            .iter()
            .filter(|listener| listener.service == Service::ManagementHttps)
            .filter_map(|listener| {
                let (index, _) = document.zone(&listener.zone)?;
                Some((ZoneId(u8::try_from(index).ok()?), listener.port))
            })
            .collect();
        let mut listeners = lock(&self.listeners);
        listeners.wanted = wanted;
        let Listeners { asked, wanted, .. } = &mut *listeners;
        asked.retain(|_, listener| wanted.contains(listener));
        listeners.ask();
        drop(listeners);
        self.resolver.name(&document.management.certificate);
        self.load_certificate();
    }

    fn load_certificate(&self) {
        if self.resolver.load().is_err() {
            tracing::warn!("no certificate from the keyholder yet");
        }
    }

    fn connect_broker(self: &Arc<Self>, channel: Channel) -> io::Result<()> {
        let channel = Arc::new(watch(channel)?);
        {
            let mut listeners = lock(&self.listeners);
            listeners.broker = Some(Arc::clone(&channel));
            listeners.asked.clear();
            listeners.ask();
        }
        let management = Arc::clone(self);
        tokio::spawn(async move {
            let mut buffer = vec![0; MAX_MESSAGE];
            while let Some((length, descriptors)) = receive(&channel, &mut buffer).await {
                match decode::<FromBroker>(buffer.get(..length).unwrap_or_default()) {
                    Ok(FromBroker::Accepted { peer, .. }) => {
                        if let Some(fd) = descriptors.into_iter().next() {
                            management.accept(peer, fd);
                        }
                    }
                    Ok(FromBroker::Refused { id, reason }) => {
                        tracing::warn!(%reason, "listener refused");
                        lock(&management.listeners).asked.remove(&id.0);
                    }
                    Ok(_) => {}
                    Err(error) => tracing::error!(%error, "broker message refused"),
                }
            }
        });
        Ok(())
    }

    /// Serves a connection in a task of its own, if there is room for it.
    fn accept(self: &Arc<Self>, peer: SocketAddr, fd: OwnedFd) {
        let source = peer.ip().to_canonical();
        {
            let mut connections = lock(&self.connections);
            let total: usize = connections.values().sum();
            let own = connections.entry(source).or_default();
            if total >= MAX_CONNECTIONS || *own >= MAX_PER_SOURCE {
                let _ = (*own == 0).then(|| connections.remove(&source));
                tracing::warn!("connection refused: too many");
                return;
            }
            *own += 1;
        }
        let management = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(CONNECTION_TIME, management.converse(fd)).await {
                tracing::debug!(%error, "connection ended");
            }
            let mut connections = lock(&management.connections);
            if let Some(own) = connections.get_mut(&source) {
                *own -= 1;
                if *own == 0 {
                    connections.remove(&source);
                }
            }
        });
    }

    async fn converse(&self, fd: OwnedFd) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        let stream = timeout(HANDSHAKE_TIME, self.acceptor.accept(stream)).await??;
        let service = hyper_util::service::TowerToHyperService::new(self.router.clone());
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }
}

/// A counter without labels by its name.
fn figure(answer: &FromStatus, name: &str) -> Option<u64> {
    let FromStatus::Counters { counters, .. } = answer else {
        return None;
    };
    counters
        .iter()
        .find(|(own, _)| own == name)
        .map(|(_, value)| *value)
}
