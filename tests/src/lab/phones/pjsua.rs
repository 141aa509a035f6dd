//! PJSIP, driven by `pjsua.py` over its Python face (package `pjsua2-python`, installed by `make interop`): configured by a
//! JSON file, told what to do by lines on its standard input. Speaks PRACK always where the line is reliable, and asks for
//! session timers of 90 s.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
};

use serde_json::json;

use super::{Answers, Handset, Line, Order};
use crate::lab::{pki, root, topology::command};

/// Where its library lies.
pub(super) fn library() -> PathBuf {
    root().join("target/pjsua")
}

struct Pjsua {
    keys: ChildStdin,
}

pub(super) fn start(line: &Line<'_>, folder: &Path) -> io::Result<(Box<dyn Handset>, Child)> {
    let answers = match line.answers {
        Answers::AtOnce => "at once",
        Answers::WhenTold => "when told",
        Answers::EarlyMedia => "early media",
    };
    let settings = json!({
        "number": line.account.number,
        "password": line.account.password,
        "over": line.over.word(),
        "server": line.server(),
        "address": line.address.to_string(),
        "sip_port": line.sip_port(),
        "media_port": line.media_port(),
        "ca": pki::folder().join("ca.pem"),
        "answers": answers,
        "reliable": line.reliable,
    });
    fs::write(folder.join("settings.json"), settings.to_string())?;
    fs::write(folder.join("pjsua.py"), include_str!("pjsua.py"))?;
    let log = fs::File::create(folder.join("out.log"))?;
    let mut child = command(line.namespace, "python3")
        .args(["pjsua.py", "settings.json"])
        .env("PYTHONPATH", library())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let keys = child.stdin.take();
    let keys = keys.ok_or_else(|| io::Error::other("no keys"))?;
    Ok((Box::new(Pjsua { keys }), child))
}

impl Handset for Pjsua {
    fn tell(&mut self, order: &Order<'_>) -> io::Result<()> {
        let uri = |uri: &str| format!("<{uri}>");
        let line = match order {
            Order::Dial(to) => format!("dial {}", uri(to)),
            Order::Accept => "accept".to_owned(),
            Order::HangUp => "hangup".to_owned(),
            Order::Hold => "hold".to_owned(),
            Order::Resume => "resume".to_owned(),
            Order::Transfer(to) => format!("transfer {}", uri(to)),
            Order::Consult(to) => format!("consult {}", uri(to)),
            Order::Join => "join".to_owned(),
            Order::Quit => "quit".to_owned(),
        };
        writeln!(self.keys, "{line}")
    }

    fn registered(&self, log: &str) -> bool {
        log.contains("REGISTERED 200")
    }

    fn recordings(&self, folder: &Path) -> Vec<PathBuf> {
        vec![folder.join("heard.wav")]
    }
}
