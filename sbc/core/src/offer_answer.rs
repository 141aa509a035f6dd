//! Session descriptions of one leg made for the other. RFC 3264; RFC 8866 for the lines; RFC 3605 for `a=rtcp`.
//!
//! A description that leaves is written anew: own address, ports, origin and session name; of the far side's lines only
//! media kind, formats, and the attributes on the list below, each checked for its shape. What we cannot relay keeps its
//! place with port 0.

use std::net::{IpAddr, SocketAddr};

use sbc_media::relay::PayloadSet;
use sbc_sip::{
    sdp::{Attribute, Bandwidth, Connection, Direction, Limits, Media, Rtcp, SessionDescription},
    text::Text,
};

use crate::{
    keys::{self, Keys},
    policy::formats,
    stream_leg::{Described, Lease},
};

/// Media lines of one description that are carried at most; those beyond have port 0.
const LINES: usize = 8;
/// What the reader takes.
const LIMITS: Limits = Limits {
    octets: 16_384,
    media: 16,
    formats: 64,
    attributes: 192,
};
/// Octets of format parameters that cross.
const PARAMETERS: usize = 512;

/// What one media line of an offer needs of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether the far end's address is IPv4.
    pub(crate) v4: bool,
    /// `audio` or `video`.
    pub(crate) kind: &'static str,
}

/// A description out of a body. `None`: it breaks the grammar, or has media of a kind or protocol that nobody registered.
pub(crate) fn read(bytes: &[u8]) -> Option<SessionDescription> {
    SessionDescription::parse(bytes, &LIMITS)
        .ok()
        .filter(formats::is_registered)
}

/// For each media line what it needs; `None`: it is refused, taken away, or nothing that we carry.
pub(crate) fn plan(description: &SessionDescription) -> Vec<Option<Plan>> {
    let lines = description.media.iter().enumerate();
    lines
        .map(|(index, line)| {
            let kind = carried(line).filter(|_| index < LINES && line.port != 0)?;
            let address = description.address_of(line)?;
            Some(Plan {
                v4: address.is_ipv4(),
                kind,
            })
        })
        .collect()
}

/// The word of a media line's kind, if it is one that we carry.
pub(crate) fn kind(description: &SessionDescription, line: usize) -> Option<&'static str> {
    description.media.get(line).and_then(carried)
}

fn carried(line: &Media) -> Option<&'static str> {
    let kind = match line.kind.as_str() {
        "audio" => "audio",
        "video" => "video",
        _ => return None,
    };
    let rtp = line.proto.eq_ignore_ascii_case(keys::CLEAR)
        || keys::is_sealed(line) && keys::has_key(line);
    let every = line.payloads().count() == line.formats.len();
    (rtp && every && formats::has_codec(line)).then_some(kind)
}

/// Whether `answer` can be one to `offer`, as we made it: as many lines, each of the same kind and protocol (RFC 3264 §6).
/// A direction or a line that the offer does not allow is made to fit by [`fit`]: many phones resume a held stream on
/// their own.
pub(crate) fn answers(offer: &SessionDescription, answer: &SessionDescription) -> bool {
    let same = |(offered, answered): (&Media, &Media)| {
        offered.kind == answered.kind
            && (answered.port == 0 || offered.proto.eq_ignore_ascii_case(&answered.proto))
    };
    offer.media.len() == answer.media.len() && offer.media.iter().zip(&answer.media).all(same)
}

/// An answered line as far as the offer allows it (RFC 3264 §6.1).
pub(crate) fn fit(offered: &Described, mut answered: Described) -> Described {
    answered.sends &= offered.receives;
    answered.receives &= offered.sends;
    answered
}

/// What a description says about one media line. `None`: it is refused, or nothing that we carry.
pub(crate) fn describe(description: &SessionDescription, line: usize) -> Option<Described> {
    let media = description
        .media
        .get(line)
        .filter(|media| media.port != 0 && line < LINES)?;
    carried(media)?;
    let address = description.address_of(media)?;
    // RFC 3264 §8.4: the old way to hold.
    let somewhere = !address.is_unspecified();
    let direction = description.direction_of(media);
    Some(Described {
        rtp: somewhere.then(|| SocketAddr::new(address, media.port)),
        rtcp: if somewhere {
            rtcp_of(media, address)
        } else {
            None
        },
        payloads: media.payloads().collect::<PayloadSet>(),
        sends: direction.sends() && somewhere,
        receives: direction.receives() && somewhere,
        clock_hz: clock_hz(media),
    })
}

/// `a=rtcp`, otherwise the next port (RFC 3550 §11). An address is taken only if it is RTP's own.
fn rtcp_of(media: &Media, address: IpAddr) -> Option<SocketAddr> {
    let port = match media.rtcp() {
        Some(rtcp) if rtcp.address.is_some_and(|other| other != address) => return None,
        Some(rtcp) => rtcp.port,
        None => media.port.checked_add(1)?,
    };
    Some(SocketAddr::new(address, port))
}

/// Clock of the first format: by its rtpmap, or as the static types of RFC 3551 §6 have it.
fn clock_hz(media: &Media) -> u32 {
    let mapped = media
        .payloads()
        .next()
        .and_then(|payload| media.rtpmap(payload));
    mapped.map_or(if media.kind == "video" { 90_000 } else { 8_000 }, |map| {
        map.clock_hz
    })
}

/// A description with every stream both ways, so that a new party does not find the far end on hold. `host`: where it is,
/// if it held by an unspecified address.
pub(crate) fn resumed(description: &SessionDescription, host: IpAddr) -> SessionDescription {
    let mut resumed = description.clone();
    let direction = |attribute: &Attribute| matches!(attribute, Attribute::Direction(_));
    resumed.attributes.retain(|one| !direction(one));
    let somewhere = |connection: &Connection| {
        connection
            .ip()
            .is_some_and(|address| !address.is_unspecified())
    };
    if !resumed.connection.as_ref().is_some_and(somewhere) {
        resumed.connection = Some(Connection::new(host));
    }
    for line in &mut resumed.media {
        line.attributes.retain(|one| !direction(one));
        line.connections.retain(somewhere);
    }
    resumed
}

/// Our descriptions on one leg: one session, one more version for each change.
pub(crate) struct OwnDescription {
    session: u64,
    last: Option<SessionDescription>,
    /// Sealed lines ask for media security up to the edge of the carrier's network alone (3GPP TS 24.229 §6.1.2).
    pub(crate) asks_for_edge: bool,
}

impl OwnDescription {
    /// A session with this number (RFC 8866 §5.2; 63 bits, as some take it for signed).
    pub(crate) const fn new(number: u64) -> Self {
        Self {
            session: number >> 1,
            last: None,
            asks_for_edge: false,
        }
    }

    /// The description that was written last.
    pub(crate) const fn last(&self) -> Option<&SessionDescription> {
        self.last.as_ref()
    }

    /// Our description made of the other side's, with our sockets and keys. `leases`: one for each media line that we
    /// carry, with the keys of one that is sealed. `said`: what this side's far end said last: the offer, if this answers
    /// one.
    pub(crate) fn write(
        &mut self,
        theirs: &SessionDescription,
        said: Option<&SessionDescription>,
        leases: &[Option<(Lease, Option<Keys>)>],
        address: IpAddr,
    ) -> SessionDescription {
        let address = leases
            .iter()
            .flatten()
            .next()
            .map_or(address, |(lease, _)| lease.rtp.ip());
        let version = self.last.as_ref().map_or(1, |last| last.origin.version);
        let mut own = SessionDescription::new(self.session, version, address);
        let edge = self.asks_for_edge;
        let lines = theirs.media.iter().enumerate();
        own.media = lines
            .map(
                |(index, line)| match leases.get(index).and_then(Option::as_ref) {
                    Some((lease, keys)) if line.port != 0 && carried(line).is_some() => {
                        let mut own = own_line(theirs, line, (*lease, keys.as_ref()), address);
                        if edge && keys.is_some() {
                            own.attributes.push(Attribute::Other(
                                Text::from_static("3ge2ae"),
                                Some(Text::from_static("requested")),
                            ));
                        }
                        own
                    }
                    _ => refused_line(line, said.and_then(|said| said.media.get(index))),
                },
            )
            .collect();
        if self.last.as_ref().is_some_and(|last| *last != own) {
            own.origin.version += 1;
        }
        self.last = Some(own.clone());
        own
    }
}

fn own_line(
    theirs: &SessionDescription,
    line: &Media,
    (lease, keys): (Lease, Option<&Keys>),
    address: IpAddr,
) -> Media {
    let held = theirs
        .address_of(line)
        .is_some_and(|address| address.is_unspecified());
    let direction = theirs.direction_of(line);
    // RFC 3264 §8.4: who gives no address receives nothing.
    let direction = Direction::of(direction.sends(), direction.receives() && !held);
    let mut attributes: Vec<Attribute> = line
        .attributes
        .iter()
        .filter_map(|one| crossing(line, one))
        .collect();
    attributes.extend(lease.rtcp.map(|rtcp| {
        Attribute::Rtcp(Rtcp {
            port: rtcp.port(),
            address: None,
        })
    }));
    attributes.extend(keys.into_iter().flat_map(Keys::attributes));
    attributes.push(Attribute::Direction(direction));
    let rate = |one: &&Bandwidth| matches!(one.kind.as_str(), "AS" | "TIAS");
    Media {
        kind: line.kind.detached(),
        port: lease.rtp.port(),
        ports: None,
        proto: Text::from_static(if keys.is_some() {
            keys::SEALED
        } else {
            keys::CLEAR
        }),
        formats: line.formats.iter().map(Text::detached).collect(),
        connections: if lease.rtp.ip() == address {
            Vec::new()
        } else {
            vec![Connection::new(lease.rtp.ip())]
        },
        bandwidth: line
            .bandwidth
            .iter()
            .filter(rate)
            .take(2)
            .cloned()
            .collect(),
        attributes,
    }
}

/// A line that is not carried keeps its place, kind and protocol (RFC 3264 §6), and nothing else. The protocol is that of the
/// offer on the same side: what is sealed on one may be in the clear on the other.
fn refused_line(line: &Media, said: Option<&Media>) -> Media {
    Media {
        kind: line.kind.detached(),
        port: 0,
        ports: None,
        proto: said.unwrap_or(line).proto.detached(),
        formats: line.formats.iter().take(1).map(formats::neutral).collect(),
        connections: Vec::new(),
        bandwidth: Vec::new(),
        attributes: Vec::new(),
    }
}

/// An attribute that may cross, if this is one.
fn crossing(line: &Media, attribute: &Attribute) -> Option<Attribute> {
    let known = |format: &str| line.formats.iter().any(|have| have.as_str() == format);
    match attribute {
        Attribute::Rtpmap(map) if known(&map.payload.to_string()) => Some(attribute.clone()),
        Attribute::Fmtp(fmtp) if known(&fmtp.format) && fmtp.parameters.len() <= PARAMETERS => {
            Some(attribute.clone())
        }
        Attribute::Ptime(ms) | Attribute::Maxptime(ms) if (1..=200).contains(ms) => {
            Some(attribute.clone())
        }
        Attribute::Other(name, Some(rate)) if name == "framerate" => {
            let rate = rate
                .parse::<f32>()
                .ok()
                .filter(|rate| *rate > 0.0 && *rate <= 240.0)?;
            Some(Attribute::Other(
                Text::from_static("framerate"),
                Some(rate.to_string().into()),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::broker::LeaseId;

    use super::*;

    const OFFER: &str = "v=0\r\no=alice 1 2 IN IP4 198.51.100.10\r\ns=talk\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
        a=tool:phone\r\na=sendonly\r\n\
        m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
        a=rtpmap:97 opus/48000/2\r\na=ptime:20\r\na=rtcp:4007\r\na=candidate:1 1 UDP 1 198.51.100.10 4000 typ host\r\n\
        m=application 5000 TCP/MSRP *\r\na=path:msrp://198.51.100.10:5000/x\r\n\
        m=audio 6000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n";

    fn lease(port: u16) -> Lease {
        let address = |port| SocketAddr::new("192.0.2.1".parse().unwrap(), port);
        Lease {
            id: LeaseId(1),
            rtp: address(port),
            rtcp: Some(address(port + 1)),
        }
    }

    #[test]
    fn only_what_we_carry_gets_sockets() {
        let offer = read(OFFER.as_bytes()).unwrap();
        assert_eq!(
            plan(&offer),
            [
                Some(Plan {
                    v4: true,
                    kind: "audio"
                }),
                None,
                None
            ]
        );
    }

    #[test]
    fn a_description_is_written_anew_and_keeps_nothing_else() {
        let offer = read(OFFER.as_bytes()).unwrap();
        let mut own = OwnDescription::new(84);
        let written = own
            .write(
                &offer,
                None,
                &[Some((lease(20_000), None)), None, None],
                "192.0.2.1".parse().unwrap(),
            )
            .to_string();
        assert_eq!(
            written,
            "v=0\r\no=- 42 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             m=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=ptime:20\r\na=rtcp:20001\r\na=sendonly\r\n\
             m=application 0 TCP/MSRP *\r\nm=audio 0 RTP/SAVP 8\r\n"
        );
    }

    #[test]
    fn a_line_that_the_other_side_refuses_is_refused_in_the_words_of_this_sides_offer() {
        let offer = read(OFFER.as_bytes()).unwrap();
        let refused = OFFER.replace("m=audio 4000 RTP/AVP", "m=audio 0 RTP/SAVP");
        let refused = read(refused.as_bytes()).unwrap();
        let mut own = OwnDescription::new(84);
        let address = "192.0.2.1".parse().unwrap();
        let leases = [Some((lease(20_000), None)), None, None];
        let written = own.write(&refused, Some(&offer), &leases, address);
        assert_eq!(written.media[0].port, 0);
        assert_eq!(written.media[0].proto.as_str(), "RTP/AVP");
        assert!(answers(&offer, &written));
    }

    #[test]
    fn the_version_counts_up_with_a_change_alone() {
        let offer = read(OFFER.as_bytes()).unwrap();
        let mut own = OwnDescription::new(84);
        let address = "192.0.2.1".parse().unwrap();
        let leases = [Some((lease(20_000), None)), None, None];
        assert_eq!(own.write(&offer, None, &leases, address).origin.version, 1);
        assert_eq!(own.write(&offer, None, &leases, address).origin.version, 1);
        let held = read(OFFER.replace("sendonly", "inactive").as_bytes()).unwrap();
        assert_eq!(own.write(&held, None, &leases, address).origin.version, 2);
    }

    #[test]
    fn rtcp_of_another_host_is_not_believed() {
        let read_rtcp = |line: &str| {
            let offer = read(OFFER.replace("a=rtcp:4007", line).as_bytes()).unwrap();
            describe(&offer, 0)
                .unwrap()
                .rtcp
                .map(|rtcp| rtcp.to_string())
        };
        assert_eq!(
            read_rtcp("a=rtcp:4007").as_deref(),
            Some("198.51.100.10:4007")
        );
        assert_eq!(
            read_rtcp("a=rtcp:4007 IN IP4 198.51.100.10").as_deref(),
            Some("198.51.100.10:4007")
        );
        assert_eq!(read_rtcp("a=rtcp:4007 IN IP4 203.0.113.10"), None);
        assert_eq!(
            read_rtcp("a=ptime:20").as_deref(),
            Some("198.51.100.10:4001")
        );
    }

    #[test]
    fn hold_by_address_zero_neither_sends_nor_receives() {
        let offer = read(
            OFFER
                .replace("c=IN IP4 198.51.100.10", "c=IN IP4 0.0.0.0")
                .as_bytes(),
        )
        .unwrap();
        let described = describe(&offer, 0).unwrap();
        assert_eq!((described.rtp, described.rtcp), (None, None));
        assert!(!described.sends && !described.receives);
    }

    #[test]
    fn an_answer_has_the_offers_lines() {
        let offer = read(OFFER.as_bytes()).unwrap();
        let mut answer = offer.clone();
        assert!(answers(&offer, &answer));
        answer.media.swap(0, 1);
        assert!(!answers(&offer, &answer));
        answer.media.pop();
        assert!(!answers(&offer, &answer));
    }

    #[test]
    fn an_answer_that_goes_further_than_the_offer_is_made_to_fit() {
        let offer = read(OFFER.as_bytes()).unwrap();
        let offered = describe(&offer, 0).unwrap();
        let answered = describe(
            &read(OFFER.replace("sendonly", "sendrecv").as_bytes()).unwrap(),
            0,
        )
        .unwrap();
        let fitted = fit(&offered, answered);
        assert!(!fitted.sends && fitted.receives);
    }

    #[test]
    fn a_session_that_is_resumed_is_on_hold_nowhere() {
        let held = read(
            OFFER
                .replace("IN IP4 198.51.100.10", "IN IP4 0.0.0.0")
                .as_bytes(),
        )
        .unwrap();
        let host = "198.51.100.10".parse().unwrap();
        let resumed = resumed(&held, host);
        for line in &resumed.media {
            assert_eq!(resumed.direction_of(line), Direction::SendRecv);
            assert_eq!(resumed.address_of(line), Some(host));
        }
    }
}
