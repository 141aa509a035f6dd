//! The other processes. Init hands over a channel to each of them, and another one whenever one was started again.

use std::{io, os::fd::OwnedFd, rc::Rc};

use broker_proto::{
    MAX_MESSAGE, Role,
    control::{ChannelKind, FromChild, ToChild},
    journal::{FromJournal, Severity},
    keyholder::FromKeyholder,
    status::{FromStatus, ToStatus},
};
use sandbox::channel::Channel;
use tokio::signal::unix::Signal;

use super::{
    Shared, Task, broker,
    shell::{Peer, Shell, log},
};
use crate::{
    engine::Engine,
    link::{Link, LinkError},
};

/// Calls in one answer (`FromStatus::Calls`).
const CALLS: u32 = 64;
/// Counters in one answer (`FromStatus::Counters`).
const COUNTERS: usize = 512;

/// Tells init that this process serves.
///
/// # Errors
/// What the kernel says to the control channel.
pub fn ready(control: &Channel) -> Result<(), LinkError> {
    control.send(&broker_proto::encode(&FromChild::Ready)?, &[])?;
    Ok(())
}

/// Does what init says until it says stop, is gone, or sends SIGTERM.
pub async fn obey<E: Engine + 'static>(
    shared: &Shared<E>,
    control: Channel,
    mut terminate: Signal,
) {
    let Ok(link) = Link::new(control) else { return };
    let mut buffer = Box::new([0; MAX_MESSAGE]);
    loop {
        let heard = tokio::select! {
            heard = link.receive::<ToChild>(&mut buffer) => heard,
            _ = terminate.recv() => return,
        };
        match heard {
            Ok((ToChild::Peer { role, channel }, descriptors)) => {
                attach(shared, role, channel, descriptors)
            }
            Ok((ToChild::Stop, _)) => return,
            Ok(_) => log(Severity::Error, "message-not-for-us", &[]),
            Err(LinkError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => return,
            Err(error) => log(
                Severity::Error,
                "init-message-refused",
                &[("error", error.to_string())],
            ),
        }
    }
}

fn attach<E: Engine + 'static>(
    shared: &Shared<E>,
    role: Role,
    kind: ChannelKind,
    descriptors: Vec<OwnedFd>,
) {
    let attached = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| io::ErrorKind::InvalidData.into())
        .and_then(|[descriptor]| Link::new(Channel::from_fd(descriptor)));
    let link = match attached {
        Ok(link) => link,
        Err(error) => {
            return log(
                Severity::Error,
                "channel-unusable",
                &[("error", error.to_string())],
            );
        }
    };
    match (role, kind) {
        (Role::Firewall, ChannelKind::Broker) => broker::attach(shared, link),
        (Role::Journal, ChannelKind::Journal) => {
            let peer = peer(shared, link, |_, _: FromJournal, _| ());
            shared.borrow_mut().peers.journal = Some(peer);
        }
        (Role::Keyholder, ChannelKind::Keyholder) => {
            let channel = link.share();
            let peer = peer(shared, link, |shell, answer: FromKeyholder, _| {
                shell.keyholder_says(answer);
            });
            let mut shell = shared.borrow_mut();
            shell.secure.desk.set_channel(Some(channel));
            shell.peers.keyholder = Some(peer);
            shell.ask_certificates();
        }
        (Role::Management, ChannelKind::Status) => {
            let peer = peer(shared, link, status);
            shared.borrow_mut().peers.status = Some(peer);
        }
        _ => log(
            Severity::Error,
            "channel-not-for-us",
            &[("role", role.name().to_owned())],
        ),
    }
}

/// Reads a channel until its far end is gone; its successor replaces it.
fn peer<E: Engine + 'static, T: serde::de::DeserializeOwned + 'static>(
    shared: &Shared<E>,
    link: Link,
    heard: impl Fn(&mut Shell<E>, T, &Link) + 'static,
) -> Peer {
    let link = Rc::new(link);
    let (shared, reader) = (Rc::clone(shared), Rc::clone(&link));
    let task = Task::spawn(async move {
        let mut buffer = Box::new([0; MAX_MESSAGE]);
        loop {
            match reader.receive::<T>(&mut buffer).await {
                // No descriptor belongs to these messages; one that came is closed here.
                Ok((message, _)) => heard(&mut shared.borrow_mut(), message, &reader),
                Err(LinkError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => return,
                Err(error) => log(
                    Severity::Error,
                    "peer-message-refused",
                    &[("error", error.to_string())],
                ),
            }
        }
    });
    Peer { link, _task: task }
}

fn status<E: Engine>(shell: &mut Shell<E>, question: ToStatus, link: &Link) {
    let answer = match question {
        ToStatus::Calls { id, offset } => {
            let (calls, more) = shell.calls(offset, CALLS);
            FromStatus::Calls { id, calls, more }
        }
        ToStatus::Ladder { id, call, offset } => match shell.ladder(call, offset) {
            Some((steps, more)) => FromStatus::Ladder { id, steps, more },
            None => FromStatus::Refused { id },
        },
        ToStatus::Counters { id } => {
            let mut counters = shell.counts();
            counters.truncate(COUNTERS);
            FromStatus::Counters { id, counters }
        }
        ToStatus::Reset { id } => {
            if shell.reset() {
                FromStatus::Done { id }
            } else {
                FromStatus::Refused { id }
            }
        }
        ToStatus::Bans { id, .. }
        | ToStatus::Unban { id, .. }
        | ToStatus::Drops { id }
        | ToStatus::Processes { id } => FromStatus::Refused { id },
    };
    if let Err(error) = link.send(&answer) {
        log(
            Severity::Warning,
            "management-unreachable",
            &[("error", error.to_string())],
        );
    }
}
