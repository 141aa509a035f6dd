//! The SIP bench: INVITE, 200, ACK, BYE, 200 between two sipp, through our whole sbc process, through Kamailio as a
//! stateful, record-routing proxy, and through Sippy's B2BUA. All get calls at the same rate, or as many as they bear; what
//! counts is how many calls a second of one core's time is good for. Ours is a back-to-back user agent that also opens
//! media for each call; the proxy only passes messages on; the other B2BUA knows signalling alone.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use broker_proto::settings::{
    Called, Caps, Limits, Listener, NumberPattern, Origin, Registrar, Route, RouteAction,
    RouteConditions, Settings, Transport, Trunk, TrunkPolicy, Zone, ZoneId, ZoneKind, ZonePolicy,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    cpu, memory,
    product::Product,
    sip_peers::{Kamailio, Sippy, wait_for_port},
};

pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CALLER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
pub(super) const CALLEE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(super) const SIP: u16 = 5060;
/// What a B2BUA in Python bears beside its caller and callee.
const SIPPY_RATE: u32 = 50;
/// Calls that are held for their memory, and those that come before so that what grows once has grown.
const HELD: u32 = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Measures; the table goes to standard output, the result is for the JSON line. Without `sippy`, its program, the peer of
/// our own kind is left out.
///
/// # Errors
/// When sipp, a peer or the sbc fail or are not there.
pub fn run(plan: Plan, sippy: Option<&Path>) -> io::Result<Value> {
    let folder = tempfile::tempdir()?;
    let callee = Callee::start(&folder)?;
    let (ours, held) = {
        let product = Product::start(settings())?;
        let pid = product.pid();
        let ours = measure("gatehouse", plan, &folder, || cpu::time(pid))?;
        (ours, memory_of_calls(pid, &folder)?)
    };
    let mut lines = vec![ours];
    {
        let kamailio = Kamailio::start(&folder)?;
        lines.push(measure("kamailio", plan, &folder, || {
            cpu::family_time(kamailio.pid())
        })?);
    }
    if let Some(program) = sippy {
        let sippy = Sippy::start(&folder, program)?;
        let plan = Plan {
            rate: plan.rate.min(SIPPY_RATE),
            calls: plan.calls / 6,
        };
        lines.push(measure("sippy", plan, &folder, || cpu::time(sippy.pid()))?);
    }
    drop(callee);
    println!(
        "INVITE-200-BYE, {} calls at {} a second",
        plan.calls, plan.rate
    );
    println!(
        "{:<12} {:>20} {:>10} {:>8} {:>14}",
        "", "calls/s and core", "succeeded", "failed", "retransmitted"
    );
    let mut result = json!({ "rate": plan.rate, "calls": plan.calls, "octets_per_call": held });
    let of_ours = lines.first().map_or(0.0, |ours| ours.calls_per_core);
    for line in &lines {
        println!(
            "{:<12} {:>20.0} {:>10} {:>8} {:>14}",
            line.name, line.calls_per_core, line.succeeded, line.failed, line.retransmitted
        );
        result[line.name] = line.json();
    }
    for line in lines.iter().skip(1) {
        let ratio = of_ours / line.calls_per_core;
        println!("ratio gatehouse/{}: {ratio:.2}", line.name);
        result[format!("ratio_{}", line.name)] = json!(ratio);
    }
    println!("octets for each call that is held ({HELD} at once): {held}\n");
    Ok(result)
}

/// Many calls at the same time: what one takes of the process's memory.
fn memory_of_calls(pid: u32, folder: &TempDir) -> io::Result<u64> {
    let before = memory::resident(pid)?;
    let mut caller = caller(HELD, HELD / 10, HELD, folder)
        .args(["-d", "20000"])
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let mut most = before;
    // They hang up one by one in the end: the highest that was seen is that of all.
    while caller.try_wait()?.is_none() {
        if Instant::now() > deadline {
            let _ = caller.kill();
            return Err(io::ErrorKind::TimedOut.into());
        }
        most = most.max(memory::resident(pid)?);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(most.saturating_sub(before) / u64::from(HELD))
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
pub(super) fn call(name: &str, rate: u32, calls: u32, folder: &TempDir) -> io::Result<[u64; 3]> {
    let statistics = folder.path().join(format!("{name}-{calls}.csv"));
    let status = caller(calls, rate, 20_000, folder)
        .args(["-d", "0", "-trace_stat", "-fd", "1", "-stf"])
        .arg(&statistics)
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

fn caller(calls: u32, rate: u32, at_once: u32, folder: &TempDir) -> Command {
    let mut command = sipp();
    let own = CALLER.to_string();
    command
        .arg(format!("{OUTSIDE}:{SIP}"))
        .args(["-sn", "uac", "-s", "+49305551001"])
        .args(["-i", &own, "-p", &SIP.to_string(), "-mi", &own])
        .args(["-r", &rate.to_string(), "-m", &calls.to_string()])
        .args(["-l", &at_once.to_string(), "-timeout", "120s"])
        .current_dir(folder.path());
    command
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
pub(super) struct Callee(Child);

impl Callee {
    pub(super) fn start(folder: &TempDir) -> io::Result<Self> {
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
