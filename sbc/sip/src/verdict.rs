//! What a strict border element does with octets from a peer that it talks to: RFC 3261 §8.2 and §16.3 in the order given
//! there, before any policy. Asked by the core once per message; to a stranger the core may stay silent whatever it says.

use crate::headers::MediaType;
use crate::limits::Limits;
use crate::message::{
    BodyRefusal, Framing, Message, Rejected, Request, Response, parse, understood,
};
use crate::method::{KNOWN, Method};
use crate::status::StatusCode;
use crate::text::Text;
use crate::uri::Uri;

/// What the element can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities<'a> {
    /// Methods that it serves.
    pub methods: &'a [Method],
    /// Option tags that it understands.
    pub extensions: &'a [&'a str],
    /// Body types that it understands, type and subtype.
    pub bodies: &'a [(&'a str, &'a str)],
}

/// The verdict on one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A request to be served.
    Request(Box<Request>),
    /// A response; it counts only if a client transaction waits for it.
    Response(Box<Response>),
    /// A request that is understood and refused.
    Refuse(Box<Request>, Refusal),
    /// A request that breaks the grammar and can be answered with this code.
    Malformed(StatusCode, Box<Rejected>),
    /// No answer: a response, or too little of a request.
    Ignore(Box<Rejected>),
}

/// Why an understood request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A method that RFCs name and that is not served: 405.
    MethodNotAllowed,
    /// A method that nobody knows: 501.
    MethodUnknown,
    /// Request-URI of a scheme that is not sip or sips: 416.
    Scheme,
    /// To of a REGISTER that names no account: 404.
    NoAccount,
    /// Require or Proxy-Require with these unknown option tags: 420, and they go into Unsupported.
    Extensions(Vec<Text>),
    /// A body of a type or encoding that is not understood: 415.
    BodyType,
    /// A multipart body that cannot be taken apart: 400.
    Body,
    /// Accept leaves nothing that could be sent: 406.
    NothingAcceptable,
    /// Max-Forwards is used up: 483.
    TooManyHops,
    /// Credentials of no known scheme: as if none had come, 401.
    UnknownCredentials,
}

impl Refusal {
    /// The status code that answers.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::MethodUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Scheme => StatusCode::UNSUPPORTED_URI_SCHEME,
            Self::NoAccount => StatusCode::NOT_FOUND,
            Self::Extensions(_) => StatusCode::BAD_EXTENSION,
            Self::BodyType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body => StatusCode::BAD_REQUEST,
            Self::NothingAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::TooManyHops => StatusCode::TOO_MANY_HOPS,
            Self::UnknownCredentials => StatusCode::UNAUTHORIZED,
        }
    }

    /// A short name for counters and log lines.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "method-not-allowed",
            Self::MethodUnknown => "method-unknown",
            Self::Scheme => "uri-scheme",
            Self::NoAccount => "no-account",
            Self::Extensions(_) => "extension",
            Self::BodyType => "body-type",
            Self::Body => "body",
            Self::NothingAcceptable => "nothing-acceptable",
            Self::TooManyHops => "too-many-hops",
            Self::UnknownCredentials => "unknown-credentials",
        }
    }
}

/// Reads and judges one message.
#[must_use]
pub fn verdict(
    bytes: &[u8],
    framing: Framing,
    limits: &Limits,
    abilities: &Abilities<'_>,
) -> Verdict {
    match parse(bytes, framing, limits) {
        Ok(Message::Response(response)) => Verdict::Response(response),
        Ok(Message::Request(request)) => match judge(&request, abilities) {
            Ok(()) => Verdict::Request(request),
            Err(refusal) => Verdict::Refuse(request, refusal),
        },
        Err(rejected) if rejected.salvage.is_some() => {
            Verdict::Malformed(rejected.error.status(), Box::new(rejected))
        }
        Err(rejected) => Verdict::Ignore(Box::new(rejected)),
    }
}

/// Judges a request that was read. Fails with the first reason to refuse it, in the order of RFC 3261 §8.2. ACK and CANCEL
/// are never refused here: the one is not answered, the other belongs to a request that was judged.
pub fn judge(request: &Request, abilities: &Abilities<'_>) -> Result<(), Refusal> {
    if matches!(request.method, Method::Ack | Method::Cancel) {
        return Ok(());
    }
    check_method(&request.method, abilities)?;
    // RFC 3261 §8.2.2.1: a number is called by its tel URI too (RFC 3966); nothing else of ours is one.
    let tel = matches!(request.uri, Uri::Tel(_)) && request.method == Method::Invite;
    if !matches!(request.uri, Uri::Sip(_)) && !tel {
        return Err(Refusal::Scheme);
    }
    let headers = &request.headers;
    // A To that is no SIP URI names no account. RFC 4475 §3.3.4.
    if request.method == Method::Register && !matches!(headers.to.uri, Uri::Sip(_)) {
        return Err(Refusal::NoAccount);
    }
    // RFC 7332: a back-to-back user agent counts hops as a proxy does. OPTIONS is for us alone; a BYE is let through,
    // because a call must end.
    if headers.max_forwards() == Some(0) && !matches!(request.method, Method::Options | Method::Bye)
    {
        return Err(Refusal::TooManyHops);
    }
    check_extensions(request, abilities)?;
    check_body(request, abilities)?;
    check_accept(request, abilities)?;
    // RFC 4475 §3.3.7.
    let unknown = headers.authorization().next().is_some()
        && !headers.authorization().any(|auth| auth.is_digest());
    if unknown && request.method == Method::Register {
        return Err(Refusal::UnknownCredentials);
    }
    Ok(())
}

fn check_method(method: &Method, abilities: &Abilities<'_>) -> Result<(), Refusal> {
    match method {
        method if abilities.methods.contains(method) => Ok(()),
        method if KNOWN.contains(method) => Err(Refusal::MethodNotAllowed),
        _ => Err(Refusal::MethodUnknown),
    }
}

fn check_extensions(request: &Request, abilities: &Abilities<'_>) -> Result<(), Refusal> {
    let headers = &request.headers;
    let tags = headers
        .require()
        .into_iter()
        .chain(headers.proxy_require())
        .flatten();
    let known = |tag: &Text| {
        abilities
            .extensions
            .iter()
            .any(|known| known.eq_ignore_ascii_case(tag))
    };
    let unknown: Vec<Text> = tags.filter(|tag| !known(tag)).cloned().collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Extensions(unknown))
    }
}

fn check_body(request: &Request, abilities: &Abilities<'_>) -> Result<(), Refusal> {
    // RFC 3204, RFC 5621 §7: a body that may be ignored is.
    let known = |kind: &MediaType| abilities.bodies.iter().any(|(one, two)| kind.is(one, two));
    let Some(body) = request.body_part() else {
        return Ok(());
    };
    match understood(&body, &known, &Limits::default()) {
        Ok(_) => Ok(()),
        Err(BodyRefusal::NotUnderstood) => Err(Refusal::BodyType),
        Err(BodyRefusal::Malformed(_)) => Err(Refusal::Body),
    }
}

/// An INVITE whose sender takes no session description cannot be answered with one. RFC 3261 §20.1.
fn check_accept(request: &Request, abilities: &Abilities<'_>) -> Result<(), Refusal> {
    let Some(ranges) = request
        .headers
        .accept()
        .filter(|_| request.method == Method::Invite)
    else {
        return Ok(());
    };
    let covered =
        |(kind, subtype): &(&str, &str)| ranges.iter().any(|range| range.covers(kind, subtype));
    if abilities.bodies.iter().any(covered) {
        Ok(())
    } else {
        Err(Refusal::NothingAcceptable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ABILITIES, request};

    fn refusal(text: &str) -> Option<Refusal> {
        judge(&request(text), &ABILITIES).err()
    }

    const HEAD: &str = "Via: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: <sip:a@a.example>;tag=1\r\n\
                        To: <sip:b@b.example>\r\nCall-ID: c\r\n";

    #[test]
    fn a_body_with_optional_handling_is_no_reason_to_refuse() {
        let line = "Content-Type: text/odd\r\nContent-Disposition: session;handling=";
        let text = |handling| {
            format!(
                "INVITE sip:b@b.example SIP/2.0\r\n{HEAD}CSeq: 1 INVITE\r\n{line}{handling}\r\n\r\nx"
            )
        };
        assert_eq!(refusal(&text("optional")), None);
        assert_eq!(refusal(&text("required")), Some(Refusal::BodyType));
    }

    #[test]
    fn only_what_would_be_passed_on_runs_out_of_hops() {
        let text = |method| {
            format!(
                "{method} sip:b@b.example SIP/2.0\r\n{HEAD}CSeq: 1 {method}\r\nMax-Forwards: 0\r\n\r\n"
            )
        };
        for (method, status) in [
            ("INVITE", Some(Refusal::TooManyHops)),
            ("OPTIONS", None),
            ("BYE", None),
            ("ACK", None),
        ] {
            assert_eq!(refusal(&text(method)), status, "{method}");
        }
    }

    #[test]
    fn an_encoded_body_is_refused() {
        let text = format!(
            "INVITE sip:b@b.example SIP/2.0\r\n{HEAD}CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\ne: gzip\r\n\r\nx"
        );
        assert_eq!(refusal(&text), Some(Refusal::BodyType));
    }
}
