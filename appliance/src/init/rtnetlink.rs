//! The few rtnetlink(7) messages that init needs: list links, rename one, bring it up, make a VLAN, set an address, set a
//! route. One socket, one request at a time, each acknowledged by the kernel. Called by [`super::links`], and by the escape
//! suite for the namespace in which it tries the firewall.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;
const VETH_INFO_PEER: u16 = 1;
const IFF_RUNNING: u32 = 0x40;
const ARPHRD_ETHER: u16 = 1;
/// Multicast group of link changes.
const RTMGRP_LINK: u32 = 1;

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address, six octets for Ethernet.
    pub mac: Vec<u8>,
    /// Whether it is an Ethernet card or a VLAN on one.
    pub is_ethernet: bool,
    /// Set up.
    pub is_up: bool,
    /// The cable carries.
    pub has_carrier: bool,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Link.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// 0: global, 253: link-local.
    pub scope: u8,
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(head);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        push_attribute(&mut self.0, kind, value);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        for (place, octets) in [(0, length), (8, sequence)] {
            if let Some(field) = self.0.get_mut(place..place + 4) {
                field.copy_from_slice(&octets.to_ne_bytes());
            }
        }
        self.0
    }
}

fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// See the module.
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        Self::with_groups(0, SockFlag::SOCK_CLOEXEC)
    }

    /// A socket that becomes readable when a link comes, goes or changes; read it with [`Self::drain`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn monitor() -> io::Result<Self> {
        Self::with_groups(
            RTMGRP_LINK,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
    }

    fn with_groups(groups: u32, flags: SockFlag) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The descriptor, to wait on.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reads away what a monitor got. Whether there was anything.
    pub fn drain(&self) -> bool {
        let mut any = false;
        let mut buffer = [0; 16 * 1024];
        while matches!(recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT), Ok(length) if length > 0)
        {
            any = true;
        }
        any
    }

    /// All links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let message = Message::new(RTM_GETLINK, NLM_F_DUMP, &link_head(0, 0, 0));
        Ok(self
            .dump(message, RTM_NEWLINK)?
            .iter()
            .filter_map(|body| read_link(body))
            .collect())
    }

    /// All addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let message = Message::new(RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
        Ok(self
            .dump(message, RTM_NEWADDR)?
            .iter()
            .filter_map(|body| read_address(body))
            .collect())
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let head = link_head(index, if up { IFF_UP } else { 0 }, IFF_UP);
        self.ask(Message::new(RTM_NEWLINK, NLM_F_ACK, &head))
    }

    /// Renames a link, which must be down.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(&mut self, index: u32, name: &str) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK, &link_head(index, 0, 0));
        self.ask(message.attribute(IFLA_IFNAME, &with_nul(name)))
    }

    /// Makes a VLAN link on `parent`.
    ///
    /// # Errors
    /// The kernel's; `AlreadyExists` if there is a link of that name.
    pub fn add_vlan(&mut self, parent: u32, name: &str, vlan: u16) -> io::Result<()> {
        let mut data = Vec::new();
        push_attribute(&mut data, IFLA_VLAN_ID, &vlan.to_ne_bytes());
        let mut info = Vec::new();
        push_attribute(&mut info, IFLA_INFO_KIND, b"vlan");
        push_attribute(&mut info, IFLA_INFO_DATA, &data);
        let message = Message::new(
            RTM_NEWLINK,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
            &link_head(0, 0, 0),
        )
        .attribute(IFLA_IFNAME, &with_nul(name))
        .attribute(IFLA_LINK, &parent.to_ne_bytes())
        .attribute(IFLA_LINKINFO, &info);
        self.ask(message)
    }

    /// Makes two virtual Ethernet links, each the far end of the other's cable, that resolve no neighbours (what is sent
    /// goes to the cable at once). For the self-test, in a namespace of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_pair(&mut self, name: &str, far: &str) -> io::Result<()> {
        let head = link_head(0, IFF_NOARP, IFF_NOARP);
        let mut peer = head.to_vec();
        push_attribute(&mut peer, IFLA_IFNAME, &with_nul(far));
        let mut data = Vec::new();
        push_attribute(&mut data, VETH_INFO_PEER, &peer);
        let mut info = Vec::new();
        push_attribute(&mut info, IFLA_INFO_KIND, b"veth");
        push_attribute(&mut info, IFLA_INFO_DATA, &data);
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &head)
            .attribute(IFLA_IFNAME, &with_nul(name))
            .attribute(IFLA_LINKINFO, &info);
        self.ask(message)
    }

    /// Removes a link that was made here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::new(
            RTM_DELLINK,
            NLM_F_ACK,
            &link_head(index, 0, 0),
        ))
    }

    /// Gives a link an address. IPv6 addresses are used at once, without waiting for duplicate address detection: they are
    /// the operator's choice, and the listeners bind to them before the first packet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.lend_address(index, address, prefix, u32::MAX)
    }

    /// Gives a link an address for so many seconds from now, also one that it has: then the kernel takes it away,
    /// whoever is alive to do it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lend_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        seconds: u32,
    ) -> io::Result<()> {
        let octets = octets(address);
        // struct ifa_cacheinfo: preferred, valid, and two times that only the kernel writes.
        let mut lifetime = Vec::new();
        for value in [seconds, seconds, 0, 0] {
            lifetime.extend_from_slice(&value.to_ne_bytes());
        }
        let message = Message::new(
            RTM_NEWADDR,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
            &address_head(index, address, prefix),
        )
        .attribute(IFA_LOCAL, &octets)
        .attribute(IFA_ADDRESS, &octets)
        .attribute(IFA_CACHEINFO, &lifetime)
        .attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        self.ask(message)
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let message = Message::new(
            RTM_DELADDR,
            NLM_F_ACK,
            &address_head(index, address, prefix),
        );
        self.ask(message.attribute(IFA_LOCAL, &octets(address)))
    }

    /// Sets the route to `network` (length 0: the default route) by `gateway` on a link, in place of an earlier one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_route(
        &mut self,
        index: u32,
        network: IpAddr,
        prefix: u8,
        gateway: IpAddr,
    ) -> io::Result<()> {
        // RTNH_F_ONLINK is not set: a gateway that is not on the link is the operator's mistake and is refused.
        let mut message = Message::new(
            RTM_NEWROUTE,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
            &route_head(family(gateway), prefix, 0),
        );
        if prefix > 0 {
            message = message.attribute(RTA_DST, &octets(network));
        }
        self.ask(
            message
                .attribute(RTA_GATEWAY, &octets(gateway))
                .attribute(RTA_OIF, &index.to_ne_bytes()),
        )
    }

    /// Takes the IPv4 default route by a gateway on a link away, if there is one. The one of [`Self::set_last_route`], which
    /// has no gateway and another scope, stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_default_route(&mut self, index: u32) -> io::Result<()> {
        const NO_SUCH_ROUTE: i32 = 3;
        let message = Message::new(
            RTM_DELROUTE,
            NLM_F_ACK,
            &route_head(family(IpAddr::from([0; 4])), 0, 0),
        );
        match self.ask(message.attribute(RTA_OIF, &index.to_ne_bytes())) {
            Err(error) if error.raw_os_error() == Some(NO_SUCH_ROUTE) => Ok(()),
            other => other,
        }
    }

    /// Has the kernel believe IPv4 sources on a link whatever other route there is none for: the last of all routes. A
    /// link without an address hears nobody else (reverse path filter), not even who would lend it one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_last_route(&mut self, index: u32) -> io::Result<()> {
        const SCOPE_LINK: u8 = 253;
        let v4 = family(IpAddr::from([0; 4]));
        let message = Message::new(
            RTM_NEWROUTE,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
            &route_head(v4, 0, SCOPE_LINK),
        );
        self.ask(
            message
                .attribute(RTA_PRIORITY, &u32::MAX.to_ne_bytes())
                .attribute(RTA_OIF, &index.to_ne_bytes()),
        )
    }

    fn ask(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message, 0).map(|_| ())
    }

    fn dump(&mut self, message: Message, kind: u16) -> io::Result<Vec<Vec<u8>>> {
        self.exchange(message, kind)
    }

    /// Sends a request and reads until its acknowledgement or the end of its dump; bodies of messages of `kind`.
    fn exchange(&mut self, message: Message, kind: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut bodies = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((own, sequence, body, tail)) = split_message(rest) {
                rest = tail;
                if sequence != self.sequence {
                    continue;
                }
                match own {
                    NLMSG_DONE => return Ok(bodies),
                    NLMSG_ERROR => {
                        let code = body
                            .get(..4)
                            .and_then(|code| code.try_into().ok())
                            .map_or(0, i32::from_ne_bytes);
                        return if code == 0 {
                            Ok(bodies)
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    own if own == kind => bodies.push(body.to_vec()),
                    _ => {}
                }
            }
        }
    }
}

/// struct rtmsg of a unicast route in the main table, as an administrator sets it.
const fn route_head(family: u8, prefix: u8, scope: u8) -> [u8; 12] {
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    [
        family,
        prefix,
        0,
        0,
        TABLE_MAIN,
        PROTOCOL_STATIC,
        scope,
        UNICAST,
        0,
        0,
        0,
        0,
    ]
}

/// Kind, sequence number and body of the first message, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    let tail = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body, tail))
}

/// Kind and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_link(body: &[u8]) -> Option<Link> {
    let kind = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
    let mut link = Link {
        index,
        name: String::new(),
        mac: Vec::new(),
        is_ethernet: kind == ARPHRD_ETHER,
        is_up: flags & IFF_UP != 0,
        has_carrier: flags & IFF_RUNNING != 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => {
                link.name = String::from_utf8_lossy(value)
                    .trim_end_matches('\0')
                    .to_owned()
            }
            IFLA_ADDRESS => link.mac = value.to_vec(),
            _ => {}
        }
    }
    Some(link)
}

fn read_address(body: &[u8]) -> Option<Address> {
    let [_family, prefix, _flags, scope, ..] = *body else {
        return None;
    };
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let mut address = None;
    for (kind, value) in attributes(body.get(8..)?) {
        // For IPv4, IFA_ADDRESS is the peer's on point-to-point links; IFA_LOCAL is always the own one.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && address.is_none()) {
            address = match value.len() {
                4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                _ => None,
            };
        }
    }
    Some(Address {
        index,
        address: address?,
        prefix,
        scope,
    })
}

fn link_head(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut head = vec![0; 4];
    for field in [index, flags, change] {
        head.extend_from_slice(&field.to_ne_bytes());
    }
    head
}

fn address_head(index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let mut head = vec![family(address), prefix, 0, 0];
    head.extend_from_slice(&index.to_ne_bytes());
    head
}

fn family(address: IpAddr) -> u8 {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn with_nul(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_link_is_listed() {
        let links = Netlink::open().unwrap().links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(!loopback.is_ethernet);
        assert_eq!(loopback.index, 1);
    }

    #[test]
    fn an_unknown_link_cannot_be_set_up() {
        let error = Netlink::open()
            .unwrap()
            .set_up(4_000_000, true)
            .unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(19 | 1)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = split_message(&bytes);
            let _ = read_link(&bytes);
            let _ = read_address(&bytes);
        }
    }
}
