//! Which servers the configuration names and by which zone each is reached: the one whose networks hold the address, else
//! the one with the default route. The firewall reckons the same way and has the last word.

use std::net::{IpAddr, SocketAddr};

use appliance_config::Document;
use broker_proto::settings::ZoneId;

/// Time servers with their zones, in the order of the document; those that no zone reaches are left out.
#[must_use]
pub fn servers(document: &Document) -> Vec<(ZoneId, SocketAddr)> {
    document
        .host
        .ntp
        .iter()
        .filter_map(|server| Some((zone_of(document, server.ip())?, *server)))
        .collect()
}

fn zone_of(document: &Document, address: IpAddr) -> Option<ZoneId> {
    let near = document
        .zones
        .iter()
        .position(|zone| zone.contains(address));
    let far = || {
        document
            .zones
            .iter()
            .position(|zone| zone.has_default_route(address.is_ipv6()))
    };
    u8::try_from(near.or_else(far)?).ok().map(ZoneId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_by_its_zone_or_by_the_default_route() {
        let lab = include_str!("../../../tests/lab/gatehouse.toml");
        let ntp = "ntp = [\"203.0.113.10\", \"198.18.0.1:1123\", \"2001:db8:1::10\"]";
        let text = lab.replace("language = \"en\"", &format!("language = \"en\"\n{ntp}"));
        let document = Document::parse(&text, "gatehouse.toml").unwrap();
        let found: Vec<_> = servers(&document)
            .into_iter()
            .map(|(zone, server)| (zone.0, server.to_string()))
            .collect();
        let expected = [
            (2, "203.0.113.10:123"),
            (0, "198.18.0.1:1123"),
            (1, "[2001:db8:1::10]:123"),
        ];
        assert_eq!(
            found,
            expected.map(|(zone, server)| (zone, server.to_owned()))
        );
    }
}
