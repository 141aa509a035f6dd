//! Answers that did not fit into a datagram and come by a stream (RFC 7766), and such as come too late.

use super::*;
use crate::resolve::message::OCTETS;

/// The first question gets an answer that was cut; gives the connection by which it was asked again, and the question there.
fn cut_short(house: &mut House) -> (ConnectionId, Vec<u8>) {
    house.lend();
    let (&socket, (server, question)) = house.sockets.first_key_value().unwrap();
    assert_eq!(server.to_string(), SERVERS[0]);
    let mut cut = reply(question, ResponseCode::NoError, Vec::new(), Vec::new());
    cut.metadata.truncation = true;
    let bytes = cut.to_vec().unwrap();
    house.input(Input::Answer {
        connection: socket,
        bytes: &bytes,
    });
    assert!(!house.sockets.contains_key(&socket));
    assert_eq!(house.streams.len(), 1);
    let asked = house
        .requests
        .iter()
        .find(|(id, _)| house.streams.contains(id));
    assert_eq!(asked.unwrap().1.to_string(), SERVERS[0]);
    house.lend();
    let (stream, (_, question)) = house.sockets.last_key_value().unwrap();
    (*stream, question.clone())
}

#[test]
fn an_answer_that_was_cut_is_asked_for_by_a_stream_of_the_same_server() {
    let mut house = House::new();
    let (stream, question) = cut_short(&mut house);
    // More than a datagram takes.
    let mut naptrs = zone("carrier.test", RecordType::NAPTR).unwrap();
    naptrs.extend((0..100).map(|number| {
        naptr(
            "carrier.test",
            20,
            "SIP+D2T",
            &format!("_sip._tcp.more{number}.test"),
        )
    }));
    let whole = reply(&question, ResponseCode::NoError, naptrs, Vec::new());
    let whole = whole.to_vec().unwrap();
    assert!(whole.len() > usize::from(OCTETS));
    let length = u16::try_from(whole.len()).unwrap().to_be_bytes();
    for octet in length.iter().chain(&whole) {
        assert!(house.sockets.contains_key(&stream), "closed too soon");
        house.input(Input::Stream {
            connection: stream,
            bytes: &[*octet],
        });
    }
    assert!(!house.sockets.contains_key(&stream));
    house.serve(zone);
    assert_eq!(house.addresses(), FOUND);
}

#[test]
fn a_stream_that_says_too_much_or_nothing_or_closes_is_followed_by_the_next_server() {
    let last = |house: &mut House| {
        house.lend();
        house.sockets.last_key_value().unwrap().1.0.to_string()
    };
    let mut house = House::new();
    let (stream, _) = cut_short(&mut house);
    house.input(Input::Stream {
        connection: stream,
        bytes: &[0xff, 0xff, 0],
    });
    assert!(!house.sockets.contains_key(&stream));
    assert_eq!(last(&mut house), SERVERS[1]);

    let mut house = House::new();
    let (stream, _) = cut_short(&mut house);
    house.input(Input::StreamClosed { connection: stream });
    house.sockets.remove(&stream);
    assert_eq!(last(&mut house), SERVERS[1]);

    let mut house = House::new();
    let (stream, _) = cut_short(&mut house);
    house.wait(Duration::from_secs(5));
    assert!(!house.sockets.contains_key(&stream));
    house.serve(zone);
    assert_eq!(house.addresses(), FOUND);
}

#[test]
fn an_answer_by_a_socket_that_was_given_up_is_not_heard() {
    let mut house = House::new();
    house.lend();
    let (first, (_, question)) = house.sockets.first_key_value().unwrap();
    let (first, question) = (*first, question.clone());
    house.wait(Duration::from_secs(1));
    let late = reply(&question, ResponseCode::NXDomain, Vec::new(), Vec::new());
    let bytes = late.to_vec().unwrap();
    let asked = house.questions;
    house.input(Input::Answer {
        connection: first,
        bytes: &bytes,
    });
    assert_eq!(house.questions, asked);
    assert_eq!(house.said("name-unresolved"), 0);
}
