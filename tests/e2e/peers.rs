//! Foreign products: Kamailio as the PBX, baresip as telephones, sipp as carrier.

use std::{fs, io::Write as _, net::TcpStream, path::Path, time::Duration};

use e2e::{
    api,
    lab::{
        peers::{self, ACCOUNTS},
        run, state,
        topology::{command, inside},
    },
};

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[
    (
        "baresip_registers_at_kamailio_and_calls_with_sound_both_ways",
        baresip,
    ),
    ("sipp_places_a_hundred_calls_over_udp", |lab| {
        sipp(lab, "u1")
    }),
    ("sipp_places_a_hundred_calls_over_tcp", |lab| {
        sipp(lab, "t1")
    }),
];

/// Ends the peers however the test ends.
pub struct Peers;

impl Drop for Peers {
    fn drop(&mut self) {
        peers::stop_all();
    }
}

fn baresip(lab: &Lab) {
    let running = Peers;
    let [alice, bob, ..] = ACCOUNTS;
    peers::start_pbx(&lab.names).unwrap();
    let outside = peers::start_phone(
        &lab.names.external,
        alice,
        "198.51.100.10",
        "198.51.100.1:5060",
        440,
    )
    .unwrap();
    let within = peers::start_phone(
        &lab.names.internal,
        bob,
        "192.0.2.40",
        "192.0.2.10:5060",
        880,
    )
    .unwrap();
    for folder in [&outside, &within] {
        let registered =
            api::eventually(Duration::from_secs(10), || log(folder).contains("200 OK"));
        assert!(registered, "{}:\n{}", folder.display(), log(folder));
    }
    dial(
        &lab.names.external,
        "198.51.100.10:4444",
        "sip:1002@lab.test",
    );
    let listed = api::eventually(Duration::from_secs(10), || {
        let calls = api::get(&lab.names, "/api/v1/calls");
        calls
            .as_array()
            .is_some_and(|calls| calls.iter().any(|call| call["state"] == "answered"))
    });
    assert!(listed, "no call:\n{}", log(&outside));
    std::thread::sleep(Duration::from_secs(3));
    hang_up(&lab.names.external, "198.51.100.10:4444");
    let ended = api::eventually(Duration::from_secs(5), || {
        let calls = api::get(&lab.names, "/api/v1/calls");
        let calls = calls.as_array().cloned().unwrap_or_default();
        calls.iter().all(|call| call["calling"] != "1001")
    });
    assert!(ended, "{}", api::get(&lab.names, "/api/v1/calls"));
    drop(running);
    for (folder, hz) in [(&outside, 880.0), (&within, 440.0)] {
        let share = share_of(&heard(folder), hz);
        println!(
            "    {}: {:.2} of what it heard is the other's tone",
            folder.file_name().unwrap().display(),
            share
        );
        assert!(share > 0.5, "{}", folder.display());
    }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("baresip.log")).unwrap_or_default()
}

/// baresip's control port takes netstrings of JSON.
fn control(namespace: &str, address: &str, json: &str) {
    let address = address.to_owned();
    inside(namespace, move || {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "{}:{json},", json.len()).unwrap();
    })
    .unwrap();
}

fn dial(namespace: &str, address: &str, uri: &str) {
    control(
        namespace,
        address,
        &format!(r#"{{"command":"dial","params":"{uri}"}}"#),
    );
}

fn hang_up(namespace: &str, address: &str) {
    control(namespace, address, r#"{"command":"hangup"}"#);
}

/// What baresip decoded of the call, as its recorder wrote it.
fn heard(folder: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut decoded: Vec<_> = files
        .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
        .collect();
    decoded.sort();
    decoded.pop().expect("a recording")
}

/// Share of a recording's power at `hz`: the recording's level against that of its narrow band.
fn share_of(recording: &Path, hz: f64) -> f64 {
    let level = |filter: &[&str]| -> f64 {
        let mut arguments = vec![
            "-t",
            "wav",
            "--ignore-length",
            recording.to_str().unwrap(),
            "-n",
        ];
        arguments.extend_from_slice(filter);
        arguments.push("stat");
        let output = std::process::Command::new("sox")
            .args(&arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.lines()
            .find_map(|line| line.strip_prefix("RMS     amplitude:"))
            .and_then(|level| level.trim().parse().ok())
            .unwrap_or(0.0)
    };
    let whole = level(&[]);
    let band = format!("{}-{}", hz - 40.0, hz + 40.0);
    let narrow = level(&["sinc", &band]);
    if whole > 0.0 {
        (narrow / whole).powi(2)
    } else {
        0.0
    }
}

/// sipp as carrier calls sipp as PBX through the product.
fn sipp(lab: &Lab, transport: &str) {
    let folder = state().join("sipp");
    fs::create_dir_all(&folder).unwrap();
    let mut server = command(&lab.names.internal, "sipp")
        .args([
            "-sn",
            "uas",
            "-i",
            "192.0.2.10",
            "-p",
            "5060",
            "-t",
            "u1",
            "-bg",
            "-nostdin",
        ])
        .current_dir(&folder)
        .stdout(fs::File::create(folder.join("uas.log")).unwrap())
        .stderr(fs::File::create(folder.join("uas.err")).unwrap())
        .spawn()
        .unwrap();
    let _ = server.wait();
    let pid = run("ip", &["netns", "pids", &lab.names.internal]).unwrap();
    let output = command(&lab.names.external, "sipp")
        .args([
            "-sn",
            "uac",
            "-i",
            "198.51.100.20",
            "-p",
            "5060",
            "-t",
            transport,
            "-s",
            "+49305551002",
        ])
        .args([
            "-m",
            "100",
            "-r",
            "20",
            "-d",
            "200",
            "-timeout",
            "30",
            "-nostdin",
            "198.51.100.1:5060",
        ])
        .current_dir(&folder)
        .output()
        .unwrap();
    for pid in pid.lines() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "sipp" {
            let _ = run("kill", &[pid]);
        }
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
