//! Date: RFC 3261 §20.17, an RFC 1123 date in GMT. Written only from the wall clock that the core is told.

use core::fmt;

use crate::error::Syntax;
use crate::reader::Reader;

/// A point in time with the resolution of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Seconds since 1970-01-01 00:00:00 UTC, leap seconds not counted.
    pub unix_seconds: u64,
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY_SECONDS: u64 = 86_400;
/// 9999-12-31 23:59:59: four digits of a year hold no more.
const LAST: u64 = 253_402_300_799;

impl Date {
    /// The date of that many seconds; none after the year 9999.
    #[must_use]
    pub const fn new(unix_seconds: u64) -> Option<Self> {
        if unix_seconds <= LAST {
            Some(Self { unix_seconds })
        } else {
            None
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, Syntax> {
        Self::parse_parts(reader.take_rest().trim()).ok_or(Syntax::Date)
    }

    fn parse_parts(text: &str) -> Option<Self> {
        let (weekday, rest) = text.split_once(", ")?;
        let mut parts = rest.split(' ');
        let day = digits(parts.next()?, 2)?;
        let month = position(&MONTHS, parts.next()?)?;
        let year = digits(parts.next()?, 4)?;
        let mut clock = parts.next()?.split(':');
        let (hour, minute, second) = (
            digits(clock.next()?, 2)?,
            digits(clock.next()?, 2)?,
            digits(clock.next()?, 2)?,
        );
        let zone = parts.next()?;
        if parts.next().is_some() || clock.next().is_some() || zone != "GMT" || year < 1970 {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 || day == 0 || day > month_length(year, month) {
            return None;
        }
        position(&DAYS, weekday)?;
        let days = days_before(year, month) + day - 1;
        Self::new(days * DAY_SECONDS + hour * 3600 + minute * 60 + second.min(59))
    }
}

fn digits(text: &str, length: usize) -> Option<u64> {
    let good = text.len() == length && text.bytes().all(|octet| octet.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

fn position(names: &[&str], name: &str) -> Option<u64> {
    names
        .iter()
        .position(|one| one.eq_ignore_ascii_case(name))
        .and_then(|index| u64::try_from(index).ok())
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of the month, counted from 0 for January.
const fn month_length(year: u64, month: u64) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of the month.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years
        + (0..month)
            .map(|month| month_length(year, month))
            .sum::<u64>()
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.unix_seconds / DAY_SECONDS;
        let clock = self.unix_seconds % DAY_SECONDS;
        // Never too low, because no year has fewer than 365 days.
        let mut year = 1970 + days / 365;
        while days_before(year, 0) > days {
            year -= 1;
        }
        let mut month = 0;
        while days_before(year, month) + month_length(year, month) <= days {
            month += 1;
        }
        let day = days - days_before(year, month) + 1;
        let name = |names: &[&'static str], index: u64| {
            usize::try_from(index)
                .ok()
                .and_then(|index| names.get(index).copied())
                .unwrap_or_default()
        };
        write!(
            f,
            "{}, {day:02} {} {year:04} ",
            name(&DAYS, days % 7),
            name(&MONTHS, month)
        )?;
        write!(
            f,
            "{:02}:{:02}:{:02} GMT",
            clock / 3600,
            clock / 60 % 60,
            clock % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Date, Syntax> {
        Date::parse(&mut Reader::copying(text))
    }

    #[test]
    fn dates_are_written_as_they_are_read() {
        for text in [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Sat, 13 Nov 2010 23:29:00 GMT",
            "Tue, 29 Feb 2000 12:00:01 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Sun, 31 Dec 2028 23:59:59 GMT",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            parse("Sat, 13 Nov 2010 23:29:00 GMT").unwrap().unix_seconds,
            1_289_690_940
        );
    }

    #[test]
    fn zones_other_than_gmt_and_days_that_are_not_are_refused() {
        for text in [
            "Fri, 01 Jan 2010 16:00:00 EST",
            "Mon, 30 Feb 2010 16:00:00 GMT",
            "Mon, 29 Feb 2100 16:00:00 GMT",
            "Mon, 1 Feb 2010 16:00:00 GMT",
            "Mon, 01 Feb 2010 24:00:00 GMT",
            "",
        ] {
            assert_eq!(parse(text), Err(Syntax::Date), "{text}");
        }
    }
}
