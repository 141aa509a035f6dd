//! The time process: asks the configured NTP servers how wrong the clock is and tells init, which alone may set it. It
//! meets datagrams of strangers, so it is sandboxed and gets its sockets one by one from the firewall, each connected to
//! one configured server. Unauthenticated NTP can be believed only as far as several servers agree; see [`agreement`].
//!
//! | module | noun |
//! |---|---|
//! | [`packet`] | request and reply, RFC 5905 §7.3 |
//! | [`agreement`] | whom to believe |
//! | [`client`] | rounds, pauses, kiss-o'-death: decides, without sockets and clocks |
//! | [`servers`] | the configuration's servers |

pub mod agreement;
pub mod client;
pub mod packet;
pub mod servers;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Instant, SystemTime},
};

use appliance_config::Document;
use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
    settings::{Transport, ZoneId},
};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, send},
};
use sandbox::{Profile, channel::Channel};

use self::{
    client::{Action, Client},
    packet::{LENGTH, Timestamp},
};
use crate::lent::{self, BATCH, Firewall, LONGEST_SLEEP};

/// Serves until init says `Stop` or is gone.
///
/// # Errors
/// Init's channel, or the sandbox's seal.
pub fn serve(control: Channel, profile: &Profile) -> Result<(), Box<dyn std::error::Error>> {
    // Asked for before the seal: later nothing but the pipe to init is written to.
    let mut seed = [0; 32];
    sandbox::random::fill(&mut seed)?;
    sandbox::seal(profile)?;
    let mut shell = Shell {
        control,
        firewall: Firewall::default(),
        client: Client::new(seed, Instant::now()),
        zones: BTreeMap::new(),
        wanted: BTreeMap::new(),
        sockets: Vec::new(),
        buffer: vec![0; MAX_MESSAGE],
        stop: false,
    };
    shell.tell_init(&FromChild::Ready)?;
    while !shell.stop {
        shell.turn()?;
    }
    Ok(())
}

struct Shell {
    control: Channel,
    firewall: Firewall,
    client: Client,
    /// By which zone a server is reached.
    zones: BTreeMap<SocketAddr, ZoneId>,
    /// Sockets that the firewall was asked for.
    wanted: BTreeMap<RequestId, SocketAddr>,
    sockets: Vec<(SocketAddr, OwnedFd)>,
    buffer: Vec<u8>,
    stop: bool,
}

impl Shell {
    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        let mut ready = ready.into_iter();
        let (control, firewall) = (ready.next().unwrap_or(false), ready.next().unwrap_or(false));
        // Datagrams first: their time of arrival is what is measured.
        let readable: Vec<SocketAddr> = self
            .sockets
            .iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|((server, _), _)| *server)
            .collect();
        for server in readable {
            self.read_socket(server);
        }
        if firewall {
            self.read_firewall();
        }
        if control {
            self.read_control()?;
        }
        self.client.handle_timeout(Instant::now());
        while let Some(action) = self.client.poll_action() {
            self.act(action)?;
        }
        Ok(())
    }

    /// Which of control, broker and sockets can be read.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let sleep = self.client.poll_timeout().map_or(LONGEST_SLEEP, |due| {
            due.saturating_duration_since(Instant::now())
                .min(LONGEST_SLEEP)
        });
        let sockets = self.sockets.iter().map(|(_, socket)| Some(socket.as_fd()));
        let fds: Vec<Option<BorrowedFd<'_>>> = [Some(self.control.as_fd()), self.firewall.fd()]
            .into_iter()
            .chain(sockets)
            .collect();
        let ready = lent::wait(&fds, sleep)?;
        Ok(ready.into_iter().map(|flags| !flags.is_empty()).collect())
    }

    fn act(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Open(server) => self.ask(server),
            Action::CloseAll => {
                self.sockets.clear();
                self.wanted.clear();
            }
            Action::Offset {
                nanoseconds,
                error_ns,
                server,
            } => {
                tracing::info!(%server, nanoseconds, error_ns, "clock offset");
                self.tell_init(&FromChild::ClockOffset {
                    nanoseconds,
                    server,
                })?;
            }
            Action::NoAgreement { answers, servers } => {
                tracing::warn!(
                    answers,
                    servers,
                    "time servers do not agree, or too few answer; the clock stays"
                );
            }
            Action::Refused { server, reason } => {
                tracing::warn!(%server, %reason, "time server's answer refused")
            }
        }
        Ok(())
    }

    /// Asks the firewall for a socket: a fresh one, and so a fresh port, for each question (RFC 9109).
    fn ask(&mut self, server: SocketAddr) {
        let Some(zone) = self.zones.get(&server).copied() else {
            return;
        };
        if !self.firewall.is_there() {
            return;
        }
        let asked = self.firewall.ask(|id| ToBroker::Connect {
            id,
            zone,
            transport: Transport::Udp,
            peer: server,
        });
        match asked {
            Ok(id) => drop(self.wanted.insert(id, server)),
            Err(error) => tracing::warn!(%server, %error, "the firewall was not asked"),
        }
    }

    fn read_firewall(&mut self) {
        for _ in 0..BATCH {
            match self.firewall.answer() {
                None => return,
                Some((FromBroker::Connected { id, .. }, socket)) => {
                    if let (Some(server), Some(socket)) = (self.wanted.remove(&id), socket) {
                        self.opened(server, socket);
                    }
                }
                Some((FromBroker::Refused { id, reason }, _)) => {
                    if let Some(server) = self.wanted.remove(&id) {
                        tracing::warn!(%server, %reason, "the firewall refused a socket");
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn opened(&mut self, server: SocketAddr, socket: OwnedFd) {
        let wall = Timestamp::of_unix(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
        );
        let Some(packet) = self.client.handle_opened(Instant::now(), wall, server) else {
            return;
        };
        match send(socket.as_raw_fd(), &packet, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => self.sockets.push((server, socket)),
            Err(error) => tracing::warn!(%server, %error, "time server was not asked"),
        }
    }

    fn read_socket(&mut self, server: SocketAddr) {
        for _ in 0..BATCH {
            let Some((_, socket)) = self.sockets.iter().find(|(known, _)| *known == server) else {
                return;
            };
            // One octet more than is right, so that what is too long is seen to be.
            let mut datagram = [0; LENGTH + 1];
            match recv(socket.as_raw_fd(), &mut datagram, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let datagram = datagram.get(..length).unwrap_or_default();
                    self.client
                        .handle_datagram(Instant::now(), server, datagram);
                }
                Err(Errno::EAGAIN) => return,
                // Nothing more will come of this one in this round.
                Err(_) => {
                    self.sockets.retain(|(known, _)| *known != server);
                    return;
                }
            }
        }
    }

    fn read_control(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            let received = match self.control.recv(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let message = decode(self.buffer.get(..received.length).unwrap_or_default())
                .map_err(io::Error::other)?;
            match message {
                ToChild::Peer {
                    role: Role::Firewall,
                    channel: ChannelKind::Broker,
                } => {
                    self.firewall.replace(received.descriptors);
                    self.wanted.clear();
                }
                ToChild::Configuration { document, .. } => self.configure(&document),
                ToChild::Stop => self.stop = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn configure(&mut self, document: &str) {
        match Document::parse(document, "gatehouse.toml") {
            Ok(document) => {
                let servers = servers::servers(&document);
                self.zones = servers
                    .iter()
                    .map(|(zone, server)| (*server, *zone))
                    .collect();
                let addresses: Vec<SocketAddr> =
                    servers.into_iter().map(|(_, server)| server).collect();
                self.client.configure(&addresses, Instant::now());
            }
            Err(offences) => tracing::error!(
                offences = offences.len(),
                "init sent a document that is refused"
            ),
        }
    }

    fn tell_init(&self, message: &FromChild) -> io::Result<()> {
        let bytes = encode(message).map_err(io::Error::other)?;
        match self.control.send(&bytes, &[]) {
            // Init is busy; the next round measures anew.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}
