//! DHCP messages on the wire: what the client writes, and the little of an answer that it reads. RFC 2131 §2, RFC 2132.
//! Everything that the client does not ask for is passed over unread; what it reads must have its exact form, once.

use std::net::Ipv4Addr;

/// Longest datagram that is read, and that servers are told of (option 57).
pub const MAX_LENGTH: usize = 1_500;
/// Shortest message that every relay passes on (RFC 951: 300 octets).
const MIN_LENGTH: usize = 300;
/// Octets before the options.
const HEAD: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const ETHERNET: u8 = 1;
const BROADCAST: u16 = 0x8000;

const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const PARAMETERS: u8 = 55;
const MAX_MESSAGE_SIZE: u8 = 57;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
const END: u8 = 255;

/// A hardware address of Ethernet.
pub type Mac = [u8; 6];

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `DHCPDISCOVER`: who is there?
    Discover,
    /// `DHCPREQUEST` in `REQUESTING`: that offer, of that server.
    Select {
        /// Offered address.
        address: Ipv4Addr,
        /// Whose offer.
        server: Ipv4Addr,
    },
    /// `DHCPREQUEST` in `INIT-REBOOT`: is this address, lent before a restart, still good?
    Reboot {
        /// Address of then.
        address: Ipv4Addr,
    },
    /// `DHCPREQUEST` in `RENEWING` and `REBINDING`: more time for the address in use.
    Extend {
        /// Address in use.
        address: Ipv4Addr,
    },
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the exchange.
    pub xid: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// Whose.
    pub mac: Mac,
    /// What.
    pub ask: Ask,
}

impl Request {
    /// Its octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (flags, client) = match self.ask {
            // RFC 2131 §4.1: no unicast datagram reaches a client without an address.
            Ask::Discover | Ask::Select { .. } | Ask::Reboot { .. } => {
                (BROADCAST, Ipv4Addr::UNSPECIFIED)
            }
            Ask::Extend { address } => (0, address),
        };
        let mut bytes = vec![BOOTREQUEST, ETHERNET, 6, 0];
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&self.seconds.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&client.octets());
        bytes.resize(28, 0);
        bytes.extend_from_slice(&self.mac);
        bytes.resize(HEAD, 0);
        bytes.extend_from_slice(&COOKIE);
        let kind = if self.ask == Ask::Discover {
            Kind::DISCOVER
        } else {
            Kind::REQUEST
        };
        push(&mut bytes, MESSAGE_TYPE, &[kind]);
        match self.ask {
            Ask::Select { address, server } => {
                push(&mut bytes, REQUESTED_ADDRESS, &address.octets());
                push(&mut bytes, SERVER_ID, &server.octets());
            }
            // RFC 2131 §4.3.2: without the server's name, so that all of them answer.
            Ask::Reboot { address } => push(&mut bytes, REQUESTED_ADDRESS, &address.octets()),
            Ask::Discover | Ask::Extend { .. } => {}
        }
        push(
            &mut bytes,
            MAX_MESSAGE_SIZE,
            &(MAX_LENGTH as u16).to_be_bytes(),
        );
        push(
            &mut bytes,
            PARAMETERS,
            &[
                SUBNET_MASK,
                ROUTER,
                LEASE_TIME,
                SERVER_ID,
                RENEWAL_TIME,
                REBINDING_TIME,
            ],
        );
        bytes.push(END);
        bytes.resize(bytes.len().max(MIN_LENGTH), PAD);
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    bytes.push(code);
    bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(value);
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `DHCPOFFER`
    Offer,
    /// `DHCPACK`
    Ack,
    /// `DHCPNAK`
    Nak,
}

impl Kind {
    const DISCOVER: u8 = 1;
    const REQUEST: u8 = 3;

    const fn of(octet: u8) -> Option<Self> {
        match octet {
            2 => Some(Self::Offer),
            5 => Some(Self::Ack),
            6 => Some(Self::Nak),
            _ => None,
        }
    }
}

/// An answer, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of the request.
    pub xid: u32,
    /// Whose request.
    pub mac: Mac,
    /// What.
    pub kind: Kind,
    /// Who answers, by its own word (option 54).
    pub server: Ipv4Addr,
    /// `yiaddr`
    pub address: Ipv4Addr,
    /// Length of the network's prefix, of option 1.
    pub prefix: Option<u8>,
    /// The first of option 3.
    pub gateway: Option<Ipv4Addr>,
    /// Option 51, in s.
    pub lease_seconds: Option<u32>,
    /// T1, option 58, in s.
    pub renewal_seconds: Option<u32>,
    /// T2, option 59, in s.
    pub rebinding_seconds: Option<u32>,
}

/// Why a datagram is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its head, or its options are cut or do not end.
    #[error("cut short")]
    Cut,
    /// Longer than the client has said it reads.
    #[error("too long")]
    TooLong,
    /// No answer of a server to an Ethernet client.
    #[error("not a server's answer")]
    NotAnAnswer,
    /// No DHCP (RFC 2131 §3: the magic cookie).
    #[error("no DHCP cookie")]
    Cookie,
    /// An option that is read has another length than it must have, or a value that cannot be.
    #[error("an option has a wrong form")]
    Option,
    /// An option that is read is there twice.
    #[error("an option is there twice")]
    Twice,
    /// Options in the fields for names (RFC 2132 §9.3): there is room for the few that were asked for.
    #[error("option overload")]
    Overload,
    /// No message type, or one that servers do not send.
    #[error("no message type of a server")]
    Type,
    /// No server identifier.
    #[error("no server identifier")]
    Server,
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Errors
    /// The first offence.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_LENGTH {
            return Err(Malformed::TooLong);
        }
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or(Malformed::Cut)?;
        let options = rest.strip_prefix(&COOKIE).ok_or(Malformed::Cookie)?;
        if head.first_chunk() != Some(&[BOOTREPLY, ETHERNET, 6]) {
            return Err(Malformed::NotAnAnswer);
        }
        let read = Options::read(options)?;
        Ok(Self {
            xid: u32::from_be_bytes(field(head, 4).ok_or(Malformed::Cut)?),
            mac: field(head, 28).ok_or(Malformed::Cut)?,
            kind: read.kind.ok_or(Malformed::Type)?,
            server: read.server.ok_or(Malformed::Server)?,
            address: Ipv4Addr::from(field::<4>(head, 16).ok_or(Malformed::Cut)?),
            prefix: read.prefix,
            gateway: read.gateway,
            lease_seconds: read.lease,
            renewal_seconds: read.renewal,
            rebinding_seconds: read.rebinding,
        })
    }
}

#[derive(Default)]
struct Options {
    kind: Option<Kind>,
    server: Option<Ipv4Addr>,
    prefix: Option<u8>,
    gateway: Option<Ipv4Addr>,
    lease: Option<u32>,
    renewal: Option<u32>,
    rebinding: Option<u32>,
}

impl Options {
    fn read(mut rest: &[u8]) -> Result<Self, Malformed> {
        let mut read = Self::default();
        loop {
            let (&code, tail) = rest.split_first().ok_or(Malformed::Cut)?;
            match code {
                END => return Ok(read),
                PAD => rest = tail,
                _ => {
                    let (&length, tail) = tail.split_first().ok_or(Malformed::Cut)?;
                    let (value, tail) = tail
                        .split_at_checked(usize::from(length))
                        .ok_or(Malformed::Cut)?;
                    read.take(code, value)?;
                    rest = tail;
                }
            }
        }
    }

    fn take(&mut self, code: u8, value: &[u8]) -> Result<(), Malformed> {
        match code {
            OVERLOAD => Err(Malformed::Overload),
            MESSAGE_TYPE => {
                let [octet] = exactly(value)?;
                once(&mut self.kind, Kind::of(octet).ok_or(Malformed::Type)?)
            }
            SERVER_ID => once(&mut self.server, Ipv4Addr::from(exactly::<4>(value)?)),
            SUBNET_MASK => {
                let mask = u32::from_be_bytes(exactly(value)?);
                let prefix = mask.leading_ones();
                if mask.count_ones() != prefix {
                    return Err(Malformed::Option);
                }
                once(
                    &mut self.prefix,
                    u8::try_from(prefix).map_err(|_| Malformed::Option)?,
                )
            }
            ROUTER => {
                // RFC 2132 §3.5: in order of preference.
                let first = field::<4>(value, 0).filter(|_| value.len().is_multiple_of(4));
                once(
                    &mut self.gateway,
                    Ipv4Addr::from(first.ok_or(Malformed::Option)?),
                )
            }
            LEASE_TIME => once(&mut self.lease, u32::from_be_bytes(exactly(value)?)),
            RENEWAL_TIME => once(&mut self.renewal, u32::from_be_bytes(exactly(value)?)),
            REBINDING_TIME => once(&mut self.rebinding, u32::from_be_bytes(exactly(value)?)),
            _ => Ok(()),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Twice),
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::Option)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An answer as a server writes it.
    pub(in crate::dhcp) fn reply(
        xid: u32,
        mac: Mac,
        address: [u8; 4],
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut bytes = vec![BOOTREPLY, ETHERNET, 6, 0];
        bytes.extend_from_slice(&xid.to_be_bytes());
        bytes.resize(16, 0);
        bytes.extend_from_slice(&address);
        bytes.resize(28, 0);
        bytes.extend_from_slice(&mac);
        bytes.resize(HEAD, 0);
        bytes.extend_from_slice(&COOKIE);
        for (code, value) in options {
            push(&mut bytes, *code, value);
        }
        bytes.push(END);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{testing::reply, *};

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const GOOD: [(u8, &[u8]); 7] = [
        (53, &[2]),
        (54, &[198, 51, 100, 254]),
        (1, &[255, 255, 255, 0]),
        (3, &[198, 51, 100, 254, 198, 51, 100, 253]),
        (51, &[0, 0, 14, 16]),
        (6, &[9, 9, 9, 9]),
        (58, &[0, 0, 7, 8]),
    ];

    #[test]
    fn a_good_offer_is_read_and_what_was_not_asked_for_is_passed_over() {
        let read = Reply::decode(&reply(7, MAC, [198, 51, 100, 20], &GOOD)).unwrap();
        let expected = Reply {
            xid: 7,
            mac: MAC,
            kind: Kind::Offer,
            server: Ipv4Addr::new(198, 51, 100, 254),
            address: Ipv4Addr::new(198, 51, 100, 20),
            prefix: Some(24),
            gateway: Some(Ipv4Addr::new(198, 51, 100, 254)),
            lease_seconds: Some(3_600),
            renewal_seconds: Some(1_800),
            rebinding_seconds: None,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn each_offence_has_its_name() {
        let with = |code: u8, value: &'static [u8]| {
            let kept = GOOD.into_iter().filter(|(own, _)| *own != code);
            let options: Vec<_> = kept.chain([(code, value)]).collect();
            Reply::decode(&reply(7, MAC, [198, 51, 100, 20], &options))
        };
        assert_eq!(with(1, &[255, 0, 255, 0]), Err(Malformed::Option));
        assert_eq!(with(1, &[255, 255]), Err(Malformed::Option));
        assert_eq!(with(3, &[1, 2, 3, 4, 5]), Err(Malformed::Option));
        assert_eq!(with(3, &[]), Err(Malformed::Option));
        assert_eq!(with(51, &[1]), Err(Malformed::Option));
        assert_eq!(with(52, &[1]), Err(Malformed::Overload));
        assert_eq!(with(53, &[1]), Err(Malformed::Type));
        assert_eq!(with(54, &[1, 2, 3]), Err(Malformed::Option));
        let twice: Vec<_> = GOOD.into_iter().chain([(54, &[1, 1, 1, 1][..])]).collect();
        assert_eq!(
            Reply::decode(&reply(7, MAC, [1; 4], &twice)),
            Err(Malformed::Twice)
        );
        assert_eq!(
            Reply::decode(&reply(7, MAC, [1; 4], &GOOD[1..])),
            Err(Malformed::Type)
        );
        assert_eq!(
            Reply::decode(&reply(7, MAC, [1; 4], &GOOD[..1])),
            Err(Malformed::Server)
        );
        assert_eq!(Reply::decode(&[2; MAX_LENGTH + 1]), Err(Malformed::TooLong));
        let mut own = reply(7, MAC, [1; 4], &GOOD);
        own[0] = BOOTREQUEST;
        assert_eq!(Reply::decode(&own), Err(Malformed::NotAnAnswer));
        let mut bootp = reply(7, MAC, [1; 4], &GOOD);
        bootp[HEAD] = 0;
        assert_eq!(Reply::decode(&bootp), Err(Malformed::Cookie));
    }

    #[test]
    fn an_answer_that_is_cut_is_refused_at_every_length() {
        let whole = reply(7, MAC, [198, 51, 100, 20], &GOOD);
        for length in 0..whole.len() {
            assert!(Reply::decode(&whole[..length]).is_err(), "{length} octets");
        }
    }

    #[test]
    fn a_request_is_long_enough_for_relays_and_carries_what_it_must() {
        let ask = Ask::Select {
            address: Ipv4Addr::new(1, 2, 3, 4),
            server: Ipv4Addr::new(5, 6, 7, 8),
        };
        let bytes = Request {
            xid: 9,
            seconds: 3,
            mac: MAC,
            ask,
        }
        .encode();
        assert_eq!(bytes.len(), MIN_LENGTH);
        assert_eq!(&bytes[..12], &[1, 1, 6, 0, 0, 0, 0, 9, 0, 3, 0x80, 0]);
        assert_eq!(&bytes[28..34], &MAC);
        assert_eq!(
            &bytes[240..255],
            &[53, 1, 3, 50, 4, 1, 2, 3, 4, 54, 4, 5, 6, 7, 8]
        );
        let extend = Request {
            xid: 9,
            seconds: 3,
            mac: MAC,
            ask: Ask::Extend {
                address: Ipv4Addr::new(1, 2, 3, 4),
            },
        };
        let bytes = extend.encode();
        assert_eq!(&bytes[10..16], &[0, 0, 1, 2, 3, 4]);
        assert!(!bytes[240..].windows(2).any(|pair| pair == [54, 4]));
    }

    proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Reply::decode(&bytes);
        }

        #[test]
        fn no_options_make_the_reader_panic(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = reply(7, MAC, [1; 4], &[]);
            bytes.pop();
            bytes.extend_from_slice(&options);
            let _ = Reply::decode(&bytes);
        }
    }
}
