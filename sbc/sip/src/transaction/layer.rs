//! The transaction layer: all transactions of one core, matched by their keys, bounded in number, with one clock. `F` is the
//! core's way to a peer (listener and address, or connection), `C` what it keeps with a client transaction (who asked),
//! `S` with a server transaction (who answers).
//!
//! A request that comes in is first shown to [`Layer::absorb`], which changes no table: so the core may judge its sender
//! before any memory is spent on it. Only [`Layer::serve`] opens a transaction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::client::{ClientTransaction, Taken};
use super::key::{ClientKey, MergeKey, ServerKey};
use super::server::{ServerState, ServerTransaction};
use super::{ClientEnd, ServerEnd, Timers};
use crate::headers::{Field, Transport, Via};
use crate::message::{Request, Response};
use crate::method::Method;
use crate::uri::HostPort;

/// A way to a peer.
pub trait Flow: Clone {
    /// Who shares transactions: a message from another scope never matches, whatever its branch says.
    type Scope: Ord + Clone;

    /// The scope of this way.
    fn scope(&self) -> Self::Scope;

    /// Whether its transport delivers for sure.
    fn is_reliable(&self) -> bool;
}

/// Number of a client transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Number of a server transaction; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

/// How many transactions there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerLimits {
    /// Client transactions.
    pub clients: usize,
    /// Server transactions.
    pub servers: usize,
}

/// There are as many transactions as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("transaction table full")]
pub struct TableFull;

/// Octets to send.
#[derive(Clone, Debug)]
pub struct Transmit<F> {
    /// By which way.
    pub flow: F,
    /// The message.
    pub octets: Vec<u8>,
    /// What it is.
    pub of: Of,
    /// It was sent before.
    pub again: bool,
}

/// What octets to send are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The request of a client transaction; whoever can not send it calls [`Layer::handle_unreachable`].
    Request(ClientId),
    /// The ACK for a refusal.
    Ack,
    /// A response.
    Response(ServerId),
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Event<C, S> {
    /// A response for the user of a client transaction.
    Response(ClientId, C, Box<Response>),
    /// A client transaction is over.
    ClientEnded(ClientId, C, ClientEnd),
    /// A server transaction is over.
    ServerEnded(ServerId, S, ServerEnd),
}

struct Client<F, C> {
    machine: ClientTransaction,
    flow: F,
    key: ClientKey,
    /// CSeq, for what the branch alone does not tell.
    number: u32,
    owner: C,
    due: Option<Instant>,
}

struct Server<F: Flow, S> {
    machine: ServerTransaction,
    flow: F,
    key: (F::Scope, ServerKey),
    merge_key: Option<MergeKey>,
    user: S,
    due: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Client(ClientId),
    Server(ServerId),
}

/// All transactions.
pub struct Layer<F: Flow, C, S> {
    limits: LayerLimits,
    timers: Timers,
    next: u64,
    clients: BTreeMap<ClientId, Client<F, C>>,
    client_keys: BTreeMap<ClientKey, ClientId>,
    servers: BTreeMap<ServerId, Server<F, S>>,
    server_keys: BTreeMap<(F::Scope, ServerKey), ServerId>,
    merge_keys: BTreeMap<MergeKey, ServerId>,
    clock: BTreeSet<(Instant, Id)>,
    transmits: VecDeque<Transmit<F>>,
    events: VecDeque<Event<C, S>>,
}

impl<F: Flow, C: Copy + Default, S> Layer<F, C, S> {
    /// No transactions yet.
    #[must_use]
    pub const fn new(limits: LayerLimits, timers: Timers) -> Self {
        Self {
            limits,
            timers,
            next: 0,
            clients: BTreeMap::new(),
            client_keys: BTreeMap::new(),
            servers: BTreeMap::new(),
            server_keys: BTreeMap::new(),
            merge_keys: BTreeMap::new(),
            clock: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Client and server transactions under way.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Sends a request whose top Via has a branch of its own, written as `octets`. Something must be heard within
    /// `patience`, at most timer B or F. Without room it ends at once, as [`ClientEnd::NoRoom`] says; a branch used twice is
    /// the caller's fault and counts as no room.
    pub fn request(
        &mut self,
        now: Instant,
        (request, octets): (Request, Vec<u8>),
        flow: F,
        owner: C,
        patience: Duration,
    ) -> ClientId {
        let id = ClientId(self.number());
        let key = request
            .top_via()
            .and_then(|via| ClientKey::new(via, &request.method))
            .filter(|key| !self.client_keys.contains_key(key))
            .filter(|_| self.clients.len() < self.limits.clients);
        let Some(key) = key else {
            self.events
                .push_back(Event::ClientEnded(id, owner, ClientEnd::NoRoom));
            return id;
        };
        let (number, reliable) = (request.headers.cseq.number, flow.is_reliable());
        // What is never sent again need not be kept.
        let kept = if reliable { Vec::new() } else { octets.clone() };
        let machine = ClientTransaction::new(
            now,
            Box::new(request),
            kept,
            reliable,
            self.timers,
            patience,
        );
        self.transmits.push_back(Transmit {
            flow: flow.clone(),
            octets,
            of: Of::Request(id),
            again: false,
        });
        self.client_keys.insert(key.clone(), id);
        self.clients.insert(
            id,
            Client {
                machine,
                flow,
                key,
                number,
                owner,
                due: None,
            },
        );
        self.settle_client(id);
        id
    }

    /// Takes an INVITE back: CANCEL goes out as soon as it may. The final response to the INVITE still comes.
    pub fn cancel(&mut self, now: Instant, id: ClientId) {
        self.cancel_with(now, id, Vec::new());
    }

    /// The same with more fields in the CANCEL: a Reason (RFC 3326).
    pub fn cancel_with(&mut self, now: Instant, id: ClientId, fields: Vec<Field>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.machine.cancel(now, fields);
        }
        self.send_cancel(now, id);
        self.settle_client(id);
    }

    /// The request of a client transaction that has no final response yet, and who asked.
    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<(&Request, &C)> {
        let client = self.clients.get(&id)?;
        Some((client.machine.request()?, &client.owner))
    }

    /// The request of ours that a Via names, while it has no final response: one further down in a request that comes in
    /// shows that our own has come back. RFC 3261 §16.3.
    #[must_use]
    pub fn sent(&self, via: &Via, method: &Method) -> Option<&Request> {
        let id = self.client_keys.get(&ClientKey::new(via, method)?)?;
        self.clients.get(id)?.machine.request()
    }

    /// Whether any request has no final response yet.
    #[must_use]
    pub fn awaits_responses(&self) -> bool {
        self.clients
            .values()
            .any(|client| client.machine.is_pending())
    }

    /// Sends a response in a server transaction. `false`: it is over, or its state does not allow it.
    pub fn respond(&mut self, now: Instant, id: ServerId, response: &Response) -> bool {
        let Some(server) = self.servers.get_mut(&id) else {
            return false;
        };
        let octets = server.machine.respond(now, response);
        let sent = octets.is_some();
        self.transmits
            .extend(octets.map(|octets| answer(id, &server.flow, octets, false)));
        self.settle_server(id);
        sent
    }

    /// The request of a server transaction that has no final response yet (as far as responses need it), and what its user
    /// keeps with it.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<(&Request, &S)> {
        let server = self.servers.get(&id)?;
        Some((server.machine.request()?, &server.user))
    }

    /// What the user keeps with a server transaction.
    pub fn user_mut(&mut self, id: ServerId) -> Option<&mut S> {
        self.servers.get_mut(&id).map(|server| &mut server.user)
    }

    /// Never answers a request, and takes its repetitions in.
    pub fn forget(&mut self, now: Instant, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.machine.forget(now);
        }
        self.settle_server(id);
    }

    /// The ACK for a 2xx came: the transaction ends when late repetitions of its INVITE can come no more.
    pub fn acknowledged(&mut self, now: Instant, id: ServerId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.machine.handle_acknowledged(now);
        }
        self.settle_server(id);
    }

    /// A request came in. `true`: it repeats one that is being served, or acknowledges a refusal, and is dealt with.
    /// Otherwise nothing changes: an ACK is for its dialog, anything else is new.
    pub fn absorb(&mut self, now: Instant, request: &Request, flow: &F) -> bool {
        let Some(id) = self.matching(request, flow) else {
            return false;
        };
        let Some(server) = self.servers.get_mut(&id) else {
            return false;
        };
        if request.method != Method::Ack {
            let again = server.machine.handle_retransmission(now);
            self.transmits
                .extend(again.map(|octets| answer(id, &server.flow, octets, true)));
        } else if matches!(
            server.machine.state(),
            ServerState::Accepted | ServerState::Proceeding
        ) {
            // The sender of an ACK for a 2xx should have taken a fresh branch; the dialog will know it all the same.
            return false;
        } else {
            server.machine.handle_ack(now);
        }
        self.settle_server(id);
        true
    }

    /// The transaction of a request. By the rules of RFC 2543 an ACK has the tag of the response in its To, which the
    /// INVITE may not have had. RFC 3261 §17.2.3.
    fn matching(&self, request: &Request, flow: &F) -> Option<ServerId> {
        let key = (flow.scope(), ServerKey::new(request)?);
        let Some(without) = ServerKey::without_to_tag(request) else {
            return self.server_keys.get(&key).copied();
        };
        let keys = [key.clone(), (key.0, without)];
        let id = keys
            .iter()
            .find_map(|key| self.server_keys.get(key))
            .copied()?;
        let tag = self.servers.get(&id)?.machine.to_tag();
        (tag == request.headers.to.tag()).then_some(id)
    }

    /// Whether the same request is being served that came by another way: 482. RFC 3261 §8.2.2.2. To be asked about what
    /// [`Self::absorb`] left.
    #[must_use]
    pub fn is_merged(&self, request: &Request) -> bool {
        MergeKey::new(request).is_some_and(|key| self.merge_keys.contains_key(&key))
    }

    /// The INVITE that a CANCEL is for, if it is being served.
    #[must_use]
    pub fn invite_of(&self, cancel: &Request, flow: &F) -> Option<ServerId> {
        let key = (flow.scope(), ServerKey::of_invite(cancel)?);
        self.server_keys.get(&key).copied()
    }

    /// Opens a server transaction for a request (no ACK) that [`Self::absorb`] left. Fails if there is no room.
    pub fn serve(
        &mut self,
        now: Instant,
        request: &Request,
        flow: F,
        user: S,
    ) -> Result<ServerId, TableFull> {
        let key = ServerKey::new(request).ok_or(TableFull)?;
        let key = (flow.scope(), key.detached());
        if self.servers.len() >= self.limits.servers || self.server_keys.contains_key(&key) {
            return Err(TableFull);
        }
        let id = ServerId(self.number());
        let machine = ServerTransaction::new(now, request, flow.is_reliable(), self.timers);
        self.server_keys.insert(key.clone(), id);
        let merge_key = MergeKey::new(request)
            .filter(|key| !self.merge_keys.contains_key(key))
            .map(MergeKey::detached);
        if let Some(key) = &merge_key {
            self.merge_keys.insert(key.clone(), id);
        }
        self.servers.insert(
            id,
            Server {
                machine,
                flow,
                key,
                merge_key,
                user,
                due: None,
            },
        );
        self.settle_server(id);
        Ok(id)
    }

    /// A response came in; [`Event::Response`] tells if it is for somebody. `false`: it belongs to nothing that was asked.
    pub fn handle_response(&mut self, now: Instant, response: Box<Response>, flow: &F) -> bool {
        // RFC 3261 §8.1.3.3: more than one Via means that it is not for us.
        let key = match response.vias() {
            [top] => ClientKey::new(top, &response.headers.cseq.method),
            _ => None,
        };
        let Some(id) = key.and_then(|key| self.client_keys.get(&key).copied()) else {
            return false;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        let same = client.flow.scope() == flow.scope()
            && client.number == response.headers.cseq.number
            && client.machine.request().is_none_or(|sent| {
                sent.headers.call_id == response.headers.call_id
                    && sent.headers.from.tag() == response.headers.from.tag()
            });
        if !same {
            return false;
        }
        let taken = client.machine.handle_response(now, &response);
        let (up, ack, again) = match taken {
            Taken::Up(ack) => (true, ack, false),
            Taken::In(ack) => (false, ack, true),
        };
        self.transmits.extend(ack.map(|octets| Transmit {
            flow: client.flow.clone(),
            octets,
            of: Of::Ack,
            again,
        }));
        if up {
            self.events
                .push_back(Event::Response(id, client.owner, response));
        }
        self.send_cancel(now, id);
        self.settle_client(id);
        true
    }

    /// Requests without final response whose way is asked for; `true` for those of which anything was heard.
    #[must_use]
    pub fn pending(&self, wanted: impl Fn(&F, bool) -> bool) -> Vec<ClientId> {
        let pending = self.clients.iter().filter(|(_, client)| {
            client.machine.is_pending() && wanted(&client.flow, client.machine.was_heard())
        });
        pending.map(|(id, _)| *id).collect()
    }

    /// A request could not be sent.
    pub fn handle_unreachable(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.machine.handle_unreachable();
        }
        self.settle_client(id);
    }

    /// A request could not be sent by its first way: it goes by another, with this transport and address in its Via.
    /// `false`: an answer came already, or there is no such request. RFC 3261 §18.1.1.
    pub fn reroute(
        &mut self,
        now: Instant,
        id: ClientId,
        flow: F,
        (transport, sent_by): (Transport, HostPort),
    ) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        let octets = client
            .machine
            .restart(now, transport, sent_by, flow.is_reliable());
        let Some(octets) = octets else {
            return false;
        };
        client.flow = flow.clone();
        self.transmits.push_back(Transmit {
            flow,
            octets,
            of: Of::Request(id),
            again: true,
        });
        self.settle_client(id);
        true
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, id)) = self.clock.first().copied().filter(|(due, _)| *due <= now) {
            self.clock.remove(&(due, id));
            match id {
                Id::Client(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.due = None;
                        let again = client.machine.handle_timeout(now);
                        self.transmits.extend(again.map(|octets| Transmit {
                            flow: client.flow.clone(),
                            octets,
                            of: Of::Request(id),
                            again: true,
                        }));
                    }
                    self.settle_client(id);
                }
                Id::Server(id) => {
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.due = None;
                        let due = server.machine.handle_timeout(now);
                        self.transmits.extend(
                            due.map(|(octets, again)| answer(id, &server.flow, octets, again)),
                        );
                    }
                    self.settle_server(id);
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clock.first().map(|(due, _)| *due)
    }

    /// Octets to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<F>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event<C, S>> {
        self.events.pop_front()
    }

    const fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Sends the CANCEL that has become due.
    fn send_cancel(&mut self, now: Instant, id: ClientId) {
        let due = self.clients.get_mut(&id).and_then(|client| {
            let cancel = client.machine.take_cancel()?;
            Some((cancel, client.flow.clone()))
        });
        if let Some((cancel, flow)) = due {
            let octets = cancel.to_bytes();
            let patience = self.timers.give_up();
            // Without room for it the INVITE ends by its own timer.
            self.request(now, (cancel, octets), flow, C::default(), patience);
        }
    }

    fn settle_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let due = client.machine.poll_timeout();
        reschedule(&mut self.clock, Id::Client(id), &mut client.due, due);
        if let Some(end) = client.machine.end() {
            self.events
                .push_back(Event::ClientEnded(id, client.owner, end));
            if let Some(client) = self.clients.remove(&id) {
                self.client_keys.remove(&client.key);
            }
        }
    }

    fn settle_server(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let due = server.machine.poll_timeout();
        reschedule(&mut self.clock, Id::Server(id), &mut server.due, due);
        if let Some(end) = server.machine.end()
            && let Some(server) = self.servers.remove(&id)
        {
            self.server_keys.remove(&server.key);
            if let Some(key) = server.merge_key {
                self.merge_keys.remove(&key);
            }
            self.events
                .push_back(Event::ServerEnded(id, server.user, end));
        }
    }
}

fn answer<F: Clone>(id: ServerId, flow: &F, octets: Vec<u8>, again: bool) -> Transmit<F> {
    Transmit {
        flow: flow.clone(),
        octets,
        of: Of::Response(id),
        again,
    }
}

fn reschedule(
    clock: &mut BTreeSet<(Instant, Id)>,
    id: Id,
    have: &mut Option<Instant>,
    due: Option<Instant>,
) {
    if *have == due {
        return;
    }
    if let Some(old) = have.take() {
        clock.remove(&(old, id));
    }
    if let Some(new) = due {
        clock.insert((new, id));
    }
    *have = due;
}
