//! What a telephone hears, read from its recording while it is still written. Used by [`super::Telephone`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::{
    api::eventually,
    lab::topology::command,
    tone::{from_a_law, power_at},
};

/// Samples of a packet at 8 kHz.
const PACKET: usize = 160;
/// How long a tone is to stand, in packets: 400 ms.
const TAIL: usize = 20;

/// A place in a recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    file: PathBuf,
    samples: usize,
}

/// The recordings of a telephone as they are now.
pub(super) struct Heard {
    file: PathBuf,
    samples: Vec<i16>,
    rate: f64,
}

impl Heard {
    /// The latest of these files; a telephone that has heard nothing has an empty one.
    pub(super) fn latest(files: &[PathBuf]) -> Self {
        let file = files.last().cloned().unwrap_or_default();
        let (rate, samples) =
            wave(&fs::read(&file).unwrap_or_default()).unwrap_or((8_000.0, Vec::new()));
        Self {
            file,
            samples,
            rate,
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            file: self.file.clone(),
            samples: self.samples.len(),
        }
    }

    /// What came since a mark. Another file, or a shorter one, was begun after it.
    fn since(&self, mark: &Mark) -> &[i16] {
        if self.file == mark.file {
            self.samples.get(mark.samples..).unwrap_or(&self.samples)
        } else {
            &self.samples
        }
    }

    /// Share of a tone's power in the last 400 ms since a mark, 0 to 1; 0 for less than that.
    pub(super) fn share(&self, mark: &Mark, hz: f64) -> f64 {
        let new = self.since(mark);
        // Goertzel's coefficients are for 8 kHz.
        let hz = hz * 8_000.0 / self.rate;
        let Some(tail) = new
            .len()
            .checked_sub(PACKET * TAIL)
            .and_then(|from| new.get(from..))
        else {
            return 0.0;
        };
        let tail: Vec<f64> = tail.iter().map(|sample| f64::from(*sample)).collect();
        let power: f64 = tail.iter().map(|sample| sample * sample).sum();
        // Noise of a codec is no sound.
        if power < 1.0e4 * tail.len() as f64 {
            return 0.0;
        }
        tail.chunks(PACKET)
            .map(|packet| power_at(packet, hz))
            .sum::<f64>()
            / power
    }
}

/// Packets of a fifth of a second, from the wire instead of a recording.
const PACKETS: usize = 20;

/// Waits for RTP to these ports of a namespace, G.711 in the clear, and gives the share of a tone in what it carries;
/// `None`: it did not come.
///
/// # Errors
/// tcpdump is not installed.
pub(super) fn on_wire(
    namespace: &str,
    (first, last): (u16, u16),
    hz: f64,
    file: &Path,
) -> io::Result<Option<f64>> {
    let count = PACKETS.to_string();
    let mut child = command(namespace, "tcpdump")
        .args(["-n", "-U", "-i", "any", "-c", &count, "-w"])
        .arg(file)
        // Longer than RTCP of a telephone that says little.
        .arg(format!("udp dst portrange {first}-{last} and greater 200"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let complete = eventually(Duration::from_secs(10), || {
        !matches!(child.try_wait(), Ok(None))
    });
    if !complete {
        let _ = child.kill();
    }
    child.wait()?;
    let bytes = fs::read(file)?;
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut samples = Vec::new();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
        let end = 16 + usize::try_from(length).unwrap_or(0);
        let (Some(packet), Some(next)) = (rest.get(16..end), rest.get(end..)) else {
            break;
        };
        // 20 ms are the last 160 octets, the head's 12 octets before them; the payload type says by which law.
        let (head, sound) = packet.split_at(packet.len().saturating_sub(PACKET));
        let mu = head
            .len()
            .checked_sub(11)
            .and_then(|at| head.get(at))
            .is_some_and(|octet| octet & 0x7f == 0);
        let decode = if mu { from_mu_law } else { from_a_law };
        samples.extend(sound.iter().map(|octet| decode(*octet)));
        rest = next;
    }
    let heard = Heard {
        file: PathBuf::new(),
        samples,
        rate: 8_000.0,
    };
    Ok(complete.then(|| heard.share(&Mark::default(), hz)))
}

/// ITU-T G.711 µ-law, decoder.
fn from_mu_law(octet: u8) -> i16 {
    let octet = !octet;
    let size = ((i16::from(octet & 0x0f) << 3) + 0x84) << ((octet >> 4) & 7);
    if octet & 0x80 == 0 {
        size - 0x84
    } else {
        0x84 - size
    }
}

/// Rate and samples of a RIFF file with 16-bit samples of one channel, whose sizes may not be written yet; nor may its
/// whole head be, in the place of which zeros stand.
fn wave(bytes: &[u8]) -> Option<(f64, Vec<i16>)> {
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut rate) = (12, 8_000);
    if bytes.starts_with(&[0; 44]) {
        at = 36;
    }
    loop {
        let (name, size) = (bytes.get(at..at + 4)?, usize::try_from(long(at + 4)?).ok()?);
        match name {
            b"data" | [0, 0, 0, 0] => break,
            b"fmt " => rate = long(at + 12)?,
            _ => {}
        }
        at += 8 + size;
    }
    let samples = bytes.get(at + 8..)?.chunks_exact(2);
    let samples = samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    Some((f64::from(rate), samples.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(hz: f64, count: usize) -> Heard {
        let samples = (0..count)
            .map(|n| (8_000.0 * (n as f64 * hz * std::f64::consts::TAU / 8_000.0).sin()) as i16);
        Heard {
            file: "a".into(),
            samples: samples.collect(),
            rate: 8_000.0,
        }
    }

    #[test]
    fn a_tone_counts_from_the_mark_and_silence_is_none() {
        let heard = file(440.0, 8_000);
        assert!(heard.share(&Mark::default(), 440.0) > 0.9);
        assert!(heard.share(&Mark::default(), 880.0) < 0.1);
        assert_eq!(
            heard.share(
                &Mark {
                    file: "a".into(),
                    samples: 7_000
                },
                440.0
            ),
            0.0
        );
        assert_eq!(file(0.0, 8_000).share(&Mark::default(), 440.0), 0.0);
    }

    #[test]
    fn a_file_is_read_before_its_sizes_are_written() {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        bytes.extend(8_000_u32.to_le_bytes());
        bytes.extend([0x80, 0x3e, 0, 0, 2, 0, 16, 0]);
        bytes.extend(b"data\0\0\0\0\x01\0\xff\xff");
        assert_eq!(wave(&bytes), Some((8_000.0, vec![1, -1])));
        bytes[..44].fill(0);
        assert_eq!(wave(&bytes), Some((8_000.0, vec![1, -1])));
        assert_eq!(wave(b"RIFF"), None);
    }
}
