//! The signalling thread's end of the media threads: knows which stream is where and which sockets it has, and hands
//! commands over without ever waiting.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Instant,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use sbc_media::relay::{Failure, LegMedia, MediaCommand, MediaEvent, Side, StreamId};
use tokio::sync::mpsc;

use super::{
    counters::Counters,
    lease::Leases,
    thread::{Ends, MediaThread, ThreadCommand, ThreadLeg},
};

/// Commands that wait for one thread inside its channel.
const COMMANDS: usize = 1024;
/// Commands that wait outside it. Only `Change` and `Stop` of running streams do, so a burst of hang-ups fits.
const BACKLOG: usize = 65_536;

struct Worker {
    commands: SyncSender<ThreadCommand>,
    backlog: VecDeque<ThreadCommand>,
    wake: Arc<EventFd>,
    counters: Arc<Counters>,
}

#[derive(Clone, Copy)]
struct Whereabouts {
    worker: usize,
    leases: [u64; 2],
}

/// All media threads.
pub struct Pool {
    workers: Vec<Worker>,
    streams: BTreeMap<StreamId, Whereabouts>,
    /// Which stream uses a lease.
    in_use: BTreeMap<u64, StreamId>,
}

impl Pool {
    /// Starts `threads` of them (at least one); what they have to say comes out of `events`.
    ///
    /// # Errors
    /// What the kernel says when it refuses a thread or a descriptor.
    pub fn start(threads: usize, events: &mpsc::Sender<MediaEvent>) -> io::Result<Self> {
        let mut workers = Vec::new();
        let (started, starts) = sync_channel(threads.max(1));
        for number in 0..threads.max(1) {
            let (commands, receiver) = sync_channel(COMMANDS);
            let wake = Arc::new(EventFd::from_flags(
                EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
            )?);
            let counters = Arc::new(Counters::default());
            let ends = Ends::new(
                receiver,
                Arc::clone(&wake),
                events.clone(),
                Arc::clone(&counters),
            )?;
            // A thread that ends stops its progress, and with it the health messages: the firewall takes everything back.
            let started = started.clone();
            thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || {
                    let thread = MediaThread::new(ends, Instant::now());
                    // The pool waits for it, so somebody receives.
                    let _ = started.send(());
                    if let Err(error) = thread.run() {
                        tracing::error!(code = "media-thread-failed", %error);
                    }
                })?;
            workers.push(Worker {
                commands,
                backlog: VecDeque::new(),
                wake,
                counters,
            });
        }
        drop(started);
        // What a thread needs of the kernel to begin with, it has by now: the process may be sealed.
        if starts.iter().take(workers.len()).count() < workers.len() {
            return Err(io::Error::other("a media thread did not start"));
        }
        Ok(Self {
            workers,
            streams: BTreeMap::new(),
            in_use: BTreeMap::new(),
        })
    }

    /// Hands a command to the thread it belongs to.
    ///
    /// # Errors
    /// The event that the core gets instead, if it cannot be carried out.
    pub fn command(&mut self, command: MediaCommand, leases: &Leases) -> Result<(), MediaEvent> {
        let (stream, done) = match command {
            MediaCommand::Start {
                stream,
                call,
                a,
                b,
                silence_ms,
            } => (
                stream,
                self.start_stream(stream, call, [a, b], silence_ms, leases),
            ),
            MediaCommand::Change { stream, side, leg } => {
                (stream, self.change(stream, side, leg, leases))
            }
            MediaCommand::Stop { stream } => (stream, self.stop(stream)),
        };
        done.map_err(|reason| MediaEvent::Failed { stream, reason })
    }

    /// Hands over what had to wait; to be called now and then.
    pub fn flush(&mut self) {
        for worker in &mut self.workers {
            worker.flush();
        }
    }

    /// What each thread counted.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.workers
            .iter()
            .map(|worker| Arc::clone(&worker.counters))
            .collect()
    }

    fn start_stream(
        &mut self,
        stream: StreamId,
        call: u64,
        legs: [LegMedia; 2],
        silence_ms: u32,
        leases: &Leases,
    ) -> Result<(), Failure> {
        let [a, b] = legs;
        if self.streams.contains_key(&stream) {
            return Err(Failure::UnknownStream);
        }
        if a.lease == b.lease
            || self.in_use.contains_key(&a.lease)
            || self.in_use.contains_key(&b.lease)
        {
            return Err(Failure::LeaseInUse);
        }
        let used = [a.lease, b.lease];
        let legs = [thread_leg(a, leases)?, thread_leg(b, leases)?];
        // Pinned by call: a call's streams share one thread, calls are spread evenly. One that is joined with a stream
        // runs where that one does, so that handing over needs no lock either.
        let partner = legs.iter().find_map(|leg| {
            let stream = self.in_use.get(&leg.media.joined.as_ref()?.lease)?;
            Some(self.streams.get(stream)?.worker)
        });
        let spread = || usize::try_from(call % self.workers.len() as u64).unwrap_or(0);
        let worker = partner.unwrap_or_else(spread);
        let target = self.workers.get_mut(worker).ok_or(Failure::Full)?;
        target.flush();
        if !target.backlog.is_empty() {
            return Err(Failure::Full);
        }
        target.give(ThreadCommand::Start {
            stream,
            legs,
            silence_ms,
        })?;
        self.streams.insert(
            stream,
            Whereabouts {
                worker,
                leases: used,
            },
        );
        self.in_use.extend(used.map(|lease| (lease, stream)));
        Ok(())
    }

    fn change(
        &mut self,
        stream: StreamId,
        side: Side,
        leg: LegMedia,
        leases: &Leases,
    ) -> Result<(), Failure> {
        let whereabouts = self
            .streams
            .get_mut(&stream)
            .ok_or(Failure::UnknownStream)?;
        let lease = leg.lease;
        let thread_leg = thread_leg(leg, leases)?;
        let [a, b] = &mut whereabouts.leases;
        let used = if side == Side::A { a } else { b };
        if lease != *used {
            if self.in_use.contains_key(&lease) {
                return Err(Failure::LeaseInUse);
            }
            self.in_use.remove(used);
            self.in_use.insert(lease, stream);
            *used = lease;
        }
        let worker = self
            .workers
            .get_mut(whereabouts.worker)
            .ok_or(Failure::UnknownStream)?;
        worker.give(ThreadCommand::Change {
            stream,
            side,
            leg: thread_leg,
        })
    }

    fn stop(&mut self, stream: StreamId) -> Result<(), Failure> {
        let whereabouts = self.streams.remove(&stream).ok_or(Failure::UnknownStream)?;
        for lease in whereabouts.leases {
            self.in_use.remove(&lease);
        }
        let worker = self
            .workers
            .get_mut(whereabouts.worker)
            .ok_or(Failure::UnknownStream)?;
        worker.give(ThreadCommand::Stop { stream })
    }
}

impl Worker {
    fn give(&mut self, command: ThreadCommand) -> Result<(), Failure> {
        if self.backlog.len() >= BACKLOG {
            return Err(Failure::Full);
        }
        self.backlog.push_back(command);
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        let mut urgent = false;
        while let Some(command) = self.backlog.pop_front() {
            let ends = matches!(command, ThreadCommand::Stop { .. });
            match self.commands.try_send(command) {
                Ok(()) => urgent |= !ends,
                Err(TrySendError::Full(command)) => {
                    self.backlog.push_front(command);
                    break;
                }
                // The thread is gone, which the health thread has noticed by now.
                Err(TrySendError::Disconnected(_)) => self.backlog.clear(),
            }
        }
        // A thread looks for itself in less than a packet's length of sound: what ends may wait for that; who speaks
        // may not.
        if urgent {
            // Full only if it was written 2⁶⁴ times and never read: the thread is awake already.
            let _ = self.wake.write(1);
        }
    }
}

fn thread_leg(media: LegMedia, leases: &Leases) -> Result<ThreadLeg, Failure> {
    let sockets = leases.sockets(media.lease).ok_or(Failure::UnknownLease)?;
    Ok(ThreadLeg { media, sockets })
}
