//! A simple scripted user agent over UDP: phone, PBX or carrier, by its script. It retransmits and answers
//! retransmissions as RFC 3261 wants, so that a lossy network does not make a call impossible.

mod server;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::text::{Message, audio, bracketed};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

/// What an agent does with a call that comes in.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Ring with 180 after this; `None`: do not ring, do not even say 100.
    pub(crate) ring: Option<Duration>,
    /// With a description in the 18x (183 instead of 180).
    pub(crate) early_media: bool,
    /// Final status after this; `None`: never.
    pub(crate) answer: Option<(Duration, u16)>,
    /// Challenge INVITE and REGISTER that bring no credentials (a PBX).
    pub(crate) challenge: bool,
    /// Names that the registrar knows.
    pub(crate) accounts: Vec<String>,
    /// Answer requests at all.
    pub(crate) alive: bool,
    /// Send ACK for a 2xx.
    pub(crate) acknowledge: bool,
    /// Put an offer into INVITE.
    pub(crate) offer: bool,
    /// Answer challenges.
    pub(crate) password: bool,
    /// Address in its descriptions, if it is not its own (behind a translator).
    pub(crate) media: Option<std::net::IpAddr>,
    /// Record-Route in its answers and requests, as a proxy would write it.
    pub(crate) record_route: Option<String>,
    /// Contact that it claims.
    pub(crate) claims: Option<String>,
    /// The least that it grants to a REGISTER.
    pub(crate) min_expires: u32,
    /// Service-Route in its answers to REGISTER.
    pub(crate) service_route: Option<String>,
    /// Where it says in the Via that it sees others.
    pub(crate) sees: Option<SocketAddr>,
    /// Draw a nonce of its own for every challenge.
    pub(crate) fresh_nonces: bool,
    /// Drop what names this account, as if it had not come.
    pub(crate) dislikes: Option<String>,
    /// Realm of its challenges.
    pub(crate) realm: String,
    /// `From` host of its calls.
    pub(crate) domain: String,
    /// Retry-After of its refusals.
    pub(crate) retry_after: Option<&'static str>,
    /// Resource-Priority of its calls.
    pub(crate) priority: Option<&'static str>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            ring: Some(Duration::from_millis(50)),
            early_media: false,
            answer: Some((Duration::from_secs(1), 200)),
            challenge: false,
            accounts: Vec::new(),
            alive: true,
            acknowledge: true,
            offer: true,
            password: true,
            media: None,
            record_route: None,
            claims: None,
            min_expires: 0,
            service_route: None,
            sees: None,
            fresh_nonces: false,
            dislikes: None,
            realm: "lab.test".into(),
            domain: "lab.test".into(),
            retry_after: None,
            priority: None,
        }
    }
}

/// Where a call of an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Inviting,
    Ringing,
    Talking,
    Failed(u16),
    Ended,
}

/// One dialog of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) state: State,
    pub(crate) caller: bool,
    pub(crate) call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    remote_cseq: u32,
    /// The INVITE that it answers, while it does.
    invite: Option<Message>,
    pub(crate) remote_sdp: String,
    pub(crate) statuses: Vec<u16>,
    pub(crate) direction: &'static str,
    cancel: bool,
    ack: Vec<u8>,
}

struct Client {
    dialog: Option<usize>,
    request: Message,
    method: String,
    branch: String,
    interval: Duration,
    next: Option<Instant>,
    until: Instant,
    to: (SocketAddr, SocketAddr),
}

/// Something an agent does later.
#[derive(Clone, Debug)]
enum Later {
    Ring(usize),
    Answer(usize, u16),
}

/// A final answer to INVITE that waits for its ACK.
struct Unacknowledged {
    call_id: String,
    cseq: u32,
    bytes: Vec<u8>,
    interval: Duration,
    next: Instant,
    until: Instant,
    to: SocketAddr,
}

pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) script: Script,
    pub(crate) dialogs: Vec<Dialog>,
    /// Contacts that registered here, by user.
    pub(crate) bindings: BTreeMap<String, String>,
    /// Status of every final answer to a request that is not INVITE, by method.
    pub(crate) answers: Vec<(String, u16)>,
    /// Everything received.
    pub(crate) inbox: Vec<Message>,
    /// What it sent last.
    last: Vec<u8>,
    /// To be sent.
    pub(crate) outbox: Vec<(SocketAddr, Vec<u8>)>,
    clients: Vec<Client>,
    responses: BTreeMap<(String, String), Vec<u8>>,
    unacknowledged: Vec<Unacknowledged>,
    later: Vec<(Instant, Later)>,
    counter: u64,
}

impl Agent {
    pub(crate) fn new(address: &str, user: &str, script: Script) -> Self {
        Self {
            address: address.parse().unwrap(),
            user: user.into(),
            script,
            dialogs: Vec::new(),
            bindings: BTreeMap::new(),
            answers: Vec::new(),
            inbox: Vec::new(),
            last: Vec::new(),
            outbox: Vec::new(),
            clients: Vec::new(),
            responses: BTreeMap::new(),
            unacknowledged: Vec::new(),
            later: Vec::new(),
            counter: 0,
        }
    }

    /// Octets of the last request that it began.
    pub(crate) fn last_sent(&self) -> Vec<u8> {
        self.last.clone()
    }

    fn unique(&mut self) -> String {
        self.counter += 1;
        format!("{}-{}", self.user.replace('+', "p"), self.counter)
    }

    fn contact(&self) -> String {
        match &self.script.claims {
            Some(contact) => contact.clone(),
            None => format!("<sip:{}@{}>", self.user, self.address),
        }
    }

    fn via(&mut self) -> String {
        let unique = self.unique();
        format!(
            "SIP/2.0/UDP {};branch=z9hG4bK-secret-{unique};rport",
            self.address
        )
    }

    pub(crate) fn sdp(&self, direction: &str) -> String {
        audio(
            self.script.media.unwrap_or(self.address.ip()),
            40_000 + self.address.port() % 1000,
            direction,
            "8 101",
        )
    }

    /// A call through `gateway`; returns the dialog's index.
    pub(crate) fn invite(&mut self, now: Instant, gateway: SocketAddr, uri: &str) -> usize {
        let unique = self.unique();
        self.dialogs.push(Dialog {
            state: State::Inviting,
            caller: true,
            call_id: format!("secret-call-{unique}@{}", self.address.ip()),
            local: format!(
                "<sip:{}@{}>;tag=secrettag-{unique}",
                self.user, self.script.domain
            ),
            remote: format!("<{uri}>"),
            target: uri.to_owned(),
            routes: Vec::new(),
            cseq: 0,
            remote_cseq: 0,
            invite: None,
            remote_sdp: String::new(),
            statuses: Vec::new(),
            direction: "sendrecv",
            cancel: false,
            ack: Vec::new(),
        });
        let index = self.dialogs.len() - 1;
        let offer = self.script.offer.then(|| self.sdp("sendrecv"));
        self.request_in_dialog(now, gateway, index, "INVITE", offer.as_deref(), None);
        index
    }

    /// A re-INVITE that changes the direction.
    pub(crate) fn reinvite(
        &mut self,
        now: Instant,
        gateway: SocketAddr,
        index: usize,
        direction: &'static str,
    ) {
        self.dialogs[index].direction = direction;
        let offer = self.sdp(direction);
        self.request_in_dialog(now, gateway, index, "INVITE", Some(&offer), None);
    }

    pub(crate) fn info(&mut self, now: Instant, gateway: SocketAddr, index: usize, digit: char) {
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        self.request_in_dialog(
            now,
            gateway,
            index,
            "INFO",
            Some(&body),
            Some("application/dtmf-relay"),
        );
    }

    pub(crate) fn in_dialog(
        &mut self,
        now: Instant,
        gateway: SocketAddr,
        index: usize,
        method: &str,
    ) {
        self.request_in_dialog(now, gateway, index, method, None, None);
    }

    pub(crate) fn hang_up(&mut self, now: Instant, gateway: SocketAddr, index: usize) {
        let dialog = &mut self.dialogs[index];
        match dialog.state {
            State::Talking => {
                dialog.state = State::Ended;
                self.request_in_dialog(now, gateway, index, "BYE", None, None);
            }
            State::Inviting | State::Ringing if dialog.caller => {
                dialog.cancel = true;
                if dialog.state == State::Ringing || !dialog.statuses.is_empty() {
                    self.cancel(now, gateway, index);
                }
            }
            _ => {}
        }
    }

    fn cancel(&mut self, now: Instant, gateway: SocketAddr, index: usize) {
        let invite = self
            .clients
            .iter()
            .find(|client| client.dialog == Some(index) && client.method == "INVITE");
        let Some(invite) = invite.map(|client| client.request.clone()) else {
            return;
        };
        let mut cancel = Message::request("CANCEL", invite.uri());
        for name in ["Via", "From", "To", "Call-ID", "Max-Forwards"] {
            cancel = cancel.with(name, invite.need(name));
        }
        let cancel = cancel.with("CSeq", format!("{} CANCEL", invite.cseq().0));
        self.start(now, gateway, Some(index), cancel);
    }

    /// REGISTER at the product or at the registrar.
    pub(crate) fn register(&mut self, now: Instant, gateway: SocketAddr, expires: u32) {
        self.register_as(now, gateway, &self.user.clone(), expires, false);
    }

    pub(crate) fn register_as(
        &mut self,
        now: Instant,
        gateway: SocketAddr,
        user: &str,
        expires: u32,
        with_password: bool,
    ) {
        let unique = self.unique();
        let aor = format!("<sip:{user}@lab.test>");
        let mut request = Message::request("REGISTER", "sip:lab.test")
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with("From", format!("{aor};tag=secrettag-{unique}"))
            .with("To", aor)
            .with("Call-ID", format!("secret-call-reg-{unique}"))
            .with("CSeq", format!("{} REGISTER", self.counter))
            .with("Contact", self.contact())
            .with("Expires", expires.to_string());
        if with_password {
            request = request.with("Authorization", credentials(user, "REGISTER"));
        }
        self.start(now, gateway, None, request);
    }

    pub(crate) fn options(&mut self, now: Instant, gateway: SocketAddr) {
        let unique = self.unique();
        let request = Message::request("OPTIONS", &format!("sip:{gateway}"))
            .with("Via", self.via())
            .with("Max-Forwards", "70")
            .with(
                "From",
                format!("<sip:{}@lab.test>;tag=secrettag-{unique}", self.user),
            )
            .with("To", format!("<sip:{gateway}>"))
            .with("Call-ID", format!("secret-call-opt-{unique}"))
            .with("CSeq", "1 OPTIONS");
        self.start(now, gateway, None, request);
    }

    fn request_in_dialog(
        &mut self,
        now: Instant,
        gateway: SocketAddr,
        index: usize,
        method: &str,
        body: Option<&str>,
        kind: Option<&str>,
    ) {
        let via = self.via();
        let contact = self.contact();
        let dialog = &mut self.dialogs[index];
        dialog.cseq += 1;
        let mut request = Message::request(method, &dialog.target)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", dialog.local.clone())
            .with("To", dialog.remote.clone())
            .with("Call-ID", dialog.call_id.clone())
            .with("CSeq", format!("{} {method}", dialog.cseq))
            .with("Contact", contact)
            .with("User-Agent", "SecretPhone 1.0");
        for route in &dialog.routes {
            request = request.with("Route", route.clone());
        }
        if let Some(value) = self.script.priority {
            request = request.with("Resource-Priority", value);
        }
        if let Some(body) = body {
            request = request.with_body(kind.unwrap_or("application/sdp"), body);
        }
        self.start(now, gateway, Some(index), request);
    }

    fn start(&mut self, now: Instant, to: SocketAddr, dialog: Option<usize>, request: Message) {
        self.last = request.bytes();
        self.outbox.push((to, request.bytes()));
        self.clients.push(Client {
            dialog,
            method: request.method().unwrap().to_owned(),
            branch: request.branch(),
            request,
            interval: T1,
            next: Some(now + T1),
            until: now + GIVE_UP,
            to: (self.address, to),
        });
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let clients = self
            .clients
            .iter()
            .map(|client| client.next.unwrap_or(client.until).min(client.until));
        let finals = self
            .unacknowledged
            .iter()
            .map(|waiting| waiting.next.min(waiting.until));
        let later = self.later.iter().map(|(at, _)| *at);
        clients.chain(finals).chain(later).min()
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        let mut dead = Vec::new();
        for client in &mut self.clients {
            if client.until <= now {
                dead.push((client.dialog, client.method.clone()));
            } else if client.next.is_some_and(|next| next <= now) {
                client.interval = (client.interval * 2).min(T2);
                client.next = Some(now + client.interval);
                self.outbox.push((client.to.1, client.request.bytes()));
            }
        }
        self.clients.retain(|client| client.until > now);
        for (dialog, method) in dead {
            match dialog {
                Some(index)
                    if method == "INVITE" && self.dialogs[index].state != State::Talking =>
                {
                    self.dialogs[index].state = State::Failed(408);
                }
                _ => self.answers.push((method, 408)),
            }
        }
        for waiting in &mut self.unacknowledged {
            if waiting.next <= now && waiting.until > now {
                waiting.interval = (waiting.interval * 2).min(T2);
                waiting.next = now + waiting.interval;
                self.outbox.push((waiting.to, waiting.bytes.clone()));
            }
        }
        self.unacknowledged.retain(|waiting| waiting.until > now);
        let due: Vec<Later> = self
            .later
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, what)| what.clone())
            .collect();
        self.later.retain(|(at, _)| *at > now);
        for what in due {
            match what {
                Later::Ring(index) => self.ring(now, index),
                Later::Answer(index, status) => self.final_answer(now, index, status),
            }
        }
    }

    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if bytes == b"\r\n\r\n" {
            return;
        }
        let message = Message::parse(bytes);
        self.inbox.push(message.clone());
        if !self.script.alive {
            return;
        }
        match message.status() {
            Some(status) => self.response(now, from, message, status),
            None => self.request(now, from, message),
        }
    }

    fn response(&mut self, now: Instant, from: SocketAddr, message: Message, status: u16) {
        let (_, method) = message.cseq();
        let branch = message.branch();
        let place = self
            .clients
            .iter()
            .position(|client| client.branch == branch && client.method == method);
        if method == "INVITE" {
            let index = self
                .dialogs
                .iter()
                .position(|dialog| dialog.call_id == message.need("Call-ID"));
            if let Some(index) = index {
                self.invite_response(now, from, &message, status, index, place);
            }
            return;
        }
        let Some(place) = place else { return };
        if status < 200 {
            return;
        }
        let client = self.clients.remove(place);
        let challenged = matches!(status, 401 | 407) && self.script.password;
        if challenged && client.request.get("Authorization").is_none() {
            let mut again = client.request.clone();
            again
                .headers
                .retain(|(name, _)| !matches!(name.as_str(), "Via" | "CSeq"));
            let again = Message {
                headers: vec![("Via".into(), self.via())],
                ..again.clone()
            }
            .with("CSeq", format!("{} {method}", client.request.cseq().0 + 1));
            let mut again = again;
            again.headers.extend(
                client
                    .request
                    .headers
                    .iter()
                    .filter(|(name, _)| !matches!(name.as_str(), "Via" | "CSeq"))
                    .cloned(),
            );
            let user = user_of(client.request.need("To"));
            let again = again.with("Authorization", credentials(&user, &method));
            self.start(now, from, client.dialog, again);
            return;
        }
        self.answers.push((method, status));
    }

    fn invite_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message,
        status: u16,
        index: usize,
        place: Option<usize>,
    ) {
        self.dialogs[index].statuses.push(status);
        if !message.body.is_empty() {
            self.dialogs[index].remote_sdp = message.body.clone();
        }
        match status {
            100..=199 => {
                if let Some(client) = place.and_then(|place| self.clients.get_mut(place)) {
                    client.next = None;
                    client.until = now + Duration::from_secs(300);
                }
                let dialog = &mut self.dialogs[index];
                if dialog.state == State::Inviting && status > 100 {
                    dialog.state = State::Ringing;
                }
                if dialog.cancel {
                    dialog.cancel = false;
                    self.cancel(now, from, index);
                }
            }
            200..=299 => {
                if place.is_none() {
                    let ack = self.dialogs[index].ack.clone();
                    if !ack.is_empty() {
                        self.outbox.push((from, ack));
                    }
                    return;
                }
                self.accepted(now, from, message, index, place);
            }
            _ => {
                let client = place.map(|place| self.clients.remove(place));
                self.refused(now, from, message, status, index, client);
            }
        }
    }

    fn accepted(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message,
        index: usize,
        place: Option<usize>,
    ) {
        let client = place.map(|place| self.clients.remove(place)).unwrap();
        let via = self.via();
        let offerless = client.request.body.is_empty();
        let answer = self.sdp("sendrecv");
        let dialog = &mut self.dialogs[index];
        dialog.remote = message.need("To").to_owned();
        dialog.target = bracketed(message.need("Contact"));
        dialog.routes = message.all("Record-Route").into_iter().rev().collect();
        let ended = dialog.state == State::Ended;
        dialog.state = State::Talking;
        let mut ack = Message::request("ACK", &dialog.target)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", dialog.local.clone())
            .with("To", dialog.remote.clone())
            .with("Call-ID", dialog.call_id.clone())
            .with("CSeq", format!("{} ACK", client.request.cseq().0));
        if offerless {
            ack = ack.with_body("application/sdp", &answer);
        }
        dialog.ack = ack.bytes();
        let crossed = dialog.cancel;
        if self.script.acknowledge {
            self.outbox.push((from, ack.bytes()));
        } else {
            self.dialogs[index].ack.clear();
        }
        if ended || crossed {
            self.hang_up(now, from, index);
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message,
        status: u16,
        index: usize,
        client: Option<Client>,
    ) {
        let invite = match &client {
            Some(client) => client.request.clone(),
            None => return self.acknowledge_again(from, message, index),
        };
        let mut ack = Message::request("ACK", invite.uri());
        for name in ["Via", "From", "Call-ID", "Max-Forwards"] {
            ack = ack.with(name, invite.need(name));
        }
        let ack = ack
            .with("To", message.need("To"))
            .with("CSeq", format!("{} ACK", invite.cseq().0));
        self.outbox.push((from, ack.bytes()));
        self.dialogs[index].ack = ack.bytes();
        let fresh = invite.get("Authorization").is_none() && self.script.password;
        if matches!(status, 401 | 407) && fresh && self.dialogs[index].state != State::Talking {
            let mut again = invite.clone();
            again
                .headers
                .retain(|(name, _)| !matches!(name.as_str(), "Via" | "CSeq"));
            again.headers.insert(0, ("Via".into(), self.via()));
            self.dialogs[index].cseq += 1;
            let again = again
                .with("CSeq", format!("{} INVITE", self.dialogs[index].cseq))
                .with("Authorization", credentials(&self.user, "INVITE"));
            self.start(now, from, Some(index), again);
            return;
        }
        if self.dialogs[index].state != State::Talking {
            self.dialogs[index].state = State::Failed(status);
        }
    }

    fn acknowledge_again(&mut self, from: SocketAddr, _message: &Message, index: usize) {
        let ack = self.dialogs[index].ack.clone();
        if !ack.is_empty() {
            self.outbox.push((from, ack));
        }
    }
}

fn credentials(user: &str, method: &str) -> String {
    format!(
        "Digest username=\"{user}\", realm=\"lab.test\", nonce=\"N0nce42\", uri=\"sip:lab.test\", response=\"good\", \
         algorithm=MD5, opaque=\"{method}\""
    )
}

pub(crate) fn user_of(value: &str) -> String {
    bracketed(value)
        .trim_start_matches("sip:")
        .split('@')
        .next()
        .unwrap()
        .to_owned()
}
