//! DTMF in INFO: `application/dtmf-relay` (`Signal=5`, `Duration=160`) and `application/dtmf` (`5`). No standard has
//! them, many phones send them; what is passed on is written anew from the digit.

use sbc_sip::message::{BodyPart, Request};

use crate::outgoing;

/// A digit and how long it is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digit {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub(crate) signal: char,
    /// In ms.
    pub(crate) duration_ms: u16,
}

/// What many phones send, and what stands where none is given.
const USUAL_MS: u16 = 160;
/// Bounds of a duration that is passed on.
const DURATIONS_MS: std::ops::RangeInclusive<u16> = 40..=5_000;

/// The digit of an INFO body. `None`: another kind of body, or no digit.
pub(crate) fn from_info(body: Option<BodyPart<'_>>) -> Option<Digit> {
    let body = body?;
    let text = std::str::from_utf8(body.bytes).ok()?;
    match &body.kind {
        kind if kind.is("application", "dtmf-relay") => relay(text),
        kind if kind.is("application", "dtmf") => digit(text.trim()).map(|signal| Digit {
            signal,
            duration_ms: USUAL_MS,
        }),
        _ => None,
    }
}

fn relay(text: &str) -> Option<Digit> {
    let mut signal = None;
    let mut duration_ms = USUAL_MS;
    for line in text.lines().take(4) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("signal") {
            signal = digit(value.trim());
        } else if name.trim().eq_ignore_ascii_case("duration") {
            duration_ms = value.trim().parse().ok()?;
        }
    }
    let duration_ms = duration_ms.clamp(*DURATIONS_MS.start(), *DURATIONS_MS.end());
    signal.map(|signal| Digit {
        signal,
        duration_ms,
    })
}

fn digit(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let character = characters.next()?.to_ascii_uppercase();
    let good =
        characters.next().is_none() && matches!(character, '0'..='9' | '*' | '#' | 'A'..='D');
    // Event codes 10 and 11 of RFC 4733, as some phones write them.
    match text {
        "10" => Some('*'),
        "11" => Some('#'),
        _ => good.then_some(character),
    }
}

/// Write the digit as the body of an INFO.
pub(crate) fn into_info(request: &mut Request, digit: Digit) {
    let body = format!(
        "Signal={}\r\nDuration={}\r\n",
        digit.signal, digit.duration_ms
    );
    request.set_body(outgoing::dtmf_relay(), body.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &'static str, body: &str) -> Option<Digit> {
        let (kind, subtype) = kind.split_once('/').unwrap();
        from_info(Some(BodyPart::new(
            sbc_sip::headers::MediaType::new(kind, subtype),
            body.as_bytes(),
        )))
    }

    #[test]
    fn both_kinds_are_read() {
        assert_eq!(
            read("application/dtmf-relay", "Signal=5\r\nDuration=200\r\n"),
            Some(Digit {
                signal: '5',
                duration_ms: 200
            })
        );
        assert_eq!(
            read("application/DTMF", "#\r\n"),
            Some(Digit {
                signal: '#',
                duration_ms: 160
            })
        );
        assert_eq!(
            read("application/dtmf-relay", "Signal= 11 \r\n"),
            Some(Digit {
                signal: '#',
                duration_ms: 160
            })
        );
    }

    #[test]
    fn what_is_no_digit_is_none() {
        for (kind, body) in [
            ("application/dtmf-relay", "Signal=55"),
            ("application/dtmf-relay", "Duration=160"),
            ("application/dtmf-relay", "Signal=5\r\nDuration=99999999"),
            ("application/dtmf", "x"),
            ("application/dtmf", ""),
            ("text/plain", "5"),
        ] {
            assert_eq!(read(kind, body), None, "{kind} {body}");
        }
    }

    #[test]
    fn a_duration_is_kept_within_bounds() {
        assert_eq!(
            read("application/dtmf-relay", "Signal=5\r\nDuration=60000")
                .unwrap()
                .duration_ms,
            5_000
        );
    }
}
