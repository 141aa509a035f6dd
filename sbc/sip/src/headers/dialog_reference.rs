//! Header fields that name another dialog: Replaces (RFC 3891 §6.1), Join (RFC 3911 §7.1), Target-Dialog (RFC 4538 §7).
//! A Replaces also comes escaped in the URI of a Refer-To.

use core::fmt;
use core::str::FromStr;

use super::CallId;
use crate::error::Syntax;
use crate::limits::Limits;
use crate::params::Params;
use crate::reader::Reader;
use crate::text::Text;

/// Replaces or Join: the dialog to be replaced or joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replaces {
    /// Its Call-ID.
    pub call_id: CallId,
    /// Parameters: `to-tag` and `from-tag` are there, maybe `early-only`.
    pub params: Params,
}

impl Replaces {
    /// A reference to the dialog of that Call-ID and these tags, seen from who receives it.
    #[must_use]
    pub fn new(call_id: CallId, to_tag: impl Into<Text>, from_tag: impl Into<Text>) -> Self {
        Self {
            call_id,
            params: Params::new()
                .with(Text::from_static("to-tag"), to_tag)
                .with(Text::from_static("from-tag"), from_tag),
        }
    }

    /// Tag of the local end as the receiver sees it.
    #[must_use]
    pub fn to_tag(&self) -> Option<&Text> {
        self.params.plain("to-tag")
    }

    /// Tag of the remote end as the receiver sees it.
    #[must_use]
    pub fn from_tag(&self) -> Option<&Text> {
        self.params.plain("from-tag")
    }

    /// Whether only an early dialog may be replaced.
    #[must_use]
    pub fn early_only(&self) -> bool {
        self.params.has("early-only")
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let call_id = CallId::parse(reader)?;
        let replaces = Self {
            call_id,
            params: Params::parse(reader, limit)?,
        };
        if replaces.to_tag().is_none() || replaces.from_tag().is_none() {
            return Err(Syntax::Parameter);
        }
        Ok(replaces)
    }
}

impl FromStr for Replaces {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        let mut reader = Reader::copying(text);
        let value = Self::parse(&mut reader, Limits::default().parameters)?;
        reader.finish()?;
        Ok(value)
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.call_id, self.params)
    }
}

/// Target-Dialog: the dialog that a request belongs to in the eyes of its sender.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetDialog {
    /// Its Call-ID.
    pub call_id: CallId,
    /// Parameters: `local-tag` and `remote-tag` are there.
    pub params: Params,
}

impl TargetDialog {
    /// A reference to the dialog of that Call-ID and these tags, seen from who sends it.
    #[must_use]
    pub fn new(call_id: CallId, local_tag: impl Into<Text>, remote_tag: impl Into<Text>) -> Self {
        Self {
            call_id,
            params: Params::new()
                .with(Text::from_static("local-tag"), local_tag)
                .with(Text::from_static("remote-tag"), remote_tag),
        }
    }

    /// The sender's tag.
    #[must_use]
    pub fn local_tag(&self) -> Option<&Text> {
        self.params.plain("local-tag")
    }

    /// The receiver's tag.
    #[must_use]
    pub fn remote_tag(&self) -> Option<&Text> {
        self.params.plain("remote-tag")
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let call_id = CallId::parse(reader)?;
        let target = Self {
            call_id,
            params: Params::parse(reader, limit)?,
        };
        // RFC 4538 §7: both are required.
        if target.local_tag().is_none() || target.remote_tag().is_none() {
            return Err(Syntax::Parameter);
        }
        Ok(target)
    }
}

impl fmt::Display for TargetDialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.call_id, self.params)
    }
}
