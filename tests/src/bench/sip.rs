//! The SIP bench: INVITE, 200, ACK, BYE, 200 between two sipp, through our whole sbc process and through Kamailio as a
//! stateful, record-routing proxy. Both get the same number of calls at the same rate; what counts is how many calls a
//! second of one core's time is good for. Ours is a back-to-back user agent that also opens media for each call; the
//! proxy only passes messages on.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use broker_proto::settings::{
    Called, Caps, Limits, Listener, NumberPattern, Origin, Registrar, Route, RouteAction,
    RouteConditions, Settings, Transport, Trunk, TrunkPolicy, Zone, ZoneId, ZoneKind, ZonePolicy,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{cpu, product::Product};

pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CALLER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
pub(super) const CALLEE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(super) const SIP: u16 = 5060;
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses that the loopback must have.
pub const ADDRESSES: [Ipv4Addr; 4] = [OUTSIDE, INSIDE, CALLER, CALLEE];

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// New calls per second.
    pub rate: u32,
    /// Calls in all.
    pub calls: u32,
}

/// What one of them did.
struct Outcome {
    name: &'static str,
    /// Calls per second of one core.
    calls_per_core: f64,
    succeeded: u64,
    failed: u64,
    retransmitted: u64,
}

/// Measures; the table goes to standard output, the result is for the JSON line.
///
/// # Errors
/// When sipp, Kamailio or the sbc fail or are not there.
pub fn run(plan: Plan) -> io::Result<Value> {
    let folder = tempfile::tempdir()?;
    let callee = Callee::start(&folder)?;
    let ours = {
        let product = Product::start(settings())?;
        let pid = product.pid();
        measure("gatehouse", plan, &folder, || cpu::time(pid))?
    };
    let theirs = {
        let kamailio = Kamailio::start(&folder)?;
        measure("kamailio", plan, &folder, || {
            cpu::family_time(kamailio.0.id())
        })?
    };
    drop(callee);
    println!(
        "INVITE-200-BYE, {} calls at {} a second",
        plan.calls, plan.rate
    );
    println!(
        "{:<12} {:>20} {:>10} {:>8} {:>14}",
        "", "calls/s and core", "succeeded", "failed", "retransmitted"
    );
    for line in [&ours, &theirs] {
        println!(
            "{:<12} {:>20.0} {:>10} {:>8} {:>14}",
            line.name, line.calls_per_core, line.succeeded, line.failed, line.retransmitted
        );
    }
    let ratio = ours.calls_per_core / theirs.calls_per_core;
    println!("ratio gatehouse/kamailio: {ratio:.2}\n");
    Ok(json!({
        "rate": plan.rate,
        "calls": plan.calls,
        "ratio": ratio,
        "gatehouse": ours.json(),
        "kamailio": theirs.json(),
    }))
}

impl Outcome {
    fn json(&self) -> Value {
        json!({
            "calls_per_second_and_core": self.calls_per_core,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "retransmitted": self.retransmitted,
        })
    }
}

/// A warm-up of a tenth, then the calls that count.
fn measure(
    name: &'static str,
    plan: Plan,
    folder: &TempDir,
    used: impl Fn() -> io::Result<Duration>,
) -> io::Result<Outcome> {
    call(name, plan.rate, (plan.calls / 10).max(1), folder)?;
    let before = used()?;
    let counts = call(name, plan.rate, plan.calls, folder)?;
    let spent = used()?.saturating_sub(before).as_secs_f64().max(0.01);
    let [succeeded, failed, retransmitted] = counts;
    Ok(Outcome {
        name,
        calls_per_core: succeeded as f64 / spent,
        succeeded,
        failed,
        retransmitted,
    })
}

/// One sipp as the caller; says how many calls succeeded and failed and how many messages it sent again.
fn call(name: &str, rate: u32, calls: u32, folder: &TempDir) -> io::Result<[u64; 3]> {
    let statistics = folder.path().join(format!("{name}-{calls}.csv"));
    let status = sipp()
        .arg(format!("{OUTSIDE}:{SIP}"))
        .args(["-sn", "uac", "-s", "+49305551001", "-d", "0"])
        .args([
            "-i",
            &CALLER.to_string(),
            "-p",
            &SIP.to_string(),
            "-mi",
            &CALLER.to_string(),
        ])
        .args([
            "-r",
            &rate.to_string(),
            "-m",
            &calls.to_string(),
            "-l",
            "20000",
        ])
        .args(["-timeout", "120s", "-trace_stat", "-fd", "1", "-stf"])
        .arg(&statistics)
        .current_dir(folder.path())
        .status()?;
    let text = fs::read_to_string(&statistics)?;
    let counts = ["SuccessfulCall(C)", "FailedCall(C)", "Retransmissions(C)"]
        .map(|column| last(&text, column));
    match counts {
        [Some(succeeded), Some(failed), Some(retransmitted)] if succeeded > 0 => {
            Ok([succeeded, failed, retransmitted])
        }
        _ => Err(io::Error::other(format!(
            "no call through {name} succeeded (sipp: {status})"
        ))),
    }
}

/// The last value of a column of sipp's statistics.
fn last(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines.next()?.split(';').position(|name| name == column)?;
    lines.last()?.split(';').nth(place)?.parse().ok()
}

fn sipp() -> Command {
    let mut command = Command::new("sipp");
    command.args(["-nostdin", "-max_socket", "100"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The callee of all calls.
struct Callee(Child);

impl Callee {
    fn start(folder: &TempDir) -> io::Result<Self> {
        let child = sipp()
            .args([
                "-sn",
                "uas",
                "-i",
                &CALLEE.to_string(),
                "-p",
                &SIP.to_string(),
            ])
            .args(["-mi", &CALLEE.to_string()])
            .current_dir(folder.path())
            .spawn()?;
        wait_for_port(CALLEE)?;
        Ok(Self(child))
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        // One that is gone already is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The peer: a stateful proxy that stays in the path, and nothing else.
struct Kamailio(Child);

impl Kamailio {
    fn start(folder: &TempDir) -> io::Result<Self> {
        let configuration = folder.path().join("kamailio.cfg");
        fs::write(&configuration, kamailio_configuration()?)?;
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "512", "-M", "32"])
            .arg("-Y")
            .arg(folder.path())
            .arg("-f")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let kamailio = Self(child);
        wait_for_port(OUTSIDE)?;
        Ok(kamailio)
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        // It ends its children on SIGTERM; one that is gone already is what we want.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn kamailio_configuration() -> io::Result<String> {
    let children = available_parallelism()?.get();
    Ok(format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
children={children}
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{OUTSIDE}:{SIP}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    # sipp's own scenario names the proxy, not the callee's contact, inside the dialog.
    if (has_totag()) {{ loose_route(); }} else if (is_method("INVITE")) {{ record_route(); }}
    $du = "sip:{CALLEE}:{SIP}";
    t_relay();
}}
"#
    ))
}

/// Waits until somebody is bound to an address's SIP port.
fn wait_for_port(ip: Ipv4Addr) -> io::Result<()> {
    let wanted = format!("{:08X}:{SIP:04X}", u32::from_le_bytes(ip.octets()));
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(Path::new("/proc/net/udp"))?.contains(&wanted) {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("nobody listens on {ip}:{SIP}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Calls of a trunk go to the PBX.
pub(super) fn settings() -> Settings {
    let zone = |id, name: &str, kind, address: Ipv4Addr| Zone {
        id: ZoneId(id),
        name: name.to_owned(),
        kind,
        addresses: vec![IpAddr::V4(address)],
        networks: Vec::new(),
        policy: ZonePolicy::default(),
    };
    let listener = |zone| Listener {
        zone: ZoneId(zone),
        transport: Transport::Udp,
        port: SIP,
        certificates: Vec::new(),
        origins: Vec::new(),
    };
    Settings {
        revision: 1,
        domain: "bench.test".to_owned(),
        zones: vec![
            zone(0, "external", ZoneKind::External, OUTSIDE),
            zone(1, "internal", ZoneKind::Internal, INSIDE),
        ],
        listeners: vec![listener(0), listener(1)],
        registrar: Some(Registrar {
            zone: ZoneId(1),
            addresses: vec![SocketAddr::from((CALLEE, SIP))],
            named: None,
            transport: Transport::Udp,
            large_requests_by_tcp: true,
            tls: None,
        }),
        trunks: vec![Trunk {
            name: "trunk".to_owned(),
            zone: ZoneId(0),
            addresses: vec![SocketAddr::from((CALLER, SIP))],
            named: None,
            transport: Transport::Udp,
            large_requests_by_tcp: true,
            tls: None,
            registration: None,
            policy: TrunkPolicy::default(),
        }],
        routes: vec![Route {
            name: "in".to_owned(),
            from: vec![Origin::Trunk("trunk".to_owned())],
            called: Called::Number(NumberPattern {
                prefix: "+4930555".to_owned(),
                digits_min: 4,
                digits_max: 4,
                range: None,
            }),
            conditions: RouteConditions::default(),
            strip: 8,
            prepend: String::new(),
            action: RouteAction::Registrar,
        }],
        policies: Vec::new(),
        collector: None,
        name_servers: Vec::new(),
        registration: broker_proto::settings::Registration::default(),
        account: Caps::default(),
        limits: Limits {
            calls: 50_000,
            calls_per_source: 50_000,
            call_rate: 1_000_000,
            registrations: 1000,
            connections: 100,
            message_octets: 65_535,
            media_timeout_seconds: 3600,
            call_seconds: 3600,
            handshake_seconds: 10,
            idle_connection_seconds: 3600,
            session_expires_seconds: 0,
            min_se_seconds: 90,
        },
        lab: true,
    }
}
