"""Messages that are no events of the contract, each for one reason. Their ids appear nowhere else."""

import json

FAR_TOO_LONG = "x" * 101


def malformed_lines(recorded):
    """What each line is, the rule it breaks, its text. Line n carries time n of `recorded`, the last one's from then on."""
    lines = []

    def line(what, rule, make, **changes):
        number = len(lines) + 1
        time = recorded[(number - 1) % len(recorded)]
        event = {
            "event_id": f"bad-{number:02}", "event_type": "pod.received", "occurred_at": time, "recorded_at": time,
            "source_system": "injected", "order_id": "o-990001", "order_line": "10", "shipment_id": "p-660001",
            "quantity": 1, **changes,
        }
        without = [name for name, value in event.items() if value is ABSENT]
        for name in without:
            del event[name]
        lines.append((what, rule, make(json.dumps(event, separators=(",", ":")), time)))

    def same(text, _time):
        return text

    def swap(old, new):
        return lambda text, _time: text.replace(old, new)

    line("broken JSON: the line ends in the middle", "INVALID_JSON", lambda text, _time: text[: len(text) * 2 // 3])
    line("a key twice", "DUPLICATE_KEY", swap('"quantity":1', '"quantity":1,"quantity":2'))
    line("a number where a text belongs", "WRONG_TYPE", same, order_id=990001)
    line("an object where a quantity belongs", "WRONG_TYPE", same, quantity={"value": 1})
    line("four decimals in a quantity", "DECIMAL_SCALE", swap('"quantity":1', '"quantity":1.2345'))
    line("a quantity that fits no decimal(18,3)", "DECIMAL_PRECISION", swap('"quantity":1', '"quantity":1e999'))
    line("a quantity in words", "INVALID_NUMBER", same, quantity="two")
    line("a quantity of NaN", "INVALID_JSON", swap('"quantity":1', '"quantity":NaN'))
    line("a negative quantity", "OUT_OF_RANGE", same, quantity=-1)
    line("a proof without its shipment", "REQUIRED", same, shipment_id=ABSENT)
    line("no event id", "REQUIRED", same, event_id=ABSENT)
    line("`null` for the source system", "NULL_NOT_ALLOWED", same, source_system=None)
    line("an unknown event type", "NOT_IN_ENUM", same, event_type="pod.recieved")
    line("a property that the contract does not know", "UNKNOWN_PROPERTY", same, qty=1)
    line("an event id of 101 characters", "MAX_LENGTH", same, event_id=FAR_TOO_LONG)
    line("a time without an offset", "MISSING_OFFSET", lambda text, time: text.replace(f'"{time}"', f'"{time[:-1]}"', 1))
    line(
        "a time with nanoseconds", "TOO_PRECISE",
        lambda text, time: text.replace(f'"{time}"', f'"{time[:-1]}.123456789Z"', 1),
    )
    line("the 30th of February", "INVALID_TIMESTAMP", same, occurred_at="2024-02-30T10:00:00Z")
    line("an event of the year 2199", "OUT_OF_RANGE", same, occurred_at="2199-01-01T00:00:00Z")
    line("two documents in one message", "TRAILING_DATA", lambda text, _time: f"{text} {text}")
    line("a document that is no object", "NOT_AN_OBJECT", lambda _text, _time: "17")
    return lines


class Absent:
    """A field that is left out."""


ABSENT = Absent()
