//! A record as the inside of a JSON object: what the journal writes for a [`Record`]. Text comes from strangers (names in SIP
//! fields among it), so every string is cut, escaped by the JSON encoder and freed of control characters.

use std::time::{Duration, UNIX_EPOCH};

use broker_proto::{
    Role,
    journal::{CallRecord, LegRecord, Record, Severity},
};
use serde_json::{Map, Value, json};

use super::rfc3339;

/// Longest text kept of one field, in octets.
pub(super) const TEXT_OCTETS: usize = 1024;
/// Most fields kept of one event.
pub(super) const FIELDS: usize = 32;

/// The inside (no braces) of the JSON object for `record`, said by `role` at `time` (RFC 3339).
#[must_use]
pub(super) fn body(role: Role, time: &str, record: &Record) -> String {
    let mut object = Map::new();
    object.insert("time".into(), json!(time));
    object.insert("role".into(), json!(role.name()));
    match record {
        Record::Event {
            severity,
            code,
            fields,
        } => {
            object.insert("kind".into(), json!("event"));
            object.insert("severity".into(), json!(severity_word(*severity)));
            object.insert("code".into(), text(code));
            let fields: Map<String, Value> = fields
                .iter()
                .take(FIELDS)
                .map(|(key, value)| (clean(key), text(value)))
                .collect();
            object.insert("fields".into(), Value::Object(fields));
        }
        Record::Call(call) => {
            object.insert("kind".into(), json!("call"));
            object.insert("call".into(), call_value(call));
        }
    }
    let json = Value::Object(object).to_string();
    json.strip_prefix('{')
        .and_then(|inside| inside.strip_suffix('}'))
        .unwrap_or_default()
        .to_owned()
}

fn call_value(call: &CallRecord) -> Value {
    let moment = |unix_ms: u64| rfc3339(UNIX_EPOCH + Duration::from_millis(unix_ms));
    json!({
        "id": call.id,
        "phase": call.phase.word(),
        "calling": text(&call.calling),
        "called": text(&call.called),
        "route": text(&call.route),
        "invited_at": moment(call.invited_unix_ms),
        "answered_at": call.answered_unix_ms.map(moment),
        "ended_at": call.ended_unix_ms.map(moment),
        "since_invite_ms": call.since_invite_ms,
        "duration_ms": call.duration_ms,
        "status": call.status,
        "ended_by": text(&call.ended_by),
        "reason": text(&call.reason),
        "media": text(&call.media),
        "legs": call.legs.iter().take(2).map(leg_value).collect::<Vec<_>>(),
    })
}

fn leg_value(leg: &LegRecord) -> Value {
    json!({
        "zone": text(&leg.zone),
        "remote": leg.remote.to_string(),
        "transport": text(&leg.transport),
        "call_id": text(&leg.call_id),
        "codecs": text(&leg.codecs),
        "packets_received": leg.packets_received,
        "packets_sent": leg.packets_sent,
        "packets_lost": leg.packets_lost,
        "octets_received": leg.octets_received,
        "jitter_us": leg.jitter_us,
        "mos": (leg.mos_hundredths > 0).then(|| f64::from(leg.mos_hundredths) / 100.0),
    })
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Alert => "alert",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
        Severity::Info => "info",
    }
}

fn text(value: &str) -> Value {
    Value::String(clean(value))
}

/// `value` cut to [`TEXT_OCTETS`] at a character boundary, with `\u{fffd}` for each control character and for those that
/// change a terminal's reading direction: a record shown on a console must not move its cursor.
fn clean(value: &str) -> String {
    let end = (0..=value.len().min(TEXT_OCTETS))
        .rev()
        .find(|&end| value.is_char_boundary(end))
        .unwrap_or(0);
    value
        .chars()
        .scan(0, |octets, character| {
            *octets += character.len_utf8();
            (*octets <= end).then_some(character)
        })
        .map(|character| match character {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: &str) -> String {
        let record = Record::Event {
            severity: Severity::Notice,
            code: "test".into(),
            fields: vec![("name".into(), value.into())],
        };
        body(Role::Sbc, "2026-01-01T00:00:00.000Z", &record)
    }

    #[test]
    fn line_ends_escapes_and_quotes_stay_inside_one_record() {
        for hostile in [
            "a\r\nb",
            "\u{1b}[2J",
            "\"},{\"seq\":9",
            "\u{202e}gnp.exe",
            "\u{0}",
            "\u{85}",
        ] {
            let line = format!("{{{}}}", event(hostile));
            assert!(
                !line.contains(['\r', '\n', '\u{1b}', '\u{202e}']),
                "{line:?}"
            );
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["role"], "sbc");
            assert!(value.get("seq").is_none());
        }
    }

    #[test]
    fn a_name_of_64_kib_is_cut() {
        let line = event(&"ü".repeat(32 * 1024));
        assert!(line.len() < TEXT_OCTETS + 300);
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_one_valid_object(value in ".*") {
            let line = format!("{{{}}}", event(&value));
            let parsed: Value = serde_json::from_str(&line).unwrap();
            proptest::prop_assert!(parsed["fields"]["name"].as_str().unwrap().len() <= TEXT_OCTETS * 3);
        }
    }
}
