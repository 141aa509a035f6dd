//! Answers of the firewall: the descriptors stay here, the rest goes to the core.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    rc::Rc,
};

use broker_proto::{
    MAX_MESSAGE, RequestId,
    broker::{FromBroker, LeaseId, Refusal},
    journal::Severity,
    settings::{Transport, ZoneId},
};
use sbc_core::{BrokerAnswer, Input};

use super::{
    Shared, Task,
    adoption::Adoption,
    connection::{Connection, Origin},
    names::NameSocket,
    shell::{Peer, log},
    udp::UdpListener,
};
use crate::{
    engine::Engine,
    link::{Link, LinkError},
    socket::{SocketError, nonblocking},
    stack::Stack,
};

/// Talks to the firewall by this channel from now on.
///
/// # Errors
/// What the kernel says to the channel.
pub fn attach<E: Engine + 'static>(shared: &Shared<E>, link: Link) {
    let link = Rc::new(link);
    let task = Task::spawn(listen(Rc::clone(shared), Rc::clone(&link)));
    let mut shell = shared.borrow_mut();
    if shell.peers.broker.is_some() {
        lost(&mut shell);
    }
    shell.pulse.set_broker(Some(link.share()));
    shell.peers.broker = Some(Peer { link, _task: task });
}

/// The firewall's successor knows nothing of what was lent. Listeners are asked for again; media sockets are kept, closed by
/// the kernel, until it takes them back.
fn lost<E: Engine>(shell: &mut super::Shell<E>) {
    shell.pulse.set_broker(None);
    shell.peers.broker = None;
    shell.listeners.clear();
    shell.leases.orphan();
    shell.adoption = Adoption::default();
    shell.asked.clear();
    shell.opening.clear();
    shell.counters.broker_lost += 1;
    log(Severity::Error, "firewall-lost", &[]);
    shell.handle(Input::BrokerLost);
}

async fn listen<E: Engine + 'static>(shared: Shared<E>, link: Rc<Link>) {
    let mut buffer = Box::new([0; MAX_MESSAGE]);
    loop {
        match link.receive_together::<FromBroker>(&mut buffer).await {
            Ok((messages, descriptors)) => deal(&shared, messages, descriptors),
            Err(LinkError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => break,
            Err(error) => log(
                Severity::Error,
                "firewall-message-refused",
                &[("error", error.to_string())],
            ),
        }
    }
    lost(&mut shared.borrow_mut());
}

/// Gives each message of a packet its descriptors. The core hears of all before anything is asked anew.
fn deal<E: Engine + 'static>(
    shared: &Shared<E>,
    messages: Vec<FromBroker>,
    descriptors: Vec<OwnedFd>,
) {
    let alone = messages.len() == 1;
    let mut descriptors = descriptors.into_iter();
    for message in messages {
        let count = match message.descriptors() {
            Some(count) if !alone => count,
            _ => descriptors.len(),
        };
        let own = descriptors.by_ref().take(count).collect();
        answered(shared, message, own);
    }
}

fn answered<E: Engine + 'static>(
    shared: &Shared<E>,
    message: FromBroker,
    descriptors: Vec<OwnedFd>,
) {
    match message {
        FromBroker::Settings(settings) => {
            let mut shell = shared.borrow_mut();
            shell.configure(settings);
            shell.adoption.begin();
            shell.offer_orphans();
        }
        FromBroker::Listening { id, local } => listening(shared, id, local, descriptors),
        FromBroker::Accepted {
            zone,
            transport,
            local,
            peer,
        } => {
            accepted(shared, (zone, transport), local, peer, descriptors);
        }
        FromBroker::MediaOpened {
            id,
            lease,
            rtp,
            rtcp,
            ttl_seconds,
        } => {
            let mut shell = shared.borrow_mut();
            let Some(asked) = shell.opening.remove(&id) else {
                return stray(id);
            };
            let (v6, pair) = (rtp.is_ipv6(), rtcp.is_some());
            let answer = match shell.leases.keep(lease.0, asked, v6, pair, descriptors) {
                Ok(()) => BrokerAnswer::MediaOpened {
                    id,
                    lease,
                    rtp,
                    rtcp,
                    ttl_seconds,
                },
                // The lease ends by itself: nobody renews it.
                Err(error) => unusable(id, &error),
            };
            shell.handle(Input::Broker(answer));
        }
        FromBroker::Connected { id, local, peer } => {
            connected(shared, id, local, peer, descriptors)
        }
        FromBroker::Bindings { id, bindings, next } => {
            let answer = BrokerAnswer::Bindings { id, bindings, next };
            shared.borrow_mut().handle(Input::Broker(answer));
        }
        FromBroker::Done { id } => {
            let mut shell = shared.borrow_mut();
            if !shell.adopted(id) {
                shell.handle(Input::Broker(BrokerAnswer::Done { id }));
            }
        }
        FromBroker::Refused { id, reason } => {
            let mut shell = shared.borrow_mut();
            if shell.not_adopted(id, reason) {
                return;
            }
            shell.asked.remove(&id);
            shell.opening.remove(&id);
            shell.handle(Input::Broker(BrokerAnswer::Refused { id, reason }));
        }
        FromBroker::LeaseEnded {
            lease: LeaseId(lease),
        } => {
            let mut shell = shared.borrow_mut();
            shell.leases.close(lease);
            shell.handle(Input::Broker(BrokerAnswer::LeaseEnded {
                lease: LeaseId(lease),
            }));
        }
    }
}

fn listening<E: Engine + 'static>(
    shared: &Shared<E>,
    id: RequestId,
    local: Vec<SocketAddr>,
    descriptors: Vec<OwnedFd>,
) {
    let Some(asked) = shared.borrow_mut().asked.remove(&id) else {
        return stray(id);
    };
    if asked.transport == Transport::Udp {
        let started = if descriptors.len() == local.len() {
            start_listeners(shared, asked.zone, &local, descriptors)
        } else {
            Err(SocketError::Count)
        };
        if let Err(error) = started {
            return shared
                .borrow_mut()
                .handle(Input::Broker(unusable(id, &error)));
        }
    }
    shared.borrow_mut().handle(Input::Listening {
        zone: asked.zone,
        transport: asked.transport,
        port: asked.port,
        local,
    });
}

fn start_listeners<E: Engine + 'static>(
    shared: &Shared<E>,
    zone: ZoneId,
    local: &[SocketAddr],
    descriptors: Vec<OwnedFd>,
) -> Result<(), SocketError> {
    for (&address, descriptor) in local.iter().zip(descriptors) {
        let listener = UdpListener::start(shared, zone, address, descriptor)?;
        shared.borrow_mut().listeners.insert(address, listener);
    }
    Ok(())
}

fn accepted<E: Engine + 'static>(
    shared: &Shared<E>,
    (zone, transport): (ZoneId, Transport),
    local: SocketAddr,
    peer: SocketAddr,
    descriptors: Vec<OwnedFd>,
) {
    let full = {
        let mut shell = shared.borrow_mut();
        let full = shell.is_full(zone, peer.ip());
        shell.counters.connections_refused += u64::from(full);
        full
    };
    if full {
        return log(
            Severity::Warning,
            "connection-refused",
            &[("reason", "limit".to_owned())],
        );
    }
    let stack = {
        let mut shell = shared.borrow_mut();
        match shell
            .secure
            .accept((zone, transport), local.port(), peer.ip())
        {
            Ok(stack) => stack,
            Err(reason) => return shell.no_stack(reason, peer),
        }
    };
    let open = stack.is_open();
    let origin = Origin::Accepted {
        zone,
        transport,
        local,
        peer,
    };
    match start_connection(shared, descriptors, stack, origin) {
        Ok(id) => {
            let mut shell = shared.borrow_mut();
            if !shell.secure.is_peer(zone, peer.ip()) {
                shell.make_room(id, peer.ip());
            }
            if open {
                shell.opened(id);
            }
        }
        Err(error) => log(
            Severity::Error,
            "lent-socket-unusable",
            &[("error", error.to_string())],
        ),
    }
}

fn connected<E: Engine + 'static>(
    shared: &Shared<E>,
    id: RequestId,
    local: SocketAddr,
    peer: SocketAddr,
    descriptors: Vec<OwnedFd>,
) {
    let Some(asked) = shared.borrow_mut().asked.remove(&id) else {
        return stray(id);
    };
    let refused = |shared: &Shared<E>, error: &dyn std::fmt::Display| {
        let answer = unusable(id, error);
        shared.borrow_mut().handle(Input::Broker(answer));
    };
    if asked.transport == Transport::Udp {
        let names = shared.borrow().is_name_server(asked.zone, peer);
        let started = if names {
            start_question(shared, descriptors)
        } else {
            start_collector(shared, descriptors)
        };
        return match started {
            Ok(connection) => {
                let answer = BrokerAnswer::Connected {
                    id,
                    connection,
                    local,
                    peer,
                };
                shared.borrow_mut().handle(Input::Broker(answer));
            }
            Err(error) => refused(shared, &error),
        };
    }
    let stack = shared
        .borrow()
        .secure
        .connect((asked.zone, asked.transport), peer);
    let stack = match stack {
        Ok(stack) => stack,
        Err(reason) => return refused(shared, &reason),
    };
    let open = stack.is_open();
    match start_connection(
        shared,
        descriptors,
        stack,
        Origin::Asked { id, local, peer },
    ) {
        Ok(connection) if open => shared.borrow_mut().opened(connection),
        Ok(connection) => shared.borrow_mut().begin(connection),
        Err(error) => refused(shared, &error),
    }
}

/// A socket for one question to a name server.
fn start_question<E: Engine + 'static>(
    shared: &Shared<E>,
    descriptors: Vec<OwnedFd>,
) -> Result<sbc_core::ConnectionId, SocketError> {
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| SocketError::Count)?;
    let id = shared.borrow_mut().name_connection();
    let socket = NameSocket::start(shared, id, descriptor)?;
    shared.borrow_mut().questions.insert(id, socket);
    Ok(id)
}

/// Over UDP the core connects to nothing else but name servers.
fn start_collector<E: Engine>(
    shared: &Shared<E>,
    descriptors: Vec<OwnedFd>,
) -> Result<sbc_core::ConnectionId, SocketError> {
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| SocketError::Count)?;
    let socket = UdpSocket::from(nonblocking(descriptor)?);
    let mut shell = shared.borrow_mut();
    let id = shell.name_connection();
    shell.collector = Some((id, socket));
    Ok(id)
}

fn start_connection<E: Engine + 'static>(
    shared: &Shared<E>,
    descriptors: Vec<OwnedFd>,
    stack: Stack,
    origin: Origin,
) -> Result<sbc_core::ConnectionId, SocketError> {
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| SocketError::Count)?;
    let id = shared.borrow_mut().name_connection();
    let connection = Connection::start(shared, id, descriptor, stack, origin)?;
    shared.borrow_mut().connections.insert(id, connection);
    Ok(id)
}

fn unusable(id: RequestId, error: &dyn std::fmt::Display) -> BrokerAnswer {
    log(
        Severity::Error,
        "lent-socket-unusable",
        &[("error", error.to_string())],
    );
    BrokerAnswer::Refused {
        id,
        reason: Refusal::System,
    }
}

/// An answer to nothing: its descriptors are closed.
fn stray(id: RequestId) {
    log(
        Severity::Warning,
        "answer-to-nothing",
        &[("id", id.0.to_string())],
    );
}
