//! The DHCP process: takes an IPv4 address from the network for each zone that is configured so, and tells init, which
//! alone may set it. It meets datagrams of strangers, so it is sandboxed and gets its sockets from the firewall, each
//! tied to one zone's link and to the ports of DHCP. What it says is judged again by init. Name and time servers are not
//! taken from the network: nothing that is received here widens what the configuration allows.
//!
//! | module | noun |
//! |---|---|
//! | [`message`] | request and answer, RFC 2131 §2, RFC 2132 |
//! | [`lease`] | what may be taken |
//! | [`client`] | states and timers, RFC 2131 §4.4: decides, without sockets and clocks |

pub mod client;
pub mod lease;
pub mod message;

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use appliance_config::{Document, Ipv4};
use broker_proto::{
    MAX_MESSAGE, RequestId, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
    settings::{Transport, ZoneId},
};
use nix::{
    errno::Errno,
    poll::PollFlags,
    sys::socket::{MsgFlags, SockaddrIn, recv, sendto},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sandbox::{Profile, channel::Channel};

use self::{
    client::{Action, Client, Refusal},
    lease::Taken,
    message::{MAX_LENGTH, Mac},
};
use crate::lent::{self, BATCH, Firewall, LONGEST_SLEEP};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Wait before the firewall is asked for a socket again.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// Serves until init says `Stop` or is gone.
///
/// # Errors
/// Init's channel, or the sandbox's seal.
pub fn serve(control: Channel, profile: &Profile) -> Result<(), Box<dyn std::error::Error>> {
    let mut seed = [0; 32];
    sandbox::random::fill(&mut seed)?;
    sandbox::seal(profile)?;
    let mut shell = Shell {
        control,
        firewall: Firewall::default(),
        rng: StdRng::from_seed(seed),
        taken: Taken::default(),
        zones: Vec::new(),
        buffer: vec![0; MAX_MESSAGE],
        stop: false,
    };
    shell.tell_init(&FromChild::Ready)?;
    while !shell.stop {
        shell.turn()?;
    }
    Ok(())
}

/// A zone that takes its address from the network.
struct Zone {
    id: ZoneId,
    name: String,
    socket: Option<OwnedFd>,
    /// The request for a socket that is not answered yet.
    wanted: Option<RequestId>,
    ask_due: Instant,
    /// There once the socket and the link's address are known.
    client: Option<Client>,
    mac: Option<Mac>,
    /// The address of the zone's last lease.
    remembered: Option<Ipv4Addr>,
    carrier: bool,
    refused: u64,
}

struct Shell {
    control: Channel,
    firewall: Firewall,
    rng: StdRng,
    taken: Taken,
    zones: Vec<Zone>,
    buffer: Vec<u8>,
    stop: bool,
}

impl Shell {
    fn turn(&mut self) -> io::Result<()> {
        let mut ready = self.wait()?.into_iter();
        let mut next = || ready.next().unwrap_or(PollFlags::empty());
        let (control, firewall) = (next(), next());
        for (place, ready) in ready.enumerate() {
            if ready.contains(PollFlags::POLLIN) {
                self.read_socket(place);
            }
            // Shut by the firewall (a new configuration): it is asked again.
            if let Some(zone) = self.zones.get_mut(place)
                && ready.contains(PollFlags::POLLHUP)
            {
                zone.socket = None;
            }
        }
        if !firewall.is_empty() {
            self.read_firewall();
        }
        if !control.is_empty() {
            self.read_control()?;
        }
        let now = Instant::now();
        for place in 0..self.zones.len() {
            self.ask(place, now);
            self.begin(place, now);
            if let Some(client) = self
                .zones
                .get_mut(place)
                .and_then(|zone| zone.client.as_mut())
            {
                client.handle_timeout(now);
            }
            self.act(place)?;
        }
        Ok(())
    }

    /// What is ready of control, broker and the zones' sockets.
    fn wait(&self) -> io::Result<Vec<PollFlags>> {
        let now = Instant::now();
        let dues = self
            .zones
            .iter()
            .filter_map(|zone| match (&zone.socket, &zone.client) {
                (None, _) => Some(zone.ask_due).filter(|_| self.firewall.is_there()),
                (Some(_), client) => client.as_ref().map(Client::poll_timeout),
            });
        let sleep = dues
            .map(|due| due.saturating_duration_since(now))
            .fold(LONGEST_SLEEP, Duration::min);
        let sockets = self.zones.iter().map(|zone| zone.socket.as_ref());
        let fds: Vec<Option<BorrowedFd<'_>>> = [Some(self.control.as_fd()), self.firewall.fd()]
            .into_iter()
            .chain(sockets.map(|socket| socket.map(AsFd::as_fd)))
            .collect();
        lent::wait(&fds, sleep)
    }

    /// Asks the firewall for the zone's socket, if it has none and the time has come.
    fn ask(&mut self, place: usize, now: Instant) {
        let Some(zone) = self.zones.get_mut(place) else {
            return;
        };
        if !self.firewall.is_there() || zone.socket.is_some() || zone.ask_due > now {
            return;
        }
        zone.ask_due = now + ASK_PAUSE;
        let asked = self.firewall.ask(|id| ToBroker::Listen {
            id,
            zone: zone.id,
            transport: Transport::Udp,
            port: CLIENT_PORT,
        });
        match asked {
            Ok(id) => zone.wanted = Some(id),
            Err(error) => tracing::warn!(zone = zone.name, %error, "the firewall was not asked"),
        }
    }

    /// Begins in a zone whose socket and link are there; anew if the card was changed.
    fn begin(&mut self, place: usize, now: Instant) {
        let Some(zone) = self.zones.get_mut(place) else {
            return;
        };
        let (Some(mac), true) = (zone.mac, zone.socket.is_some()) else {
            return;
        };
        if zone
            .client
            .as_ref()
            .is_none_or(|client| client.mac() != mac)
        {
            let (taken, seed) = (self.taken.clone(), self.rng.random());
            zone.client = Some(Client::new(mac, taken, zone.remembered, seed, now));
        }
    }

    fn act(&mut self, place: usize) -> io::Result<()> {
        while let Some(zone) = self.zones.get_mut(place) {
            let Some(action) = zone.client.as_mut().and_then(Client::poll_action) else {
                break;
            };
            let name = zone.name.clone();
            let said = match action {
                Action::Broadcast(bytes) => {
                    zone.send(Ipv4Addr::BROADCAST, &bytes);
                    continue;
                }
                Action::Send(server, bytes) => {
                    zone.send(server, &bytes);
                    continue;
                }
                Action::Refused(refusal) => {
                    zone.refuse(refusal);
                    continue;
                }
                Action::Leased(lease) => {
                    zone.remembered = Some(lease.address);
                    FromChild::Lease {
                        zone: name,
                        address: lease.address,
                        prefix: lease.prefix,
                        gateway: lease.gateway,
                        seconds: lease.seconds,
                    }
                }
                Action::Lost => {
                    zone.remembered = None;
                    FromChild::LeaseLost { zone: name }
                }
            };
            self.tell_init(&said)?;
        }
        Ok(())
    }

    fn read_firewall(&mut self) {
        for _ in 0..BATCH {
            match self.firewall.answer() {
                None => return,
                Some((FromBroker::Listening { id, .. }, socket)) => {
                    if let Some(zone) = self.asker(id) {
                        zone.socket = socket;
                    }
                }
                Some((FromBroker::Refused { id, reason }, _)) => {
                    if let Some(zone) = self.asker(id) {
                        tracing::warn!(zone = zone.name, %reason, "the firewall refused a socket");
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn asker(&mut self, id: RequestId) -> Option<&mut Zone> {
        self.zones.iter_mut().find_map(|zone| {
            zone.wanted.take_if(|wanted| *wanted == id)?;
            Some(zone)
        })
    }

    fn read_socket(&mut self, place: usize) {
        let Some(zone) = self.zones.get_mut(place) else {
            return;
        };
        for _ in 0..BATCH {
            let Some(socket) = &zone.socket else { return };
            // One octet more than is right, so that what is too long is seen to be.
            let mut datagram = [0; MAX_LENGTH + 1];
            match recv(socket.as_raw_fd(), &mut datagram, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return,
                Ok(length) => {
                    let datagram = datagram.get(..length).unwrap_or_default();
                    if let Some(client) = &mut zone.client {
                        client.handle_datagram(Instant::now(), datagram);
                    }
                }
                // Its link is down or gone: the firewall is asked again.
                Err(_) => {
                    zone.socket = None;
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
                    self.forget_sockets();
                }
                ToChild::Configuration { document, .. } => self.configure(&document),
                ToChild::Link {
                    zone,
                    mac,
                    carrier,
                    remembered,
                } => self.link(&zone, mac, carrier, remembered),
                ToChild::Stop => self.stop = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// A new firewall, or a new configuration of it: sockets of before may be shut. Clients go on with new ones.
    fn forget_sockets(&mut self) {
        for zone in &mut self.zones {
            (zone.socket, zone.wanted, zone.ask_due) = (None, None, Instant::now());
        }
    }

    /// Zones that stay keep their links; all begin anew if what is spoken for has changed.
    fn configure(&mut self, document: &str) {
        let document = match Document::parse(document, "gatehouse.toml") {
            Ok(document) => document,
            Err(_) if document.is_empty() => return self.zones.clear(),
            Err(offences) => {
                return tracing::error!(
                    offences = offences.len(),
                    "init sent a document that is refused"
                );
            }
        };
        let taken = Taken::of(&document);
        let mut before = core::mem::take(&mut self.zones);
        for (zone, id) in document.zones.iter().zip(0..) {
            if zone.ipv4 != Some(Ipv4::Dhcp) {
                continue;
            }
            let same = before.iter().position(|old| old.name == zone.name);
            let mut new =
                same.map_or_else(|| Zone::new(&zone.name), |place| before.swap_remove(place));
            new.id = ZoneId(id);
            if taken != self.taken {
                new.client = None;
            }
            self.zones.push(new);
        }
        self.taken = taken;
        self.forget_sockets();
    }

    fn link(&mut self, name: &str, mac: Mac, carrier: bool, remembered: Option<Ipv4Addr>) {
        let Some(zone) = self.zones.iter_mut().find(|zone| zone.name == name) else {
            return;
        };
        if zone.mac.is_none() {
            zone.remembered = remembered;
        }
        zone.mac = Some(mac);
        let came = carrier && !zone.carrier;
        zone.carrier = carrier;
        if let Some(client) = zone.client.as_mut().filter(|_| came) {
            client.handle_carrier(Instant::now());
        }
    }

    fn tell_init(&self, message: &FromChild) -> io::Result<()> {
        // Init reads at every turn; whoever is not read any more may end, and begins anew.
        self.control
            .send(&encode(message).map_err(io::Error::other)?, &[])
    }
}

impl Zone {
    fn new(name: &str) -> Self {
        Self {
            id: ZoneId(0),
            name: name.to_owned(),
            socket: None,
            wanted: None,
            ask_due: Instant::now(),
            client: None,
            mac: None,
            remembered: None,
            carrier: true,
            refused: 0,
        }
    }

    fn send(&mut self, server: Ipv4Addr, bytes: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let to = SockaddrIn::from(SocketAddrV4::new(server, SERVER_PORT));
        match sendto(socket.as_raw_fd(), bytes, &to, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => {}
            // The client sends again by itself.
            Err(error) => {
                tracing::warn!(zone = self.name, %server, %error, "DHCP request not sent")
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused = self.refused.saturating_add(1);
        // Answers to other hosts of the link are no offence.
        if refusal == Refusal::NotOurs {
            tracing::debug!(zone = self.name, "answer to another client");
        } else {
            tracing::warn!(zone = self.name, reason = %refusal, refused = self.refused, "DHCP answer refused");
        }
    }
}
