"""Local days and dispatch deadlines of a site."""

import datetime
import zoneinfo


def local_day(moment, site):
    """The date of a moment at a site."""
    return moment.astimezone(zoneinfo.ZoneInfo(site["time_zone"])).date()


def dispatch_deadline(released_at, site):
    """When a line that was released at a moment should have left.

    Released on a working day before the cut-off: counted from that day; otherwise from the next working day. The deadline
    is `dispatch_days` working days after the day from which is counted (0: that day itself), at closing.
    """
    zone = zoneinfo.ZoneInfo(site["time_zone"])
    released = released_at.astimezone(zone)
    day = released.date()
    if released.time() >= datetime.time.fromisoformat(site["cutoff"]):
        day += DAY
    day = working_day_from(day, site)
    for _ in range(site["dispatch_days"]):
        day = working_day_from(day + DAY, site)
    return first_instant(datetime.datetime.combine(day, datetime.time.fromisoformat(site["closes_at"])), zone)


def working_day_from(day, site):
    """The first working day at or after a day."""
    while day.isoweekday() not in site["working_days"] or day.isoformat() in site["holidays"]:
        day += DAY
    return day


def first_instant(wall, zone):
    """The instant of a local wall time: a skipped hour moves forward, of a repeated hour the first counts."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(datetime.timezone.utc)


DAY = datetime.timedelta(days=1)
