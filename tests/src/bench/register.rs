//! The REGISTER bench: phones register through our whole sbc process at a registrar that the bench plays, then refresh as
//! fast as they are answered. What counts is how many refreshes a second of one core's time is good for, and what a
//! registration takes of the process's memory. The phones' and the registrar's own time does not count.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use broker_proto::settings::{Registration, Settings};
use serde_json::{Value, json};

use super::{cpu, memory, product::Product, sip};

/// Addresses of the phones, each with as many sockets as it takes.
const PHONES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// REGISTERs that await their answer at once: less than a socket's buffer holds.
const WINDOW: usize = 64;
/// Until a REGISTER or its answer counts as lost and is sent again.
const LOST: Duration = Duration::from_millis(500);
/// Longest life of a REGISTER's transactions (RFC 3261 §17.2.2, timer J), and a little.
const TRANSACTIONS: Duration = Duration::from_secs(36);
/// How long a whole round may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Phones.
    pub phones: u32,
    /// Refreshes of each.
    pub rounds: u32,
}

/// Measures; the table goes to standard output, the result is for the JSON line.
///
/// # Errors
/// When the sbc fails or is not there, or a round does not end in time.
pub fn run(plan: Plan) -> io::Result<Value> {
    let registrar = Registrar::start()?;
    let product = Product::start(settings())?;
    let grown = |numbers: std::ops::Range<u32>| -> io::Result<_> {
        let count = u64::from(plan.phones.max(1));
        let mut phones = numbers
            .map(Phone::new)
            .collect::<io::Result<Vec<Phone>>>()?;
        let before = memory::resident(product.pid())?;
        // A challenge, then its answer.
        round(&mut phones, false)?;
        let relayed = round(&mut phones, true)?;
        let grown = memory::resident(product.pid())?.saturating_sub(before) / count;
        Ok((phones, relayed, grown))
    };
    let (mut phones, relayed, with_transactions) = grown(0..plan.phones)?;
    // Once these transactions are over, those of as many phones more find room where they were: what still grows is what a
    // registration keeps.
    thread::sleep(TRANSACTIONS);
    let (_others, _, memory) = grown(plan.phones..plan.phones * 2)?;
    let asked = registrar.asked();
    let (start, used) = (Instant::now(), cpu::time(product.pid())?);
    let mut answered = 0;
    for _ in 0..plan.rounds {
        answered += round(&mut phones, true)?;
    }
    let spent = cpu::time(product.pid())?.saturating_sub(used);
    let spent = spent.as_secs_f64().max(0.01);
    let took = start.elapsed().as_secs_f64().max(0.001);
    let seen = registrar.asked() - asked;
    println!("REGISTER, {} phones", plan.phones);
    println!("registered through the registrar: {relayed}");
    println!(
        "refreshes answered: {answered}, {seen} of them by the registrar, in {took:.1} s ({:.0}/s)",
        f64::from(answered) / took
    );
    println!("refreshes/s and core: {:.0}", f64::from(answered) / spent);
    println!(
        "octets for each registration: {memory}; with its transactions, for 32 s: {with_transactions}\n"
    );
    Ok(json!({
        "phones": plan.phones,
        "refreshes": answered,
        "relayed": seen,
        "refreshes_per_second_and_core": f64::from(answered) / spent,
        "refreshes_per_second": f64::from(answered) / took,
        "octets_per_registration": memory,
        "octets_with_transactions": with_transactions,
    }))
}

fn settings() -> Settings {
    let mut settings = sip::settings();
    settings.trunks.clear();
    settings.routes.clear();
    settings.limits.registrations = 100_000;
    settings.registration = Registration {
        refresh_udp_seconds: 1_000,
        keepalive_seconds: 0,
        contacts_per_source: 100_000,
        source_rate: 100_000,
        relay_rate: 100_000,
        ..Registration::default()
    };
    settings
}

/// One phone with a socket of its own, which is its way.
struct Phone {
    number: u32,
    socket: UdpSocket,
    cseq: u32,
    count: u32,
}

impl Phone {
    fn new(number: u32) -> io::Result<Self> {
        let socket = UdpSocket::bind((PHONES, 0))?;
        socket.connect((sip::OUTSIDE, sip::SIP))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            number,
            socket,
            cseq: 0,
            count: 0,
        })
    }

    /// As a desk phone behind a translator writes it.
    fn register(&self, credentials: bool) -> String {
        let (number, cseq, count) = (self.number, self.cseq, self.count);
        let credentials = if credentials {
            format!(
                "Authorization: Digest username=\"u{number}\", realm=\"bench.test\", nonce=\"bm9uY2U\", \
                 uri=\"sip:bench.test\", response=\"5ccc069c403ebaf9f0171e9517f40e41\", algorithm=MD5, qop=auth, \
                 cnonce=\"c{number}x{count}\", nc={count:08x}\r\n"
            )
        } else {
            String::new()
        };
        format!(
            "REGISTER sip:bench.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.1.20:5060;branch=z9hG4bK{number}x{cseq};rport\r\n\
             From: <sip:u{number}@bench.test>;tag=f{number}\r\nTo: <sip:u{number}@bench.test>\r\n\
             Call-ID: 313837373834-{number}@192.168.1.20\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:u{number}@192.168.1.20:5060;line=ab{number}>\r\n\
             User-Agent: Example-Desk/10.1.46.16\r\nMax-Forwards: 70\r\nExpires: 3600\r\n{credentials}\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// Every phone once: all send, each waits for its answer. Returns how many got a 200.
fn round(phones: &mut [Phone], credentials: bool) -> io::Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    let (mut buffer, mut successes) = ([0; 2_048], 0);
    for window in phones.chunks_mut(WINDOW) {
        let mut waiting: Vec<(&mut Phone, Option<Instant>)> = window
            .iter_mut()
            .map(|phone| {
                phone.cseq += 1;
                phone.count += u32::from(credentials);
                (phone, None)
            })
            .collect();
        while !waiting.is_empty() {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            for (phone, sent) in &mut waiting {
                if sent.is_none_or(|sent| sent.elapsed() > LOST) {
                    phone.socket.send(phone.register(credentials).as_bytes())?;
                    *sent = Some(Instant::now());
                }
            }
            waiting.retain(|(phone, _)| match phone.socket.recv(&mut buffer) {
                Ok(length) => {
                    let answer = buffer.get(..length).unwrap_or_default();
                    successes += u32::from(answer.starts_with(b"SIP/2.0 200"));
                    answer.starts_with(b"SIP/2.0 1")
                }
                Err(_) => true,
            });
        }
    }
    Ok(successes)
}

/// Challenges who brings no credentials and accepts who does, for as long as was asked.
struct Registrar {
    stop: Arc<AtomicBool>,
    asked: Arc<std::sync::atomic::AtomicU32>,
}

impl Registrar {
    fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((sip::CALLEE, sip::SIP))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let registrar = Self {
            stop: Arc::default(),
            asked: Arc::default(),
        };
        let (stop, asked) = (Arc::clone(&registrar.stop), Arc::clone(&registrar.asked));
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let request = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                    answer(&socket, peer, &request);
                }
            }
        });
        Ok(registrar)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer(socket: &UdpSocket, peer: SocketAddr, request: &str) {
    let line = |name: &str| {
        let found = request.lines().find(|line| line.starts_with(name));
        found.unwrap_or_default()
    };
    let (start, more) = if line("Authorization:").is_empty() {
        let challenge =
            "WWW-Authenticate: Digest realm=\"bench.test\", nonce=\"bm9uY2U\", qop=\"auth\"";
        ("SIP/2.0 401 Unauthorized", challenge)
    } else {
        ("SIP/2.0 200 OK", line("Contact:"))
    };
    let kept = ["Via:", "From:", "Call-ID:", "CSeq:"]
        .map(line)
        .join("\r\n");
    let to = line("To:");
    let answer = format!("{start}\r\n{kept}\r\n{to};tag=r\r\n{more}\r\nContent-Length: 0\r\n\r\n");
    // What is lost is asked again.
    let _ = socket.send_to(answer.as_bytes(), peer);
}
