//! Event and Subscription-State: what a subscription is about and how it stands. RFC 6665 §8.2.1, §8.4. Used by whoever
//! passes SUBSCRIBE and NOTIFY, and by the subscription that a REFER makes.

use core::fmt;

use crate::error::Syntax;
use crate::params::Params;
use crate::reader::Reader;
use crate::text::Text;

/// Event: a package, maybe with templates (`presence.winfo`), and parameters. RFC 6665 §8.2.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Package with its templates, as it stood; compared with regard to case.
    pub package: Text,
    /// Parameters, `id` among them.
    pub params: Params,
}

impl Event {
    /// The package without parameters.
    #[must_use]
    pub fn new(package: impl Into<Text>) -> Self {
        Self {
            package: package.into(),
            params: Params::new(),
        }
    }

    /// The same with an `id`.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Text>) -> Self {
        self.params.set_plain(Text::from_static("id"), id);
        self
    }

    /// The `id` that tells subscriptions of one dialog apart.
    #[must_use]
    pub fn id(&self) -> Option<&Text> {
        self.params.plain("id")
    }

    /// Whether both name the same subscription of a dialog: package and `id` only, octet for octet. RFC 6665 §8.2.1.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.package == other.package && self.id() == other.id()
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let package = reader.token()?;
        // event-type = event-package *( "." event-template ), each of them not empty.
        if package.split('.').any(str::is_empty) {
            return Err(Syntax::Token);
        }
        let event = Self {
            package: reader.text(package),
            params: Params::parse(reader, limit)?,
        };
        if event.params.has("id") && event.id().is_none() {
            return Err(Syntax::Parameter);
        }
        Ok(event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.package, self.params)
    }
}

/// State of a subscription. RFC 6665 §4.1.3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Substate {
    /// It is accepted.
    Active,
    /// Nobody has said yet whether it is accepted.
    Pending,
    /// It is over.
    Terminated,
    /// Any other token.
    Other(Text),
}

impl Substate {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Terminated => "terminated",
            Self::Other(text) => text,
        }
    }
}

/// Subscription-State. RFC 6665 §8.4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionState {
    /// The state.
    pub state: Substate,
    /// Parameters: `expires`, `reason`, `retry-after` and others.
    pub params: Params,
}

impl SubscriptionState {
    /// It stands and lasts so many seconds.
    #[must_use]
    pub fn active(seconds: u32) -> Self {
        Self {
            state: Substate::Active,
            params: Params::new().with(Text::from_static("expires"), seconds.to_string()),
        }
    }

    /// It waits and lasts so many seconds.
    #[must_use]
    pub fn pending(seconds: u32) -> Self {
        Self {
            state: Substate::Pending,
            ..Self::active(seconds)
        }
    }

    /// It is over for that reason: `noresource`, `timeout`, `deactivated` and others of RFC 6665 §4.1.3.
    #[must_use]
    pub fn terminated(reason: &'static str) -> Self {
        Self {
            state: Substate::Terminated,
            params: Params::new().with(Text::from_static("reason"), Text::from_static(reason)),
        }
    }

    /// Seconds that are left.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.params.plain("expires")?.parse().ok()
    }

    /// Why it is over.
    #[must_use]
    pub fn reason(&self) -> Option<&Text> {
        self.params.plain("reason")
    }

    /// Seconds after which a new one may be tried.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.params.plain("retry-after")?.parse().ok()
    }

    /// Whether it is over.
    #[must_use]
    pub const fn is_terminated(&self) -> bool {
        matches!(self.state, Substate::Terminated)
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let token = reader.token()?;
        let state = match token {
            token if token.eq_ignore_ascii_case("active") => Substate::Active,
            token if token.eq_ignore_ascii_case("pending") => Substate::Pending,
            token if token.eq_ignore_ascii_case("terminated") => Substate::Terminated,
            token => Substate::Other(reader.text(token)),
        };
        let value = Self {
            state,
            params: Params::parse(reader, limit)?,
        };
        let bad = |name: &str, number: Option<u32>| value.params.has(name) && number.is_none();
        if bad("expires", value.expires()) || bad("retry-after", value.retry_after()) {
            return Err(Syntax::Range);
        }
        if value.params.has("reason") && value.reason().is_none() {
            return Err(Syntax::Parameter);
        }
        Ok(value)
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.state.as_str(), self.params)
    }
}
