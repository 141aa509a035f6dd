//! Peers played by hand: a message is written, sent, and what came of it is read.

use super::*;
use crate::testing::Message;

/// A request outside a dialog.
pub(super) fn request(
    method: &str,
    uri: &str,
    from: SocketAddr,
    user: &str,
    number: u32,
) -> Message {
    Message::request(method, uri)
        .with(
            "Via",
            format!("SIP/2.0/UDP {from};branch=z9hG4bKsecret{user}{number};rport"),
        )
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:{user}@lab.test>;tag=secret{number}"))
        .with("To", format!("<{uri}>"))
        .with("Call-ID", format!("secret-call-{user}-{number}"))
        .with("CSeq", format!("{number} {method}"))
        .with("User-Agent", "SecretPhone 1.0")
}

/// A request inside the dialog that `message` made or belongs to. `answered`: `message` is a response to us, otherwise a
/// request that came.
pub(super) fn in_dialog(method: &str, from: SocketAddr, message: &Message, number: u32) -> Message {
    let answered = message.status().is_some();
    let (own, other) = if answered {
        ("From", "To")
    } else {
        ("To", "From")
    };
    let own_value = match message.tag(own) {
        Some(_) => message.need(own).to_owned(),
        None => format!("{};tag=secretown", message.need(own)),
    };
    let target = crate::testing::bracketed(message.need("Contact"));
    Message::request(method, &target)
        .with(
            "Via",
            format!(
                "SIP/2.0/UDP {from};branch=z9hG4bKin{number}{method}{};rport",
                message.need("Call-ID").replace('@', "-")
            ),
        )
        .with("Max-Forwards", "70")
        .with("From", own_value)
        .with("To", message.need(other))
        .with("Call-ID", message.need("Call-ID"))
        .with("CSeq", format!("{number} {method}"))
        .with("User-Agent", "SecretPhone 1.0")
}

/// A response to a request that came.
pub(super) fn response(request: &Message, status: u16) -> Message {
    let mut response = Message {
        start: format!("SIP/2.0 {status} Secret"),
        headers: Vec::new(),
        body: String::new(),
    };
    for via in request.all("Via") {
        response = response.with("Via", via);
    }
    let to = match request.tag("To") {
        Some(_) => request.need("To").to_owned(),
        None => format!("{};tag=secretown", request.need("To")),
    };
    for name in ["From", "Call-ID", "CSeq"] {
        response = response.with(name, request.need(name));
    }
    response.with("To", to).with("Server", "SecretPhone 1.0")
}

/// Send a message and let everything settle that follows at once.
pub(super) fn send(world: &mut World, from: SocketAddr, message: &Message) {
    world.datagram(from, &message.bytes());
    world.run(millis(50));
}

/// What a peer got last.
pub(super) fn last(world: &mut World, at: SocketAddr) -> Message {
    world.agent(at).inbox.last().expect("a message").clone()
}

/// How much a peer got.
pub(super) fn got(world: &mut World, at: SocketAddr) -> usize {
    world.agent(at).inbox.len()
}

/// Answer the last message of a peer, which is a request.
pub(super) fn answer(world: &mut World, at: SocketAddr, status: u16) {
    let request = last(world, at);
    assert!(request.method().is_some(), "{request:?}");
    send(world, at, &response(&request, status));
}

/// Alice, registered, and the PBX; both are silent from now on.
pub(super) fn silent_pair(world: &mut World) -> (SocketAddr, SocketAddr) {
    let pbx = pbx(world);
    let alice = registered_alice(world);
    world.agent(pbx).script.alive = false;
    world.agent(alice).script.alive = false;
    (alice, pbx)
}

/// The address under which the PBX knows Alice.
pub(super) fn token(world: &mut World, pbx: SocketAddr) -> String {
    world.agent(pbx).bindings["1001"].clone()
}
