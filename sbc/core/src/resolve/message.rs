//! DNS messages (RFC 1035 §4, RFC 6891): a question as octets, an answer as records that belong to it. Reading and writing
//! is hickory's; what is believed of an answer is decided here. Called by the resolver, and by the search for faults.
//!
//! Answers are hostile: of a message only the records count that answer the very question, by way of at most [`CHAIN`]
//! aliases; additional and foreign records are never looked at.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record as Wire, RecordType},
};

/// Octets of an answer over UDP that we ask for and take: no fragments on the way (RFC 9715).
pub const OCTETS: u16 = 1232;
/// The longest answer that is taken from a stream.
pub const STREAM_OCTETS: usize = 16_384;
/// Aliases (CNAME) that are followed within one answer, and from answer to answer.
pub const CHAIN: usize = 8;
/// Records of one set that are kept; a site with more can be reached by these.
pub const RECORDS: usize = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// RFC 3403.
    Naptr,
    /// RFC 2782.
    Srv,
}

impl Kind {
    /// Word for counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Naptr => "naptr",
            Self::Srv => "srv",
        }
    }

    const fn wire(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Naptr => RecordType::NAPTR,
            Self::Srv => RecordType::SRV,
        }
    }
}

/// A question: a name in small letters without the last dot, and a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The name.
    pub name: String,
    /// What is asked for.
    pub kind: Kind,
}

/// One record that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Srv {
        /// The lowest is tried first.
        priority: u16,
        /// Share among those of the same priority.
        weight: u16,
        /// Port.
        port: u16,
        /// Host; empty: the service is not offered.
        target: String,
    },
    /// NAPTR with flag `s` and no expression: the only ones that RFC 3263 §4.1 knows.
    Naptr {
        /// The lowest is tried first.
        order: u16,
        /// Among those of the same order.
        preference: u16,
        /// `SIP+D2U`, in capital letters.
        service: String,
        /// Where the SRV records are.
        replacement: String,
    },
}

/// What an answer says, with seconds for which it may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// These, at least one.
    Records(Vec<Record>, u32),
    /// The name is another's, who is to be asked for.
    Alias(String, u32),
    /// There is nothing of that kind (NODATA) or no such name (NXDOMAIN); RFC 2308. Without SOA no time is said.
    Nothing(Option<u32>),
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not to this question: the true one may still come.
    #[error("not an answer to the question")]
    Stray,
    /// The server answers, but not with a message that can be read.
    #[error("malformed")]
    Malformed,
    /// Longer than was asked for.
    #[error("oversized")]
    Oversized,
    /// It did not fit into a datagram.
    #[error("truncated")]
    Truncated,
    /// SERVFAIL, REFUSED and the like.
    #[error("the server fails")]
    Failure,
    /// Aliases without end.
    #[error("aliases without end")]
    Loop,
}

impl Fault {
    /// Word for counters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stray => "stray",
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::Truncated => "truncated",
            Self::Failure => "server-failure",
            Self::Loop => "alias-loop",
        }
    }
}

/// A question under way: what an answer must repeat to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    id: u16,
    /// As it was written, capital and small letters by chance: 0x20 (draft-vixie-dnsext-dns0x20).
    name: Name,
    kind: Kind,
}

impl Asked {
    /// A question with this number, whose letters are capital where `capitals` says so; `None`: no such name can be asked for.
    #[must_use]
    pub fn new(question: &Question, id: u16, capitals: u128) -> Option<Self> {
        let mut bits = capitals;
        let written: String = question
            .name
            .chars()
            .map(|letter| {
                let capital = bits & 1 == 1;
                bits = bits.rotate_right(1);
                if capital {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                }
            })
            .collect();
        let mut name = Name::from_ascii(written).ok()?;
        name.set_fqdn(true);
        Some(Self {
            id,
            name,
            kind: question.kind,
        })
    }

    /// The question as octets; `None`: it can not be written.
    #[must_use]
    pub fn octets(&self) -> Option<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind.wire()));
        let mut edns = Edns::new();
        edns.set_max_payload(OCTETS).set_version(0);
        message.set_edns(edns);
        message.to_vec().ok()
    }

    /// What an answer says to this question.
    ///
    /// # Errors
    /// See [`Fault`]; at `Stray` the question goes on waiting.
    pub fn read(&self, bytes: &[u8]) -> Result<Said, Fault> {
        self.read_within(bytes, usize::from(OCTETS))
    }

    /// The same for an answer that came by a stream.
    ///
    /// # Errors
    /// See [`Fault`]; nothing but the answer comes by that stream.
    pub fn read_stream(&self, bytes: &[u8]) -> Result<Said, Fault> {
        self.read_within(bytes, STREAM_OCTETS)
    }

    fn read_within(&self, bytes: &[u8], most: usize) -> Result<Said, Fault> {
        // Number and direction first: whoever guesses wrong is not read at all (RFC 1035 §4.1.1).
        let (id, response) = match bytes {
            [first, second, flags, ..] => {
                (u16::from_be_bytes([*first, *second]), flags & 0x80 != 0)
            }
            _ => return Err(Fault::Stray),
        };
        if id != self.id || !response {
            return Err(Fault::Stray);
        }
        if bytes.len() > most {
            return Err(Fault::Oversized);
        }
        let message = Message::from_vec(bytes).map_err(|_| Fault::Malformed)?;
        let [query] = message.queries.as_slice() else {
            return Err(Fault::Stray);
        };
        let same = query.name.eq_case(&self.name)
            && query.query_type == self.kind.wire()
            && query.query_class == DNSClass::IN
            && message.metadata.op_code == OpCode::Query;
        if !same {
            return Err(Fault::Stray);
        }
        if message.metadata.truncation {
            return Err(Fault::Truncated);
        }
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => self.answer(&message),
            _ => Err(Fault::Failure),
        }
    }

    fn answer(&self, message: &Message) -> Result<Said, Fault> {
        let mut name = &self.name;
        let mut least = u32::MAX;
        for _ in 0..=CHAIN {
            let here = |wire: &&Wire| wire.name == *name && wire.dns_class == DNSClass::IN;
            let wanted = message
                .answers
                .iter()
                .filter(here)
                .filter(|wire| wire.record_type() == self.kind.wire());
            let until = wanted.clone().map(|wire| seconds(wire.ttl)).min();
            if let Some(until) = until {
                let records: Vec<Record> = wanted
                    .filter_map(|wire| record(&wire.data))
                    .take(RECORDS)
                    .collect();
                let least = least.min(until);
                return Ok(if records.is_empty() {
                    Said::Nothing(Some(least))
                } else {
                    Said::Records(records, least)
                });
            }
            let alias = message.answers.iter().filter(here).find_map(|wire| {
                let RData::CNAME(alias) = &wire.data else {
                    return None;
                };
                Some((&alias.0, wire.ttl))
            });
            match alias {
                Some((next, ttl)) => {
                    least = least.min(seconds(ttl));
                    name = next;
                }
                None if *name == self.name
                    || message.metadata.response_code == ResponseCode::NXDomain =>
                {
                    return Ok(Said::Nothing(negative(message, name)));
                }
                None => {
                    return plain(name)
                        .map(|name| Said::Alias(name, least))
                        .ok_or(Fault::Malformed);
                }
            }
        }
        Err(Fault::Loop)
    }
}

/// RFC 2308 §5: the lesser of the SOA record's TTL and its last field; the SOA of a zone that the name lies in.
fn negative(message: &Message, name: &Name) -> Option<u32> {
    message
        .authorities
        .iter()
        .find_map(|wire| match &wire.data {
            RData::SOA(soa) if wire.name.zone_of(name) => Some(seconds(wire.ttl).min(soa.minimum)),
            _ => None,
        })
}

/// RFC 2181 §8: with the highest bit set it is none.
const fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

fn record(data: &RData) -> Option<Record> {
    match data {
        RData::A(address) => Some(Record::Address(IpAddr::V4(address.0))),
        RData::AAAA(address) => Some(Record::Address(IpAddr::V6(address.0))),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: plain(&srv.target)?,
        }),
        RData::NAPTR(naptr)
            if naptr.flags.eq_ignore_ascii_case(b"s") && naptr.regexp.is_empty() =>
        {
            Some(Record::Naptr {
                order: naptr.order,
                preference: naptr.preference,
                service: core::str::from_utf8(&naptr.services)
                    .ok()?
                    .to_ascii_uppercase(),
                replacement: plain(&naptr.replacement).filter(|name| !name.is_empty())?,
            })
        }
        _ => None,
    }
}

/// A name as it may stand in a log and be asked for: letters, digits, hyphens, underscores; empty: the root.
fn plain(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name.iter() {
        let usual = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if !label.iter().all(usual) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(
            label
                .iter()
                .map(|octet| char::from(octet.to_ascii_lowercase())),
        );
    }
    Some(text)
}
