//! Requests too large for a datagram: by TCP to a PBX that is reached by UDP, and by UDP where it refuses that (RFC 3261
//! §18.1.1). The PBX is played by hand.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use e2e::{
    agent::{Agent, Message, description},
    lab::topology::inside,
    parties::GATEWAY_EXTERNAL,
};

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[(
    "a_large_invite_reaches_the_pbx_by_tcp_and_by_udp_where_that_is_refused",
    by_tcp,
)];

const PBX: &str = "192.0.2.10:5060";

/// An INVITE of the carrier whose offer has many formats; it comes in fragments.
fn call(trunk: &Agent) -> String {
    let mut offer = description("198.51.100.20:30000".parse().unwrap());
    let formats: Vec<String> = (102..127).map(|format: u8| format.to_string()).collect();
    offer = offer.replace("8 0 101", &format!("8 0 101 {}", formats.join(" ")));
    for format in formats {
        let _ = write!(
            offer,
            "a=rtpmap:{format} opus/48000/2\r\na=fmtp:{format} maxplaybackrate=48000\r\n"
        );
    }
    let gateway = GATEWAY_EXTERNAL.parse().unwrap();
    let uri = "sip:+49305551002@lab.test";
    let (text, _) = trunk.request("INVITE", uri, gateway, "", &offer);
    trunk.send(gateway, text.as_bytes()).unwrap();
    text
}

/// The call's refusal comes, by the way that the call came, and is acknowledged.
fn is_refused(trunk: &Agent, invite: &str) {
    let own = Message::read(invite.as_bytes(), trunk.local);
    let answer = trunk.expect("404", |message| {
        message.status() == 404 && message.header("call-id") == own.header("call-id")
    });
    trunk.acknowledge_failure(invite, &answer);
}

/// The request that comes by a connection.
fn read(stream: &mut TcpStream) -> Message {
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "closed after {} octets", bytes.len());
        bytes.extend_from_slice(&piece[..count]);
        let message = Message::read(&bytes, stream.peer_addr().unwrap());
        let wanted = message.header("content-length").parse();
        if wanted == Ok(message.body.len()) {
            assert!(bytes.len() > 1300, "{} octets", bytes.len());
            return message;
        }
    }
}

fn refusal(of: &Message) -> String {
    let mut text = "SIP/2.0 404 Not Found\r\n".to_owned();
    for name in ["via", "from", "call-id", "cseq"] {
        for value in of.all(name) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    let _ = write!(text, "to: {};tag=p\r\n", of.header("to"));
    text + "content-length: 0\r\n\r\n"
}

fn by_tcp(lab: &Lab) {
    let trunk = Agent::bind(&lab.names.external, "198.51.100.20:5060", "+4930777").unwrap();
    let pbx = Agent::bind(&lab.names.internal, PBX, "pbx").unwrap();
    let listener = inside(&lab.names.internal, || TcpListener::bind(PBX).unwrap()).unwrap();
    let first = call(&trunk);
    let (mut stream, _) = listener.accept().unwrap();
    let invite = read(&mut stream);
    assert_eq!(invite.method(), "INVITE");
    let via = invite.header("via");
    assert!(via.starts_with("SIP/2.0/TCP 192.0.2.1"), "{via}");
    stream.write_all(refusal(&invite).as_bytes()).unwrap();
    is_refused(&trunk, &first);
    // No TCP any more: the kernel resets.
    drop((stream, listener));
    let second = call(&trunk);
    let invite = pbx.expect_request("INVITE");
    let via = invite.header("via");
    assert!(via.starts_with("SIP/2.0/UDP 192.0.2.1"), "{via}");
    pbx.respond(&invite, "404 Not Found", "p", "", "");
    is_refused(&trunk, &second);
}
