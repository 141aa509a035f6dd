//! The image as shipped, in QEMU between the laboratory's namespaces: closed from power-on, the wizard on the serial line,
//! calls through the guest, power that fails. Needs root and a finished image (`make qemu`); without root it says so.
//!
//! The namespaces have names of their own, so that a laboratory can stay up beside; nothing is left behind.

// Tests fail loudly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::type_complexity)]

mod calls;
mod closed;
mod faults;
mod figures;
mod house;
mod probes;
mod wire;
mod wizard;

use std::process::ExitCode;

use e2e::figures::{Test, run};

use house::House;

/// A named test of the machine.
type MachineTest = (&'static str, fn(&House));

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: namespaces and taps need root");
        return ExitCode::SUCCESS;
    }
    let house = match House::build() {
        Ok(house) => house,
        Err(error) => {
            eprintln!("the machine's network does not come up: {error}");
            return ExitCode::FAILURE;
        }
    };
    let all: Vec<MachineTest> = [
        closed::TESTS,
        calls::TESTS,
        figures::TESTS,
        wizard::TESTS,
        faults::TESTS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    let bound: Vec<(&str, Box<dyn Fn() + '_>)> = all
        .into_iter()
        .map(|(name, test)| {
            let house = &house;
            let bound: Box<dyn Fn() + '_> = Box::new(move || test(house));
            (name, bound)
        })
        .collect();
    let tests: Vec<Test<'_>> = bound
        .iter()
        .map(|(name, test)| (*name, test.as_ref()))
        .collect();
    let passed = run(&tests);
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
