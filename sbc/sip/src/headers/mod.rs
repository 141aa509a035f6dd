//! Header fields of a message: those that match and route it as fields of their own, all others as [`Field`]s. RFC 3261
//! §20. One per message; the parser fills it, the core builds new ones, the writer prints it.

mod address;
mod date;
mod dialog_reference;
mod event;
mod field;
mod identity;
mod name;
mod session;
#[cfg(test)]
mod tests;
mod values;
mod via;

pub use address::{DisplayName, NameAddr};
pub use date::Date;
pub use dialog_reference::{Replaces, TargetDialog};
pub use event::{Event, SubscriptionState, Substate};
pub use field::Field;
pub(crate) use field::Join;
pub use identity::Identity;
pub use name::{ExtensionName, HeaderName};
pub use session::{ResourcePriority, SessionId, UserToUser};
pub use values::{
    CallId, Cseq, Delta, MediaType, Rack, ReferSub, Refresher, RetryAfter, TokenValue, Warning,
};
pub use via::{MAGIC_COOKIE, Transport, Via};

use crate::digest::Auth;
use crate::method::Method;
use crate::text::Text;

/// All header fields of a message but Content-Length, which follows from the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Via, the top one first; a parsed message has at least one.
    pub vias: Vec<Via>,
    /// From.
    pub from: NameAddr,
    /// To.
    pub to: NameAddr,
    /// Call-ID.
    pub call_id: CallId,
    /// CSeq.
    pub cseq: Cseq,
    /// Contact.
    pub contacts: Vec<NameAddr>,
    /// Whether Contact is `*`; then there are no others. RFC 3261 §10.2.2.
    pub contact_star: bool,
    /// Route, the first one first.
    pub routes: Vec<NameAddr>,
    /// Record-Route, as they stand.
    pub record_routes: Vec<NameAddr>,
    /// All others in their order; lists of one name are one field.
    pub fields: Vec<Field>,
}

impl Headers {
    /// The five that every message has, and nothing else.
    #[must_use]
    pub const fn new(
        vias: Vec<Via>,
        from: NameAddr,
        to: NameAddr,
        call_id: CallId,
        cseq: Cseq,
    ) -> Self {
        Self {
            vias,
            from,
            to,
            call_id,
            cseq,
            contacts: Vec::new(),
            contact_star: false,
            routes: Vec::new(),
            record_routes: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// The first field of that name among [`Self::fields`].
    #[must_use]
    pub fn find(&self, name: &HeaderName) -> Option<&Field> {
        self.fields.iter().find(|field| field.has_name(name))
    }

    /// Whether a field of that name is among [`Self::fields`].
    #[must_use]
    pub fn has(&self, name: &HeaderName) -> bool {
        self.find(name).is_some()
    }

    /// Adds a field after all others.
    pub fn push(&mut self, field: Field) {
        self.fields.push(field);
    }

    /// Puts a field in the place of all of its name, or after all others.
    pub fn set(&mut self, field: Field) {
        self.remove(&field.name());
        self.fields.push(field);
    }

    /// Takes all fields of that name out.
    pub fn remove(&mut self, name: &HeaderName) {
        self.fields.retain(|field| !field.has_name(name));
    }

    /// The text of a field that is text to us.
    #[must_use]
    pub fn text(&self, name: &HeaderName) -> Option<&Text> {
        self.fields.iter().find_map(|field| match field {
            Field::Text(have, text) if have == name => Some(text),
            _ => None,
        })
    }
}

macro_rules! single {
    ($($accessor:ident $variant:ident $type:ty,)*) => {
        impl Headers {
            $(
                #[doc = concat!("The value of ", stringify!($variant), ", if it is there.")]
                #[must_use]
                pub fn $accessor(&self) -> Option<&$type> {
                    self.fields.iter().find_map(|field| match field {
                        Field::$variant(value) => {
                            let value: &$type = value;
                            Some(value)
                        }
                        _ => None,
                    })
                }
            )*
        }
    };
}

single! {
    accept Accept [MediaType],
    accept_resource_priority AcceptResourcePriority [ResourcePriority],
    allow Allow [Method],
    allow_events AllowEvents [Text],
    content_disposition ContentDisposition TokenValue,
    content_encoding ContentEncoding [Text],
    content_type ContentType MediaType,
    date Date Date,
    diversion Diversion [NameAddr],
    event Event Event,
    history_info HistoryInfo [NameAddr],
    identity Identity [Identity],
    info_package InfoPackage TokenValue,
    join Join Replaces,
    min_se MinSe Delta,
    p_asserted_identity PAssertedIdentity [NameAddr],
    p_associated_uri PAssociatedUri [NameAddr],
    p_called_party_id PCalledPartyId NameAddr,
    p_preferred_identity PPreferredIdentity [NameAddr],
    path Path [NameAddr],
    privacy Privacy [Text],
    proxy_require ProxyRequire [Text],
    rack Rack Rack,
    reason Reason [TokenValue],
    recv_info RecvInfo [TokenValue],
    refer_sub ReferSub ReferSub,
    refer_to ReferTo NameAddr,
    referred_by ReferredBy NameAddr,
    replaces Replaces Replaces,
    reply_to ReplyTo NameAddr,
    require Require [Text],
    resource_priority ResourcePriority [ResourcePriority],
    retry_after RetryAfter RetryAfter,
    security_client SecurityClient [TokenValue],
    security_server SecurityServer [TokenValue],
    security_verify SecurityVerify [TokenValue],
    service_route ServiceRoute [NameAddr],
    session_expires SessionExpires Delta,
    session_id SessionId SessionId,
    sip_etag SipEtag Text,
    sip_if_match SipIfMatch Text,
    subscription_state SubscriptionState SubscriptionState,
    supported Supported [Text],
    target_dialog TargetDialog TargetDialog,
    unsupported Unsupported [Text],
    user_to_user UserToUser [UserToUser],
    warning Warning [Warning],
}

macro_rules! number {
    ($($accessor:ident $variant:ident $type:ty,)*) => {
        impl Headers {
            $(
                #[doc = concat!("The value of ", stringify!($variant), ", if it is there.")]
                #[must_use]
                pub fn $accessor(&self) -> Option<$type> {
                    self.fields.iter().find_map(|field| match field {
                        Field::$variant(value) => Some(*value),
                        _ => None,
                    })
                }
            )*
        }
    };
}

number! {
    expires Expires u32,
    flow_timer FlowTimer u32,
    max_breadth MaxBreadth u32,
    max_forwards MaxForwards u8,
    min_expires MinExpires u32,
    rseq Rseq u32,
}

impl Headers {
    /// Credentials for this hop and the next: each Authorization.
    pub fn authorization(&self) -> impl Iterator<Item = &Auth> {
        self.fields.iter().filter_map(|field| match field {
            Field::Authorization(auth) => Some(auth),
            _ => None,
        })
    }

    /// Each Proxy-Authorization.
    pub fn proxy_authorization(&self) -> impl Iterator<Item = &Auth> {
        self.fields.iter().filter_map(|field| match field {
            Field::ProxyAuthorization(auth) => Some(auth),
            _ => None,
        })
    }

    /// Each WWW-Authenticate and Proxy-Authenticate; `true` for the latter.
    pub fn challenges(&self) -> impl Iterator<Item = (bool, &Auth)> {
        self.fields.iter().filter_map(|field| match field {
            Field::WwwAuthenticate(auth) => Some((false, auth)),
            Field::ProxyAuthenticate(auth) => Some((true, auth)),
            _ => None,
        })
    }
}
