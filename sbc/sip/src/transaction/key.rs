//! What tells one transaction from another: RFC 3261 §17.1.3 and §17.2.3, the rules of RFC 2543 where a branch has no magic
//! cookie, and §8.2.2.2 for a request that came by two ways. Used by the layer only. A key that is looked up borrows the
//! message's buffer; one that is kept has its own.

use crate::headers::{CallId, Via};
use crate::message::Request;
use crate::method::Method;
use crate::text::Text;
use crate::uri::{Host, HostPort, Uri};

/// Key of a client transaction: branch and method of CSeq.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientKey {
    branch: Text,
    method: Method,
}

impl ClientKey {
    pub(super) fn new(top: &Via, method: &Method) -> Option<Self> {
        Some(Self {
            branch: top.branch()?.clone(),
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
        sent_by: HostPort,
        method: Method,
    },
    /// Everything that RFC 2543 compares.
    Rfc2543(Box<OldKey>),
}

/// What RFC 2543 compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OldKey {
    uri: String,
    from_tag: Option<Text>,
    to_tag: Option<Text>,
    call_id: CallId,
    cseq: u32,
    via: String,
    method: Method,
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
            Self::Rfc2543(mut old) => {
                old.to_tag = None;
                Some(Self::Rfc2543(old))
            }
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
            Some(branch) => Self::Rfc3261 {
                branch: branch.clone(),
                sent_by: folded(&via.sent_by),
                method,
            },
            None => Self::Rfc2543(Box::new(OldKey {
                uri: request.uri.to_string(),
                from_tag: headers.from.tag().map(Text::detached),
                to_tag: headers.to.tag().map(Text::detached),
                call_id: headers.call_id.detached(),
                cseq: headers.cseq.number,
                via: via.to_string(),
                method,
            })),
        })
    }

    /// The same in buffers of its own.
    pub(super) fn detached(self) -> Self {
        match self {
            Self::Rfc3261 {
                branch,
                sent_by,
                method,
            } => Self::Rfc3261 {
                branch: branch.detached(),
                sent_by: HostPort {
                    host: sent_by.host.detached(),
                    port: sent_by.port,
                },
                method,
            },
            old => old,
        }
    }
}

/// Host names are compared without regard to case.
fn folded(sent_by: &HostPort) -> HostPort {
    let host = match &sent_by.host {
        Host::Name(name) if name.bytes().any(|octet| octet.is_ascii_uppercase()) => {
            Host::Name(Text::from(name.to_ascii_lowercase()))
        }
        host => host.clone(),
    };
    HostPort {
        host,
        port: sent_by.port,
    }
}

/// What a request that came by two ways has twice: Call-ID, tag of From, CSeq (RFC 3261 §8.2.2.2), and the Request-URI: a
/// proxy in front of us forks one call to several telephones that all registered through us, each a user agent of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    call_id: CallId,
    from_tag: Option<Text>,
    cseq: u32,
    method: Method,
    uri: Uri,
}

impl MergeKey {
    /// None for a request inside a dialog, an ACK or a CANCEL.
    pub(super) fn new(request: &Request) -> Option<Self> {
        let headers = &request.headers;
        if headers.to.tag().is_some() || matches!(request.method, Method::Ack | Method::Cancel) {
            return None;
        }
        Some(Self {
            call_id: headers.call_id.clone(),
            from_tag: headers.from.tag().cloned(),
            cseq: headers.cseq.number,
            method: request.method.clone(),
            uri: request.uri.clone(),
        })
    }

    /// The same in buffers of its own.
    pub(super) fn detached(self) -> Self {
        Self {
            call_id: self.call_id.detached(),
            from_tag: self.from_tag.as_ref().map(Text::detached),
            uri: self.uri.detached(),
            ..self
        }
    }
}
