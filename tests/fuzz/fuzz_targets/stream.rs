//! Octets of a stream, cut in pieces: the same frames come out however they are cut, and nothing once framing is lost.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbc_sip::error::ParseError;
use sbc_sip::framing::{Frame, Stream};
use sbc_sip::limits::Limits;
use sbc_sip::message::{Framing, parse};

fn messages(octets: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<ParseError>) {
    let limits = Limits {
        message: 4_096,
        head: 2_048,
        ..Limits::default()
    };
    let mut stream = Stream::new(limits);
    let mut messages = Vec::new();
    for piece in octets.chunks(piece) {
        stream.handle(piece);
        loop {
            match stream.poll() {
                Ok(Some(Frame::Message(message))) => messages.push(message),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fuzz_target!(|octets: &[u8]| {
    let Some((first, octets)) = octets.split_first() else {
        return;
    };
    let (whole, _) = messages(octets, usize::MAX);
    let (pieces, _) = messages(octets, usize::from(*first).max(1));
    // Limits may strike a byte earlier or later; what comes out before is the same.
    let common = whole.len().min(pieces.len());
    assert_eq!(whole[..common], pieces[..common]);
    for message in whole {
        let _ = parse(&message, Framing::Stream, &Limits::default());
    }
});
