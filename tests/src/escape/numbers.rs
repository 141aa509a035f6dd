//! Every system call by every entry: x86-64 by number, x32 by its bit, i386 by `int 0x80`. Outside the list the process
//! must die, whatever the arguments. (Allowed numbers are not tried here; `arguments` tries them with what their
//! conditions forbid.)

use std::collections::BTreeSet;

use sandbox::{
    Profile,
    probe::{self, Scratch},
};

use super::attack::{Attack, Refusal, worked};

/// Highest number tried: well above the newest call of Linux 6.18 (470).
const MOST: i64 = 600;
/// x32 has calls of its own from 512 to 547; they lie below this too.
const MOST_X32: i64 = 600;
/// Highest i386 number tried.
const MOST_I386: i64 = 480;

/// `uretprobe`, `uprobe`: since Linux 6.14 the kernel looks at no list for them.
const PASSED_BY: [i64; 2] = [335, 336];

/// All of them.
pub fn attacks(profile: &Profile) -> Vec<Attack> {
    let allowed: BTreeSet<i64> = profile
        .allowed()
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    let mut attacks = Vec::new();
    // Also what is no number at all: negative ones, and those that only their high half makes large.
    let strange = [
        -1,
        i64::from(i32::MIN),
        i64::MAX,
        i64::from(u32::MAX),
        0x7fff_ffff,
        0x8000_0000,
    ];
    for number in (0..=MOST)
        .filter(|number| !allowed.contains(number))
        .chain(strange)
    {
        let mut scratch = Scratch::default();
        let place = scratch.address();
        attacks.push(Attack {
            group: "system calls, x86-64",
            name: format!("number {number}"),
            sealed: true,
            refusal: if PASSED_BY.contains(&number) {
                Refusal::DeathOrKernel
            } else {
                Refusal::Death
            },
            run: Box::new(move || {
                let result = probe::call(number, [place, place, 64, 0, 0, 0]);
                drop(scratch);
                worked(result)
            }),
        });
    }
    for number in 0..=MOST_X32 {
        let entry = number | probe::X32_BIT;
        attacks.push(Attack::call(
            "system calls, x32",
            format!("number {number}"),
            entry,
            [0; 6],
        ));
    }
    for number in 0..=MOST_I386 {
        attacks.push(Attack {
            group: "system calls, i386",
            name: format!("number {number}"),
            sealed: true,
            refusal: Refusal::DeathOrFault,
            run: Box::new(move || worked(probe::call_i386(number, [0; 5]))),
        });
    }
    attacks
}
