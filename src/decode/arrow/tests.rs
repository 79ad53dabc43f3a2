//! What each Arrow type becomes, and that no bytes whatever do harm.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
    DictionaryArray, DurationMillisecondArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int32Array,
    Int64Array, IntervalDayTimeArray, IntervalYearMonthArray, LargeListArray, LargeStringArray, ListArray, NullArray,
    StringArray, StringViewArray, StructArray, Time32SecondArray, Time64NanosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, IntervalDayTime, Schema, TimeUnit, i256};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::super::tests::{contract, message, row_text as shown};
use super::super::{ARROW_BYTES_MAX, Decoder, EVENTS_MAX, Format, MESSAGE_BYTES_MAX, event_count_hint, readable, rule};
use super::{Origin, RejectedRow, row_bytes};
use crate::definition::contract::{Column, Contract, Kind};
use crate::types::{RawMessage, Rejection};

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn decoder(contract: Contract) -> Decoder {
    Decoder::new(Arc::new(contract), Format::Json)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn ids(count: usize) -> ArrayRef {
    Arc::new((0..count).map(|at| Some(format!("i{at}"))).collect::<StringArray>())
}

/// What becomes of each row: the row as text, or place and rule.
fn outcomes(contract: Contract, batch: &RecordBatch) -> Vec<Result<String, (String, &'static str)>> {
    let mut decoder = decoder(contract);
    let mut rejected = Vec::new();
    let origin = Origin::Records { stream: &Arc::from("FILE"), first: 11 };
    let appended = decoder.decode_batch(batch, origin, &mut rejected);
    assert_eq!(appended + rejected.len(), batch.num_rows(), "each row is one or the other");
    let rows = decoder.finish();
    let mut accepted = (0..rows.num_rows()).map(|row| shown(&rows, row));
    let outcome = |row: usize| match rejected.iter().find(|rejected| rejected.row == row) {
        Some(RejectedRow { rejection, .. }) => {
            assert!(!rejection.reason.is_empty() && rejection.reason.chars().count() < 300, "{}", rejection.reason);
            Err((rejection.place.clone(), rejection.rule))
        }
        None => Ok(accepted.next().unwrap()),
    };
    (0..batch.num_rows()).map(outcome).collect()
}

/// Checks one column beside the required ones.
fn check(name: &str, column: impl Array + 'static, expected: &[Result<&str, &'static str>]) {
    let column: ArrayRef = Arc::new(column);
    let kind = column.data_type().clone();
    let found = outcomes(contract(), &batch(vec![("id", ids(column.len())), (name, column)]));
    let place = format!("/{name}");
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        let expected = expected.map(|value| format!("id=i{row} kind=A {value}").trim_end().to_owned());
        let found = found.as_ref().map(Clone::clone).map_err(|(at, rule)| {
            assert!(at.starts_with(&place), "{at}");
            *rule
        });
        assert_eq!(found, expected, "row {row} of {name} from {kind}");
    }
    assert_eq!(found.len(), expected.len(), "{name} from {kind}");
}

#[test]
fn texts_booleans_and_numbers_are_taken_as_they_are_or_refused() {
    let texts = [Some("A"), Some("B"), Some("C"), None];
    let b_needs_amount = Err(rule::REQUIRED);
    let found: Vec<_> =
        outcomes(contract(), &batch(vec![("id", ids(2)), ("kind", Arc::new(StringArray::from(vec!["A", "B"])))]));
    assert_eq!(found[0], Ok("id=i0 kind=A".to_owned()));
    assert_eq!(found[1].as_ref().map_err(|(place, rule)| (place.as_str(), *rule)), Err(("/amount", rule::REQUIRED)));
    let expected = [Ok(""), b_needs_amount, Err(rule::NOT_IN_ENUM), Ok("")];
    for column in [
        Arc::new(StringArray::from(texts.to_vec())) as ArrayRef,
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
        Arc::new(texts.iter().copied().collect::<DictionaryArray<Int32Type>>()),
        cast(&LargeStringArray::from(texts.to_vec()), &dictionary(DataType::UInt8, DataType::LargeUtf8)).unwrap(),
        cast(&StringViewArray::from(texts.to_vec()), &dictionary(DataType::Int64, DataType::Utf8)).unwrap(),
    ] {
        let found = outcomes(contract(), &batch(vec![("id", ids(4)), ("kind", column)]));
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let expected = expected.map(|_| format!("id=i{row} kind=A"));
            assert_eq!(found.as_ref().map_err(|(_, rule)| *rule), expected.as_ref().map_err(|rule| *rule), "row {row}");
        }
    }
    check("kind", BinaryArray::from(vec![Some(&b"A"[..]), None]), &[Err(rule::WRONG_TYPE), Ok("")]);
    check("flag", BooleanArray::from(vec![Some(true), None]), &[Ok("flag=true"), Ok("")]);
    check("flag", Int8Array::from(vec![Some(1), None]), &[Err(rule::WRONG_TYPE), Ok("")]);
    check("flag", NullArray::new(1), &[Ok("")]);
    check("count", NullArray::new(1), &[Ok("")]);
    check("count", Int8Array::from(vec![-5, -6]), &[Ok("count=-5"), Err(rule::OUT_OF_RANGE)]);
    check("big", UInt64Array::from(vec![7, u64::MAX]), &[Ok("big=7"), Err(rule::OUT_OF_RANGE)]);
    check("big", Int64Array::from(vec![i64::MIN]), &[Ok("big=-9223372036854775808")]);
    let floats = vec![3.0, 0.5, f64::NAN, f64::INFINITY, 9.223_372_036_854_776e18, -9.223_372_036_854_775_8e18];
    let out = Err(rule::OUT_OF_RANGE);
    check(
        "big",
        Float64Array::from(floats),
        &[Ok("big=3"), Err(rule::NOT_AN_INTEGER), out, out, out, Ok("big=-9223372036854775808")],
    );
    check("big", decimals(vec![1200, 1205], 10, 2), &[Ok("big=12"), Err(rule::NOT_AN_INTEGER)]);
    check("big", decimals(vec![12], 10, -2), &[Ok("big=1200")]);
    check("ratio", Float32Array::from(vec![0.5, 2.0, f32::NAN]), &[Ok("ratio=0.5"), out, out]);
    check("ratio", Int32Array::from(vec![1, 2]), &[Ok("ratio=1.0"), out]);
    check("ratio", Int64Array::from(vec![(1 << 53) + 1]), &[Err(rule::NOT_EXACT)]);
    check("ratio", UInt64Array::from(vec![u64::MAX]), &[Err(rule::NOT_EXACT)]);
    check("ratio", decimals(vec![5], 10, 1), &[Err(rule::WRONG_TYPE)]);
    check("big", StringArray::from(vec!["7"]), &[Err(rule::WRONG_TYPE)]);
}

#[test]
fn decimals_are_moved_to_the_scale_of_the_contract_without_losing_a_digit() {
    let (scale, precision) = (Err(rule::DECIMAL_SCALE), Err(rule::DECIMAL_PRECISION));
    check("amount", decimals(vec![1234, 1200], 20, 2), &[Ok("amount=12.340"), Ok("amount=12.000")]);
    check("amount", decimals(vec![12_345_000, 12_345_600], 20, 6), &[Ok("amount=12.345"), scale]);
    check(
        "amount",
        decimals(vec![10_i128.pow(18) - 1, 10_i128.pow(18)], 38, 3),
        &[Ok("amount=999999999999999.999"), precision],
    );
    check("amount", decimals(vec![10_i128.pow(36)], 38, 0), &[precision]);
    check("amount", decimals(vec![5], 5, -2), &[Ok("amount=500.000")]);
    check("amount", decimals(vec![-1], 5, 3), &[Err(rule::OUT_OF_RANGE)]);
    let wide = Decimal256Array::from(vec![i256::from_i128(12_345), i256::from_i128(12_345_600)])
        .with_precision_and_scale(60, 3)
        .unwrap();
    check("amount", wide, &[Ok("amount=12.345"), Ok("amount=12345.600")]);
    let wide = Decimal256Array::from(vec![i256::from_i128(5)]).with_precision_and_scale(60, 40).unwrap();
    check("amount", wide, &[scale]);
    check("amount", Int64Array::from(vec![7, i64::MAX]), &[Ok("amount=7.000"), precision]);
    check("amount", StringArray::from(vec!["7.5", "7,5"]), &[Ok("amount=7.500"), Err(rule::INVALID_NUMBER)]);
    check("amount", Float64Array::from(vec![Some(7.5), None]), &[Err(rule::WRONG_TYPE), Ok("")]);
}

#[test]
fn times_of_other_units_are_taken_only_if_nothing_is_lost() {
    let at = 1_700_000_000;
    let shown = Ok("at=2023-11-14T22:13:20Z");
    check("at", TimestampSecondArray::from(vec![at, i64::MAX]).with_timezone("UTC"), &[shown, Err(rule::OUT_OF_RANGE)]);
    check("at", TimestampMillisecondArray::from(vec![at * 1_000]).with_timezone("+01:00"), &[shown]);
    check("at", TimestampMicrosecondArray::from(vec![at * 1_000_000]).with_timezone("Europe/Zurich"), &[shown]);
    check(
        "at",
        TimestampNanosecondArray::from(vec![at * 1_000_000_000, at * 1_000_000_000 + 1]).with_timezone("UTC"),
        &[shown, Err(rule::TOO_PRECISE)],
    );
    check("at", TimestampSecondArray::from(vec![Some(at), None]), &[Err(rule::MISSING_OFFSET), Ok("")]);
    check(
        "at",
        StringArray::from(vec!["2023-11-14T23:13:20+01:00", "yesterday"]),
        &[shown, Err(rule::INVALID_TIMESTAMP)],
    );
    check("at", Int64Array::from(vec![at]), &[Err(rule::WRONG_TYPE)]);
    let kind = Kind::Timestamp { minimum: None, maximum: None, nanoseconds: true };
    let mut fine = contract();
    fine.columns.iter_mut().filter(|column| column.name == "at").for_each(|column| column.kind = kind.clone());
    let nanos = TimestampNanosecondArray::from(vec![1_999, -1]).with_timezone("UTC");
    let found = outcomes(fine, &batch(vec![("id", ids(2)), ("at", Arc::new(nanos))]));
    assert_eq!(found[0], Ok("id=i0 kind=A at=1970-01-01T00:00:00.000001Z".to_owned()));
    assert_eq!(found[1], Ok("id=i1 kind=A at=1969-12-31T23:59:59.999999Z".to_owned()), "cut off, as digits are");

    check("day", Date32Array::from(vec![19_782, i32::MAX]), &[Ok("day=2024-02-29"), Err(rule::OUT_OF_RANGE)]);
    check("day", Date64Array::from(vec![19_782 * 86_400_000, 1]), &[Ok("day=2024-02-29"), Err(rule::INVALID_DATE)]);
    check("day", StringArray::from(vec!["2024-02-29", "2024-02-30"]), &[Ok("day=2024-02-29"), Err(rule::INVALID_DATE)]);
    check(
        "time",
        Time32SecondArray::from(vec![63_000, 86_400, -1]),
        &[Ok("time=17:30:00"), Err(rule::INVALID_TIME), Err(rule::INVALID_TIME)],
    );
    check(
        "time",
        Time64NanosecondArray::from(vec![63_000_000_001_000, 1]),
        &[Ok("time=17:30:00.000001"), Err(rule::TOO_PRECISE)],
    );
    let invalid = Err(rule::INVALID_DURATION);
    check(
        "span",
        DurationMillisecondArray::from(vec![1_500, -1, i64::MAX]),
        &[Ok("span=1.500000000 secs"), invalid, Err(rule::OUT_OF_RANGE)],
    );
    check("span", IntervalYearMonthArray::from(vec![14]), &[Ok("span=14 mons")]);
    let days = IntervalDayTimeArray::from(vec![IntervalDayTime::new(2, 3_000), IntervalDayTime::new(-2, 0)]);
    check("span", days, &[Ok("span=2 days 3.000000000 secs"), invalid]);
}

#[test]
fn objects_and_arrays_are_read_by_the_same_rules_at_their_place() {
    let country: ArrayRef = Arc::new(StringArray::from(vec![Some("DE"), Some("DEU"), None, Some("FR")]));
    let code: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None, None]));
    let fields = vec![Field::new("code", DataType::Int32, true), Field::new("country", DataType::Utf8, true)];
    let valid = vec![true, true, true, false];
    let place = StructArray::try_new(fields.into(), vec![code, country], Some(valid.into())).unwrap();
    check(
        "place",
        place,
        &[Ok("place={country: DE, code: 1, tags: }"), Err(rule::MAX_LENGTH), Err(rule::NULL_NOT_ALLOWED), Ok("")],
    );
    let unnamed = StructArray::try_new(
        vec![Field::new("code", DataType::Int32, true)].into(),
        vec![Arc::new(Int32Array::from(vec![1]))],
        None,
    );
    check("place", unnamed.unwrap(), &[Err(rule::REQUIRED)]);
    let lists =
        || vec![Some(vec![Some(1), Some(2)]), Some(vec![]), None, Some(vec![Some(1), None]), Some(vec![Some(-1)])];
    let expected = [Ok("marks=[1, 2]"), Ok("marks=[]"), Ok(""), Err(rule::NULL_NOT_ALLOWED), Err(rule::OUT_OF_RANGE)];
    check("marks", ListArray::from_iter_primitive::<Int32Type, _, _>(lists()), &expected);
    check("marks", LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists()), &expected);
    check("marks", ListArray::from_iter_primitive::<Int32Type, _, _>(lists()).slice(1, 3), &expected[1..4]);
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), Some(4)])],
        2,
    );
    check("marks", fixed.slice(1, 2), &[Ok(""), Ok("marks=[3, 4]")]);
    check("marks", Int32Array::from(vec![1]), &[Err(rule::WRONG_TYPE)]);

    let found = outcomes(
        contract(),
        &batch(vec![
            ("id", ids(1)),
            ("marks", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(-1)])]))),
        ]),
    );
    assert_eq!(found, [Err(("/marks/1".to_owned(), rule::OUT_OF_RANGE))]);
}

#[test]
fn names_that_no_event_may_have_refuse_every_row() {
    let number = || Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef;
    let rows = batch(vec![("id", ids(2)), ("other", number())]);
    assert_eq!(outcomes(contract(), &rows), [Ok("id=i0 kind=A".to_owned()), Ok("id=i1 kind=A".to_owned())]);
    let closed = Contract { additional: false, ..contract() };
    assert_eq!(outcomes(closed, &rows), vec![Err(("/other".to_owned(), rule::UNKNOWN_PROPERTY)); 2]);
    let twice = batch(vec![("id", ids(2)), ("big", number()), ("big", number())]);
    assert_eq!(outcomes(contract(), &twice), vec![Err(("/big".to_owned(), rule::DUPLICATE_KEY)); 2]);
    let without = batch(vec![("big", number())]);
    assert_eq!(outcomes(contract(), &without), vec![Err(("/id".to_owned(), rule::REQUIRED)); 2]);
}

#[test]
fn rows_of_records_have_sequences_and_rows_of_a_message_indexes() {
    let rows = batch(vec![("id", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])) as ArrayRef)]);
    let system = |decoder: &mut Decoder| {
        let batch = decoder.finish().project(&[13, 14, 15, 16]).unwrap();
        (0..batch.num_rows()).map(|row| super::row_text(&batch, row)).collect::<Vec<_>>()
    };
    let mut decoder = decoder(contract());
    let mut rejected = Vec::new();
    let stream = Arc::from("FILE");
    assert_eq!(decoder.decode_batch(&rows, Origin::Records { stream: &stream, first: 11 }, &mut rejected), 2);
    assert_eq!(
        system(&mut decoder),
        [
            r#"{"_received_at":null,"_stream":"FILE","_sequence":"11","_index":"0"}"#,
            r#"{"_received_at":null,"_stream":"FILE","_sequence":"13","_index":"0"}"#
        ]
    );
    let message = message("");
    assert_eq!(decoder.decode_batch(&rows, Origin::Message { message: &message, first: 5 }, &mut rejected), 2);
    assert_eq!(
        system(&mut decoder),
        [
            r#"{"_received_at":"1970-01-01T00:00:01Z","_stream":"TEST","_sequence":"7","_index":"5"}"#,
            r#"{"_received_at":"1970-01-01T00:00:01Z","_stream":"TEST","_sequence":"7","_index":"7"}"#
        ]
    );
    let places: Vec<_> = rejected.iter().map(|found| (found.row, found.rejection.index)).collect();
    assert_eq!(places, [(1, 0), (1, 6)]);
}

fn dictionary(key: DataType, value: DataType) -> DataType {
    DataType::Dictionary(Box::new(key), Box::new(value))
}

fn decimals(values: Vec<i128>, precision: u8, scale: i8) -> Decimal128Array {
    Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()
}

/// Record batches as a message.
fn packed(batches: &[RecordBatch], compression: Option<CompressionType>) -> RawMessage {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    arrow_message(writer.into_inner().unwrap())
}

fn arrow_message(body: Vec<u8>) -> RawMessage {
    RawMessage { headers: vec![("Content-Type".to_owned(), ARROW.to_owned())], ..message(body) }
}

/// Rows as text with their indexes, and rejections, of one message.
fn decoded(decoder: &mut Decoder, message: &RawMessage) -> (Vec<String>, Vec<Rejection>) {
    let mut rejections = Vec::new();
    let appended = decoder.decode(message, &mut rejections);
    let rows = decoder.finish();
    assert_eq!(rows.num_rows(), appended);
    let index = rows.column(16).as_any().downcast_ref::<Int64Array>().unwrap().clone();
    ((0..appended).map(|row| format!("{} {}", index.value(row), shown(&rows, row))).collect(), rejections)
}

fn some_batches() -> Vec<RecordBatch> {
    let rows = |ids: Vec<Option<&str>>, counts: Vec<Option<i32>>| {
        let texts: DictionaryArray<Int32Type> = ids.iter().map(|_| Some("A")).collect();
        batch(vec![
            ("id", Arc::new(StringArray::from(ids)) as ArrayRef),
            ("kind", Arc::new(texts)),
            ("count", Arc::new(Int32Array::from(counts))),
            ("amount", Arc::new(decimals(vec![1_500; 3], 18, 3))),
        ])
    };
    vec![
        rows(vec![Some("a"), None, Some("c")], vec![Some(1), Some(2), None]),
        rows(vec![Some("d"), Some("e"), Some("f")], vec![Some(2_000), Some(3), Some(4)]),
    ]
}

#[test]
fn stream_gives_its_rows_and_each_bad_one_is_refused_alone() {
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let message = packed(&some_batches(), compression);
        let mut decoder = decoder(contract());
        let (rows, rejections) = decoded(&mut decoder, &message);
        assert_eq!(
            rows,
            [
                "0 id=a kind=A count=1 amount=1.500",
                "2 id=c kind=A amount=1.500",
                "4 id=e kind=A count=3 amount=1.500",
                "5 id=f kind=A count=4 amount=1.500",
            ]
        );
        let found: Vec<_> = rejections.iter().map(|found| (found.index, &*found.place, found.rule)).collect();
        assert_eq!(found, [(1, "/id", rule::NULL_NOT_ALLOWED), (3, "/count", rule::OUT_OF_RANGE)]);
        assert_eq!(event_count_hint(&message), 6);

        let bodies = decoder.event_bodies(&message, &[1, 3]);
        let alone = RawMessage { body: bodies[1].clone(), ..message.clone() };
        assert_eq!(readable(&alone), r#"{"id":"d","kind":"A","count":"2000","amount":"1.500"}"#);
        let (rows, again) = decoded(&mut decoder, &alone);
        assert_eq!((rows.len(), again.len()), (0, 1));
        assert_eq!((again[0].index, again[0].rule), (0, rule::OUT_OF_RANGE));
    }
}

#[test]
fn row_alone_has_nothing_of_its_neighbours() {
    let long = "neighbour ".repeat(1_000);
    let texts = vec![Some("short"), Some(long.as_str())];
    let tags = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), Some(vec![Some(2); 5_000])]);
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("text", DataType::Utf8View, true)),
        Arc::new(StringViewArray::from(texts.clone())) as ArrayRef,
    )]);
    let rows = batch(vec![
        ("plain", Arc::new(StringArray::from(texts.clone())) as ArrayRef),
        ("view", Arc::new(StringViewArray::from(texts.clone()))),
        ("dictionary", Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>())),
        ("list", Arc::new(tags)),
        ("nested", Arc::new(nested)),
    ]);
    let bytes = row_bytes(&rows, 0).unwrap();
    assert!(bytes.len() < 4_096, "{} bytes", bytes.len());
    let again = super::batches(&bytes).unwrap();
    assert_eq!(super::row_text(&again[0], 0), super::row_text(&rows, 0));
    assert!(row_bytes(&rows, 2).is_err());
}

#[test]
fn stream_that_is_not_whole_is_one_rejection_and_gives_no_row() {
    let whole = packed(&some_batches(), None).body.to_vec();
    let mut decoder = decoder(contract());
    let mut check = |body: &[u8], expected: &'static str| {
        let (rows, rejections) = decoded(&mut decoder, &arrow_message(body.to_vec()));
        let found: Vec<_> = rejections.iter().map(|found| (found.index, found.rule)).collect();
        assert_eq!((rows.len(), found), (0, vec![(0, expected)]), "{rejections:?}");
    };
    for length in 0..whole.len() {
        check(&whole[..length], rule::INVALID_ARROW);
    }
    check(&[&whole[..], b"\0"].concat(), rule::TRAILING_DATA);
    check(&[&whole[..], &whole[..]].concat(), rule::TRAILING_DATA);
    check(b"ARROW1\0\0", rule::INVALID_ARROW);
    check(b"{\"id\":\"a\"}", rule::INVALID_ARROW);
    check(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], rule::INVALID_ARROW);
}

#[test]
fn stream_without_rows_holds_no_event() {
    let none = batch(vec![("id", ids(0))]);
    for message in [packed(&[none.clone(), none.clone()], None), packed(&[none], Some(CompressionType::ZSTD))] {
        assert_eq!(decoded(&mut decoder(contract()), &message), (Vec::new(), Vec::new()));
    }
}

/// A message whose rejection is of all of it.
fn check_whole(message: &RawMessage, expected: &'static str, reason: &str) {
    let (rows, rejections) = decoded(&mut decoder(contract()), message);
    assert_eq!(rows.len(), 0);
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert_eq!((rejections[0].index, rejections[0].rule), (0, expected), "{}", rejections[0].reason);
    assert!(rejections[0].reason.contains(reason), "{}", rejections[0].reason);
    assert_eq!(decoder(contract()).event_bodies(message, &[0]), [message.body.clone()]);
}

#[test]
fn stream_beyond_the_limits_is_refused_before_it_takes_memory() {
    let too_many = batch(vec![("id", Arc::new(NullArray::new(EVENTS_MAX + 1)) as ArrayRef)]);
    check_whole(&packed(&[too_many], None), rule::TOO_MANY_EVENTS, "more than 65536 events");

    let zeros = Int64Array::from(vec![0; 80_000]);
    let list = ListArray::new(
        Arc::new(Field::new("item", DataType::Int64, true)),
        arrow::buffer::OffsetBuffer::from_lengths([80_000]),
        Arc::new(zeros),
        None,
    );
    let bomb = batch((0..120).map(|_| ("list", Arc::new(list.clone()) as ArrayRef)).collect());
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let message = packed(std::slice::from_ref(&bomb), Some(compression));
        assert!(message.body.len() < 1 << 20, "{} bytes", message.body.len());
        check_whole(&message, rule::MESSAGE_TOO_LARGE, "bytes unpacked");
    }

    // One text that every row refers to.
    let text = "x".repeat(MESSAGE_BYTES_MAX / 2);
    let count = usize::try_from(ARROW_BYTES_MAX).unwrap() / text.len() + 1;
    let repeated: DictionaryArray<Int32Type> = (0..count).map(|_| Some(text.as_str())).collect();
    let views: Vec<_> = (0..count).map(|_| Some(text.as_str())).collect();
    let mut builder = arrow::array::StringViewBuilder::new().with_deduplicate_strings();
    views.iter().for_each(|text| builder.append_option(*text));
    for column in [Arc::new(repeated) as ArrayRef, Arc::new(builder.finish())] {
        let message = packed(&[batch(vec![("kind", column)])], None);
        assert!(message.body.len() < MESSAGE_BYTES_MAX, "{} bytes", message.body.len());
        check_whole(&message, rule::MESSAGE_TOO_LARGE, "bytes unpacked");
    }

    let nulls = FixedSizeListArray::try_new_with_length(
        Arc::new(Field::new("item", DataType::Null, true)),
        10_000_000,
        Arc::new(NullArray::new(10_000_000)),
        None,
        1,
    );
    check_whole(&packed(&[batch(vec![("marks", Arc::new(nulls.unwrap()))])], None), rule::MESSAGE_TOO_LARGE, "values");

    let long = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let row = batch(vec![("id", Arc::new(StringArray::from(vec![long, "a".to_owned()])))]);
    let (rows, rejections) = decoded(&mut decoder(contract()), &packed(&[row], None));
    assert_eq!(rows, ["1 id=a kind=A"]);
    assert_eq!(rejections[0].rule, rule::MAX_LENGTH, "bounds come first");
}

#[test]
fn compressed_length_that_lies_is_refused() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(10_000)]));
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let honest = packed(&[batch(vec![("kind", Arc::clone(&texts))])], Some(compression)).body.to_vec();
        let length = 10_000_i64.to_le_bytes();
        let at = honest.windows(8).rposition(|window| *window == length).expect("the length of the text's buffer");
        for said in [9_999, 10_001, 1, -2, i64::MIN, i64::MAX, 1 << 40] {
            let mut lying = honest.clone();
            lying[at..at + 8].copy_from_slice(&i64::to_le_bytes(said));
            let (rows, rejections) = decoded(&mut decoder(contract()), &arrow_message(lying));
            assert_eq!((rows.len(), rejections.len()), (0, 1), "{said}");
            let rule = rejections[0].rule;
            assert!(rule == rule::INVALID_ARROW || rule == rule::MESSAGE_TOO_LARGE, "{said}: {rule}");
        }
    }
}

#[test]
fn types_that_arrow_reads_on_trust_are_refused() {
    use arrow::array::{Int16Array, RunArray, UnionArray};
    let run =
        RunArray::<arrow::datatypes::Int16Type>::try_new(&Int16Array::from(vec![2]), &StringArray::from(vec!["A"]));
    let fields = [(0, Arc::new(Field::new("a", DataType::Int32, true)))].into_iter().collect();
    let union = UnionArray::try_new(fields, vec![0, 0].into(), None, vec![Arc::new(Int32Array::from(vec![1, 2]))]);
    for column in [Arc::new(run.unwrap()) as ArrayRef, Arc::new(union.unwrap())] {
        check_whole(&packed(&[batch(vec![("kind", column)])], None), rule::INVALID_ARROW, "is not read");
    }
}

/// One event of the test contract, with any of its properties.
fn event() -> impl Strategy<Value = String> {
    let some = |text: &'static str| prop::option::of(Just(text));
    (
        "[a-zäß\\\\n]{1,4}",
        prop::option::of(-5_i64..=1_000),
        prop::option::of(any::<i64>()),
        prop::option::of(0_i64..10_i64.pow(15)),
        prop::option::of(946_684_800_i64..4_102_444_800),
        (some("true"), some("\"2024-02-29\""), some("\"17:30:00.25\""), some("\"P1Y2M3DT4H5M6.7S\"")),
        (some("null"), some(r#"{"country":"DE","tags":["x",null],"code":3}"#), some("[1,2,3]")),
    )
        .prop_map(|(id, count, big, amount, at, (flag, day, time, span), (null, place, marks))| {
            let mut text = format!("{{\"id\":{}", serde_json::Value::from(id));
            let mut add = |name: &str, value: Option<String>| {
                text.extend(value.map(|value| format!(",\"{name}\":{value}")));
            };
            let stamp = |at: i64| format!("\"{}\"", chrono::DateTime::from_timestamp(at, 0).unwrap().to_rfc3339());
            add("count", count.map(|value| value.to_string()));
            add("big", big.map(|value| value.to_string()));
            add("amount", amount.map(|value| format!("{value}e-3")));
            add("at", at.map(stamp));
            add("flag", flag.or(null).map(str::to_owned));
            add("day", day.map(str::to_owned));
            add("time", time.map(str::to_owned));
            add("span", span.map(str::to_owned));
            add("place", place.map(str::to_owned));
            add("marks", marks.map(str::to_owned));
            text + "}"
        })
}

/// The same values in other types.
fn disguised(column: &ArrayRef, choice: u8) -> ArrayRef {
    let other = match (column.data_type(), choice % 4) {
        (DataType::Utf8View, 0) => DataType::Utf8,
        (DataType::Utf8View, 1) => DataType::LargeUtf8,
        (DataType::Utf8View, 2) => dictionary(DataType::Int16, DataType::Utf8),
        (DataType::Int64, 1) => DataType::Decimal128(30, 4),
        (DataType::Int64, 2) => dictionary(DataType::Int8, DataType::Int64),
        (DataType::Decimal128(..), 1) => DataType::Decimal128(30, 6),
        (DataType::Decimal128(..), 2) => DataType::Decimal256(40, 3),
        (DataType::Timestamp(..), 1) => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        (DataType::Timestamp(..), 2) => DataType::Timestamp(TimeUnit::Second, Some("Asia/Tokyo".into())),
        (DataType::Time64(_), 1) => DataType::Time64(TimeUnit::Nanosecond),
        (DataType::Date32, 1) => DataType::Date64,
        (DataType::List(field), 1) => DataType::LargeList(Arc::clone(field)),
        _ => return Arc::clone(column),
    };
    cast(column, &other).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_the_same_from_json_and_from_arrow(
        events in prop::collection::vec(event(), 1..20),
        choices in prop::collection::vec(any::<u8>(), 13),
        cut in any::<prop::sample::Index>(),
        compression in prop::sample::select(vec![None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)]),
    ) {
        let mut decoder = decoder(contract());
        let mut rejections = Vec::new();
        let json: RawMessage = RawMessage {
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            ..message(format!("[{}]", events.join(",")))
        };
        decoder.decode(&json, &mut rejections);
        prop_assert_eq!(&rejections, &[]);
        let rows = decoder.finish();

        let columns = rows.schema().fields().iter().zip(rows.columns()).zip(&choices)
            .map(|((field, column), choice)| {
                let column = disguised(column, *choice);
                (Field::new(field.name(), column.data_type().clone(), true), column)
            })
            .collect::<Vec<_>>();
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let sent = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let cut = cut.index(sent.num_rows());
        let parts = [sent.slice(0, cut), sent.slice(cut, sent.num_rows() - cut)];
        decoder.decode(&packed(&parts, compression), &mut rejections);
        prop_assert_eq!(&rejections, &[]);
        prop_assert_eq!(decoder.finish(), rows);
    }

    #[test]
    fn spoiled_bytes_give_rows_or_rejections_and_never_a_panic(
        compression in prop::sample::select(vec![None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)]),
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        removed in prop::option::of((any::<prop::sample::Index>(), 1_usize..40)),
    ) {
        let mut body = packed(&some_batches(), compression).body.to_vec();
        for (at, byte) in spoils {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some((at, count)) = removed {
            let start = at.index(body.len());
            body.drain(start..(start + count).min(body.len()));
        }
        let mut decoder = decoder(contract());
        let spoiled = arrow_message(body);
        let (rows, rejections) = decoded(&mut decoder, &spoiled);
        let indexes: Vec<u32> = rejections.iter().map(|rejection| rejection.index).collect();
        prop_assert_eq!(decoder.event_bodies(&spoiled, &indexes).len(), indexes.len());
        prop_assert!(rows.len() + rejections.len() <= EVENTS_MAX);
        prop_assert!(!readable(&spoiled).is_empty());
        event_count_hint(&spoiled);
        let (good, none) = decoded(&mut decoder, &packed(&some_batches()[1..], None));
        prop_assert_eq!((good.len(), none.len()), (2, 1), "the next message is read as ever");
    }
}

#[test]
fn a_column_of_any_kind_reads_back_from_its_own_type() {
    // Every kind has a type that it is kept in: what was accepted once is accepted again.
    let mut columns: Vec<Column> = contract().columns;
    columns.iter_mut().for_each(|column| column.required = false);
    let empty = RecordBatch::new_empty(contract().schema());
    let cells = decoder(Contract { columns, ..contract() }).bind(&empty);
    assert!(!format!("{cells:?}").contains("Unfit"), "{cells:?}");
}
