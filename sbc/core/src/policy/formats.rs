//! Codecs of a session between two peers: formats that nobody knows or a policy denies are taken out of a description,
//! the rest is put in the order that the policies want. RFC 3264 §5.1 and §6.1, RFC 3551 for static payload types.

use sbc_sip::{
    sdp::{Attribute, Fmtp, Media, Rtpmap, SessionDescription},
    text::Text,
};

use super::parameters;

/// A policy's codecs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codecs<'a> {
    /// Audio codecs that pass, the preferred first; empty: all that are known.
    pub(crate) audio: &'a [String],
    /// The same for video.
    pub(crate) video: &'a [String],
    /// Codecs that never pass.
    pub(crate) denied: &'a [String],
}

/// Encodings that are passed on, spelt as they are registered.
const KNOWN: [&str; 38] = [
    "PCMU",
    "PCMA",
    "G722",
    "G723",
    "G728",
    "G729",
    "G7221",
    "G726-16",
    "G726-24",
    "G726-32",
    "G726-40",
    "GSM",
    "GSM-EFR",
    "iLBC",
    "speex",
    "opus",
    "AMR",
    "AMR-WB",
    "EVS",
    "L16",
    "DVI4",
    "LPC",
    "SILK",
    "CN",
    "telephone-event",
    "red",
    "H261",
    "H263",
    "H263-1998",
    "H263-2000",
    "H264",
    "H265",
    "VP8",
    "VP9",
    "AV1",
    "rtx",
    "ulpfec",
    "flexfec-03",
];

/// Names in what is told of an agreement.
const NAMES: usize = 16;

/// Encodings beside the codecs themselves: they go with whatever is left.
fn is_companion(encoding: &str) -> bool {
    [
        "telephone-event",
        "CN",
        "red",
        "rtx",
        "ulpfec",
        "flexfec-03",
    ]
    .iter()
    .any(|companion| companion.eq_ignore_ascii_case(encoding))
}

/// Encoding and clock of a static payload type.
const fn assigned(payload: u8) -> Option<&'static str> {
    Some(match payload {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        5 | 6 | 16 | 17 => "DVI4",
        7 => "LPC",
        8 => "PCMA",
        9 => "G722",
        10 | 11 => "L16",
        13 => "CN",
        15 => "G728",
        18 => "G729",
        31 => "H261",
        34 => "H263",
        _ => return None,
    })
}

/// The encoding of a format, spelt as registered; `None`: nobody knows it.
fn encoding(line: &Media, format: &str) -> Option<&'static str> {
    let payload: u8 = format.parse().ok()?;
    let Some(map) = line.rtpmap(payload) else {
        return assigned(payload);
    };
    KNOWN
        .iter()
        .find(|known| map.encoding.eq_ignore_ascii_case(known))
        .copied()
}

/// The description with the formats alone that both peers' policies let pass, in their order: the receiver's first.
pub(crate) fn filtered(
    theirs: &SessionDescription,
    from: &Codecs<'_>,
    to: &Codecs<'_>,
) -> SessionDescription {
    let mut description = theirs.clone();
    for line in &mut description.media {
        filter_line(line, from, to);
    }
    description
}

/// Whether a media line has a codec left that could carry something.
pub(crate) fn has_codec(line: &Media) -> bool {
    line.formats
        .iter()
        .any(|format| encoding(line, format).is_some_and(|encoding| !is_companion(encoding)))
}

/// What two descriptions of one session agree on, `PCMA/8000,telephone-event/8000`: of each media line that both keep the
/// formats that both name, in the order of the shorter list, which is the answer's.
pub(crate) fn agreed(one: &SessionDescription, other: &SessionDescription) -> String {
    let mut agreed: Vec<String> = Vec::new();
    let open = |line: &&Media| line.port != 0;
    for (one, other) in one.media.iter().zip(&other.media) {
        let (Some(one), Some(other)) = (Some(one).filter(open), Some(other).filter(open)) else {
            continue;
        };
        let (one, other) = (names(one), names(other));
        let (fewer, more) = match one.len() <= other.len() {
            true => (one, other),
            false => (other, one),
        };
        for name in fewer {
            if more.contains(&name) && !agreed.contains(&name) && agreed.len() < NAMES {
                agreed.push(name);
            }
        }
    }
    agreed.join(",")
}

/// Formats of a line as encoding and clock.
fn names(line: &Media) -> Vec<String> {
    let name = |format: &Text| {
        let encoding = encoding(line, format)?;
        let mapped = format.parse().ok().and_then(|payload| line.rtpmap(payload));
        let usual = match line.kind.as_str() {
            "video" => 90_000,
            _ => 8_000,
        };
        Some(format!(
            "{encoding}/{}",
            mapped.map_or(usual, |map| map.clock_hz)
        ))
    };
    line.formats.iter().filter_map(name).collect()
}

fn filter_line(line: &mut Media, from: &Codecs<'_>, to: &Codecs<'_>) {
    let video = match line.kind.as_str() {
        "audio" => false,
        "video" => true,
        _ => return,
    };
    let mut ranked: Vec<(usize, usize, Text)> = line
        .formats
        .iter()
        .filter_map(|format| {
            let encoding = encoding(line, format)?;
            let first = rank(to, video, encoding)?;
            Some((first, rank(from, video, encoding)?, format.clone()))
        })
        .collect();
    // Stable: formats of one rank keep the order of their sender.
    ranked.sort_by_key(|(first, second, _)| (*first, *second));
    line.formats = ranked.into_iter().map(|(_, _, format)| format).collect();
    line.attributes = line
        .attributes
        .iter()
        .filter_map(|attribute| kept(line, attribute))
        .collect();
}

/// Where an encoding stands in a policy's order; `None`: it does not pass.
fn rank(codecs: &Codecs<'_>, video: bool, encoding: &str) -> Option<usize> {
    let is = |name: &String| name.eq_ignore_ascii_case(encoding);
    let list = if video { codecs.video } else { codecs.audio };
    if codecs.denied.iter().any(is) {
        return None;
    }
    if list.is_empty() {
        return Some(0);
    }
    let place = list.iter().position(is);
    place.or_else(|| is_companion(encoding).then_some(list.len()))
}

/// Attributes of formats, written anew; those of formats that are gone go too, all others stay for the next reader.
fn kept(line: &Media, attribute: &Attribute) -> Option<Attribute> {
    let stays = |format: &str| line.formats.iter().any(|have| have.as_str() == format);
    match attribute {
        Attribute::Rtpmap(map) => {
            let format = map.payload.to_string();
            let encoding = encoding(line, &format).filter(|_| stays(&format))?;
            let channels = map
                .parameters
                .as_ref()
                .filter(|channels| matches!(channels.as_str(), "1" | "2"));
            Some(Attribute::Rtpmap(Rtpmap {
                payload: map.payload,
                encoding: Text::from_static(encoding),
                clock_hz: map.clock_hz,
                parameters: channels.cloned(),
            }))
        }
        Attribute::Fmtp(fmtp) => {
            let encoding = encoding(line, &fmtp.format).filter(|_| stays(&fmtp.format))?;
            let parameters = parameters::crossing(encoding, &fmtp.parameters)?;
            Some(Attribute::Fmtp(Fmtp {
                format: fmtp.format.clone(),
                parameters: parameters.into(),
            }))
        }
        other => Some(other.clone()),
    }
}

/// Whether every media line is of a kind and protocol that is registered, so that a line that is refused can keep both.
/// RFC 3264 §6, RFC 8866 §8.2.
pub(crate) fn is_registered(description: &SessionDescription) -> bool {
    description.media.iter().all(|line| {
        KINDS.contains(&line.kind.as_str())
            && PROTOCOLS
                .iter()
                .any(|protocol| protocol.eq_ignore_ascii_case(&line.proto))
    })
}

const KINDS: [&str; 6] = ["audio", "video", "text", "application", "message", "image"];
const PROTOCOLS: [&str; 21] = [
    "RTP/AVP",
    "RTP/AVPF",
    "RTP/SAVP",
    "RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVPF",
    "TCP/RTP/AVP",
    "TCP/TLS/RTP/AVP",
    "TCP/DTLS/RTP/SAVP",
    "TCP/DTLS/RTP/SAVPF",
    "udp",
    "UDPTL",
    "TCP",
    "TCP/TLS",
    "TCP/MSRP",
    "TCP/TLS/MSRP",
    "UDP/BFCP",
    "TCP/BFCP",
    "TCP/TLS/BFCP",
    "UDP/DTLS/SCTP",
    "TCP/DTLS/SCTP",
];

/// A format that says nothing about its sender, for a line that is refused.
pub(crate) fn neutral(format: &Text) -> Text {
    let number = format.parse::<u8>().is_ok_and(|payload| payload < 128);
    match format.as_str() {
        known @ ("*" | "t38" | "webrtc-datachannel") => Text::from(known),
        _ if number && !format.starts_with('+') => format.detached(),
        _ => Text::from_static("0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer_answer;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 8 9 96 97 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 x-pbx/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:96 useinbandfec=1;x=pbx\r\na=fmtp:97 pbx\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn formats(from: &Codecs<'_>, to: &Codecs<'_>) -> String {
        let offer = offer_answer::read(OFFER.as_bytes()).unwrap();
        let line = &filtered(&offer, from, to).media[0];
        line.formats
            .iter()
            .map(Text::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn unknown_formats_and_parameters_do_not_cross() {
        let offer = offer_answer::read(OFFER.as_bytes()).unwrap();
        let written = filtered(&offer, &Codecs::default(), &Codecs::default()).to_string();
        assert!(!written.contains("pbx"), "{written}");
        assert!(
            written.contains("m=audio 4000 RTP/AVP 0 8 9 96 101\r\n"),
            "{written}"
        );
        assert!(
            written.contains("a=fmtp:96 useinbandfec=1\r\n"),
            "{written}"
        );
    }

    #[test]
    fn a_policy_orders_and_denies_and_keeps_telephone_event() {
        let none = Codecs::default();
        let (audio, denied) = (names(&["G722", "pcma"]), names(&["PCMU"]));
        let ordered = Codecs {
            audio: &audio,
            ..none
        };
        let without = Codecs {
            denied: &denied,
            ..none
        };
        assert_eq!(formats(&none, &ordered), "9 8 101");
        assert_eq!(formats(&ordered, &without), "9 8 101");
        assert_eq!(formats(&without, &none), "8 9 96 101");
        let other = names(&["PCMU"]);
        let other = Codecs {
            audio: &other,
            ..none
        };
        assert_eq!(formats(&ordered, &other), "101");
        let offer = offer_answer::read(OFFER.as_bytes()).unwrap();
        assert!(!has_codec(&filtered(&offer, &ordered, &other).media[0]));
    }

    #[test]
    fn kinds_and_protocols_are_registered_ones() {
        let read = |line: &str| {
            let text = OFFER.replace("m=audio 4000 RTP/AVP", line);
            offer_answer::read(text.as_bytes()).is_some()
        };
        assert!(read("m=audio 4000 RTP/AVP"));
        assert!(read("m=image 0 udptl"));
        assert!(!read("m=pbx 4000 RTP/AVP"));
        assert!(!read("m=audio 4000 PBX/AVP"));
        assert_eq!(neutral(&Text::from("pbx")).as_str(), "0");
    }
}
