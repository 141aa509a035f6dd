//! What the tests share: the namespaces with their cables, and a machine that runs the laboratory's configuration, started by
//! the first test that wants it and used by those behind it.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    api,
    lab::{
        run,
        topology::{self, Names},
    },
    machine::{self, Machine, Start, doors_are_open},
};
use image_builder::{cables, qemu::CARDS};

/// Longest time from power to open doors. The machine is emulated, on a host that may have more to do.
pub const BOOT: Duration = Duration::from_secs(120);

/// See the module.
pub struct House {
    /// Namespaces.
    pub names: Names,
    running: RefCell<Option<Machine>>,
}

impl House {
    /// Namespaces, cables, no machine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn build() -> io::Result<Self> {
        let names = Names {
            external: "t-qemu-ext".into(),
            internal: "t-qemu-int".into(),
            management: "t-qemu-mgmt".into(),
            gateway: "t-qemu-gw".into(),
        };
        remove(&names);
        for name in all(&names) {
            run("ip", &["netns", "add", name])?;
            run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        }
        let house = Self {
            names,
            running: RefCell::new(None),
        };
        topology::up(&house.names)?;
        cables::join(&house.names.gateway).map_err(io::Error::other)?;
        for card in &CARDS {
            // A scan comes in bursts, and the emulated card takes a few thousand packets a second: they wait, none is lost.
            let tap = format!("tap-{}", card.zone);
            run(
                "ip",
                &[
                    "-n",
                    &house.names.gateway,
                    "link",
                    "set",
                    &tap,
                    "txqueuelen",
                    "20000",
                ],
            )?;
        }
        Ok(house)
    }

    /// Starts a machine of that name without firmware, with this configuration, on an empty disk.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn fresh(&self, name: &str, config: Option<&Path>) -> Machine {
        self.start(name, config, true)
    }

    /// Starts the machine of that name again, with the disk it had.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn again(&self, name: &str, config: Option<&Path>) -> Machine {
        self.start(name, config, false)
    }

    fn start(&self, name: &str, config: Option<&Path>, fresh: bool) -> Machine {
        // One machine at a time: there is one set of cables.
        self.running.take();
        let secrets = machine::secrets().unwrap();
        let start = Start {
            name,
            direct: true,
            config: config.map(|config| (config, secrets.as_path())),
            fresh,
        };
        Machine::start(&self.names, &start).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Has the machine be the one that [`Self::with_running`] gives.
    pub fn keep(&self, machine: Machine) {
        self.running.replace(Some(machine));
    }

    /// Calls `test` with a machine that runs the laboratory's configuration and is ready.
    pub fn with_running<T>(&self, test: impl FnOnce(&mut Machine) -> T) -> T {
        if self.running.borrow().is_none() {
            let machine = self.fresh("running", Some(&laboratory()));
            await_doors(&self.names, &machine);
            self.keep(machine);
        }
        match self.running.borrow_mut().as_mut() {
            Some(machine) => test(machine),
            None => panic!("no machine"),
        }
    }

    /// Switches the shared machine off, if it runs.
    pub fn end_running(&self) {
        self.running.take();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.running.take();
        cables::leave(&self.names.gateway);
        remove(&self.names);
    }
}

fn all(names: &Names) -> [&str; 4] {
    [
        &names.external,
        &names.internal,
        &names.management,
        &names.gateway,
    ]
}

/// Removes what an earlier run left when it was killed, and what this one made.
fn remove(names: &Names) {
    for name in all(names) {
        // Fails where there is none.
        let _ = run("ip", &["netns", "del", name]);
    }
}

/// The laboratory's configuration for the machine's cards.
pub fn laboratory() -> PathBuf {
    // Without the collector of captured messages: the machine is to say nothing that nobody asked for.
    let silent = |text: String| text.replace("\nhep = \"203.0.113.10:9060\"\n", "\n");
    machine::configuration("laboratory", silent).unwrap()
}

/// Waits until the machine serves: all doors open, and every process of it well.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn await_doors(names: &Names, machine: &Machine) -> Duration {
    let open = api::eventually(BOOT, || doors_are_open(names));
    assert!(
        open,
        "the doors stay closed; the screen:\n{}",
        machine.screen()
    );
    machine.started.elapsed()
}

/// Waits until management says that all is well.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn await_health(names: &Names) {
    let healthy = api::eventually(Duration::from_secs(30), || {
        api::request(names, "GET", "/healthz", None).is_ok_and(|answer| answer.status == 200)
    });
    assert!(healthy, "the machine is not healthy");
}
