//! Messages read and written per second on one core: `cargo run --release -p sbc-sip --example parse_bench [messages]`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a program that measures looks at the clock and prints"
)]

use std::time::Instant;

use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, parse};
use sbc_sip::sdp::{self, SessionDescription};

const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
                   m=audio 49170 RTP/AVP 8 0 9 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
                   a=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
                   a=sendrecv\r\n";

fn invite() -> Vec<u8> {
    format!(
        "INVITE sip:+4930555001002@198.51.100.1:5060;transport=udp SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.20:5060;branch=z9hG4bK776asdhds;rport\r\n\
         Via: SIP/2.0/UDP pc33.example.com:5060;branch=z9hG4bKnashds8;received=192.0.2.207\r\n\
         Max-Forwards: 70\r\nRecord-Route: <sip:198.51.100.20;lr>\r\n\
         From: \"Alice\" <sip:+4930555001001@trunk1.test>;tag=1928301774\r\n\
         To: <sip:+4930555001002@198.51.100.1>\r\nCall-ID: a84b4c76e66710@pc33.example.com\r\n\
         CSeq: 314159 INVITE\r\nContact: <sip:alice@pc33.example.com;transport=udp>\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK\r\nSupported: timer, 100rel, replaces\r\n\
         Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nUser-Agent: Example/1.0\r\n\
         P-Asserted-Identity: <sip:+4930555001001@trunk1.test>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
    .into_bytes()
}

/// Seconds that this thread was on a processor, so that what else the machine does does not count; by the clock where the
/// kernel does not tell.
fn processor_seconds(start: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told
        .as_deref()
        .and_then(|told| told.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(
        || start.elapsed().as_secs_f64(),
        |nanoseconds| nanoseconds / 1e9,
    )
}

fn measure(what: &str, count: u32, mut work: impl FnMut()) {
    let start = Instant::now();
    let before = processor_seconds(start);
    for _ in 0..count {
        work();
    }
    let seconds = processor_seconds(start) - before;
    println!(
        "{what}: {:.0}/s, {:.2} us each",
        f64::from(count) / seconds,
        seconds * 1e6 / f64::from(count)
    );
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(200_000);
    let (octets, limits, sdp_limits) = (invite(), Limits::default(), sdp::Limits::default());
    let Ok(message) = parse(&octets, Framing::Datagram, &limits) else {
        println!("the message of the measurement is refused");
        return;
    };
    let Ok(description) = SessionDescription::parse(SDP.as_bytes(), &sdp_limits) else {
        return;
    };
    println!(
        "INVITE of {} octets, of which {} are the session description",
        octets.len(),
        SDP.len()
    );
    measure("INVITE read", count, || {
        let _ = std::hint::black_box(parse(
            std::hint::black_box(&octets),
            Framing::Datagram,
            &limits,
        ));
    });
    measure("INVITE written", count, || {
        let _ = std::hint::black_box(std::hint::black_box(&message).to_bytes());
    });
    measure("session description read", count, || {
        let body = std::hint::black_box(SDP.as_bytes());
        let _ = std::hint::black_box(SessionDescription::parse(body, &sdp_limits));
    });
    measure("session description written", count, || {
        let _ = std::hint::black_box(std::hint::black_box(&description).to_string());
    });
}
