//! One scenario from a seed: what is done, and what must be true when all is over.

use std::time::Duration;

use super::{
    fabric::{FAIR, Fabric, Weather},
    pairs,
    peer::{Dialog, Later, Plan, State},
};

const NEAR: usize = 0;
const FAR: usize = 1;

/// Longer than anybody lets it ring, or repeats anything.
const REST: Duration = Duration::from_secs(300);

/// What one scenario came to, for the sum of all.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    calls: u64,
    answered: u64,
    datagrams: u64,
    /// Connections between the cores that broke.
    broken: u64,
    forked: u64,
    reinvites: u64,
    updates: u64,
    cancelled: u64,
    transfers: u64,
    joined: u64,
    /// Pairs that talked when all had come to rest.
    pairs: u64,
    joined_pairs: u64,
}

/// One call of a scenario.
struct Call {
    key: String,
    caller: usize,
    index: usize,
    cancelled: bool,
}

/// A random call: its callee's plan, and what both ends do with it.
fn begin(fabric: &mut Fabric, number: u32, sum: &mut Sum) -> Call {
    let caller = if fabric.roll(2) == 0 { NEAR } else { FAR };
    let callee = 1 - caller;
    let key = format!("+4940{number:07}");
    let forks = [0, 1, 1, 1, 2, 3][fabric.roll(6) as usize];
    let rings = (0..forks)
        .map(|_| (fabric.roll(900), fabric.roll(3) == 0))
        .collect();
    let answer = match fabric.roll(10) {
        0 => None,
        1 => Some((fabric.roll(4000), 486)),
        2 => Some((
            fabric.roll(4000),
            [302, 404, 480, 500, 503, 603][fabric.roll(6) as usize],
        )),
        _ => Some((fabric.roll(4000), 200)),
    };
    let second = (forks > 1 && fabric.roll(3) == 0).then(|| fabric.roll(400));
    sum.forked += u64::from(forks > 1);
    fabric.peers[callee].plans.insert(
        key.clone(),
        Plan {
            rings,
            answer,
            second,
        },
    );
    let offer = fabric.roll(5) != 0;
    let now = fabric.now;
    let called = format!("+49305551{:03}", fabric.roll(190) + 1);
    let index = fabric.peers[caller].call(now, &key, &called, offer);
    let mut cancelled = answer.is_none();
    if cancelled || fabric.roll(5) == 0 {
        // Before anything was heard, while it rings, and about when it is answered.
        let when = fabric.millis(6000);
        fabric.peers[caller].after(now, when, Later::Cancel(index));
        cancelled = true;
    }
    if fabric.roll(3) == 0 {
        let when = fabric.millis(12_000);
        fabric.peers[caller].after(now, when, Later::HangUp(index));
        cancelled = true;
    }
    for _ in 0..fabric.roll(4) {
        let when = fabric.millis(10_000);
        let what = in_dialog(fabric, index, sum);
        fabric.peers[caller].after(now, when, what);
    }
    fabric.collect();
    Call {
        key,
        caller,
        index,
        cancelled,
    }
}

fn in_dialog(fabric: &mut Fabric, index: usize, sum: &mut Sum) -> Later {
    match fabric.roll(5) {
        0 => Later::Request(index, "OPTIONS"),
        1 => Later::Request(index, "INFO"),
        4 => {
            sum.updates += 1;
            Later::Update(index, "sendrecv")
        }
        more => {
            sum.reinvites += 1;
            Later::Reinvite(index, if more == 2 { "sendonly" } else { "sendrecv" })
        }
    }
}

/// What a callee does with the dialogs that it has: at about the same time as the caller, so that things cross.
fn stir(fabric: &mut Fabric, sum: &mut Sum) {
    let now = fabric.now;
    for end in [NEAR, FAR] {
        let talking: Vec<usize> = (0..fabric.peers[end].dialogs.len())
            .filter(|index| fabric.peers[end].dialogs[*index].state == State::Talking)
            .collect();
        for index in talking {
            let when = fabric.millis(2000);
            let what = match fabric.roll(10) {
                0 => Later::HangUp(index),
                1..=3 => in_dialog(fabric, index, sum),
                4 | 5 if fabric.transfers => {
                    sum.transfers += 1;
                    Later::Refer(index, fabric.roll(2) == 0)
                }
                _ => continue,
            };
            fabric.peers[end].after(now, when, what);
        }
    }
}

/// Plays the scenario of a seed. `Err`: what is wrong afterwards.
fn play(seed: u64, loud: bool, sum: &mut Sum) -> Result<(), String> {
    let mut fabric = Fabric::new(seed);
    fabric.loud = loud;
    let worst = [0, 50, 150, 300][fabric.roll(4) as usize];
    fabric.weather = Weather {
        lost: fabric.roll(worst + 1),
        doubled: fabric.roll(worst + 1),
        late: fabric.roll(worst + 1),
    };
    fabric.transfers = fabric.roll(3) == 0;
    // A message that was on its way when its connection broke is lost for good: who talks to whom is then not judged.
    fabric.breaks = if seed % 9 == 1 { worst / 3 } else { 0 };
    let mut calls = Vec::new();
    for number in 0..1 + fabric.roll(3) {
        calls.push(begin(&mut fabric, number, sum));
        let pause = fabric.millis(3000);
        fabric.run(pause);
        stir(&mut fabric, sum);
    }
    if fabric.roll(20) == 0 {
        fabric.nodes[FAR].miserly = true;
    }
    for _ in 0..4 {
        let pause = fabric.millis(4000);
        fabric.run(pause);
        stir(&mut fabric, sum);
    }
    let mut rest = Ok(0);
    if fabric.roll(2) == 0 {
        // Nobody does anything more, and the network heals: who talks to whom?
        let weather = std::mem::replace(&mut fabric.weather, FAIR);
        fabric.run(REST);
        if fabric.broken == 0 {
            rest = pairs::judge(&fabric);
        }
        fabric.weather = weather;
        sum.pairs += rest.as_ref().map_or(0, |pairs| *pairs as u64);
        sum.joined_pairs += if fabric.transfers {
            rest.as_ref().map_or(0, |pairs| *pairs as u64)
        } else {
            0
        };
    }
    // Whoever still talks hangs up, some on both ends at once.
    let now = fabric.now;
    for end in [NEAR, FAR] {
        for index in 0..fabric.peers[end].dialogs.len() {
            if fabric.roll(3) > 0 {
                let when = fabric.millis(3000);
                fabric.peers[end].after(now, when, Later::HangUp(index));
            }
        }
    }
    fabric.collect();
    fabric.run(Duration::from_secs(300));
    // What no hang-up reached ends by its longest duration, in fair weather.
    fabric.weather = FAIR;
    fabric.run(Duration::from_secs(2 * 3600));
    sum.calls += calls.len() as u64;
    sum.datagrams += fabric.datagrams;
    sum.broken += fabric.broken;
    verify(&fabric, &calls, sum)?;
    rest.map(drop)
}

/// What must be true when all is over.
fn verify(fabric: &Fabric, calls: &[Call], sum: &mut Sum) -> Result<(), String> {
    for (name, node) in ["near", "far"].into_iter().zip(&fabric.nodes) {
        let left = node.left();
        if !left.is_empty() {
            return Err(format!("{name}: {}", left.join(", ")));
        }
    }
    for peer in &fabric.peers {
        if let Some(dialog) = peer.dialogs.iter().find(|it| it.state != State::Over) {
            return Err(format!("a dialog stays at {}: {dialog:?}", peer.name));
        }
        if !peer.clients.is_empty() || !peer.finals.is_empty() || !peer.unconfirmed.is_empty() {
            let requests: Vec<&str> = peer.clients.iter().map(|it| it.method.as_str()).collect();
            let answers = peer.finals.len();
            return Err(format!(
                "{requests:?} and {answers} answers stay at {}",
                peer.name
            ));
        }
    }
    for call in calls {
        agree(fabric, call, sum).map_err(|wrong| format!("{}: {wrong}", call.key))?;
    }
    Ok(())
}

/// Both ends, and both cores' records, tell the same story of a call.
fn agree(fabric: &Fabric, call: &Call, sum: &mut Sum) -> Result<(), String> {
    let caller = &fabric.peers[call.caller].dialogs[call.index];
    let callees: Vec<&Dialog> = fabric.peers[1 - call.caller]
        .dialogs
        .iter()
        .filter(|dialog| dialog.key == call.key && !dialog.caller)
        .collect();
    let [first, second] = [call.caller, 1 - call.caller].map(|node| {
        let ends = fabric.nodes[node].ends.iter();
        ends.filter(|record| record.calling == call.key)
            .collect::<Vec<_>>()
    });
    sum.answered += u64::from(caller.answered);
    sum.cancelled += u64::from(!caller.answered && call.cancelled);
    if fabric.transfers {
        // Who speaks with whom in the end, and under which names it is recorded, is the transfers' doing.
        sum.joined += u64::from(first.len() > 1 || second.len() > 1 || callees.len() > 3);
        return Ok(());
    }
    if first.len() > 1 || second.len() > 1 {
        return Err(format!("{} and {} records", first.len(), second.len()));
    }
    let answered = |records: &[&broker_proto::journal::CallRecord]| {
        records.iter().any(|record| record.duration_ms.is_some())
    };
    if caller.answered {
        let confirmed = callees.iter().filter(|callee| callee.answered).count();
        if confirmed == 0 {
            return Err("the caller was answered, no callee did".into());
        }
        if !answered(&first) || !answered(&second) {
            return Err("the caller was answered, a record says no".into());
        }
    }
    if answered(&first) && !answered(&second) {
        return Err("the first core was answered, the second not".into());
    }
    let taken_back = call.cancelled || caller.took_back;
    // A refusal is the callee's own word.
    if let (Some(status @ (486 | 603)), false) = (caller.failed, taken_back) {
        let said = callees.iter().any(|callee| callee.failed == Some(status));
        if !said {
            return Err(format!("nobody said {status}"));
        }
    }
    // Nobody loses a call that stood, but by a network that loses too much.
    let stood = callees.iter().any(|callee| callee.confirmed);
    let robbed = fabric.nodes.iter().any(|node| node.miserly) || fabric.broken > 0;
    match caller.failed {
        Some(status) if stood && !taken_back && !robbed && status != 408 => {
            Err(format!("a call that stood was refused with {status}"))
        }
        _ => Ok(()),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "how many scenarios, and which alone, is the tester's to say"
)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Says which seed it was if a scenario panics.
struct Playing(u64);

impl Drop for Playing {
    #[allow(clippy::disallowed_macros, reason = "a failing seed is named")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("GATEHOUSE_SEED={} panicked", self.0);
        }
    }
}

#[test]
#[allow(clippy::disallowed_macros, reason = "the sum of all scenarios is told")]
fn random_calls_through_two_cores_leave_nothing_and_both_ends_agree() {
    let mut sum = Sum::default();
    if let Some(seed) = variable("GATEHOUSE_SEED") {
        let outcome = play(seed, true, &mut sum);
        assert!(outcome.is_ok(), "GATEHOUSE_SEED={seed}: {outcome:?}");
        return;
    }
    let count = variable("GATEHOUSE_SCENARIOS").unwrap_or(500);
    let mut wrong = Vec::new();
    for seed in 0..count {
        let _playing = Playing(seed);
        if let Err(reason) = play(seed, false, &mut sum) {
            wrong.push(format!("GATEHOUSE_SEED={seed}: {reason}"));
        }
    }
    println!("{count} scenarios: {sum:?}");
    assert!(
        wrong.is_empty(),
        "{} of {count} scenarios:\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(20)
            .map(|line| line.chars().take(400).collect())
            .collect::<Vec<String>>()
            .join("\n")
    );
}

#[test]
fn a_scenario_is_the_same_for_the_same_seed() {
    let (mut one, mut two) = (Sum::default(), Sum::default());
    let outcomes = (play(4711, false, &mut one), play(4711, false, &mut two));
    assert_eq!(outcomes.0, outcomes.1);
    assert_eq!(one.datagrams, two.datagrams);
}
