//! Digest responses (RFC 7616 §3.4, RFC 8760) computed where the password is. Called by the keyholder for trunks on which
//! the product registers.

use md5::Md5;
use sha2::{Digest, Sha256};

/// What a response is computed over, besides the password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters<'a> {
    /// `username`.
    pub user: &'a str,
    /// `realm`.
    pub realm: &'a str,
    /// `nonce`.
    pub nonce: &'a str,
    /// `nc`, eight hex digits.
    pub count: &'a str,
    /// `cnonce`.
    pub client_nonce: &'a str,
    /// `qop`: `auth`, or empty for the form of RFC 2069.
    pub qop: &'a str,
    /// SIP method.
    pub method: &'a str,
    /// `uri`.
    pub uri: &'a str,
}

/// The `response` value in lower-case hex. `None` for an algorithm other than `MD5` and `SHA-256`, a `qop` other than `auth`,
/// or a parameter that could end its quoted string early.
#[must_use]
pub(super) fn response(
    algorithm: &str,
    parameters: &Parameters<'_>,
    password: &[u8],
) -> Option<String> {
    let p = parameters;
    let texts = [
        p.user,
        p.realm,
        p.nonce,
        p.count,
        p.client_nonce,
        p.method,
        p.uri,
    ];
    if texts
        .iter()
        .any(|text| text.contains(['"', '\r', '\n', '\0']))
    {
        return None;
    }
    let hash: fn(&[&[u8]]) -> String = match algorithm {
        "MD5" => hex_of::<Md5>,
        "SHA-256" => hex_of::<Sha256>,
        _ => return None,
    };
    let a1 = hash(&[p.user.as_bytes(), b":", p.realm.as_bytes(), b":", password]);
    let a2 = hash(&[p.method.as_bytes(), b":", p.uri.as_bytes()]);
    let (a1, a2, nonce) = (a1.as_bytes(), a2.as_bytes(), p.nonce.as_bytes());
    match p.qop {
        "" => Some(hash(&[a1, b":", nonce, b":", a2])),
        "auth" => {
            let (count, client_nonce) = (p.count.as_bytes(), p.client_nonce.as_bytes());
            Some(hash(&[
                a1,
                b":",
                nonce,
                b":",
                count,
                b":",
                client_nonce,
                b":auth:",
                a2,
            ]))
        }
        _ => None,
    }
}

fn hex_of<D: Digest>(parts: &[&[u8]]) -> String {
    use std::fmt::Write as _;
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .fold(String::new(), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1.
    const EXAMPLE: Parameters<'static> = Parameters {
        user: "Mufasa",
        realm: "http-auth@example.org",
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        count: "00000001",
        client_nonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        qop: "auth",
        method: "GET",
        uri: "/dir/index.html",
    };

    #[test]
    fn the_example_of_rfc_7616_comes_out() {
        let password = b"Circle of Life";
        assert_eq!(
            response("MD5", &EXAMPLE, password).unwrap(),
            "8ca523f5e9506fed4657c9700eebdbec"
        );
        assert_eq!(
            response("SHA-256", &EXAMPLE, password).unwrap(),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn the_form_without_qop_is_that_of_rfc_2069() {
        // RFC 2617 §3.5's values without qop, as computed by RFC 2069 §2.4's rule.
        let old = Parameters { qop: "", ..EXAMPLE };
        assert_ne!(
            response("MD5", &old, b"Circle of Life"),
            response("MD5", &EXAMPLE, b"Circle of Life")
        );
    }

    #[test]
    fn a_value_with_a_quotation_mark_gets_no_response() {
        assert_eq!(
            response(
                "MD5",
                &Parameters {
                    nonce: "a\"b",
                    ..EXAMPLE
                },
                b"x"
            ),
            None
        );
        assert_eq!(response("SHA-512", &EXAMPLE, b"x"), None);
        assert_eq!(
            response(
                "MD5",
                &Parameters {
                    qop: "auth-int",
                    ..EXAMPLE
                },
                b"x"
            ),
            None
        );
    }
}
