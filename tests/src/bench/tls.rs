//! The TLS bench: full handshakes of TLS 1.3 and 1.2 with our sbc, whose keyholder signs in a process of its own, and with
//! Kamailio's TLS (OpenSSL), with the same certificate, the same client, on the same cores, by turns. What counts is how many
//! a second of one core's time is good for: of ours everything counts that it takes, sbc, keyholder and the accepting of the
//! firewall. Then what an idle connection takes of the processes' memory.

use std::{
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use broker_proto::settings::{Listener, Settings, Transport, ZoneId};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{
    cpu,
    product::{Keyholder, Product},
    sip::{self, OUTSIDE},
};

const PORT: u16 = 5061;
const HOST: &str = "sbc.bench.test";
const CERTIFICATE: &str = "sip";
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that shake hands at once.
const CLIENTS: u32 = 4;
/// Tries of one handshake, less one.
const TRIES: usize = 3;
/// Connections before memory is measured: what all share is there by then.
const WARM: u32 = 200;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Handshakes of each version and round.
    pub handshakes: u32,
    /// Idle connections.
    pub idle: u32,
    /// Turns.
    pub rounds: u32,
}

/// What one of them did: a core's seconds and the clock's for the handshakes of each version.
#[derive(Default)]
struct Outcome {
    spent: [Duration; 2],
    took: [Duration; 2],
    /// Connections that it ended before they stood, and that were made again.
    ended: AtomicU32,
    /// Octets for each idle connection, of each round.
    memory: Vec<u64>,
}

/// The same certificate for both, and clients that trust it.
struct Certified {
    chain: String,
    key: String,
    clients: [Arc<ClientConfig>; 2],
}

/// Measures; the table goes to standard output, the result is for the JSON line.
///
/// # Errors
/// When Kamailio with its TLS, the sbc or the keyholder fail or are not there.
pub fn run(plan: Plan) -> io::Result<Value> {
    let certified = Certified::make()?;
    let (mut ours, mut theirs) = (Outcome::default(), Outcome::default());
    for _ in 0..plan.rounds {
        {
            let product = Product::start(settings())?;
            let keyholder = Keyholder::start(&product, CERTIFICATE, &certified.pem())?;
            let (sbc, keyholder) = (product.pid(), keyholder.pid());
            let used = || Ok(cpu::time(sbc)? + cpu::time(keyholder)? + product.accepting());
            measure(&mut ours, plan, &certified, &used, &|| proportional(sbc))
                .map_err(|error| told("gatehouse", error))?;
        }
        {
            let kamailio = Kamailio::start(&certified)?;
            let pid = kamailio.child.id();
            let used = || cpu::family_time(pid);
            measure(&mut theirs, plan, &certified, &used, &|| family(pid))
                .map_err(|error| told("kamailio", error))?;
        }
    }
    let handshakes = plan.handshakes * plan.rounds;
    println!(
        "TLS, {handshakes} full handshakes of each version, P-256; {} idle connections",
        plan.idle
    );
    println!(
        "{:<12} {:>22} {:>22} {:>18} {:>6}",
        "", "1.3 shakes/s and core", "1.2 shakes/s and core", "octets/connection", "ended"
    );
    for (name, outcome) in [("gatehouse", &ours), ("kamailio", &theirs)] {
        let [new, old] = outcome.rates(handshakes);
        println!(
            "{name:<12} {new:>22.0} {old:>22.0} {:>18}",
            outcome.octets()
        );
    }
    let ratios = [0, 1].map(|at| ours.rates(handshakes)[at] / theirs.rates(handshakes)[at]);
    println!(
        "ratio gatehouse/kamailio: TLS 1.3 {:.2}, TLS 1.2 {:.2}\n",
        ratios[0], ratios[1]
    );
    Ok(json!({
        "handshakes": handshakes,
        "idle": plan.idle,
        "ratio_tls13": ratios[0],
        "ratio_tls12": ratios[1],
        "gatehouse": ours.json(handshakes),
        "kamailio": theirs.json(handshakes),
    }))
}

impl Outcome {
    /// Handshakes per second of one core's time.
    fn rates(&self, handshakes: u32) -> [f64; 2] {
        self.spent
            .map(|spent| f64::from(handshakes) / spent.as_secs_f64().max(0.01))
    }

    /// The middle of the rounds.
    fn octets(&self) -> u64 {
        let mut memory = self.memory.clone();
        memory.sort_unstable();
        memory.get(memory.len() / 2).copied().unwrap_or_default()
    }

    fn json(&self, handshakes: u32) -> Value {
        let [new, old] = self.rates(handshakes);
        let by_clock = self
            .took
            .map(|took| f64::from(handshakes) / took.as_secs_f64());
        json!({
            "tls13_per_second_and_core": new,
            "tls12_per_second_and_core": old,
            "tls13_per_second": by_clock[0],
            "tls12_per_second": by_clock[1],
            "octets_per_idle_connection": self.octets(),
            "ended": self.ended.load(Ordering::Relaxed),
        })
    }
}

fn told(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn measure(
    outcome: &mut Outcome,
    plan: Plan,
    certified: &Certified,
    used: &dyn Fn() -> io::Result<Duration>,
    memory: &dyn Fn() -> io::Result<u64>,
) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = shake(&certified.clients[0], 0) {
        if Instant::now() > deadline {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    for (version, client) in certified.clients.iter().enumerate() {
        crowd(client, plan.handshakes / 10, &outcome.ended)?;
        let (begun, before) = (Instant::now(), used()?);
        crowd(client, plan.handshakes, &outcome.ended)?;
        outcome.spent[version] += used()?.saturating_sub(before);
        outcome.took[version] += begun.elapsed();
    }
    let open = |count: u32| {
        let client = &certified.clients[0];
        let each = (0..count).map(|number| insist(client, number, &outcome.ended));
        each.collect::<io::Result<Vec<_>>>()
    };
    let warm = open(WARM)?;
    let before = memory()?;
    let idle = open(plan.idle)?;
    let after = memory()?;
    drop((warm, idle));
    let each = after.saturating_sub(before) / u64::from(plan.idle.max(1));
    outcome.memory.push(each);
    Ok(())
}

/// So many handshakes by several clients at once.
fn crowd(client: &Arc<ClientConfig>, count: u32, ended: &AtomicU32) -> io::Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|first| {
                scope.spawn(move || {
                    let mut mine = (first..count).step_by(CLIENTS as usize);
                    mine.try_for_each(|number| insist(client, number, ended).map(drop))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| io::ErrorKind::Other)?)
    })
}

/// One handshake, again where the far end ends it before it stands: that is counted, and does not spoil a run.
fn insist(
    client: &Arc<ClientConfig>,
    number: u32,
    ended: &AtomicU32,
) -> io::Result<(ClientConnection, TcpStream)> {
    for _ in 0..TRIES {
        if let Ok(made) = shake(client, number) {
            return Ok(made);
        }
        ended.fetch_add(1, Ordering::Relaxed);
    }
    shake(client, number)
}

/// One handshake to its very end: over TLS 1.3 the ticket shows that the far end has finished too.
fn shake(client: &Arc<ClientConfig>, number: u32) -> io::Result<(ClientConnection, TcpStream)> {
    // From addresses of the loopback, so that ports in TIME_WAIT suffice.
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number % 64);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&SocketAddr::from((OUTSIDE, PORT)).into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    while session.tls13_tickets_received() == 0
        && session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    {
        if session.read_tls(&mut stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        session.process_new_packets().map_err(io::Error::other)?;
    }
    Ok((session, stream))
}

impl Certified {
    fn make() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let der = made.cert.der().clone();
        Ok(Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            clients: [client(&der, &TLS13)?, client(&der, &TLS12)?],
        })
    }

    fn pem(&self) -> String {
        format!("{}{}", self.chain, self.key)
    }
}

fn client(
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).map_err(io::Error::other)?;
    let mut config = ClientConfig::builder_with_provider(sbc::tls::profile::provider())
        .with_protocol_versions(&[version])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn settings() -> Settings {
    let mut settings = sip::settings();
    settings.trunks.clear();
    settings.routes.clear();
    settings.limits.connections = 12_000;
    settings.listeners.push(Listener {
        zone: ZoneId(0),
        transport: Transport::Tls,
        port: PORT,
        certificates: vec![CERTIFICATE.to_owned()],
        origins: Vec::new(),
    });
    settings
}

/// Octets of memory of a process, what it shares in proportion.
fn proportional(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The same of a process and its children.
fn family(pid: u32) -> io::Result<u64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    std::iter::once(pid).chain(children).map(proportional).sum()
}

/// The peer, which answers nothing and takes connections.
struct Kamailio {
    child: Child,
    _folder: TempDir,
}

impl Kamailio {
    fn start(certified: &Certified) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("chain.pem"), &certified.chain)?;
        fs::write(path("key.pem"), &certified.key)?;
        fs::write(path("kamailio.cfg"), configuration(folder.path())?)?;
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "1024", "-M", "32"])
            .arg("-Y")
            .arg(folder.path())
            .arg("-f")
            .arg(path("kamailio.cfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log"))?)
            .spawn()?;
        let mut kamailio = Self {
            child,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((OUTSIDE, PORT)).is_err() {
            if kamailio.child.try_wait()?.is_some() || Instant::now() > deadline {
                let mut log = String::new();
                fs::File::open(kamailio._folder.path().join("log"))?.read_to_string(&mut log)?;
                return Err(io::Error::other(format!("kamailio does not serve: {log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(kamailio)
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        // It ends its children on SIGTERM; one that is gone already is what we want.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn configuration(folder: &std::path::Path) -> io::Result<String> {
    let children = available_parallelism()?.get();
    let folder = folder.display();
    Ok(format!(
        r#"#!KAMAILIO
debug=-1
log_stderror=yes
children=1
tcp_children={children}
tcp_max_connections=12000
tls_max_connections=12000
tcp_connection_lifetime=3600
enable_tls=yes
auto_aliases=no
dns=no
rev_dns=no
listen=tls:{OUTSIDE}:{PORT}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{folder}/chain.pem")
modparam("tls", "private_key", "{folder}/key.pem")
modparam("tls", "verify_certificate", 0)
request_route {{
    exit;
}}
"#
    ))
}
