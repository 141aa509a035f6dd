//! The settings in force: zones, own addresses, and whose address is whose.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use broker_proto::settings::{
    Listener, Named, Origin, Registrar, Settings, Transport, Trunk, Zone, ZoneId, ZoneKind,
};

use crate::resolve::{Who, named, selection::Reached};

/// Who a source is by its address alone. Only a live binding can raise a stranger further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nobody that we know.
    Stranger,
    /// A host of an internal zone.
    Internal,
    /// The PBX.
    Registrar,
    /// The trunk of that index.
    Trunk(usize),
}

/// Settings and what the firewall has lent of them.
pub(crate) struct Surroundings {
    settings: Box<Settings>,
    listening: BTreeMap<(ZoneId, Transport, u16), Vec<SocketAddr>>,
    /// Where peers are that are known by name.
    reached: BTreeMap<Who, Place>,
}

/// Where a peer is that is known by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What was looked for.
    pub(crate) zone: ZoneId,
    pub(crate) named: Named,
    pub(crate) reached: Reached,
    /// Its addresses in the order that was drawn: registrations keep to it, calls draw one each.
    pub(crate) drawn: Vec<SocketAddr>,
}

impl Surroundings {
    pub(crate) fn new(settings: Box<Settings>) -> Self {
        Self {
            settings,
            listening: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Take new settings; listeners and names that are no longer configured are forgotten.
    pub(crate) fn replace(&mut self, mut settings: Box<Settings>) {
        self.reached.retain(|who, place| {
            named(&settings).any(|(have, zone, name)| {
                have == *who && zone == place.zone && *name == place.named
            })
        });
        self.fill(&mut settings);
        self.settings = settings;
        let configured = &self.settings.listeners;
        self.listening
            .retain(|name, _| configured.iter().any(|listener| key(listener) == *name));
    }

    /// Put in what name servers said, for peers that these settings know by the same name.
    pub(crate) fn fill(&self, settings: &mut Settings) {
        let known = |who: &Who, zone: ZoneId, name: &Option<Named>| {
            let place = self.reached.get(who)?;
            (zone == place.zone && name.as_ref() == Some(&place.named)).then_some(place)
        };
        if let Some(registrar) = &mut settings.registrar
            && let Some(place) = known(&Who::Registrar, registrar.zone, &registrar.named)
        {
            registrar.addresses.clone_from(&place.drawn);
            registrar.transport = place.reached.transport;
        }
        for trunk in &mut settings.trunks {
            let who = Who::Trunk(trunk.name.clone());
            if let Some(place) = known(&who, trunk.zone, &trunk.named) {
                trunk.addresses.clone_from(&place.drawn);
                trunk.transport = place.reached.transport;
            }
        }
    }

    /// Whether a trunk or the PBX is known by name.
    pub(crate) fn is_by_name(&self, peer: Peer) -> bool {
        match peer {
            Peer::Registrar => self.registrar().is_some_and(|pbx| pbx.named.is_some()),
            Peer::Trunk(index) => self.trunk(index).is_some_and(|trunk| trunk.named.is_some()),
            Peer::Stranger | Peer::Internal => false,
        }
    }

    /// Where a peer is that is known by name.
    pub(crate) fn reached(&self, who: &Who) -> Option<&Reached> {
        self.reached.get(who).map(|place| &place.reached)
    }

    /// A peer is there from now on, or nowhere. True if that is news.
    pub(crate) fn reach(&mut self, who: &Who, found: Option<Place>) -> bool {
        if self.reached.get(who) == found.as_ref() {
            return false;
        }
        let mut settings = self.settings.clone();
        match found {
            Some(found) => {
                self.reached.insert(who.clone(), found);
            }
            None => {
                self.reached.remove(who);
                match who {
                    Who::Registrar => {
                        if let Some(registrar) = &mut settings.registrar {
                            registrar.addresses.clear();
                        }
                    }
                    Who::Trunk(name) => {
                        let trunks = settings.trunks.iter_mut();
                        trunks
                            .filter(|trunk| trunk.name == *name)
                            .for_each(|trunk| trunk.addresses.clear());
                    }
                }
            }
        }
        self.fill(&mut settings);
        self.settings = settings;
        true
    }

    /// Addresses of a trunk in the order in which a call tries them; those of one known by name by the weights that its
    /// name servers gave them (RFC 2782). `draw` gives a number below its argument.
    pub(crate) fn in_order(
        &self,
        index: usize,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Vec<SocketAddr> {
        let Some(trunk) = self.trunk(index) else {
            return Vec::new();
        };
        match self.reached(&Who::Trunk(trunk.name.clone())) {
            Some(reached) => reached.order(draw),
            None => trunk.addresses.clone(),
        }
    }

    /// The firewall lent a listener's sockets.
    pub(crate) fn listening(
        &mut self,
        zone: ZoneId,
        transport: Transport,
        port: u16,
        local: Vec<SocketAddr>,
    ) {
        self.listening.insert((zone, transport, port), local);
    }

    /// Every listener is lost.
    pub(crate) fn deaf(&mut self) {
        self.listening.clear();
    }

    /// Whether that listener stands, on the address of each family that the zone has now: a zone may learn its addresses.
    pub(crate) fn hears(&self, listener: &Listener) -> bool {
        let Some(locals) = self.listening.get(&key(listener)) else {
            return false;
        };
        let own = self.zone(listener.zone).map(|zone| &zone.addresses[..]);
        let own = own.unwrap_or_default();
        locals
            .iter()
            .all(|local| local.port() == listener.port && own.contains(&local.ip()))
            && own.iter().all(|address| {
                let mut others = locals.iter().map(SocketAddr::ip);
                others.any(|local| local.is_ipv4() == address.is_ipv4())
            })
    }

    pub(crate) fn zone(&self, id: ZoneId) -> Option<&Zone> {
        self.settings.zones.iter().find(|zone| zone.id == id)
    }

    /// Name of a zone for records.
    pub(crate) fn zone_name(&self, id: ZoneId) -> &str {
        self.zone(id).map_or("", |zone| zone.name.as_str())
    }

    /// Own signalling address in a zone towards `peer`: same family, that transport's listener, the first that is
    /// configured if there are several.
    pub(crate) fn own(
        &self,
        zone: ZoneId,
        transport: Transport,
        peer: IpAddr,
    ) -> Option<SocketAddr> {
        self.settings
            .listeners
            .iter()
            .filter(|listener| listener.zone == zone && listener.transport == transport)
            .filter_map(|listener| self.listening.get(&key(listener)))
            .flatten()
            .find(|local| local.is_ipv4() == peer.is_ipv4())
            .copied()
    }

    /// Whether an address is one of our own, in any zone.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.settings
            .zones
            .iter()
            .any(|zone| zone.addresses.contains(&address))
    }

    /// Whether a host name in a URI means us: the domain, or one of our addresses.
    pub(crate) fn is_our_host(&self, host: &str) -> bool {
        if host.eq_ignore_ascii_case(&self.settings.domain) {
            return true;
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        bare.parse().is_ok_and(|address| self.is_own(address))
    }

    /// Whether a host lies on the zone's own networks (without the default route).
    pub(crate) fn in_networks(&self, zone: ZoneId, address: IpAddr) -> bool {
        self.zone(zone).is_some_and(|zone| {
            zone.networks
                .iter()
                .any(|network| network.contains(&address))
        })
    }

    /// Whether a peer that is reached by datagrams gets large requests by a stream: the settings may say of a registrar or
    /// trunk that it has none.
    pub(crate) fn may_stream(&self, zone: ZoneId, peer: SocketAddr) -> bool {
        let registrar = self.registrar().into_iter().map(|registrar| {
            let by_tcp = registrar.large_requests_by_tcp;
            let of = (&registrar.addresses, &registrar.named);
            (registrar.zone, of, by_tcp)
        });
        let trunks = self.settings.trunks.iter().map(|trunk| {
            let of = (&trunk.addresses, &trunk.named);
            (trunk.zone, of, trunk.large_requests_by_tcp)
        });
        registrar
            .chain(trunks)
            .filter(|(at, (addresses, named), _)| {
                let named = named.as_ref();
                *at == zone
                    && (addresses.contains(&peer)
                        || named.is_some_and(|named| named.covers(peer.ip())))
            })
            .all(|(_, _, by_tcp)| by_tcp)
    }

    /// Where the registrar or a trunk listens for a stream, by the host that one came from.
    pub(crate) fn stream_of(
        &self,
        zone: ZoneId,
        transport: Transport,
        host: IpAddr,
    ) -> Option<SocketAddr> {
        let registrar = self.registrar().into_iter();
        let registrar = registrar.map(|it| (it.zone, it.transport, &it.addresses));
        let trunks = self.settings.trunks.iter();
        let trunks = trunks.map(|it| (it.zone, it.transport, &it.addresses));
        registrar
            .chain(trunks)
            .filter(|(at, by, _)| (*at, *by) == (zone, transport))
            .find_map(|(.., addresses)| addresses.iter().find(|have| have.ip() == host))
            .copied()
    }

    /// Who a source is by zone and address.
    pub(crate) fn peer(&self, zone: ZoneId, address: IpAddr) -> Peer {
        if self.registrar().is_some_and(|registrar| {
            registrar.zone == zone && has(&registrar.addresses, &registrar.named, address)
        }) {
            return Peer::Registrar;
        }
        if let Some(index) =
            self.settings.trunks.iter().position(|trunk| {
                trunk.zone == zone && has(&trunk.addresses, &trunk.named, address)
            })
        {
            return Peer::Trunk(index);
        }
        match self.zone(zone).map(|zone| zone.kind) {
            Some(ZoneKind::Internal) => Peer::Internal,
            _ => Peer::Stranger,
        }
    }

    /// Whether the settings name this very address and port as a trunk's or the registrar's.
    pub(crate) fn is_configured(&self, zone: ZoneId, peer: SocketAddr) -> bool {
        let registrar = self
            .registrar()
            .is_some_and(|registrar| registrar.zone == zone && registrar.addresses.contains(&peer));
        registrar
            || self
                .settings
                .trunks
                .iter()
                .any(|trunk| trunk.zone == zone && trunk.addresses.contains(&peer))
    }

    /// The callers of the routing table that a source counts as.
    pub(crate) fn origins(&self, peer: Peer, zone: ZoneId, registered: bool) -> Vec<Origin> {
        let mut origins = Vec::new();
        match peer {
            Peer::Registrar => origins.extend([Origin::Registrar, Origin::Internal]),
            Peer::Internal => origins.push(Origin::Internal),
            Peer::Trunk(index) => {
                origins.extend(
                    self.trunk(index)
                        .map(|trunk| Origin::Trunk(trunk.name.clone())),
                );
            }
            Peer::Stranger => {}
        }
        if registered {
            origins.push(Origin::Registered);
        }
        // A stranger is nobody, wherever it is.
        if !origins.is_empty() {
            origins.extend(self.zone(zone).map(|zone| Origin::Zone(zone.name.clone())));
        }
        origins
    }

    pub(crate) fn registrar(&self) -> Option<&Registrar> {
        self.settings.registrar.as_ref()
    }

    pub(crate) fn trunk(&self, index: usize) -> Option<&Trunk> {
        self.settings.trunks.get(index)
    }
}

const fn key(listener: &Listener) -> (ZoneId, Transport, u16) {
    (listener.zone, listener.transport, listener.port)
}

/// Whether an address is a peer's. One known by name is told apart by its networks alone: no name server can make anybody
/// a carrier.
fn has(addresses: &[SocketAddr], named: &Option<Named>, address: IpAddr) -> bool {
    match named {
        Some(named) => named.covers(address),
        None => addresses.iter().any(|known| known.ip() == address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EXTERNAL, INTERNAL, settings};

    #[test]
    fn a_source_is_known_by_zone_and_address() {
        let surroundings = Surroundings::new(Box::new(settings()));
        let peer = |zone, address: &str| surroundings.peer(zone, address.parse().unwrap());
        assert_eq!(peer(EXTERNAL, "198.51.100.20"), Peer::Trunk(0));
        assert_eq!(peer(EXTERNAL, "2001:db8:e::20"), Peer::Trunk(0));
        assert_eq!(peer(EXTERNAL, "198.51.100.66"), Peer::Stranger);
        assert_eq!(peer(INTERNAL, "192.0.2.10"), Peer::Registrar);
        assert_eq!(peer(INTERNAL, "192.0.2.40"), Peer::Internal);
        // The PBX's address in another zone is nobody's.
        assert_eq!(peer(EXTERNAL, "192.0.2.10"), Peer::Stranger);
        assert_eq!(peer(INTERNAL, "198.51.100.20"), Peer::Internal);
        assert_eq!(peer(ZoneId(9), "192.0.2.40"), Peer::Stranger);
    }

    #[test]
    fn an_unlent_listener_gives_no_address() {
        let surroundings = Surroundings::new(Box::new(settings()));
        assert_eq!(
            surroundings.own(EXTERNAL, Transport::Udp, "198.51.100.20".parse().unwrap()),
            None
        );
    }

    #[test]
    fn of_two_listeners_of_a_transport_the_first_gives_the_address_and_each_goes_alone() {
        let mut settings = settings();
        let second = |port| Listener {
            zone: EXTERNAL,
            transport: Transport::Udp,
            port,
            certificates: Vec::new(),
            origins: Vec::new(),
        };
        settings.listeners = vec![second(5070), second(5060)];
        let mut surroundings = Surroundings::new(Box::new(settings.clone()));
        for port in [5060, 5070] {
            let local = vec![SocketAddr::new("198.51.100.1".parse().unwrap(), port)];
            surroundings.listening(EXTERNAL, Transport::Udp, port, local);
        }
        let own = |surroundings: &Surroundings| {
            let peer = "198.51.100.20".parse().unwrap();
            surroundings
                .own(EXTERNAL, Transport::Udp, peer)
                .map(|own| own.port())
        };
        assert_eq!(own(&surroundings), Some(5070));
        settings.listeners.remove(0);
        surroundings.replace(Box::new(settings));
        assert_eq!(own(&surroundings), Some(5060));
    }

    #[test]
    fn our_host_is_the_domain_or_one_of_our_addresses() {
        let surroundings = Surroundings::new(Box::new(settings()));
        for host in ["lab.test", "LAB.test", "198.51.100.1", "[2001:db8:e::1]"] {
            assert!(surroundings.is_our_host(host), "{host}");
        }
        for host in ["lab.test.", "evil.test", "198.51.100.2", ""] {
            assert!(!surroundings.is_our_host(host), "{host}");
        }
    }
}
