//! baresip: configured by files, told what to do by netstrings of JSON at its control port.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use super::{Answers, Handset, Line, Order, Over, unable};
use crate::lab::{
    pki,
    topology::{command, inside},
};

struct Baresip {
    namespace: String,
    control: SocketAddr,
}

pub(super) fn start(line: &Line<'_>, folder: &Path) -> io::Result<(Box<dyn Handset>, Child)> {
    let control = SocketAddr::new(line.address, line.control_port());
    let sip = SocketAddr::new(line.address, line.sip_port());
    let (first, last) = (line.media_port(), line.media_port() + 98);
    let ca = pki::folder().join("ca.pem");
    let (shown, ca) = (folder.display(), ca.display());
    fs::write(
        folder.join("config"),
        format!(
            "sip_listen {sip}\nsip_cafile {ca}\nsip_verify_server yes\n\
             audio_player aubridge,heard\naudio_source aufile,{shown}/tone.wav\naudio_alert aufile,/dev/null\n\
             ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
             module_path /usr/lib/baresip/modules\n\
             module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule stdio.so\nmodule ctrl_tcp.so\n\
             module srtp.so\n\
             module_app account.so\nmodule_app menu.so\n\
             ctrl_tcp_listen {control}\nsnd_path {shown}\nrtp_ports {first}-{last}\n"
        ),
    )?;
    let (over, server) = (line.over.word(), line.server());
    let (number, password) = (line.account.number, line.account.password);
    let answers = match line.answers {
        Answers::AtOnce => "auto",
        Answers::WhenTold => "manual",
        Answers::EarlyMedia => "early",
    };
    let sealed = match line.over {
        Over::Tls => ";mediaenc=srtp-mand",
        Over::Udp | Over::Tcp => "",
    };
    fs::write(
        folder.join("accounts"),
        format!(
            "<sip:{number}@lab.test;transport={over}>;auth_user={number};auth_pass={password};\
             outbound=\"sip:{server};transport={over}\";regint=300;answermode={answers};audio_codecs=pcma,pcmu;ptime=20{sealed}\n"
        ),
    )?;
    fs::write(folder.join("contacts"), "")?;
    let log = fs::File::create(folder.join("out.log"))?;
    let child = command(line.namespace, "baresip")
        .arg("-f")
        .arg(folder)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let handset = Baresip {
        namespace: line.namespace.to_owned(),
        control,
    };
    Ok((Box::new(handset), child))
}

impl Handset for Baresip {
    fn tell(&mut self, order: &Order<'_>) -> io::Result<()> {
        let json = match order {
            Order::Dial(uri) => format!(r#"{{"command":"dial","params":"{uri}"}}"#),
            Order::Accept => r#"{"command":"accept"}"#.to_owned(),
            Order::HangUp => r#"{"command":"hangup"}"#.to_owned(),
            Order::Hold => r#"{"command":"hold"}"#.to_owned(),
            Order::Resume => r#"{"command":"resume"}"#.to_owned(),
            Order::Transfer(uri) => format!(r#"{{"command":"transfer","params":"{uri}"}}"#),
            Order::Quit => r#"{"command":"quit"}"#.to_owned(),
            Order::Consult(_) | Order::Join => return Err(unable()),
        };
        let control = self.control;
        inside(&self.namespace, move || {
            let mut stream = TcpStream::connect(control)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "{}:{json},", json.len())?;
            // Its answer says that the command was taken; the connection is not to break under it.
            let _ = stream.read(&mut [0; 512])?;
            Ok(())
        })
        .map_err(io::Error::other)?
    }

    fn registered(&self, log: &str) -> bool {
        log.contains("200 OK")
    }

    fn recordings(&self, folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        files.sort();
        files
    }
}
