//! Why a message or a part of one is refused: one variant per offence, and the status code that answers it.

use thiserror::Error;

use crate::headers::HeaderName;
use crate::status::StatusCode;

/// What is wrong with a value, independent of the header field that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Syntax {
    /// A token was due.
    #[error("token expected")]
    Token,
    /// A quoted string does not end, or holds what it must not.
    #[error("bad quoted string")]
    QuotedString,
    /// Parentheses do not match.
    #[error("bad comment")]
    Comment,
    /// No host name, IPv4 address or bracketed IPv6 address.
    #[error("bad host")]
    Host,
    /// No number from 1 to 65535.
    #[error("bad port")]
    Port,
    /// The scheme of a URI.
    #[error("bad URI scheme")]
    UriScheme,
    /// User or password of a URI.
    #[error("bad user in URI")]
    UriUser,
    /// Parameters of a URI.
    #[error("bad URI parameter")]
    UriParameter,
    /// Header fields in a URI.
    #[error("bad header in URI")]
    UriHeader,
    /// A `%` that two hexadecimal digits do not follow, or a character that must be escaped.
    #[error("bad escape or character in URI")]
    UriCharacter,
    /// Longer than the limit.
    #[error("URI too long")]
    UriTooLong,
    /// A tel URI without digits, or a local number without context.
    #[error("bad telephone number")]
    TelephoneNumber,
    /// A URI with a comma, question mark or semicolon outside angle brackets, or brackets that do not match.
    #[error("bad angle brackets")]
    AngleBrackets,
    /// A display name that is neither tokens nor a quoted string.
    #[error("bad display name")]
    DisplayName,
    /// A parameter without name, or with a bad value.
    #[error("bad parameter")]
    Parameter,
    /// The same parameter twice.
    #[error("parameter given twice")]
    DuplicateParameter,
    /// More parameters than the limit.
    #[error("too many parameters")]
    TooManyParameters,
    /// More values than the limit.
    #[error("too many values")]
    TooManyValues,
    /// No number where one is due.
    #[error("bad number")]
    Number,
    /// A number beyond its range.
    #[error("number out of range")]
    Range,
    /// An empty value, or a separator too many.
    #[error("empty value or stray separator")]
    Separator,
    /// Something after the end of the value.
    #[error("octets after the value")]
    Trailing,
    /// SIP/2.0 and a transport were due.
    #[error("bad sent-protocol")]
    SentProtocol,
    /// The bare magic cookie.
    #[error("empty branch")]
    Branch,
    /// No RFC 1123 date in GMT.
    #[error("bad date")]
    Date,
    /// `type/subtype` was due.
    #[error("bad media type")]
    MediaType,
    /// No scheme with parameters.
    #[error("bad challenge or credentials")]
    Authentication,
    /// A control character, or one that may not stand there.
    #[error("character that may not stand there")]
    Character,
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// No octets, or keep-alive only.
    #[error("empty message")]
    Empty,
    /// More octets than [`crate::limits::Limits::message`].
    #[error("message too large")]
    MessageTooLarge,
    /// More octets before the empty line than [`crate::limits::Limits::head`].
    #[error("header fields too large")]
    HeadTooLarge,
    /// More body than [`crate::limits::Limits::body`].
    #[error("body too large")]
    BodyTooLarge,
    /// No empty line.
    #[error("no empty line after the header fields")]
    HeadNotEnded,
    /// Start line or header fields are not UTF-8.
    #[error("header fields are not UTF-8")]
    NotUtf8,
    /// A carriage return without line feed, or the reverse.
    #[error("bare line break")]
    BareLineBreak,
    /// The first octets are no SIP start line.
    #[error("no SIP start line")]
    StartLine,
    /// White space beyond the two single spaces of a request line.
    #[error("white space in the request line")]
    StartLineSpace,
    /// The method is no token.
    #[error("bad method")]
    Method,
    /// The Request-URI is malformed.
    #[error("bad Request-URI: {0}")]
    RequestUri(Syntax),
    /// The Request-URI stands in angle brackets.
    #[error("Request-URI in angle brackets")]
    RequestUriBrackets,
    /// The Request-URI carries header fields, RFC 3261 §19.1.1.
    #[error("header fields in the Request-URI")]
    RequestUriHeaders,
    /// The Request-URI is longer than the limit.
    #[error("Request-URI too long")]
    RequestUriTooLong,
    /// A version of SIP that is not 2.0.
    #[error("SIP version is not 2.0")]
    Version,
    /// The status code is not three digits from 100 to 699.
    #[error("bad status code")]
    StatusCode,
    /// The reason phrase holds control characters.
    #[error("bad reason phrase")]
    ReasonPhrase,
    /// More header field lines than the limit.
    #[error("too many header fields")]
    TooManyHeaderFields,
    /// A header field longer than the limit.
    #[error("header field too long")]
    HeaderFieldTooLong,
    /// A line that has no `name:`.
    #[error("bad header field name")]
    HeaderName,
    /// A header field whose value breaks its grammar.
    #[error("{0}: {1}")]
    Header(HeaderName, Syntax),
    /// A header field that may stand once only.
    #[error("{0} given twice")]
    Duplicate(HeaderName),
    /// A header field that every message must have.
    #[error("{0} missing")]
    Missing(HeaderName),
    /// CSeq names another method than the request line.
    #[error("CSeq method is not the request's")]
    CseqMethod,
    /// Content-Length claims more octets than the datagram has.
    #[error("Content-Length beyond the end of the datagram")]
    ContentLengthBeyondEnd,
    /// No Content-Length on a stream.
    #[error("Content-Length missing on a stream")]
    ContentLengthMissing,
    /// A body without Content-Type.
    #[error("body without Content-Type")]
    BodyWithoutType,
}

impl ParseError {
    /// The status code that answers a request with this offence: 400 unless RFC 3261 names another.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::MessageTooLarge
            | Self::HeadTooLarge
            | Self::HeaderFieldTooLong
            | Self::TooManyHeaderFields => StatusCode::MESSAGE_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            Self::RequestUriTooLong => StatusCode::REQUEST_URI_TOO_LONG,
            Self::Version => StatusCode::VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether a stream that carried the message has lost its framing, so that it must be closed.
    #[must_use]
    pub const fn framing_lost(&self) -> bool {
        matches!(
            self,
            Self::MessageTooLarge
                | Self::HeadTooLarge
                | Self::BodyTooLarge
                | Self::HeadNotEnded
                | Self::NotUtf8
                | Self::BareLineBreak
                | Self::StartLine
                | Self::ContentLengthMissing
                | Self::Header(HeaderName::ContentLength, _)
                | Self::Duplicate(HeaderName::ContentLength)
        )
    }

    /// A short name of the offence for counters and log lines: stable, no message content.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::MessageTooLarge => "message-too-large",
            Self::HeadTooLarge => "head-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::HeadNotEnded => "head-not-ended",
            Self::NotUtf8 => "not-utf8",
            Self::BareLineBreak => "bare-line-break",
            Self::StartLine => "start-line",
            Self::StartLineSpace => "start-line-space",
            Self::Method => "method",
            Self::RequestUri(_) => "request-uri",
            Self::RequestUriBrackets => "request-uri-brackets",
            Self::RequestUriHeaders => "request-uri-headers",
            Self::RequestUriTooLong => "request-uri-too-long",
            Self::Version => "version",
            Self::StatusCode => "status-code",
            Self::ReasonPhrase => "reason-phrase",
            Self::TooManyHeaderFields => "too-many-header-fields",
            Self::HeaderFieldTooLong => "header-field-too-long",
            Self::HeaderName => "header-name",
            Self::Header(..) => "header-syntax",
            Self::Duplicate(_) => "header-twice",
            Self::Missing(_) => "header-missing",
            Self::CseqMethod => "cseq-method",
            Self::ContentLengthBeyondEnd => "content-length-beyond-end",
            Self::ContentLengthMissing => "content-length-missing",
            Self::BodyWithoutType => "body-without-type",
        }
    }
}
