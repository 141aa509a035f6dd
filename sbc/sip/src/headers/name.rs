//! Names of header fields and their compact forms. RFC 3261 §7.3.3 and the registry of SIP header fields.

use core::cmp::Ordering;
use core::fmt;

use crate::text::Text;

macro_rules! names {
    ($($variant:ident $name:literal $($compact:literal)?,)*) => {
        /// Name of a header field; compared without regard to case.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum HeaderName {
            $(#[doc = $name] $variant,)*
            /// Any other name, as it stood in the message.
            Extension(ExtensionName),
        }

        impl HeaderName {
            /// The name as it is sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Extension(name) => &name.0,
                }
            }
        }

        /// Full names and compact forms, both in lower case, sorted when the table is used.
        const NAMES: &[(&str, HeaderName)] = &[
            $(($name, HeaderName::$variant), $(($compact, HeaderName::$variant),)?)*
        ];
    };
}

names! {
    Accept "Accept",
    AcceptContact "Accept-Contact" "a",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptResourcePriority "Accept-Resource-Priority",
    AlertInfo "Alert-Info",
    Allow "Allow",
    AllowEvents "Allow-Events" "u",
    AnswerMode "Answer-Mode",
    AuthenticationInfo "Authentication-Info",
    Authorization "Authorization",
    CallId "Call-ID" "i",
    CallInfo "Call-Info",
    Contact "Contact" "m",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" "e",
    ContentLanguage "Content-Language",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    Cseq "CSeq",
    Date "Date",
    Diversion "Diversion",
    ErrorInfo "Error-Info",
    Event "Event" "o",
    Expires "Expires",
    FeatureCaps "Feature-Caps",
    FlowTimer "Flow-Timer",
    From "From" "f",
    Geolocation "Geolocation",
    GeolocationRouting "Geolocation-Routing",
    HistoryInfo "History-Info",
    Identity "Identity" "y",
    IdentityInfo "Identity-Info" "n",
    InReplyTo "In-Reply-To",
    InfoPackage "Info-Package",
    Join "Join",
    MaxBreadth "Max-Breadth",
    MaxForwards "Max-Forwards",
    MimeVersion "MIME-Version",
    MinExpires "Min-Expires",
    MinSe "Min-SE",
    Organization "Organization",
    PAccessNetworkInfo "P-Access-Network-Info",
    PAssertedIdentity "P-Asserted-Identity",
    PAssociatedUri "P-Associated-URI",
    PCalledPartyId "P-Called-Party-ID",
    PChargingFunctionAddresses "P-Charging-Function-Addresses",
    PChargingVector "P-Charging-Vector",
    PEarlyMedia "P-Early-Media",
    PPreferredIdentity "P-Preferred-Identity",
    PVisitedNetworkId "P-Visited-Network-ID",
    Path "Path",
    Priority "Priority",
    Privacy "Privacy",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthenticationInfo "Proxy-Authentication-Info",
    ProxyAuthorization "Proxy-Authorization",
    ProxyRequire "Proxy-Require",
    Rack "RAck",
    Reason "Reason",
    RecordRoute "Record-Route",
    RecvInfo "Recv-Info",
    ReferSub "Refer-Sub",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    RejectContact "Reject-Contact" "j",
    Replaces "Replaces",
    ReplyTo "Reply-To",
    RequestDisposition "Request-Disposition" "d",
    Require "Require",
    ResourcePriority "Resource-Priority",
    RetryAfter "Retry-After",
    Route "Route",
    Rseq "RSeq",
    SecurityClient "Security-Client",
    SecurityServer "Security-Server",
    SecurityVerify "Security-Verify",
    Server "Server",
    ServiceRoute "Service-Route",
    SessionExpires "Session-Expires" "x",
    SessionId "Session-ID",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Subject "Subject" "s",
    SubscriptionState "Subscription-State",
    Supported "Supported" "k",
    TargetDialog "Target-Dialog",
    Timestamp "Timestamp",
    To "To" "t",
    Unsupported "Unsupported",
    UserAgent "User-Agent",
    UserToUser "User-to-User",
    Via "Via" "v",
    Warning "Warning",
    WwwAuthenticate "WWW-Authenticate",
}

/// A name that this crate does not know; equal to any other spelling of its case.
#[derive(Clone, Debug)]
pub struct ExtensionName(Text);

impl ExtensionName {
    fn lower(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|octet| octet.to_ascii_lowercase())
    }
}

impl PartialEq for ExtensionName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ExtensionName {}

impl PartialOrd for ExtensionName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ExtensionName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.lower().cmp(other.lower())
    }
}

impl core::hash::Hash for ExtensionName {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.lower().for_each(|octet| state.write_u8(octet));
    }
}

impl HeaderName {
    /// The name that a token spells, in full or compact form. The caller has checked that it is a token.
    pub(crate) fn from_token(token: Text) -> Self {
        Self::known(&token).unwrap_or(Self::Extension(ExtensionName(token)))
    }

    /// The known name that `token` spells, in full or compact form.
    #[must_use]
    pub fn known(token: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(token))
            .map(|(_, known)| known.clone())
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
