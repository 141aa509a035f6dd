//! What keeps the way to a phone open, and what ends it: deadlines of bindings, keep-alives of ours towards phones behind
//! translators, answers to theirs. RFC 5626 §3.5 and §4.4; STUN: RFC 8489.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use sbc_sip::{headers::NameAddr, method::Method};

use super::{
    Registration,
    bindings::{Binding, Keepalive},
};
use crate::{
    context::Context,
    event::Event,
    io::Output,
    outgoing, target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::{Flow, NextHop},
};

/// Keep-alives in a row that a phone which used to answer may leave unanswered.
const SILENT: u8 = 3;
const STUN_BINDING_REQUEST: [u8; 2] = [0, 1];
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Keep-alives of a new binding: to phones on UDP behind a translator that do not do it themselves.
pub(super) fn begin(cx: &mut Context, flow: &Flow, behind_nat: bool, outbound: bool) -> Keepalive {
    let wanted = flow.connection.is_none() && behind_nat && !outbound;
    Keepalive {
        next: wanted.then(|| next(cx)).flatten(),
        ..Keepalive::default()
    }
}

/// When the next one leaves: not for all at once.
fn next(cx: &mut Context) -> Option<Instant> {
    let interval = Duration::from_secs(cx.settings().registration.keepalive_seconds.into());
    let part = u32::try_from(cx.identity.number() % 250).unwrap_or(0);
    (!interval.is_zero()).then(|| cx.now + interval - interval * part / 1000)
}

impl Registration {
    /// A deadline of a binding has come.
    pub(crate) fn binding_timer(&mut self, cx: &mut Context, number: u64) {
        let Some(binding) = self.bindings.get(number) else {
            return;
        };
        if binding.expires <= cx.now {
            self.unbind(cx, number, "expired");
            return;
        }
        // One is enough for a way.
        let first = self
            .bindings
            .of_flow(&binding.flow)
            .map(|binding| binding.number)
            .min();
        let due = first == Some(number) && !binding.keepalive.pending;
        let (flow, probe) = (binding.flow, due.then(|| probe_of(cx, binding)).flatten());
        let next = next(cx);
        if let Some(binding) = self.bindings.get_mut(number) {
            binding.keepalive.next = next;
            binding.keepalive.pending |= probe.is_some();
            let deadline = binding.deadline();
            cx.timers.set(TimerKey::Binding(number), deadline);
        }
        match probe {
            Some(request) => {
                transactions::request(cx, NextHop::Flow(flow), request, Owner::Keepalive(number));
            }
            None if due => cx.emit(Output::Datagram {
                zone: flow.zone,
                local: flow.local,
                peer: flow.peer,
                bytes: b"\r\n\r\n".to_vec(),
            }),
            None => {}
        }
    }

    /// A phone answered a keep-alive, or none came in time.
    pub(crate) fn keepalive_ended(&mut self, cx: &mut Context, number: u64, answered: bool) {
        let Some(binding) = self.bindings.get_mut(number) else {
            return;
        };
        let keepalive = &mut binding.keepalive;
        keepalive.pending = false;
        keepalive.answers |= answered;
        keepalive.silent = if answered {
            0
        } else {
            keepalive.silent.saturating_add(1)
        };
        if keepalive.answers && keepalive.silent >= SILENT {
            self.unbind(cx, number, "flow-failed");
        }
    }

    /// A connection is gone and every binding that lived by it (RFC 5626 §4.2.2).
    pub(crate) fn connection_closed(&mut self, cx: &mut Context, flow: &Flow) {
        let numbers: Vec<u64> = self
            .bindings
            .of_flow(flow)
            .map(|binding| binding.number)
            .collect();
        for number in numbers {
            self.unbind(cx, number, "flow-failed");
        }
    }

    /// A binding ends.
    pub(super) fn unbind(&mut self, cx: &mut Context, number: u64, reason: &'static str) {
        if let Some(binding) = self.bindings.remove(number) {
            cx.timers.cancel(TimerKey::Binding(number));
            self.changed(cx, binding.token);
            cx.counters
                .count("registrations_ended_total", "reason", reason);
            cx.event(&Event::RegDel {
                flow: &binding.flow,
                user: &binding.user,
                reason,
            });
        }
    }

    /// A STUN Binding request on a SIP port: answered to phones that are registered by this way, and to nobody else.
    /// `false`: it is no STUN.
    pub(crate) fn stun(&mut self, cx: &mut Context, flow: &Flow, bytes: &[u8]) -> bool {
        let Some(answer) = stun_answer(bytes, flow.peer) else {
            return false;
        };
        match answer {
            Some(bytes) if self.bindings.is_registered(flow) => cx.emit(Output::Datagram {
                zone: flow.zone,
                local: flow.local,
                peer: flow.peer,
                bytes,
            }),
            _ => cx
                .counters
                .count("sip_refused_total", "reason", "stun-of-stranger"),
        }
        true
    }
}

/// OPTIONS to a phone; `None`: line ends do.
fn probe_of(cx: &mut Context, binding: &Binding) -> Option<sbc_sip::message::Request> {
    if !cx.settings().registration.keepalive_by_options {
        return None;
    }
    let domain = target::domain(cx)?;
    let own = NameAddr::new(target::user_at("", domain.clone()));
    let (call_id, tag) = (cx.identity.name(), cx.identity.tag());
    let draft = outgoing::RequestDraft {
        method: Method::Options,
        uri: binding.contact.clone(),
        from: own.with_tag(tag),
        to: NameAddr::new(target::user_at(&binding.user, domain)),
        call_id: &call_id,
        cseq: 1,
        max_forwards: 70,
        routes: &binding.path,
    };
    Some(outgoing::request(cx, &NextHop::Flow(binding.flow), draft))
}

/// The answer to a STUN Binding request, `Some(None)` for other STUN; `None`: it is no STUN.
fn stun_answer(bytes: &[u8], peer: SocketAddr) -> Option<Option<Vec<u8>>> {
    let (kind, rest) = bytes.split_at_checked(2)?;
    let (length, rest) = rest.split_at_checked(2)?;
    let (cookie, rest) = rest.split_at_checked(4)?;
    let (transaction, attributes) = rest.split_at_checked(12)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    if kind.first()? & 0xc0 != 0 || cookie != STUN_COOKIE || attributes.len() != length {
        return None;
    }
    if kind != STUN_BINDING_REQUEST || length % 4 != 0 {
        return Some(None);
    }
    // RFC 8489 §14.2: XOR-MAPPED-ADDRESS.
    let mask: Vec<u8> = cookie.iter().chain(transaction).copied().collect();
    let (family, address) = match peer.ip().to_canonical() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let port = peer.port().to_be_bytes();
    let masked = |octets: &[u8]| -> Vec<u8> {
        octets
            .iter()
            .zip(&mask)
            .map(|(octet, mask)| octet ^ mask)
            .collect()
    };
    let value = u16::try_from(4 + address.len()).ok()?;
    let mut answer = vec![1, 1];
    answer.extend((value + 4).to_be_bytes());
    answer.extend(&mask);
    answer.extend([0, 0x20]);
    answer.extend(value.to_be_bytes());
    answer.extend([0, family]);
    answer.extend(masked(&port));
    answer.extend(masked(&address));
    Some(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 §2.2 and §2.3: the transaction and the mapped addresses of the samples.
    #[test]
    fn the_mapped_address_is_that_of_the_sample_in_rfc_5769() {
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        request.extend(transaction);
        let answer = stun_answer(&request, "192.0.2.1:32853".parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(&answer[..4], [1, 1, 0, 12]);
        assert_eq!(&answer[4..20], &request[4..20]);
        assert_eq!(
            &answer[20..],
            b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"
        );
        let peer = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        let answer = stun_answer(&request, peer.parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(
            &answer[20..],
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9"
        );
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let peer = "192.0.2.1:1".parse().unwrap();
        assert_eq!(stun_answer(b"REGISTER sip:lab.test SIP/2.0", peer), None);
        assert_eq!(stun_answer(b"", peer), None);
        let mut other = vec![1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        other.extend([0; 12]);
        assert_eq!(stun_answer(&other, peer), Some(None));
        other.push(0);
        assert_eq!(stun_answer(&other, peer), None);
    }
}
