//! How media sounded, as far as loss and jitter tell: the E-model of ITU-T G.107 with its default values, loss by G.113
//! appendix I for G.711 with concealment. A bound from above: what else was wrong with the call nobody here can hear.

/// Rating without any impairment (G.107, default values).
const BEST: f64 = 93.2;
/// Robustness against loss (G.113 appendix I, G.711 with packet loss concealment, random loss).
const ROBUSTNESS: f64 = 25.1;
/// Delay besides the network's: one packet of 20 ms and its processing.
const OWN_DELAY_MS: f64 = 25.0;
/// Packets that say something.
const ENOUGH: u64 = 50;

/// Mean opinion score in hundredths, 100 to 441; 0 if there was too little to tell. A buffer of twice the jitter is taken
/// for granted at the listener.
pub(crate) fn mos_hundredths(received: u64, lost: u64, jitter_us: u32) -> u16 {
    if received < ENOUGH {
        return 0;
    }
    let count = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let loss = 100.0 * count(lost) / (count(lost) + count(received));
    let delay = OWN_DELAY_MS + 2.0 * f64::from(jitter_us) / 1_000.0;
    let late = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    let rating = (BEST - late - 95.0 * loss / (loss + ROBUSTNESS)).clamp(0.0, 100.0);
    let score = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    // 1 to 4.5 by the formula above.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 100..=450"
    )]
    let hundredths = (score * 100.0).round().clamp(100.0, 450.0) as u16;
    hundredths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_call_is_as_good_as_g711_gets_and_loss_and_jitter_cost() {
        let clean = mos_hundredths(1_000, 0, 0);
        assert!((435..=445).contains(&clean), "{clean}");
        let lossy = mos_hundredths(950, 50, 0);
        assert!((340..=400).contains(&lossy), "{lossy}");
        let jittery = mos_hundredths(1_000, 0, 150_000);
        assert!(jittery < clean - 40, "{jittery}");
        assert_eq!(mos_hundredths(1_000, u64::MAX, u32::MAX), 100);
        assert_eq!(mos_hundredths(49, 0, 0), 0);
    }
}
