//! A peer that is known by host name (RFC 3263), with the bounds inside which name servers are believed: a trunk's or the
//! PBX's keys `host`, `networks` and `ports`. Read by `sip`, checked by `check`.

use core::fmt;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::{
    error::say,
    sip::{MAX_ADDRESSES, SIP_PORT, Transport, is_host_name},
    table::{Report, Section},
    value::shown,
};

/// Port of SIP over TLS (RFC 3261 §19.1.2).
const SIPS_PORT: u16 = 5061;

/// Host name of a peer, and where it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Domain or host.
    pub host: Host,
    /// Networks in which its addresses lie; requests from there are its.
    pub networks: Vec<IpNet>,
    /// Ports that it may have; left out: the usual one, or the port of `host`.
    pub ports: Vec<u16>,
}

/// A name, maybe with a port: with one no SRV record is asked for (RFC 3263 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// In small letters.
    pub name: String,
    /// Port.
    pub port: Option<u16>,
}

impl Host {
    /// `sip.example.org` or `sip.example.org:5070`. `None`: neither, or an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (text, None),
        };
        // The last label of a name is never a number (RFC 1123 §2.1): an address is no name.
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|byte| byte.is_ascii_digit());
        // Room for `_sips._tcp.` in front.
        (is_host_name(name) && name.len() <= 240 && !number).then(|| Self {
            name: name.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Named {
    /// Their keys.
    pub(crate) const KEYS: [&'static str; 3] = ["host", "networks", "ports"];

    /// The name of a peer, if it has one. `None`: something was wrong, and that is reported.
    pub(crate) fn optional(
        section: &Section<'_, '_>,
        transport: Option<Transport>,
        report: &mut Report<'_>,
    ) -> Option<Option<Self>> {
        let host: Option<Option<String>> = section.optional(report, "host");
        let networks = section.list(report, "networks", MAX_ADDRESSES);
        let ports: Option<Vec<u16>> = section.list(report, "ports", MAX_ADDRESSES);
        let Some(text) = host? else {
            for key in ["networks", "ports"] {
                let key = section.key(key);
                if report.has(&key) {
                    report.error(
                        &key,
                        say!(
                            "bounds what name servers say about `host`; a peer with `addresses` needs none",
                            "begrenzt, was Nameserver zu `host` sagen; wer `addresses` hat, braucht das nicht"
                        ),
                    );
                }
            }
            return Some(None);
        };
        let Some(host) = Host::parse(&text) else {
            let text = shown(&text);
            report.error(
                &section.key("host"),
                say!(
                    "`{text}` is not a host name; write it like sip.carrier.example or sip.carrier.example:5070, in small letters and without sip:",
                    "`{text}` ist kein Rechnername; Schreibweise sip.carrier.example oder sip.carrier.example:5070, in Kleinbuchstaben und ohne sip:"
                ),
            );
            return None;
        };
        let (networks, mut ports) = (networks?, ports?);
        if networks.is_empty() {
            let name = &host.name;
            report.error(
                &section.key("networks"),
                say!(
                    "`{name}` is looked up, and name servers are not believed without bounds: list the networks in which the peer's addresses lie, networks = [\"192.0.2.0/24\"]; ask the carrier for them",
                    "`{name}` wird nachgeschlagen, und Nameservern wird nicht unbegrenzt geglaubt: hier fehlen die Netze, in denen die Adressen der Gegenstelle liegen, networks = [\"192.0.2.0/24\"]; der Anbieter nennt sie"
                ),
            );
            return None;
        }
        if ports.is_empty() {
            let usual = match transport {
                Some(Transport::Tls) => SIPS_PORT,
                _ => SIP_PORT,
            };
            ports.push(host.port.unwrap_or(usual));
        }
        Some(Some(Self {
            host,
            networks,
            ports,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_maybe_a_port() {
        let of = |text| Host::parse(text).map(|host| (host.name, host.port));
        assert_eq!(
            of("sip.carrier.example"),
            Some(("sip.carrier.example".into(), None))
        );
        assert_eq!(
            of("carrier.example:5070"),
            Some(("carrier.example".into(), Some(5070)))
        );
        for wrong in [
            "192.0.2.1",
            "[2001:db8::1]",
            "sip:carrier.example",
            "carrier.example:0",
            "carrier.example:",
            "Carrier.example",
            "carrier.example.",
            "",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
