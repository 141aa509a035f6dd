//! A kernel for tests: sockets are numbers, sets are sets, and whatever is asked can be made to fail. With it the
//! permissions of the laboratory's zones.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use broker_proto::{
    Role,
    settings::{Transport, ZoneId},
};

use super::{
    kernel::{Binding, Kernel, Lent},
    permissions::{
        Bounds, ConnectPermission, ListenPermission, MediaPermissions, NetworkPermission,
        Permissions, Strangers, ZonePermissions,
    },
};
use crate::{
    netlink::{Change, Element},
    nftables::names::{Set, SetFamily},
};

/// What a test sees and steers.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) elements: RefCell<BTreeSet<Element>>,
    pub(crate) changes: Cell<usize>,
    pub(crate) fail_changes: Cell<bool>,
    pub(crate) bound: RefCell<BTreeSet<SocketAddr>>,
    pub(crate) foreign_ports: RefCell<BTreeSet<u16>>,
    pub(crate) shut: RefCell<BTreeSet<SocketAddr>>,
    pub(crate) withheld: RefCell<BTreeSet<SocketAddr>>,
    pub(crate) timed: RefCell<Vec<(Element, Duration)>>,
    pub(crate) aimed: RefCell<Vec<(SocketAddr, Option<SocketAddr>)>>,
    pub(crate) arriving: RefCell<VecDeque<SocketAddr>>,
    pub(crate) live: RefCell<Vec<IpAddr>>,
    pub(crate) refuse_connect: Cell<bool>,
    pub(crate) no_descriptors: Cell<bool>,
    pub(crate) learnt: RefCell<Vec<IpAddr>>,
}

/// A bound socket; the port is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct FakeSocket {
    pub(crate) binding: Binding,
    world: Rc<World>,
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.world.bound.borrow_mut().remove(&self.binding.local);
    }
}

/// The kernel.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) world: Rc<World>,
}

impl Fake {
    /// A socket that an earlier firewall lent.
    pub(crate) fn make(&self, binding: &Binding) -> FakeSocket {
        FakeSocket {
            binding: binding.clone(),
            world: Rc::clone(&self.world),
        }
    }
}

impl Kernel for Fake {
    type Socket = FakeSocket;

    fn bind_udp(&mut self, binding: &Binding) -> io::Result<FakeSocket> {
        let taken = self
            .world
            .foreign_ports
            .borrow()
            .contains(&binding.local.port());
        if taken || !self.world.bound.borrow_mut().insert(binding.local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(self.make(binding))
    }

    fn listen_tcp(&mut self, binding: &Binding) -> io::Result<FakeSocket> {
        Ok(self.make(binding))
    }

    fn connect_udp(&mut self, binding: &Binding, _peer: SocketAddr) -> io::Result<FakeSocket> {
        Ok(self.make(binding))
    }

    fn begin_connect_tcp(
        &mut self,
        binding: &Binding,
        _peer: SocketAddr,
    ) -> io::Result<FakeSocket> {
        Ok(self.make(binding))
    }

    fn finish_connect_tcp(&mut self, _socket: &FakeSocket) -> io::Result<()> {
        if self.world.refuse_connect.get() {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(())
        }
    }

    fn accept(
        &mut self,
        listener: &FakeSocket,
    ) -> io::Result<(FakeSocket, SocketAddr, SocketAddr)> {
        if self.world.no_descriptors.get() {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        let peer = self
            .world
            .arriving
            .borrow_mut()
            .pop_front()
            .ok_or(io::ErrorKind::WouldBlock)?;
        Ok((self.make(&listener.binding), listener.binding.local, peer))
    }

    fn local(&mut self, socket: &FakeSocket) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(socket.binding.local.ip(), 40_000))
    }

    fn lent(&mut self, socket: &FakeSocket) -> io::Result<Lent> {
        Ok(Lent {
            binding: socket.binding.clone(),
            aimed: None,
        })
    }

    fn aim(
        &mut self,
        socket: &FakeSocket,
        _binding: &Binding,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        self.world
            .aimed
            .borrow_mut()
            .push((socket.binding.local, peer));
        Ok(())
    }

    fn withhold(
        &mut self,
        socket: &FakeSocket,
        _binding: &Binding,
        withheld: bool,
    ) -> io::Result<()> {
        let mut all = self.world.withheld.borrow_mut();
        if withheld {
            all.insert(socket.binding.local);
        } else {
            all.remove(&socket.binding.local);
        }
        Ok(())
    }

    fn timed(&mut self, set: Set, family: SetFamily) -> io::Result<Vec<(Vec<u8>, Duration)>> {
        let timed = self.world.timed.borrow();
        let here = timed
            .iter()
            .filter(|(element, _)| (element.set, element.family) == (set, family));
        Ok(here
            .map(|(element, left)| (element.key().to_vec(), *left))
            .collect())
    }

    fn shut(&mut self, socket: &FakeSocket) {
        self.world.shut.borrow_mut().insert(socket.binding.local);
    }

    fn change(&mut self, changes: &[Change]) -> io::Result<()> {
        self.world.changes.set(self.world.changes.get() + 1);
        if self.world.fail_changes.get() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut elements = self.world.elements.borrow_mut();
        for change in changes {
            match change {
                Change::Add(element, _) => {
                    elements.insert(*element);
                }
                Change::Remove(element) => {
                    elements.remove(element);
                }
                Change::Flush(set, family) => {
                    elements.retain(|e| (e.set, e.family) != (*set, *family))
                }
            }
        }
        Ok(())
    }

    fn addresses(&mut self, _device: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.world.learnt.borrow().clone())
    }

    fn connections(&mut self, _port: u16) -> io::Result<Vec<IpAddr>> {
        Ok(self.world.live.borrow().clone())
    }
}

/// External zone 0, internal zone 1, management zone 2.
pub(crate) fn lab_permissions() -> Permissions {
    let nets = |networks: &[&str]| {
        networks
            .iter()
            .map(|network| network.parse().unwrap())
            .collect::<Vec<_>>()
    };
    let zone = |name: &str, addresses: [&str; 2], networks: [&str; 2], media: Option<&[&str]>| {
        ZonePermissions {
            name: name.into(),
            device: format!("{}0", &name[..3]),
            addresses: addresses.map(|address| address.parse().unwrap()).into(),
            media: media.map(|networks| MediaPermissions {
                networks: nets(networks),
                ports: (16384, 32767),
                peer_ports: (1024, 65535),
            }),
            networks: nets(&networks),
            strangers: Strangers {
                v4: name == "external",
                v6: name == "external",
            },
            bogons: nets(&["10.0.0.0/8"]),
            ..ZonePermissions::default()
        }
    };
    let internal = ["192.0.2.0/24", "2001:db8:1::/64"];
    let management = ["203.0.113.0/24", "2001:db8:2::/64"];
    let listen = |role, zone, transport, port| ListenPermission {
        role,
        zone: ZoneId(zone),
        transport,
        port,
    };
    let connect = |role, zone, transport, peer: &str| ConnectPermission {
        role,
        zone: ZoneId(zone),
        transport,
        peer: peer.parse().unwrap(),
    };
    Permissions {
        zones: vec![
            zone(
                "external",
                ["198.51.100.1", "2001:db8:e::1"],
                ["198.51.100.0/24", "2001:db8:e::/64"],
                Some(&[]),
            ),
            zone(
                "internal",
                ["192.0.2.1", "2001:db8:1::1"],
                internal,
                Some(&internal),
            ),
            zone(
                "management",
                ["203.0.113.1", "2001:db8:2::1"],
                management,
                None,
            ),
        ],
        listen: [
            listen(Role::Sbc, 0, Transport::Udp, 5060),
            listen(Role::Sbc, 0, Transport::Tcp, 5060),
            listen(Role::Sbc, 1, Transport::Udp, 5060),
            listen(Role::Management, 2, Transport::Tls, 8443),
        ]
        .into(),
        connect: [
            connect(Role::Sbc, 1, Transport::Tcp, "192.0.2.10:5060"),
            connect(Role::Sbc, 0, Transport::Udp, "198.51.100.20:5060"),
            connect(Role::Time, 0, Transport::Udp, "198.51.100.254:123"),
        ]
        .into(),
        connect_networks: Vec::new(),
        name_servers: BTreeSet::new(),
        forbidden_networks: nets(&management),
        allow_list: nets(&["192.0.2.0/24", "198.51.100.20/32"]),
        bounds: Bounds {
            calls: 1000,
            call_rate: 100,
            registrations: 20,
            media_sockets: 8000,
            bans: 65_536,
            ban_seconds: 86_400,
            connections: 20,
            connections_per_source: 5,
        },
        lab: true,
    }
}

/// The same with a far end that is known by name, and a name server.
pub(crate) fn named_permissions() -> Permissions {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    Permissions {
        connect_networks: vec![NetworkPermission {
            role: Role::Sbc,
            zone: ZoneId(0),
            transports: vec![Transport::Udp, Transport::Tcp],
            networks: nets(&["198.51.100.0/25", "192.0.2.0/24"]),
            ports: vec![5060, 5070],
        }],
        name_servers: [(ZoneId(0), "198.51.100.53:53".parse().unwrap())].into(),
        ..lab_permissions()
    }
}
