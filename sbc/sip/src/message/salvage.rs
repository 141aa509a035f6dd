//! What is left of a request that breaks the grammar: enough to answer it. RFC 3261 §8.2.6: a response echoes Via, From,
//! To, Call-ID and CSeq. The Via is typed, because it says where the answer goes; the other four are the sender's own
//! text, which goes back to the sender and nowhere else.

use super::write::Head;
use crate::headers::Via;
use crate::reader::is_printable;
use crate::status::StatusCode;
use crate::text::Text;

/// Longest text that is echoed, in octets: an answer to garbage is no amplifier.
const LONGEST: usize = 1_024;

/// The echo of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// Via, the top one first; at least one.
    pub vias: Vec<Via>,
    from: Text,
    to: Text,
    call_id: Text,
    cseq: Text,
    to_is_sound: bool,
    is_ack: bool,
}

/// Raw values gathered while a head is read.
#[derive(Default)]
pub(super) struct Raw<'a> {
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) call_id: Option<&'a str>,
    pub(super) cseq: Option<&'a str>,
}

impl Salvage {
    /// The echo, if all five are there and none of the four is too long or holds control characters.
    pub(super) fn new(
        vias: Vec<Via>,
        raw: &Raw<'_>,
        to_has_tag: Option<bool>,
        is_ack: bool,
    ) -> Option<Self> {
        let echo = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty() && text.len() <= LONGEST)?;
            text.bytes().all(is_printable).then(|| Text::from(text))
        };
        let (from, to, call_id, cseq) = (
            echo(raw.from)?,
            echo(raw.to)?,
            echo(raw.call_id)?,
            echo(raw.cseq)?,
        );
        let to_is_sound = to_has_tag == Some(false);
        (!vias.is_empty()).then_some(Self {
            vias,
            from,
            to,
            call_id,
            cseq,
            to_is_sound,
            is_ack,
        })
    }

    /// The answer on the wire. `lines` are further header fields, name and value. None for an ACK: it is never answered.
    #[must_use]
    pub fn answer(
        &self,
        status: StatusCode,
        to_tag: &str,
        lines: &[(&str, &str)],
    ) -> Option<Vec<u8>> {
        if self.is_ack {
            return None;
        }
        let mut head = Head::default();
        head.line(format_args!("SIP/2.0 {status} {}", status.default_reason()));
        for via in &self.vias {
            head.line(format_args!("Via: {via}"));
        }
        head.line(format_args!("From: {}", self.from));
        // A To that could not be read gets no tag: where its last quote or bracket ends is not known.
        match self.to_is_sound {
            true => head.line(format_args!("To: {};tag={to_tag}", self.to)),
            false => head.line(format_args!("To: {}", self.to)),
        }
        head.line(format_args!("Call-ID: {}", self.call_id));
        head.line(format_args!("CSeq: {}", self.cseq));
        for (name, value) in lines {
            head.line(format_args!("{name}: {value}"));
        }
        Some(head.finish(&[]))
    }
}
