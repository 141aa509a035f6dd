//! A packet on a channel between processes: no panic; what is read is written and read as the same.

#![no_main]

use broker_proto::broker::{FromBroker, ToBroker};
use broker_proto::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(message) = decode::<ToBroker>(octets) {
        let written = encode(&message).expect("a message that was read can be written");
        assert_eq!(decode::<ToBroker>(&written), Ok(message));
    }
    if let Ok(message) = decode::<FromBroker>(octets) {
        let written = encode(&message).expect("a message that was read can be written");
        assert_eq!(decode::<FromBroker>(&written), Ok(message));
    }
});
