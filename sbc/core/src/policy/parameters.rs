//! Parameters of formats (`a=fmtp`): each codec's own, by name and shape; what is none of them does not cross.
//! RFC 4733, 7587, 4867, 6184, 7798, 7741, 9628, 4588, 2198, 3952, 5577, 3551.

/// Octets of one value.
const VALUE: usize = 400;

/// The shape of a parameter's value.
#[derive(Clone, Copy)]
enum Shape {
    /// A number.
    Number,
    /// Numbers between commas.
    Numbers,
    /// `yes` or `no`.
    YesNo,
    /// Hexadecimal digits.
    Hexadecimal,
    /// Parameter sets in base64 between commas.
    Base64,
}

use Shape::{Base64, Hexadecimal, Number, Numbers, YesNo};

/// The parameters of a format with this encoding that may cross, written anew; `None`: nothing is left.
pub(super) fn crossing(encoding: &str, parameters: &str) -> Option<String> {
    let encoding = encoding.to_ascii_lowercase();
    match encoding.as_str() {
        // RFC 4733 §2.4.1: events between commas, ranges with a hyphen.
        "telephone-event" => events(parameters),
        // RFC 2198 §5: payload types between slashes.
        "red" => redundancy(parameters),
        _ => named(known(&encoding)?, parameters),
    }
}

fn known(encoding: &str) -> Option<&'static [(&'static str, Shape)]> {
    Some(match encoding {
        "opus" => &[
            ("maxplaybackrate", Number),
            ("sprop-maxcapturerate", Number),
            ("maxaveragebitrate", Number),
            ("minptime", Number),
            ("maxptime", Number),
            ("ptime", Number),
            ("stereo", Number),
            ("sprop-stereo", Number),
            ("cbr", Number),
            ("useinbandfec", Number),
            ("usedtx", Number),
        ],
        "amr" | "amr-wb" => &[
            ("octet-align", Number),
            ("mode-set", Numbers),
            ("mode-change-period", Number),
            ("mode-change-capability", Number),
            ("mode-change-neighbor", Number),
            ("max-red", Number),
            ("crc", Number),
            ("robust-sorting", Number),
            ("interleaving", Number),
            ("channels", Number),
        ],
        "g729" => &[("annexb", YesNo)],
        "g723" => &[("annexa", YesNo), ("bitrate", Number)],
        "g7221" => &[("bitrate", Number)],
        "ilbc" => &[("mode", Number)],
        "speex" => &[("vbr", Number), ("mode", Number)],
        "h264" => &[
            ("profile-level-id", Hexadecimal),
            ("packetization-mode", Number),
            ("level-asymmetry-allowed", Number),
            ("max-mbps", Number),
            ("max-smbps", Number),
            ("max-fs", Number),
            ("max-cpb", Number),
            ("max-dpb", Number),
            ("max-br", Number),
            ("max-rcmd-nalu-size", Number),
            ("sprop-parameter-sets", Base64),
        ],
        "h265" => &[
            ("profile-space", Number),
            ("profile-id", Number),
            ("tier-flag", Number),
            ("level-id", Number),
            ("tx-mode", Number),
            ("sprop-vps", Base64),
            ("sprop-sps", Base64),
            ("sprop-pps", Base64),
        ],
        "h263" | "h263-1998" | "h263-2000" => &[
            ("cif", Number),
            ("qcif", Number),
            ("sqcif", Number),
            ("cif4", Number),
            ("cif16", Number),
            ("profile", Number),
            ("level", Number),
        ],
        "vp8" | "vp9" => &[
            ("max-fr", Number),
            ("max-fs", Number),
            ("profile-id", Number),
        ],
        "av1" => &[("profile", Number), ("level-idx", Number), ("tier", Number)],
        "rtx" => &[("apt", Number), ("rtx-time", Number)],
        _ => return None,
    })
}

fn named(known: &[(&str, Shape)], parameters: &str) -> Option<String> {
    let mut kept = Vec::new();
    for one in parameters.split(';').take(32) {
        let Some((name, value)) = one.split_once('=') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        let shape = known
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name));
        if let Some((name, _)) = shape.filter(|(_, shape)| fits(*shape, value)) {
            kept.push(format!("{name}={value}"));
        }
    }
    (!kept.is_empty()).then(|| kept.join(";"))
}

fn fits(shape: Shape, value: &str) -> bool {
    let every = |class: fn(&u8) -> bool| value.as_bytes().iter().all(class);
    if value.is_empty() || value.len() > VALUE {
        return false;
    }
    match shape {
        Number => value.len() <= 9 && every(u8::is_ascii_digit),
        Numbers => value.len() <= 32 && every(|octet| octet.is_ascii_digit() || *octet == b','),
        YesNo => matches!(value, "yes" | "no"),
        Hexadecimal => value.len() <= 8 && every(u8::is_ascii_hexdigit),
        Base64 => is_parameter_sets(value),
    }
}

/// Base64 whose octets begin as a parameter set of H.264 or H.265 does, so that no text crosses in their place.
fn is_parameter_sets(value: &str) -> bool {
    value.split(',').all(|set| {
        let bare = set.trim_end_matches('=');
        let alphabet = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
        // NAL unit types 7 and 8 of H.264 (0x67, 0x68, 0x27, 0x28), 32 to 34 of H.265 (0x40, 0x42, 0x44).
        let kind = [
            "Z", "aM", "aO", "J", "KM", "KO", "QA", "Qg", "QE", "RA", "RE",
        ];
        set.len().is_multiple_of(4)
            && set.len() - bare.len() <= 2
            && bare.bytes().all(alphabet)
            && kind.iter().any(|start| bare.starts_with(start))
    })
}

fn events(parameters: &str) -> Option<String> {
    let text: String = parameters
        .chars()
        .filter(|character| *character != ' ')
        .collect();
    let number = |text: &str| text.parse::<u8>().is_ok() && !text.starts_with('+');
    let range = |one: &str| match one.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(one),
    };
    (text.len() <= 64 && text.split(',').all(range)).then_some(text)
}

fn redundancy(parameters: &str) -> Option<String> {
    let text = parameters.trim();
    let payload =
        |one: &str| one.parse::<u8>().is_ok_and(|payload| payload < 128) && !one.starts_with('+');
    (text.len() <= 64 && text.split('/').all(payload)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_their_codec() {
        for (encoding, given, left) in [
            ("telephone-event", "0-16, 66", Some("0-16,66")),
            ("telephone-event", "pbx", None),
            (
                "opus",
                "useinbandfec=1; x=pbx;minptime=10",
                Some("useinbandfec=1;minptime=10"),
            ),
            ("opus", "minptime=pbx", None),
            (
                "AMR-WB",
                "mode-set=0,2;octet-align=1",
                Some("mode-set=0,2;octet-align=1"),
            ),
            ("G729", "annexb=no", Some("annexb=no")),
            (
                "H264",
                "profile-level-id=42e01f;sprop-parameter-sets=Z0IACpZTBYmI,aMljiA==",
                Some("profile-level-id=42e01f;sprop-parameter-sets=Z0IACpZTBYmI,aMljiA=="),
            ),
            ("H264", "sprop-parameter-sets=c2VjcmV0", None),
            ("red", "111/111", Some("111/111")),
            ("rtx", "apt=96", Some("apt=96")),
            ("x-pbx", "mode=1", None),
        ] {
            assert_eq!(
                crossing(encoding, given).as_deref(),
                left,
                "{encoding} {given}"
            );
        }
    }
}
