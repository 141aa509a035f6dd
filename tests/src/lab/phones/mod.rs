//! Real telephones of different makers, one face for all: started in a namespace, registered, dialled, held, transferred and
//! listened to. Each plays a tone of its own and records what it hears. Used by the interworking tests and `make lab-peers`.

mod baresip;
mod linphone;

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use super::{peers::Account, run, state};
use crate::api::eventually;

/// A maker's telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// baresip.
    Baresip,
    /// linphonec.
    Linphone,
}

/// How a telephone speaks SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS, the server's certificate checked against the laboratory's CA.
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
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let make = match self.make {
            Make::Baresip => "baresip",
            Make::Linphone => "linphone",
        };
        let family = if self.address.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        write!(f, "{make} {} {family}", self.over.word())
    }
}

impl Line<'_> {
    /// `address:port` of the registrar for this transport.
    fn server(&self) -> String {
        std::net::SocketAddr::new(self.registrar, self.over.port()).to_string()
    }
}

/// What a maker's telephone can be told.
trait Handset {
    /// Its words for a command; `None`: it cannot.
    fn tell(&mut self, order: &Order<'_>) -> io::Result<()>;
    /// Whether its log says that it is registered.
    fn registered(&self, log: &str) -> bool;
    /// Its recordings, in order of time.
    fn recordings(&self, folder: &Path) -> Vec<PathBuf>;
}

/// A key pressed.
enum Order<'a> {
    Dial(&'a str),
    HangUp,
    Hold,
    Resume,
    Transfer(&'a str),
}

/// A telephone that runs; it ends with this value.
pub struct Telephone {
    handset: Box<dyn Handset>,
    child: Child,
    folder: PathBuf,
}

impl Telephone {
    /// Starts one; it answers every call by itself.
    ///
    /// # Errors
    /// It is not installed, or its folder cannot be written.
    pub fn start(line: &Line<'_>) -> io::Result<Self> {
        let folder = state().join(format!("phone-{}", line.account.number));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        tone(&folder.join("tone.wav"), line.tone_hz)?;
        let (handset, child): (Box<dyn Handset>, Child) = match line.make {
            Make::Baresip => baresip::start(line, &folder)?,
            Make::Linphone => linphone::start(line, &folder)?,
        };
        Ok(Self {
            handset,
            child,
            folder,
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
        eventually(Duration::from_secs(15), || {
            self.handset.registered(&self.log())
        })
    }

    /// Dials.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn dial(&mut self, uri: &str) -> io::Result<()> {
        self.handset.tell(&Order::Dial(uri))
    }

    /// Hangs up.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn hang_up(&mut self) -> io::Result<()> {
        self.handset.tell(&Order::HangUp)
    }

    /// Holds its call.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn hold(&mut self) -> io::Result<()> {
        self.handset.tell(&Order::Hold)
    }

    /// Takes its call back.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn resume(&mut self) -> io::Result<()> {
        self.handset.tell(&Order::Resume)
    }

    /// Transfers its call blindly.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn transfer(&mut self, uri: &str) -> io::Result<()> {
        self.handset.tell(&Order::Transfer(uri))
    }

    /// Share of what it heard in its last call at `hz`, 0 to 1; ask when the call is over.
    #[must_use]
    pub fn heard(&self, hz: f64) -> f64 {
        self.handset
            .recordings(&self.folder)
            .last()
            .map_or(0.0, |recording| share_of(recording, hz))
    }
}

impl Drop for Telephone {
    fn drop(&mut self) {
        let _ = self.child.kill();
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

/// Share of a recording's power at `hz`: the recording's level against that of its narrow band.
#[must_use]
pub fn share_of(recording: &Path, hz: f64) -> f64 {
    let level = |filter: &[&str]| -> f64 {
        let output = Command::new("sox")
            .args(["-t", "wav", "--ignore-length"])
            .arg(recording)
            .arg("-n")
            .args(filter)
            .arg("stat")
            .output();
        let said = output.map(|output| output.stderr).unwrap_or_default();
        String::from_utf8_lossy(&said)
            .lines()
            .find_map(|line| line.strip_prefix("RMS     amplitude:"))
            .and_then(|level| level.trim().parse().ok())
            .unwrap_or(0.0)
    };
    let whole = level(&[]);
    let narrow = level(&["sinc", &format!("{}-{}", hz - 40.0, hz + 40.0)]);
    if whole > 0.001 {
        (narrow / whole).powi(2)
    } else {
        0.0
    }
}
