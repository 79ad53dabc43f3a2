//! Civil time at a site: working days, and local wall times that are skipped or repeated.
//!
//! Instants are microseconds since 1970-01-01T00:00:00Z, days are counted from 1970-01-01, times of day are
//! microseconds since midnight.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

/// Microseconds of a day without a change of the clocks.
pub(super) const DAY: i64 = 86_400_000_000;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: instants beyond these are refused by the callers.
pub(super) const INSTANTS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// How many days in a row may be free before a calendar counts as one without working days.
pub(super) const FREE_DAYS_MAX: i64 = 366;

/// Which days are working days.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar<'a> {
    /// Bit `n` is ISO weekday `n + 1`.
    pub(super) weekdays: u8,
    /// Sorted.
    pub(super) holidays: &'a [i32],
}

impl Calendar<'_> {
    /// The first working day at or after `day`; none if more than [`FREE_DAYS_MAX`] days are free.
    pub(super) fn at_or_after(self, day: i64) -> Option<i64> {
        (day..=day + FREE_DAYS_MAX).find(|day| self.is_working(*day))
    }

    /// The working day that `count` working days lead to from `day`, which is one itself; none as above.
    pub(super) fn add(self, day: i64, count: i64) -> Option<i64> {
        (0..count).try_fold(day, |day, _| self.at_or_after(day + 1))
    }

    fn is_working(self, day: i64) -> bool {
        // 1970-01-01 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        self.weekdays & (1 << weekday) != 0
            && !i32::try_from(day).is_ok_and(|day| self.holidays.binary_search(&day).is_ok())
    }
}

/// The local day of an instant; none beyond [`INSTANTS`].
pub(super) fn local_day(zone: Tz, instant: i64) -> Option<i64> {
    let utc = naive(instant)?;
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    Some((instant + seconds(offset)).div_euclid(DAY))
}

/// The instant at which a site's clocks show `time` on `day`. A time that is skipped moves forward by as much as is
/// skipped; of a time that comes twice the first counts. None beyond [`INSTANTS`].
pub(super) fn instant(zone: Tz, day: i64, time: i64) -> Option<i64> {
    let wall = day.checked_mul(DAY)?.checked_add(time)?;
    let local = naive(wall)?;
    let offset = match offset(zone, &local) {
        Some((first, _)) => first,
        // No gap is longer than a day, so the offset of the day before is the one that held until the gap.
        None => offset(zone, &local.checked_sub_signed(TimeDelta::days(1))?)?.1,
    };
    Some(wall - offset)
}

/// The offsets, in microseconds, under which clocks show `local`: the one that holds first, and the last.
fn offset(zone: Tz, local: &NaiveDateTime) -> Option<(i64, i64)> {
    let of = |offset: <Tz as TimeZone>::Offset| seconds(offset.fix().local_minus_utc());
    match zone.offset_from_local_datetime(local) {
        MappedLocalTime::Single(only) => Some((of(only), of(only))),
        // The greater offset is the earlier instant.
        MappedLocalTime::Ambiguous(a, b) => Some((of(a).max(of(b)), of(a).min(of(b)))),
        MappedLocalTime::None => None,
    }
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    INSTANTS.contains(&micros).then(|| DateTime::from_timestamp_micros(micros)).flatten().map(|time| time.naive_utc())
}

fn seconds(seconds: i32) -> i64 {
    i64::from(seconds) * 1_000_000
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveTime};

    use super::*;

    /// `2026-03-29 02:30` on the clocks of a zone, as an instant in RFC 3339.
    fn check(zone: &str, wall: &str, expected: &str) {
        let zone: Tz = zone.parse().expect("a zone");
        let (date, time) = wall.split_once(' ').expect("date and time");
        let date: NaiveDate = date.parse().expect("a date");
        let time: NaiveTime = time.parse().expect("a time");
        let day = i64::from(date.to_epoch_days());
        let micros = time.signed_duration_since(NaiveTime::MIN).num_microseconds().expect("in a day");
        let found = instant(zone, day, micros).and_then(DateTime::from_timestamp_micros).expect("in range");
        assert_eq!(found.format("%Y-%m-%dT%H:%M:%SZ").to_string(), expected, "{zone} {wall}");
    }

    #[test]
    fn skipped_times_move_forward_and_of_repeated_ones_the_first_counts() {
        let cases = [
            ("Europe/Berlin", "2026-01-15 12:00", "2026-01-15T11:00:00Z"),
            ("Europe/Berlin", "2026-07-15 12:00", "2026-07-15T10:00:00Z"),
            // 02:00 to 03:00 does not exist on 2026-03-29.
            ("Europe/Berlin", "2026-03-29 01:59", "2026-03-29T00:59:00Z"),
            ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29T01:00:00Z"),
            // 02:00 to 03:00 comes twice on 2026-10-25.
            ("Europe/Berlin", "2026-10-25 02:00", "2026-10-25T00:00:00Z"),
            ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25T02:00:00Z"),
            // Chicago: forward on 2026-03-08, back on 2026-11-01.
            ("America/Chicago", "2026-03-08 02:30", "2026-03-08T08:30:00Z"),
            ("America/Chicago", "2026-03-08 03:30", "2026-03-08T08:30:00Z"),
            ("America/Chicago", "2026-11-01 01:30", "2026-11-01T06:30:00Z"),
            ("America/Chicago", "2026-11-01 02:00", "2026-11-01T08:00:00Z"),
            // Half an hour, and a whole day: Samoa had no 2011-12-30.
            ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:45:00Z"),
            ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00:00Z"),
        ];
        for (zone, wall, expected) in cases {
            check(zone, wall, expected);
        }
    }

    #[test]
    fn working_days_pass_over_weekends_and_holidays() {
        let day = |text: &str| i64::from(text.parse::<NaiveDate>().expect("a date").to_epoch_days());
        let holidays = [i32::try_from(day("2026-12-25")).expect("small")];
        let calendar = Calendar { weekdays: 0b001_1111, holidays: &holidays };
        assert_eq!(calendar.at_or_after(day("2026-12-24")), Some(day("2026-12-24")));
        assert_eq!(calendar.at_or_after(day("2026-12-25")), Some(day("2026-12-28")));
        assert_eq!(calendar.add(day("2026-12-24"), 0), Some(day("2026-12-24")));
        assert_eq!(calendar.add(day("2026-12-24"), 1), Some(day("2026-12-28")));
        assert_eq!(calendar.add(day("2026-12-24"), 6), Some(day("2027-01-04")));
        assert_eq!(Calendar { weekdays: 0, holidays: &[] }.at_or_after(0), None);
    }

    #[test]
    fn the_local_day_is_that_of_the_clocks_on_the_wall() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").timestamp_micros();
        let day = |text: &str| i64::from(text.parse::<NaiveDate>().expect("a date").to_epoch_days());
        let berlin = "Europe/Berlin".parse().expect("a zone");
        let chicago = "America/Chicago".parse().expect("a zone");
        assert_eq!(local_day(berlin, at("2026-01-15T22:59:59Z")), Some(day("2026-01-15")));
        assert_eq!(local_day(berlin, at("2026-01-15T23:00:00Z")), Some(day("2026-01-16")));
        assert_eq!(local_day(chicago, at("2026-01-15T05:59:59Z")), Some(day("2026-01-14")));
        assert_eq!(local_day(berlin, i64::MAX), None);
    }
}
