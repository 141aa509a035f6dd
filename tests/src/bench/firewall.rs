//! A firewall for benches: grants the sbc whatever it asks for, without any rule, on the addresses of the bench. So the
//! sbc runs as in the product, and nothing but it is measured.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use broker_proto::{
    MAX_MESSAGE, Packet, RequestId,
    broker::{FromBroker, LeaseId, ToBroker},
    decode_together, encode,
    settings::{Settings, Transport, ZoneId},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};
use sandbox::{Channel, channel::MAX_DESCRIPTORS};

/// Serves the far end of a broker channel in a thread of its own until the sbc is gone.
pub fn serve(channel: Channel, settings: Settings, accepting: Arc<Accepting>) {
    thread::spawn(move || {
        let mut firewall = Firewall {
            channel: Arc::new(channel),
            settings,
            lease: 0,
            accepting,
            answers: Vec::new(),
        };
        // The sbc is gone: so is its firewall.
        let _ = firewall.run();
    });
}

/// Processor time of the threads that accept.
#[derive(Debug, Default)]
pub struct Accepting(AtomicU64);

impl Accepting {
    /// So far.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

struct Firewall {
    channel: Arc<Channel>,
    settings: Settings,
    lease: u64,
    accepting: Arc<Accepting>,
    /// Of this packet's requests, as the real one does it.
    answers: Vec<(FromBroker, Vec<OwnedFd>)>,
}

impl Firewall {
    fn run(&mut self) -> io::Result<()> {
        let settings = FromBroker::Settings(Box::new(self.settings.clone()));
        self.say(settings, Vec::new());
        self.answer()?;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            wait(&self.channel, PollFlags::POLLIN)?;
            loop {
                let received = match self.channel.recv(&mut buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let bytes = buffer.get(..received.length).unwrap_or_default();
                let requests = decode_together(bytes).map_err(io::Error::other)?;
                for request in requests {
                    self.grant(request)?;
                }
                self.answer()?;
            }
        }
    }

    fn grant(&mut self, request: ToBroker) -> io::Result<()> {
        match request {
            ToBroker::Listen {
                id,
                zone,
                transport,
                port,
            } => {
                let local: Vec<SocketAddr> = self
                    .addresses(zone)
                    .map(|ip| SocketAddr::new(ip, port))
                    .collect();
                let sockets = if transport == Transport::Udp {
                    local
                        .iter()
                        .copied()
                        .map(bound)
                        .collect::<io::Result<Vec<_>>>()?
                } else {
                    Vec::new()
                };
                if transport != Transport::Udp {
                    for address in &local {
                        self.accept(zone, transport, *address)?;
                    }
                }
                self.say(FromBroker::Listening { id, local }, sockets);
                Ok(())
            }
            ToBroker::OpenMedia {
                id,
                zone,
                pair,
                ttl_seconds,
                ..
            } => self.open_media(id, zone, pair, ttl_seconds),
            ToBroker::LatchMedia { id, .. }
            | ToBroker::RenewMedia { id, .. }
            | ToBroker::CloseMedia { id, .. }
            | ToBroker::KeepBindings { id, .. }
            | ToBroker::Ban { id, .. } => {
                self.say(FromBroker::Done { id }, Vec::new());
                Ok(())
            }
            // There was no life before.
            ToBroker::RecallBindings { id, .. } => {
                let (bindings, next) = (Vec::new(), None);
                self.say(FromBroker::Bindings { id, bindings, next }, Vec::new());
                Ok(())
            }
            ToBroker::Connect { id, .. } | ToBroker::AdoptMedia { id, .. } => {
                let reason = broker_proto::broker::Refusal::NotConfigured;
                self.say(FromBroker::Refused { id, reason }, Vec::new());
                Ok(())
            }
            ToBroker::Health { .. } => Ok(()),
        }
    }

    /// Hands over what is accepted there, in a thread of its own until the sbc is gone.
    fn accept(&self, zone: ZoneId, transport: Transport, local: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(local)?;
        let (channel, accepting) = (Arc::clone(&self.channel), Arc::clone(&self.accepting));
        thread::spawn(move || {
            let mut counted = 0;
            while let Ok((stream, peer)) = listener.accept() {
                let accepted = FromBroker::Accepted {
                    zone,
                    transport,
                    local,
                    peer,
                };
                let Ok(bytes) = encode(&accepted) else {
                    return;
                };
                if stream.set_nonblocking(true).is_err()
                    || say(&channel, &bytes, vec![stream.into()]).is_err()
                {
                    return;
                }
                let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
                let used = used.map_or(counted, |used| used.num_nanoseconds().cast_unsigned());
                accepting.0.fetch_add(used - counted, Ordering::Relaxed);
                counted = used;
            }
        });
        Ok(())
    }

    fn open_media(
        &mut self,
        id: RequestId,
        zone: ZoneId,
        pair: bool,
        ttl_seconds: u32,
    ) -> io::Result<()> {
        let ip = self.addresses(zone).next().ok_or(io::ErrorKind::NotFound)?;
        let rtp = bound_socket(SocketAddr::new(ip, 0))?;
        let rtcp = pair
            .then(|| bound_socket(SocketAddr::new(ip, 0)))
            .transpose()?;
        self.lease += 1;
        let opened = FromBroker::MediaOpened {
            id,
            lease: LeaseId(self.lease),
            rtp: rtp.local_addr()?,
            rtcp: rtcp.as_ref().map(UdpSocket::local_addr).transpose()?,
            ttl_seconds,
        };
        let sockets = [Some(rtp), rtcp]
            .into_iter()
            .flatten()
            .map(OwnedFd::from)
            .collect();
        self.say(opened, sockets);
        Ok(())
    }

    fn addresses(&self, zone: ZoneId) -> impl Iterator<Item = IpAddr> + use<'_> {
        let zone = self.settings.zones.iter().find(move |own| own.id == zone);
        zone.into_iter()
            .flat_map(|zone| zone.addresses.iter().copied())
    }

    fn say(&mut self, message: FromBroker, descriptors: Vec<OwnedFd>) {
        self.answers.push((message, descriptors));
    }

    /// Sends what may leave together in one packet.
    fn answer(&mut self) -> io::Result<()> {
        let mut answers = std::mem::take(&mut self.answers).into_iter().peekable();
        while let Some((message, mut descriptors)) = answers.next() {
            let mut packet = Packet::default();
            let mut last = message;
            loop {
                packet.push(&last, MAX_MESSAGE).map_err(io::Error::other)?;
                let room = MAX_DESCRIPTORS - descriptors.len();
                let joins = |(next, more): &(FromBroker, Vec<OwnedFd>)| {
                    last.descriptors().is_some()
                        && next.descriptors().is_some()
                        && more.len() <= room
                };
                let Some((next, more)) = answers.next_if(joins) else {
                    break;
                };
                descriptors.extend(more);
                last = next;
            }
            say(&self.channel, &packet.into_bytes(), descriptors)?;
        }
        Ok(())
    }
}

/// Sends, waiting for room: a bench may be behind for a moment.
fn say(channel: &Channel, bytes: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    loop {
        match channel.send(bytes, &borrowed) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(channel, PollFlags::POLLOUT)?;
            }
            other => return other,
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    bound_socket(address).map(OwnedFd::from)
}

fn bound_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn wait(channel: &Channel, what: PollFlags) -> io::Result<()> {
    poll(&mut [PollFd::new(channel.as_fd(), what)], PollTimeout::NONE)?;
    Ok(())
}
