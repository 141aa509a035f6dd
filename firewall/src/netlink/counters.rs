//! Named counters of the table: a drop reason in a zone each. Read for the status channel at most once a second.

use std::io;

use crate::nftables::names::TABLE;

use super::{
    Socket,
    elements::{FAMILY, SUBSYSTEM},
    message::{DUMP, FAMILY_HEADER, Writer, attributes, number64, text},
};

const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
const LIST_OBJECTS: u16 = SUBSYSTEM << 8 | 19;
const LIST_AND_ZERO_OBJECTS: u16 = SUBSYSTEM << 8 | 21;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const TYPE_COUNTER: u32 = 1;
const COUNTER_PACKETS: u16 = 2;

/// A counter as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// `drop/spoofed-source/external`.
    pub name: String,
    /// Packets since the table was made or the counter was set to zero.
    pub packets: u64,
}

impl Socket {
    /// All named counters of the table; with `zero` each is set to zero as it is read.
    ///
    /// # Errors
    /// `NotFound`: no such table.
    pub fn counters(&mut self, zero: bool) -> io::Result<Vec<Counter>> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        let kind = if zero {
            LIST_AND_ZERO_OBJECTS
        } else {
            LIST_OBJECTS
        };
        writer.begin_netfilter(kind, DUMP, sequence, FAMILY, 0);
        writer.text(OBJECT_TABLE, TABLE);
        writer.attribute(OBJECT_TYPE, &TYPE_COUNTER.to_be_bytes());
        writer.end();
        let mut counters = Vec::new();
        self.dump(writer.bytes(), sequence, |message| {
            if message.kind == NEW_OBJECT {
                counters.extend(counter(
                    message.body.get(FAMILY_HEADER..).unwrap_or_default(),
                ));
            }
        })?;
        Ok(counters)
    }
}

fn counter(body: &[u8]) -> Option<Counter> {
    let mut name = None;
    let mut packets = None;
    let mut table = None;
    for (kind, value) in attributes(body) {
        match kind {
            OBJECT_TABLE => table = Some(text(value)),
            OBJECT_NAME => name = Some(text(value)),
            OBJECT_DATA => {
                packets = attributes(value)
                    .find(|(kind, _)| *kind == COUNTER_PACKETS)
                    .map(|(_, n)| number64(n));
            }
            _ => {}
        }
    }
    // Kernels filter the dump by table themselves, older ones did not.
    (table.as_deref() == Some(TABLE)).then_some(Counter {
        name: name?,
        packets: packets?,
    })
}
