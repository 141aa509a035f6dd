//! The promised figures of the image: boot to ready, the guest's memory when idle, size.

use std::{
    fs,
    time::{Duration, Instant},
};

use e2e::{
    api,
    figures::Figures,
    machine::{self, Machine, Start, doors_are_open},
};

use crate::MachineTest;
use crate::house::{BOOT, House, laboratory};

pub const TESTS: &[MachineTest] = &[
    ("an_idle_guest_needs_at_most_256_mib", memory),
    ("the_image_has_at_most_64_mib_packed", size),
    ("boot_to_ready_without_and_with_firmware", boot),
];

/// Aims of the product.
const MEMORY_MIB: u64 = 256;
const PACKED_MIB: f64 = 64.0;
/// Time in which nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// Starts of each kind.
const STARTS: usize = 3;

fn memory(house: &House) {
    house.with_running(|machine| {
        let (total, available) = machine.memory_mib();
        let processes = api::get(&house.names, "/api/v1/processes");
        let mut sum = 0;
        let mut told = Vec::new();
        for process in processes.as_array().unwrap() {
            let kib = process["rss_kib"].as_u64().unwrap_or(0);
            sum += kib;
            told.push(format!("{} {kib}", process["name"].as_str().unwrap_or("?")));
        }
        println!(
            "  idle: {} MiB of {total} used; processes {} MiB resident in sum (KiB: {})",
            total - available,
            sum / 1024,
            told.join(", ")
        );
        assert!(total - available <= MEMORY_MIB);
        // What spins shows here: an idle guest leaves its processors alone.
        let before = machine.processor_time();
        std::thread::sleep(IDLE);
        let used = (machine.processor_time() - before).as_secs_f64() / IDLE.as_secs_f64();
        println!(
            "  idle: {:.0} % of one of the host's processors, emulation included",
            used * 100.0
        );
        assert!(used < 0.8, "something in the guest does not rest");
    });
}

fn size(_: &House) {
    let folder = machine::image();
    let mib = |name: &str| {
        fs::metadata(folder.join(name)).map_or(0.0, |file| file.len() as f64 / 1_048_576.0)
    };
    // The system is one EFI file, whose initial file system is packed already; the qcow2 form is packed as a whole.
    let (system, packed) = (mib("gatehouse.efi"), mib("gatehouse.qcow2"));
    println!(
        "  system {system:.1} MiB (gatehouse.efi), packed disk image {packed:.1} MiB (gatehouse.qcow2)"
    );
    assert!(system > 0.0 && system <= PACKED_MIB && packed <= PACKED_MIB);
}

fn boot(house: &House) {
    house.end_running();
    let config = laboratory();
    let secrets = machine::secrets().unwrap();
    for direct in [true, false] {
        let mut times = Vec::new();
        for run in 0..STARTS {
            let start = Start {
                name: if direct {
                    "boot-direct"
                } else {
                    "boot-firmware"
                },
                direct,
                config: Some((config.as_path(), secrets.as_path())),
                // The first start lays the data partition out and stores the configuration; the others find it.
                fresh: run == 0,
            };
            let began = Instant::now();
            let machine = Machine::start(&house.names, &start).unwrap();
            let open = api::eventually(BOOT, || doors_are_open(&house.names));
            assert!(open, "{}", machine.screen());
            times.push(began.elapsed());
            machine.cut_power();
        }
        let first: Duration = times[0];
        println!(
            "  power to open doors {}: first start {:.1} s; {}",
            if direct {
                "without firmware"
            } else {
                "through UEFI"
            },
            first.as_secs_f64(),
            Figures::of(times)
        );
    }
}
