//! The REST API as an operator's script sees it: curl in the management namespace, checked against the test CA.

use std::{io, time::Duration};

use serde_json::Value;

use crate::lab::{
    pki,
    product::API_TOKEN,
    topology::{Names, command},
};

/// Base of the API.
pub const BASE: &str = "https://203.0.113.1:8443";

/// An answer: status code and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Body, JSON or `Null`.
    pub json: Value,
    /// Body as text.
    pub text: String,
}

/// Sends a request with the given token.
///
/// # Errors
/// curl could not be started, or there was no answer.
pub fn request(names: &Names, method: &str, path: &str, token: Option<&str>) -> io::Result<Answer> {
    let mut curl = command(&names.management, "curl");
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--request",
        method,
        "--write-out",
        "\n%{http_code}",
    ])
    .arg("--cacert")
    .arg(pki::folder().join("ca.pem"));
    if let Some(token) = token {
        curl.arg("--header")
            .arg(format!("Authorization: Bearer {token}"));
    }
    let output = curl.arg(format!("{BASE}{path}")).output()?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    Ok(Answer {
        status: status.parse().unwrap_or(0),
        json: serde_json::from_str(body).unwrap_or(Value::Null),
        text: body.to_owned(),
    })
}

/// `GET` with the lab's token.
///
/// # Panics
/// The API does not answer 200.
#[must_use]
pub fn get(names: &Names, path: &str) -> Value {
    match request(names, "GET", path, Some(API_TOKEN)) {
        Ok(Answer {
            status: 200, json, ..
        }) => json,
        other => panic!("GET {path}: {other:?}"),
    }
}

/// `POST /lab/reset`.
///
/// # Panics
/// The API does not answer 204.
pub fn reset(names: &Names) {
    let answer = request(names, "POST", "/api/v1/lab/reset", Some(API_TOKEN));
    assert!(
        matches!(answer, Ok(Answer { status: 204, .. })),
        "reset: {answer:?}"
    );
}

/// Asks `question` until it says yes, at most for `patience`.
pub fn eventually(patience: Duration, mut question: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if question() {
            return true;
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
