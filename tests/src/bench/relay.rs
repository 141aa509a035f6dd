//! The relay bench: the same calls by the same generator through our media threads, through rtpengine in user space, and
//! straight through the loopback (the floor). Rounds alternate, the median round of each counts.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::{cpu, generator::Generator, rtpengine::Rtpengine, subject::Subject};

/// Where a call's two telephones send to.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The caller.
    pub a: SocketAddr,
    /// The callee.
    pub b: SocketAddr,
}

/// A relay that is set up and waits for packets.
pub trait Relay {
    /// For the table.
    fn name(&self) -> &'static str;
    /// Whose processor time counts.
    fn pid(&self) -> u32;
    /// Call by call.
    fn ports(&self) -> &[Ports];
}

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Calls at once.
    pub calls: usize,
    /// Measured time of a round.
    pub time: Duration,
    /// Rounds of each relay.
    pub rounds: usize,
}

/// One round of one relay.
#[derive(Clone, Debug)]
struct Round {
    name: &'static str,
    /// Processor seconds per million packets that arrived.
    cpu: f64,
    sent: u64,
    received: u64,
    p50: Duration,
    p99: Duration,
}

/// Measures; the table goes to standard output, the result is for the JSON line.
///
/// # Errors
/// When a relay or the generator fails; rtpengine must be installed.
pub fn run(plan: Plan) -> io::Result<Value> {
    let generator = Generator::new()?;
    let phones = generator.phones();
    let floor = floor(&generator, plan)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        ours.push(round(
            &generator,
            &Subject::start(plan.calls, phones)?,
            plan.time,
        )?);
        theirs.push(round(
            &generator,
            &Rtpengine::start(plan.calls, phones)?,
            plan.time,
        )?);
    }
    let (ours, theirs) = (median(ours)?, median(theirs)?);
    println!(
        "relay of {} G.711 calls, {} packets/s, median of {} rounds of {} s",
        plan.calls,
        plan.calls * 100,
        plan.rounds,
        plan.time.as_secs()
    );
    println!(
        "{:<12} {:>18} {:>9} {:>14} {:>14}",
        "", "CPU s/10⁶ packets", "lost", "latency p50", "latency p99"
    );
    for line in [&floor, &ours, &theirs] {
        println!(
            "{:<12} {:>18.2} {:>8.3}% {:>11.0} µs {:>11.0} µs",
            line.name,
            line.cpu,
            line.lost() * 100.0,
            micros(line.p50),
            micros(line.p99)
        );
    }
    let ratio = ours.cpu / theirs.cpu;
    println!("CPU ratio gatehouse/rtpengine: {ratio:.2} (aim: at most 1.0)\n");
    Ok(json!({
        "calls": plan.calls,
        "ratio": ratio,
        "floor": floor.json(),
        "gatehouse": ours.json(),
        "rtpengine": theirs.json(),
    }))
}

impl Round {
    fn lost(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }

    fn json(&self) -> Value {
        json!({
            "cpu_seconds_per_million_packets": self.cpu,
            "sent": self.sent,
            "received": self.received,
            "latency_p50_us": micros(self.p50),
            "latency_p99_us": micros(self.p99),
        })
    }
}

fn round(generator: &Generator, relay: &dyn Relay, time: Duration) -> io::Result<Round> {
    let mut marks = Vec::with_capacity(2);
    let outcome = generator.play(relay.ports(), time, |_| {
        marks.push(cpu::time(relay.pid())?);
        Ok(())
    })?;
    let used = match marks[..] {
        [begin, end] => end.saturating_sub(begin),
        _ => Duration::ZERO,
    };
    Ok(summary(relay.name(), used, outcome))
}

/// The generator sends to itself.
fn floor(generator: &Generator, plan: Plan) -> io::Result<Round> {
    let [a, b] = generator.phones();
    let ports = vec![Ports { a: b, b: a }; plan.calls];
    let outcome = generator.play(&ports, plan.time, |_| Ok(()))?;
    Ok(summary("loopback", Duration::ZERO, outcome))
}

fn summary(name: &'static str, used: Duration, mut outcome: super::generator::Outcome) -> Round {
    outcome.latencies.sort_unstable();
    let at = |share: f64| {
        let place = (outcome.latencies.len() as f64 * share) as usize;
        outcome.latencies.get(place).copied().unwrap_or_default()
    };
    Round {
        name,
        cpu: used.as_secs_f64() * 1e6 / outcome.received.max(1) as f64,
        sent: outcome.sent,
        received: outcome.received,
        p50: at(0.50),
        p99: at(0.99),
    }
}

fn median(mut rounds: Vec<Round>) -> io::Result<Round> {
    rounds.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let middle = rounds.len() / 2;
    rounds
        .into_iter()
        .nth(middle)
        .ok_or_else(|| io::Error::other("no round"))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
