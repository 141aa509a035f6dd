//! Init: PID 1 of the appliance, and the supervisor of the laboratory. Mounts, loads the configuration, starts the firewall,
//! and only when its closed ruleset stands brings links up and lets the rest of the house start. See [`House`].

mod child;
mod clock;
mod commands;
mod gpt;
mod house;
mod lease;
mod links;
mod logbook;
mod mounts;
mod operator;
mod options;
mod power;
mod proposal;
pub mod rtnetlink;
mod secrets;
mod slot;
mod sources;
mod status;
mod trial;
mod wiring;

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use appliance_config::Document;
use broker_proto::{Role, control::ToChild, journal::Severity};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

pub use house::House;
pub use options::{Lab, Options};

use crate::store::Store;
use power::End;
use rtnetlink::Netlink;

/// Between two looks at the house when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// Runs until told to end. On the appliance it does not return.
///
/// # Errors
/// Something without which nothing can be supervised is missing; the appliance then restarts, closed.
pub fn run(options: Options) -> io::Result<()> {
    let appliance = options.lab.is_none();
    let mut complaint = None;
    let data = match &options.lab {
        Some(lab) => lab.state.clone(),
        None => {
            mounts::kernel()?;
            power::tame_keyboard();
            let (data, trouble) = mounts::data();
            complaint = trouble;
            data
        }
    };
    let journal = data.join("journal");
    erase_journal_if_told(&data, &journal);
    fs::create_dir_all(&journal)?;
    give_to(&journal, "journal")?;
    let mut house = House::new(options, journal)?;
    house.say(&format!("Gatehouse {}", env!("CARGO_PKG_VERSION")));
    if let Some(complaint) = complaint {
        house.say(&complaint);
        house.record(Severity::Alert, "data-partition", &[("reason", &complaint)]);
        house.complaints.push(complaint);
    }
    load(&mut house);
    let mut watch = Watch::new(appliance)?;
    let end = attend(&mut house, &mut watch)?;
    finish(&mut house, &mut watch)?;
    if appliance {
        mounts::release();
        power::end(end);
    }
    Ok(())
}

/// Takes the configuration of the store, the firmware device, a labelled disk, or the laboratory's file.
fn load(house: &mut House) {
    if let Some(lab) = house.options.lab.clone() {
        load_lab(house, &lab);
        return;
    }
    match Store::open(&house.store_directory()) {
        Ok(mut store) => {
            house.load(&mut store);
            if let Some(offer) = sources::find() {
                house.accept_offer(&mut store, offer);
            }
        }
        Err(error) => {
            let line = format!("configuration store: {error}");
            house.say(&line);
            house.complaints.push(line);
        }
    }
    if let Some(running) = &house.running {
        let _ = nix::unistd::sethostname(&running.document.host.name);
    }
}

/// Reads the laboratory's configuration; one that is broken leaves what runs as it is.
fn load_lab(house: &mut House, lab: &Lab) {
    let name = lab.configuration.display().to_string();
    let text = match fs::read_to_string(&lab.configuration) {
        Ok(text) => text,
        Err(error) => {
            house.say(&format!("{name}: {error}"));
            return;
        }
    };
    match Document::parse(&text, &name) {
        Ok(document) => {
            let revision = house
                .running
                .as_ref()
                .map_or(1, |running| running.revision + 1);
            house.running = Some(proposal::running(
                revision,
                document,
                sources::secrets_of(&lab.secrets),
            ));
        }
        Err(errors) => {
            for error in errors {
                house.say(&error.to_string());
            }
        }
    }
}

/// Descriptors that init waits on besides its children's.
struct Watch {
    signals: SignalFd,
    links: Netlink,
    buttons: Vec<File>,
}

impl Watch {
    fn new(appliance: bool) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let buttons = if appliance {
            power::buttons()
        } else {
            Vec::new()
        };
        Ok(Self {
            signals,
            links: Netlink::monitor()?,
            buttons,
        })
    }
}

/// The loop: until something says that the house is to end.
fn attend(house: &mut House, watch: &mut Watch) -> io::Result<End> {
    let mut next_tick = Instant::now();
    loop {
        let now = Instant::now();
        house.settle();
        house.start_due(now);
        if now >= next_tick {
            next_tick = now + TICK;
            tick(house);
        }
        house.look_at_self_test(now);
        house.look_at_network_test(now);
        house.look_at_log_in(now);
        house.look_at_trial(now);
        let blinks = house.look_at_blinking(now);
        if let Some(end) = house.end {
            return Ok(end);
        }
        let due = house.slots.iter().filter_map(|slot| slot.due(now)).min();
        let due = due.into_iter().chain(blinks).min();
        let until = due.map_or(next_tick, |due| due.min(next_tick));
        wait(house, watch, until)?;
    }
}

fn tick(house: &mut House) {
    write_status(house);
    let lines = house.status_lines();
    house.tell(Role::Console, &ToChild::Status { lines }, None);
}

fn write_status(house: &mut House) {
    let Some(lab) = &house.options.lab else {
        return;
    };
    let revision = house.committed.unwrap_or(0);
    if let Err(error) = status::write(
        &lab.state,
        house.ready,
        revision,
        &house.slots,
        &house.complaints,
    ) {
        house.say(&format!("status.json: {error}"));
    }
}

/// Waits for any descriptor, at most until `until`, and handles what came.
fn wait(house: &mut House, watch: &mut Watch, until: Instant) -> io::Result<()> {
    let roles: Vec<Role> = house
        .slots
        .iter()
        .filter(|slot| slot.child.is_some())
        .map(|slot| slot.role)
        .collect();
    let ready: Vec<PollFlags> = {
        let children = house.slots.iter().filter_map(|slot| slot.child.as_ref());
        let fixed = [watch.signals.as_fd(), watch.links.fd().as_fd()];
        let fds: Vec<BorrowedFd<'_>> = fixed
            .into_iter()
            .chain(children.flat_map(|child| [child.control.as_fd(), child.log.as_fd()]))
            .chain(watch.buttons.iter().map(AsFd::as_fd))
            .chain(house.management_channel().map(AsFd::as_fd))
            .chain(house.keyholder.as_ref().map(AsFd::as_fd))
            .collect();
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        // Rounded up, so that the loop does not spin through the last fraction of a millisecond.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        polled
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect()
    };
    let now = Instant::now();
    let mut flags = ready.into_iter();
    let mut next = || flags.next().unwrap_or(PollFlags::empty());
    let was_ready = house.ready;
    if !next().is_empty() {
        heed_signals(house, watch, now)?;
    }
    if !next().is_empty() && watch.links.drain() {
        house.links_changed();
    }
    for role in roles {
        let control = next();
        if control.contains(PollFlags::POLLIN) {
            house.read_control(role, now);
        } else if control.contains(PollFlags::POLLHUP) {
            house.heard_hang_up(role);
        }
        if next().contains(PollFlags::POLLIN) {
            house.read_log(role, now);
        }
    }
    for button in &mut watch.buttons {
        if !next().is_empty() && power::was_pressed(button) {
            house.say("power button pressed");
            house.end = Some(End::PowerOff);
        }
    }
    if house.management_channel().is_some() && !next().is_empty() {
        house.answer_management();
    }
    house.answer_of_keyholder(now);
    house.settle();
    if house.ready != was_ready {
        write_status(house);
    }
    Ok(())
}

fn heed_signals(house: &mut House, watch: &mut Watch, now: Instant) -> io::Result<()> {
    while let Some(info) = watch.signals.read_signal()? {
        match i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|number| Signal::try_from(number).ok())
        {
            Some(Signal::SIGCHLD) => house.reap(now),
            Some(Signal::SIGHUP) => {
                if let Some(lab) = house.options.lab.clone() {
                    load_lab(house, &lab);
                    house.spread();
                }
            }
            // Ctrl-Alt-Del comes as SIGINT.
            Some(Signal::SIGINT) if house.options.lab.is_none() => house.end = Some(End::Restart),
            Some(Signal::SIGTERM | Signal::SIGINT) => house.end = Some(End::PowerOff),
            _ => {}
        }
    }
    Ok(())
}

/// Orderly end: everyone but journal and firewall, then those two; what does not stop in time is killed.
fn finish(house: &mut House, watch: &mut Watch) -> io::Result<()> {
    house.say("stopping");
    let is_last = |role: Role| matches!(role, Role::Journal | Role::Firewall);
    house.stop_all();
    await_end(house, watch, |role| !is_last(role))?;
    house.stop_last();
    await_end(house, watch, |_| true)?;
    house.kill_all();
    await_end(house, watch, |_| true)?;
    write_status(house);
    Ok(())
}

fn await_end(
    house: &mut House,
    watch: &mut Watch,
    roles: impl Fn(Role) -> bool + Copy,
) -> io::Result<()> {
    let deadline = Instant::now() + house::STOP_TIME;
    while house.runs(roles) && Instant::now() < deadline {
        wait(house, watch, deadline)?;
    }
    Ok(())
}

/// A terminal for the console process.
fn open_terminal(name: &str) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(Path::new("/dev").join(name))?;
    Ok(file.into())
}

fn give_to(directory: &Path, role: &str) -> io::Result<()> {
    let Some(profile) = sandbox::Profile::for_role(role) else {
        return Ok(());
    };
    std::os::unix::fs::chown(directory, Some(profile.uid), Some(profile.uid))?;
    for entry in fs::read_dir(directory)? {
        std::os::unix::fs::chown(entry?.path(), Some(profile.uid), Some(profile.uid))?;
    }
    Ok(())
}

/// A factory reset leaves a marker, because the journal was still writing when it was asked for.
fn erase_journal_if_told(data: &Path, journal: &Path) {
    let marker = data.join("erase-journal");
    if marker.exists() {
        let _ = fs::remove_dir_all(journal);
        let _ = fs::remove_file(marker);
    }
}

impl House {
    /// The data partition, or what stands for it.
    fn data_directory(&self) -> PathBuf {
        self.options
            .lab
            .as_ref()
            .map_or_else(|| PathBuf::from(mounts::DATA), |lab| lab.state.clone())
    }

    /// The configuration store's folder.
    fn store_directory(&self) -> PathBuf {
        self.data_directory().join("config")
    }

    /// Lines of the console's status page.
    fn status_lines(&mut self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            (
                "state".to_owned(),
                if self.ready { "ready" } else { "starting" }.to_owned(),
            ),
        ];
        if let Some(running) = &self.running {
            lines.push(("host".into(), running.document.host.name.clone()));
            lines.push(("revision".into(), running.revision.to_string()));
            if let Some((calls, bans)) = self.figures {
                lines.push(("calls".into(), calls.to_string()));
                lines.push(("bans".into(), bans.to_string()));
            }
            let pem = running
                .secrets
                .iter()
                .find(|(name, _)| *name == running.document.management.certificate);
            if let Some(fingerprint) = pem.and_then(|(_, pem)| secrets::fingerprint(&pem.0)) {
                lines.push(("certificate".into(), fingerprint));
            }
            let zones: Vec<(String, String, String)> = running
                .document
                .zones
                .iter()
                .map(|zone| {
                    let addresses: Vec<String> =
                        zone.links().iter().map(ToString::to_string).collect();
                    (
                        zone.name.clone(),
                        zone.ifname().to_owned(),
                        addresses.join(" "),
                    )
                })
                .collect();
            let links = self.netlink.links().unwrap_or_default();
            for (zone, ifname, addresses) in zones {
                let link = links.iter().find(|link| link.name == ifname);
                let state = match link {
                    None => "no card",
                    Some(link) if link.has_carrier => "up",
                    Some(_) => "no cable",
                };
                lines.push((format!("zone {zone}"), format!("{addresses} {state}")));
            }
        } else {
            lines.push(("state".into(), "setup".into()));
        }
        for process in status::processes(&self.slots) {
            let state = if process.pid == 0 {
                "stopped".to_owned()
            } else {
                format!("{} KiB", process.rss_kib)
            };
            let again = if process.restarts > 0 {
                format!(", restarted {}", process.restarts)
            } else {
                String::new()
            };
            lines.push((
                format!("process {}", process.name),
                format!("{state}{again}"),
            ));
        }
        lines.extend(
            self.complaints
                .iter()
                .take(8)
                .map(|complaint| ("warning".to_owned(), complaint.clone())),
        );
        lines
    }
}
