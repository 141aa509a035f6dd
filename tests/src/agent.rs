//! A small SIP user agent for tests: sends what it is told, even nonsense, and reads answers with a few text functions of
//! its own, so that it shares no mistake with the product's parser. UDP only; TCP peers are played by sipp.

use std::{
    fmt::Write as _,
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::lab::topology::inside;

/// Longest wait for a message that must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message as read from the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request-line or status-line.
    pub start: String,
    /// Header fields in order, names in lower case, long form.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
    /// Where it came from.
    pub source: SocketAddr,
}

impl Message {
    /// Splits the bytes of a datagram; malformed header lines are left out.
    #[must_use]
    pub fn read(bytes: &[u8], source: SocketAddr) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (long_form(name.trim()), value.trim().to_owned()))
            .collect();
        Self {
            start,
            headers,
            body: body.to_owned(),
            source,
        }
    }

    /// First value of a header field, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map_or("", |(_, value)| value)
    }

    /// All values of a header field.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Method of a request, empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        if self.start.starts_with("SIP/2.0 ") {
            ""
        } else {
            self.start.split(' ').next().unwrap_or_default()
        }
    }

    /// Request-URI of a request.
    #[must_use]
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Status code of a response, 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// Everything as one text, for searching.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text + "\r\n" + &self.body
    }

    /// Address and port of the first audio stream of the body.
    #[must_use]
    pub fn audio(&self) -> Option<SocketAddr> {
        let mut address = None;
        let mut port = None;
        for line in self.body.lines() {
            if let Some(rest) = line
                .strip_prefix("c=IN IP4 ")
                .or_else(|| line.strip_prefix("c=IN IP6 "))
            {
                address = rest.trim().parse().ok();
            }
            if let Some(rest) = line.strip_prefix("m=audio ") {
                port = rest.split(' ').next().and_then(|port| port.parse().ok());
            }
        }
        Some(SocketAddr::new(address?, port?))
    }
}

fn long_form(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "l" => "content-length",
        "c" => "content-type",
        other => other,
    }
    .to_owned()
}

/// Value of `;name=` in a header field, or of `name=` in a challenge.
#[must_use]
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let at = value.find(&format!("{name}="))? + name.len() + 1;
    let rest = value.get(at..)?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([';', ',', '>', ' ']).next(),
    }
}

/// The user agent.
pub struct Agent {
    socket: UdpSocket,
    /// Own address.
    pub local: SocketAddr,
    /// User part of its URIs.
    pub user: String,
    /// Host part of its From URI.
    pub domain: String,
}

/// Counts up: tags, branches and Call-IDs of one test run are all different.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{:x}{:04x}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// One side of a call that the agent is in.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Own From or To value with tag.
    pub local: String,
    /// The other's.
    pub remote: String,
    /// Where requests go: URI.
    pub target: String,
    /// Where they are sent: address.
    pub destination: SocketAddr,
    /// Route header fields.
    pub routes: Vec<String>,
    /// Last own CSeq number.
    pub sequence: u32,
}

impl Agent {
    /// An agent bound to `local` inside `namespace`.
    ///
    /// # Errors
    /// The address is not there or taken.
    pub fn bind(namespace: &str, local: &str, user: &str) -> io::Result<Self> {
        let address: SocketAddr = local.parse().map_err(io::Error::other)?;
        let socket = inside(namespace, || UdpSocket::bind(address))??;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            local,
            user: user.to_owned(),
            domain: "lab.test".into(),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, to).map(|_| ())
    }

    /// The next datagram, `None` after `wait`.
    #[must_use]
    pub fn receive(&self, wait: Duration) -> Option<Message> {
        let mut buffer = vec![0; 65_536];
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))
            .ok()?;
        let (length, source) = self.socket.recv_from(&mut buffer).ok()?;
        Some(Message::read(buffer.get(..length)?, source))
    }

    /// The next message for which `wanted` holds; others are passed over.
    ///
    /// # Panics
    /// None came in time.
    #[must_use]
    pub fn expect(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.receive(left) {
                Some(message) if wanted(&message) => return message,
                Some(message) => others.push(message.start),
                None => break,
            }
        }
        panic!(
            "{} at {} waited in vain for {what}; got {others:?}",
            self.user, self.local
        );
    }

    /// The next request of a method.
    #[must_use]
    pub fn expect_request(&self, method: &str) -> Message {
        self.expect(method, |message| message.method() == method)
    }

    /// The next response of a status code.
    #[must_use]
    pub fn expect_status(&self, status: u16) -> Message {
        self.expect(&status.to_string(), |message| message.status() == status)
    }

    /// Whether nothing at all comes for `wait`.
    #[must_use]
    pub fn hears_nothing(&self, wait: Duration) -> bool {
        self.receive(wait).is_none()
    }

    /// Own contact URI.
    #[must_use]
    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.local)
    }

    /// A request outside any dialog, and the dialog that it may begin.
    #[must_use]
    pub fn request(
        &self,
        method: &str,
        uri: &str,
        to: SocketAddr,
        extra: &str,
        body: &str,
    ) -> (String, Dialog) {
        let dialog = Dialog {
            call_id: format!("{}@{}", fresh(), self.local.ip()),
            local: format!("<sip:{}@{}>;tag={}", self.user, self.domain, fresh()),
            remote: format!("<{uri}>"),
            target: uri.to_owned(),
            destination: to,
            routes: Vec::new(),
            sequence: 1,
        };
        (self.write(method, &dialog, extra, body), dialog)
    }

    /// The text of a request in a dialog at its present CSeq number.
    #[must_use]
    pub fn write(&self, method: &str, dialog: &Dialog, extra: &str, body: &str) -> String {
        let mut text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{};rport\r\nMax-Forwards: 70\r\n",
            dialog.target,
            self.local,
            fresh()
        );
        for route in &dialog.routes {
            let _ = write!(text, "Route: {route}\r\n");
        }
        let _ = write!(
            text,
            "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\nContact: {}\r\n{extra}",
            dialog.local,
            dialog.remote,
            dialog.call_id,
            dialog.sequence,
            self.contact()
        );
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        text
    }

    /// Calls `uri` at `to` with an offer of G.711 at `media`.
    ///
    /// # Panics
    /// The kernel refuses.
    #[must_use]
    pub fn invite(&self, uri: &str, to: SocketAddr, media: SocketAddr) -> (String, Dialog) {
        let (text, dialog) = self.request("INVITE", uri, to, "", &description(media));
        self.send(to, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
        (text, dialog)
    }

    /// Acknowledges a 2xx and completes the dialog with what it says.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn acknowledge(&self, dialog: &mut Dialog, answer: &Message) {
        answer.header("to").clone_into(&mut dialog.remote);
        dialog.target = uri_of(answer.header("contact")).to_owned();
        dialog.routes = answer
            .all("record-route")
            .into_iter()
            .rev()
            .map(str::to_owned)
            .collect();
        let text = self.write("ACK", dialog, "", "");
        self.send(dialog.destination, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Acknowledges a final response other than 2xx (same branch as the INVITE, RFC 3261 §17.1.1.3).
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn acknowledge_failure(&self, invite: &str, answer: &Message) {
        let request = Message::read(invite.as_bytes(), self.local);
        let text = format!(
            "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
            request.uri(),
            request.header("via"),
            request.header("from"),
            answer.header("to"),
            request.header("call-id"),
            request.header("cseq").split(' ').next().unwrap_or_default()
        );
        self.send(answer.source, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Sends a request in the dialog with the next CSeq number.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn send_in(&self, dialog: &mut Dialog, method: &str, extra: &str, body: &str) {
        dialog.sequence += 1;
        let text = self.write(method, dialog, extra, body);
        self.send(dialog.destination, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Answers a request; a tag is added to To unless it has one. With `body`, an SDP body and a contact go along.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn respond(&self, request: &Message, status: &str, tag: &str, extra: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["via", "record-route", "from"] {
            for value in request.all(name) {
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        let to = request.header("to");
        let tagged = if to.contains(";tag=") || tag.is_empty() {
            to.to_owned()
        } else {
            format!("{to};tag={tag}")
        };
        let _ = write!(
            text,
            "To: {tagged}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n{extra}",
            request.header("call-id"),
            request.header("cseq"),
            self.contact()
        );
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        self.send(request.source, text.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// The dialog of a call that came in as `invite` and was answered under `tag`.
    #[must_use]
    pub fn dialog_of(&self, invite: &Message, tag: &str) -> Dialog {
        Dialog {
            call_id: invite.header("call-id").to_owned(),
            local: format!("{};tag={tag}", invite.header("to")),
            remote: invite.header("from").to_owned(),
            target: uri_of(invite.header("contact")).to_owned(),
            destination: invite.source,
            routes: invite
                .all("record-route")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            sequence: 100,
        }
    }
}

/// URI inside `<…>` of a name-addr.
#[must_use]
pub fn uri_of(value: &str) -> &str {
    value
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or(value, |(uri, _)| uri)
}

/// An offer or answer of G.711 A-law and µ-law with telephone events at `media`.
#[must_use]
pub fn description(media: SocketAddr) -> String {
    let family = if media.is_ipv4() { "IP4" } else { "IP6" };
    let (host, port) = (media.ip(), media.port());
    format!(
        "v=0\r\no=test 1 1 IN {family} {host}\r\ns=test-session\r\nc=IN {family} {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 0 101\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}
