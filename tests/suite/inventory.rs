//! The shipped stock with its injected faults: each is found as its class, and nothing else is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::program::{Setting, folder, write_lines};
use crate::shipped_data::STOCK;

/// What the log itself has in flight at the ERP's moment: a parcel packed and not sent yet, palettes of a delivery not done yet.
const IN_FLIGHT: [&str; 2] = ["AAC1/BOX//unrestricted", "EIN1/BACK-LIGHT//unrestricted"];

fn key(row: &Value) -> String {
    let part = |name: &str| row[name].as_str().expect("a text").to_owned();
    ["site", "sku", "lot", "stock_type"].map(part).join("/")
}

#[test]
fn each_injected_fault_is_found_as_its_class_and_only_there() {
    let work = folder();
    let arrival = work.path().join("arrival.ndjson");
    write_lines(&arrival, &STOCK.events());
    let setting = Setting::of_file(&STOCK, &arrival);
    setting.run(&[]).text();
    let said = setting.ask("query", &["SELECT * FROM inventory_reconciliation", "--format", "json"]).text();
    let rows = said.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let mut rows: BTreeMap<String, Value> = rows.map(|row: Value| (key(&row), row)).collect();

    let manifest = std::fs::read_to_string(STOCK.data("injected_cases.json")).expect("the manifest is there");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let mut found = BTreeMap::<String, usize>::new();
    for case in manifest["cases"].as_array().expect("cases") {
        for position in case["positions"].as_array().expect("positions") {
            let at = key(position);
            let row = rows.remove(&at);
            if position["class"].is_null() {
                assert_eq!(row, None, "case {}: {at} is not compared", case["case"]);
                continue;
            }
            let row = row.unwrap_or_else(|| panic!("case {}: {at} is not compared", case["case"]));
            for name in ["class", "warehouse_quantity", "erp_quantity", "within_tolerance"] {
                assert_eq!(row[name], position[name], "case {}: `{name}` of {at}", case["case"]);
            }
            *found.entry(row["class"].as_str().expect("a text").to_owned()).or_default() += 1;
        }
    }
    let classes: Vec<&str> = found.keys().map(String::as_str).collect();
    let all = [
        "LOT_SWAP",
        "MATCH",
        "MISSING_IN_ERP",
        "MISSING_IN_WMS",
        "NEGATIVE_STOCK",
        "STOCK_TYPE",
        "TIMING",
        "TRUE_VARIANCE",
        "UOM_MISMATCH",
    ];
    assert_eq!(classes, all, "every class has a case");

    let (explained, invented): (Vec<_>, Vec<_>) =
        rows.into_iter().filter(|(_, row)| row["class"] != "MATCH").partition(|(_, row)| row["class"] == "TIMING");
    assert_eq!(invented, [], "differences that nobody injected");
    let explained: Vec<&str> = explained.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(explained, IN_FLIGHT);
}
