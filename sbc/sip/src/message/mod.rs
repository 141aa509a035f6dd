//! Requests and responses: RFC 3261 §7. Read by [`parse`], judged by [`crate::verdict`], written by `to_bytes`; what
//! leaves is always built from these types.

mod body;
mod fragment;
mod head;
#[cfg(test)]
mod limit_tests;
mod parse;
#[cfg(test)]
mod properties;
mod salvage;
#[cfg(test)]
mod tests;
mod write;

pub use body::{BodyPart, BodyRefusal, MultipartError, multipart, session_description, understood};
pub use fragment::{Fragment, FragmentStart};
pub use parse::{Framing, Rejected, parse};
pub use salvage::Salvage;

use crate::headers::{CallId, Cseq, Field, Headers, MediaType, NameAddr, Via};
use crate::method::Method;
use crate::status::StatusCode;
use crate::text::Text;
use crate::uri::Uri;

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Box<Request>),
    /// A response.
    Response(Box<Response>),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method of the request line.
    pub method: Method,
    /// Request-URI.
    pub uri: Uri,
    /// Header fields.
    pub headers: Headers,
    /// Body, octet for octet.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase, maybe empty.
    pub reason: Text,
    /// Header fields.
    pub headers: Headers,
    /// Body, octet for octet.
    pub body: Vec<u8>,
}

macro_rules! common {
    ($type:ty) => {
        impl $type {
            /// Via, the top one first.
            #[must_use]
            pub fn vias(&self) -> &[Via] {
                &self.headers.vias
            }

            /// The top Via; a parsed message has one.
            #[must_use]
            pub fn top_via(&self) -> Option<&Via> {
                self.headers.vias.first()
            }

            /// From.
            #[must_use]
            pub const fn from(&self) -> &NameAddr {
                &self.headers.from
            }

            /// To.
            #[must_use]
            pub const fn to(&self) -> &NameAddr {
                &self.headers.to
            }

            /// Call-ID.
            #[must_use]
            pub const fn call_id(&self) -> &CallId {
                &self.headers.call_id
            }

            /// CSeq.
            #[must_use]
            pub const fn cseq(&self) -> &Cseq {
                &self.headers.cseq
            }

            /// Contact without `*`.
            #[must_use]
            pub fn contacts(&self) -> &[NameAddr] {
                &self.headers.contacts
            }

            /// Record-Route, as they stand.
            #[must_use]
            pub fn record_routes(&self) -> &[NameAddr] {
                &self.headers.record_routes
            }

            /// The body with its type, if there is one.
            #[must_use]
            pub fn body_part(&self) -> Option<BodyPart<'_>> {
                let kind = self.headers.content_type()?;
                let identity = |encoding: &Text| encoding.eq_ignore_ascii_case("identity");
                let encodings = self.headers.content_encoding();
                (!self.body.is_empty()).then(|| BodyPart {
                    disposition: self.headers.content_disposition().cloned(),
                    encoded: !encodings.is_none_or(|list| list.iter().all(identity)),
                    ..BodyPart::new(kind.clone(), &self.body)
                })
            }

            /// Sets body and Content-Type.
            pub fn set_body(&mut self, kind: MediaType, bytes: Vec<u8>) {
                self.headers.set(Field::ContentType(kind));
                self.body = bytes;
            }
        }
    };
}

common!(Request);
common!(Response);

impl Request {
    /// A request without body.
    #[must_use]
    pub const fn new(method: Method, uri: Uri, headers: Headers) -> Self {
        Self {
            method,
            uri,
            headers,
            body: Vec::new(),
        }
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The Request-URI.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl Response {
    /// A response to `request`: Via, From, To, Call-ID and CSeq of the request, the usual reason phrase, no body. `to_tag`
    /// is added where the To has none and the status is not 100. RFC 3261 §8.2.6.2.
    #[must_use]
    pub fn to_request(request: &Request, status: StatusCode, to_tag: &str) -> Self {
        let mut to = request.headers.to.clone();
        if to.tag().is_none() && status != StatusCode::TRYING {
            to = to.with_tag(to_tag);
        }
        let headers = &request.headers;
        let headers = Headers::new(
            headers.vias.clone(),
            headers.from.clone(),
            to,
            headers.call_id.clone(),
            headers.cseq.clone(),
        );
        Self {
            status,
            reason: status.reason(),
            headers,
            body: Vec::new(),
        }
    }

    /// The status code.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}
