//! Whole calls in the laboratory in memory.

mod calls;
mod events;
mod faults;
mod forks;
mod hand;
mod hiding;
mod hostile;
mod interworking;
mod joined;
mod letters;
mod limits;
mod load;
mod loss;
mod mediasec;
mod multiparts;
mod names;
mod outbound;
mod parting;
mod pickups;
mod policies;
mod races;
mod refreshes;
mod registrar_away;
mod registrations;
mod reinvite;
mod reliable;
mod restarts;
mod routes;
mod sealed;
mod second_tries;
mod session_timers;
mod streams;
mod told;
mod torture;
mod transfers;
mod trunks;
mod updates;

use std::{net::SocketAddr, time::Duration};

use super::{Agent, Script, State, World};

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The PBX: knows 1001, 1002 and 1100, challenges, and takes calls.
pub(super) fn pbx(world: &mut World) -> SocketAddr {
    let accounts = ["1001", "1002", "1100"].map(String::from).to_vec();
    world.add(
        "192.0.2.10:5060",
        "pbx",
        Script {
            accounts,
            challenge: true,
            ..Script::default()
        },
    )
}

pub(super) fn trunk1(world: &mut World) -> SocketAddr {
    world.add(
        "198.51.100.20:5060",
        "+491701234567",
        Script {
            password: false,
            ..Script::default()
        },
    )
}

pub(super) fn alice(world: &mut World) -> SocketAddr {
    world.add("198.51.100.10:5060", "1001", Script::default())
}

/// Alice, registered through the product.
pub(super) fn registered_alice(world: &mut World) -> SocketAddr {
    let alice = alice(world);
    world.act(alice, |agent, now, gateway| {
        agent.register(now, gateway, 3600)
    });
    world.run(seconds(2));
    assert_eq!(world.agent(alice).answers, [("REGISTER".to_owned(), 200)]);
    alice
}

pub(super) fn state(world: &mut World, at: SocketAddr, dialog: usize) -> State {
    world.agent(at).dialogs[dialog].state
}

pub(super) fn dialog(world: &mut World, at: SocketAddr) -> super::agent::Dialog {
    world.agent(at).dialogs.last().expect("a dialog").clone()
}

pub(super) fn hang_up(world: &mut World, at: SocketAddr, dialog: usize) {
    world.act(at, |agent: &mut Agent, now, gateway| {
        agent.hang_up(now, gateway, dialog)
    });
}

/// A trunk's call to an account, answered: PBX without challenge for trunks, as real ones are.
pub(super) fn answered_call(world: &mut World) -> (SocketAddr, SocketAddr) {
    let pbx = pbx(world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(world);
    world.act(trunk, |agent, now, gateway| {
        agent.invite(now, gateway, "sip:+49305551001@198.51.100.1")
    });
    world.run(seconds(3));
    assert_eq!(state(world, trunk, 0), State::Talking);
    assert_eq!(state(world, pbx, 0), State::Talking);
    (trunk, pbx)
}

/// Nothing of any call is left: no call, lease, stream, transaction or timer.
pub(super) fn assert_tidy(world: &mut World) {
    let bindings = world.gauge("bindings");
    for (name, value) in world.core.gauges() {
        // A binding has its own timer.
        let value = if name == "timers" {
            value - bindings
        } else {
            value
        };
        let stays = name.starts_with("bindings") || name.starts_with("sources");
        assert!(stays || value == 0, "{name} is {value}");
    }
    assert!(world.leases.is_empty(), "a lease is left");
    assert!(world.streams.is_empty(), "a stream is left");
}
