//! The power button (ACPI, seen as an input device) and the ways out: power off and restart.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt as _,
};

use nix::{
    fcntl::OFlag,
    sys::reboot::{RebootMode, reboot, set_cad_enabled},
};

/// `EV_KEY` of linux/input-event-codes.h.
const EV_KEY: u16 = 1;
/// `KEY_POWER`.
const KEY_POWER: u16 = 116;
/// Octets of a struct input_event on 64-bit machines: time (16), type, code, value.
const EVENT: usize = 24;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power off.
    PowerOff,
    /// Start again.
    Restart,
}

/// The input devices of power buttons, to be waited on.
pub(super) fn buttons() -> Vec<File> {
    let Ok(entries) = fs::read_dir("/sys/class/input") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let label = fs::read_to_string(format!("/sys/class/input/{name}/device/name")).ok()?;
            let is_button = name.starts_with("event") && label.contains("Power Button");
            if !is_button {
                return None;
            }
            OpenOptions::new()
                .read(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(format!("/dev/input/{name}"))
                .ok()
        })
        .collect()
}

/// Whether the button was pressed since the last look.
pub(super) fn was_pressed(button: &mut File) -> bool {
    let mut events = [0; EVENT * 16];
    let length = button.read(&mut events).unwrap_or(0);
    events.get(..length).is_some_and(|events| {
        events.as_chunks::<EVENT>().0.iter().any(|event| {
            let field = |at: usize| {
                event
                    .get(at..at + 2)
                    .and_then(|octets| octets.try_into().ok())
                    .map(u16::from_ne_bytes)
            };
            let pressed = event
                .get(20..24)
                .is_some_and(|value| value == 1_i32.to_ne_bytes());
            field(16) == Some(EV_KEY) && field(18) == Some(KEY_POWER) && pressed
        })
    })
}

/// Ctrl-Alt-Del sends init a signal instead of restarting the machine at once.
pub(super) fn tame_keyboard() {
    let _ = set_cad_enabled(false);
}

/// Ends the machine. Returns only if the kernel refuses.
pub(super) fn end(end: End) {
    let mode = match end {
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Restart => RebootMode::RB_AUTOBOOT,
    };
    let Err(errno) = reboot(mode);
    tracing::error!(%errno, "the machine does not end");
}
