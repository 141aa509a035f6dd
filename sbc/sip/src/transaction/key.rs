//! What tells one transaction from another: RFC 3261 §17.1.3 and §17.2.3, the rules of RFC 2543 where a branch has no magic
//! cookie, and §8.2.2.2 for a request that came by two ways. Used by the layer only.

use crate::headers::Via;
use crate::message::Request;
use crate::method::Method;
use crate::text::Text;

/// Key of a client transaction: branch and method of CSeq.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientKey {
    branch: Text,
    method: Method,
}

impl ClientKey {
    pub(super) fn new(top: &Via, method: &Method) -> Option<Self> {
        Some(Self {
            branch: top.branch()?.detached(),
            method: method.clone(),
        })
    }
}

/// Key of a server transaction within what [`super::Flow::scope`] says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerKey {
    /// Branch with the magic cookie, sent-by, method.
    Rfc3261 {
        branch: Text,
        sent_by: String,
        method: Method,
    },
    /// Everything that RFC 2543 compares.
    Rfc2543 {
        uri: String,
        from_tag: Option<Text>,
        to_tag: Option<Text>,
        call_id: Text,
        cseq: u32,
        via: String,
        method: Method,
    },
}

impl ServerKey {
    /// The key of a request; an ACK has that of its INVITE, a CANCEL its own.
    pub(super) fn new(request: &Request) -> Option<Self> {
        let method = match request.method {
            Method::Ack => Method::Invite,
            ref method => method.clone(),
        };
        Self::with_method(request, method)
    }

    /// The key of the INVITE that an ACK is for, if that INVITE had no tag in To: by the rules of RFC 2543 the ACK has the
    /// tag of the response. None for other requests.
    pub(super) fn without_to_tag(ack: &Request) -> Option<Self> {
        if ack.method != Method::Ack {
            return None;
        }
        match Self::new(ack)? {
            Self::Rfc3261 { .. } => None,
            Self::Rfc2543 {
                uri,
                from_tag,
                call_id,
                cseq,
                via,
                method,
                ..
            } => Some(Self::Rfc2543 {
                uri,
                from_tag,
                to_tag: None,
                call_id,
                cseq,
                via,
                method,
            }),
        }
    }

    /// The key of the INVITE that a CANCEL is for. RFC 3261 §9.2.
    pub(super) fn of_invite(cancel: &Request) -> Option<Self> {
        Self::with_method(cancel, Method::Invite)
    }

    fn with_method(request: &Request, method: Method) -> Option<Self> {
        let via = request.top_via()?;
        let headers = &request.headers;
        Some(match via.rfc3261_branch() {
            Some(branch) => {
                let sent_by = via.sent_by.to_string().to_ascii_lowercase();
                Self::Rfc3261 {
                    branch: branch.detached(),
                    sent_by,
                    method,
                }
            }
            None => Self::Rfc2543 {
                uri: request.uri.to_string(),
                from_tag: headers.from.tag().map(Text::detached),
                to_tag: headers.to.tag().map(Text::detached),
                call_id: headers.call_id.text().detached(),
                cseq: headers.cseq.number,
                via: via.to_string(),
                method,
            },
        })
    }
}

/// What a request that came by two ways has twice: Call-ID, tag of From, CSeq. RFC 3261 §8.2.2.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    call_id: Text,
    from_tag: Option<Text>,
    cseq: u32,
    method: Method,
}

impl MergeKey {
    /// None for a request inside a dialog, an ACK or a CANCEL.
    pub(super) fn new(request: &Request) -> Option<Self> {
        let headers = &request.headers;
        if headers.to.tag().is_some() || matches!(request.method, Method::Ack | Method::Cancel) {
            return None;
        }
        Some(Self {
            call_id: headers.call_id.text().detached(),
            from_tag: headers.from.tag().map(Text::detached),
            cseq: headers.cseq.number,
            method: request.method.clone(),
        })
    }
}
