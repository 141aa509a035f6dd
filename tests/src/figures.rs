//! Figures of a series of measurements, and the run of a list of named tests with one set-up.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// Median, 99th percentile and maximum.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Half are at most this.
    pub p50: Duration,
    /// 99 of 100 are at most this.
    pub p99: Duration,
    /// The largest.
    pub max: Duration,
    /// How many were measured.
    pub runs: usize,
}

impl Figures {
    /// Of a series; all zero for an empty one.
    #[must_use]
    pub fn of(mut series: Vec<Duration>) -> Self {
        series.sort_unstable();
        let at = |share: f64| {
            let place = ((series.len() as f64 * share).ceil() as usize).saturating_sub(1);
            series.get(place).copied().unwrap_or_default()
        };
        Self {
            p50: at(0.50),
            p99: at(0.99),
            max: series.last().copied().unwrap_or_default(),
            runs: series.len(),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms, maximum {:.1} ms over {} runs",
            ms(self.p50),
            ms(self.p99),
            ms(self.max),
            self.runs
        )
    }
}

/// A named test.
pub type Test<'a> = (&'a str, &'a dyn Fn());

/// Runs the tests in order (those whose name contains the first argument of the command line, if there is one), prints them
/// as `cargo test` does, and says whether all passed.
#[must_use]
pub fn run(tests: &[Test<'_>]) -> bool {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let chosen: Vec<&Test<'_>> = tests
        .iter()
        .filter(|(name, _)| name.contains(&filter))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    let begin = Instant::now();
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        let word = if passed { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
        if !passed {
            failed.push(*name);
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    for name in &failed {
        println!("failed: {name}");
    }
    println!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        chosen.len() - failed.len(),
        failed.len(),
        tests.len() - chosen.len(),
        begin.elapsed().as_secs_f64()
    );
    failed.is_empty()
}
