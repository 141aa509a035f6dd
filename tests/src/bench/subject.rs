//! Our media threads in a process of their own, so that their processor time can be told from the generator's. The same
//! program starts itself again: `gatehouse-bench subject CALLS A B`. Ends when its standard input does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    thread::available_parallelism,
};

use broker_proto::{broker::Flow, settings::ZoneId};
use sandbox::Profile;
use sbc::media::{lease::Leases, pool::Pool};
use sbc_media::relay::{Learn, LegMedia, MediaCommand, StreamId};
use tokio::sync::mpsc;

use super::relay::{Ports, Relay};

/// Our media threads, seen from the bench.
pub struct Subject {
    child: Child,
    ports: Vec<Ports>,
}

impl Subject {
    /// Starts the process and `calls` streams between the generator's addresses.
    ///
    /// # Errors
    /// When the process does not start or does not answer as it should.
    pub fn start(calls: usize, phones: [SocketAddr; 2]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("subject")
            .args([
                calls.to_string(),
                phones[0].to_string(),
                phones[1].to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut ports = Vec::with_capacity(calls);
        for line in BufReader::new(stdout).lines().take(calls) {
            let line = line?;
            let (a, b) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
            let parse = |text: &str| {
                text.parse()
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
            };
            ports.push(Ports {
                a: parse(a)?,
                b: parse(b)?,
            });
        }
        if ports.len() < calls {
            return Err(io::Error::other("the media process ended early"));
        }
        Ok(Self { child, ports })
    }
}

impl Relay for Subject {
    fn name(&self) -> &'static str {
        "gatehouse"
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ports(&self) -> &[Ports] {
        &self.ports
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by itself now; a failure to wait leaves a zombie for the rest of this short process.
        let _ = self.child.wait();
    }
}

/// The process itself: binds, relays, prints the ports of each call, waits for the end of its input.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn run(calls: usize, phones: [SocketAddr; 2]) -> io::Result<()> {
    let (sender, mut events) = mpsc::channel(4096);
    let mut pool = Pool::start(available_parallelism()?.get(), &sender)?;
    let mut leases = Leases::default();
    let mut ports = Vec::with_capacity(calls);
    for call in 0..calls as u64 {
        ports.push((
            lend(&mut leases, call * 2)?,
            lend(&mut leases, call * 2 + 1)?,
        ));
    }
    // As in the product: from here on every system call is checked.
    let profile = Profile::for_role("sbc").ok_or(io::ErrorKind::NotFound)?;
    sandbox::seal(&profile).map_err(io::Error::other)?;
    let mut lines = String::new();
    for (call, (a, b)) in (0..).zip(ports) {
        let command = MediaCommand::Start {
            stream: StreamId(call),
            call,
            a: leg(call * 2, phones[0]),
            b: leg(call * 2 + 1, phones[1]),
            silence_ms: 30_000,
        };
        pool.command(command, &leases)
            .map_err(|event| io::Error::other(format!("{event:?}")))?;
        lines += &format!("{a} {b}\n");
    }
    // Written last: who reads the ports may use them.
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    out.flush()?;
    drop(out);
    let mut input = io::stdin().lock();
    let mut rest = [0; 64];
    loop {
        while events.try_recv().is_ok() {}
        if input.read(&mut rest)? == 0 {
            return Ok(());
        }
    }
}

/// What the firewall lends for one leg: RTP and RTCP.
fn lend(leases: &mut Leases, lease: u64) -> io::Result<SocketAddr> {
    let sockets = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    let address = sockets[0].local_addr()?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let descriptors = sockets.map(OwnedFd::from).into();
    leases
        .keep(
            lease,
            (ZoneId(0), Flow::default()),
            false,
            true,
            descriptors,
        )
        .map_err(io::Error::other)?;
    Ok(address)
}

fn leg(lease: u64, phone: SocketAddr) -> LegMedia {
    LegMedia {
        lease,
        payloads: [super::generator::PAYLOAD_TYPE].into_iter().collect(),
        learn: Learn::Exact {
            rtp: phone,
            rtcp: phone,
        },
        send_to: Some(phone),
        send_rtcp_to: None,
        receive: true,
        send: true,
        clock_hz: 8000,
        name: 7,
        security: None,
        joined: None,
    }
}
