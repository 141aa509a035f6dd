//! The sbc's part of the configuration as typed values: it reads no file. Called by the daemon at each commit.

use core::net::SocketAddr;

use appliance_config::{Document, Transport as Reach, ZoneKind as Kind};
use broker_proto::settings::{
    Collector, Limits, Listener, NameServer, Named, PeerTls, Registrar, SecretId, Settings,
    ShortRefresh, Transport, Trunk, TrunkRegistration, Zone, ZoneId, ZoneKind,
};

use super::{dialplan, leaves_by};

/// RFC 1035 §4.2.
const DNS_PORT: u16 = 53;

/// The sbc's settings of a checked document. `revision` counts commits.
#[must_use]
pub fn to_settings(document: &Document, revision: u64) -> Settings {
    let zone_of = |name: &str| {
        let index = document.zones.iter().position(|zone| zone.name == name)?;
        u8::try_from(index).ok().map(ZoneId)
    };
    Settings {
        revision,
        domain: document.sip.domain.clone(),
        zones: document
            .zones
            .iter()
            .zip(0u8..)
            .map(|(zone, id)| to_zone(zone, ZoneId(id)))
            .collect(),
        listeners: document
            .listeners
            .iter()
            .filter_map(|l| listener(l, zone_of(&l.zone)?))
            .collect(),
        registrar: document.sip.registrar.as_ref().and_then(|registrar| {
            Some(Registrar {
                zone: zone_of(&registrar.zone)?,
                addresses: registrar.addresses.clone(),
                named: named(
                    registrar.named.as_ref(),
                    registrar.transport,
                    registrar.tls.is_some(),
                ),
                transport: preferred(registrar.transport, registrar.tls.is_some()),
                large_requests_by_tcp: registrar.large_requests_by_tcp,
                tls: registrar
                    .tls
                    .as_ref()
                    .map(|own| tls(own, registrar.named.as_ref())),
            })
        }),
        trunks: document
            .trunks
            .iter()
            .filter_map(|t| Some(trunk(t, zone_of(&t.zone)?)))
            .collect(),
        routes: document.routes.iter().map(dialplan::route).collect(),
        account: dialplan::caps(&document.sip.account),
        policies: document
            .policies
            .iter()
            .map(|p| super::peers::policy(p, &zone_of))
            .collect(),
        limits: limits(&document.limits),
        registration: registration(&document.registration),
        collector: document.logging.hep.and_then(|address| {
            let zone = document
                .zones
                .iter()
                .find(|zone| leaves_by(document, zone, address.ip()))?;
            Some(Collector {
                zone: zone_of(&zone.name)?,
                address,
            })
        }),
        name_servers: name_servers(document)
            .filter_map(|(zone, address)| {
                Some(NameServer {
                    zone: zone_of(&zone.name)?,
                    address,
                })
            })
            .collect(),
        lab: document.lab,
    }
}

/// The same transports in the words of the broker, the preferred one first, at least one. What has a table `tls` is never
/// reached without TLS, whatever name servers say.
#[must_use]
pub const fn transports(reach: Reach, tls: bool) -> &'static [Transport] {
    match (reach, tls) {
        (Reach::Udp, _) => &[Transport::Udp],
        (Reach::Tcp, _) => &[Transport::Tcp],
        (Reach::Tls, _) | (Reach::Naptr, true) => &[Transport::Tls],
        (Reach::Naptr, false) => &[Transport::Udp, Transport::Tcp],
    }
}

/// The first of [`transports`].
const fn preferred(reach: Reach, tls: bool) -> Transport {
    match transports(reach, tls) {
        [first, ..] => *first,
        [] => Transport::Udp,
    }
}

/// Name servers that the sbc may ask, each with the zone by which it is reached: none, if no peer is known by name.
pub(super) fn name_servers(
    document: &Document,
) -> impl Iterator<Item = (&appliance_config::Zone, SocketAddr)> {
    let trunks = document.trunks.iter().map(|trunk| &trunk.named);
    let registrar = document.sip.registrar.iter().map(|pbx| &pbx.named);
    let wanted = trunks.chain(registrar).any(Option::is_some);
    let servers = document.host.dns.iter().filter(move |_| wanted);
    servers.filter_map(|server| {
        let mut zones = document.zones.iter();
        let zone = zones.find(|zone| leaves_by(document, zone, *server))?;
        Some((zone, SocketAddr::new(*server, DNS_PORT)))
    })
}

fn named(named: Option<&appliance_config::Named>, reach: Reach, tls: bool) -> Option<Named> {
    let named = named?;
    Some(Named {
        host: named.host.name.clone(),
        port: named.host.port,
        by_naptr: reach == Reach::Naptr,
        transports: transports(reach, tls).to_vec(),
        networks: named.networks.clone(),
        ports: named.ports.clone(),
    })
}

fn to_zone(zone: &appliance_config::Zone, id: ZoneId) -> Zone {
    let kind = match zone.kind {
        Kind::External => ZoneKind::External,
        Kind::Internal => ZoneKind::Internal,
        Kind::Management => ZoneKind::Management,
        Kind::Partner => ZoneKind::Partner,
    };
    Zone {
        id,
        name: zone.name.clone(),
        kind,
        addresses: zone.addresses(),
        networks: zone.networks(),
        policy: dialplan::zone(&zone.policy),
    }
}

fn listener(listener: &appliance_config::Listener, zone: ZoneId) -> Option<Listener> {
    use appliance_config::Service;
    let transport = match listener.service {
        Service::SipUdp => Transport::Udp,
        Service::SipTcp => Transport::Tcp,
        Service::SipTls => Transport::Tls,
        Service::Ws => Transport::Ws,
        Service::Wss => Transport::Wss,
        // Not the sbc's.
        Service::ManagementHttps => return None,
    };
    Some(Listener {
        zone,
        transport,
        port: listener.port,
        certificates: listener.certificates.clone(),
        origins: listener.origins.clone(),
    })
}

/// RFC 5922 §4: without other names a peer that is known by name shows a certificate of that name, not of the hosts that
/// name servers lead to.
fn tls(tls: &appliance_config::PeerTls, named: Option<&appliance_config::Named>) -> PeerTls {
    let names = match (tls.names.as_slice(), named) {
        ([], Some(named)) => vec![named.host.name.clone()],
        (names, _) => names.to_vec(),
    };
    PeerTls {
        names,
        authorities: tls.authorities.clone(),
        certificate: tls.certificate.clone(),
    }
}

fn trunk(trunk: &appliance_config::Trunk, zone: ZoneId) -> Trunk {
    let registration = trunk
        .registration
        .as_ref()
        .map(|registration| TrunkRegistration {
            user: registration.user.clone(),
            realm: registration.realm.clone(),
            interval_seconds: registration.interval_seconds,
            secret: SecretId(registration.secret.clone()),
        });
    Trunk {
        name: trunk.name.clone(),
        zone,
        addresses: trunk.addresses.clone(),
        named: named(trunk.named.as_ref(), trunk.transport, trunk.tls.is_some()),
        transport: preferred(trunk.transport, trunk.tls.is_some()),
        large_requests_by_tcp: trunk.large_requests_by_tcp,
        tls: trunk.tls.as_ref().map(|own| tls(own, trunk.named.as_ref())),
        registration,
        policy: dialplan::trunk(&trunk.policy),
    }
}

const fn registration(
    registration: &appliance_config::Registrations,
) -> broker_proto::settings::Registration {
    use appliance_config::{Keepalive, ShortRefresh as Short};
    let numbers = &registration.numbers;
    broker_proto::settings::Registration {
        short_refresh: match registration.short_refresh {
            Short::Nat => ShortRefresh::Nat,
            Short::Udp => ShortRefresh::Udp,
            Short::All => ShortRefresh::All,
        },
        refresh_udp_seconds: numbers.refresh_udp_seconds,
        refresh_stream_seconds: numbers.refresh_stream_seconds,
        registrar_expires_seconds: numbers.registrar_expires_seconds,
        min_expires_seconds: numbers.min_expires_seconds,
        keepalive_by_options: matches!(registration.keepalive, Keepalive::Options),
        keepalive_seconds: numbers.keepalive_seconds,
        contacts_per_account: numbers.contacts_per_account,
        contacts_per_source: numbers.contacts_per_source,
        source_rate: numbers.source_rate,
        relay_rate: numbers.relay_rate,
        away_seconds: numbers.away_seconds,
    }
}

const fn limits(limits: &appliance_config::Limits) -> Limits {
    Limits {
        calls: limits.calls,
        calls_per_source: limits.calls_per_source,
        call_rate: limits.call_rate,
        registrations: limits.registrations,
        connections: limits.connections,
        handshake_seconds: limits.handshake_seconds,
        message_octets: limits.message_octets,
        media_timeout_seconds: limits.media_timeout_seconds,
        call_seconds: limits.call_seconds,
        session_expires_seconds: limits.session_expires_seconds,
        min_se_seconds: limits.min_se_seconds,
        idle_connection_seconds: limits.idle_connection_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::lab;

    #[test]
    fn the_sbc_learns_the_laboratory_but_no_management_listener() {
        let document = lab();
        let settings = to_settings(&document, 7);
        assert_eq!(
            (settings.revision, settings.domain.as_str(), settings.lab),
            (7, "lab.test", true)
        );
        assert_eq!(
            settings.zones.iter().map(|z| z.id.0).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(settings.listeners.len(), 6);
        assert!(
            settings
                .listeners
                .iter()
                .all(|listener| listener.zone != ZoneId(2))
        );
        assert_eq!(
            settings.registrar.map(|registrar| registrar.zone),
            Some(ZoneId(1))
        );
        assert_eq!(settings.trunks.len(), 2);
        assert_eq!(settings.routes.len(), document.routes.len());
    }
}
