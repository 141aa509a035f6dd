use super::*;

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: sbc.lab.test\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n";

fn socket() -> Socket {
    Socket::new(Arc::new(Terms {
        origins: vec!["https://pages.example".into()],
        message_octets: 2000,
    }))
}

fn receive(socket: &mut Socket, octets: &[u8]) -> (Result<(), Fault>, Vec<u8>, Vec<Heard>) {
    let (mut send, mut heard) = (Vec::new(), Vec::new());
    let result = socket.receive(octets, &mut send, &mut heard);
    (result, send, heard)
}

fn opened() -> Socket {
    let mut socket = socket();
    assert_eq!(receive(&mut socket, REQUEST.as_bytes()).2, [Heard::Opened]);
    socket
}

/// A client's frame (RFC 6455 §5.2) with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ ..=125) => octets.push(0x80 | short),
        _ => {
            octets.push(0x80 | 126);
            octets.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    octets.extend([0; 4]);
    octets.extend(payload);
    octets
}

#[test]
fn the_opening_is_answered_as_the_standards_example_is() {
    let mut socket = socket();
    let (whole, last) = REQUEST.as_bytes().split_at(REQUEST.len() - 1);
    for octet in whole {
        assert_eq!(
            receive(&mut socket, &[*octet]),
            (Ok(()), Vec::new(), Vec::new())
        );
    }
    let (result, send, heard) = receive(&mut socket, last);
    assert_eq!((result, heard), (Ok(()), vec![Heard::Opened]));
    let answer = String::from_utf8(send).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nSec-WebSocket-Protocol: sip\r\n"),
        "{answer}"
    );
}

#[test]
fn what_is_no_opening_of_ours_is_refused_without_detail() {
    for (from, to, fault, status) in [
        ("GET /ws", "GET /", Fault::NotFound, "404"),
        ("GET /ws", "GET /ws/../x", Fault::NotFound, "404"),
        ("GET /ws", "POST /ws", Fault::NotFound, "404"),
        ("Upgrade: websocket", "X: y", Fault::NotFound, "404"),
        ("HTTP/1.1", "HTTP/1.0", Fault::NotHttp, "400"),
        ("HTTP/1.1", "SIP/2.0", Fault::NotHttp, "400"),
        (": 13", ": 12", Fault::BadUpgrade, "400"),
        (": sip", ": xmpp", Fault::BadUpgrade, "400"),
        ("nonce==", "nonce=", Fault::BadUpgrade, "400"),
        ("dGhl", "d%hl", Fault::BadUpgrade, "400"),
        (
            "Host: sbc.lab.test",
            "Host: a\r\nHost: b",
            Fault::BadUpgrade,
            "400",
        ),
        (
            "Host:",
            "Origin: https://evil.example\r\nHost:",
            Fault::Origin,
            "403",
        ),
        ("Host:", "Origin: null\r\nHost:", Fault::Origin, "403"),
    ] {
        let to = if from == "nonce==" {
            "dGhlIHNhbXBsZSBub25jZQ="
        } else {
            to
        };
        let from = if from == "nonce==" {
            "dGhlIHNhbXBsZSBub25jZQ=="
        } else {
            from
        };
        let (result, send, heard) = receive(&mut socket(), REQUEST.replace(from, to).as_bytes());
        assert_eq!((result, heard), (Err(fault), Vec::new()), "{from} → {to}");
        let answer = String::from_utf8(send).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with("Connection: close\r\n\r\n"), "{answer}");
    }
    let endless = receive(&mut socket(), &[b'x'; HEAD + 1]);
    assert_eq!(endless.0, Err(Fault::NotHttp));
}

#[test]
fn pages_of_the_same_host_and_of_the_list_may_connect() {
    for origin in [
        "https://sbc.lab.test",
        "https://SBC.lab.test",
        "https://pages.example",
    ] {
        let request = REQUEST.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
        let (result, _, heard) = receive(&mut socket(), request.as_bytes());
        assert_eq!((result, heard), (Ok(()), vec![Heard::Opened]), "{origin}");
    }
}

#[test]
fn messages_come_out_whole_however_they_are_framed_and_cut() {
    let octets = [
        frame(0x81, b"one"),
        frame(0x01, b"tw"),
        frame(0x89, b"alive?"),
        frame(0x80, b"o"),
        frame(0x82, &[0xff; 300]),
    ]
    .concat();
    for size in 1..20 {
        let mut socket = opened();
        let (mut heard, mut send) = (Vec::new(), Vec::new());
        for piece in octets.chunks(size) {
            socket.receive(piece, &mut send, &mut heard).unwrap();
        }
        let expected = [
            Heard::Message(b"one".to_vec()),
            Heard::Message(b"two".to_vec()),
            Heard::Message(vec![0xff; 300]),
        ];
        assert_eq!(heard, expected, "{size}");
        assert_eq!(send, [b"\x8a\x06".as_slice(), b"alive?"].concat(), "a pong");
    }
}

#[test]
fn a_message_leaves_as_text_where_it_is_text() {
    let mut socket = opened();
    let mut send = Vec::new();
    socket.send(b"OPTIONS", &mut send);
    socket.send(&[0xff, 0], &mut send);
    assert_eq!(send, b"\x81\x07OPTIONS\x82\x02\xff\x00");
}

#[test]
fn frames_that_the_standard_does_not_know_and_floods_are_refused() {
    let unmasked = b"\x81\x01x".to_vec();
    let reserved = frame(0x83, b"x");
    let lonely = frame(0x80, b"x");
    let long_ping = frame(0x89, &[0; 126]);
    let compressed = frame(0xc1, b"x");
    for octets in [unmasked, reserved, lonely, long_ping, compressed] {
        let (result, _, heard) = receive(&mut opened(), &octets);
        assert_eq!((result, heard), (Err(Fault::BadFrame), Vec::new()));
    }
    let (result, _, _) = receive(&mut opened(), &frame(0x81, &[b'x'; 2001]));
    assert_eq!(result, Err(Fault::TooLarge));
    let mut pieces = frame(0x01, &[b'x'; 1500]);
    pieces.extend(frame(0x00, &[b'x'; 1500]));
    assert_eq!(receive(&mut opened(), &pieces).0, Err(Fault::TooLarge));
}

#[test]
fn a_close_is_answered() {
    let (result, send, heard) = receive(&mut opened(), &frame(0x88, &[3, 232]));
    assert_eq!((result, heard), (Ok(()), vec![Heard::Closed]));
    assert_eq!(send, [0x88, 2, 3, 232]);
}
