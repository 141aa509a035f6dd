//! The console as a person meets it: bytes of keys in, the rendered screen out. A VT100 emulator stands for the terminal and
//! answers the question for its size; init is played by the test.

use broker_proto::{
    RequestId,
    control::{Command, FromChild, LogIn},
};

use super::{app::App, screen::Size, terminal::Terminal};

mod menu;
mod operator;
mod terminal;
mod trial;
mod wizard;

const PORTS: &str = "eth0 52:54:00:00:00:01 virtio_net up\neth1 52:54:00:00:00:02 virtio_net up\neth2 52:54:00:00:00:03 e1000e down\n";

/// As init prints it.
const FINGERPRINT: &str = "0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9";

/// Id, document, secrets.
type Proposal = (RequestId, String, Vec<(String, Vec<u8>)>);

/// Terminal, console and init.
struct Session {
    app: App,
    terminal: Terminal,
    emulator: vt100::Parser,
    size: Size,
    now: u64,
    sent: Vec<FromChild>,
    /// Documents whose certificate was asked for.
    prepared: Vec<String>,
    /// Everything that was ever written to the terminal.
    written: Vec<u8>,
}

impl Session {
    fn new(size: Size) -> Self {
        let mut session = Self {
            app: App::default(),
            terminal: Terminal::new(0),
            emulator: vt100::Parser::new(
                u16::try_from(size.rows).expect("rows"),
                u16::try_from(size.columns).expect("columns"),
                0,
            ),
            size,
            now: 0,
            sent: Vec::new(),
            prepared: Vec::new(),
            written: Vec::new(),
        };
        session.settle();
        session
    }

    /// A box that was never set up.
    fn first() -> Self {
        let mut session = Self::new(Size::USUAL);
        session.app.configuration(0, "");
        session.settle();
        session
    }

    /// Lets bytes flow until nothing more happens; init lists its ports when asked.
    fn settle(&mut self) {
        loop {
            self.app.tick(self.now);
            for message in self.app.take_messages() {
                if let FromChild::Command {
                    id,
                    command: Command::Ports,
                } = message
                {
                    self.app.answer(id, Ok(PORTS.into()));
                } else if let FromChild::Prepare { id, document } = &message {
                    self.prepared.push(document.clone());
                    self.app.answer(*id, Ok(FINGERPRINT.into()));
                } else {
                    self.sent.push(message);
                }
            }
            self.terminal.show(&self.app);
            let bytes = self.terminal.output().to_vec();
            if bytes.is_empty() {
                return;
            }
            self.terminal.written(bytes.len());
            self.emulator.process(&bytes);
            self.written.extend_from_slice(&bytes);
            if bytes.ends_with(b"\x1b[6n") {
                let report = format!("\x1b[{};{}R", self.size.rows, self.size.columns);
                self.type_bytes(report.as_bytes());
            }
        }
    }

    fn type_bytes(&mut self, bytes: &[u8]) {
        self.now += 20;
        for key in self.terminal.input(bytes, self.now) {
            self.app.key(key);
        }
    }

    fn keys(&mut self, text: &str) -> &mut Self {
        self.type_bytes(text.as_bytes());
        self.settle();
        self
    }

    /// Escape needs a pause behind it.
    fn escape(&mut self) -> &mut Self {
        self.keys("\x1b");
        self.now += 200;
        if let Some(key) = self.terminal.tick(self.now) {
            self.app.key(key);
        }
        self.settle();
        self
    }

    fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    #[track_caller]
    fn sees(&mut self, text: &str) -> &mut Self {
        assert!(
            self.screen().contains(text),
            "`{text}` is not on the screen:\n{}",
            self.screen()
        );
        self
    }

    /// Tab to a field by its label and replace what is in it.
    #[track_caller]
    fn fill(&mut self, label: &str, value: &str) -> &mut Self {
        self.focus(label);
        self.keys("\x15");
        self.keys(value)
    }

    #[track_caller]
    fn focus(&mut self, label: &str) -> &mut Self {
        for _ in 0..40 {
            let (row, _) = self.emulator.screen().cursor_position();
            let line = self
                .emulator
                .screen()
                .rows(0, 300)
                .nth(usize::from(row))
                .unwrap_or_default();
            if line.contains(label) {
                return self;
            }
            self.keys("\t");
        }
        panic!("no focus on `{label}`:\n{}", self.screen());
    }

    /// Presses the button of that name at the bottom.
    #[track_caller]
    fn press(&mut self, label: &str) -> &mut Self {
        for _ in 0..40 {
            let (row, column) = self.emulator.screen().cursor_position();
            let line: String = self
                .emulator
                .screen()
                .rows(0, 300)
                .nth(usize::from(row))
                .unwrap_or_default()
                .chars()
                .skip(usize::from(column))
                .collect();
            if line.starts_with(&format!("[ {label}")) || line.starts_with(label) {
                return self.keys("\r");
            }
            self.keys("\t");
        }
        panic!("no button `{label}`:\n{}", self.screen());
    }

    /// Chooses with the right arrow until the option shows.
    #[track_caller]
    fn choose(&mut self, label: &str, option: &str) -> &mut Self {
        self.focus(label);
        for _ in 0..20 {
            let (row, _) = self.emulator.screen().cursor_position();
            let line = self
                .emulator
                .screen()
                .rows(0, 300)
                .nth(usize::from(row))
                .unwrap_or_default();
            if line.contains(&format!("< {option}")) {
                return self;
            }
            self.keys("\x1b[C");
        }
        panic!("`{label}` has no option `{option}`:\n{}", self.screen());
    }

    fn proposal(&mut self) -> Option<Proposal> {
        let at = self
            .sent
            .iter()
            .position(|message| matches!(message, FromChild::Propose { .. }))?;
        match self.sent.remove(at) {
            FromChild::Propose {
                id,
                document,
                secrets,
            } => Some((
                id,
                document,
                secrets
                    .iter()
                    .map(|(name, value)| (name.clone(), value.0.clone()))
                    .collect(),
            )),
            _ => None,
        }
    }

    /// The password that was sent, and what init says to it.
    fn answer_log_in(&mut self, result: LogIn) -> Option<Vec<u8>> {
        let at = self
            .sent
            .iter()
            .position(|message| matches!(message, FromChild::LogIn { .. }))?;
        let FromChild::LogIn { id, password } = self.sent.remove(at) else {
            return None;
        };
        self.app.logged_in(id, result);
        self.settle();
        Some(password.0.clone())
    }

    fn command(&mut self) -> Option<(RequestId, Command)> {
        let at = self
            .sent
            .iter()
            .position(|message| matches!(message, FromChild::Command { .. }))?;
        match self.sent.remove(at) {
            FromChild::Command { id, command } => Some((id, command)),
            _ => None,
        }
    }
}

/// Fills in every page up to the review.
fn to_review(session: &mut Session) {
    session.sees("Language").press("Next");
    session.fill("Host name", "gate-1").press("Next");
    session
        .choose("External zone", "eth0")
        .choose("Internal zone", "eth1")
        .choose("Management zone", "eth2")
        .press("Next");
    session
        .choose("IPv4", "static")
        .fill("address/length", "198.51.100.1/24")
        .fill("default gateway", "198.51.100.254");
    session.choose("IPv6", "off").press("Next");
    session
        .sees("Internal zone")
        .fill("address/length", "192.0.2.1/24")
        .press("Next");
    session
        .sees("Management zone")
        .fill("address/length", "203.0.113.1/24")
        .press("Next");
    session
        .fill("Name servers", "192.0.2.53")
        .fill("Time servers", "192.0.2.53 198.51.100.9:1123")
        .press("Next");
    session
        .fill("Password", "correct horse battery")
        .fill("Once more", "correct horse battery")
        .press("Next");
    session
        .fill("SIP domain", "example.org")
        .fill("PBX addresses", "192.0.2.10")
        .fill("Internal numbers", "1000-1999")
        .press("Next");
    session
        .fill("Carrier addresses", "198.51.100.20")
        .fill("User", "4930")
        .fill("Realm", "carrier.example");
    session
        .fill("Password", "trunk secret")
        .fill("Own number", "+49301234")
        .press("Next");
}

/// A box that runs, with an operator at it.
fn running() -> Session {
    let mut session = locked();
    session
        .press("Log in")
        .fill("Password", "correct horse battery");
    session.press("Log in");
    session.answer_log_in(LogIn::Opened).expect("asked");
    session
}

/// A box that runs, with somebody at it.
fn locked() -> Session {
    let mut session = Session::new(Size::USUAL);
    session
        .app
        .configuration(7, include_str!("../../../../tests/lab/gatehouse.toml"));
    session.app.status(vec![
        (
            "warning".into(),
            "configuration revision 8 is passed over: its checksum is wrong".into(),
        ),
        ("version".into(), "0.1.0".into()),
        ("zone external".into(), "ext0 up 198.51.100.1".into()),
        ("calls".into(), "3".into()),
        ("certificate".into(), "AB:CD:EF".into()),
    ]);
    session.settle();
    session
}
