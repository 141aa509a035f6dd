//! Plays the telephones of all calls: every call sends a G.711 packet each way every 20 ms, calls evenly spread over
//! those 20 ms. What comes back is matched, and its time on the way is taken from the kernel's receive stamp, so that
//! neither a late reader nor a late writer counts as the relay's latency.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    cmsg_space,
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg,
            setsockopt, sockopt,
        },
        time::TimeSpec,
    },
};

use super::relay::Ports;

/// PCMA.
pub const PAYLOAD_TYPE: u8 = 8;
/// Octets of a packet: RTP header and 20 ms of G.711.
const PACKET: usize = 172;
const INTERVAL: Duration = Duration::from_millis(20);
/// Packets of one system call.
const BATCH: usize = 32;
/// Socket buffers of the generator, in octets: it must never be the one who loses a packet.
const BUFFER: usize = 32 * 1024 * 1024;
/// Time for the last packets to arrive.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Both ends of all calls: one socket faces all caller legs, one all callee legs.
pub struct Generator {
    sockets: [UdpSocket; 2],
    addresses: [SocketAddr; 2],
}

/// What became of the packets.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back at the other end, whole.
    pub received: u64,
    /// Time on the way of each of them.
    pub latencies: Vec<Duration>,
}

impl Generator {
    /// Binds both ends on the loopback.
    ///
    /// # Errors
    /// What the kernel says; as root, buffers beyond the usual limit are granted.
    pub fn new() -> io::Result<Self> {
        let sockets = [
            UdpSocket::bind("127.0.0.1:0")?,
            UdpSocket::bind("127.0.0.1:0")?,
        ];
        for socket in &sockets {
            setsockopt(socket, sockopt::RcvBufForce, &BUFFER)?;
            setsockopt(socket, sockopt::SndBufForce, &BUFFER)?;
            setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        }
        let addresses = [sockets[0].local_addr()?, sockets[1].local_addr()?];
        Ok(Self { sockets, addresses })
    }

    /// Addresses of the telephones: all callers, all callees.
    #[must_use]
    pub const fn phones(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    /// Plays all calls for `time`. `on_window(true)` is called when the first and `on_window(false)` after the last
    /// packet of the measured window is sent; a lead-in of a second before it is not measured.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn play(
        &self,
        ports: &[Ports],
        time: Duration,
        mut on_window: impl FnMut(bool) -> io::Result<()>,
    ) -> io::Result<Outcome> {
        let mut lead_in = Run::new(self, ports)?;
        lead_in.play(Duration::from_secs(1))?;
        lead_in.settle()?;
        let mut run = Run::new(self, ports)?;
        run.frame = lead_in.frame;
        on_window(true)?;
        run.play(time)?;
        on_window(false)?;
        run.settle()?;
        Ok(run.outcome)
    }
}

struct Run<'a> {
    generator: &'a Generator,
    /// Where each direction of each call goes, callers first, then callees, call by call.
    targets: Vec<(usize, SockaddrIn)>,
    /// 20 ms frames played in all.
    frame: u32,
    outgoing: MultiHeaders<SockaddrIn>,
    incoming: MultiHeaders<SockaddrIn>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(generator: &'a Generator, ports: &[Ports]) -> io::Result<Self> {
        let mut targets = Vec::with_capacity(ports.len() * 2);
        for call in ports {
            for (end, port) in [call.a, call.b].into_iter().enumerate() {
                let SocketAddr::V4(port) = port else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                targets.push((
                    end,
                    SockaddrIn::from(SocketAddrV4::new(*port.ip(), port.port())),
                ));
            }
        }
        Ok(Self {
            generator,
            targets,
            frame: 0,
            outgoing: MultiHeaders::preallocate(BATCH, None),
            incoming: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec))),
            outcome: Outcome::default(),
        })
    }

    fn play(&mut self, time: Duration) -> io::Result<()> {
        let start = Instant::now();
        let directions = self.targets.len() as u64;
        let frames = (time.as_millis() / INTERVAL.as_millis()) as u64;
        let total = frames * directions;
        let base = self.frame;
        let mut done = 0;
        while done < total {
            // As many packets as should have left by now.
            let due = u128::from(directions) * start.elapsed().as_nanos() / INTERVAL.as_nanos();
            let due = u64::try_from(due).unwrap_or(total).min(total);
            while done < due {
                let first = (done % directions) as usize;
                let count = ((due - done) as usize)
                    .min(BATCH)
                    .min(self.targets.len() - first);
                self.frame = base + (done / directions) as u32;
                self.send(first, count)?;
                done += count as u64;
                if done % 256 < BATCH as u64 {
                    self.receive()?;
                }
            }
            self.receive()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        self.frame = base + frames as u32;
        Ok(())
    }

    /// Waits for what is still on its way.
    fn settle(&mut self) -> io::Result<()> {
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            self.receive()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// One packet of each direction from `first` on. Neighbours alternate between the two ends, so each end has its own
    /// call.
    fn send(&mut self, first: usize, count: usize) -> io::Result<()> {
        for end in 0..2 {
            let chosen: Vec<usize> = (first..first + count)
                .filter(|&direction| {
                    self.targets
                        .get(direction)
                        .is_some_and(|(own, _)| *own == end)
                })
                .collect();
            if chosen.is_empty() {
                continue;
            }
            let sent_at = unix_nanos();
            let packets: Vec<[u8; PACKET]> = chosen
                .iter()
                .map(|&direction| packet(direction as u32, self.frame, sent_at))
                .collect();
            let slices: Vec<[IoSlice<'_>; 1]> = packets
                .iter()
                .map(|packet| [IoSlice::new(packet)])
                .collect();
            let targets: Vec<Option<SockaddrIn>> = chosen
                .iter()
                .map(|&direction| self.targets.get(direction).map(|(_, target)| *target))
                .collect();
            let socket = self
                .generator
                .sockets
                .get(end)
                .ok_or(io::ErrorKind::NotFound)?;
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.outgoing,
                &slices,
                &targets,
                [],
                MsgFlags::empty(),
            )?;
            self.outcome.sent += sent.count() as u64;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        for socket in &self.generator.sockets {
            loop {
                let mut buffers = [[0_u8; PACKET + 1]; BATCH];
                let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
                let messages = match recvmmsg(
                    socket.as_raw_fd(),
                    &mut self.incoming,
                    slices.iter_mut(),
                    MsgFlags::MSG_DONTWAIT,
                    None,
                ) {
                    Ok(messages) => messages,
                    Err(nix::errno::Errno::EAGAIN) => break,
                    Err(error) => return Err(error.into()),
                };
                let mut stamps = [None; BATCH];
                let mut count = 0;
                for (stamp, message) in stamps.iter_mut().zip(messages) {
                    *stamp = message.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::ScmTimestampns(time) => {
                            Some((message.bytes, nanos(time)))
                        }
                        _ => None,
                    });
                    count += 1;
                }
                for (buffer, stamp) in buffers.iter().zip(stamps).take(count) {
                    if let Some((PACKET, received_at)) = stamp {
                        self.outcome.received += 1;
                        let latency = received_at.saturating_sub(sent_at(buffer));
                        self.outcome.latencies.push(Duration::from_nanos(latency));
                    }
                }
                if count < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn packet(direction: u32, frame: u32, sent_at: u64) -> [u8; PACKET] {
    let mut packet = [0xd5; PACKET];
    let header = [
        [0x80, PAYLOAD_TYPE, (frame >> 8) as u8, frame as u8],
        frame.wrapping_mul(160).to_be_bytes(),
        (direction + 1).to_be_bytes(),
    ];
    packet
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(header)
        .for_each(|(place, word)| *place = word);
    if let Some(stamp) = packet.get_mut(12..20) {
        stamp.copy_from_slice(&sent_at.to_be_bytes());
    }
    packet
}

fn sent_at(packet: &[u8]) -> u64 {
    packet
        .get(12..20)
        .and_then(|stamp| stamp.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

fn nanos(time: TimeSpec) -> u64 {
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn unix_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
