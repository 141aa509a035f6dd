//! linphonec: configured by a file, told what to do by lines on its standard input.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
};

use super::{Answers, Handset, Line, Order, Over};
use crate::lab::{pki, topology::command};

struct Linphone {
    keys: ChildStdin,
}

pub(super) fn start(line: &Line<'_>, folder: &Path) -> io::Result<(Box<dyn Handset>, Child)> {
    for home in [".local/share/linphone", ".config/linphone"] {
        fs::create_dir_all(folder.join(home))?;
    }
    let port = |over: Over| {
        if line.over == over {
            line.sip_port()
        } else {
            0
        }
    };
    let (over, server) = (line.over.word(), line.server());
    let (number, password) = (line.account.number, line.account.password);
    let sealed = match line.over {
        Over::Tls => "srtp\nmedia_encryption_mandatory=1",
        Over::Udp | Over::Tcp => "none",
    };
    let six = u8::from(line.address.is_ipv6());
    let configuration = folder.join("linphonerc");
    fs::write(
        &configuration,
        format!(
            "[sip]\nsip_port={}\nsip_tcp_port={}\nsip_tls_port={}\nbind_address={}\ndefault_proxy=0\n\
             register_only_when_network_is_up=0\nguess_hostname=1\nuse_ipv6={six}\nmedia_encryption={sealed}\n\
             root_ca={}\nverify_server_certs=1\nverify_server_cn=0\n\
             [rtp]\naudio_rtp_port={}\n\
             [proxy_0]\nreg_proxy=<sip:{server};transport={over}>\nreg_route=<sip:{server};transport={over};lr>\n\
             reg_identity=<sip:{number}@lab.test>\nreg_expires=300\nreg_sendregister=1\npublish=0\n\
             [auth_info_0]\nusername={number}\nuserid={number}\npasswd={password}\nrealm=lab.test\ndomain=lab.test\n",
            port(Over::Udp),
            port(Over::Tcp),
            port(Over::Tls),
            line.address,
            pki::folder().join("ca.pem").display(),
            line.media_port(),
        ),
    )?;
    let log = fs::File::create(folder.join("out.log"))?;
    let mut child = command(line.namespace, "linphonec")
        .args((line.answers == Answers::AtOnce).then_some("-a"))
        .arg("-c")
        .arg(&configuration)
        .args(["-d", "5", "-l"])
        .arg(folder.join("debug.log"))
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut keys = child
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("no keys"))?;
    let (played, recorded) = (folder.join("tone.wav"), folder.join("heard.wav"));
    writeln!(
        keys,
        "soundcard use files\nplay {}\nrecord {}",
        played.display(),
        recorded.display()
    )?;
    Ok((Box::new(Linphone { keys }), child))
}

impl Handset for Linphone {
    fn tell(&mut self, order: &Order<'_>) -> io::Result<()> {
        match order {
            Order::Dial(uri) => writeln!(self.keys, "call {uri}"),
            Order::HangUp => writeln!(self.keys, "terminate"),
            Order::Hold => writeln!(self.keys, "pause"),
            Order::Resume => writeln!(self.keys, "resume"),
            Order::Transfer(uri) => writeln!(self.keys, "transfer {uri}"),
            Order::Accept => writeln!(self.keys, "answer"),
            Order::Consult(uri) => writeln!(self.keys, "call {uri}"),
            Order::Join => writeln!(self.keys, "transfer 1 --to-call 2"),
            Order::Quit => writeln!(self.keys, "quit"),
        }
    }

    fn registered(&self, log: &str) -> bool {
        log.contains("[LinphoneRegistrationProgress] to [LinphoneRegistrationOk]")
    }

    fn recordings(&self, folder: &Path) -> Vec<PathBuf> {
        vec![folder.join("heard.wav")]
    }
}
