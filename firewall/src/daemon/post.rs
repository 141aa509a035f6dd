//! Answers to one process that leave in one packet, with their descriptors in order. Each packet wakes its reader, which
//! costs more than the reading; a call asks for its legs' sockets, and gives them back, two by two.

use std::{os::fd::OwnedFd, rc::Rc};

use broker_proto::{MAX_TOGETHER, Role, broker::FromBroker};
use sandbox::channel::MAX_DESCRIPTORS;

/// Grows answer by answer; an empty one takes any.
#[derive(Debug, Default)]
pub(super) struct Post {
    /// Whose.
    pub(super) role: Option<Role>,
    /// In order.
    pub(super) messages: Vec<FromBroker>,
    /// Of all of them, in order.
    pub(super) sockets: Vec<Rc<OwnedFd>>,
}

impl Post {
    /// Puts an answer behind the others; gives it back if it is another process's, has no room or must travel alone.
    pub(super) fn put(
        &mut self,
        role: Role,
        message: FromBroker,
        sockets: Vec<Rc<OwnedFd>>,
    ) -> Option<(FromBroker, Vec<Rc<OwnedFd>>)> {
        let alone = |message: &FromBroker| message.descriptors().is_none();
        let fits = self.messages.is_empty()
            || self.role == Some(role)
                && !alone(&message)
                && !self.messages.last().is_some_and(alone)
                && self.messages.len() < MAX_TOGETHER
                && self.sockets.len() + sockets.len() <= MAX_DESCRIPTORS;
        if !fits {
            return Some((message, sockets));
        }
        self.role = Some(role);
        self.messages.push(message);
        self.sockets.extend(sockets);
        None
    }

    /// Whether it brings an accepted connection.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(&self.messages[..], [FromBroker::Accepted { .. }])
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::{RequestId, broker::LeaseId};

    use super::*;

    fn opened(id: u32) -> FromBroker {
        FromBroker::MediaOpened {
            id: RequestId(id),
            lease: LeaseId(id.into()),
            rtp: "192.0.2.1:16384".parse().unwrap(),
            rtcp: Some("192.0.2.1:16385".parse().unwrap()),
            ttl_seconds: 120,
        }
    }

    fn sockets(count: usize) -> Vec<Rc<OwnedFd>> {
        let socket = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..count).map(|_| Rc::new(socket().into())).collect()
    }

    #[test]
    fn two_pairs_travel_together_and_a_third_does_not() {
        let mut post = Post::default();
        assert!(post.put(Role::Sbc, opened(1), sockets(2)).is_none());
        assert!(post.put(Role::Sbc, opened(2), sockets(2)).is_none());
        assert!(post.put(Role::Sbc, opened(3), sockets(2)).is_some());
        let done = FromBroker::Done { id: RequestId(4) };
        assert!(post.put(Role::Time, done.clone(), Vec::new()).is_some());
        assert!(post.put(Role::Sbc, done, Vec::new()).is_none());
        assert_eq!((post.messages.len(), post.sockets.len()), (3, 4));
    }

    #[test]
    fn what_travels_alone_neither_follows_nor_is_followed() {
        let accepted = FromBroker::Accepted {
            zone: broker_proto::settings::ZoneId(0),
            transport: broker_proto::settings::Transport::Tcp,
            local: "192.0.2.1:5060".parse().unwrap(),
            peer: "192.0.2.2:5060".parse().unwrap(),
        };
        let done = FromBroker::Done { id: RequestId(4) };
        let mut post = Post::default();
        assert!(post.put(Role::Sbc, accepted.clone(), sockets(1)).is_none());
        assert!(post.is_accepted());
        assert!(post.put(Role::Sbc, done.clone(), Vec::new()).is_some());
        let mut post = Post::default();
        assert!(post.put(Role::Sbc, done, Vec::new()).is_none());
        assert!(post.put(Role::Sbc, accepted, sockets(1)).is_some());
    }
}
