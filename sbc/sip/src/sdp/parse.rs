//! The reader of session descriptions: lines in the order of RFC 8866 §5, each once or as often as it may. Lines end in
//! CRLF; a bare LF is let pass, as §9 asks.

use super::attribute::{Attribute, family_address, is_token, number};
use super::{Address, Bandwidth, Connection, Limits, Media, Origin, SdpError, SessionDescription};
use crate::reader::{is_printable, steps};
use crate::text::Text;

impl SessionDescription {
    /// Reads a body. Fails with the first offence.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, SdpError> {
        if body.len() > limits.octets {
            return Err(SdpError::TooLarge);
        }
        let text = core::str::from_utf8(body).map_err(|_| SdpError::NotText)?;
        let mut session = Session::default();
        for line in text.split_terminator('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            steps::count(line.len());
            if !line.bytes().all(is_printable) {
                return Err(SdpError::NotText);
            }
            let (kind, value) = match line.as_bytes() {
                [kind, b'=', ..] => (*kind, line.get(2..).unwrap_or_default()),
                _ => return Err(SdpError::Line),
            };
            session.line(kind, value, limits)?;
        }
        session.finish()
    }
}

/// A description under way.
#[derive(Default)]
struct Session {
    rank: u8,
    has_version: bool,
    origin: Option<Origin>,
    name: Option<Text>,
    connection: Option<Connection>,
    bandwidth: Vec<Bandwidth>,
    timing: Vec<(u64, u64)>,
    attributes: Vec<Attribute>,
    media: Vec<Media>,
}

/// Place of a line in its section, and whether it may be repeated. RFC 8866 §5.
const fn place(kind: u8, in_media: bool) -> Option<(u8, bool)> {
    Some(match (kind, in_media) {
        (b'v', false) => (1, false),
        (b'o', false) => (2, false),
        (b's', false) => (3, false),
        (b'i', _) => (4, false),
        (b'u', false) => (5, false),
        (b'e', false) => (6, true),
        (b'p', false) => (7, true),
        (b'c', false) => (8, false),
        (b'c', true) => (8, true),
        (b'b', _) => (9, true),
        (b't' | b'r', false) => (10, true),
        (b'z', false) => (11, false),
        (b'k', _) => (12, false),
        (b'a', _) => (13, true),
        (b'm', _) => (14, true),
        _ => return None,
    })
}

impl Session {
    fn line(&mut self, kind: u8, value: &str, limits: &Limits) -> Result<(), SdpError> {
        let (rank, repeats) = place(kind, !self.media.is_empty()).ok_or(SdpError::Order)?;
        if rank < self.rank || (rank == self.rank && !repeats) {
            return Err(SdpError::Order);
        }
        self.rank = rank;
        match kind {
            b'v' if value != "0" => return Err(SdpError::Version),
            b'v' => self.has_version = true,
            b'o' => self.origin = Some(origin(value).ok_or(SdpError::Origin)?),
            b's' => self.name = Some(Text::from(value.trim_matches(' '))),
            b'c' => self.connection(connection(value).ok_or(SdpError::Connection)?),
            b'b' => {
                let bandwidth = bandwidth(value).ok_or(SdpError::Bandwidth)?;
                self.bandwidths().push(bandwidth);
            }
            b't' => self.timing.push(timing(value).ok_or(SdpError::Timing)?),
            b'a' => {
                let attribute = Attribute::parse(value)?;
                let attributes = self.attributes();
                if attributes.len() >= limits.attributes {
                    return Err(SdpError::TooManyAttributes);
                }
                attributes.push(attribute);
            }
            b'm' => {
                if self.media.len() >= limits.media {
                    return Err(SdpError::TooManyMedia);
                }
                self.mandatory()?;
                self.media.push(media(value, limits)?);
                self.rank = 0;
            }
            // i, u, e, p, r, z, k: read for their place, carried nowhere.
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, connection: Connection) {
        match self.media.last_mut() {
            Some(media) => media.connections.push(connection),
            None => self.connection = Some(connection),
        }
    }

    fn bandwidths(&mut self) -> &mut Vec<Bandwidth> {
        self.media
            .last_mut()
            .map_or(&mut self.bandwidth, |media| &mut media.bandwidth)
    }

    fn attributes(&mut self) -> &mut Vec<Attribute> {
        self.media
            .last_mut()
            .map_or(&mut self.attributes, |media| &mut media.attributes)
    }

    fn mandatory(&self) -> Result<(), SdpError> {
        let there = self.has_version
            && self.origin.is_some()
            && self.name.is_some()
            && !self.timing.is_empty();
        if there {
            Ok(())
        } else {
            Err(SdpError::Missing)
        }
    }

    fn finish(self) -> Result<SessionDescription, SdpError> {
        self.mandatory()?;
        if self.connection.is_none() && self.media.iter().any(|media| media.connections.is_empty())
        {
            return Err(SdpError::NoConnection);
        }
        let (Some(origin), Some(name)) = (self.origin, self.name) else {
            return Err(SdpError::Missing);
        };
        Ok(SessionDescription {
            origin,
            name,
            connection: self.connection,
            bandwidth: self.bandwidth,
            timing: self.timing,
            attributes: self.attributes,
            media: self.media,
        })
    }
}

fn origin(value: &str) -> Option<Origin> {
    let mut words = value.trim_end_matches(' ').split(' ');
    let (user, session, version) = (words.next()?, words.next()?, words.next()?);
    let address = address(words.next()?, words.next()?, words.next()?)?;
    if user.is_empty() || words.next().is_some() {
        return None;
    }
    Some(Origin {
        user: Text::from(user),
        session: number(session)?,
        version: number(version)?,
        address,
    })
}

fn address(net: &str, family: &str, text: &str) -> Option<Address> {
    if net != "IN" {
        return None;
    }
    let v6 = match family {
        "IP4" => false,
        "IP6" => true,
        _ => return None,
    };
    if let Some(address) = family_address(family, text) {
        return Some(Address::Ip(address));
    }
    match crate::uri::Host::parse_text(text) {
        Ok(crate::uri::Host::Name(name)) => Some(Address::Name(name, v6)),
        _ => None,
    }
}

fn connection(value: &str) -> Option<Connection> {
    let mut words = value.trim_end_matches(' ').split(' ');
    let (net, family, text) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let (text, multicast) = match text.split_once('/') {
        Some((text, suffix)) => (text, Some(suffix)),
        None => (text, None),
    };
    let numbers = |suffix: &str| {
        suffix.split('/').count() <= 2 && suffix.split('/').all(|one| number::<u32>(one).is_some())
    };
    if !multicast.is_none_or(numbers) {
        return None;
    }
    Some(Connection {
        address: address(net, family, text)?,
        multicast: multicast.map(Text::from),
    })
}

fn bandwidth(value: &str) -> Option<Bandwidth> {
    let (kind, value) = value.split_once(':')?;
    if kind.is_empty() || !kind.bytes().all(is_token) {
        return None;
    }
    Some(Bandwidth {
        kind: Text::from(kind),
        value: number(value.trim_end_matches(' '))?,
    })
}

fn timing(value: &str) -> Option<(u64, u64)> {
    let (start, stop) = value.trim_end_matches(' ').split_once(' ')?;
    Some((number(start)?, number(stop)?))
}

fn media(value: &str, limits: &Limits) -> Result<Media, SdpError> {
    let mut words = value.trim_end_matches(' ').split(' ');
    let (Some(kind), Some(port), Some(proto)) = (words.next(), words.next(), words.next()) else {
        return Err(SdpError::Media);
    };
    let (port, ports) = match port.split_once('/') {
        Some((port, ports)) => (
            port,
            Some(
                number::<u16>(ports)
                    .filter(|ports| *ports > 0)
                    .ok_or(SdpError::Media)?,
            ),
        ),
        None => (port, None),
    };
    let port = number(port).ok_or(SdpError::Media)?;
    let token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let proto_is_good = proto.split('/').all(token);
    let mut formats = Vec::new();
    for format in words {
        if formats.len() >= limits.formats {
            return Err(SdpError::TooManyFormats);
        }
        if format.is_empty() {
            return Err(SdpError::Media);
        }
        formats.push(Text::from(format));
    }
    if !token(kind) || !proto_is_good || formats.is_empty() {
        return Err(SdpError::Media);
    }
    Ok(Media {
        kind: Text::from(kind),
        port,
        ports,
        proto: Text::from(proto),
        formats,
        connections: Vec::new(),
        bandwidth: Vec::new(),
        attributes: Vec::new(),
    })
}
