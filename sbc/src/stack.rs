//! What lies between a TCP connection and SIP: nothing, TLS, WebSocket, or both. Octets in, octets and events out; knows no
//! socket. The expensive part of TLS is handed out as [`Work`] and comes back as its [`Outcome`].

use std::{io::Read, sync::Arc};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use crate::{
    tls::handshakes::{Outcome, Session, Work, give_out, take_in},
    websocket::{self, Heard, Socket, Terms},
};

/// Octets of a handshake that wait for the rest of their record: one record (RFC 8446 §5.2) and one read.
const PENDING: usize = 40 * 1024;
/// Octets before the length of a record ends.
const RECORD_HEADER: usize = 5;
/// Kinds of records: change_cipher_spec, alert, handshake, application_data (RFC 8446 §5.1).
const KINDS: std::ops::RangeInclusive<u8> = 20..=23;
/// Plaintext taken out of a session in one piece.
const PIECE: usize = 4096;

/// What came of octets.
pub enum Event {
    /// Ready for messages.
    Opened,
    /// Octets for SIP; over WebSocket one message.
    Received(Vec<u8>),
    /// To be done by a handshake thread; until its outcome is back nothing is to be received.
    Work(Work),
    /// The far end has closed.
    Closed,
}

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// WebSocket.
    #[error(transparent)]
    WebSocket(#[from] websocket::Fault),
    /// More of a handshake than there can be.
    #[error("handshake-too-large")]
    TooLarge,
}

impl Fault {
    /// A stable word for why a handshake failed; `None`: it was none of TLS.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        use rustls::{CertificateError, Error};
        let error = match self {
            Self::WebSocket(_) => return None,
            Self::TooLarge => return Some("handshake-too-large"),
            Self::Tls(error) => error,
        };
        Some(match error {
            Error::NoCertificatesPresented => "no-certificate",
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => "certificate-expired",
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => "certificate-not-valid-yet",
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => "certificate-issuer",
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => "certificate-name",
            Error::InvalidCertificate(_) => "certificate",
            Error::AlertReceived(_) => "refused-by-peer",
            Error::PeerIncompatible(_) => "nothing-in-common",
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "not-tls",
            Error::InappropriateHandshakeMessage { .. } | Error::PeerMisbehaved(_) => "misbehaved",
            _ => "other",
        })
    }
}

enum Tls {
    /// Of a client that has said nothing yet.
    Fresh(Arc<ServerConfig>),
    /// Of a server that we have said nothing to yet.
    First(Arc<ClientConfig>, ServerName<'static>),
    Here(Session),
    /// At a handshake thread.
    Away,
}

/// The layers of one connection, lowest first.
#[derive(Default)]
pub struct Stack {
    tls: Option<Tls>,
    /// Of a handshake: no whole record yet.
    pending: Vec<u8>,
    websocket: Option<Socket>,
    opened: bool,
}

impl Stack {
    /// SIP right on TCP: open.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            opened: true,
            ..Self::default()
        }
    }

    /// Of an accepted connection. Both `None` is [`Self::plain`].
    #[must_use]
    pub fn accepted(tls: Option<Arc<ServerConfig>>, websocket: Option<Arc<Terms>>) -> Self {
        Self {
            opened: tls.is_none() && websocket.is_none(),
            tls: tls.map(Tls::Fresh),
            pending: Vec::new(),
            websocket: websocket.map(Socket::new),
        }
    }

    /// Of a connection that we made: the first thing to do is [`Self::begin`].
    #[must_use]
    pub fn connecting(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self {
            tls: Some(Tls::First(config, name)),
            ..Self::default()
        }
    }

    /// Whether octets are SIP's as they are.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// Whether messages may come and go.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.opened
    }

    /// Whether the connection is not to be read for now.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self.tls, Some(Tls::Away))
    }

    /// Our first words on a connection that we made.
    pub fn begin(&mut self) -> Option<Work> {
        match self.tls.take() {
            Some(Tls::First(config, name)) => {
                self.tls = Some(Tls::Away);
                Some(Work::Connect(config, name))
            }
            other => {
                self.tls = other;
                None
            }
        }
    }

    /// Takes octets in. What is to be sent is put behind `send`, also when it fails.
    ///
    /// # Errors
    /// See [`Fault`]: close the connection once `send` has left.
    pub fn receive(
        &mut self,
        octets: &[u8],
        send: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        match self.tls.take() {
            None => self.plaintext(octets, send, events),
            Some(Tls::Here(mut session)) if !session.is_handshaking() => {
                let taken = take_in(&mut session, octets);
                let read = self.read(session, send, events);
                taken?;
                read
            }
            Some(tls) => {
                self.pending.extend_from_slice(octets);
                if self.pending.len() > PENDING {
                    return Err(Fault::TooLarge);
                }
                self.tls = Some(tls);
                events.extend(self.next_work().map(Event::Work));
                Ok(())
            }
        }
    }

    /// What a thread is to do with the records that have come, if there is a whole one.
    fn next_work(&mut self) -> Option<Work> {
        let rest = self.pending.split_off(whole_records(&self.pending));
        let received = std::mem::replace(&mut self.pending, rest);
        if received.is_empty() {
            return None;
        }
        match self.tls.replace(Tls::Away)? {
            Tls::Fresh(config) => Some(Work::Accept(config, received)),
            Tls::Here(session) => Some(Work::Continue(session, received)),
            // Whoever speaks before our first words is not heard; the connection runs out of time.
            Tls::First(..) | Tls::Away => None,
        }
    }

    /// Takes a piece of work back.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn take_back(
        &mut self,
        outcome: Outcome,
        send: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        send.extend(outcome.send);
        let mut session = outcome.session?;
        if session.is_handshaking() {
            self.tls = Some(Tls::Here(session));
            events.extend(self.next_work().map(Event::Work));
            return Ok(());
        }
        // What came of the first record after the handshake.
        take_in(&mut session, &std::mem::take(&mut self.pending))?;
        if self.websocket.is_none() && !self.opened {
            self.opened = true;
            events.push(Event::Opened);
        }
        self.read(session, send, events)
    }

    /// Protects a message. Nothing before the stack is open.
    pub fn send(&mut self, message: &[u8], send: &mut Vec<u8>) {
        if !self.opened {
            return;
        }
        match &mut self.websocket {
            None => self.protect(message, send),
            Some(socket) => {
                let mut frames = Vec::new();
                socket.send(message, &mut frames);
                self.protect(&frames, send);
            }
        }
    }

    /// Says that no more is to come.
    pub fn close(&mut self, send: &mut Vec<u8>) {
        if let Some(socket) = &mut self.websocket {
            let mut frames = Vec::new();
            socket.close(&mut frames);
            self.protect(&frames, send);
        }
        if let Some(Tls::Here(session)) = &mut self.tls {
            session.send_close_notify();
            give_out(session, send);
        }
    }

    /// Plaintext of a session goes on upwards; answers of the layers above go down through it.
    fn read(
        &mut self,
        mut session: Session,
        send: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let mut piece = [0; PIECE];
        let mut closed = false;
        let mut plaintext = Vec::new();
        loop {
            match session.reader().read(&mut piece) {
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(count) => plaintext.extend(piece.iter().take(count)),
                // Nothing more for now.
                Err(_) => break,
            }
        }
        give_out(&mut session, send);
        self.tls = Some(Tls::Here(session));
        if !plaintext.is_empty() {
            self.plaintext(&plaintext, send, events)?;
        }
        if closed {
            events.push(Event::Closed);
        }
        Ok(())
    }

    fn plaintext(
        &mut self,
        octets: &[u8],
        send: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let Some(socket) = &mut self.websocket else {
            events.push(Event::Received(octets.to_vec()));
            return Ok(());
        };
        let (mut answer, mut heard) = (Vec::new(), Vec::new());
        let received = socket.receive(octets, &mut answer, &mut heard);
        self.protect(&answer, send);
        for heard in heard {
            events.push(match heard {
                Heard::Opened => {
                    self.opened = true;
                    Event::Opened
                }
                Heard::Message(message) => Event::Received(message),
                Heard::Closed => Event::Closed,
            });
        }
        Ok(received?)
    }

    fn protect(&mut self, octets: &[u8], send: &mut Vec<u8>) {
        match &mut self.tls {
            None => send.extend_from_slice(octets),
            Some(Tls::Here(session)) => {
                let mut rest = octets;
                while !rest.is_empty() {
                    // The session's own buffer is bounded: it is emptied in between.
                    let Ok(taken) = std::io::Write::write(&mut session.writer(), rest) else {
                        return;
                    };
                    give_out(session, send);
                    if taken == 0 {
                        return;
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                }
            }
            Some(_) => {}
        }
    }
}

/// Octets of the records that are there from their first octet to their last and so worth a thread's while; all of what is
/// no record of a handshake, so that it is refused at once.
fn whole_records(octets: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&kind) = octets.get(whole) {
        if !KINDS.contains(&kind) {
            return octets.len();
        }
        let Some(&[_, _, _, high, low]) = octets.get(whole..whole + RECORD_HEADER) else {
            break;
        };
        let end = whole + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        if end > octets.len() {
            break;
        }
        whole = end;
    }
    whole
}
