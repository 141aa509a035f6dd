//! Dialogs: RFC 3261 §12. One per leg of a call, made by the core from the INVITE and the response that set it up; it numbers
//! the requests of its side, checks those of the other, and knows where they go.

mod acceptance;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use acceptance::{Acceptance, AcceptanceStep};

use crate::headers::{CallId, Cseq, Field, Headers, NameAddr, Via};
use crate::message::{Request, Response};
use crate::method::Method;
use crate::status::StatusCode;
use crate::text::Text;
use crate::uri::{SipUri, Uri};

/// What names a dialog at one of its ends. RFC 3261 §12.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: CallId,
    /// Tag of this end.
    pub local_tag: Text,
    /// Tag of the other end; none if it speaks RFC 2543.
    pub remote_tag: Option<Text>,
}

impl DialogId {
    /// The dialog that a request received is in; none if its To has no tag.
    #[must_use]
    pub fn of_request(request: &Request) -> Option<Self> {
        let headers = &request.headers;
        Some(Self {
            call_id: headers.call_id.detached(),
            local_tag: headers.to.tag()?.detached(),
            remote_tag: headers.from.tag().map(Text::detached),
        })
    }

    /// The dialog that a response received is in; none if From has no tag.
    #[must_use]
    pub fn of_response(response: &Response) -> Option<Self> {
        let headers = &response.headers;
        Some(Self {
            call_id: headers.call_id.detached(),
            local_tag: headers.from.tag()?.detached(),
            remote_tag: headers.to.tag().map(Text::detached),
        })
    }
}

/// How far a dialog has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogState {
    /// A provisional response with a tag was sent or received.
    Early,
    /// A 2xx was.
    Confirmed,
    /// BYE was, or a final response that is none.
    Terminated,
}

/// Why a message makes no dialog, or does not belong into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DialogError {
    /// No tag where one is due.
    #[error("tag missing")]
    Tag,
    /// Not exactly one Contact with a SIP URI. RFC 3261 §8.1.1.8.
    #[error("no single SIP contact")]
    Contact,
    /// A response that makes no dialog: 100, or no 1xx or 2xx.
    #[error("response makes no dialog")]
    Status,
    /// CSeq is not higher than that of the last request: 500. RFC 3261 §12.2.2.
    #[error("CSeq out of order")]
    Order,
    /// Call-ID or tags of another dialog: 481.
    #[error("another dialog")]
    Other,
    /// The dialog is over: 481.
    #[error("dialog is over")]
    Over,
}

impl DialogError {
    /// The status code that answers a request with this fault.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Tag | Self::Contact | Self::Status => StatusCode::BAD_REQUEST,
            Self::Order => StatusCode::SERVER_INTERNAL_ERROR,
            Self::Other | Self::Over => StatusCode::CALL_DOES_NOT_EXIST,
        }
    }
}

/// One end of a dialog. Everything in it is in buffers of its own: it outlives the messages that made it.
#[derive(Clone, Debug)]
pub struct Dialog {
    id: DialogId,
    state: DialogState,
    local: NameAddr,
    remote: NameAddr,
    local_contact: SipUri,
    remote_target: SipUri,
    route_set: Vec<NameAddr>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
}

impl Dialog {
    /// The dialog that a response to our INVITE makes. RFC 3261 §12.1.2. Fails for a 100, a refusal, or where a response
    /// lacks tag or Contact.
    pub fn uac(invite: &Request, response: &Response) -> Result<Self, DialogError> {
        let state = match response.status.as_u16() {
            101..=199 => DialogState::Early,
            200..=299 => DialogState::Confirmed,
            _ => return Err(DialogError::Status),
        };
        let id = DialogId::of_response(response).ok_or(DialogError::Tag)?;
        let mut route_set: Vec<NameAddr> = response
            .headers
            .record_routes
            .iter()
            .map(NameAddr::detached)
            .collect();
        route_set.reverse();
        Ok(Self {
            id,
            state,
            local: invite.headers.from.detached(),
            remote: response.headers.to.detached(),
            local_contact: single_contact(&invite.headers)?,
            remote_target: single_contact(&response.headers)?,
            route_set,
            local_cseq: invite.headers.cseq.number,
            remote_cseq: None,
        })
    }

    /// The dialog that our response to an INVITE makes. RFC 3261 §12.1.1. Fails where the INVITE lacks a Contact.
    pub fn uas(
        invite: &Request,
        local_tag: &Text,
        local_contact: SipUri,
        state: DialogState,
    ) -> Result<Self, DialogError> {
        let headers = &invite.headers;
        let local = headers.to.detached().with_tag(local_tag.clone());
        let id = DialogId {
            call_id: headers.call_id.detached(),
            local_tag: local_tag.detached(),
            remote_tag: headers.from.tag().map(Text::detached),
        };
        Ok(Self {
            id,
            state,
            local,
            remote: headers.from.detached(),
            local_contact,
            remote_target: single_contact(headers)?,
            route_set: headers
                .record_routes
                .iter()
                .map(NameAddr::detached)
                .collect(),
            local_cseq: 0,
            remote_cseq: Some(headers.cseq.number),
        })
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &DialogId {
        &self.id
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> DialogState {
        self.state
    }

    /// Where the other end is reached, as it says itself.
    #[must_use]
    pub const fn remote_target(&self) -> &SipUri {
        &self.remote_target
    }

    /// CSeq of the last request that we numbered.
    #[must_use]
    pub const fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The URI to which a request is sent: the first route if there is one, else the remote target. RFC 3261 §8.1.2.
    #[must_use]
    pub fn next_hop(&self) -> &SipUri {
        self.route_set
            .first()
            .and_then(|route| route.uri.sip())
            .unwrap_or(&self.remote_target)
    }

    /// Our 2xx was sent.
    pub fn confirm(&mut self) {
        if self.state == DialogState::Early {
            self.state = DialogState::Confirmed;
        }
    }

    /// BYE was sent or received, or the INVITE refused.
    pub const fn terminate(&mut self) {
        self.state = DialogState::Terminated;
    }

    /// A request of our own with the next CSeq. RFC 3261 §12.2.1.1. ACK and CANCEL are made by [`Self::ack`] and
    /// [`crate::transaction::cancel_for`].
    pub fn request(&mut self, method: Method, via: Via) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1).min((1 << 31) - 1);
        self.build(method, self.local_cseq, via)
    }

    /// The ACK for a 2xx to the INVITE with that CSeq. RFC 3261 §13.2.2.4: a transaction of its own, so a branch of its own;
    /// sent again for each repetition of the 2xx.
    #[must_use]
    pub fn ack(&self, invite_cseq: u32, via: Via) -> Request {
        self.build(Method::Ack, invite_cseq, via)
    }

    fn build(&self, method: Method, number: u32, via: Via) -> Request {
        let cseq = Cseq {
            number,
            method: method.clone(),
        };
        let call_id = self.id.call_id.clone();
        let mut headers = Headers::new(
            vec![via],
            self.local.clone(),
            self.remote.clone(),
            call_id,
            cseq,
        );
        headers.push(Field::MaxForwards(70));
        if is_target_refresh(&method) {
            headers
                .contacts
                .push(NameAddr::new(self.local_contact.clone()));
        }
        let target = self.remote_target.clone();
        let first = self.route_set.first().and_then(|route| route.uri.sip());
        let uri = match first {
            // RFC 3261 §12.2.1.1: a strict router gets its own URI as Request-URI, the target comes last.
            Some(first) if !first.is_loose_router() => {
                headers
                    .routes
                    .extend(self.route_set.iter().skip(1).cloned());
                headers.routes.push(NameAddr::new(target));
                first.as_request_uri()
            }
            _ => {
                headers.routes.clone_from(&self.route_set);
                target
            }
        };
        Request::new(method, Uri::Sip(uri), headers)
    }

    /// A request of the other end. Fails if it is not of this dialog, the dialog is over, or its CSeq is not higher than
    /// all before. RFC 3261 §12.2.2. An ACK bears the CSeq of its INVITE and changes nothing.
    pub fn handle_request(&mut self, request: &Request) -> Result<(), DialogError> {
        if DialogId::of_request(request).as_ref() != Some(&self.id) {
            return Err(DialogError::Other);
        }
        if self.state == DialogState::Terminated {
            return Err(DialogError::Over);
        }
        let number = request.headers.cseq.number;
        if request.method == Method::Ack {
            let fits = self.remote_cseq.is_some_and(|last| number <= last);
            return if fits {
                Ok(())
            } else {
                Err(DialogError::Order)
            };
        }
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Err(DialogError::Order);
        }
        let target = match is_target_refresh(&request.method) {
            true if !request.headers.contacts.is_empty() => Some(single_contact(&request.headers)?),
            _ => None,
        };
        self.remote_cseq = Some(number);
        if let Some(target) = target {
            self.remote_target = target;
        }
        if request.method == Method::Bye {
            self.terminate();
        }
        Ok(())
    }

    /// A response to a request of ours in this dialog. RFC 3261 §12.2.1.2 and §13.2.2.4: a 2xx confirms and fixes the route
    /// set, a target refresh moves the target, 408 and 481 end the dialog.
    pub fn handle_response(&mut self, response: &Response) -> Result<(), DialogError> {
        let id = DialogId::of_response(response).ok_or(DialogError::Tag)?;
        if id != self.id {
            return Err(DialogError::Other);
        }
        let method = &response.headers.cseq.method;
        match response.status.as_u16() {
            101..=299 if is_target_refresh(method) => {
                if !response.headers.contacts.is_empty() {
                    self.remote_target = single_contact(&response.headers)?;
                }
                if self.state == DialogState::Early
                    && response.status.is_success()
                    && *method == Method::Invite
                {
                    self.route_set = response
                        .headers
                        .record_routes
                        .iter()
                        .rev()
                        .map(NameAddr::detached)
                        .collect();
                    self.state = DialogState::Confirmed;
                }
            }
            408 | 481 => self.terminate(),
            300.. if self.state == DialogState::Early && *method == Method::Invite => {
                self.terminate()
            }
            _ => {}
        }
        Ok(())
    }
}

/// Methods whose Contact moves the target: RFC 3261 §12.2, RFC 3311 §5.1, RFC 6665 §4.4.1.
const fn is_target_refresh(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
    )
}

fn single_contact(headers: &Headers) -> Result<SipUri, DialogError> {
    match headers.contacts.as_slice() {
        // What a Contact hides in header fields never gets into a request.
        [contact] => contact
            .uri
            .sip()
            .map(|uri| uri.as_request_uri().detached())
            .ok_or(DialogError::Contact),
        _ => Err(DialogError::Contact),
    }
}
