use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, DurationMillisecondArray, Float64Array,
    Int32Array, IntervalMonthDayNanoArray, ListArray, MapBuilder, NullArray, StringArray, StringBuilder,
    StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int8Type, IntervalMonthDayNano};

use super::*;

/// The JSON of each row of a column, as the row of a one-column table.
fn rendered(array: ArrayRef) -> Vec<String> {
    let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
    let rows = Rows::new(&batch).unwrap();
    (0..batch.num_rows())
        .map(|row| {
            let mut out = Vec::new();
            rows.write(row, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        })
        .collect()
}

#[test]
fn each_type_has_one_form() {
    let utc = |micros: Vec<Option<i64>>| TimestampMicrosecondArray::from(micros).with_timezone("UTC");
    let decimals =
        Decimal128Array::from(vec![Some(1_050), Some(-5), Some(0), None]).with_precision_and_scale(18, 3).unwrap();
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([
        Some(vec![Some(1), None, Some(3)]),
        Some(vec![]),
        None,
    ]);
    let structs = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ]);
    let dictionary: DictionaryArray<Int8Type> = vec![Some("ACT"), None, Some("EST")].into_iter().collect();
    let cases: Vec<(ArrayRef, &[&str])> = vec![
        (Arc::new(NullArray::new(1)), &["null"]),
        (Arc::new(BooleanArray::from(vec![Some(true), None])), &["true", "null"]),
        (Arc::new(Int32Array::from(vec![-7])), &["-7"]),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), &["18446744073709551615"]),
        (
            Arc::new(Float64Array::from(vec![1.5, -0.0, 1e300, f64::NAN, f64::NEG_INFINITY])),
            &["1.5", "0.0", "1e+300", "\"NaN\"", "\"-Infinity\""],
        ),
        (Arc::new(decimals), &["\"1.050\"", "\"-0.005\"", "\"0.000\"", "null"]),
        (Arc::new(StringViewArray::from(vec!["a\"b\\c\n", "é"])), &["\"a\\\"b\\\\c\\n\"", "\"é\""]),
        (Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])), &["\"00ff\""]),
        (
            Arc::new(utc(vec![Some(1_500_000), Some(-1)])),
            &["\"1970-01-01T00:00:01.500000Z\"", "\"1969-12-31T23:59:59.999999Z\""],
        ),
        (Arc::new(TimestampSecondArray::from(vec![1])), &["\"1970-01-01T00:00:01.000000\""]),
        (
            Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC")),
            &["\"1970-01-01T00:00:00.000000001Z\""],
        ),
        (Arc::new(Date32Array::from(vec![20_000])), &["\"2024-10-04\""]),
        (Arc::new(Time64MicrosecondArray::from(vec![43_200_000_001])), &["\"12:00:00.000001\""]),
        (
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                IntervalMonthDayNano::new(14, 3, 12_500_000_000),
                IntervalMonthDayNano::new(0, 0, 0),
                IntervalMonthDayNano::new(0, -1, -1),
            ])),
            &["\"P14M3DT12.5S\"", "\"PT0S\"", "\"P-1DT-0.000000001S\""],
        ),
        (Arc::new(DurationMillisecondArray::from(vec![90_000])), &["\"PT90S\""]),
        (Arc::new(list), &["[1,null,3]", "[]", "null"]),
        (Arc::new(structs), &["{\"a\":1,\"b\":\"x\"}", "{\"a\":null,\"b\":\"y\"}"]),
        (Arc::new(dictionary), &["\"ACT\"", "null", "\"EST\""]),
    ];
    for (array, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|value| format!("{{\"c\":{value}}}")).collect();
        assert_eq!(rendered(Arc::clone(&array)), expected, "{}", array.data_type());
    }
}

#[test]
fn columns_stand_in_schema_order_and_names_are_escaped() {
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("z", Arc::clone(&one)), ("a\"", Arc::clone(&one)), ("m", one)]).unwrap();
    let mut out = Vec::new();
    Rows::new(&batch).unwrap().write(0, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"z":1,"a\"":1,"m":1}"#);
}

#[test]
fn a_sliced_batch_gives_its_own_rows() {
    let list =
        ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>((0..4).map(|i| Some(vec![Some(i); 2])));
    assert_eq!(rendered(Arc::new(list.slice(2, 2))), ["{\"c\":[2,2]}", "{\"c\":[3,3]}"]);
}

#[test]
fn a_column_without_a_json_form_is_refused_by_name() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.append(true).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let batch = RecordBatch::try_from_iter([("attributes", map)]).unwrap();
    let error = check_schema(&batch.schema()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.to_string().starts_with("column `attributes` of type `Map("), "{error}");
}

#[test]
fn the_text_of_a_key_is_its_value_without_quotes() {
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("s", Arc::new(StringArray::from(vec![Some("\"x\""), None])) as ArrayRef, true),
        ("d", Arc::new(Date32Array::from(vec![20_000, 0])) as ArrayRef, true),
        ("n", Arc::new(Int32Array::from(vec![7, 8])) as ArrayRef, true),
    ])
    .unwrap();
    let rows = Rows::new(&batch).unwrap();
    assert_eq!(rows.text(0, 0).unwrap().as_deref(), Some("\"x\""));
    assert_eq!(rows.text(0, 1).unwrap(), None);
    assert_eq!(rows.text(1, 0).unwrap().as_deref(), Some("2024-10-04"));
    assert_eq!(rows.text(2, 1).unwrap().as_deref(), Some("8"));
    assert!(rows.text(3, 0).is_err());
}
