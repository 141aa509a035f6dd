//! The suite's second half, seen from outside: the real firewall, sockets that it lent, and a captured sbc that sends where
//! it may not and forges what it asks. What leaves by the cables and whether the firewall still serves is judged here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use broker_proto::{
    RequestId,
    broker::{Admit, Family, Flow, FromBroker, ToBroker},
    encode,
    settings::{Transport, ZoneId},
};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
use sandbox::Channel;

use super::{
    egress::{self, NEGOTIATED},
    forgery::{self, FORGERIES},
    house::{self, House, Wire},
    inside::{EGRESS, FORGE, Report},
    outside::{Tally, collect},
};

/// Sign of life of a sbc.
const HEALTH: Duration = Duration::from_millis(20);
const EXTERNAL: ZoneId = ZoneId(0);

/// Runs both parts with the attacker at the other end of `inside`.
///
/// # Errors
/// The firewall is not there or could not be started, or what must work does not: then the figures would mean nothing.
pub fn attacks(inside: &Channel, tally: &mut Tally) -> io::Result<()> {
    let program = house::program()?;
    let mut house = House::start(&program)?;
    send_elsewhere(&house, inside, tally)?;
    forge(&mut house, inside, tally)
}

fn send_elsewhere(house: &House, inside: &Channel, tally: &mut Tally) -> io::Result<()> {
    let sbc = house.sbc()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| keep_alive(&sbc, &over));
        let result = lend_and_watch(house, &sbc, inside, tally);
        over.store(true, Ordering::Relaxed);
        result
    })
}

fn lend_and_watch(
    house: &House,
    sbc: &Channel,
    inside: &Channel,
    tally: &mut Tally,
) -> io::Result<()> {
    let peer: SocketAddr = NEGOTIATED.parse().map_err(io::Error::other)?;
    let flow = Flow {
        admit: Admit::Peer(peer),
        send_to: Some(peer),
    };
    let id = RequestId(1);
    let open = ToBroker::OpenMedia {
        id,
        zone: EXTERNAL,
        family: Family::V4,
        pair: false,
        flow,
        ttl_seconds: 600,
    };
    let media = lent(house::ask(sbc, &open)?)?;
    let listen = ToBroker::Listen {
        id,
        zone: EXTERNAL,
        transport: Transport::Udp,
        port: 5060,
    };
    let listener = lent(house::ask(sbc, &listen)?)?;

    the_negotiated_passes(&media, peer, &house.wire)?;
    inside.send(EGRESS, &[media.as_fd(), listener.as_fd()])?;
    collect(inside, tally)?;
    for packet in house.wire.packets()? {
        let negotiated = packet.destination == peer && packet.first.is_some_and(egress::is_media);
        let configured = egress::CONFIGURED.contains(&packet.destination.to_string().as_str());
        let allowed = negotiated || configured;
        if !allowed {
            tally.add(&Report {
                group: egress::GROUP.to_owned(),
                name: format!("{} first octet {:?}", packet.destination, packet.first),
                ending: "seen on the cable".to_owned(),
                refused: false,
            });
        }
    }
    the_negotiated_passes(&media, peer, &house.wire)
}

/// Otherwise the silence of the cables would prove nothing.
fn the_negotiated_passes(media: &OwnedFd, peer: SocketAddr, wire: &Wire) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    sendto(
        media.as_raw_fd(),
        &egress::rtp_packet(),
        &SockaddrStorage::from(peer),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let seen = wire.next()?;
    if seen.iter().all(|packet| packet.destination == peer) {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "besides the negotiated packet: {seen:?}"
        )))
    }
}

fn keep_alive(sbc: &Channel, over: &AtomicBool) {
    let mut sequence = 0;
    while !over.load(Ordering::Relaxed) {
        sequence += 1;
        if let Ok(message) = encode(&ToBroker::Health { sequence }) {
            let _ = sbc.send(&message, &[]);
        }
        thread::sleep(HEALTH);
    }
}

fn lent((answer, fds): (FromBroker, Vec<OwnedFd>)) -> io::Result<OwnedFd> {
    fds.into_iter()
        .next()
        .ok_or_else(|| io::Error::other(format!("nothing was lent: {answer:?}")))
}

fn forge(house: &mut House, inside: &Channel, tally: &mut Tally) -> io::Result<()> {
    for (number, (name, _)) in FORGERIES.iter().enumerate() {
        let channel = house.sbc()?;
        let number = u8::try_from(number).map_err(io::Error::other)?;
        inside.send(&[FORGE, &[number]].concat(), &[channel.as_fd()])?;
        drop(channel);
        collect(inside, tally)?;
        // A fresh sbc is served: it gets its settings and a media socket.
        let served = serves(house);
        tally.add(&Report {
            group: forgery::GROUP.to_owned(),
            name: format!("after {name}: the firewall serves"),
            ending: served
                .as_ref()
                .err()
                .map_or_else(|| "it does".to_owned(), ToString::to_string),
            refused: served.is_ok() && house.is_alive(),
        });
    }
    Ok(())
}

fn serves(house: &House) -> io::Result<()> {
    let sbc = house.sbc()?;
    let renew = ToBroker::RenewMedia {
        id: RequestId(2),
        lease: broker_proto::broker::LeaseId(u64::MAX),
        ttl_seconds: 1,
    };
    match house::ask(&sbc, &renew)?.0 {
        FromBroker::Refused { .. } => Ok(()),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}
