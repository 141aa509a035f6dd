//! Real telephones of different makers, one face for all: started in a namespace, registered, dialled, held, transferred and
//! listened to. Each plays a tone of its own and records what it hears. Used by the interworking tests.

mod baresip;
mod linphone;
mod pjsua;
mod sound;

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use sound::{Heard, Mark};

use super::{peers::Account, run, state};
use crate::api::eventually;

/// How long one waits for what a telephone is to do or hear.
const PATIENCE: Duration = Duration::from_secs(10);
/// Share of a tone's power from which on it is heard.
const CLEAR: f64 = 0.8;

/// A maker's telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// baresip (Debian).
    Baresip,
    /// linphonec (Debian).
    Linphone,
    /// PJSIP by its Python face (PyPI).
    Pjsua,
}

impl Make {
    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Baresip => "baresip",
            Self::Linphone => "linphone",
            Self::Pjsua => "pjsua",
        }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_installed(self) -> bool {
        let has = |file: &str| Path::new(file).exists();
        match self {
            Self::Baresip => has("/usr/bin/baresip"),
            Self::Linphone => has("/usr/bin/linphonec"),
            Self::Pjsua => pjsua::library().join("pjsua2").exists(),
        }
    }
}

/// How a telephone speaks SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS, the server's certificate checked against the laboratory's CA; media by SRTP.
    Tls,
}

impl Over {
    /// As a URI's `transport`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

/// What a telephone does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// It answers.
    AtOnce,
    /// It rings until it is told to answer.
    WhenTold,
    /// It sends 183 and its tone, and answers when it is told to.
    EarlyMedia,
}

/// One telephone to be started.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Whose telephone.
    pub make: Make,
    /// How it speaks.
    pub over: Over,
    /// Its number and password.
    pub account: Account,
    /// Network namespace.
    pub namespace: &'a str,
    /// Its own address.
    pub address: IpAddr,
    /// Where it registers and sends everything to.
    pub registrar: IpAddr,
    /// Its tone.
    pub tone_hz: u32,
    /// Which of the telephones at that address it is, 0 to 9: decides its ports.
    pub place: u16,
    /// What it does when it is called.
    pub answers: Answers,
    /// It wants provisional responses acknowledged (PRACK), where its maker can.
    pub reliable: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.address.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        write!(f, "{} {} {family}", self.make.word(), self.over.word())
    }
}

impl Line<'_> {
    /// `address:port` of the registrar for this transport.
    fn server(&self) -> String {
        SocketAddr::new(self.registrar, self.over.port()).to_string()
    }

    /// Its SIP port; the next one is for TLS, where a maker wants two.
    const fn sip_port(&self) -> u16 {
        5070 + 2 * self.place
    }

    /// Port by which it is told what to do, where it has one.
    const fn control_port(&self) -> u16 {
        4440 + self.place
    }

    /// First of a hundred ports for its media.
    const fn media_port(&self) -> u16 {
        20_000 + 100 * self.place
    }
}

/// What a maker's telephone can be told.
trait Handset {
    /// Does what is wanted, in its own words; it may be unable to.
    fn tell(&mut self, order: &Order<'_>) -> io::Result<()>;
    /// Whether its log says that it is registered.
    fn registered(&self, log: &str) -> bool;
    /// Its recordings, in order of time.
    fn recordings(&self, folder: &Path) -> Vec<PathBuf>;
}

/// A key pressed.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// Call.
    Dial(&'a str),
    /// Answer what rings.
    Accept,
    /// End the call.
    HangUp,
    /// Put the call on hold.
    Hold,
    /// Take it back.
    Resume,
    /// Transfer the call there, blindly.
    Transfer(&'a str),
    /// Call another while the first call is on hold.
    Consult(&'a str),
    /// Connect the two of them.
    Join,
    /// Unregister and end.
    Quit,
}

fn unable() -> io::Error {
    io::Error::other("this telephone cannot do that")
}

/// A telephone that runs; it unregisters and ends with this value.
pub struct Telephone {
    handset: Box<dyn Handset>,
    child: Child,
    folder: PathBuf,
    mark: Mark,
    namespace: String,
    media_port: u16,
    sealed: bool,
}

impl Telephone {
    /// Starts one.
    ///
    /// # Errors
    /// It is not installed, or its folder cannot be written.
    pub fn start(line: &Line<'_>) -> io::Result<Self> {
        let folder = state().join(format!("phone-{}-{}", line.account.number, line.place));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        tone(&folder.join("tone.wav"), line.tone_hz)?;
        let (handset, child): (Box<dyn Handset>, Child) = match line.make {
            Make::Baresip => baresip::start(line, &folder)?,
            Make::Linphone => linphone::start(line, &folder)?,
            Make::Pjsua => pjsua::start(line, &folder)?,
        };
        Ok(Self {
            handset,
            child,
            folder,
            mark: Mark::default(),
            namespace: line.namespace.to_owned(),
            media_port: line.media_port(),
            sealed: line.over == Over::Tls,
        })
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("out.log"), read("debug.log")].concat()).into_owned()
    }

    /// Waits until it is registered.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        eventually(PATIENCE, || self.handset.registered(&self.log()))
    }

    /// Waits until its log has these words `times` times.
    #[must_use]
    pub fn says(&self, words: &str, times: usize, patience: Duration) -> bool {
        eventually(patience, || self.log().matches(words).count() >= times)
    }

    /// Presses a key.
    ///
    /// # Errors
    /// It does not run any more, or has no such key.
    pub fn press(&mut self, order: &Order<'_>) -> io::Result<()> {
        self.handset.tell(order)
    }

    /// From now on it counts what this telephone hears.
    pub fn mark(&mut self) {
        self.mark = self.now().mark();
    }

    /// Waits until it hears a tone clearly for 400 ms, counted from the mark; the tone's share of what it hears, which is
    /// below one half if that never happened.
    #[must_use]
    pub fn hears(&self, hz: u32) -> f64 {
        let mut share = 0.0;
        eventually(PATIENCE, || {
            share = self.now().share(&self.mark, f64::from(hz));
            share > CLEAR
        });
        if share > CLEAR {
            share
        } else {
            share.min(0.49)
        }
    }

    /// Waits until it gets RTP, looked at on the wire and not by the telephone: the share of a tone in it, `None` where it
    /// is sealed. baresip's recorder ends at the first re-INVITE, so this is how it is seen that a call goes on.
    ///
    /// # Errors
    /// Nothing comes.
    pub fn receives(&self, hz: u32) -> io::Result<Option<f64>> {
        let file = self.folder.join("wire.pcap");
        let ports = (self.media_port, self.media_port + 98);
        match sound::on_wire(&self.namespace, ports, f64::from(hz), &file)? {
            None => Err(io::Error::other("no RTP")),
            Some(_) if self.sealed => Ok(None),
            Some(share) => Ok(Some(share)),
        }
    }

    /// Waits until 400 ms without that tone have come since the mark, or nothing comes any more.
    #[must_use]
    pub fn misses(&mut self, hz: u32) -> bool {
        eventually(PATIENCE, || {
            let before = self.now().mark();
            let _ = eventually(Duration::from_millis(400), || false);
            let now = self.now();
            let silent = now.share(&before, f64::from(hz)) < 1.0 - CLEAR;
            self.mark = now.mark();
            silent
        })
    }

    fn now(&self) -> Heard {
        Heard::latest(&self.handset.recordings(&self.folder))
    }
}

impl Drop for Telephone {
    fn drop(&mut self) {
        let told = self.handset.tell(&Order::Quit).is_ok();
        let ended = told
            && eventually(Duration::from_secs(4), || {
                !matches!(self.child.try_wait(), Ok(None))
            });
        if !ended {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn tone(file: &Path, hz: u32) -> io::Result<()> {
    let (file, hz) = (file.display().to_string(), hz.to_string());
    run(
        "sox",
        &[
            "-n", "-r", "8000", "-c", "1", "-b", "16", &file, "synth", "120", "sine", &hz, "vol",
            "0.5",
        ],
    )
    .map(drop)
}
