//! What the reader and the checks refuse: with line, key and a sentence that helps; several offences at once.

use appliance_config::{ConfigError, Document};

const EXAMPLE: &str = include_str!("../example.toml");

fn refused(text: &str) -> Vec<ConfigError> {
    Document::parse(text, "gatehouse.toml").expect_err("must be refused")
}

/// The example with one line changed, and the number of that line.
fn changed(line: &str, by: &str) -> (String, u32) {
    let at = EXAMPLE
        .lines()
        .position(|have| have.split('#').next().unwrap_or("").trim_end() == line)
        .unwrap_or_else(|| panic!("no line `{line}` in the example"));
    let text: Vec<&str> = EXAMPLE
        .lines()
        .enumerate()
        .map(|(i, have)| if i == at { by } else { have })
        .collect();
    (text.join("\n"), u32::try_from(at).expect("short") + 1)
}

/// One changed line makes exactly one offence, at that line, at `key`, with `words` in the sentence.
fn one(line: &str, by: &str, key: &str, words: &str) {
    let (text, number) = changed(line, by);
    let errors = refused(&text);
    let [error] = errors.as_slice() else {
        panic!("`{by}`: one offence expected, got\n{}", list(&errors));
    };
    assert_eq!(error.key, key, "`{by}`: {error}");
    // What is wrong with a table as a whole stands at its header, the line above.
    let header = u32::from(
        EXAMPLE
            .lines()
            .nth(number as usize - 2)
            .is_some_and(|above| above.starts_with('[')),
    );
    assert!(
        (number - header..=number).contains(&error.line),
        "`{by}` is line {number}: {error}"
    );
    assert!(error.sentence.english.contains(words), "`{by}`: {error}");
    assert!(
        !error.sentence.german.is_empty() && error.sentence.german != error.sentence.english,
        "{error}"
    );
}

fn list(errors: &[ConfigError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    one(
        "dns = [\"10.20.0.53\"]",
        "dsn = [\"10.20.0.53\"]",
        "host.dsn",
        "did you mean `dns`?",
    );
    one("lab = false", "labs = false", "labs", "did you mean `lab`?");
    one(
        "syn_rate = 2000",
        "syn_rates = 2000",
        "limits.syn_rates",
        "did you mean `syn_rate`?",
    );
    one(
        "drops_burst = 10",
        "colour = 10",
        "logging.colour",
        "possible: drops_per_second",
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_the_right_spelling() {
    one("lab = false", "lab = 0", "lab", "true or false");
    one(
        "calls = 2000",
        "calls = \"many\"",
        "limits.calls",
        "whole number",
    );
    one(
        "calls = 2000",
        "calls = -1",
        "limits.calls",
        "0 to 4294967295",
    );
    one(
        "calls = 2000",
        "calls = 0",
        "limits.calls",
        "from 1 to 100000",
    );
    one(
        "dns = [\"10.20.0.53\"]",
        "dns = [\"10.20.0.53\", \"ns.example.org\"]",
        "host.dns[1]",
        "names are not looked up",
    );
    one(
        "dns = [\"10.20.0.53\"]",
        "dns = \"10.20.0.53\"",
        "host.dns",
        "list in square brackets",
    );
    one(
        "mac = \"52:54:00:12:34:01\"",
        "mac = \"52:54:00:12:34\"",
        "zone.external.interface.mac",
        "hardware address",
    );
    one(
        "mac = \"52:54:00:12:34:01\"",
        "mac = \"01:00:5e:00:00:01\"",
        "zone.external.interface.mac",
        "group or null",
    );
    one(
        "network = \"10.21.0.0/16\"",
        "network = \"10.21.0.1/16\"",
        "zone.internal.routed[0].network",
        "10.21.0.0/16",
    );
    one(
        "kind = \"partner\"",
        "kind = \"partners\"",
        "zone.carrier.kind",
        "did you mean `partner`?",
    );
    one(
        "name = \"gatehouse\"",
        "name = \"Gate House\"",
        "host.name",
        "small letters",
    );
}

#[test]
fn zones_must_agree_with_each_other() {
    one(
        "gateway = \"192.0.33.129\"",
        "gateway = \"192.0.34.1\"",
        "zone.external.ipv4.gateway",
        "does not lie in the network 192.0.33.128/28",
    );
    one(
        "gateway = \"192.0.33.129\"",
        "gateway = \"192.0.33.130\"",
        "zone.external.ipv4.gateway",
        "own address",
    );
    one(
        "address = \"192.0.33.130/28\"",
        "address = \"192.0.33.143/28\"",
        "zone.external.ipv4.address",
        "first or last",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "address = \"10.20.0.9/24\"",
        "zone.management.ipv4.address",
        "overlaps with 10.20.0.0/24",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "address = \"10.21.5.1/24\"",
        "zone.management.ipv4.address",
        "overlaps with 10.21.0.0/16",
    );
    one(
        "gateway = \"10.20.0.254\"",
        "gateway = \"10.99.0.254\"",
        "zone.internal.routed[0].gateway",
        "not another host",
    );
    one(
        "network = \"172.20.8.0/24\"",
        "network = \"0.0.0.0/0\"",
        "zone.carrier.routed[0].network",
        "default route",
    );
    one(
        "vlan = 99",
        "vlan = 4095",
        "zone.management.interface.vlan",
        "1 to 4094",
    );
    one(
        "mac = \"52:54:00:12:34:03\"",
        "mac = \"52:54:00:12:34:01\"",
        "zone.carrier.interface",
        "the card of `zone.external`",
    );
    one(
        "mac = \"52:54:00:12:34:03\"",
        "name = \"internal\"",
        "zone.carrier.interface",
        "link would be called internal",
    );
    one(
        "address = \"10.99.0.1/24\"",
        "method = \"dhcp\"",
        "zone.management.ipv4.method",
        "only external zones",
    );
    one(
        "ports = \"16384-32767\"",
        "ports = \"16385-32767\"",
        "zone.external.media.ports",
        "even port",
    );
    one(
        "ports = \"16384-32767\"",
        "ports = \"512-4000\"",
        "zone.external.media.ports",
        "1024 or more",
    );
    one(
        "peer_ports = \"1024-65535\"",
        "peer_ports = \"53-65535\"",
        "zone.external.media.peer_ports",
        "1024",
    );
    one(
        "not_bogon = []",
        "not_bogon = [\"127.0.0.0/8\"]",
        "zone.external.not_bogon[0]",
        "never a source",
    );
    one(
        "allow_list = []",
        "allow_list = [\"0.0.0.0/0\"]",
        "zone.external.allow_list[0]",
        "too large",
    );
    one(
        "networks = []",
        "networks = [\"10.99.0.0/16\"]",
        "zone.external.media.networks[0]",
        "management zone",
    );
}

#[test]
fn exactly_one_zone_is_the_management_zone() {
    let (text, _) = changed("kind = \"management\"", "kind = \"internal\"");
    let errors = refused(&text);
    assert!(
        list(&errors).contains("exactly one must be"),
        "{}",
        list(&errors)
    );
    let (text, line) = changed("kind = \"partner\"", "kind = \"management\"");
    let errors = refused(&text);
    assert!(
        errors.iter().any(|e| e.line == line
            && e.sentence
                .english
                .contains("second management zone (the first is at line")),
        "{}",
        list(&errors)
    );
}

#[test]
fn tls_needs_certificates_and_authorities_and_nothing_else_has_them() {
    let (udp, backup) = ("service = \"sip-udp\"", "addresses = [\"192.0.34.20\"]");
    for (line, more, key, words) in [
        (
            udp,
            "service = \"sip-tls\"",
            "listener[0].certificates",
            "sip-tls needs a certificate",
        ),
        (
            udp,
            "service = \"sip-udp\"\ncertificates = [\"sip\"]",
            "listener[0].certificates",
            "shows no certificate",
        ),
        (
            udp,
            "service = \"wss\"\ncertificates = [\"management\"]",
            "listener[0].certificates",
            "key of the management pages",
        ),
        (
            udp,
            "service = \"sip-udp\"\norigins = [\"*\"]",
            "listener[0].origins",
            "only WebSocket",
        ),
        (
            backup,
            "addresses = [\"192.0.34.20\"]\ntransport = \"tls\"",
            "trunk.backup.transport",
            "who vouches",
        ),
        (
            backup,
            "addresses = [\"192.0.34.20\"]\ntls = { names = [\"Upper.example\"], authorities = [\"ca\"] }",
            "trunk.backup.tls.names[0]",
            "no name of a certificate",
        ),
    ] {
        let errors = refused(&changed(line, more).0);
        assert!(
            errors
                .iter()
                .any(|error| error.key == key && error.to_string().contains(words)),
            "`{more}`:\n{}",
            list(&errors)
        );
    }
}

#[test]
fn listeners_and_peers_must_fit_their_zones() {
    one(
        "port = 5060",
        "port = 20000",
        "listener[0].port",
        "media ports 16384-32767",
    );
    one(
        "zone = \"management\"",
        "zone = \"carrier\"",
        "listener[6].zone",
        "management zone only",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"10.99.0.20\"]",
        "trunk.backup.addresses[0]",
        "lies in zone `management`",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"172.20.8.5\"]",
        "trunk.backup.addresses[0]",
        "told apart",
    );
    one(
        "addresses = [\"192.0.34.20\"]",
        "addresses = [\"192.0.33.130\"]",
        "trunk.backup.addresses[0]",
        "own address",
    );
    by_name();
    one(
        "addresses = [\"172.20.8.5\", \"172.20.8.6\"]",
        "addresses = [\"192.0.34.1\"]",
        "trunk.carrier.addresses[0]",
        "out of reach",
    );
    one(
        "addresses = [\"10.20.0.10:5060\"]",
        "addresses = [\"[2001:db8::1]:5060\"]",
        "sip.registrar.addresses[0]",
        "no IPv6",
    );
    one(
        "interval_seconds = 300",
        "interval_seconds = 5",
        "trunk.backup.registration.interval_seconds",
        "30 to 86400",
    );
    one(
        "transport = \"udp\"",
        "transport = \"tls\"",
        "sip.registrar.transport",
        "over TLS",
    );
}

#[test]
fn no_sip_is_spoken_in_the_management_zone() {
    let (text, _) = changed("service = \"management-https\"", "service = \"sip-udp\"");
    let errors = refused(&text);
    assert_eq!(
        errors.first().map(|error| error.key.as_str()),
        Some("listener[6].zone"),
        "{}",
        list(&errors)
    );
}

#[test]
fn a_second_listener_on_a_port_is_refused_with_the_line_of_the_first() {
    let text = format!("{EXAMPLE}\n[[listener]]\nzone = \"external\"\nservice = \"sip-udp\"\n");
    let errors = refused(&text);
    let [error] = errors.as_slice() else {
        panic!("{}", list(&errors))
    };
    assert!(
        error
            .sentence
            .english
            .contains("port 5060 of zone `external` is already taken by the listener at line"),
        "{error}"
    );
}

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
fn several_offences_are_reported_at_once_in_the_order_of_the_lines() {
    let text = EXAMPLE
        .replace("language = \"de\"", "language = \"fr\"")
        .replace("gateway = \"192.0.33.129\"", "gateway = \"192.0.34.1\"")
        .replace("vlan = 99", "vlan = \"ninety-nine\"")
        .replace("seconds_max = 86400", "seconds_maximum = 86400");
    let errors = refused(&text);
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "host.language",
            "zone.external.ipv4.gateway",
            "zone.management.interface.vlan",
            "bans.seconds_maximum"
        ]
    );
    assert!(errors.windows(2).all(|pair| pair[0].line < pair[1].line));
}

#[test]
fn what_is_missing_is_said_where_it_is_missing() {
    let keys: Vec<String> = refused("schema = 1\n")
        .into_iter()
        .map(|error| error.key)
        .collect();
    assert_eq!(keys, ["zone", "host", "sip"]);
    let errors = refused("[host]\nname = \"x\"\n");
    assert_eq!(
        errors
            .first()
            .map(|e| (e.key.as_str(), e.sentence.english.as_str())),
        Some(("schema", "is missing here"))
    );
}

#[test]
fn another_schema_is_refused_without_a_flood() {
    let errors = refused(&EXAMPLE.replace("schema = 1", "schema = 2"));
    let [error] = errors.as_slice() else {
        panic!("{}", list(&errors))
    };
    assert!(error.sentence.english.contains("reads schema 1"), "{error}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let errors = refused("schema = 1\n[host\nname = \"x\"\n");
    assert_eq!(
        errors.first().map(|error| error.line),
        Some(2),
        "{}",
        list(&errors)
    );
}

#[test]
fn a_key_given_twice_is_refused() {
    let errors = refused(&EXAMPLE.replace("lab = false", "lab = false\nlab = true"));
    assert!(list(&errors).contains("duplicate key"), "{}", list(&errors));
}

#[test]
fn secrets_cannot_stand_in_the_document() {
    let errors =
        refused(&EXAMPLE.replace("secret = \"backup-password\"", "password = \"hunter2\""));
    assert!(
        errors
            .iter()
            .any(|e| e.key == "trunk.backup.registration.password"),
        "{}",
        list(&errors)
    );
    assert!(!list(&errors).contains("hunter2"));
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

/// A peer that is looked up is bounded.
fn by_name() {
    let (host, networks) = (
        "host = \"sip.cloud.example\"",
        "networks = [\"192.0.35.0/24\"]",
    );
    one(
        networks,
        "networks = []",
        "trunk.cloud.networks",
        "not believed without bounds",
    );
    one(
        networks,
        "networks = [\"192.0.0.0/12\"]",
        "trunk.cloud.networks[0]",
        "too wide",
    );
    one(
        networks,
        "networks = [\"10.21.7.0/24\"]",
        "trunk.cloud.networks[0]",
        "lies in zone `internal`",
    );
    one(
        networks,
        "networks = [\"192.0.34.0/24\"]",
        "trunk.cloud.networks",
        "could not be told apart",
    );
    one(
        networks,
        "networks = [\"2001:db8:77::/48\", \"224.0.0.0/24\"]",
        "trunk.cloud.networks[1]",
        "not the address of a host",
    );
    one(
        host,
        "host = \"sip:cloud.example\"",
        "trunk.cloud.host",
        "without sip:",
    );
    one(
        host,
        "host = \"192.0.35.7\"",
        "trunk.cloud.host",
        "not a host name",
    );
    one(
        "transport = \"naptr\"",
        "transport = \"tls\"",
        "trunk.cloud.transport",
        "authorities",
    );
    one(
        "ports = [5060, 5070]",
        "ports = [0]",
        "trunk.cloud.ports",
        "no port",
    );
}
