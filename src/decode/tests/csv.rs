//! CSV records: fields by name, empty fields, nested values as JSON.

use super::*;

fn format(header: &[&str]) -> Format {
    Format::Csv { header: header.iter().map(|name| (*name).to_owned()).collect() }
}

/// A header of `id` and `column`, a record of `a` and `cell`.
fn check_cell(column: &str, cell: &str, expected: Result<&str, (&str, &str)>) {
    let outcome = outcome(&contract(), format(&["id", column]), "good,", format!("a,{cell}"));
    let row = expected.map(|row| format!("id=a kind=A{}{row}", if row.is_empty() { "" } else { " " }));
    assert_eq!(
        outcome.as_ref().map(String::as_str).map_err(|(place, rule)| (place.as_str(), *rule)),
        row.as_ref().map(String::as_str).map_err(|error| *error),
        "{column}: {cell}"
    );
}

fn check_record(header: &[&str], good: &str, record: &str, expected: Result<&str, (&str, &str)>) {
    check_record_in(&contract(), header, good, record, expected);
}

fn check_record_in(
    contract: &Contract,
    header: &[&str],
    good: &str,
    record: &str,
    expected: Result<&str, (&str, &str)>,
) {
    let outcome = outcome(contract, format(header), good, record.to_owned());
    let outcome = outcome.as_ref().map(String::as_str).map_err(|(place, rule)| (place.as_str(), *rule));
    assert_eq!(outcome, expected, "{record}");
}

#[test]
fn cell_is_read_as_its_column_says() {
    check_cell("flag", "true", Ok("flag=true"));
    check_cell("flag", "TRUE", Err(("/flag", rule::WRONG_TYPE)));
    check_cell("count", "1e2", Ok("count=100"));
    check_cell("count", "1.9", Err(("/count", rule::NOT_AN_INTEGER)));
    check_cell("count", "1001", Err(("/count", rule::OUT_OF_RANGE)));
    check_cell("count", "one", Err(("/count", rule::INVALID_NUMBER)));
    check_cell("ratio", "0.5", Ok("ratio=0.5"));
    check_cell("ratio", "NaN", Err(("/ratio", rule::INVALID_NUMBER)));
    check_cell("amount", "\"12.345\"", Ok("amount=12.345"));
    check_cell("amount", "12.3456", Err(("/amount", rule::DECIMAL_SCALE)));
    check_cell("at", "2023-11-14T22:13:20Z", Ok("at=2023-11-14T22:13:20Z"));
    check_cell("at", "2023-11-14T22:13:20", Err(("/at", rule::MISSING_OFFSET)));
    check_cell("day", "2023-02-30", Err(("/day", rule::INVALID_DATE)));
    check_cell("kind", "C", Err(("/kind", rule::NOT_IN_ENUM)));
    check_cell("flag", "null", Err(("/flag", rule::WRONG_TYPE)));
}

#[test]
fn nested_values_are_json_in_their_cell() {
    check_cell("marks", "\"[1,2]\"", Ok("marks=[1, 2]"));
    check_cell("marks", "[]", Ok("marks=[]"));
    check_cell(
        "place",
        "\"{\"\"country\"\": \"\"DE\"\", \"\"tags\"\": [\"\"\\u0061\"\"]}\"",
        Ok("place={country: DE, code: 7, tags: [a]}"),
    );
    check_cell("place", "\"{\"\"country\"\": 1}\"", Err(("/place/country", rule::WRONG_TYPE)));
    check_cell(
        "place",
        "\"{\"\"country\"\": \"\"DE\"\", \"\"country\"\": \"\"DE\"\"}\"",
        Err(("/place/country", rule::DUPLICATE_KEY)),
    );
    check_cell("place", "null", Ok(""));
    check_cell("marks", "[1", Err(("/marks", rule::INVALID_JSON)));
    check_cell("marks", "[1] [2]", Err(("/marks", rule::INVALID_JSON)));
    check_cell("marks", "{}", Err(("/marks", rule::WRONG_TYPE)));
}

#[test]
fn empty_field_is_absent_and_empty_quotes_are_the_empty_text() {
    check_cell("count", "", Ok(""));
    check_cell("count", "\"\"", Err(("/count", rule::INVALID_NUMBER)));
    check_record(&["id", "kind"], "good,A", "\"\",", Ok("id= kind=A"));
    check_record(&["id", "kind"], "good,A", ",B", Err(("/id", rule::REQUIRED)));
    let mut contract = contract();
    contract.columns[0].nullable = true;
    check_record_in(&contract, &["id", "kind"], "good,A", ",", Ok("kind=A"));
}

#[test]
fn record_must_have_the_header_s_fields() {
    let header = ["kind", "id", "amount"];
    check_record(&header, "A,good,1", "B,b,\"2\"", Ok("id=b kind=B amount=2.000"));
    check_record(&header, "A,good,1", "B,b", Err(("", rule::FIELD_COUNT)));
    check_record(&header, "A,good,1", "B,b,2,", Err(("", rule::FIELD_COUNT)));
    check_record(&header, "A,good,1", "B,b,", Err(("/amount", rule::REQUIRED)));
    check_record(&header, "A,good,1", "A,\"b,1", Err(("byte 2", rule::INVALID_CSV)));
    check_record(&header, "A,good,1", "A,b\",1", Err(("byte 3", rule::INVALID_CSV)));
    check_record(&header, "A,good,1", "A,b,1\nA,c,2", Err(("byte 5", rule::TRAILING_DATA)));
    check_record(&header, "A,good,1", "", Err(("", rule::EMPTY_MESSAGE)));
    check_record(&header, "A,good,1", "A,\"a\nb\",", Ok("id=a\nb kind=A"));
    check_record(&header, "A,good,1", "A,\"a\"\"b\",", Ok("id=a\"b kind=A"));
    check_record(&header, "A,good,1", "A,abcde,", Err(("/id", rule::MAX_LENGTH)));
}

#[test]
fn column_without_a_property_is_ignored_only_where_the_contract_lets_it() {
    check_record(&["id", "more"], "good,1", "a,x", Ok("id=a kind=A"));
    let strict = Contract { additional: false, ..contract() };
    let mut decoder = Decoder::new(Arc::new(strict), format(&["id", "more"]));
    let mut rejections = Vec::new();
    decoder.decode(&message("a,x"), &mut rejections);
    assert_eq!((&*rejections[0].place, rejections[0].rule), ("/more", rule::UNKNOWN_PROPERTY));
}

#[test]
fn column_that_is_there_twice_is_refused_where_both_have_a_value() {
    check_record(&["id", "count", "count"], "good,,", "a,1,1", Err(("/count", rule::DUPLICATE_KEY)));
}

proptest! {
    #[test]
    fn any_record_gives_one_row_or_one_rejection(record in "[a1,\"{}:\n]{0,40}") {
        drop(outcome(&contract(), format(&["id", "place", "marks"]), "good,,", record));
    }
}
