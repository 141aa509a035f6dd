//! Policies, routes, numbers, hours, limits; and what is only warned of.

use super::*;

#[test]
fn policies_name_peers_that_exist_and_values_that_can_be() {
    let parties = "for = [\"trunk:carrier\", \"trunk:backup\"]";
    let refused = |by: &str, key: &str, words: &str| {
        one(parties, by, &format!("policy.carriers.{key}"), words)
    };
    refused("for = []", "for", "for nobody");
    refused(
        "for = [\"trunk:carier\"]",
        "for[0]",
        "did you mean `carrier`",
    );
    refused(
        "for = [\"zone:extern\"]",
        "for[0]",
        "did you mean `external`",
    );
    refused(
        "for = [\"registrar\", \"registrar\"]",
        "for[1]",
        "has a policy already",
    );
    refused("for = [\"phones\"]", "for[0]", "zone:NAME");
    let changed = |line: &str, by: &str, key: &str, words: &str| {
        one(line, by, &format!("policy.carriers.{key}"), words)
    };
    changed(
        "events = []",
        "events = [\"reg\"]",
        "events[0]",
        "message-summary",
    );
    changed(
        "info = [\"dtmf\"]",
        "info = [\"package:\"]",
        "info[0]",
        "package:NAME",
    );
    changed(
        "message_octets = 0",
        "message_octets = 65535",
        "message_octets",
        "at most 32768",
    );
    let map = "response_map = [\"603:486\"]";
    changed(
        map,
        "response_map = [\"603:401\"]",
        "response_map[0]",
        "not 401",
    );
    changed(
        map,
        "response_map = [\"603:486\", \"603:480\"]",
        "response_map[1]",
        "mapped twice",
    );
    let codecs = "audio_codecs = [\"G722\", \"PCMA\"]";
    changed(
        codecs,
        "audio_codecs = [\"H264\"]",
        "audio_codecs[0]",
        "belongs to video_codecs",
    );
    changed(
        codecs,
        "audio_codecs = [\"G729\"]",
        "audio_codecs[0]",
        "denied_codecs",
    );
    changed(
        "field = \"from\"",
        "field = \"to\"",
        "rewrite[0].field",
        "p-asserted-identity",
    );
    changed(
        "host = \"sip.example.net\"",
        "host = \"sip:x\"",
        "rewrite[0].host",
        "domain name",
    );
    changed(
        "prepend = \"+49301234\"",
        "user = \"+49\"\nprepend = \"1\"",
        "rewrite[0].user",
        "a fixed user",
    );
    one(
        "value = \"4711\"",
        "value = \"\"",
        "policy.carriers.add[0].value",
        "1 to 256",
    );
}

#[test]
fn a_policy_adds_fields_of_its_own_alone() {
    let name = "name = \"X-Customer\"";
    for by in [
        "name = \"Via\"",
        "name = \"X Customer\"",
        "name = \"Contact\"",
    ] {
        one(name, by, "policy.carriers.add[0].name", "begins with X-");
    }
}

#[test]
fn contradicting_routes_are_named_with_both_lines() {
    let text = format!(
        "{EXAMPLE}\n[[route]]\nname = \"again\"\nfrom = [\"internal\", \"trunk:backup\"]\nprefix = \"+49900\"\ndigits = \"0-20\"\naction = \"trunks\"\ntrunks = [\"backup\"]\n"
    );
    let errors = refused(&text);
    let [error] = errors.as_slice() else {
        panic!("{}", list(&errors))
    };
    let first = EXAMPLE
        .lines()
        .position(|l| l == "name = \"premium\"")
        .expect("route");
    let second = EXAMPLE.lines().count() + 2;
    assert_eq!(error.key, "route.again");
    assert!(
        error
            .sentence
            .english
            .contains(&format!("lines {first} and {second} contradict")),
        "{error}"
    );
}

#[test]
fn a_route_behind_one_that_takes_everything_is_refused() {
    let text = format!(
        "{EXAMPLE}\n[[route]]\nname = \"berlin\"\nfrom = [\"internal\"]\nprefix = \"+4930\"\ndigits = \"6-10\"\naction = \"trunks\"\ntrunks = [\"backup\"]\n"
    );
    let errors = refused(&text);
    assert!(
        list(&errors).contains("is never reached: `route.outside`"),
        "{}",
        list(&errors)
    );
}

#[test]
fn routes_name_trunks_that_exist_and_numbers_that_can_be() {
    one(
        "trunks = [\"carrier\", \"backup\"]",
        "trunks = [\"carier\", \"backup\"]",
        "route.outside.trunks[0]",
        "did you mean `carrier`?",
    );
    one(
        "from = [\"trunk:carrier\", \"trunk:backup\"]",
        "from = [\"trunk:nobody\"]",
        "route.direct-dial.from[0]",
        "there is no trunk `nobody`",
    );
    one(
        "range = \"100-799\"",
        "range = \"100-1799\"",
        "route.binding.range",
        "more than the 3 digits",
    );
    one(
        "strip = 9",
        "strip = 13",
        "route.direct-dial.strip",
        "shortest number",
    );
    one(
        "status = 403",
        "status = 200",
        "route.premium.status",
        "400 to 699",
    );
    one(
        "digits = \"8-15\"",
        "digits = \"15-8\"",
        "route.outside.digits",
        "lower number first",
    );
}

#[test]
fn patterns_hours_and_shares_are_refused_with_what_would_be_right() {
    one(
        "pattern = \"11[02]\"",
        "pattern = \"11[2-0]\"",
        "route.emergency.pattern",
        "is no number pattern",
    );
    one(
        "pattern = \"11[02]\"",
        "pattern = \"0049x{3}\"",
        "route.emergency.pattern",
        "normal form",
    );
    one(
        "pattern = \"+49[1-9]x{5,12}\"",
        "pattern = \"+49x{5}\"\ndigits = \"3\"",
        "route.office-hours.pattern",
        "do not stand beside it",
    );
    one(
        "hours = [\"08:00-18:00\"]",
        "hours = [\"8-18\"]",
        "route.office-hours.when.hours[0]",
        "is no time of day",
    );
    one(
        "days = [\"mon-fri\"]",
        "days = [\"mo-fr\"]",
        "route.office-hours.when.days[0]",
        "mon-fri",
    );
    one(
        "days = [\"mon-fri\"]",
        "days = []",
        "route.office-hours.when.days",
        "names no day",
    );
    one(
        "zone = \"Europe/Berlin\"",
        "zone = \"Europe/Berlni\"",
        "route.office-hours.when.zone",
        "\"Europe/Berlin\"",
    );
    one(
        "zone = \"Europe/Berlin\"",
        "zone = \"+15:00\"",
        "route.office-hours.when.zone",
        "is no time zone",
    );
    one(
        "failover = [404, 480]",
        "failover = [503]",
        "route.office-hours.failover[0]",
        "5xx and silence always",
    );
    one(
        "failover = [404, 480]",
        "failover = [603]",
        "route.office-hours.failover[0]",
        "6xx never",
    );
    one(
        "failover = [404, 480]",
        "failover = [487]",
        "route.office-hours.failover[0]",
        "no reason",
    );
    one(
        "if_unavailable = \"next\"",
        "if_unavailable = \"nxt\"",
        "route.office-hours.if_unavailable",
        "did you mean `next`?",
    );
    one(
        "  { name = \"backup\", priority = 1, weight = 30, below = 20 },",
        "  { name = \"backup\", priority = 300 },",
        "route.office-hours.trunks[1]",
        "from 0 to 255",
    );
    one(
        "  { name = \"backup\", priority = 1, weight = 30, below = 20 },",
        "  { name = \"backup\", wieght = 3 },",
        "route.office-hours.trunks[1]",
        "did you mean `weight`?",
    );
    one(
        "  { name = \"backup\", priority = 1, weight = 30, below = 20 },",
        "  { name = \"bakcup\" },",
        "route.office-hours.trunks[1]",
        "did you mean `backup`?",
    );
    one(
        "from = [\"zone:internal\"]",
        "from = [\"zone:intern\"]",
        "route.office-hours.from[0]",
        "did you mean `internal`?",
    );
    one(
        "from = [\"zone:internal\"]",
        "from = [\"zone:management\"]",
        "route.office-hours.from[0]",
        "nobody calls",
    );
    one(
        "domain = [\"partner.example\"]",
        "domain = [\"Partner example\"]",
        "route.partner.domain[0]",
        "no host",
    );
    one(
        "domain = [\"partner.example\"]",
        "strip = 1\ndomain = [\"partner.example\"]",
        "route.partner.strip",
        "cuts more",
    );
}

#[test]
fn numbering_health_and_limits_are_refused_where_they_contradict_themselves() {
    one(
        "country = \"49\"",
        "country = \"0049\"",
        "zone.internal.numbering.country",
        "no country code",
    );
    one(
        "area = \"30\"",
        "area = \"030\"",
        "zone.internal.numbering.area",
        "without the national prefix",
    );
    one(
        "national_prefix = \"0\"",
        "national_prefix = \"00\"",
        "zone.internal.numbering.national_prefix",
        "is the same",
    );
    one(
        "local_digits = \"6-11\"",
        "local_digits = \"1-11\"",
        "zone.internal.numbering.local_digits",
        "within 3-14",
    );
    one(
        "form = \"national\"",
        "form = \"nationl\"",
        "trunk.backup.numbering.form",
        "did you mean `national`?",
    );
    one(
        "form = \"national\"",
        "form = \"national\"\nnational_prefix = \"\"",
        "trunk.backup.numbering.form",
        "needs a national_prefix",
    );
    one(
        "interval_seconds = 30",
        "interval_seconds = 1",
        "trunk.backup.health.interval_seconds",
        "from 5 to 3600",
    );
    one(
        "retry_seconds_max = 300",
        "retry_seconds_max = 10",
        "trunk.backup.health.retry_seconds_max",
        "is shorter",
    );
    let (text, _) = changed("calls = 30", "call_rate = 30");
    let errors = list(&refused(&text));
    assert!(
        errors.contains("trunk.backup.preempt: needs to know when the trunk is full"),
        "{errors}"
    );
    one(
        "calls = 400",
        "calls = 0",
        "zone.internal.limits.calls",
        "from 1 to 100000",
    );
    one(
        "calls = 4",
        "calsl = 4",
        "sip.account.calsl",
        "did you mean `calls`?",
    );
    one(
        "emergency = [\"110\", \"112\"]",
        "emergency = [\"+112\"]",
        "zone.internal.emergency[0]",
        "no emergency number",
    );
    one(
        "resource_priority = [\"esnet.*\"]",
        "resource_priority = [\"esnet\"]",
        "zone.internal.resource_priority[0]",
        "no Resource-Priority",
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of_and_allowed() {
    assert_eq!(list(&Document::warnings(EXAMPLE, "example.toml")), "");
    let text = format!(
        "{EXAMPLE}\n[[route]]\nname = \"one\"\nfrom = [\"internal\"]\npattern = \"4[0-5]x\"\naction = \"registrar\"\n\
         [[route]]\nname = \"other\"\nfrom = [\"internal\"]\npattern = \"4[5-9]x\"\naction = \"refuse\"\n"
    );
    let text = text.replace(
        "digits = \"3\"\nrange = \"100-799\"",
        "digits = \"3\"\nrange = \"100-399\"",
    );
    let text = text.replace(
        "emergency = [\"110\", \"112\"]",
        "emergency = [\"110\", \"112\", \"9999\"]",
    );
    assert!(Document::parse(&text, "gatehouse.toml").is_ok());
    let warnings = list(&Document::warnings(&text, "gatehouse.toml"));
    assert!(
        warnings.contains("route.other: shares some numbers of the same callers with `route.one`"),
        "{warnings}"
    );
    assert!(
        warnings.contains("zone.internal.emergency: no route takes the emergency number 9999"),
        "{warnings}"
    );
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
}

#[test]
fn a_pattern_behind_one_that_takes_all_its_numbers_is_refused() {
    let text = format!(
        "{EXAMPLE}\n[[route]]\nname = \"late\"\nfrom = [\"internal\"]\npattern = \"+33[1-9]x{{8}}\"\naction = \"trunks\"\ntrunks = [\"backup\"]\n"
    );
    let errors = refused(&text);
    assert!(
        list(&errors).contains("is never reached: `route.outside`"),
        "{}",
        list(&errors)
    );
    // A line that is for some hours, or lets later ones try, takes nothing away.
    for change in [
        "if_unavailable = \"next\"",
        "when = { zone = \"UTC\", hours = [\"08:00-09:00\"] }",
    ] {
        let early = "name = \"outside\"\n";
        assert!(text.contains(early));
        let text = text.replace(early, &format!("{early}{change}\n"));
        assert!(Document::parse(&text, "gatehouse.toml").is_ok(), "{change}");
    }
}
