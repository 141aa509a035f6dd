//! All header fields that are not needed to match a message: one variant per field with structure, [`Field::Text`] for
//! those that are text to us. What a field holds is read once, when the message comes in, and written from its type.

use core::fmt;

use super::values::{
    Delta, MediaType, Rack, ReferSub, RetryAfter, TokenValue, Warning, method, rseq,
};
use super::{
    Date, Event, HeaderName, Identity, NameAddr, Replaces, ResourcePriority, SessionId,
    SubscriptionState, TargetDialog, UserToUser,
};
use crate::digest::{Auth, AuthParams};
use crate::error::Syntax;
use crate::limits::Limits;
use crate::method::Method;
use crate::reader::{Reader, is_printable};
use crate::text::Text;

/// One header field with its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the header field of its name")]
pub enum Field {
    Accept(Vec<MediaType>),
    Allow(Vec<Method>),
    AllowEvents(Vec<Text>),
    AuthenticationInfo(AuthParams),
    Authorization(Auth),
    ContentDisposition(TokenValue),
    ContentEncoding(Vec<Text>),
    ContentType(MediaType),
    Date(Date),
    Diversion(Vec<NameAddr>),
    Event(Event),
    Expires(u32),
    HistoryInfo(Vec<NameAddr>),
    MaxForwards(u8),
    MinExpires(u32),
    MinSe(Delta),
    PAssertedIdentity(Vec<NameAddr>),
    PPreferredIdentity(Vec<NameAddr>),
    Path(Vec<NameAddr>),
    /// Values are separated by semicolons. RFC 3323 §4.2.
    Privacy(Vec<Text>),
    ProxyAuthenticate(Auth),
    ProxyAuthenticationInfo(AuthParams),
    ProxyAuthorization(Auth),
    ProxyRequire(Vec<Text>),
    Rack(Rack),
    Reason(Vec<TokenValue>),
    ReferTo(NameAddr),
    ReferredBy(NameAddr),
    Replaces(Replaces),
    ReplyTo(NameAddr),
    Require(Vec<Text>),
    RetryAfter(RetryAfter),
    Rseq(u32),
    ServiceRoute(Vec<NameAddr>),
    SessionExpires(Delta),
    SubscriptionState(SubscriptionState),
    Supported(Vec<Text>),
    Unsupported(Vec<Text>),
    Warning(Vec<Warning>),
    WwwAuthenticate(Auth),
    AcceptResourcePriority(Vec<ResourcePriority>),
    FlowTimer(u32),
    Identity(Vec<Identity>),
    InfoPackage(TokenValue),
    Join(Replaces),
    MaxBreadth(u32),
    PAssociatedUri(Vec<NameAddr>),
    PCalledPartyId(NameAddr),
    RecvInfo(Vec<TokenValue>),
    ReferSub(ReferSub),
    ResourcePriority(Vec<ResourcePriority>),
    SecurityClient(Vec<TokenValue>),
    SecurityServer(Vec<TokenValue>),
    SecurityVerify(Vec<TokenValue>),
    SessionId(SessionId),
    SipEtag(Text),
    SipIfMatch(Text),
    TargetDialog(TargetDialog),
    UserToUser(Vec<UserToUser>),
    /// A field that is text to us: known ones such as Subject and User-Agent, and all unknown ones.
    Text(HeaderName, Text),
}

impl Field {
    /// A field of text, with control characters made spaces. For names with a variant of their own it is not to be used.
    #[must_use]
    pub fn text(name: HeaderName, value: &str) -> Self {
        let clean = value.chars().map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        });
        Self::Text(name, Text::from(clean.collect::<String>().trim()))
    }

    /// A field of text whose name has no variant of its own here, control characters made spaces. `None`: the name is no
    /// token, or has a meaning that is read from a type.
    #[must_use]
    pub fn extension(name: &str, value: &str) -> Option<Self> {
        let token = !name.is_empty() && name.bytes().all(crate::reader::is_token);
        let name = HeaderName::from_token(Text::from(name));
        (token && matches!(name, HeaderName::Extension(_))).then(|| Self::text(name, value))
    }

    /// Whether that is its name.
    #[must_use]
    pub fn has_name(&self, name: &HeaderName) -> bool {
        match self {
            Self::Text(have, _) => have == name,
            _ => self.name() == *name,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> HeaderName {
        match self {
            Self::Accept(_) => HeaderName::Accept,
            Self::Allow(_) => HeaderName::Allow,
            Self::AllowEvents(_) => HeaderName::AllowEvents,
            Self::AuthenticationInfo(_) => HeaderName::AuthenticationInfo,
            Self::Authorization(_) => HeaderName::Authorization,
            Self::ContentDisposition(_) => HeaderName::ContentDisposition,
            Self::ContentEncoding(_) => HeaderName::ContentEncoding,
            Self::ContentType(_) => HeaderName::ContentType,
            Self::Date(_) => HeaderName::Date,
            Self::Diversion(_) => HeaderName::Diversion,
            Self::Event(_) => HeaderName::Event,
            Self::Expires(_) => HeaderName::Expires,
            Self::HistoryInfo(_) => HeaderName::HistoryInfo,
            Self::MaxForwards(_) => HeaderName::MaxForwards,
            Self::MinExpires(_) => HeaderName::MinExpires,
            Self::MinSe(_) => HeaderName::MinSe,
            Self::PAssertedIdentity(_) => HeaderName::PAssertedIdentity,
            Self::PPreferredIdentity(_) => HeaderName::PPreferredIdentity,
            Self::Path(_) => HeaderName::Path,
            Self::Privacy(_) => HeaderName::Privacy,
            Self::ProxyAuthenticate(_) => HeaderName::ProxyAuthenticate,
            Self::ProxyAuthenticationInfo(_) => HeaderName::ProxyAuthenticationInfo,
            Self::ProxyAuthorization(_) => HeaderName::ProxyAuthorization,
            Self::ProxyRequire(_) => HeaderName::ProxyRequire,
            Self::Rack(_) => HeaderName::Rack,
            Self::Reason(_) => HeaderName::Reason,
            Self::ReferTo(_) => HeaderName::ReferTo,
            Self::ReferredBy(_) => HeaderName::ReferredBy,
            Self::Replaces(_) => HeaderName::Replaces,
            Self::ReplyTo(_) => HeaderName::ReplyTo,
            Self::Require(_) => HeaderName::Require,
            Self::RetryAfter(_) => HeaderName::RetryAfter,
            Self::Rseq(_) => HeaderName::Rseq,
            Self::ServiceRoute(_) => HeaderName::ServiceRoute,
            Self::SessionExpires(_) => HeaderName::SessionExpires,
            Self::SubscriptionState(_) => HeaderName::SubscriptionState,
            Self::Supported(_) => HeaderName::Supported,
            Self::Unsupported(_) => HeaderName::Unsupported,
            Self::Warning(_) => HeaderName::Warning,
            Self::WwwAuthenticate(_) => HeaderName::WwwAuthenticate,
            Self::AcceptResourcePriority(_) => HeaderName::AcceptResourcePriority,
            Self::FlowTimer(_) => HeaderName::FlowTimer,
            Self::Identity(_) => HeaderName::Identity,
            Self::InfoPackage(_) => HeaderName::InfoPackage,
            Self::Join(_) => HeaderName::Join,
            Self::MaxBreadth(_) => HeaderName::MaxBreadth,
            Self::PAssociatedUri(_) => HeaderName::PAssociatedUri,
            Self::PCalledPartyId(_) => HeaderName::PCalledPartyId,
            Self::RecvInfo(_) => HeaderName::RecvInfo,
            Self::ReferSub(_) => HeaderName::ReferSub,
            Self::ResourcePriority(_) => HeaderName::ResourcePriority,
            Self::SecurityClient(_) => HeaderName::SecurityClient,
            Self::SecurityServer(_) => HeaderName::SecurityServer,
            Self::SecurityVerify(_) => HeaderName::SecurityVerify,
            Self::SessionId(_) => HeaderName::SessionId,
            Self::SipEtag(_) => HeaderName::SipEtag,
            Self::SipIfMatch(_) => HeaderName::SipIfMatch,
            Self::TargetDialog(_) => HeaderName::TargetDialog,
            Self::UserToUser(_) => HeaderName::UserToUser,
            Self::Text(name, _) => name.clone(),
        }
    }

    /// Reads the value of a field that is none of those of [`super::Headers`] itself.
    pub(crate) fn parse(
        name: &HeaderName,
        reader: &mut Reader<'_>,
        limits: &Limits,
    ) -> Result<Self, Syntax> {
        let most = limits.parameters;
        Ok(match name {
            HeaderName::Accept => Self::Accept(list(reader, limits, true, |reader| {
                MediaType::parse(reader, most)
            })?),
            HeaderName::Allow => Self::Allow(list(reader, limits, true, method)?),
            HeaderName::AllowEvents => Self::AllowEvents(list(reader, limits, false, token)?),
            HeaderName::AuthenticationInfo => {
                Self::AuthenticationInfo(AuthParams::parse(reader, most)?)
            }
            HeaderName::Authorization => Self::Authorization(Auth::parse(reader, most)?),
            HeaderName::ContentDisposition => {
                Self::ContentDisposition(TokenValue::parse(reader, most)?)
            }
            HeaderName::ContentEncoding => {
                Self::ContentEncoding(list(reader, limits, false, token)?)
            }
            HeaderName::ContentType => Self::ContentType(MediaType::parse(reader, most)?),
            HeaderName::Date => Self::Date(Date::parse(reader)?),
            HeaderName::Diversion => {
                Self::Diversion(NameAddr::parse_list(reader, limits, limits.list)?)
            }
            HeaderName::Event => Self::Event(Event::parse(reader, most)?),
            HeaderName::Expires => Self::Expires(reader.number_u32()?),
            HeaderName::HistoryInfo => {
                Self::HistoryInfo(NameAddr::parse_list(reader, limits, limits.list)?)
            }
            HeaderName::MaxForwards => {
                Self::MaxForwards(u8::try_from(reader.number()?).map_err(|_| Syntax::Range)?)
            }
            HeaderName::MinExpires => Self::MinExpires(reader.number_u32()?),
            HeaderName::MinSe => Self::MinSe(Delta::parse(reader, most)?),
            HeaderName::PAssertedIdentity => {
                Self::PAssertedIdentity(NameAddr::parse_list(reader, limits, 2)?)
            }
            HeaderName::PPreferredIdentity => {
                Self::PPreferredIdentity(NameAddr::parse_list(reader, limits, 2)?)
            }
            HeaderName::Path => Self::Path(NameAddr::parse_list(reader, limits, limits.routes)?),
            HeaderName::Privacy => Self::Privacy(separated(reader, b';', limits, false, token)?),
            HeaderName::ProxyAuthenticate => Self::ProxyAuthenticate(Auth::parse(reader, most)?),
            HeaderName::ProxyAuthenticationInfo => {
                Self::ProxyAuthenticationInfo(AuthParams::parse(reader, most)?)
            }
            HeaderName::ProxyAuthorization => Self::ProxyAuthorization(Auth::parse(reader, most)?),
            HeaderName::ProxyRequire => Self::ProxyRequire(list(reader, limits, false, token)?),
            HeaderName::Rack => Self::Rack(Rack::parse(reader)?),
            HeaderName::Reason => Self::Reason(list(reader, limits, false, |reader| {
                TokenValue::parse_reason(reader, most)
            })?),
            HeaderName::ReferTo => Self::ReferTo(NameAddr::parse(reader, limits)?),
            HeaderName::ReferredBy => Self::ReferredBy(NameAddr::parse(reader, limits)?),
            HeaderName::Replaces => Self::Replaces(Replaces::parse(reader, most)?),
            HeaderName::ReplyTo => Self::ReplyTo(NameAddr::parse(reader, limits)?),
            HeaderName::Require => Self::Require(list(reader, limits, false, token)?),
            HeaderName::RetryAfter => Self::RetryAfter(RetryAfter::parse(reader, most)?),
            HeaderName::Rseq => Self::Rseq(rseq(reader)?),
            HeaderName::ServiceRoute => {
                Self::ServiceRoute(NameAddr::parse_list(reader, limits, limits.routes)?)
            }
            HeaderName::SessionExpires => Self::SessionExpires(Delta::parse(reader, most)?),
            HeaderName::SubscriptionState => {
                Self::SubscriptionState(SubscriptionState::parse(reader, most)?)
            }
            HeaderName::Supported => Self::Supported(list(reader, limits, true, token)?),
            HeaderName::Unsupported => Self::Unsupported(list(reader, limits, true, token)?),
            HeaderName::Warning => Self::Warning(list(reader, limits, false, Warning::parse)?),
            HeaderName::WwwAuthenticate => Self::WwwAuthenticate(Auth::parse(reader, most)?),
            HeaderName::AcceptResourcePriority => {
                Self::AcceptResourcePriority(list(reader, limits, true, ResourcePriority::parse)?)
            }
            HeaderName::FlowTimer => Self::FlowTimer(reader.number_u32()?),
            HeaderName::Identity => Self::Identity(list(reader, limits, false, |reader| {
                Identity::parse(reader, limits)
            })?),
            HeaderName::InfoPackage => Self::InfoPackage(TokenValue::parse(reader, most)?),
            HeaderName::Join => Self::Join(Replaces::parse(reader, most)?),
            HeaderName::MaxBreadth => Self::MaxBreadth(reader.number_u32()?),
            HeaderName::PAssociatedUri => {
                Self::PAssociatedUri(NameAddr::parse_list(reader, limits, limits.list)?)
            }
            HeaderName::PCalledPartyId => Self::PCalledPartyId(NameAddr::parse(reader, limits)?),
            HeaderName::RecvInfo => Self::RecvInfo(list(reader, limits, true, |reader| {
                TokenValue::parse(reader, most)
            })?),
            HeaderName::ReferSub => Self::ReferSub(ReferSub::parse(reader, most)?),
            HeaderName::ResourcePriority => {
                Self::ResourcePriority(list(reader, limits, false, ResourcePriority::parse)?)
            }
            HeaderName::SecurityClient => {
                Self::SecurityClient(list(reader, limits, false, |reader| {
                    TokenValue::parse_mechanism(reader, most)
                })?)
            }
            HeaderName::SecurityServer => {
                Self::SecurityServer(list(reader, limits, false, |reader| {
                    TokenValue::parse_mechanism(reader, most)
                })?)
            }
            HeaderName::SecurityVerify => {
                Self::SecurityVerify(list(reader, limits, false, |reader| {
                    TokenValue::parse_mechanism(reader, most)
                })?)
            }
            HeaderName::SessionId => Self::SessionId(SessionId::parse(reader, most)?),
            HeaderName::SipEtag => Self::SipEtag(token(reader)?),
            HeaderName::SipIfMatch => Self::SipIfMatch(token(reader)?),
            HeaderName::TargetDialog => Self::TargetDialog(TargetDialog::parse(reader, most)?),
            HeaderName::UserToUser => Self::UserToUser(list(reader, limits, false, |reader| {
                UserToUser::parse(reader, most)
            })?),
            _ => {
                let value = reader.take_while(is_printable).trim_end();
                Self::Text(name.clone(), reader.text(value))
            }
        })
    }

    /// Joins the values of a second line of the same field with those of the first. Fails with the field if its name
    /// may stand once only; fields that may be repeated and are no lists stay apart.
    pub(crate) fn join(&mut self, other: Self, limits: &Limits) -> Result<Option<Self>, Join> {
        fn extend<T>(one: &mut Vec<T>, two: Vec<T>, most: usize) -> Result<Option<Field>, Join> {
            if one.len() + two.len() > most {
                return Err(Join::TooMany);
            }
            one.extend(two);
            Ok(None)
        }
        match (self, other) {
            (Self::Accept(one), Self::Accept(two)) => extend(one, two, limits.list),
            (Self::Allow(one), Self::Allow(two)) => extend(one, two, limits.list),
            (Self::AllowEvents(one), Self::AllowEvents(two))
            | (Self::ContentEncoding(one), Self::ContentEncoding(two))
            | (Self::ProxyRequire(one), Self::ProxyRequire(two))
            | (Self::Require(one), Self::Require(two))
            | (Self::Supported(one), Self::Supported(two))
            | (Self::Unsupported(one), Self::Unsupported(two)) => extend(one, two, limits.list),
            (Self::Diversion(one), Self::Diversion(two))
            | (Self::HistoryInfo(one), Self::HistoryInfo(two)) => extend(one, two, limits.list),
            (Self::Path(one), Self::Path(two))
            | (Self::ServiceRoute(one), Self::ServiceRoute(two)) => extend(one, two, limits.routes),
            // RFC 3325 §9.1: at most two, one sip and one tel.
            (Self::PAssertedIdentity(one), Self::PAssertedIdentity(two))
            | (Self::PPreferredIdentity(one), Self::PPreferredIdentity(two)) => extend(one, two, 2),
            (Self::Reason(one), Self::Reason(two)) => extend(one, two, limits.list),
            (Self::Warning(one), Self::Warning(two)) => extend(one, two, limits.list),
            (Self::AcceptResourcePriority(one), Self::AcceptResourcePriority(two)) => {
                extend(one, two, limits.list)
            }
            (Self::Identity(one), Self::Identity(two)) => extend(one, two, limits.list),
            (Self::PAssociatedUri(one), Self::PAssociatedUri(two)) => extend(one, two, limits.list),
            (Self::RecvInfo(one), Self::RecvInfo(two)) => extend(one, two, limits.list),
            (Self::ResourcePriority(one), Self::ResourcePriority(two)) => {
                extend(one, two, limits.list)
            }
            (Self::SecurityClient(one), Self::SecurityClient(two)) => extend(one, two, limits.list),
            (Self::SecurityServer(one), Self::SecurityServer(two)) => extend(one, two, limits.list),
            (Self::SecurityVerify(one), Self::SecurityVerify(two)) => extend(one, two, limits.list),
            (Self::UserToUser(one), Self::UserToUser(two)) => extend(one, two, limits.list),
            (
                _,
                again @ (Self::Authorization(_)
                | Self::ProxyAuthorization(_)
                | Self::WwwAuthenticate(_)
                | Self::ProxyAuthenticate(_)),
            ) => Ok(Some(again)),
            (_, Self::Text(name, value)) if may_repeat(&name) => Ok(Some(Self::Text(name, value))),
            _ => Err(Join::Once),
        }
    }
}

/// Why two fields of one name do not go together.
pub(crate) enum Join {
    /// The name may stand once only.
    Once,
    /// More values than the limit.
    TooMany,
}

/// Text fields whose grammar has one value. RFC 3261 §7.3.1.
const fn may_repeat(name: &HeaderName) -> bool {
    !matches!(
        name,
        HeaderName::ContentLanguage
            | HeaderName::MimeVersion
            | HeaderName::Organization
            | HeaderName::Priority
            | HeaderName::Server
            | HeaderName::Subject
            | HeaderName::Timestamp
            | HeaderName::UserAgent
    )
}

pub(crate) fn token(reader: &mut Reader<'_>) -> Result<Text, Syntax> {
    let token = reader.token()?;
    Ok(reader.text(token))
}

/// Values between commas; no value at all only where the grammar lets it.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    limits: &Limits,
    may_be_empty: bool,
    parse: impl Fn(&mut Reader<'a>) -> Result<T, Syntax>,
) -> Result<Vec<T>, Syntax> {
    separated(reader, b',', limits, may_be_empty, parse)
}

fn separated<'a, T>(
    reader: &mut Reader<'a>,
    separator: u8,
    limits: &Limits,
    may_be_empty: bool,
    parse: impl Fn(&mut Reader<'a>) -> Result<T, Syntax>,
) -> Result<Vec<T>, Syntax> {
    let mut values = Vec::new();
    if may_be_empty && reader.is_empty() {
        return Ok(values);
    }
    loop {
        if values.len() >= limits.list {
            return Err(Syntax::TooManyValues);
        }
        values.push(parse(reader)?);
        if !reader.separator(separator) {
            return Ok(values);
        }
    }
}

/// The value as it is written after `Name: `.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(values) => joined(f, values, ", "),
            Self::Allow(values) => joined(f, values, ", "),
            Self::AllowEvents(values)
            | Self::ContentEncoding(values)
            | Self::ProxyRequire(values)
            | Self::Require(values)
            | Self::Supported(values)
            | Self::Unsupported(values) => joined(f, values, ", "),
            Self::Privacy(values) => joined(f, values, ";"),
            Self::AuthenticationInfo(params) | Self::ProxyAuthenticationInfo(params) => {
                params.fmt(f)
            }
            Self::Authorization(auth)
            | Self::ProxyAuthorization(auth)
            | Self::WwwAuthenticate(auth)
            | Self::ProxyAuthenticate(auth) => auth.fmt(f),
            Self::ContentDisposition(value) => value.fmt(f),
            Self::Event(value) => value.fmt(f),
            Self::SubscriptionState(value) => value.fmt(f),
            Self::ContentType(value) => value.fmt(f),
            Self::Date(date) => date.fmt(f),
            Self::Diversion(values)
            | Self::HistoryInfo(values)
            | Self::PAssertedIdentity(values)
            | Self::PPreferredIdentity(values)
            | Self::Path(values)
            | Self::ServiceRoute(values) => joined(f, values, ", "),
            Self::ReferTo(value) | Self::ReferredBy(value) | Self::ReplyTo(value) => value.fmt(f),
            Self::Expires(number) | Self::MinExpires(number) | Self::Rseq(number) => number.fmt(f),
            Self::MaxForwards(number) => number.fmt(f),
            Self::MinSe(delta) | Self::SessionExpires(delta) => delta.fmt(f),
            Self::Rack(rack) => rack.fmt(f),
            Self::Reason(values) => joined(f, values, ", "),
            Self::Replaces(value) => value.fmt(f),
            Self::RetryAfter(value) => value.fmt(f),
            Self::Warning(values) => joined(f, values, ", "),
            Self::AcceptResourcePriority(values) => joined(f, values, ", "),
            Self::FlowTimer(value) => value.fmt(f),
            Self::Identity(values) => joined(f, values, ", "),
            Self::InfoPackage(value) => value.fmt(f),
            Self::Join(value) => value.fmt(f),
            Self::MaxBreadth(value) => value.fmt(f),
            Self::PAssociatedUri(values) => joined(f, values, ", "),
            Self::PCalledPartyId(value) => value.fmt(f),
            Self::RecvInfo(values) => joined(f, values, ", "),
            Self::ReferSub(value) => value.fmt(f),
            Self::ResourcePriority(values) => joined(f, values, ", "),
            Self::SecurityClient(values) => joined(f, values, ", "),
            Self::SecurityServer(values) => joined(f, values, ", "),
            Self::SecurityVerify(values) => joined(f, values, ", "),
            Self::SessionId(value) => value.fmt(f),
            Self::SipEtag(value) => value.fmt(f),
            Self::SipIfMatch(value) => value.fmt(f),
            Self::TargetDialog(value) => value.fmt(f),
            Self::UserToUser(values) => joined(f, values, ", "),
            Self::Text(_, text) => text.fmt(f),
        }
    }
}

fn joined<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    values: &[T],
    separator: &str,
) -> fmt::Result {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        value.fmt(f)?;
    }
    Ok(())
}
