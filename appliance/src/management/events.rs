//! `/api/v1/events`: the stream of what happened, by name and time, a page at a time or as it comes. Everything in the
//! journal is an event of it: what any process of the house says, under its code, and the records of calls, as
//! `call-attempt`, `call-start` and `call-end`. Without `after` and `since` a page has the newest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use broker_proto::journal::{CallPhase, FromJournal, ToJournal, Wanted};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Links,
    api::{Problem, unix_ms},
};

/// Events on a page if nothing is said, and at most.
const PAGE: u16 = 100;
const LONGEST_PAGE: u16 = 1_000;
/// Names in one question.
const NAMES: usize = 16;
/// How long a question may wait for something to happen.
const LONGEST_WAIT_SECONDS: u64 = 25;
/// How often the journal is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);
/// Questions that wait at once; others are answered with what there is.
const WAITING: usize = 4;

/// Questions that wait.
static WAITERS: AtomicUsize = AtomicUsize::new(0);

#[derive(Deserialize)]
pub(super) struct Asked {
    since: Option<String>,
    after: Option<u64>,
    name: Option<String>,
    limit: Option<u16>,
    /// Seconds.
    wait: Option<u64>,
    /// `ndjson` for a line each, `json` or nothing for a page.
    format: Option<String>,
}

/// A page of the stream.
pub(super) async fn page(
    State(links): State<Arc<Links>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let lines = match asked.format.as_deref() {
        None | Some("json") => false,
        Some("ndjson") => true,
        Some(_) => {
            return Err(Problem::BadRequest(
                "format is `ndjson`, `json` or left out",
            ));
        }
    };
    let after = asked.after.unwrap_or(0);
    let limit = asked.limit.unwrap_or(PAGE).min(LONGEST_PAGE);
    let wanted = wanted(&asked)?;
    let wait = Duration::from_secs(asked.wait.unwrap_or(0).min(LONGEST_WAIT_SECONDS));
    let (events, newest) = awaited(&links, after, limit, &wanted, wait).await?;
    let next = events
        .last()
        .and_then(|event| event["seq"].as_u64())
        .unwrap_or(newest);
    if !lines {
        return Ok(
            Json(json!({ "events": events, "next": next, "newest": newest })).into_response(),
        );
    }
    let mut text = String::new();
    for event in &events {
        text.push_str(&event.to_string());
        text.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

fn wanted(asked: &Asked) -> Result<Wanted, Problem> {
    let since_unix_ms = match asked.since.as_deref() {
        None | Some("") => 0,
        Some(text) => unix_ms(text).ok_or(Problem::BadRequest(
            "since is seconds since 1970, or a time like 2026-01-31T12:00:00Z",
        ))?,
    };
    let names = asked.name.as_deref().unwrap_or_default();
    let names: Vec<String> = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    if names.len() > NAMES || !names.iter().all(|name| is_name(name)) {
        return Err(Problem::BadRequest(
            "name is one of the events' names, or up to 16 with commas between them",
        ));
    }
    Ok(Wanted {
        names,
        since_unix_ms,
        newest: asked.after.is_none() && since_unix_ms == 0,
    })
}

fn is_name(name: &str) -> bool {
    let octet = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    name.len() <= 64 && name.bytes().all(octet)
}

/// One of the few that wait.
struct Waiter;

impl Waiter {
    fn admitted() -> Option<Self> {
        let waiter = Self;
        (WAITERS.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(waiter)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        WAITERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Events and the newest sequence number; if there are none, those that come while it waits.
async fn awaited(
    links: &Links,
    after: u64,
    limit: u16,
    wanted: &Wanted,
    wait: Duration,
) -> Result<(Vec<Value>, u64), Problem> {
    let (events, newest) = ask(links, after, limit, wanted).await?;
    if !events.is_empty() || wait.is_zero() {
        return Ok((events, newest));
    }
    let Some(_waiter) = Waiter::admitted() else {
        return Ok((events, newest));
    };
    let deadline = Instant::now() + wait;
    let mut seen = newest;
    loop {
        tokio::time::sleep_until((Instant::now() + LOOK).min(deadline)).await;
        let (events, newest) = ask(links, seen, limit, wanted).await?;
        if !events.is_empty() || Instant::now() >= deadline {
            return Ok((events, newest));
        }
        seen = newest;
    }
}

async fn ask(
    links: &Links,
    after: u64,
    limit: u16,
    wanted: &Wanted,
) -> Result<(Vec<Value>, u64), Problem> {
    let question = |id| ToJournal::Query {
        id,
        after,
        limit,
        wanted: wanted.clone(),
    };
    let FromJournal::Records { lines, newest, .. } = links.journal.ask(question).await? else {
        return Err(Problem::Unavailable);
    };
    let records = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok((records.map(|record| event(&record)).collect(), newest))
}

/// A record of the journal as an event.
fn event(record: &Value) -> Value {
    let mut event = Map::new();
    for (name, key) in [("seq", "seq"), ("time", "time"), ("process", "role")] {
        event.insert(name.to_owned(), record[key].clone());
    }
    let call = &record["call"];
    let (name, severity, details) = if call.is_object() {
        let phase = CallPhase::ALL
            .iter()
            .find(|phase| call["phase"] == phase.word());
        let name = phase.map_or("call", |phase| phase.event());
        (json!(name), json!("info"), ("call", call))
    } else {
        let details = ("fields", &record["fields"]);
        (record["code"].clone(), record["severity"].clone(), details)
    };
    event.insert("name".to_owned(), name);
    event.insert("severity".to_owned(), severity);
    event.insert(details.0.to_owned(), details.1.clone());
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: Option<&str>, since: Option<&str>, after: Option<u64>) -> Asked {
        Asked {
            since: since.map(ToOwned::to_owned),
            after,
            name: name.map(ToOwned::to_owned),
            limit: None,
            wait: None,
            format: None,
        }
    }

    #[test]
    fn a_question_without_a_beginning_is_for_the_newest() {
        let newest = |asked: &Asked| wanted(asked).ok().unwrap().newest;
        assert!(newest(&asked(None, None, None)));
        assert!(!newest(&asked(None, None, Some(0))));
        assert!(!newest(&asked(None, Some("1795510009"), None)));
    }

    #[test]
    fn names_are_names_and_no_more_than_sixteen() {
        let many = ["drop"; 17].join(",");
        for wrong in ["Drop", "drop\"", "a b", &many, &"x".repeat(65)] {
            assert!(wanted(&asked(Some(wrong), None, None)).is_err(), "{wrong}");
        }
        let two = wanted(&asked(Some("drop,,limit"), None, None));
        assert_eq!(two.ok().unwrap().names, ["drop", "limit"]);
        assert!(wanted(&asked(None, Some("yesterday"), None)).is_err());
    }

    #[test]
    fn calls_and_codes_are_events_of_one_stream() {
        let call = json!({"seq": 3, "prev": "x", "time": "t", "role": "sbc", "kind": "call", "call": {"phase": "end", "id": 7}});
        let event_of_call = event(&call);
        assert_eq!(event_of_call["name"], "call-end");
        assert_eq!(event_of_call["call"]["id"], 7);
        assert_eq!(event_of_call["seq"], 3);
        let drop = json!({"seq": 4, "time": "t", "role": "sbc", "kind": "event", "severity": "notice", "code": "drop",
                          "fields": {"reason": "scanner"}});
        let event_of_drop = event(&drop);
        assert_eq!(event_of_drop["name"], "drop");
        assert_eq!(event_of_drop["fields"]["reason"], "scanner");
        assert!(event_of_drop.get("prev").is_none() && event_of_drop.get("call").is_none());
    }
}
