//! A small ruleset for tests of the broker alone: the sets of the real one, and chains that let through what is in them.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use broker_proto::{
    Role,
    settings::{Limits, Settings, Transport, ZoneId},
};
use firewall::{
    broker::permissions::{
        Bounds, ConnectPermission, ListenPermission, MediaPermissions, Permissions, Strangers,
        ZonePermissions,
    },
    daemon::commit::{Committed, Ruleset},
    nftables::names::{Field, Set, SetFamily, TABLE, Writer, mark},
};

/// Loads sets at first and chains at each commit. A document `bad` is refused.
pub(crate) struct Small;

impl Ruleset for Small {
    fn close(&mut self) -> Result<(), String> {
        nft(&format!("table inet {TABLE} {{\n{}\n}}", sets()))
    }

    fn commit(&mut self, revision: u64, document: &str) -> Result<Committed, String> {
        if document == "bad" {
            return Err("bad".into());
        }
        nft(&format!(
            "add chain inet {TABLE} in\nadd chain inet {TABLE} out\ndelete chain inet {TABLE} in\ndelete chain inet {TABLE} out\n{}",
            chains()
        ))?;
        Ok(Committed {
            permissions: permissions(),
            settings: settings(revision),
            test_zones: Vec::new(),
        })
    }
}

fn nft(text: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn sets() -> String {
    let mut text = String::new();
    for set in Set::ALL
        .into_iter()
        .filter(|set| set.writer() == Writer::Broker)
    {
        for family in SetFamily::ALL {
            let fields: Vec<&str> = set
                .key()
                .iter()
                .map(|field| {
                    if *field == Field::Address {
                        family.address_type()
                    } else {
                        "inet_service"
                    }
                })
                .collect();
            let (name, kind, size) = (set.name(family), fields.join(" . "), set.size());
            text += &format!("set {name} {{ type {kind}; flags timeout; size {size}; }}\n");
        }
    }
    text
}

fn chains() -> String {
    let media = mark::MEDIA;
    format!(
        "table inet {TABLE} {{
        chain in {{
            type filter hook input priority 0; policy drop;
            ip saddr . udp sport @ban_flow_sip4 drop
            ip saddr @ban_host_sip4 drop
            ip daddr . udp dport . ip saddr . udp sport @media_peer4 accept
            ip daddr . udp dport . ip saddr @media_host4 accept
            ip daddr . udp dport @media_any4 accept
            udp dport 5060 accept
            tcp dport 5060 accept
            tcp sport 5060 ct state established accept
            meta l4proto icmpv6 accept
        }}
        chain out {{
            type filter hook output priority 0; policy drop;
            meta mark {media} ip saddr . udp sport . ip daddr . udp dport @media_out4 accept
            meta mark {media} drop
            accept
        }}
        }}"
    )
}

pub(crate) fn permissions() -> Permissions {
    let external = ZonePermissions {
        name: "external".into(),
        device: "ext0".into(),
        addresses: vec![
            "198.51.100.1".parse().unwrap(),
            "2001:db8:e::1".parse().unwrap(),
        ],
        media: Some(MediaPermissions {
            networks: Vec::new(),
            ports: (16384, 32767),
            peer_ports: (1024, 65535),
        }),
        networks: vec![
            "198.51.100.0/24".parse().unwrap(),
            "2001:db8:e::/64".parse().unwrap(),
        ],
        strangers: Strangers { v4: true, v6: true },
        ..ZonePermissions::default()
    };
    let listen = |transport| ListenPermission {
        role: Role::Sbc,
        zone: ZoneId(0),
        transport,
        port: 5060,
    };
    Permissions {
        zones: vec![external],
        listen: [listen(Transport::Udp), listen(Transport::Tcp)].into(),
        connect: [ConnectPermission {
            role: Role::Sbc,
            zone: ZoneId(0),
            transport: Transport::Tcp,
            peer: "198.51.100.10:5060".parse().unwrap(),
        }]
        .into(),
        bounds: Bounds {
            registrations: 1000,
            calls: 4000,
            call_rate: 500,
            media_sockets: 8192,
            bans: 1000,
            ban_seconds: 3600,
            connections: 100,
            connections_per_source: 3,
        },
        lab: true,
        ..Permissions::default()
    }
}

pub(crate) fn settings(revision: u64) -> Settings {
    let limits = Limits {
        calls: 4000,
        calls_per_source: 10,
        call_rate: 500,
        registrations: 10,
        connections: 100,
        message_octets: 1500,
        media_timeout_seconds: 60,
        call_seconds: 60,
        handshake_seconds: 10,
        idle_connection_seconds: 60,
        session_expires_seconds: 0,
        min_se_seconds: 90,
    };
    Settings {
        revision,
        domain: "lab.test".into(),
        zones: Vec::new(),
        listeners: Vec::new(),
        registrar: None,
        trunks: Vec::new(),
        routes: Vec::new(),
        account: broker_proto::settings::Caps::default(),
        policies: Vec::new(),
        limits,
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        lab: true,
    }
}
