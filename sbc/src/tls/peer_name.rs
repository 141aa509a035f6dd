//! Whom a certificate speaks for: RFC 5922 §7. A certificate with `sip:` URIs speaks for their domains alone; one without
//! speaks for its DNS names, letter by letter, without wildcards. An address must stand in it as an address.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName};

/// A name that a far end's certificate may bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// `sip:` and this domain.
    Uri(String),
    /// This host or domain.
    Domain(String),
    /// This address.
    Address(IpAddr),
}

impl PeerName {
    /// A name as the configuration writes it.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match (text.strip_prefix("sip:"), text.parse()) {
            (Some(domain), _) => Self::Uri(domain.to_owned()),
            (None, Ok(address)) => Self::Address(address),
            (None, Err(_)) => Self::Domain(text.to_owned()),
        }
    }

    /// The name to begin a connection with (SNI); an address is not sent.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Uri(domain) | Self::Domain(domain) => domain.clone().try_into().ok(),
            Self::Address(address) => Some(ServerName::IpAddress((*address).into())),
        }
    }
}

/// Whether the certificate bears one of these names. False for one that cannot be read.
#[must_use]
pub fn bears_one_of(certificate: &CertificateDer<'_>, names: &[PeerName]) -> bool {
    let Ok(leaf) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    let domains: Vec<&str> = leaf.valid_uri_names().filter_map(sip_domain).collect();
    let bears_uri = |wanted: &str| {
        domains
            .iter()
            .any(|domain| domain.eq_ignore_ascii_case(wanted))
    };
    names.iter().any(|name| match name {
        PeerName::Uri(wanted) => bears_uri(wanted),
        PeerName::Domain(wanted) if !domains.is_empty() => bears_uri(wanted),
        PeerName::Domain(wanted) => leaf
            .valid_dns_names()
            .any(|name| name.eq_ignore_ascii_case(wanted)),
        PeerName::Address(address) => leaf
            .verify_is_valid_for_subject_name(&ServerName::IpAddress((*address).into()))
            .is_ok(),
    })
}

/// RFC 5922 §7.1: the domain of a SIP URI that names nobody in it.
fn sip_domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_domain = !rest.contains(['@', ':', ';', '?', '[']);
    (scheme.eq_ignore_ascii_case("sip") && is_domain).then_some(rest)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(dns: &[&str], uris: &[&str], addresses: &[&str]) -> CertificateDer<'static> {
        let hosts: Vec<String> = dns.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let addresses = addresses
            .iter()
            .map(|address| SanType::IpAddress(address.parse().unwrap()));
        parameters.subject_alt_names.extend(uris.chain(addresses));
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_domain_is_borne_as_dns_name_only_where_no_uri_says_otherwise() {
        let plain = certificate(&["carrier.example", "*.example.net"], &[], &["192.0.2.9"]);
        let typed = certificate(&["carrier.example"], &["sip:other.example"], &[]);
        let mailbox = certificate(&["carrier.example"], &["sip:bob@other.example"], &[]);
        for (certificate, name, expected) in [
            (&plain, "carrier.example", true),
            (&plain, "CARRIER.example", true),
            (&plain, "sip:carrier.example", false),
            (&plain, "x.example.net", false),
            (&plain, "192.0.2.9", true),
            (&plain, "192.0.2.8", false),
            (&typed, "carrier.example", false),
            (&typed, "other.example", true),
            (&typed, "sip:other.example", true),
            (&mailbox, "carrier.example", true),
            (&mailbox, "other.example", false),
        ] {
            let bears = bears_one_of(certificate, &[PeerName::of(name)]);
            assert_eq!(bears, expected, "{name}");
        }
        assert!(!bears_one_of(&plain, &[]));
        assert!(!bears_one_of(
            &CertificateDer::from(vec![1, 2, 3]),
            &[PeerName::of("carrier.example")]
        ));
    }
}
