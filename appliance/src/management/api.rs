//! The REST API of the management zone as far as it stands: live calls, bans, drops, records, health and metrics (lab
//! contract §4). Everything but `/healthz` wants a bearer token, which the keyholder checks.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use broker_proto::{
    control::SecretBytes,
    journal::{CallPhase, FromJournal, ToJournal, Wanted},
    keyholder::{FromKeyholder, ToKeyholder},
    settings::SecretId,
    status::{BanInfo, CallInfo, FromStatus, ToStatus},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Links, events, ladder,
    link::{Unavailable, lock},
    metrics,
};
use crate::journal::rfc3339;

/// Wait before a wrong token is answered: guessing is slow, and no source is ever locked out.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(250);
/// Longest token that is looked at, in octets.
const TOKEN_OCTETS: usize = 256;
/// Most pages of a listing that are asked for (64 calls, 128 bans each).
const MAX_PAGES: u32 = 256;

/// The routes with their guards.
pub(super) fn router(links: Arc<Links>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/calls", get(calls))
        .route("/api/v1/calls/{id}/ladder", get(call_ladder))
        .route("/api/v1/bans", get(bans))
        .route("/api/v1/bans/{key}", delete(unban))
        .route("/api/v1/drops", get(drops))
        .route("/api/v1/records", get(records))
        .route("/api/v1/events", get(events::page))
        .route("/api/v1/processes", get(processes))
        .route("/api/v1/lab/reset", post(reset))
        .route("/metrics", get(metrics_page))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::Method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&links),
            authorized,
        ));
    Router::new()
        .route("/healthz", get(healthz))
        .merge(guarded)
        .layer(middleware::from_fn(hardened))
        .with_state(links)
}

/// What went wrong, as the client sees it.
pub(super) enum Problem {
    Unauthorized,
    NotFound,
    Method,
    BadRequest(&'static str),
    Unavailable,
}

impl From<Unavailable> for Problem {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, sentence) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "a valid bearer token is needed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is nothing here"),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "this method is not allowed here",
            ),
            Self::BadRequest(sentence) => (StatusCode::BAD_REQUEST, sentence),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "a part of the appliance does not answer, try again",
            ),
        };
        let mut response = (status, Json(json!({ "error": sentence }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Lets a request with a valid bearer token through.
async fn authorized(State(links): State<Arc<Links>>, request: Request, next: Next) -> Response {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .filter(|token| !token.is_empty() && token.len() <= TOKEN_OCTETS)
        .map(<[u8]>::to_vec);
    let opens = token.map(|token| {
        let secret = SecretId(lock(&links.token).clone());
        let question = |id| ToKeyholder::Verify {
            id,
            secret,
            presented: SecretBytes(token),
        };
        links.keyholder.ask(question)
    });
    match opens {
        Some(Ok(FromKeyholder::Verified { opens: true, .. })) => next.run(request).await,
        Some(Err(Unavailable)) => Problem::Unavailable.into_response(),
        refused => {
            links.refused_logins.fetch_add(1, Ordering::Relaxed);
            if refused.is_some() {
                tokio::time::sleep(WRONG_TOKEN_DELAY).await;
            }
            Problem::Unauthorized.into_response()
        }
    }
}

/// Headers that every answer carries.
async fn hardened(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn healthz(State(links): State<Arc<Links>>) -> Response {
    let processes = links.init.ask(|id| ToStatus::Processes { id }).await;
    let healthy = matches!(
        processes,
        Ok(FromStatus::Processes { ref processes, .. })
            if !processes.is_empty() && processes.iter().all(|process| process.pid != 0)
    );
    if healthy {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "degraded\n").into_response()
    }
}

async fn metrics_page(State(links): State<Arc<Links>>) -> Response {
    let text = metrics::page(&links).await;
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

async fn calls(State(links): State<Arc<Links>>) -> Result<Json<Vec<Value>>, Problem> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let offset = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let FromStatus::Calls { calls, more, .. } =
            links.sbc.ask(|id| ToStatus::Calls { id, offset }).await?
        else {
            return Err(Problem::Unavailable);
        };
        let page = calls.len();
        all.extend(calls.iter().map(call_value));
        if !more || page == 0 {
            break;
        }
    }
    Ok(Json(all))
}

fn call_value(call: &CallInfo) -> Value {
    let legs: Vec<Value> = call
        .legs
        .iter()
        .map(|leg| {
            json!({
                "zone": leg.zone,
                "remote": leg.remote.to_string(),
                "transport": leg.transport,
                "call_id": leg.call_id,
                "media_ports": leg.media_ports,
            })
        })
        .collect();
    json!({
        "id": call.id.to_string(),
        "state": call.state,
        "calling": call.calling,
        "called": call.called,
        "age_ms": call.age_ms,
        "legs": legs,
    })
}

/// How a ladder is to be shown.
#[derive(Deserialize)]
struct Form {
    /// `text` for a drawing, `json` or nothing for the steps.
    format: Option<String>,
}

/// Both legs of a call, live or ended lately, message by message with the decision at each step.
async fn call_ladder(
    State(links): State<Arc<Links>>,
    Path(call): Path<u64>,
    Query(form): Query<Form>,
) -> Result<Response, Problem> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let offset = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let question = |id| ToStatus::Ladder { id, call, offset };
        let (steps, more) = match links.sbc.ask(question).await? {
            FromStatus::Ladder { steps, more, .. } => (steps, more),
            _ => return Err(Problem::NotFound),
        };
        let page = steps.len();
        all.extend(steps);
        if !more || page == 0 {
            break;
        }
    }
    match form.format.as_deref() {
        None | Some("json") => Ok(Json(ladder::value(call, &all)).into_response()),
        Some("text") => Ok(ladder::drawing(&all).into_response()),
        Some(_) => Err(Problem::BadRequest("format is `text`, `json` or left out")),
    }
}

async fn bans(State(links): State<Arc<Links>>) -> Result<Json<Vec<Value>>, Problem> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let offset = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let FromStatus::Bans { bans, more, .. } = links
            .firewall
            .ask(|id| ToStatus::Bans { id, offset })
            .await?
        else {
            return Err(Problem::Unavailable);
        };
        let page = bans.len();
        all.extend(bans.iter().map(ban_value));
        if !more || page == 0 {
            break;
        }
    }
    Ok(Json(all))
}

fn ban_value(ban: &BanInfo) -> Value {
    let expires = SystemTime::now() + Duration::from_secs(ban.expires_in_seconds.into());
    json!({ "key": ban.key, "reason": ban.reason, "evidence": ban.evidence, "expires_at": rfc3339(expires) })
}

async fn unban(
    State(links): State<Arc<Links>>,
    Path(key): Path<String>,
) -> Result<StatusCode, Problem> {
    match links.firewall.ask(|id| ToStatus::Unban { id, key }).await? {
        FromStatus::Done { .. } => Ok(StatusCode::NO_CONTENT),
        _ => Err(Problem::NotFound),
    }
}

#[derive(Deserialize)]
struct Since {
    since: Option<String>,
}

async fn drops(
    State(links): State<Arc<Links>>,
    Query(query): Query<Since>,
) -> Result<Json<Vec<Value>>, Problem> {
    let since_ms = match query.since.as_deref() {
        None | Some("") => 0,
        Some(text) => unix_ms(text).ok_or(Problem::BadRequest(
            "since is seconds since 1970, or a time like 2026-01-31T12:00:00Z",
        ))?,
    };
    let FromStatus::Drops { drops, .. } = links.firewall.ask(|id| ToStatus::Drops { id }).await?
    else {
        return Err(Problem::Unavailable);
    };
    let listed = drops.iter().filter(|drop| drop.count > 0).filter(|drop| {
        // A reason whose packets were never logged has no time; it is always listed.
        drop.last
            .as_ref()
            .is_none_or(|last| last.unix_ms >= since_ms)
    });
    let values = listed.map(|drop| {
        let last = drop.last.as_ref().map(|last| {
            json!({
                "at": rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(last.unix_ms)),
                "source": last.source,
                "destination": last.destination,
                "protocol": last.protocol,
            })
        });
        json!({ "reason": drop.reason, "zone": drop.zone, "count": drop.count, "last": last })
    });
    Ok(Json(values.collect()))
}

/// Seconds since 1970 (decimals allowed) or RFC 3339 in UTC, as ms since 1970.
pub(super) fn unix_ms(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && (0.0..1e12).contains(&seconds))
            .then_some((seconds * 1_000.0) as u64);
    }
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let (hour, minute): (u64, u64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    let in_range =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || !(0.0..61.0).contains(&second) {
        return None;
    }
    // Days since 1970 by counting from 1 March, after Hinnant's days_from_civil.
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + (second * 1_000.0) as u64)
}

#[derive(Deserialize)]
struct Page {
    after: Option<u64>,
    limit: Option<u16>,
    kind: Option<String>,
}

async fn records(
    State(links): State<Arc<Links>>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let names = match page.kind.as_deref() {
        None | Some("") => Vec::new(),
        Some("call") => CallPhase::ALL
            .map(|phase| phase.event().to_owned())
            .to_vec(),
        Some(_) => return Err(Problem::BadRequest("kind is `call` or left out")),
    };
    let (after, limit) = (page.after.unwrap_or(0), page.limit.unwrap_or(100));
    let question = |id| ToJournal::Query {
        id,
        after,
        limit,
        wanted: Wanted {
            names,
            ..Wanted::default()
        },
    };
    let answer = links.journal.ask(question).await?;
    let FromJournal::Records { lines, newest, .. } = answer else {
        return Err(Problem::Unavailable);
    };
    let records: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    Ok(Json(json!({ "records": records, "newest": newest })))
}

async fn processes(State(links): State<Arc<Links>>) -> Result<Json<Vec<Value>>, Problem> {
    let FromStatus::Processes { processes, .. } =
        links.init.ask(|id| ToStatus::Processes { id }).await?
    else {
        return Err(Problem::Unavailable);
    };
    let values = processes.iter().map(|process| {
        json!({
            "name": process.name,
            "pid": process.pid,
            "rss_kib": process.rss_kib,
            "open_fds": process.open_fds,
            "restarts": process.restarts,
        })
    });
    Ok(Json(values.collect()))
}

async fn reset(State(links): State<Arc<Links>>) -> Result<StatusCode, Problem> {
    if !links.lab.load(Ordering::Relaxed) {
        return Err(Problem::NotFound);
    }
    let (firewall, sbc) = tokio::join!(
        links.firewall.ask(|id| ToStatus::Reset { id }),
        links.sbc.ask(|id| ToStatus::Reset { id })
    );
    match (firewall?, sbc?) {
        (FromStatus::Done { .. }, FromStatus::Done { .. }) => Ok(StatusCode::NO_CONTENT),
        _ => Err(Problem::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_seconds_or_rfc_3339() {
        assert_eq!(unix_ms("1795510009"), Some(1_795_510_009_000));
        assert_eq!(unix_ms("2026-11-24T08:46:49Z"), Some(1_795_510_009_000));
        assert_eq!(
            unix_ms("2026-11-24T08:46:49.250+00:00"),
            Some(1_795_510_009_250)
        );
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        for wrong in [
            "yesterday",
            "-1",
            "NaN",
            "inf",
            "2026-13-01T00:00:00Z",
            "2026-11-24",
            "2026-11-24T25:00:00Z",
        ] {
            assert_eq!(unix_ms(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn written_times_are_read_back(ms in 0_u64..250_000_000_000_000) {
            let text = rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
            proptest::prop_assert!(unix_ms(&text).unwrap().abs_diff(ms) <= 1, "{} {:?}", text, unix_ms(&text));
        }
    }
}
