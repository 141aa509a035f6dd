//! SIP over WebSocket (RFC 7118, RFC 6455): the opening request read here, frames by tungstenite, which sees octets and no
//! socket. One message is one SIP message; pings are answered below it. Everything but `/ws` is answered 404 and told
//! nothing more.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::Arc,
};

use tungstenite::{
    Error, Message, Utf8Bytes, WebSocket,
    error::CapacityError,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

/// Where SIP is spoken.
const PATH: &str = "/ws";
/// Its name in `Sec-WebSocket-Protocol`: RFC 7118 §3.
const SUBPROTOCOL: &str = "sip";
/// Octets and fields of an opening request.
const HEAD: usize = 8 * 1024;
const FIELDS: usize = 48;
/// Octets read from one connection before they are looked at: small, because every connection keeps them.
const READ_BUFFER: usize = 1024;

/// Why a far end's WebSocket is of no use; counted and logged with its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No request of HTTP/1.1, or one that does not end.
    #[error("not-http")]
    NotHttp,
    /// Another path, or no wish for WebSocket.
    #[error("not-found")]
    NotFound,
    /// Not as RFC 6455 §4.2.1 and RFC 7118 §4.1 have it: version, key, subprotocol.
    #[error("bad-upgrade")]
    BadUpgrade,
    /// A page that may not connect.
    #[error("origin-refused")]
    Origin,
    /// Frames that RFC 6455 does not know: unmasked, of a reserved kind, out of order.
    #[error("bad-frame")]
    BadFrame,
    /// Longer than a SIP message may be.
    #[error("message-too-large")]
    TooLarge,
}

/// What a listener demands.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Origins that may connect besides the listener's own host.
    pub origins: Vec<String>,
    /// Octets of a message.
    pub message_octets: usize,
}

/// One connection's WebSocket.
pub enum Socket {
    /// The opening request is not complete.
    Opening {
        /// What has come of it.
        head: Vec<u8>,
        /// What it must fulfil.
        terms: Arc<Terms>,
    },
    /// Frames.
    Open(Box<WebSocket<Pipe>>),
}

/// What came of octets.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The opening is done.
    Opened,
    /// A SIP message, or a keep-alive of RFC 5626.
    Message(Vec<u8>),
    /// The far end wants to close.
    Closed,
}

impl Socket {
    /// Awaits the opening request.
    #[must_use]
    pub const fn new(terms: Arc<Terms>) -> Self {
        Self::Opening {
            head: Vec::new(),
            terms,
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
        heard: &mut Vec<Heard>,
    ) -> Result<(), Fault> {
        match self {
            Self::Opening { head, terms } => {
                // What comes before the answer is no frame: a client waits for it.
                if head.len() + octets.len() > HEAD {
                    return Err(refuse(send, Fault::NotHttp));
                }
                head.extend_from_slice(octets);
                match open(head, terms) {
                    Ok(None) => Ok(()),
                    Ok(Some(answer)) => {
                        send.extend(answer);
                        let config = config(terms);
                        *self = Self::Open(Box::new(WebSocket::from_raw_socket(
                            Pipe::default(),
                            Role::Server,
                            Some(config),
                        )));
                        heard.push(Heard::Opened);
                        Ok(())
                    }
                    Err(fault) => Err(refuse(send, fault)),
                }
            }
            Self::Open(socket) => {
                socket.get_mut().inward.extend(octets);
                let read = read(socket, heard);
                send.append(&mut socket.get_mut().outward);
                read
            }
        }
    }

    /// Frames one message. Nothing before the opening is done.
    pub fn send(&mut self, message: &[u8], send: &mut Vec<u8>) {
        let Self::Open(socket) = self else { return };
        // RFC 7118 §5.1: text where it is text.
        let message = match Utf8Bytes::try_from(message.to_vec()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(message.to_vec().into()),
        };
        // The pipe takes everything; after a close nothing is to be said any more.
        let _ = socket.send(message);
        send.append(&mut socket.get_mut().outward);
    }

    /// Says that no more is to come.
    pub fn close(&mut self, send: &mut Vec<u8>) {
        if let Self::Open(socket) = self {
            let _ = socket.close(None);
            let _ = socket.flush();
            send.append(&mut socket.get_mut().outward);
        }
    }
}

fn read(socket: &mut WebSocket<Pipe>, heard: &mut Vec<Heard>) -> Result<(), Fault> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => heard.push(Heard::Message(text.as_bytes().to_vec())),
            Ok(Message::Binary(octets)) => heard.push(Heard::Message(octets.to_vec())),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                let _ = socket.flush();
            }
            Ok(Message::Close(_)) => {
                let _ = socket.flush();
                heard.push(Heard::Closed);
                return Ok(());
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                heard.push(Heard::Closed);
                return Ok(());
            }
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                return Err(Fault::TooLarge);
            }
            Err(_) => return Err(Fault::BadFrame),
        }
    }
}

fn config(terms: &Terms) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(terms.message_octets))
        .max_frame_size(Some(terms.message_octets))
        .accept_unmasked_frames(false)
}

/// The answer to a complete opening request; `None` while it is not complete.
fn open(head: &[u8], terms: &Terms) -> Result<Option<Vec<u8>>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(head).map_err(|_| Fault::NotHttp)?
    else {
        return Ok(None);
    };
    if length != head.len() || request.version != Some(1) {
        return Err(Fault::NotHttp);
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let one = |name: &str| one(request.headers, name);
    let wants = tokens(request.headers, "Upgrade", "websocket")
        && tokens(request.headers, "Connection", "upgrade");
    if request.method != Some("GET") || path != PATH || !wants {
        return Err(Fault::NotFound);
    }
    let key = one("Sec-WebSocket-Key").filter(|key| is_key(key));
    let (Some(key), Some(host), Some("13")) = (key, one("Host"), one("Sec-WebSocket-Version"))
    else {
        return Err(Fault::BadUpgrade);
    };
    if !tokens(request.headers, "Sec-WebSocket-Protocol", SUBPROTOCOL) {
        return Err(Fault::BadUpgrade);
    }
    let from_page = request
        .headers
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("Origin"));
    if from_page && !one("Origin").is_some_and(|origin| may_connect(origin, host, terms)) {
        return Err(Fault::Origin);
    }
    let accept = derive_accept_key(key.as_bytes());
    Ok(Some(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        )
        .into_bytes(),
    ))
}

/// RFC 6454: a page of the host that it connects to, or one that the configuration names.
fn may_connect(origin: &str, host: &str, terms: &Terms) -> bool {
    let own = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    own || terms
        .origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
}

/// RFC 6455 §4.2.1: 16 octets in base64.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key
            .bytes()
            .take(22)
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/'))
}

/// The value of a field that stands once.
fn one<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let mut named = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name));
    let value = named.next()?.value;
    named.next().is_none().then_some(())?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// Whether a list field has this token.
fn tokens(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name))
        .filter_map(|field| std::str::from_utf8(field.value).ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn refuse(send: &mut Vec<u8>, fault: Fault) -> Fault {
    let status = match fault {
        Fault::NotFound => "404 Not Found",
        Fault::Origin => "403 Forbidden",
        _ => "400 Bad Request",
    };
    send.extend(
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").bytes(),
    );
    fault
}

/// Octets between the connection and tungstenite.
#[derive(Debug, Default)]
pub struct Pipe {
    inward: VecDeque<u8>,
    outward: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inward.is_empty() {
            // An idle connection keeps no room for what it once received.
            self.inward = VecDeque::new();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inward.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.outward.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
