//! The long run: calls through our whole sbc process at a share of what one core is good for, for as long as is asked. Its
//! memory must be at the end what it was after the first tenth.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    cpu, memory,
    product::Product,
    sip::{Callee, call, settings},
};

/// Calls of the run that tells what a call costs.
const PROBE: (u32, u32) = (200, 2_000);
/// Of one core.
const LOAD: f64 = 0.6;
/// Growth after the first tenth that is none: pages that were touched late.
const SLACK: f64 = 1.05;

/// Runs; the table goes to standard output, the result is for the JSON line.
///
/// # Errors
/// When sipp or the sbc fail, when calls fail, or when the memory grew.
pub fn run(time: Duration) -> io::Result<Value> {
    let folder = tempfile::tempdir()?;
    let _callee = Callee::start(&folder)?;
    let product = Product::start(settings())?;
    let used = cpu::time(product.pid())?;
    let (rate, calls) = PROBE;
    call("probe", rate, calls, &folder)?;
    let spent = cpu::time(product.pid())?.saturating_sub(used).as_secs_f64();
    let rate = (LOAD * f64::from(calls) / spent.max(0.01)) as u32;
    println!("calls at {rate} a second for {} s", time.as_secs());
    let begun = Instant::now();
    let (mut settled, mut failed, mut succeeded) = (None, 0, 0);
    let mut most = 0;
    let before = cpu::time(product.pid())?;
    while begun.elapsed() < time {
        let [good, bad, _] = call("portion", rate, rate * 30, &folder)?;
        succeeded += good;
        failed += bad;
        let resident = memory::resident(product.pid())?;
        most = most.max(resident);
        let elapsed = begun.elapsed();
        let load = cpu::time(product.pid())?
            .saturating_sub(before)
            .as_secs_f64()
            / elapsed.as_secs_f64();
        println!(
            "{:>6} s  {:>10} calls  {failed} failed  {:>8} KiB  {load:.2} of a core",
            elapsed.as_secs(),
            succeeded,
            resident / 1024
        );
        if elapsed * 10 >= time && settled.is_none() {
            settled = Some(resident);
        }
    }
    let settled = settled.unwrap_or(most);
    let result = json!({
        "rate": rate,
        "succeeded": succeeded,
        "failed": failed,
        "octets_settled": settled,
        "octets_most": most,
    });
    if failed > 0 || most as f64 > settled as f64 * SLACK {
        return Err(io::Error::other(format!("it did not hold: {result}")));
    }
    Ok(result)
}
