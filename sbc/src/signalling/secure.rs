//! TLS and WebSocket as the signalling thread runs them: which stack a connection gets, what becomes of its events, the
//! certificates that the keyholder is asked for. One [`Secure`] in the shell.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use broker_proto::{
    RequestId,
    broker::Refusal,
    journal::{Record, Severity},
    keyholder::{FromKeyholder, ToKeyholder},
    settings::{Named, Settings, Transport, ZoneId},
};
use rustls::{SignatureScheme, pki_types::CertificateDer};
use sbc_core::{BrokerAnswer, ConnectionId, Input};
use tokio::sync::mpsc;

use super::{
    Shared, Shell,
    connection::{Connection, Origin},
    shell::log,
};
use crate::{
    engine::Engine,
    stack::{Event, Fault, Stack},
    tls::{
        certificates::Chain,
        contexts::{Contexts, NoContext},
        desk::Desk,
        handshakes::{Handshakes, Outcome},
    },
    websocket::Terms,
};

/// Set in the numbers of requests for certificates, so that they are neither the core's nor the desk's.
const MARK: u32 = 1 << 30;
/// Lines about failed handshakes in a second; all are counted.
const LINES: u32 = 10;

/// The handshake threads and what they work with, made before the process is sealed.
pub struct Handshaking {
    /// Where they get signatures.
    pub desk: Desk,
    /// Where work goes.
    pub threads: Handshakes,
    /// What came of it.
    pub outcomes: mpsc::Receiver<(ConnectionId, Outcome)>,
}

/// A connection cannot go on.
pub(super) struct Broken;

pub(super) struct Secure {
    pub(super) desk: Desk,
    threads: Handshakes,
    contexts: Contexts,
    settings: Option<Box<Settings>>,
    terms: BTreeMap<(ZoneId, Transport, u16), Arc<Terms>>,
    /// Addresses of trunks and PBX.
    peers: BTreeSet<(ZoneId, IpAddr)>,
    /// Those of them that are known by name.
    named: Vec<(ZoneId, Named)>,
    asked: BTreeMap<u32, String>,
    last: u32,
    lines: u32,
    /// Records of refused handshakes that may still be written in this second.
    known_told: u32,
    strangers_told: u32,
    /// Refused handshakes by reason.
    refused: BTreeMap<&'static str, u64>,
}

impl Secure {
    pub(super) fn new(desk: Desk, threads: Handshakes) -> Self {
        Self {
            contexts: Contexts::new(desk.clone()),
            desk,
            threads,
            settings: None,
            terms: BTreeMap::new(),
            peers: BTreeSet::new(),
            named: Vec::new(),
            asked: BTreeMap::new(),
            last: 0,
            lines: LINES,
            known_told: LINES,
            strangers_told: 1,
            refused: BTreeMap::new(),
        }
    }

    /// Whether a source is a trunk or the PBX.
    pub(super) fn is_peer(&self, zone: ZoneId, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut named = self.named.iter();
        self.peers.contains(&(zone, address))
            || named.any(|(in_zone, named)| *in_zone == zone && named.covers(address))
    }

    /// Another second's worth of lines.
    pub(super) const fn refill(&mut self) {
        self.lines = LINES;
        (self.known_told, self.strangers_told) = (LINES, 1);
    }

    /// Whether one more refused handshake may be told of in this second.
    fn may_tell(&mut self, known: bool) -> bool {
        let left = if known {
            &mut self.known_told
        } else {
            &mut self.strangers_told
        };
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    /// Refused handshakes by reason.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let refused = self.refused.iter();
        refused.map(|(reason, count)| (format!("tls_refused_total{{reason=\"{reason}\"}}"), *count))
    }

    fn may_log(&mut self) -> bool {
        let may = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        may
    }

    /// The layers of a connection from `peer` to `port`.
    pub(super) fn accept(
        &self,
        (zone, transport): (ZoneId, Transport),
        port: u16,
        peer: IpAddr,
    ) -> Result<Stack, NoContext> {
        let tls = transport
            .is_secure()
            .then(|| self.contexts.accept((zone, transport), port, peer))
            .transpose()?;
        let terms = transport
            .is_websocket()
            .then(|| self.terms.get(&(zone, transport, port)).cloned())
            .map(|terms| terms.ok_or(NoContext::NotConfigured))
            .transpose()?;
        Ok(Stack::accepted(tls, terms))
    }

    /// The layers of a connection to a configured far end.
    pub(super) fn connect(
        &self,
        (zone, transport): (ZoneId, Transport),
        peer: SocketAddr,
    ) -> Result<Stack, NoContext> {
        if !transport.is_secure() {
            return Ok(Stack::plain());
        }
        let (config, name) = self.contexts.connect(zone, peer)?;
        Ok(Stack::connecting(config, name))
    }

    fn configure(&mut self, settings: &Settings) {
        let octets = usize::try_from(settings.limits.message_octets).unwrap_or(usize::MAX);
        let websockets = settings
            .listeners
            .iter()
            .filter(|listener| listener.transport.is_websocket());
        self.terms = websockets
            .map(|listener| {
                let terms = Arc::new(Terms {
                    origins: listener.origins.clone(),
                    message_octets: octets,
                });
                ((listener.zone, listener.transport, listener.port), terms)
            })
            .collect();
        let trunks = settings.trunks.iter().map(|t| (t.zone, &t.addresses));
        let pbx = settings.registrar.iter().map(|r| (r.zone, &r.addresses));
        self.peers = trunks
            .chain(pbx)
            .flat_map(|(zone, addresses)| addresses.iter().map(move |peer| (zone, peer.ip())))
            .collect();
        let trunks = settings.trunks.iter().map(|t| (t.zone, &t.named));
        let pbx = settings.registrar.iter().map(|r| (r.zone, &r.named));
        self.named = trunks
            .chain(pbx)
            .filter_map(|(zone, named)| Some((zone, named.clone()?)))
            .collect();
        self.contexts.rebuild(settings);
        self.settings = Some(Box::new(settings.clone()));
    }
}

impl<E: Engine> Shell<E> {
    /// New settings: other listeners and peers, maybe other certificates.
    pub(super) fn secure(&mut self, settings: &Settings) {
        self.secure.configure(settings);
        self.ask_certificates();
    }

    /// Asks the keyholder for everything that the settings name: it, or the settings, are new.
    pub(super) fn ask_certificates(&mut self) {
        self.secure.asked.clear();
        let names = self.secure.settings.as_deref().map(Contexts::names);
        for name in names.into_iter().flatten() {
            self.ask_certificate(name);
        }
    }

    fn ask_certificate(&mut self, name: String) {
        self.secure.last = self.secure.last.wrapping_add(1) & (MARK - 1);
        let number = self.secure.last | MARK;
        let request = ToKeyholder::Certificate {
            id: RequestId(number),
            key: name.clone(),
        };
        let sent = self
            .peers
            .keyholder
            .as_ref()
            .map(|peer| peer.link.send(&request));
        // Without a keyholder it is asked when there is one.
        if matches!(sent, Some(Ok(()))) {
            self.secure.asked.insert(number, name);
        }
    }

    /// The keyholder says something: to a handshake thread, about a certificate, or to the core.
    pub(super) fn keyholder_says(&mut self, answer: FromKeyholder) {
        if self.secure.desk.answer(&answer) {
            return;
        }
        match answer {
            FromKeyholder::Changed { key } => {
                let needs = |settings: &Settings| Contexts::names(settings).contains(&key);
                if self.secure.settings.as_deref().is_some_and(needs) {
                    self.ask_certificate(key);
                }
            }
            FromKeyholder::Chain { id, der, schemes } if id.0 & MARK != 0 => {
                if let Some(name) = self.secure.asked.remove(&id.0) {
                    self.certificate(name, der, schemes);
                }
            }
            FromKeyholder::Refused { id } if id.0 & MARK != 0 => {
                if let Some(name) = self.secure.asked.remove(&id.0) {
                    log(Severity::Error, "certificate-missing", &[("name", name)]);
                }
            }
            answer => self.handle(Input::Keyholder(answer)),
        }
    }

    fn certificate(&mut self, name: String, der: Vec<Vec<u8>>, schemes: Vec<u16>) {
        let chain = Chain {
            der: der.into_iter().map(CertificateDer::from).collect(),
            schemes: schemes.into_iter().map(SignatureScheme::from).collect(),
        };
        if self.secure.contexts.insert(name.clone(), chain) {
            log(Severity::Notice, "certificate-loaded", &[("name", name)]);
            if let Some(settings) = &self.secure.settings {
                self.secure.contexts.rebuild(settings);
            }
        }
    }

    /// Says that a connection got no stack.
    pub(super) fn no_stack(&mut self, reason: NoContext, peer: SocketAddr) {
        self.counters.connections_refused += 1;
        if self.secure.may_log() {
            let fields = [("reason", reason.to_string()), ("remote", peer.to_string())];
            log(Severity::Warning, "connection-refused", &fields);
        }
    }

    /// Carries on with what came of octets or of a piece of work.
    pub(super) fn follow(
        &mut self,
        id: ConnectionId,
        result: Result<(), Fault>,
        send: &[u8],
        events: Vec<Event>,
    ) -> Result<(), Broken> {
        let connection = self.connections.get_mut(&id).ok_or(Broken)?;
        let peer = connection.peer();
        let sent = connection.queue(send);
        let mut open = sent.map_err(|_| Broken);
        for event in events {
            match event {
                Event::Opened => self.opened(id),
                Event::Received(bytes) => self.handle(Input::Stream {
                    connection: id,
                    bytes: &bytes,
                }),
                Event::Work(work) => {
                    if !self.secure.threads.submit(id, work) {
                        self.counters.handshakes_shed += 1;
                        open = Err(Broken);
                    }
                }
                Event::Closed => open = Err(Broken),
            }
        }
        if let Err(fault) = result {
            match fault {
                Fault::WebSocket(_) => self.counters.websockets_refused += 1,
                Fault::Tls(_) | Fault::TooLarge => self.counters.handshakes_failed += 1,
            }
            self.tls_refused(id, &fault, peer);
            if self.secure.may_log() {
                let fields = [("reason", fault.to_string()), ("remote", peer.to_string())];
                log(Severity::Notice, "connection-broken", &fields);
            }
            open = Err(Broken);
        }
        if open.is_err()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            // The far end is told as far as it listens.
            connection.close();
        }
        open
    }

    /// A handshake failed: counted by reason, and told as far as a flood of them leaves room, a known peer's apart from those
    /// of strangers.
    fn tls_refused(&mut self, id: ConnectionId, fault: &Fault, peer: SocketAddr) {
        let Some(reason) = fault.reason() else {
            return;
        };
        let origin = self
            .connections
            .get(&id)
            .and_then(|one| one.origin.as_ref());
        let (zone, ours) = match origin {
            Some(Origin::Accepted { zone, .. }) => (Some(*zone), false),
            Some(Origin::Asked { .. }) => (None, true),
            // It stood already.
            None => return,
        };
        let count = self.secure.refused.entry(reason).or_default();
        *count = count.saturating_add(1);
        let known = ours || zone.is_some_and(|zone| self.secure.is_peer(zone, peer.ip()));
        if !self.secure.may_tell(known) {
            return;
        }
        let zones = self
            .secure
            .settings
            .iter()
            .flat_map(|settings| &settings.zones);
        let name = zone.and_then(|zone| zones.into_iter().find(|have| have.id == zone));
        let mut fields = vec![
            ("reason".to_owned(), reason.to_owned()),
            (
                "detail".to_owned(),
                fault.to_string().chars().take(200).collect(),
            ),
            ("remote".to_owned(), peer.to_string()),
            ("by".to_owned(), if ours { "us" } else { "them" }.to_owned()),
        ];
        fields.extend(name.map(|zone| ("zone".to_owned(), zone.name.clone())));
        self.append(Record::Event {
            severity: if known {
                Severity::Warning
            } else {
                Severity::Notice
            },
            code: "tls-refused".to_owned(),
            fields,
        });
    }

    /// Our first words on a connection that we made.
    pub(super) fn begin(&mut self, id: ConnectionId) {
        let work = self
            .connections
            .get_mut(&id)
            .and_then(|connection| connection.stack.begin());
        let events = work.into_iter().map(Event::Work).collect();
        if self.follow(id, Ok(()), &[], events).is_err() {
            self.close_connection(id);
        }
    }

    /// A connection is ready for messages: the core hears of it.
    pub(super) fn opened(&mut self, id: ConnectionId) {
        let origin = self
            .connections
            .get_mut(&id)
            .and_then(|connection| connection.origin.take());
        match origin {
            Some(Origin::Accepted {
                zone,
                transport,
                local,
                peer,
            }) => {
                self.counters.handshakes += u64::from(transport.is_secure());
                self.handle(Input::StreamOpened {
                    connection: id,
                    zone,
                    transport,
                    local,
                    peer,
                });
            }
            Some(Origin::Asked {
                id: request,
                local,
                peer,
            }) => self.handle(Input::Broker(BrokerAnswer::Connected {
                id: request,
                connection: id,
                local,
                peer,
            })),
            None => {}
        }
    }

    /// A connection is gone: the core hears of it as far as it knows it.
    pub(super) fn gone(&mut self, id: ConnectionId, connection: Connection) {
        match connection.origin {
            None => self.handle(Input::StreamClosed { connection: id }),
            Some(Origin::Accepted { .. }) => {}
            Some(Origin::Asked { id, .. }) => {
                self.handle(Input::Broker(BrokerAnswer::Refused {
                    id,
                    reason: Refusal::System,
                }));
            }
        }
    }

    fn take_back(&mut self, id: ConnectionId, outcome: Outcome) {
        // It may have been closed meanwhile.
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (mut send, mut events) = (Vec::new(), Vec::new());
        let result = connection.stack.take_back(outcome, &mut send, &mut events);
        match self.follow(id, result, &send, events) {
            Ok(()) => {
                if let Some(connection) = self.connections.get(&id) {
                    connection.wake();
                }
            }
            Err(Broken) => self.close_connection(id),
        }
    }
}

/// Takes outcomes of the handshake threads for as long as the process lives.
pub(super) async fn hear<E: Engine>(
    shared: Shared<E>,
    mut outcomes: mpsc::Receiver<(ConnectionId, Outcome)>,
) {
    while let Some((id, outcome)) = outcomes.recv().await {
        shared.borrow_mut().take_back(id, outcome);
        tokio::task::yield_now().await;
    }
}
