//! Parameters `;name=value` of header fields and quoted strings. RFC 3261 §7.3.1 and §25.1. Names compare without case.

use core::fmt;
use std::borrow::Cow;

use crate::error::Syntax;
use crate::reader::{Reader, is_token, steps};
use crate::text::Text;

/// Inside of a quoted string, escapes as they stood: what is passed on is octet for octet what came in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quoted(pub(crate) Text);

impl Quoted {
    /// Quotes plain text: `"` and `\` are escaped, control characters that no quoted string can carry become spaces.
    #[must_use]
    pub fn from_plain(plain: &str) -> Self {
        let mut raw = String::with_capacity(plain.len());
        for character in plain.chars() {
            match character {
                '"' | '\\' => raw.extend(['\\', character]),
                _ if character.is_ascii_control() && character != '\t' => raw.push(' '),
                _ => raw.push(character),
            }
        }
        Self(Text::from(raw))
    }

    /// What stands between the quotes, escapes untouched.
    #[must_use]
    pub const fn raw(&self) -> &Text {
        &self.0
    }

    /// The text meant, escapes resolved.
    #[must_use]
    pub fn to_plain(&self) -> Cow<'_, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(self.0.as_str());
        }
        let mut plain = String::with_capacity(self.0.len());
        let mut characters = self.0.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => plain.extend(characters.next()),
                _ => plain.push(character),
            }
        }
        Cow::Owned(plain)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A token or host.
    Plain(Text),
    /// A quoted string.
    Quoted(Quoted),
}

impl Value {
    /// The same in a buffer of its own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Plain(text) => Self::Plain(text.detached()),
            Self::Quoted(quoted) => Self::Quoted(Quoted(quoted.0.detached())),
        }
    }

    /// The text meant, quotes and escapes resolved.
    #[must_use]
    pub fn to_plain(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text.as_str()),
            Self::Quoted(quoted) => quoted.to_plain(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Quoted(quoted) => quoted.fmt(f),
        }
    }
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Param {
    /// Its name as it stood.
    pub name: Text,
    /// Its value, if it has one.
    pub value: Option<Value>,
}

/// Parameters in their order; no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Params(Vec<Param>);

impl Params {
    /// No parameters.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether the parameter is there, with or without value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The parameter of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Param> {
        self.0
            .iter()
            .find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// Its value as it stood, if it is there and has one that is not quoted.
    #[must_use]
    pub fn plain(&self, name: &str) -> Option<&Text> {
        match self.find(name)?.value.as_ref()? {
            Value::Plain(text) => Some(text),
            Value::Quoted(_) => None,
        }
    }

    /// Its value with quotes and escapes resolved, if it is there and has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.find(name)?.value.as_ref().map(Value::to_plain)
    }

    /// Sets a parameter, in place if it is there already, else at the end.
    pub fn set(&mut self, name: impl Into<Text>, value: Option<Value>) {
        let name = name.into();
        match self
            .0
            .iter_mut()
            .find(|param| param.name.eq_ignore_ascii_case(&name))
        {
            Some(param) => param.value = value,
            None => self.0.push(Param { name, value }),
        }
    }

    /// Sets a parameter to a token or host.
    pub fn set_plain(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        self.set(name, Some(Value::Plain(value.into())));
    }

    /// Sets a parameter without value.
    pub fn set_flag(&mut self, name: impl Into<Text>) {
        self.set(name, None);
    }

    /// The same parameters with this token parameter, for building in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.set_plain(name, value);
        self
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) -> Option<Param> {
        let at = self
            .0
            .iter()
            .position(|param| param.name.eq_ignore_ascii_case(name))?;
        Some(self.0.remove(at))
    }

    /// All parameters in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same in buffers of their own, see [`Text::detached`].
    #[must_use]
    pub fn detached(&self) -> Self {
        let own = |param: &Param| Param {
            name: param.name.detached(),
            value: param.value.as_ref().map(Value::detached),
        };
        Self(self.0.iter().map(own).collect())
    }

    /// Takes `;name[=value]` as often as it comes, at most `limit` times. RFC 3261 §7.3.1: no name twice.
    pub(crate) fn parse(reader: &mut Reader<'_>, limit: usize) -> Result<Self, Syntax> {
        let mut params = Self::new();
        while reader.separator(b';') {
            params.add(Param::parse(reader)?, limit)?;
        }
        Ok(params)
    }

    pub(crate) fn add(&mut self, param: Param, limit: usize) -> Result<(), Syntax> {
        if self.0.len() >= limit {
            return Err(Syntax::TooManyParameters);
        }
        steps::count(self.0.len());
        if self.has(&param.name) {
            return Err(Syntax::DuplicateParameter);
        }
        self.0.push(param);
        Ok(())
    }
}

impl Param {
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        let name = reader.token().map_err(|_| Syntax::Parameter)?;
        let name = reader.text(name);
        let value = if reader.separator(b'=') {
            Some(Value::parse(reader)?)
        } else {
            None
        };
        Ok(Self { name, value })
    }
}

impl Value {
    /// gen-value = token / host / quoted-string. An IPv6 address may come without brackets: RFC 3261 §25.1
    /// `via-received` writes it so.
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        match reader.peek() {
            Some(b'"') => {
                let inside = reader.quoted()?;
                Ok(Self::Quoted(Quoted(reader.text(inside))))
            }
            Some(b'[') => {
                let start = reader.rest();
                let inside = reader.take_while(is_host_literal);
                reader.expect(b']', Syntax::Parameter)?;
                let whole = start.get(..inside.len() + 1).unwrap_or_default();
                Ok(Self::Plain(reader.text(whole)))
            }
            _ => match reader.take_while(|octet| is_token(octet) || octet == b':') {
                "" => Err(Syntax::Parameter),
                value => Ok(Self::Plain(reader.text(value))),
            },
        }
    }
}

const fn is_host_literal(octet: u8) -> bool {
    octet.is_ascii_hexdigit() || matches!(octet, b'[' | b':' | b'.')
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for param in &self.0 {
            write!(f, ";{}", param.name)?;
            if let Some(value) = &param.value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Params, Syntax> {
        let mut reader = Reader::copying(text);
        let params = Params::parse(&mut reader, 8)?;
        reader.finish()?;
        Ok(params)
    }

    #[test]
    fn white_space_around_separators_is_not_part_of_a_value() {
        let params = parse(" ; q = 0.33 ;  secondparam;x=\"a;b\\\"\"").unwrap();
        assert_eq!(params.plain("Q").unwrap(), "0.33");
        assert!(params.has("secondparam"));
        assert_eq!(params.value("x").unwrap(), "a;b\"");
        assert_eq!(params.to_string(), ";q=0.33;secondparam;x=\"a;b\\\"\"");
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert_eq!(parse(";tag=1;TAG=2"), Err(Syntax::DuplicateParameter));
    }

    #[test]
    fn empty_parameters_are_refused() {
        assert_eq!(parse(";;a"), Err(Syntax::Parameter));
        assert_eq!(parse(";a=;b"), Err(Syntax::Parameter));
    }

    #[test]
    fn an_ipv6_address_is_taken_with_and_without_brackets() {
        assert_eq!(
            parse(";received=[2001:db8::1]")
                .unwrap()
                .plain("received")
                .unwrap(),
            "[2001:db8::1]"
        );
        assert_eq!(
            parse(";received=2001:db8::1")
                .unwrap()
                .plain("received")
                .unwrap(),
            "2001:db8::1"
        );
    }
}
