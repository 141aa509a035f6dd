//! The handshake threads: a session whose far end has said something goes to one of them, is moved on by what was said,
//! and comes back with what is to be sent. While it is away its connection is not read, so a far end has one piece of work
//! under way at most; when all threads are busy and the queue is full, new work is refused.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::ServerName,
};
use sbc_core::ConnectionId;
use tokio::sync::mpsc;

/// Pieces of work that wait.
const WAITING: usize = 1024;

/// A TLS session, wherever it is.
pub type Session = Box<Connection>;

/// What is to be done.
pub enum Work {
    /// A client has said its first words.
    Accept(Arc<ServerConfig>, Vec<u8>),
    /// We begin.
    Connect(Arc<ClientConfig>, ServerName<'static>),
    /// The far end has said more.
    Continue(Session, Vec<u8>),
}

/// What came of it.
pub struct Outcome {
    /// To be sent, also after a failure: an alert says why.
    pub send: Vec<u8>,
    /// The session, or why there is none any more.
    pub session: Result<Session, rustls::Error>,
}

impl Work {
    /// Does it. Blocks while the keyholder signs.
    #[must_use]
    pub fn run(self) -> Outcome {
        let (session, received) = match self {
            Self::Accept(config, received) => (
                ServerConnection::new(config).map(Connection::Server),
                received,
            ),
            Self::Connect(config, name) => (
                ClientConnection::new(config, name).map(Connection::Client),
                Vec::new(),
            ),
            Self::Continue(session, received) => (Ok(*session), received),
        };
        let mut send = Vec::new();
        let session = session.and_then(|session| {
            let mut session = Box::new(session);
            let moved = take_in(&mut session, &received);
            give_out(&mut session, &mut send);
            moved.map(|()| session)
        });
        Outcome { send, session }
    }
}

/// Gives received octets to a session. Plaintext, if there is any, waits in its reader.
///
/// # Errors
/// What the far end did wrong; an alert waits to be sent.
pub fn take_in(session: &mut Connection, mut received: &[u8]) -> Result<(), rustls::Error> {
    while !received.is_empty() {
        match session.read_tls(&mut received) {
            // After the far end's close_notify nothing is taken any more.
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(rustls::Error::General(error.to_string())),
        }
        session.process_new_packets()?;
    }
    Ok(())
}

/// Takes out of a session what is to be sent.
pub fn give_out(session: &mut Connection, send: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    while session.wants_write() && session.write_tls(send).is_ok() {}
}

/// The threads, as the signalling thread sees them.
#[derive(Clone)]
pub struct Handshakes(SyncSender<(ConnectionId, Work)>);

impl Handshakes {
    /// Starts `threads` of them; outcomes go to `done`.
    ///
    /// # Errors
    /// What the kernel says when it refuses a thread.
    pub fn start(threads: usize, done: &mpsc::Sender<(ConnectionId, Outcome)>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        let (started, starts) = sync_channel(threads);
        for number in 0..threads {
            let (receiver, done, started) = (Arc::clone(&receiver), done.clone(), started.clone());
            thread::Builder::new()
                .name(format!("handshakes-{number}"))
                .spawn(move || {
                    // `start` waits for it, so somebody receives.
                    let _ = started.send(());
                    serve(&receiver, &done);
                })?;
        }
        for _ in 0..threads {
            // What a thread needs of the kernel to begin with, it has by now: the process may be sealed.
            starts.recv().map_err(io::Error::other)?;
        }
        Ok(Self(sender))
    }

    /// Hands work over; false if too much waits already.
    #[must_use]
    pub fn submit(&self, connection: ConnectionId, work: Work) -> bool {
        self.0.try_send((connection, work)).is_ok()
    }
}

/// Works until the signalling thread is gone.
fn serve(
    receiver: &Mutex<Receiver<(ConnectionId, Work)>>,
    done: &mpsc::Sender<(ConnectionId, Outcome)>,
) {
    loop {
        let next = {
            let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            receiver.recv()
        };
        let Ok((connection, work)) = next else { return };
        if done.blocking_send((connection, work.run())).is_err() {
            return;
        }
    }
}
