//! End to end in the laboratory: the product as `make lab` starts it, between real namespaces, real telephones, a real PBX
//! and attackers. One product for all tests; each begins with `lab/reset`. Needs root; without, it says so.

// Tests fail loudly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod calls;
mod closed;
mod faults;
mod interop;
mod large;
mod media;
mod peers;
mod protos;
mod secure;
mod told;
mod torture;

use std::process::ExitCode;

use e2e::{
    api,
    figures::{Test, run},
    lab::{
        product,
        topology::{self, Names},
    },
};

/// A named test of the laboratory.
pub type LabTest = (&'static str, fn(&Lab));

/// The same, with its laboratory.
type Bound<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// What every test gets.
pub struct Lab {
    /// Namespaces.
    pub names: Names,
}

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the laboratory needs root");
        return ExitCode::SUCCESS;
    }
    let lab = Lab {
        names: Names::default(),
    };
    product::down();
    if let Err(error) = topology::up(&lab.names)
        .and_then(|()| product::start(&lab.names, &product::configuration()))
    {
        eprintln!("the laboratory does not come up: {error}");
        return ExitCode::FAILURE;
    }
    let all: Vec<LabTest> = [
        closed::TESTS,
        calls::TESTS,
        media::TESTS,
        // Before those that leave requests behind, which are sent again for half a minute.
        told::TESTS,
        torture::TESTS,
        protos::TESTS,
        peers::TESTS,
        large::TESTS,
        secure::TESTS,
        interop::TESTS,
        faults::TESTS,
    ]
    .into_iter()
    .flatten()
    // Long, and with a telephone that Debian does not have: `make interop`.
    .chain(
        interop::ALL
            .iter()
            .filter(|_| std::env::var_os("GATEHOUSE_INTEROP").is_some()),
    )
    .copied()
    .collect();
    let bound: Vec<Bound<'_>> = all
        .into_iter()
        .map(|(name, test)| {
            let lab = &lab;
            let with_reset: Box<dyn Fn() + '_> = Box::new(move || {
                api::reset(&lab.names);
                test(lab);
            });
            (name, with_reset)
        })
        .collect();
    let tests: Vec<Test<'_>> = bound
        .iter()
        .map(|(name, test)| (*name, test.as_ref()))
        .collect();
    let passed = run(&tests);
    product::down();
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
