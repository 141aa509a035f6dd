//! Nothing answers but what the configuration names: TCP and UDP scans on IPv4 and IPv6, silence to strangers, no spoofed
//! source, and one reason for each drop.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use e2e::{
    agent::Agent,
    api::{self, Answer},
    lab::{product::API_TOKEN, topology::inside},
    scan,
};

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[
    (
        "all_65535_tcp_ports_but_the_advertised_are_silent",
        tcp_scan,
    ),
    ("sampled_udp_ports_are_silent", udp_scan),
    ("a_stranger_gets_no_answer", stranger),
    ("known_peers_get_200_to_options", options),
    ("the_api_wants_its_token", token),
    ("a_spoofed_source_is_dropped_and_counted", spoofed),
];

fn tcp_scan(lab: &Lab) {
    scan::only_the_advertised_answer(&lab.names);
}

fn udp_scan(lab: &Lab) {
    scan::udp_is_silent(&lab.names);
}

fn stranger(lab: &Lab) {
    let gateway = "198.51.100.1:5060".parse().unwrap();
    let agent = Agent::bind(&lab.names.external, "198.51.100.66:5060", "stranger").unwrap();
    for (method, uri) in [
        ("OPTIONS", "sip:198.51.100.1"),
        ("INVITE", "sip:1001@lab.test"),
        ("INVITE", "sip:+4930123456789@lab.test"),
        ("SUBSCRIBE", "sip:1001@lab.test"),
        ("MESSAGE", "sip:1001@lab.test"),
        ("BYE", "sip:1001@lab.test"),
        ("NONSENSE", "sip:1001@lab.test"),
    ] {
        let (text, _) = agent.request(method, uri, gateway, "", "");
        agent.send(gateway, text.as_bytes()).unwrap();
    }
    for garbage in [
        &b"\r\n\r\n"[..],
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\n\r\n",
    ] {
        agent.send(gateway, garbage).unwrap();
    }
    assert!(
        agent.hears_nothing(Duration::from_millis(800)),
        "a stranger was answered"
    );
}

fn options(lab: &Lab) {
    for (namespace, local, gateway) in [
        (
            &lab.names.external,
            "198.51.100.20:5060",
            "198.51.100.1:5060",
        ),
        (
            &lab.names.external,
            "[2001:db8:e::20]:5060",
            "[2001:db8:e::1]:5060",
        ),
        (
            &lab.names.external,
            "198.51.100.21:5082",
            "198.51.100.1:5060",
        ),
        (&lab.names.internal, "192.0.2.10:5060", "192.0.2.1:5060"),
    ] {
        let agent = Agent::bind(namespace, local, "peer").unwrap();
        let gateway: SocketAddr = gateway.parse().unwrap();
        let (text, _) = agent.request("OPTIONS", &format!("sip:{gateway}"), gateway, "", "");
        agent.send(gateway, text.as_bytes()).unwrap();
        let answer = agent.expect("an answer to OPTIONS from the product", |message| {
            message.method().is_empty()
        });
        assert_eq!(answer.status(), 200, "{local}");
        for name in ["server", "user-agent"] {
            assert!(
                ["", "Gatehouse"].contains(&answer.header(name)),
                "{}",
                answer.header(name)
            );
        }
    }
}

fn token(lab: &Lab) {
    let ask = |method, path, token| api::request(&lab.names, method, path, token).unwrap();
    for path in [
        "/api/v1/calls",
        "/api/v1/bans",
        "/api/v1/drops",
        "/api/v1/records",
        "/metrics",
        "/",
        "/nonsense",
    ] {
        assert_eq!(ask("GET", path, None).status, 401, "{path}");
        assert_eq!(ask("GET", path, Some("wrong")).status, 401, "{path}");
    }
    assert_eq!(ask("POST", "/api/v1/lab/reset", None).status, 401);
    assert!(
        matches!(ask("GET", "/healthz", None), Answer { status: 200, ref text, .. } if text == "ok\n")
    );
    assert_eq!(ask("GET", "/nonsense", Some(API_TOKEN)).status, 404);
    assert_eq!(ask("DELETE", "/api/v1/calls", Some(API_TOKEN)).status, 405);
    assert_eq!(
        ask("DELETE", "/api/v1/bans/198.51.100.77", Some(API_TOKEN)).status,
        404
    );
    let metrics = ask("GET", "/metrics", Some(API_TOKEN)).text;
    assert!(
        metrics.contains("gatehouse_up{process=\"sbc\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("gatehouse_up{process=\"firewall\"} 1"),
        "{metrics}"
    );
}

fn spoofed(lab: &Lab) {
    // The internal prefix on the external wire: the address is put on the attacker's link, so no raw socket is needed.
    let external = &lab.names.external;
    e2e::lab::run(
        "ip",
        &["-n", external, "addr", "add", "192.0.2.99/32", "dev", "e0"],
    )
    .unwrap();
    inside(external, || {
        let socket = UdpSocket::bind("192.0.2.99:5060").unwrap();
        for _ in 0..5 {
            socket
                .send_to(b"OPTIONS sip:x SIP/2.0\r\n\r\n", "198.51.100.1:5060")
                .unwrap();
        }
    })
    .unwrap();
    e2e::lab::run(
        "ip",
        &["-n", external, "addr", "del", "192.0.2.99/32", "dev", "e0"],
    )
    .unwrap();
    let counted = api::eventually(Duration::from_secs(5), || {
        let drops = api::get(&lab.names, "/api/v1/drops");
        drops.as_array().is_some_and(|drops| {
            drops.iter().any(|drop| {
                drop["zone"] == "external"
                    && drop["reason"]
                        .as_str()
                        .is_some_and(|reason| reason.contains("spoof"))
                    && drop["count"].as_u64() >= Some(5)
            })
        })
    });
    assert!(counted, "{}", api::get(&lab.names, "/api/v1/drops"));
}
