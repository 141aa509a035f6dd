//! The sbc's part of the configuration as typed values: it reads no file. Called by the daemon at each commit.

use appliance_config::{Document, Transport as Reach, ZoneKind as Kind};
use broker_proto::settings::{
    Collector, Limits, Listener, PeerTls, Registrar, SecretId, Settings, ShortRefresh, Transport,
    Trunk, TrunkRegistration, Zone, ZoneId, ZoneKind,
};

use super::{dialplan, leaves_by};

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
                transport: transport(registrar.transport),
                large_requests_by_tcp: registrar.large_requests_by_tcp,
                tls: registrar.tls.as_ref().map(tls),
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
        lab: document.lab,
    }
}

/// The same transport in the words of the broker.
#[must_use]
pub const fn transport(reach: Reach) -> Transport {
    match reach {
        Reach::Udp => Transport::Udp,
        Reach::Tcp => Transport::Tcp,
        Reach::Tls => Transport::Tls,
    }
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

fn tls(tls: &appliance_config::PeerTls) -> PeerTls {
    PeerTls {
        names: tls.names.clone(),
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
        transport: transport(trunk.transport),
        large_requests_by_tcp: trunk.large_requests_by_tcp,
        tls: trunk.tls.as_ref().map(tls),
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
