//! The peer for media: rtpengine in user space (no kernel table), one call after the other set up by its ng protocol:
//! a cookie and a bencoded dictionary in one datagram.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use super::relay::{Ports, Relay};

const CONTROL: &str = "127.0.0.1:22222";
const PATIENCE: Duration = Duration::from_secs(5);

/// A running rtpengine with its calls.
pub struct Rtpengine {
    child: Child,
    ports: Vec<Ports>,
}

impl Rtpengine {
    /// Starts the daemon and `calls` calls between the generator's addresses.
    ///
    /// # Errors
    /// When rtpengine is not installed, does not answer, or refuses a call.
    pub fn start(calls: usize, phones: [SocketAddr; 2]) -> io::Result<Self> {
        let threads = available_parallelism()?.get();
        let child = Command::new("rtpengine")
            .args([
                "--config-file=none",
                "--foreground",
                "--log-stderr",
                "--log-level=3",
                "--table=-1",
            ])
            .args([
                "--interface=127.0.0.1",
                "--port-min=20000",
                "--port-max=60000",
            ])
            .arg(format!("--listen-ng={CONTROL}"))
            .arg(format!("--num-threads={threads}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut engine = Self {
            child,
            ports: Vec::with_capacity(calls),
        };
        let control = Control::connect()?;
        for call in 0..calls {
            let ports = control.set_up(call, phones)?;
            engine.ports.push(ports);
        }
        Ok(engine)
    }
}

impl Relay for Rtpengine {
    fn name(&self) -> &'static str {
        "rtpengine"
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ports(&self) -> &[Ports] {
        &self.ports
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        // A daemon that is gone already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Control {
    socket: UdpSocket,
}

impl Control {
    /// Waits until the daemon answers a ping.
    fn connect() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(CONTROL)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let control = Self { socket };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match control.ask("ping", "d7:command4:pinge") {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                // Refused at once while nobody listens, a timeout otherwise.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::thread::yield_now()
                }
                Err(_) => {}
            }
        }
        control.socket.set_read_timeout(Some(PATIENCE))?;
        Ok(control)
    }

    fn ask(&self, cookie: &str, dictionary: &str) -> io::Result<String> {
        self.socket
            .send(format!("{cookie} {dictionary}").as_bytes())?;
        let mut buffer = [0; 8192];
        loop {
            let count = self.socket.recv(&mut buffer)?;
            let answer = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
            if let Some((of, answer)) = answer.split_once(' ')
                && of == cookie
            {
                return Ok(answer.to_owned());
            }
        }
    }

    fn set_up(&self, call: usize, phones: [SocketAddr; 2]) -> io::Result<Ports> {
        let id = format!("call-{call}");
        let offer = dictionary(&[
            ("call-id", &id),
            ("command", "offer"),
            ("from-tag", "a"),
            ("sdp", &description(phones[0])),
        ]);
        let b = self
            .ask(&format!("o{call}"), &offer)
            .and_then(|answer| media_port(&answer))?;
        let answer = dictionary(&[
            ("call-id", &id),
            ("command", "answer"),
            ("from-tag", "a"),
            ("sdp", &description(phones[1])),
            ("to-tag", "b"),
        ]);
        let a = self
            .ask(&format!("a{call}"), &answer)
            .and_then(|answer| media_port(&answer))?;
        Ok(Ports { a, b })
    }
}

/// Keys are sorted by the caller, as bencode wants it. ICE and rtcp-mux are taken out: plain RTP as on our side.
fn dictionary(entries: &[(&str, &str)]) -> String {
    let mut text = String::from("d3:ICE6:remove");
    for (key, value) in entries {
        text += &format!("{}:{key}{}:{value}", key.len(), value.len());
        if *key == "from-tag" {
            text += "7:replacel6:origin18:session-connectione8:rtcp-muxl5:demuxe";
        }
    }
    text + "e"
}

fn description(phone: SocketAddr) -> String {
    let (ip, port) = (phone.ip(), phone.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    )
}

fn media_port(answer: &str) -> io::Result<SocketAddr> {
    answer
        .split_once("m=audio ")
        .and_then(|(_, rest)| rest.split_once(' '))
        .and_then(|(port, _)| port.parse().ok())
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .ok_or_else(|| io::Error::other(format!("rtpengine refused: {answer}")))
}
