//! Log entries of refused packets: the ruleset sends a rate-limited sample to `LOG_GROUP`, the daemon keeps the last one
//! of each reason and zone. Bounded by the socket's buffer: what does not fit is lost and was counted anyway.

use std::io;

use nix::sys::socket::SockProtocol;

use crate::nftables::names::LOG_GROUP;

use super::{
    Socket,
    message::{ACK, FAMILY_HEADER, Writer, attributes, messages, text},
};

/// `NFNL_SUBSYS_ULOG`.
const SUBSYSTEM: u16 = 4;
const PACKET: u16 = SUBSYSTEM << 8;
const CONFIGURE: u16 = SUBSYSTEM << 8 | 1;
const CONFIGURE_COMMAND: u16 = 1;
const CONFIGURE_MODE: u16 = 2;
const CONFIGURE_QUEUE: u16 = 5;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const ENTRY_PAYLOAD: u16 = 9;
const ENTRY_PREFIX: u16 = 10;

/// Octets of each packet that are copied: an IPv6 header and the ports behind it.
const SNAP: u32 = 64;

/// Entries that the kernel holds back to send them together: it would keep them for a second.
const QUEUE: u32 = 1;

/// One logged packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The rule's prefix: `reason zone`.
    pub prefix: String,
    /// The packet's first octets, from the IP header on. Hostile.
    pub head: Vec<u8>,
}

/// Subscription to the group; one process per network namespace can have it.
#[derive(Debug)]
pub struct Log {
    socket: Socket,
}

impl Log {
    /// Subscribes.
    ///
    /// # Errors
    /// `ResourceBusy` if another process listens to the group; otherwise as the kernel says.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        let mut mode = SNAP.to_be_bytes().to_vec();
        mode.extend([COPY_PACKET, 0]);
        configure(&mut socket, CONFIGURE_COMMAND, &[BIND])?;
        configure(&mut socket, CONFIGURE_MODE, &mode)?;
        configure(&mut socket, CONFIGURE_QUEUE, &QUEUE.to_be_bytes())?;
        Ok(Self { socket })
    }

    /// Takes the entries of one datagram without waiting; empty if there is none. At most one datagram a call, so that
    /// a flood of entries cannot hold the caller.
    pub fn take(&self) -> Vec<Entry> {
        let mut buffer = [0; 16 * 1024];
        let Ok(bytes) = self.socket.receive(&mut buffer, false) else {
            return Vec::new();
        };
        messages(bytes)
            .filter(|message| message.kind == PACKET)
            .map(|message| entry(message.body.get(FAMILY_HEADER..).unwrap_or_default()))
            .collect()
    }
}

impl std::os::fd::AsFd for Log {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn entry(body: &[u8]) -> Entry {
    let mut entry = Entry {
        prefix: String::new(),
        head: Vec::new(),
    };
    for (kind, value) in attributes(body) {
        match kind {
            ENTRY_PREFIX => entry.prefix = text(value),
            ENTRY_PAYLOAD => entry.head = value.to_vec(),
            _ => {}
        }
    }
    entry
}

fn configure(socket: &mut Socket, attribute: u16, value: &[u8]) -> io::Result<()> {
    let sequence = socket.next_sequence();
    let mut writer = Writer::default();
    writer.begin_netfilter(CONFIGURE, ACK, sequence, 0, LOG_GROUP);
    writer.attribute(attribute, value);
    writer.end();
    socket.send(writer.bytes())?;
    let mut buffer = [0; 4096];
    loop {
        for message in messages(socket.receive(&mut buffer, true)?) {
            match message.error() {
                Some(0) if message.sequence == sequence => return Ok(()),
                Some(number) if number != 0 => return Err(io::Error::from_raw_os_error(number)),
                _ => {}
            }
        }
    }
}
