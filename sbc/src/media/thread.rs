//! A media thread: waits for all sockets of its streams, takes what came, asks the stream, sends. One clock for each
//! turn; no lock, allocation or log line per packet.
//!
//! Sockets are watched edge-triggered: a turn empties each socket that woke it (one call takes up to
//! [`batch::BATCH`](super::batch::BATCH) packets and knows that it was the rest), and the kernel has nothing to look at
//! a second time.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::EventFd,
};
use sbc_media::{
    relay::{
        Component, DropReason, Failure, Joined, LegMedia, LentLeg, MediaEvent, Side, Stream,
        StreamId, Verdict,
    },
    rtp::MAX_PACKET,
    srtp::OVERHEAD,
};
use tokio::sync::mpsc;

use super::{
    batch::{BATCH, Batch},
    counters::{Counters, Tally},
    lease::LentSockets,
};

/// Streams of one thread at most.
pub const MAX_STREAMS: usize = 16_384;

/// Sockets that one turn looks at.
const EVENTS: usize = 256;
/// Longest sleep: the thread shows that it lives (`Counters::progress`) at least this often.
const LONGEST_WAIT_MS: u16 = 20;
/// Silence and reports are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Turns at most that a socket is asked again before the others have their turn.
const ROUNDS: usize = 4;
/// Times at most that a packet is handed from one stream to another: two telephones that call each other need one.
const HANDS: usize = 4;
/// The eventfd's mark; no stream has that place. It is never read: edge-triggered, each write is news.
const WAKE: u64 = u64::MAX;

/// One leg with the sockets that its lease brought.
#[derive(Debug)]
pub struct ThreadLeg {
    /// As the core wants it.
    pub media: LegMedia,
    /// By its lease.
    pub sockets: Arc<LentSockets>,
}

impl ThreadLeg {
    fn lent(&self) -> LentLeg {
        LentLeg {
            media: self.media.clone(),
            pair: self.sockets.rtcp.is_some(),
        }
    }
}

impl Ends {
    /// The thread's ends of these.
    ///
    /// # Errors
    /// What the kernel says to a new epoll descriptor.
    pub fn new(
        commands: Receiver<ThreadCommand>,
        wake: Arc<EventFd>,
        events: mpsc::Sender<MediaEvent>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, watched(WAKE))?;
        Ok(Self {
            epoll,
            commands,
            _wake: wake,
            events,
            counters,
        })
    }
}

/// What the signalling thread wants of this one.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "as with the commands that they are made of"
)]
pub enum ThreadCommand {
    /// See `MediaCommand::Start`.
    Start {
        /// Which.
        stream: StreamId,
        /// Both legs, A first.
        legs: [ThreadLeg; 2],
        /// See `MediaCommand::Start::silence_ms`.
        silence_ms: u32,
    },
    /// See `MediaCommand::Change`.
    Change {
        /// Which.
        stream: StreamId,
        /// Which leg.
        side: Side,
        /// From now on.
        leg: ThreadLeg,
    },
    /// See `MediaCommand::Stop`.
    Stop {
        /// Which.
        stream: StreamId,
    },
}

/// The thread's end of everything that leads to it, made before the process is sealed.
pub struct Ends {
    /// Watches `wake` and nothing else yet.
    epoll: Epoll,
    /// Bounded.
    commands: Receiver<ThreadCommand>,
    /// Written after each command.
    _wake: Arc<EventFd>,
    /// Bounded.
    events: mpsc::Sender<MediaEvent>,
    /// Published once a turn.
    counters: Arc<Counters>,
}

struct Place {
    stream: Stream,
    sockets: [Arc<LentSockets>; 2],
    /// Legs whose far end is a lease of our own.
    joints: [Option<Joint>; 2],
    /// In `Places::news`.
    has_news: bool,
}

/// A leg's own lease and the one that it is joined with.
#[derive(Clone, Copy)]
struct Joint {
    own: u64,
    far: Joined,
}

impl Joint {
    fn of(media: &LegMedia) -> Option<Self> {
        media.joined.as_deref().copied().map(|far| Self {
            own: media.lease,
            far,
        })
    }
}

/// All streams of the thread.
#[derive(Default)]
struct Places {
    all: Vec<Option<Place>>,
    /// Legs that are joined, by their own lease.
    joined: BTreeMap<u64, (usize, Side)>,
    /// Places whose streams have events to tell.
    news: Vec<usize>,
}

/// The thread's state.
pub struct MediaThread {
    ends: Ends,
    places: Places,
    free: Vec<usize>,
    by_id: BTreeMap<StreamId, usize>,
    /// Answers to commands that the events' queue had no room for; while there are any, no command is taken.
    answers: VecDeque<MediaEvent>,
    batch: Batch,
    tally: Tally,
    tick_at: Instant,
}

impl MediaThread {
    /// A thread's state without streams; made by the thread itself.
    #[must_use]
    pub fn new(ends: Ends, now: Instant) -> Self {
        Self {
            ends,
            places: Places::default(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            answers: VecDeque::new(),
            batch: Batch::new(MAX_PACKET + 1 + OVERHEAD),
            tally: Tally::default(),
            tick_at: now + TICK,
        }
    }

    /// Serves until the signalling thread is gone.
    ///
    /// # Errors
    /// What the kernel says when waiting fails, which only a bug brings about: the process ends.
    pub fn run(mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self
                .ends
                .epoll
                .wait(&mut ready, EpollTimeout::from(LONGEST_WAIT_MS))
            {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for event in ready.iter().take(count) {
                if event.data() != WAKE {
                    self.serve(now, event.data());
                }
            }
            // Last, so that no place changes hands while the batch still names it.
            if !self.obey(now) {
                return Ok(());
            }
            if now >= self.tick_at {
                self.tick(now);
            }
            self.tell();
            self.ends
                .counters
                .publish(&mut self.tally, self.by_id.len());
        }
    }

    /// Empties one socket.
    fn serve(&mut self, now: Instant, mark: u64) {
        let (place, side, component) = unmark(mark);
        let Some(Some(entry)) = self.places.all.get(place) else {
            return;
        };
        let lent = Arc::clone(of(&entry.sockets, side));
        let socket = lent.of(component);
        for round in 0..=ROUNDS {
            if round == ROUNDS {
                // Somebody sends more than anyone negotiated: the rest waits until the others were heard. It is watched,
                // so the call, which makes the kernel name it again, cannot fail.
                let _ = self.ends.epoll.modify(socket, &mut watched(mark));
                break;
            }
            let count = match self.batch.receive(socket, lent.v6) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of something that was sent: it was taken off the socket, packets may wait behind it.
                Err(_) => continue,
            };
            for number in 0..count {
                let Some((source, buffer, octets)) = self.batch.buffer(number) else {
                    continue;
                };
                let at = (place, side, component);
                self.places
                    .carry(now, at, source, (buffer, octets), &mut self.tally);
            }
            if count < BATCH {
                break;
            }
        }
    }

    /// Carries out the commands that wait. False: nobody will ever give one again.
    fn obey(&mut self, now: Instant) -> bool {
        if !self.answers.is_empty() {
            return true;
        }
        loop {
            let command = match self.ends.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            let (stream, done) = match command {
                ThreadCommand::Start {
                    stream,
                    legs,
                    silence_ms,
                } => (stream, self.start(now, stream, legs, silence_ms)),
                ThreadCommand::Change { stream, side, leg } => {
                    (stream, self.change(now, stream, side, leg))
                }
                ThreadCommand::Stop { stream } => (stream, self.stop(stream)),
            };
            if let Err(reason) = done {
                self.answer(MediaEvent::Failed { stream, reason });
            }
            if !self.answers.is_empty() {
                return true;
            }
        }
    }

    fn start(
        &mut self,
        now: Instant,
        id: StreamId,
        legs: [ThreadLeg; 2],
        silence_ms: u32,
    ) -> Result<(), Failure> {
        if self.by_id.contains_key(&id) {
            return Err(Failure::UnknownStream);
        }
        if self.by_id.len() >= MAX_STREAMS {
            return Err(Failure::Full);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.all.push(None);
            self.places.all.len() - 1
        });
        let [a, b] = &legs;
        if let Err(reason) = self.watch(place, Side::A, &a.sockets) {
            self.free.push(place);
            return Err(reason);
        }
        if let Err(reason) = self.watch(place, Side::B, &b.sockets) {
            self.unwatch(&a.sockets);
            self.free.push(place);
            return Err(reason);
        }
        let silence = (silence_ms > 0).then(|| Duration::from_millis(silence_ms.into()));
        let stream = Stream::new(now, id, a.lent(), b.lent(), silence);
        let joints = [Joint::of(&a.media), Joint::of(&b.media)];
        let sockets = legs.map(|leg| leg.sockets);
        if let Some(slot) = self.places.all.get_mut(place) {
            *slot = Some(Place {
                stream,
                sockets,
                joints: [None, None],
                has_news: false,
            });
        }
        for (side, joint) in [Side::A, Side::B].into_iter().zip(joints) {
            self.places.join(place, side, joint);
        }
        self.by_id.insert(id, place);
        Ok(())
    }

    fn change(
        &mut self,
        now: Instant,
        id: StreamId,
        side: Side,
        leg: ThreadLeg,
    ) -> Result<(), Failure> {
        let place = *self.by_id.get(&id).ok_or(Failure::UnknownStream)?;
        let entry = self
            .places
            .all
            .get(place)
            .and_then(Option::as_ref)
            .ok_or(Failure::UnknownStream)?;
        let old = Arc::clone(of(&entry.sockets, side));
        if !Arc::ptr_eq(&old, &leg.sockets) {
            self.watch(place, side, &leg.sockets)?;
            self.unwatch(&old);
        }
        self.places.join(place, side, Joint::of(&leg.media));
        if let Some(Some(entry)) = self.places.all.get_mut(place) {
            entry.stream.change(now, side, leg.lent());
            let [a, b] = &mut entry.sockets;
            *if side == Side::A { a } else { b } = leg.sockets;
        }
        Ok(())
    }

    fn stop(&mut self, id: StreamId) -> Result<(), Failure> {
        let place = self.by_id.remove(&id).ok_or(Failure::UnknownStream)?;
        for side in [Side::A, Side::B] {
            self.places.join(place, side, None);
        }
        let Some(mut entry) = self.places.all.get_mut(place).and_then(Option::take) else {
            return Ok(());
        };
        for sockets in &entry.sockets {
            self.unwatch(sockets);
        }
        self.free.push(place);
        self.places.news.retain(|&other| other != place);
        while let Some(event) = entry.stream.poll_event() {
            self.answer(event);
        }
        self.answer(entry.stream.report(true));
        Ok(())
    }

    fn watch(&self, place: usize, side: Side, sockets: &LentSockets) -> Result<(), Failure> {
        let add = |socket, component| {
            self.ends
                .epoll
                .add(socket, watched(mark(place, side, component)))
        };
        add(&sockets.rtp, Component::Rtp).map_err(|_| Failure::LeaseInUse)?;
        if let Some(rtcp) = &sockets.rtcp
            && add(rtcp, Component::Rtcp).is_err()
        {
            // Watched a line ago.
            let _ = self.ends.epoll.delete(&sockets.rtp);
            return Err(Failure::LeaseInUse);
        }
        Ok(())
    }

    /// The signalling thread may hold on to the sockets, so closing them would not be enough.
    fn unwatch(&self, sockets: &LentSockets) {
        for socket in [Some(&sockets.rtp), sockets.rtcp.as_ref()]
            .into_iter()
            .flatten()
        {
            // It is watched, so the call cannot fail.
            let _ = self.ends.epoll.delete(socket);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.tick_at = now + TICK;
        let Places { all, news, .. } = &mut self.places;
        for (place, entry) in all.iter_mut().enumerate() {
            let Some(entry) = entry else { continue };
            entry.stream.on_tick(now);
            entry.note(place, news);
        }
    }

    fn answer(&mut self, event: MediaEvent) {
        if self.answers.is_empty()
            && let Ok(permit) = self.ends.events.try_reserve()
        {
            permit.send(event);
        } else {
            self.answers.push_back(event);
        }
    }

    /// Hands over what waits, as far as the signalling thread has room for it.
    fn tell(&mut self) {
        while let Some(event) = self.answers.front() {
            let Ok(permit) = self.ends.events.try_reserve() else {
                return self.tally.event_late();
            };
            permit.send(*event);
            self.answers.pop_front();
        }
        let Places { all, news, .. } = &mut self.places;
        while let Some(&place) = news.last() {
            if let Some(Some(entry)) = all.get_mut(place) {
                while entry.stream.has_event() {
                    let Ok(permit) = self.ends.events.try_reserve() else {
                        return self.tally.event_late();
                    };
                    let Some(event) = entry.stream.poll_event() else {
                        break;
                    };
                    permit.send(event);
                }
                entry.has_news = false;
            }
            news.pop();
        }
    }
}

impl Place {
    /// What its stream has to tell is not forgotten.
    fn note(&mut self, place: usize, news: &mut Vec<usize>) {
        if self.stream.has_event() && !self.has_news {
            self.has_news = true;
            news.push(place);
        }
    }
}

impl Places {
    /// Judges a packet, and sends it or hands it to the stream that the leg is joined with.
    fn carry(
        &mut self,
        now: Instant,
        (mut place, mut side, mut component): (usize, Side, Component),
        mut source: SocketAddr,
        (buffer, mut octets): (&mut [u8], usize),
        tally: &mut Tally,
    ) {
        for _ in 0..=HANDS {
            let Some(Some(entry)) = self.all.get_mut(place) else {
                return tally.dropped(DropReason::NoStream);
            };
            let verdict =
                entry
                    .stream
                    .on_packet(now, side, component, source, (&mut *buffer, octets));
            entry.note(place, &mut self.news);
            let (out, socket, destination, left) = match verdict {
                Verdict::Forward {
                    side,
                    socket,
                    destination,
                    octets,
                } => (side, socket, destination, octets),
                Verdict::Drop(reason) => return tally.dropped(reason),
            };
            let Some(joint) = *of(&entry.joints, out) else {
                let packet = buffer.get(..left).unwrap_or_default();
                if send(of(&entry.sockets, out).of(socket), packet, destination) {
                    tally.relayed();
                } else {
                    entry.stream.on_send_failure(out);
                    tally.send_failure();
                }
                return;
            };
            let Some((next, next_side, back)) = self.partner(place, joint) else {
                break;
            };
            (place, side, component, octets) = (next, next_side, socket, left);
            source = match component {
                Component::Rtp => back.rtp,
                Component::Rtcp => back.rtcp,
            };
        }
        tally.dropped(DropReason::NoDestination);
    }

    /// The leg that a joint leads to, if it is another stream's and is joined with this one as well: whoever names a port of
    /// ours alone gets nothing and is given nothing.
    fn partner(&self, place: usize, joint: Joint) -> Option<(usize, Side, Joined)> {
        let &(next, side) = self.joined.get(&joint.far.lease)?;
        let back = (*of(&self.all.get(next)?.as_ref()?.joints, side))?;
        (next != place && back.far.lease == joint.own).then_some((next, side, back.far))
    }

    fn join(&mut self, place: usize, side: Side, joint: Option<Joint>) {
        let Some(Some(entry)) = self.all.get_mut(place) else {
            return;
        };
        let [a, b] = &mut entry.joints;
        let old = std::mem::replace(if side == Side::A { a } else { b }, joint);
        if let Some(old) = old {
            self.joined.remove(&old.own);
        }
        if let Some(joint) = joint {
            self.joined.insert(joint.own, (place, side));
        }
    }
}

/// One packet; false if the kernel did not take it. A full send buffer loses it: media that waits is worth nothing.
fn send(socket: &std::net::UdpSocket, packet: &[u8], destination: SocketAddr) -> bool {
    socket.send_to(packet, destination).is_ok()
}

fn watched(mark: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, mark)
}

fn mark(place: usize, side: Side, component: Component) -> u64 {
    (place as u64) << 2 | u64::from(side == Side::B) << 1 | u64::from(component == Component::Rtcp)
}

fn unmark(mark: u64) -> (usize, Side, Component) {
    let side = if mark & 2 == 0 { Side::A } else { Side::B };
    let component = if mark & 1 == 0 {
        Component::Rtp
    } else {
        Component::Rtcp
    };
    ((mark >> 2) as usize, side, component)
}

fn of<T>([a, b]: &[T; 2], side: Side) -> &T {
    match side {
        Side::A => a,
        Side::B => b,
    }
}
