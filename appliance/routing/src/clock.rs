//! Whether a route is for this hour: days and hours of a schedule on its own clock. Days of the proleptic Gregorian calendar
//! are counted from 1970-01-01, a Thursday.

use broker_proto::settings::{Schedule, TimeZone};

const DAY_MINUTES: i64 = 24 * 60;
/// Every weekday.
const ALL_DAYS: u8 = 0x7f;

/// A minute on a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Days since 1970-01-01.
    day: i64,
    /// Minute of that day.
    pub minute: u16,
}

impl Local {
    /// 0: Monday … 6: Sunday.
    #[must_use]
    pub fn weekday(self) -> u8 {
        weekday(self.day)
    }

    /// `Tue 08:30`.
    #[must_use]
    pub fn text(self) -> String {
        let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let name = names
            .get(usize::from(self.weekday()))
            .copied()
            .unwrap_or_default();
        format!("{name} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// What a clock shows at `unix_ms`.
#[must_use]
pub fn local(zone: TimeZone, unix_ms: u64) -> Local {
    let minutes = i64::try_from(unix_ms / 60_000).unwrap_or(0);
    let east = match zone {
        TimeZone::Fixed(east) => i64::from(east),
        TimeZone::EuropeanSummer(east) => i64::from(east) + 60 * i64::from(is_summer(minutes)),
    };
    let there = minutes + east;
    Local {
        day: there.div_euclid(DAY_MINUTES),
        minute: u16::try_from(there.rem_euclid(DAY_MINUTES)).unwrap_or(0),
    }
}

/// Whether a schedule is for `unix_ms`.
#[must_use]
pub fn is_on(schedule: &Schedule, unix_ms: u64) -> bool {
    let now = local(schedule.zone, unix_ms);
    let today = schedule.days & (1 << now.weekday()) != 0;
    let yesterday = schedule.days & (1 << weekday(now.day - 1)) != 0;
    if schedule.hours.is_empty() {
        return today;
    }
    schedule.hours.iter().any(|&(first, last)| {
        if first <= last {
            today && (first..=last).contains(&now.minute)
        } else {
            (today && now.minute >= first) || (yesterday && now.minute <= last)
        }
    })
}

/// Whether a schedule never ends.
#[must_use]
pub fn is_always(schedule: &Schedule) -> bool {
    let whole = |&(first, last): &(u16, u16)| first == 0 && last >= 24 * 60 - 1;
    schedule.days & ALL_DAYS == ALL_DAYS
        && (schedule.hours.is_empty() || schedule.hours.iter().any(whole))
}

fn weekday(day: i64) -> u8 {
    u8::try_from((day + 3).rem_euclid(7)).unwrap_or(0)
}

/// Directive 2000/84/EC: from 01:00 UTC on the last Sunday of March to 01:00 UTC on the last Sunday of October.
fn is_summer(minutes: i64) -> bool {
    let year = year_of(minutes.div_euclid(DAY_MINUTES));
    let change = |month| last_sunday(year, month) * DAY_MINUTES + 60;
    (change(3)..change(10)).contains(&minutes)
}

/// Day number of the last Sunday of a month of 31 days.
fn last_sunday(year: i64, month: i64) -> i64 {
    let last = day_of(year, month, 31);
    last - (i64::from(weekday(last)) + 1) % 7
}

/// Day number since 1970-01-01 of a date; the month from 1 to 12.
#[must_use]
pub fn day_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn year_of(day: i64) -> i64 {
    // 400 years have 146 097 days; the guess is at most one year off.
    let guess = 1970 + day * 400 / 146_097;
    (guess - 1..=guess + 1)
        .rev()
        .find(|year| day_of(*year, 1, 1) <= day)
        .unwrap_or(guess)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: TimeZone = TimeZone::EuropeanSummer(60);

    /// ms of a UTC time.
    fn utc(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> u64 {
        u64::try_from((day_of(year, month, day) * DAY_MINUTES + hour * 60 + minute) * 60_000)
            .unwrap()
    }

    fn office() -> Schedule {
        Schedule {
            days: 0b001_1111,
            hours: vec![(8 * 60, 18 * 60 - 1)],
            zone: BERLIN,
        }
    }

    #[test]
    fn dates_and_weekdays_are_those_of_the_calendar() {
        assert_eq!(day_of(1970, 1, 1), 0);
        assert_eq!(day_of(2000, 2, 29), 11_016);
        assert_eq!(day_of(2026, 11, 24), 20_781);
        assert_eq!(
            local(TimeZone::Fixed(0), utc(2026, 11, 24, 12, 7)).text(),
            "Tue 12:07"
        );
        for day in 0..60_000 {
            let year = year_of(day);
            assert!(
                day_of(year, 1, 1) <= day && day < day_of(year + 1, 1, 1),
                "{day}"
            );
        }
    }

    #[test]
    fn summer_time_begins_and_ends_on_its_sundays() {
        let shown = |at| local(BERLIN, at).text();
        assert_eq!(shown(utc(2026, 3, 29, 0, 59)), "Sun 01:59");
        assert_eq!(shown(utc(2026, 3, 29, 1, 0)), "Sun 03:00");
        assert_eq!(shown(utc(2026, 10, 25, 0, 59)), "Sun 02:59");
        assert_eq!(shown(utc(2026, 10, 25, 1, 0)), "Sun 02:00");
        assert_eq!(shown(utc(2027, 3, 28, 1, 0)), "Sun 03:00");
    }

    #[test]
    fn office_hours_are_the_offices() {
        let on = |at| is_on(&office(), at);
        assert!(on(utc(2026, 11, 24, 7, 0)));
        assert!(!on(utc(2026, 11, 24, 6, 59)));
        assert!(on(utc(2026, 11, 24, 16, 59)));
        assert!(!on(utc(2026, 11, 24, 17, 0)));
        assert!(!on(utc(2026, 11, 28, 10, 0)), "a Saturday");
        // In summer an hour earlier by UTC.
        assert!(on(utc(2026, 7, 1, 6, 0)));
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
        let night = Schedule {
            days: 0b001_0000,
            hours: vec![(22 * 60, 6 * 60 - 1)],
            zone: TimeZone::Fixed(0),
        };
        let on = |day, hour| is_on(&night, utc(2026, 11, day, hour, 0));
        assert!(on(27, 23), "Friday night");
        assert!(on(28, 5), "until Saturday morning");
        assert!(!on(28, 23) && !on(27, 5));
    }

    #[test]
    fn a_schedule_of_all_days_and_hours_is_always() {
        let mut schedule = office();
        assert!(!is_always(&schedule));
        schedule.days = ALL_DAYS;
        assert!(!is_always(&schedule));
        schedule.hours = vec![(0, 24 * 60 - 1)];
        assert!(is_always(&schedule));
    }
}
