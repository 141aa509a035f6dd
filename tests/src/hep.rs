//! A collector of its own: reads HEP version 3 from a UDP socket by the specification's words (HEPv3 network protocol, §3),
//! not by the product's writer.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::lab::topology::inside;

/// One captured message.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who got it.
    pub destination: SocketAddr,
    /// IP protocol: 17 or 6.
    pub protocol: u8,
    /// Seconds since the Unix epoch.
    pub seconds: u32,
    /// What binds messages together.
    pub correlation: String,
    /// The message.
    pub payload: String,
}

/// The collector.
pub struct Collector {
    socket: UdpSocket,
}

impl Collector {
    /// Listens at `local` inside a namespace.
    ///
    /// # Errors
    /// The address is not there or taken.
    pub fn bind(namespace: &str, local: &str) -> io::Result<Self> {
        let socket = inside(namespace, || UdpSocket::bind(local))??;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(Self { socket })
    }

    /// What comes until nothing comes for half a second.
    ///
    /// # Panics
    /// A packet breaks the specification.
    #[must_use]
    pub fn collect(&self) -> Vec<Captured> {
        let mut buffer = vec![0; 65_535];
        let mut all = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let packet = &buffer[..length];
            let captured = read(packet);
            all.push(captured.unwrap_or_else(|| panic!("no HEP3: {packet:02x?}")));
        }
        all
    }
}

/// A packet of HEP version 3; `None`: it breaks the specification or lacks what SIP needs.
#[must_use]
pub fn read(packet: &[u8]) -> Option<Captured> {
    let number = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    if packet.get(..4)? != b"HEP3" || usize::from(number(4)?) != packet.len() {
        return None;
    }
    let mut chunks = BTreeMap::new();
    let mut at = 6;
    while at < packet.len() {
        let (vendor, kind, length) = (number(at)?, number(at + 2)?, usize::from(number(at + 4)?));
        let value = packet.get(at + 6..at + length)?;
        if vendor != 0 || chunks.insert(kind, value).is_some() {
            return None;
        }
        at += length;
    }
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        match chunks.get(&1)? {
            [2] => Some(Ipv4Addr::from(<[u8; 4]>::try_from(*chunks.get(&v4)?).ok()?).into()),
            [10] => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*chunks.get(&v6)?).ok()?).into()),
            _ => None,
        }
    };
    let port = |kind: u16| {
        let value: [u8; 2] = (*chunks.get(&kind)?).try_into().ok()?;
        Some(u16::from_be_bytes(value))
    };
    // Protocol type 1: SIP.
    if *chunks.get(&11)? != [1] {
        return None;
    }
    let text = |kind: u16| Some(std::str::from_utf8(chunks.get(&kind)?).ok()?.to_owned());
    Some(Captured {
        source: SocketAddr::new(address(3, 5)?, port(7)?),
        destination: SocketAddr::new(address(4, 6)?, port(8)?),
        protocol: *chunks.get(&2)?.first()?,
        seconds: u32::from_be_bytes((*chunks.get(&9)?).try_into().ok()?),
        correlation: text(17)?,
        payload: text(15)?,
    })
}
