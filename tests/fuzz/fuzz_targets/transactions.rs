//! Messages at a transaction layer in any order and at any time: it stays within its limits, and is empty after an hour.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, Message, Request, Response, parse};
use sbc_sip::status::StatusCode;
use sbc_sip::transaction::{ClientId, Flow, Layer, LayerLimits, ServerId, Timers};

#[derive(Clone)]
struct Way(u8);

impl Flow for Way {
    type Scope = u8;

    fn scope(&self) -> u8 {
        self.0 >> 1
    }

    fn is_reliable(&self) -> bool {
        self.0 & 1 == 1
    }
}

const METHODS: [&str; 4] = ["INVITE", "ACK", "CANCEL", "OPTIONS"];

fn request(choice: u8) -> Box<Request> {
    let method = METHODS[usize::from(choice & 3)];
    let branch = if choice & 4 == 0 {
        ";branch=z9hG4bKx"
    } else {
        ""
    };
    let tag = if choice & 8 == 0 { "" } else { ";tag=9" };
    let number = (choice >> 4) & 3;
    let text = format!(
        "{method} sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example{branch}\r\nFrom: <sip:a@a.example>;tag=1\r\n\
         To: <sip:b@b.example>{tag}\r\nCall-ID: c\r\nCSeq: {number} {method}\r\n\r\n"
    );
    match parse(text.as_bytes(), Framing::Datagram, &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(request: &Request, choice: u8) -> Response {
    let status = [100, 180, 200, 302, 486, 503][usize::from(choice) % 6];
    Response::to_request(request, StatusCode::new(status).expect("a status"), "9")
}

fuzz_target!(|octets: &[u8]| {
    let mut layer = Layer::<Way, (), ()>::new(
        LayerLimits {
            clients: 4,
            servers: 4,
        },
        Timers::default(),
    );
    let mut now = Instant::now();
    let (mut clients, mut servers): (Vec<ClientId>, Vec<(ServerId, Box<Request>)>) =
        (Vec::new(), Vec::new());
    for three in octets.chunks_exact(3) {
        let (what, choice, way) = (three[0], three[1], Way(three[2] & 3));
        now += Duration::from_millis(u64::from(three[2] >> 2) * 50);
        layer.handle_timeout(now);
        match what % 7 {
            0 => {
                let request = *request(choice);
                let octets = request.to_bytes();
                let patience = Duration::from_secs(32);
                clients.push(layer.request(now, (request, octets), way, (), patience));
            }
            1 => {
                let request = request(choice);
                let taken = layer.absorb(now, &request, &way) || choice & 3 == 1;
                if !taken {
                    let served = layer.serve(now, &request, way, ());
                    servers.extend(served.map(|id| (id, request)));
                }
            }
            2 => {
                if let Some((id, request)) = servers.get(usize::from(choice) % servers.len().max(1))
                {
                    layer.respond(now, *id, &answer(request, what >> 3));
                }
            }
            3 => {
                layer.handle_response(now, Box::new(answer(&request(choice), what >> 3)), &way);
            }
            4 => {
                if let Some(id) = clients.get(usize::from(choice) % clients.len().max(1)) {
                    layer.cancel(now, *id);
                }
            }
            5 => {
                if let Some(id) = clients.get(usize::from(choice) % clients.len().max(1)) {
                    layer.handle_unreachable(*id);
                }
            }
            _ => {
                if let Some((id, _)) = servers.get(usize::from(choice) % servers.len().max(1)) {
                    layer.acknowledged(now, *id);
                }
            }
        }
        while layer.poll_transmit().is_some() {}
        while layer.poll_event().is_some() {}
        let (clients, servers) = layer.len();
        assert!(clients <= 4 && servers <= 4);
    }
    // What only its user can end: an INVITE that rings, and a request that nobody answered.
    for id in clients {
        layer.handle_unreachable(id);
    }
    for (id, _) in servers {
        layer.forget(now, id);
    }
    while let Some(due) = layer.poll_timeout() {
        assert!(due < now + Duration::from_secs(3_600));
        layer.handle_timeout(due);
        while layer.poll_transmit().is_some() {}
    }
    assert!(layer.is_empty());
});
