//! A SIP user agent over TLS or WebSocket for tests: rustls and tungstenite at its end, and the few text functions of
//! [`crate::agent`].

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::{WebSocket, http::Request};

use crate::{agent::Message, lab::topology::inside};

/// Longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(5);

type Tls = StreamOwned<ClientConnection, TcpStream>;

enum Way {
    Tls(Box<Tls>, Vec<u8>),
    WebSocket(Box<WebSocket<Tls>>),
}

/// The user agent.
pub struct SecureAgent {
    way: Way,
    /// Own address.
    pub local: SocketAddr,
    /// The product's.
    pub gateway: SocketAddr,
}

/// Whose certificate is believed, which is shown: files of the laboratory.
pub struct Trust<'a> {
    /// Folder with `ca.pem`.
    pub folder: &'a Path,
    /// Name of the certificate that is shown.
    pub shown: Option<&'a str>,
}

/// A TCP connection from `source` inside `namespace`.
///
/// # Errors
/// As the kernel says.
pub fn connect(namespace: &str, source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = inside(namespace, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        io::Result::Ok(socket)
    })??;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn handshake(stream: TcpStream, host: &str, trust: &Trust<'_>) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(trust.folder.join("ca.pem"));
    roots
        .add(authority.map_err(io::Error::other)?)
        .map_err(io::Error::other)?;
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match trust.shown {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let file = |kind: &str| trust.folder.join(format!("{name}.{kind}"));
            let chain = CertificateDer::from_pem_file(file("pem")).map_err(io::Error::other)?;
            let key = PrivateKeyDer::from_pem_file(file("key")).map_err(io::Error::other)?;
            builder
                .with_client_auth_cert(vec![chain], key)
                .map_err(io::Error::other)?
        }
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = stream;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

impl SecureAgent {
    /// SIP over TLS.
    ///
    /// # Errors
    /// The connection or handshake fails.
    pub fn tls(stream: TcpStream, host: &str, trust: &Trust<'_>) -> io::Result<Self> {
        let (local, gateway) = (stream.local_addr()?, stream.peer_addr()?);
        let tls = handshake(stream, host, trust)?;
        Ok(Self {
            way: Way::Tls(Box::new(tls), Vec::new()),
            local,
            gateway,
        })
    }

    /// SIP over WebSocket over TLS.
    ///
    /// # Errors
    /// The connection or a handshake fails.
    pub fn wss(stream: TcpStream, host: &str, origin: &str, trust: &Trust<'_>) -> io::Result<Self> {
        let (local, gateway) = (stream.local_addr()?, stream.peer_addr()?);
        let tls = handshake(stream, host, trust)?;
        let request = Request::builder()
            .uri(format!("wss://{host}/ws"))
            .header("Host", host)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Origin", origin)
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Protocol", "sip")
            .body(())
            .map_err(io::Error::other)?;
        let (socket, _) = tungstenite::client(request, tls)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            way: Way::WebSocket(Box::new(socket)),
            local,
            gateway,
        })
    }

    /// Transport as Via has it.
    #[must_use]
    pub const fn via(&self) -> &'static str {
        match self.way {
            Way::Tls(..) => "TLS",
            Way::WebSocket(_) => "WSS",
        }
    }

    /// Transport as URIs have it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.way {
            Way::Tls(..) => "tls",
            Way::WebSocket(_) => "ws",
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, message: &str) -> io::Result<()> {
        match &mut self.way {
            Way::Tls(stream, _) => stream.write_all(message.as_bytes()),
            Way::WebSocket(socket) => socket
                .send(tungstenite::Message::text(message))
                .map_err(io::Error::other),
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// The connection is gone, or nothing came in time.
    pub fn receive(&mut self) -> io::Result<Message> {
        let gateway = self.gateway;
        match &mut self.way {
            Way::Tls(stream, buffer) => loop {
                if let Some(length) = whole(buffer) {
                    let rest = buffer.split_off(length);
                    let message = std::mem::replace(buffer, rest);
                    return Ok(Message::read(&message, gateway));
                }
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer.extend(piece.iter().take(count));
            },
            Way::WebSocket(socket) => loop {
                let message = socket.read().map_err(io::Error::other)?;
                if message.is_text() || message.is_binary() {
                    return Ok(Message::read(&message.into_data(), gateway));
                }
            },
        }
    }

    /// The next message for which `wanted` holds; others are passed over.
    ///
    /// # Panics
    /// None came in time.
    #[must_use]
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while Instant::now() < deadline {
            match self.receive() {
                Ok(message) if wanted(&message) => return message,
                Ok(message) => others.push(message.start),
                Err(error) => panic!("{} waited for {what}: {error}; got {others:?}", self.local),
            }
        }
        panic!("{} waited in vain for {what}; got {others:?}", self.local);
    }

    /// A request outside any dialog as this agent writes it. `number` is CSeq's.
    #[must_use]
    pub fn request(
        &self,
        line: (&str, &str),
        user: &str,
        call: &str,
        number: u32,
        more: &str,
        body: &str,
    ) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let (method, uri) = line;
        let (local, via, word) = (self.local, self.via(), self.word());
        let to = if method == "REGISTER" {
            format!("sip:{user}@lab.test")
        } else {
            uri.to_owned()
        };
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {local};branch=z9hG4bKs{}-{};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@lab.test>;tag={call}\r\nTo: <{to}>\r\nCall-ID: {call}@{}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:{user}@{local};transport={word}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed),
            local.ip(),
            body.len()
        )
    }

    /// Answers a request.
    ///
    /// # Panics
    /// The connection is gone.
    pub fn respond(&mut self, request: &Message, status: &str, more: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["via", "from", "call-id", "cseq"] {
            for value in request.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = request.header("to");
        let tag = if to.contains(";tag=") {
            ""
        } else {
            ";tag=secure"
        };
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        text += &format!(
            "To: {to}{tag}\r\nContact: <sip:secure@{};transport={}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            self.local,
            self.word(),
            body.len()
        );
        self.send(&text).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Length of the message at the front, if it is whole; keep-alives are passed over by the caller's patience.
fn whole(buffer: &[u8]) -> Option<usize> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(buffer.get(..end)?).ok()?;
    let body: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    (buffer.len() >= end + body).then_some(end + body)
}
