//! A SIP connection (RFC 3261 §18): accepted or opened by the firewall, read and written here through its stack. What it may
//! hold back, how long its handshakes may take and how long it may idle is bounded.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use broker_proto::{
    RequestId,
    settings::{Transport, ZoneId},
};
use sbc_core::{ConnectionId, Input};
use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Shared, Shell, Task, secure::Broken};
use crate::{
    engine::Engine,
    socket::{SocketError, nonblocking, watch},
    stack::Stack,
};

/// Octets that wait for a far end that does not read; above it the connection is closed.
const WAITING: usize = 256 * 1024;
/// Octets of one read.
const READ: usize = 16 * 1024;
/// Reads after which the other tasks have their turn.
const ROUNDS: usize = 4;

/// Where a connection comes from, until the core knows of it.
pub enum Origin {
    /// A listener.
    Accepted {
        /// Of the listener.
        zone: ZoneId,
        /// Of the listener.
        transport: Transport,
        /// Own end.
        local: SocketAddr,
        /// Far end.
        peer: SocketAddr,
    },
    /// The core asked for it.
    Asked {
        /// By this request.
        id: RequestId,
        /// Own end.
        local: SocketAddr,
        /// Far end.
        peer: SocketAddr,
    },
}

/// One connection.
pub struct Connection {
    stream: Rc<AsyncFd<TcpStream>>,
    /// TLS and WebSocket.
    pub(super) stack: Stack,
    /// Until the core knows of it.
    pub(super) origin: Option<Origin>,
    peer: SocketAddr,
    waiting: VecDeque<u8>,
    closing: bool,
    begun: Instant,
    used: Instant,
    /// Tells the task that something waits to be written, or may be read again.
    wake: Rc<Notify>,
    _task: Task,
}

impl Connection {
    /// Reads and writes a connection from now on.
    ///
    /// # Errors
    /// For a descriptor that would block the thread, or that the runtime does not take.
    pub fn start<E: Engine + 'static>(
        shared: &Shared<E>,
        id: ConnectionId,
        descriptor: OwnedFd,
        stack: Stack,
        origin: Origin,
    ) -> Result<Self, SocketError> {
        let stream = Rc::new(watch(TcpStream::from(nonblocking(descriptor)?))?);
        let wake = Rc::new(Notify::new());
        let task = Task::spawn(drive(
            Rc::clone(shared),
            id,
            Rc::clone(&stream),
            Rc::clone(&wake),
        ));
        let (Origin::Accepted { peer, .. } | Origin::Asked { peer, .. }) = origin;
        let now = Instant::now();
        Ok(Self {
            stream,
            stack,
            origin: Some(origin),
            peer,
            waiting: VecDeque::new(),
            closing: false,
            begun: now,
            used: now,
            wake,
            _task: task,
        })
    }

    /// The far end.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Has the task look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Writes a message through the stack, or keeps what the kernel has no room for.
    ///
    /// # Errors
    /// When the connection is broken or too much waits: it is of no use any more.
    pub fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.used = Instant::now();
        if self.stack.is_plain() {
            return self.queue(message);
        }
        let mut send = Vec::new();
        self.stack.send(message, &mut send);
        self.queue(&send)
    }

    /// Writes octets as they are, or keeps what the kernel has no room for.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn queue(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while self.waiting.is_empty() && !rest.is_empty() {
            match self.stream.get_ref().write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.waiting.len() + rest.len() > WAITING {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if !rest.is_empty() {
            self.waiting.extend(rest);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Asks for the end; true if nothing waits and it may be dropped at once.
    pub fn close(&mut self) -> bool {
        if !self.closing {
            self.closing = true;
            let mut last = Vec::new();
            self.stack.close(&mut last);
            // A far end that does not take it will see the end itself.
            let _ = self.queue(&last);
        }
        self.waiting.is_empty()
    }

    /// Writes what waits. True: all is written and the end was asked for.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.waiting.is_empty() {
            let (front, _) = self.waiting.as_slices();
            match self.stream.get_ref().write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.waiting.is_empty() {
            // An idle connection keeps no room for what once waited.
            self.waiting = VecDeque::new();
        }
        Ok(self.closing && self.waiting.is_empty())
    }
}

/// Why a connection ended, as far as it is counted.
enum End {
    Idle,
    /// Not ready for messages in time.
    Late,
    Other,
}

async fn drive<E: Engine>(
    shared: Shared<E>,
    id: ConnectionId,
    stream: Rc<AsyncFd<TcpStream>>,
    wake: Rc<Notify>,
) {
    let end = loop {
        let Some(Outlook {
            until,
            reads,
            writes,
        }) = outlook(&shared, id)
        else {
            return;
        };
        let step = tokio::select! {
            ready = stream.readable(), if reads => match ready {
                Ok(mut ready) => read(&shared, id, &stream, &mut ready),
                Err(_) => Err(End::Other),
            },
            ready = stream.writable(), if writes => match ready {
                Ok(mut ready) => write(&shared, id, &mut ready),
                Err(_) => Err(End::Other),
            },
            () = wake.notified() => Ok(()),
            () = sleep_until(until) => idle(&shared, id),
        };
        if let Err(end) = step {
            break end;
        }
        tokio::task::yield_now().await;
    };
    let mut shell = shared.borrow_mut();
    match end {
        End::Idle => shell.counters.connections_idle += 1,
        End::Late => shell.counters.handshakes_late += 1,
        End::Other => {}
    }
    shell.close_connection(id);
}

/// What the task of a connection waits for.
struct Outlook {
    /// Its time is over then.
    until: Instant,
    /// Octets are taken from it.
    reads: bool,
    /// Something waits to be written.
    writes: bool,
}

fn outlook<E: Engine>(shared: &Shared<E>, id: ConnectionId) -> Option<Outlook> {
    let shell = shared.borrow();
    let (idle, handshake) = shell.limits.map_or((0, 0), |limits| {
        (limits.idle_connection_seconds, limits.handshake_seconds)
    });
    let connection = shell.connections.get(&id)?;
    let until = if connection.stack.is_open() {
        connection.used + Duration::from_secs(idle.into())
    } else {
        connection.begun + Duration::from_secs(handshake.into())
    };
    Some(Outlook {
        until,
        reads: !connection.stack.is_away(),
        writes: !connection.waiting.is_empty(),
    })
}

fn read<E: Engine>(
    shared: &Shared<E>,
    id: ConnectionId,
    stream: &AsyncFd<TcpStream>,
    ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, TcpStream>,
) -> Result<(), End> {
    let mut buffer = [0; READ];
    for _ in 0..ROUNDS {
        match stream.get_ref().read(&mut buffer) {
            Ok(0) => return Err(End::Other),
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                if !received(&mut shared.borrow_mut(), id, bytes)? {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                break;
            }
            Err(_) => return Err(End::Other),
        }
    }
    Ok(())
}

/// Takes octets in; false if no more are to be read for now.
fn received<E: Engine>(shell: &mut Shell<E>, id: ConnectionId, bytes: &[u8]) -> Result<bool, End> {
    let connection = shell.connections.get_mut(&id).ok_or(End::Other)?;
    connection.used = Instant::now();
    if connection.stack.is_plain() {
        shell.handle(Input::Stream {
            connection: id,
            bytes,
        });
        return Ok(true);
    }
    let (mut send, mut events) = (Vec::new(), Vec::new());
    let result = connection.stack.receive(bytes, &mut send, &mut events);
    shell
        .follow(id, result, &send, events)
        .map_err(|Broken| End::Other)?;
    let connection = shell.connections.get(&id);
    Ok(connection.is_some_and(|connection| !connection.stack.is_away()))
}

fn write<E: Engine>(
    shared: &Shared<E>,
    id: ConnectionId,
    ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, TcpStream>,
) -> Result<(), End> {
    let mut shell = shared.borrow_mut();
    let Some(connection) = shell.connections.get_mut(&id) else {
        return Err(End::Other);
    };
    match connection.flush() {
        Ok(true) | Err(_) => Err(End::Other),
        Ok(false) => {
            if !connection.waiting.is_empty() {
                ready.clear_ready();
            }
            Ok(())
        }
    }
}

fn idle<E: Engine>(shared: &Shared<E>, id: ConnectionId) -> Result<(), End> {
    let late = match outlook(shared, id) {
        Some(outlook) if Instant::now() < outlook.until => return Ok(()),
        Some(_) => {
            let shell = shared.borrow();
            let connection = shell.connections.get(&id);
            connection.is_some_and(|connection| !connection.stack.is_open())
        }
        None => false,
    };
    Err(if late { End::Late } else { End::Idle })
}
