//! A firewall for benches: grants the sbc whatever it asks for, without any rule, on the addresses of the bench. So the
//! sbc runs as in the product, and nothing but it is measured.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use broker_proto::{
    MAX_MESSAGE, RequestId,
    broker::{FromBroker, LeaseId, ToBroker},
    decode, encode,
    settings::{Settings, Transport, ZoneId},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::Channel;

/// Serves the far end of a broker channel in a thread of its own until the sbc is gone.
pub fn serve(channel: Channel, settings: Settings) {
    thread::spawn(move || {
        let mut firewall = Firewall {
            channel: Arc::new(channel),
            settings,
            lease: 0,
        };
        // The sbc is gone: so is its firewall.
        let _ = firewall.run();
    });
}

struct Firewall {
    channel: Arc<Channel>,
    settings: Settings,
    lease: u64,
}

impl Firewall {
    fn run(&mut self) -> io::Result<()> {
        self.say(
            &FromBroker::Settings(Box::new(self.settings.clone())),
            Vec::new(),
        )?;
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
                let request = decode(bytes).map_err(io::Error::other)?;
                self.grant(request)?;
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
                self.say(&FromBroker::Listening { id, local }, sockets)
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
            | ToBroker::Ban { id, .. } => self.say(&FromBroker::Done { id }, Vec::new()),
            ToBroker::Connect { id, .. } | ToBroker::AdoptMedia { id, .. } => {
                let reason = broker_proto::broker::Refusal::NotConfigured;
                self.say(&FromBroker::Refused { id, reason }, Vec::new())
            }
            ToBroker::Health { .. } => Ok(()),
        }
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
        self.say(&opened, sockets)
    }

    fn addresses(&self, zone: ZoneId) -> impl Iterator<Item = IpAddr> + use<'_> {
        let zone = self.settings.zones.iter().find(move |own| own.id == zone);
        zone.into_iter()
            .flat_map(|zone| zone.addresses.iter().copied())
    }

    /// Sends, waiting for room: a bench may be behind for a moment.
    fn say(&self, message: &FromBroker, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let bytes = encode(message).map_err(io::Error::other)?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        loop {
            match self.channel.send(&bytes, &borrowed) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.channel, PollFlags::POLLOUT)?;
                }
                other => return other,
            }
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
