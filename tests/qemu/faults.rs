//! Ends of every kind: the power button, the menu, a plug that is pulled at the worst moment, a configuration that is broken.

use std::time::Duration;

use e2e::{
    api,
    lab::product::API_TOKEN,
    machine::{self, Machine, doors_are_open},
};

use crate::{
    MachineTest,
    closed::codes,
    house::{BOOT, House, await_doors, await_health, laboratory},
};

pub const TESTS: &[MachineTest] = &[
    ("the_power_button_ends_the_machine_cleanly", power_button),
    (
        "after_a_power_cut_the_configuration_and_an_intact_journal_are_there",
        power_cut,
    ),
    (
        "a_power_cut_during_the_first_commit_leaves_all_of_it_or_nothing",
        cut_in_commit,
    ),
    (
        "a_broken_document_is_explained_and_the_box_stays_closed",
        broken_at_first,
    ),
    (
        "beside_a_broken_document_the_last_good_one_runs",
        broken_later,
    ),
];

/// Longest orderly end.
const END: Duration = Duration::from_secs(30);
/// Time in which a box that must stay closed is knocked at.
const STAYS: Duration = Duration::from_secs(3);

fn power_button(house: &House) {
    let mut machine = house.fresh("button", Some(&laboratory()));
    await_doors(&house.names, &machine);
    await_health(&house.names);
    machine.power_button();
    let status = machine.wait_until_off(END);
    assert!(status.success(), "{status}");
    // The journal knows that this end was orderly.
    let machine = house.again("button", None);
    await_doors(&house.names, &machine);
    await_health(&house.names);
    let codes = journal(house);
    let place = |code: &str| codes.iter().position(|own| own == code);
    assert!(
        place("stopping").is_some() && place("stopping") < codes.iter().rposition(|c| c == "ready"),
        "{codes:?}"
    );
}

fn power_cut(house: &House) {
    let machine = house.fresh("cut", Some(&laboratory()));
    await_doors(&house.names, &machine);
    await_health(&house.names);
    machine.cut_power();
    // Nothing is offered this time: what runs comes from the disk.
    let machine = house.again("cut", None);
    await_doors(&house.names, &machine);
    await_health(&house.names);
    let codes = journal(house);
    assert!(
        codes.iter().filter(|code| *code == "ready").count() >= 2,
        "records of the first start are lost: {codes:?}"
    );
}

fn cut_in_commit(house: &House) {
    // The configuration is stored between these two lines.
    let moments = [
        ("init: Gatehouse ", Duration::ZERO),
        ("init: Gatehouse ", Duration::from_millis(30)),
        ("init: Gatehouse ", Duration::from_millis(80)),
        ("init: Gatehouse ", Duration::from_millis(200)),
        ("is revision 1", Duration::ZERO),
    ];
    let (mut kept, mut lost) = (0, 0);
    for (line, later) in moments {
        let machine = house.fresh("commit", Some(&laboratory()));
        machine.wait_for_line(line, BOOT);
        // A moment after a line that was seen: the cut is to fall anywhere in the commit.
        std::thread::sleep(later);
        machine.cut_power();
        let machine = house.again("commit", None);
        let mut wizard = false;
        let decided = api::eventually(BOOT, || {
            wizard = machine.screen().contains("1/11");
            wizard || doors_are_open(&house.names)
        });
        assert!(decided, "{}", machine.screen());
        assert!(
            !machine.screen().contains("passed over") && !machine.screen().contains("cannot be"),
            "{}",
            machine.screen()
        );
        if wizard {
            assert!(line != "is revision 1", "a stored configuration is lost");
            lost += 1;
        } else {
            await_health(&house.names);
            let _ = journal(house);
            kept += 1;
        }
    }
    println!("  5 cuts: {kept} times the whole configuration, {lost} times none; never a part");
}

fn broken_at_first(house: &House) {
    let broken = machine::configuration("broken", |text| {
        text.replace("service = \"sip-tcp\"", "service = \"sip-tpc\"")
    })
    .unwrap();
    let machine = house.fresh("broken", Some(&broken));
    machine.wait_for("1/11", BOOT);
    machine.wait_for("sip-tpc", Duration::from_secs(20));
    explains(&machine);
    let opened = api::eventually(STAYS, || doors_are_open(&house.names));
    assert!(!opened, "a broken configuration opened a door");
}

/// The console says where, which key, and what would be right, once the page is drawn to its end.
fn explains(machine: &Machine) {
    let words = [
        "gatehouse.toml:",
        "listener",
        "service",
        "sip-tpc",
        "sip-tcp",
    ];
    let said = api::eventually(Duration::from_secs(10), || {
        let screen = machine.screen();
        let text: String = screen.split_whitespace().collect::<Vec<_>>().join(" ");
        words.iter().all(|word| text.contains(word))
    });
    assert!(said, "{words:?} are not all said:\n{}", machine.screen());
}

fn broken_later(house: &House) {
    let machine = house.fresh("later", Some(&laboratory()));
    await_doors(&house.names, &machine);
    machine.cut_power();
    let broken = machine::configuration("broken-later", |text| {
        text.replace("service = \"sip-tcp\"", "service = \"sip-tpc\"")
    })
    .unwrap();
    let machine = house.again("later", Some(&broken));
    await_doors(&house.names, &machine);
    await_health(&house.names);
    machine.wait_for("sip-tpc", Duration::from_secs(20));
    explains(&machine);
}

/// Codes of all records; the journal must say of itself that it is whole.
fn journal(house: &House) -> Vec<String> {
    let answer = api::request(
        &house.names,
        "GET",
        "/api/v1/records?limit=500",
        Some(API_TOKEN),
    )
    .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let codes = codes(&answer.json);
    assert!(
        !codes.iter().any(|code| code == "journal-chain-broken"),
        "{codes:?}"
    );
    codes
}
