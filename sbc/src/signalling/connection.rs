//! A SIP connection (RFC 3261 §18): accepted or opened by the firewall, read and written here. What it may hold back and
//! how long it may idle is bounded.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use sbc_core::{ConnectionId, Input};
use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Shared, Task};
use crate::{
    engine::Engine,
    socket::{SocketError, nonblocking, watch},
};

/// Octets that wait for a far end that does not read; above it the connection is closed.
const WAITING: usize = 256 * 1024;
/// Octets of one read.
const READ: usize = 16 * 1024;
/// Reads after which the other tasks have their turn.
const ROUNDS: usize = 4;

/// One connection.
pub struct Connection {
    stream: Rc<AsyncFd<TcpStream>>,
    waiting: VecDeque<u8>,
    closing: bool,
    used: Instant,
    /// Tells the task that something waits to be written.
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
    ) -> Result<Self, SocketError> {
        let stream = Rc::new(watch(TcpStream::from(nonblocking(descriptor)?))?);
        let wake = Rc::new(Notify::new());
        let task = Task::spawn(drive(
            Rc::clone(shared),
            id,
            Rc::clone(&stream),
            Rc::clone(&wake),
        ));
        Ok(Self {
            stream,
            waiting: VecDeque::new(),
            closing: false,
            used: Instant::now(),
            wake,
            _task: task,
        })
    }

    /// Writes, or keeps what the kernel has no room for.
    ///
    /// # Errors
    /// When the connection is broken or too much waits: it is of no use any more.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.used = Instant::now();
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
        self.closing = true;
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
        Ok(self.closing && self.waiting.is_empty())
    }
}

/// Why a connection ended, as far as it is counted.
enum End {
    Idle,
    Other,
}

async fn drive<E: Engine>(
    shared: Shared<E>,
    id: ConnectionId,
    stream: Rc<AsyncFd<TcpStream>>,
    wake: Rc<Notify>,
) {
    let end = loop {
        let Some((idle_at, writes)) = outlook(&shared, id) else {
            return;
        };
        let step = tokio::select! {
            ready = stream.readable() => match ready {
                Ok(mut ready) => read(&shared, id, &stream, &mut ready),
                Err(_) => Err(End::Other),
            },
            ready = stream.writable(), if writes => match ready {
                Ok(mut ready) => write(&shared, id, &mut ready),
                Err(_) => Err(End::Other),
            },
            () = wake.notified() => Ok(()),
            () = sleep_until(idle_at) => idle(&shared, id),
        };
        if let Err(end) = step {
            break end;
        }
        tokio::task::yield_now().await;
    };
    let mut shell = shared.borrow_mut();
    if matches!(end, End::Idle) {
        shell.counters.connections_idle += 1;
    }
    shell.close_connection(id);
}

/// When the connection will have been idle for too long, and whether something waits to be written.
fn outlook<E: Engine>(shared: &Shared<E>, id: ConnectionId) -> Option<(Instant, bool)> {
    let shell = shared.borrow();
    let seconds = shell
        .limits
        .map_or(0, |limits| limits.idle_connection_seconds);
    let connection = shell.connections.get(&id)?;
    Some((
        connection.used + Duration::from_secs(seconds.into()),
        !connection.waiting.is_empty(),
    ))
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
                let mut shell = shared.borrow_mut();
                let Some(connection) = shell.connections.get_mut(&id) else {
                    return Err(End::Other);
                };
                connection.used = Instant::now();
                let bytes = buffer.get(..count).unwrap_or_default();
                shell.handle(Input::Stream {
                    connection: id,
                    bytes,
                });
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
    match outlook(shared, id) {
        Some((idle_at, _)) if Instant::now() < idle_at => Ok(()),
        _ => Err(End::Idle),
    }
}
