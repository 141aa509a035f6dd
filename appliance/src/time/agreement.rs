//! Which of several servers to believe: the largest group whose intervals overlap in one point (Marzullo's algorithm, RFC
//! 5905 §11.2.1), if it is a majority of those that answered and, where several are configured, at least two. So one server
//! that lies, by whatever it likes, moves nothing as long as two honest ones answer.

use super::packet::Sample;

/// The sample to go by: of the largest group that agrees, the one with the smallest error. `configured` is how many
/// servers could have answered. `None`: they do not agree, or too few answered.
#[must_use]
pub fn agreement<S: Copy>(samples: &[(S, Sample)], configured: usize) -> Option<(S, Sample)> {
    let low = |sample: &Sample| sample.offset_ns.saturating_sub(sample.error_ns);
    let high = |sample: &Sample| sample.offset_ns.saturating_add(sample.error_ns);
    // The point where most intervals overlap is the lower end of one of them.
    let group_at = |point: i64| {
        samples
            .iter()
            .filter(move |(_, s)| low(s) <= point && point <= high(s))
    };
    let point = samples
        .iter()
        .map(|(_, sample)| low(sample))
        .max_by_key(|point| group_at(*point).count())?;
    let agreeing = group_at(point).count();
    let needed = if configured > 1 { 2 } else { 1 };
    if agreeing < needed || agreeing * 2 <= samples.len() {
        return None;
    }
    group_at(point)
        .min_by_key(|(_, sample)| sample.error_ns)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(offset_ns: i64, error_ns: i64) -> Sample {
        Sample {
            offset_ns,
            error_ns,
        }
    }

    fn chosen(samples: &[(i64, i64)], configured: usize) -> Option<i64> {
        let samples: Vec<_> = samples
            .iter()
            .map(|(offset, error)| ((), sample(*offset, *error)))
            .collect();
        agreement(&samples, configured).map(|((), sample)| sample.offset_ns)
    }

    #[test]
    fn one_liar_among_three_moves_nothing() {
        assert_eq!(
            chosen(&[(100, 20), (110, 10), (9_000_000, 1)], 3),
            Some(110)
        );
    }

    #[test]
    fn a_single_server_is_believed_only_if_it_is_the_only_one_configured() {
        assert_eq!(chosen(&[(100, 20)], 1), Some(100));
        assert_eq!(chosen(&[(100, 20)], 2), None);
    }

    #[test]
    fn two_that_differ_are_both_not_believed() {
        assert_eq!(chosen(&[(100, 20), (200, 20)], 2), None);
        assert_eq!(chosen(&[(0, 1), (0, 1), (9, 1), (9, 1)], 4), None);
    }

    #[test]
    fn nobody_is_no_agreement() {
        assert_eq!(chosen(&[], 3), None);
    }

    proptest! {
        #[test]
        fn a_minority_of_liars_never_moves_it_beyond_the_honest_intervals(
            honest in prop::collection::vec((-1_000i64..1_000, 1_000i64..5_000), 3..6),
            liars in prop::collection::vec((any::<i64>(), 0i64..i64::MAX), 0..2),
        ) {
            // All honest intervals contain 0, the truth; what is chosen overlaps one of theirs.
            let all: Vec<_> = honest.iter().chain(&liars).map(|(o, e)| ((), sample(*o, *e))).collect();
            let (_, chosen) = agreement(&all, all.len()).unwrap();
            let low = chosen.offset_ns.saturating_sub(chosen.error_ns);
            let high = chosen.offset_ns.saturating_add(chosen.error_ns);
            prop_assert!(honest.iter().any(|(o, e)| low <= o + e && o - e <= high));
        }
    }
}
