//! One question on its way: a socket is asked for, the question leaves, the answer comes or does not; then the next server,
//! each try by a socket of its own. An answer that did not fit into a datagram is asked for again by TCP, of the same
//! server. RFC 1035 §4.2, RFC 5452, RFC 7766. Run by the resolver; several at once, a bounded number.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    broker::ToBroker,
    settings::{NameServer, Transport},
};

use super::{
    Cache, Question,
    message::{Asked, Fault, STREAM_OCTETS},
};
use crate::{
    context::Context,
    io::{ConnectionId, Output},
    requests::Purpose,
};

/// Errands at once; the others wait until one is done.
const AT_ONCE: usize = 8;
/// Tries of one question.
const TRIES: usize = 6;
/// Datagrams that do not belong to the question, until its socket is given up: somebody is guessing.
const STRAYS: u8 = 16;
/// How long an answer by a stream is waited for.
const STREAM: Duration = Duration::from_secs(4);
/// How long the firewall may take for a socket.
const SOCKET: Duration = Duration::from_secs(10);

enum Stage {
    /// A socket is asked for.
    Socket(RequestId),
    /// The answer is waited for.
    Answer(ConnectionId, Asked),
}

struct Errand {
    stage: Stage,
    /// Octets that came by a stream; none for datagrams.
    stream: Option<Vec<u8>>,
    /// Index of the server.
    server: usize,
    tries: usize,
    strays: u8,
    until: Instant,
}

/// All errands.
#[derive(Default)]
pub(super) struct Errands {
    running: BTreeMap<Question, Errand>,
    waiting: BTreeSet<Question>,
    /// The server that is asked first: the one that answered last.
    first: usize,
}

impl Errands {
    /// Has a question asked, unless it is already.
    pub(super) fn run(
        &mut self,
        cx: &mut Context,
        question: Question,
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        if self.running.contains_key(&question) {
            return;
        }
        if self.running.len() >= AT_ONCE {
            self.waiting.insert(question);
            return;
        }
        self.waiting.remove(&question);
        let first = self.first;
        self.ask(cx, question, (first, 0, false), servers, cache);
    }

    /// Forgets all of them.
    pub(super) fn drop_all(&mut self, cx: &mut Context) {
        self.waiting.clear();
        self.first = 0;
        for errand in std::mem::take(&mut self.running).into_values() {
            close(cx, &errand.stage);
        }
    }

    pub(super) fn connected(&mut self, cx: &mut Context, id: RequestId, socket: ConnectionId) {
        let waits = |(_, errand): &(&Question, &mut Errand)| matches!(errand.stage, Stage::Socket(have) if have == id);
        let Some((question, errand)) = self.running.iter_mut().find(waits) else {
            // It took too long, or nobody wants to know any more.
            cx.emit(Output::CloseStream { connection: socket });
            return;
        };
        let [number, capitals, more] = [(); 3].map(|()| cx.identity.number());
        let number = u16::try_from(number >> 48).unwrap_or_default();
        let capitals = u128::from(capitals) << 64 | u128::from(more);
        let asked = Asked::new(question, number, capitals);
        match asked.and_then(|asked| Some((asked.octets()?, asked))) {
            Some((bytes, asked)) => {
                let kind = question.kind.word();
                cx.counters.count("dns_questions_total", "kind", kind);
                errand.stage = Stage::Answer(socket, asked);
                if errand.stream.is_some() {
                    cx.emit(Output::Stream {
                        connection: socket,
                        bytes: counted(bytes),
                    });
                    errand.until = cx.now + STREAM;
                } else {
                    cx.emit(Output::Ask {
                        connection: socket,
                        bytes,
                    });
                    errand.until = cx.now + patience(errand.tries);
                }
            }
            None => {
                cx.emit(Output::CloseStream { connection: socket });
                // No server can answer what can not be asked.
                errand.tries = TRIES;
                errand.until = cx.now;
            }
        }
    }

    pub(super) fn refused(
        &mut self,
        cx: &mut Context,
        id: RequestId,
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        let question = self.find(|stage| matches!(stage, Stage::Socket(have) if *have == id));
        if let Some(question) = question {
            self.again(cx, question, "no-socket", servers, cache);
        }
    }

    /// A socket is gone. False: it was none of ours.
    pub(super) fn lost(
        &mut self,
        cx: &mut Context,
        socket: ConnectionId,
        servers: &[NameServer],
        cache: &mut Cache,
    ) -> bool {
        let Some(question) = self.by_socket(socket) else {
            return false;
        };
        self.again(cx, question, "unreachable", servers, cache);
        true
    }

    pub(super) fn answer(
        &mut self,
        cx: &mut Context,
        socket: ConnectionId,
        bytes: &[u8],
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        let Some(question) = self.by_socket(socket) else {
            return;
        };
        let Some(errand) = self.running.get_mut(&question) else {
            return;
        };
        let (Stage::Answer(_, asked), None) = (&errand.stage, &errand.stream) else {
            return;
        };
        match asked.read(bytes) {
            Ok(said) => {
                cx.counters.count("dns_answers_total", "outcome", "good");
                self.first = errand.server;
                cache.learn(question.clone(), said, cx.now);
                self.done(cx, &question, servers, cache);
            }
            Err(Fault::Stray) if errand.strays < STRAYS => {
                errand.strays += 1;
                cx.counters
                    .count("dns_answers_total", "outcome", Fault::Stray.word());
            }
            Err(Fault::Truncated) => {
                let word = Fault::Truncated.word();
                cx.counters.count("dns_answers_total", "outcome", word);
                close(cx, &errand.stage);
                let next = (errand.server, errand.tries + 1, true);
                self.ask(cx, question, next, servers, cache);
                self.fill(cx, servers, cache);
            }
            Err(fault) => self.again(cx, question, fault.word(), servers, cache),
        }
    }

    /// Octets by a stream: two for the length, then the answer. False: it was none of ours.
    pub(super) fn stream(
        &mut self,
        cx: &mut Context,
        socket: ConnectionId,
        bytes: &[u8],
        servers: &[NameServer],
        cache: &mut Cache,
    ) -> bool {
        let Some(question) = self.by_socket(socket) else {
            return false;
        };
        let Some(errand) = self.running.get_mut(&question) else {
            return false;
        };
        let (Stage::Answer(_, asked), Some(heard)) = (&errand.stage, &mut errand.stream) else {
            return false;
        };
        let room = (STREAM_OCTETS + 2).saturating_sub(heard.len());
        heard.extend(bytes.iter().take(room));
        let Some((length, rest)) = heard.split_first_chunk::<2>() else {
            return true;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let said = match rest.get(..length) {
            Some(message) => asked.read_stream(message),
            None if length > STREAM_OCTETS => Err(Fault::Oversized),
            None => return true,
        };
        match said {
            Ok(said) => {
                cx.counters.count("dns_answers_total", "outcome", "good");
                self.first = errand.server;
                cache.learn(question.clone(), said, cx.now);
                self.done(cx, &question, servers, cache);
            }
            Err(fault) => self.again(cx, question, fault.word(), servers, cache),
        }
        true
    }

    /// Gives up what took too long.
    pub(super) fn timer(&mut self, cx: &mut Context, servers: &[NameServer], cache: &mut Cache) {
        let late: Vec<Question> = self
            .running
            .iter()
            .filter(|(_, errand)| errand.until <= cx.now)
            .map(|(question, _)| question.clone())
            .collect();
        for question in late {
            self.again(cx, question, "timeout", servers, cache);
        }
    }

    /// When the next one is given up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.running.values().map(|errand| errand.until).min()
    }

    pub(super) fn len(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    fn ask(
        &mut self,
        cx: &mut Context,
        question: Question,
        (server, tries, by_stream): (usize, usize, bool),
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        let place = server.checked_rem(servers.len()).unwrap_or_default();
        let enough = tries >= TRIES.min(servers.len().saturating_mul(2).max(3));
        let Some(name_server) = servers.get(place).filter(|_| !enough) else {
            self.running.remove(&question);
            cache.failed(question, cx.now);
            return;
        };
        let id = cx.requests.issue(Purpose::NameServer);
        let errand = Errand {
            stage: Stage::Socket(id),
            stream: by_stream.then(Vec::new),
            server: place,
            tries,
            strays: 0,
            until: cx.now + SOCKET,
        };
        self.running.insert(question, errand);
        cx.emit(Output::Broker(ToBroker::Connect {
            id,
            zone: name_server.zone,
            transport: if by_stream {
                Transport::Tcp
            } else {
                Transport::Udp
            },
            peer: name_server.address,
        }));
    }

    /// This try is over: the next server.
    fn again(
        &mut self,
        cx: &mut Context,
        question: Question,
        outcome: &'static str,
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        cx.counters.count("dns_answers_total", "outcome", outcome);
        let Some(errand) = self.running.remove(&question) else {
            return;
        };
        close(cx, &errand.stage);
        if self.first == errand.server {
            self.first = errand.server + 1;
        }
        let next = (errand.server + 1, errand.tries + 1, false);
        self.ask(cx, question, next, servers, cache);
        self.fill(cx, servers, cache);
    }

    fn done(
        &mut self,
        cx: &mut Context,
        question: &Question,
        servers: &[NameServer],
        cache: &mut Cache,
    ) {
        if let Some(errand) = self.running.remove(question) {
            close(cx, &errand.stage);
        }
        self.fill(cx, servers, cache);
    }

    /// Those that wait have their turn.
    fn fill(&mut self, cx: &mut Context, servers: &[NameServer], cache: &mut Cache) {
        while self.running.len() < AT_ONCE {
            let Some(question) = self.waiting.pop_first() else {
                return;
            };
            let first = self.first;
            self.ask(cx, question, (first, 0, false), servers, cache);
        }
    }

    fn by_socket(&self, socket: ConnectionId) -> Option<Question> {
        self.find(|stage| matches!(stage, Stage::Answer(have, _) if *have == socket))
    }

    fn find(&self, is: impl Fn(&Stage) -> bool) -> Option<Question> {
        let mut running = self.running.iter();
        let found = running.find(|(_, errand)| is(&errand.stage));
        found.map(|(question, _)| question.clone())
    }
}

/// How long an answer is waited for: 1, 1, 2, 2, 4, 4 s.
fn patience(tries: usize) -> Duration {
    Duration::from_secs(1 << (tries / 2).min(2))
}

/// A question as it goes by a stream: RFC 1035 §4.2.2.
fn counted(question: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(question.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], &question].concat()
}

fn close(cx: &mut Context, stage: &Stage) {
    if let Stage::Answer(connection, _) = stage {
        cx.emit(Output::CloseStream {
            connection: *connection,
        });
    }
}
