//! The wizard on the serial line of a machine that was never set up, from the first to the last page; then the status page,
//! a call, the self-test and the end by the menu.

use std::time::Duration;

use e2e::{api, machine::Machine, parties::Parties};

use crate::{
    MachineTest,
    calls::answer_bye,
    house::{BOOT, House, await_doors},
    probes::Probes,
    wire::{self, Kind},
};

pub const TESTS: &[MachineTest] = &[(
    "the_wizard_leads_from_the_first_page_to_a_call_and_nothing_listens_before",
    first_boot,
)];

/// The suite tries all it can, in an emulated machine.
const SELF_TEST: Duration = Duration::from_secs(240);
const PASSWORD: &str = "correct horse battery";

fn first_boot(house: &House) {
    house.end_running();
    let captures = wire::capture(&house.names, "wizard");
    let probes = Probes::begin(&house.names);
    let machine = house.fresh("wizard", None);
    machine.wait_for("1/11", BOOT);
    to_review(&machine);
    let fingerprint = review(&machine);
    // Up to here there was no configuration: no link was ever up, so not even ARP was answered.
    let sent = probes.end();
    for (zone, capture) in ["external", "internal", "management"].iter().zip(captures) {
        let frames = capture.end();
        assert!(
            frames.is_empty(),
            "{zone}: {:?} before it was confirmed",
            frames.first()
        );
    }
    println!("  {sent} probes during the wizard, 0 frames of the guest");

    machine.press("Confirm");
    machine.wait_for("The configuration is in force", Duration::from_secs(60));
    machine.sees("certificate SHA-256");
    // Drawn whole before it is read.
    machine.keys("");
    let told: String = machine.screen().split_whitespace().collect();
    assert!(
        told.contains(&fingerprint),
        "{fingerprint} was shown, {told}"
    );
    machine.press("To the status page");
    machine.sees("[ Log in ]").sees("gate-1");
    await_doors(&house.names, &machine);
    machine.wait_for(" ready", Duration::from_secs(60));
    machine.sees("zone external").sees("198.51.100.1/24");
    log_in(&machine);
    call(house);
    network_test(&machine);
    trial(house, &machine);
    self_test(&machine);
    machine
        .press("Power")
        .sees("Live calls end")
        .press_last("Power off");
    let status = machine.wait_until_off(Duration::from_secs(30));
    assert!(status.success(), "{status}");

    // What was confirmed is there at the next start, without a wizard.
    let machine = house.again("wizard", None);
    await_doors(&house.names, &machine);
    machine.wait_for("gate-2", Duration::from_secs(20));
    let raw = machine.transcript();
    assert!(!raw.contains(PASSWORD), "a password came over the line");
}

/// Every page, with a detour into German, wrong input, steps back, and Ctrl-C.
fn to_review(machine: &Machine) {
    machine.keys("");
    machine.sees("Language").choose("Language", "Deutsch");
    machine.sees("Weiter").press("Weiter");
    machine.sees("Rechnername").press("Zurück");
    machine.choose("Sprache", "English").press("Next");

    machine.fill("Host name", "two words").press("Next");
    machine.sees("! is not a host name").sees("Please correct");
    machine.fill("Host name", "gate-1");
    machine
        .keys("\x03")
        .sees("What you typed is kept")
        .press("Go on");
    machine.sees("gate-1");
    machine
        .keys("\x03")
        .press("Leave")
        .sees("Nothing is listening");
    machine.press("Go on with").sees("gate-1").press("Next");

    machine.sees("Ports and zones").sees("virtio");
    machine.choose("External zone", &port(0));
    machine.choose("Internal zone", &port(1));
    machine.choose("Management zone", &port(2)).press("Next");

    machine.sees("External zone");
    machine.fill("address/length", "198.51.100.1/24");
    machine
        .fill("default gateway", "198.51.100.254")
        .press("Next");
    machine.sees("Internal zone");
    machine.escape().sees("198.51.100.254").press("Next");
    machine
        .sees("Internal zone")
        .fill("address/length", "192.0.2.1/24")
        .press("Next");
    machine
        .sees("Management zone")
        .fill("address/length", "203.0.113.1/24")
        .press("Next");
    machine.sees("Servers").press("Next");
    machine
        .fill("Password", PASSWORD)
        .fill("Once more", PASSWORD)
        .press("Next");
    machine.sees("Telephony").fill("SIP domain", "lab.test");
    machine.fill("PBX addresses", "192.0.2.10");
    machine.fill("Internal numbers", "1000-1999").press("Next");
    machine
        .sees("Carrier")
        .fill("Carrier addresses", "198.51.100.20");
    machine.fill("Own number", "+4930555").press("Next");
}

/// The card's address tells a port from the others; names depend on the kernel's order.
fn port(number: usize) -> String {
    format!("eth{number} {}", image_builder::qemu::CARDS[number].mac)
}

/// The fingerprint that the page shows before anything is confirmed.
fn review(machine: &Machine) -> String {
    machine.sees("Review").sees("11/11").sees("Please read");
    // Key and certificate are made meanwhile; the button stands when they are there.
    machine.wait_for("[ Confirm", Duration::from_secs(60));
    // It stands at the top.
    let screen = machine.screen();
    let mut seen = String::new();
    for _ in 0..8 {
        seen.push_str(&machine.screen());
        machine.keys("\x1b[6~");
    }
    for words in [
        "Zone external",
        "198.51.100.1/24",
        "Answers: SIP (UDP 5060)",
        "SIP-TLS (TCP 5061)",
        "Nothing is forwarded",
    ] {
        assert!(
            seen.contains(words),
            "`{words}` is not in the review:\n{seen}"
        );
    }
    let lines = screen
        .lines()
        .skip_while(|line| !line.contains("to be compared"))
        .skip(1)
        .take(2);
    let halves: Vec<&str> = lines.map(str::trim).collect();
    let fingerprint = halves.join(":");
    assert_eq!(fingerprint.len(), 32 * 3 - 1, "{screen}");
    fingerprint
}

/// A wrong password first.
fn log_in(machine: &Machine) {
    machine
        .press("Log in")
        .fill("Password", "wrong horse battery");
    machine.press("Log in");
    machine.wait_for("That is not the password", Duration::from_secs(30));
    // Right or wrong: before the second is over, none is looked at.
    let opened = api::eventually(Duration::from_secs(60), || {
        machine.fill("Password", PASSWORD);
        assert!(!machine.screen().contains("horse"));
        machine.press("Log in");
        api::eventually(Duration::from_secs(30), || {
            !machine.screen().contains("being checked")
        });
        machine.screen().contains("Reconfigure")
    });
    assert!(opened, "no log-in:\n{}", machine.screen());
}

fn network_test(machine: &Machine) {
    machine.press("Network test");
    machine.wait_for("[ Back ]", Duration::from_secs(60));
    let screen = machine.screen();
    println!("{screen}");
    for words in [
        "external: cable connected",
        "198.51.100.254: answers",
        "192.0.2.10: answers",
    ] {
        assert!(screen.contains(words), "`{words}` is missing:\n{screen}");
    }
    machine.press("Back").sees("Reconfigure");
}

/// Another name for the box, which nobody keeps: a call outlives both changes. Then again, and it is kept.
fn trial(house: &House, machine: &Machine) {
    let mut parties = Parties::new(&house.names);
    let mut call = parties.connect();
    rename(machine);
    // They talk all the while: under the new configuration, through the change back, and under the old one.
    let back = api::eventually(Duration::from_secs(150), || {
        parties.talk(&call, Duration::from_secs(2));
        machine.screen().contains("Nobody kept")
    });
    assert!(back, "{}", machine.screen());
    machine.press("To the status page").sees("gate-1");
    parties.talk(&call, Duration::from_secs(2));
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    answer_bye(&parties.pbx, &parties.trunk);
    rename(machine);
    machine.press("Keep it").sees("kept and stored");
    machine.press("To the status page").sees("gate-2");
}

fn rename(machine: &Machine) {
    machine.press("Reconfigure").press("Next");
    machine.fill("Host name", "gate-2");
    for _ in 0..9 {
        machine.press("Next");
    }
    machine.sees("Changes:").press("Confirm");
    machine.wait_for("Keep this configuration?", Duration::from_secs(60));
    machine.sees("comes back by itself in");
}

fn call(house: &House) {
    let captures = wire::capture(&house.names, "wizard-call");
    let mut parties = Parties::new(&house.names);
    let mut call = parties.connect();
    parties.talk(&call, Duration::from_secs(2));
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    answer_bye(&parties.pbx, &parties.trunk);
    let relayed = captures.map(|capture| {
        let frames = capture.end();
        let is_media = |kind| matches!(kind, Kind::Udp(port) if port >= 16_384);
        frames.iter().filter(|frame| is_media(frame.kind)).count()
    });
    println!(
        "  a call: {} packets of sound outward, {} inward",
        relayed[0], relayed[1]
    );
    assert!(relayed[0] > 80 && relayed[1] > 80 && relayed[2] == 0);
}

fn self_test(machine: &Machine) {
    machine.press("Self-test").sees("Please wait");
    machine.wait_for("[ Back ]", SELF_TEST);
    let mut screen = machine.screen();
    assert!(!screen.contains("That failed"), "{screen}");
    for _ in 0..4 {
        machine.keys("\x1b[6~");
        screen.push_str(&machine.screen());
    }
    assert!(screen.contains("every attempt was refused"), "{screen}");
    for line in screen
        .lines()
        .filter(|line| line.contains("every attempt"))
        .take(1)
    {
        println!("  self-test: {}", line.trim());
    }
    machine.press("Back").sees("Reconfigure");
}
