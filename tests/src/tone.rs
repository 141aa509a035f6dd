//! Sound for tests: a telephone's media end that sends a tone as RTP with G.711 A-law, and measures which tone it hears
//! (Goertzel's algorithm). Packets are paced by the clock as a telephone's are: media is time.

use std::{
    f64::consts::TAU,
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use crate::lab::topology::inside;

/// Samples a second.
const RATE: f64 = 8_000.0;
/// Samples of one packet (20 ms).
const SAMPLES: usize = 160;
/// Time of one packet.
const PACE: Duration = Duration::from_millis(20);

/// A media end.
pub struct Phone {
    /// Its socket.
    pub socket: UdpSocket,
    /// Its address.
    pub local: SocketAddr,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// RTP packets received.
    pub packets: usize,
    /// Different sources they came from.
    pub sources: Vec<SocketAddr>,
    samples: Vec<f64>,
}

impl Heard {
    /// Share of the sound's power (0 to 1) that lies at `hz`. Each packet is measured by itself: one that was lost takes
    /// its own sound with it, and does not put the rest out of step.
    #[must_use]
    pub fn share(&self, hz: f64) -> f64 {
        let power: f64 = self.samples.iter().map(|sample| sample * sample).sum();
        if power <= 0.0 {
            return 0.0;
        }
        let packets = self.samples.chunks(SAMPLES);
        packets.map(|packet| power_at(packet, hz)).sum::<f64>() / power
    }
}

/// Power of the samples at `hz` (Goertzel), in units of their sum of squares.
pub(crate) fn power_at(samples: &[f64], hz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hz / RATE).cos();
    let (mut before, mut last) = (0.0, 0.0);
    for sample in samples {
        let next = sample + coefficient * last - before;
        before = last;
        last = next;
    }
    let magnitude = last * last + before * before - coefficient * last * before;
    2.0 * magnitude / samples.len() as f64
}

impl Phone {
    /// Bound to `local` (port 0: any) inside `namespace`.
    ///
    /// # Errors
    /// The address is not there or taken.
    pub fn bind(namespace: &str, local: &str) -> io::Result<Self> {
        let address: SocketAddr = local.parse().map_err(io::Error::other)?;
        let socket = inside(namespace, || UdpSocket::bind(address))??;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            local,
            sequence: 1,
            timestamp: 1,
            ssrc: u32::from(local.port()) << 8 | 7,
        })
    }

    /// One RTP packet of the tone.
    #[must_use]
    pub fn packet(&mut self, hz: f64) -> Vec<u8> {
        let mut packet = vec![0x80, 8];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        for place in 0..SAMPLES {
            let time = f64::from(self.timestamp) + place as f64;
            packet.push(to_a_law((8_000.0 * (TAU * hz * time / RATE).sin()) as i16));
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(SAMPLES as u32);
        packet
    }

    /// Sends the tone to `to` for `time` and listens meanwhile.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn talk(&mut self, to: SocketAddr, hz: f64, time: Duration) -> Heard {
        let mut heard = Heard::default();
        let begin = Instant::now();
        let mut due = begin;
        while begin.elapsed() < time {
            let packet = self.packet(hz);
            // A refused packet (ICMP from an earlier one) is one that a real telephone would lose as well.
            let _ = self.socket.send_to(&packet, to);
            due += PACE;
            self.listen_until(due, &mut heard);
        }
        heard
    }

    /// Listens for `time`.
    pub fn listen(&mut self, time: Duration) -> Heard {
        let mut heard = Heard::default();
        self.listen_until(Instant::now() + time, &mut heard);
        heard
    }

    fn listen_until(&self, due: Instant, heard: &mut Heard) {
        let mut buffer = [0; 2_048];
        while let Some(left) = due
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if self.socket.set_read_timeout(Some(left)).is_err() {
                return;
            }
            let Ok((length, source)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            let is_audio =
                buffer.first() == Some(&0x80) && buffer.get(1).map(|octet| octet & 0x7f) == Some(8);
            let Some(payload) = buffer.get(12..length).filter(|_| is_audio) else {
                continue;
            };
            heard.packets += 1;
            if !heard.sources.contains(&source) {
                heard.sources.push(source);
            }
            heard
                .samples
                .extend(payload.iter().map(|octet| f64::from(from_a_law(*octet))));
        }
    }
}

/// ITU-T G.711 A-law, encoder.
fn to_a_law(sample: i16) -> u8 {
    let sign = if sample >= 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() >> 3).min(0xfff);
    let code = if magnitude < 0x20 {
        magnitude >> 1
    } else {
        let exponent = 31 - magnitude.leading_zeros() as i32 - 4;
        (exponent << 4) | ((magnitude >> exponent) & 0x0f)
    };
    (code as u8 | sign) ^ 0x55
}

/// ITU-T G.711 A-law, decoder.
pub(crate) fn from_a_law(octet: u8) -> i16 {
    let code = octet ^ 0x55;
    let (exponent, mantissa) = (i16::from(code >> 4 & 7), i16::from(code & 0x0f));
    let magnitude = if exponent == 0 {
        (mantissa << 4) + 8
    } else {
        ((mantissa << 4) + 0x108) << (exponent - 1)
    };
    if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(hz: f64, times: impl Iterator<Item = i32>) -> Heard {
        let samples = times.map(|time| {
            let sample = (8_000.0 * (TAU * hz * f64::from(time) / RATE).sin()) as i16;
            f64::from(from_a_law(to_a_law(sample)))
        });
        Heard {
            samples: samples.collect(),
            ..Heard::default()
        }
    }

    #[test]
    fn a_tone_is_told_from_another_after_g711() {
        for (hz, other) in [(440.0, 880.0), (880.0, 440.0)] {
            let heard = heard(hz, 0..8_000);
            assert!(heard.share(hz) > 0.95, "{}", heard.share(hz));
            assert!(heard.share(other) < 0.02, "{}", heard.share(other));
        }
    }

    #[test]
    fn a_lost_packet_does_not_put_the_tone_out_of_step() {
        let heard = heard(
            880.0,
            (0..8_000).filter(|time| time / 160 != 7 && time / 160 != 30),
        );
        assert!(heard.share(880.0) > 0.95, "{}", heard.share(880.0));
    }
}
