//! A table as its writer and its readers meet it, on a real disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListBuilder, StringViewArray,
    StringViewBuilder, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, IntervalUnit, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use tempfile::TempDir;

use super::store::Step;
use super::*;
use crate::definition::contract::utc_timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Stamp;
use crate::types::{Epoch, Micros};

const PATH: &str = "kpi/dispatch_sla";
const LIMITS: FileLimits = FileLimits { rows_min: 50, rows_spread: 50, rows_max: 200, group_rows_max: 30 };
const MINUTE: Micros = 60_000_000;

fn meta(epoch: u64) -> TableMeta {
    let stamp = Stamp { epoch: Epoch(epoch), clock: Some(1_000), watermark: None };
    TableMeta { pipeline: "order_to_invoice".to_owned(), job: "kpi_dispatch_sla".to_owned(), stamp }
}

fn ids_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("epoch", DataType::Int64, false)]))
}

/// Rows of `ids`, all of which carry the same `mark`.
fn marked(ids: std::ops::Range<i64>, mark: i64) -> RecordBatch {
    let marks = Int64Array::from(vec![mark; ids.clone().count()]);
    RecordBatch::try_new(ids_schema(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(marks)])
        .expect("a batch")
}

/// What somebody else does to a path.
type Deed = fn(&Path);

/// Rows, their schema, and the key that sorts them.
type Rows<'a> = (&'a [RecordBatch], &'a SchemaRef, &'a [String]);

/// Calls `publish` with a publication of a table without partitions.
fn whole(
    (rows, schema, key): Rows<'_>,
    meta: &TableMeta,
    publish: impl FnOnce(&Publication<'_>) -> Result<Published<TableVersion>>,
) -> Result<TableVersion> {
    let partitions = [unpartitioned(rows.to_vec())];
    match publish(&Publication { schema, key, partition_by: &[], meta, partitions: &partitions, scope: Scope::Whole })?
    {
        Published::Version(version) => Ok(version),
        Published::WholeNeeded => panic!("it was the whole table"),
    }
}

struct Table {
    home: TempDir,
    store: TableStore,
}

impl Table {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let store = open(home.path()).expect("a free path");
        Self { home, store }
    }

    fn publish(&mut self, batch: &RecordBatch, epoch: u64, now: Micros) -> Result<TableVersion> {
        self.store.publish(std::slice::from_ref(batch), &batch.schema(), &["id".to_owned()], &meta(epoch), now)
    }

    fn link(&self) -> PathBuf {
        self.home.path().join(PATH)
    }

    fn versions(&self) -> Vec<String> {
        let listed = fs::read_dir(self.home.path().join(".versions").join(PATH)).expect("a directory");
        let mut names: Vec<String> =
            listed.map(|found| found.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

fn open(home: &Path) -> Result<TableStore> {
    Ok(TableStore::open(home, Path::new(PATH))?.with_limits(LIMITS))
}

/// What a reader sees that globs the path: the ids in file order, and the marks that occur.
fn seen(link: &Path) -> (Vec<i64>, Vec<i64>) {
    let Ok(listed) = fs::read_dir(link) else { return (Vec::new(), Vec::new()) };
    let mut files: Vec<PathBuf> = listed.map(|found| found.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    files.sort();
    let (mut ids, mut marks) = (Vec::new(), Vec::new());
    for file in files {
        let bytes = bytes::Bytes::from(fs::read(&file).expect("a file that was listed"));
        for batch in super::encode::decode(bytes, &ids_schema()).expect("a whole file") {
            ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
            marks.extend(batch.column(1).as_primitive::<Int64Type>().values());
        }
    }
    marks.sort_unstable();
    marks.dedup();
    (ids, marks)
}

#[test]
fn every_type_comes_back_as_it_was_published() {
    let mut tags = ListBuilder::new(StringViewBuilder::new());
    tags.append_value([Some("a"), None, Some("a longer text that does not fit into a view")]);
    tags.append_null();
    tags.append_value::<[Option<&str>; 0], _>([]);
    let columns: Vec<(&str, Arc<dyn Array>)> = vec![
        ("id", Arc::new(StringViewArray::from(vec!["a", "b", "c"]))),
        ("text", Arc::new(StringViewArray::from(vec![Some("ä"), None, Some("")]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("ratio", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::INFINITY)]))),
        (
            "amount",
            Arc::new(
                Decimal128Array::from(vec![Some(-1), None, Some(10i128.pow(38) - 1)])
                    .with_precision_and_scale(38, 3)
                    .expect("a decimal"),
            ),
        ),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]).with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))),
        ("opens_at", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        ("tags", Arc::new(tags.finish())),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, name != "id")))
            .expect("a batch");
    assert_eq!(batch.schema().field(6).data_type(), &utc_timestamp());

    let mut table = Table::new();
    let reversed = [batch.slice(2, 1), batch.slice(0, 2)];
    let version = table.store.publish(&reversed, &batch.schema(), &["id".to_owned()], &meta(7), 0).expect("published");
    assert_eq!((version.number, version.rows, version.meta), (1, 3, meta(7)));
    let read = open(table.home.path()).expect("open").read().expect("read");
    assert_eq!(concat_batches(&batch.schema(), &read).expect("one schema"), batch);
}

#[test]
fn an_empty_table_is_one_file_of_no_rows() {
    let mut table = Table::new();
    let store = &mut table.store;
    assert_eq!(store.current().expect("readable"), None);
    let version = store.publish(&[], &ids_schema(), &["id".to_owned()], &meta(1), 0).expect("published");
    assert_eq!((version.rows, version.files.len()), (0, 1));
    assert_eq!(version.paths().iter().filter(|path| path.exists()).count(), 1);
    assert_eq!(table.store.read().expect("read").iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    assert_eq!(table.store.current().expect("readable"), Some(version));
}

#[test]
fn equal_content_at_the_same_epoch_makes_no_version_and_at_another_shares_all_files() {
    let mut table = Table::new();
    let batch = marked(0..500, 1);
    let first = table.publish(&batch, 1, 0).expect("published");
    assert!(first.files.len() > 2, "{}", first.files.len());
    assert_eq!(table.publish(&batch, 1, MINUTE).expect("published"), first);
    assert_eq!(table.versions().len(), 1);

    let second = table.publish(&batch, 2, MINUTE).expect("published");
    assert_eq!((second.number, second.meta.stamp.epoch), (2, Epoch(2)));
    assert_eq!(second.files, first.files);
    let inodes = |version: &TableVersion| -> Vec<u64> {
        version.paths().iter().map(|path| fs::metadata(path).expect("a file").ino()).collect()
    };
    assert_eq!(inodes(&second), inodes(&first));
}

#[test]
fn files_whose_rows_did_not_change_are_linked_into_the_next_version() {
    let mut table = Table::new();
    let first = table.publish(&marked(0..500, 1), 1, 0).expect("published");
    let second = table.publish(&marked(0..501, 1), 2, 0).expect("published");
    let (last, kept) = second.files.split_last().expect("files");
    assert_eq!(kept, &first.files[..kept.len()]);
    assert!(!first.files.contains(last));
    for file in kept {
        let metadata = fs::metadata(second.directory.join(&file.name)).expect("a file");
        assert_eq!(metadata.nlink(), 2, "{}", file.name);
    }
    assert_eq!(seen(&table.link()).0, (0..501).collect::<Vec<_>>());
}

#[test]
fn a_reader_between_any_two_steps_sees_one_whole_version() {
    let table = Table::new();
    let (link, mut store) = (table.link(), table.store);
    let (mut expected, mut steps) = (Vec::new(), 0);
    for epoch in 1..=6u64 {
        let mark = i64::try_from(epoch).expect("small");
        let batch = marked(0..100 * mark, mark);
        let rows: Rows<'_> = (std::slice::from_ref(&batch), &batch.schema(), &["id".to_owned()]);
        let published = whole(rows, &meta(epoch), |publication| {
            store.publish_observed(publication, mark * 6 * MINUTE, &mut |step| {
                if step == Step::Current {
                    expected = vec![mark];
                }
                let (ids, marks) = seen(&link);
                assert_eq!(marks, expected, "epoch {epoch}, {step:?}");
                assert_eq!(
                    ids,
                    (0..100 * expected.first().unwrap_or(&0)).collect::<Vec<_>>(),
                    "epoch {epoch}, {step:?}"
                );
                steps += 1;
                Ok(())
            })
        });
        published.expect("published");
    }
    assert!(steps > 40, "{steps}");
}

#[test]
fn who_resolved_the_link_reads_on_in_that_version_for_ten_minutes() {
    let mut table = Table::new();
    let first = table.publish(&marked(0..300, 1), 1, 0).expect("published");
    let resolved = fs::canonicalize(table.link()).expect("a link");
    table.publish(&marked(0..10, 2), 2, 60 * MINUTE).expect("published");
    table.publish(&marked(0..10, 3), 3, 70 * MINUTE - 1).expect("published");
    assert_eq!(seen(&resolved), ((0..300).collect(), vec![1]));
    assert_eq!(seen(&table.link()), ((0..10).collect(), vec![3]));
    assert_eq!(table.versions().len(), 3);
    table.publish(&marked(0..10, 3), 3, 70 * MINUTE).expect("published");
    assert!(!first.directory.exists());
    assert_eq!(table.versions().len(), 2);
}

/// Dies after the `death`-th step of a publication; false if it has fewer.
fn check_death(death: usize) -> bool {
    let mut table = Table::new();
    table.publish(&marked(0..300, 1), 1, 0).expect("published");
    let (mut done, mut was_current) = (0, false);
    let batch = marked(0..310, 2);
    let published =
        whole((std::slice::from_ref(&batch), &batch.schema(), &["id".to_owned()]), &meta(2), |publication| {
            table.store.attempt(publication, MINUTE, &mut |step| {
                was_current |= step == Step::Current;
                done += 1;
                if done == death { Err(Error::internal("dead")) } else { Ok(()) }
            })
        });
    if published.is_ok() {
        return false;
    }
    table.store = open(table.home.path()).expect("open");
    let current = table.store.current().expect("readable").expect("a version");
    let mark = if was_current { 2 } else { 1 };
    assert_eq!(current.number, mark, "step {death}");
    let read = concat_batches(&ids_schema(), &table.store.read().expect("whole")).expect("one schema");
    assert_eq!(read, if was_current { batch.clone() } else { marked(0..300, 1) }, "step {death}");
    assert_eq!(seen(&table.link()).1, [i64::try_from(mark).expect("small")], "step {death}");

    // The same publication again: done once in the end, under a number that was never seen.
    let again = table.publish(&batch, 2, 2 * MINUTE).expect("published");
    assert_eq!(again.number, if was_current { 2 } else { 3 }, "step {death}");
    assert_eq!(seen(&table.link()), ((0..310).collect(), vec![2]), "step {death}");
    let is_leftover = |name: &String| name.ends_with("-partial") || name.ends_with("-link");
    assert!(!table.versions().iter().any(is_leftover), "step {death}: {:?}", table.versions());
    table.publish(&marked(0..1, 3), 3, 60 * MINUTE).expect("published");
    table.publish(&marked(0..1, 3), 3, 80 * MINUTE).expect("published");
    assert_eq!(table.versions().len(), 1, "step {death}");
    true
}

#[test]
fn dying_after_any_step_leaves_a_whole_version_and_no_number_is_used_again() {
    let deaths = (1..100).take_while(|death| check_death(*death)).count();
    assert!(deaths >= 8, "{deaths}");
}

#[test]
fn a_failed_publication_gives_its_space_back_and_its_number_is_not_used_again() {
    let mut table = Table::new();
    table.publish(&marked(0..10, 1), 1, 0).expect("published");
    let (link, batch) = (table.link(), marked(0..10, 2));
    let target = fs::read_link(&link).expect("a link");
    for occupied_after in [Step::Begun, Step::FileWritten, Step::LinkMade] {
        let published =
            whole((std::slice::from_ref(&batch), &batch.schema(), &["id".to_owned()]), &meta(2), |publication| {
                table.store.publish_observed(publication, 0, &mut |step| {
                    if step == occupied_after {
                        fs::remove_file(&link).expect("removed");
                        fs::write(&link, "foreign").expect("written");
                    }
                    Ok(())
                })
            });
        assert_eq!(published.expect_err("occupied").kind(), ErrorKind::Definition, "{occupied_after:?}");
        assert_eq!(fs::read(&link).expect("still there"), b"foreign", "{occupied_after:?}");
        let is_leftover = |name: &String| name.ends_with("-partial") || name.ends_with("-link");
        assert!(!table.versions().iter().any(is_leftover), "{occupied_after:?}: {:?}", table.versions());
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
    }
    assert_eq!(table.publish(&batch, 2, 0).expect("published").number, 5);
}

#[test]
fn a_number_is_not_used_again_by_the_writer_that_lost_its_directory() {
    let mut table = Table::new();
    table.publish(&marked(0..10, 1), 1, 0).expect("published");
    let versions = table.home.path().join(".versions").join(PATH);
    let batch = marked(0..10, 2);
    for (step, lost) in [(Step::FileWritten, "00000002-partial"), (Step::LinkMade, "00000003-link")] {
        let published =
            whole((std::slice::from_ref(&batch), &batch.schema(), &["id".to_owned()]), &meta(2), |publication| {
                table.store.publish_observed(publication, 0, &mut |now| {
                    let lost = versions.join(lost);
                    match (now == step, lost.is_dir()) {
                        (false, _) => {}
                        (true, true) => fs::remove_dir_all(lost).expect("removed"),
                        (true, false) => fs::remove_file(lost).expect("removed"),
                    }
                    Ok(())
                })
            });
        assert_eq!(published.expect_err(lost).kind(), ErrorKind::Unavailable, "{lost}");
        assert_eq!(table.versions().len(), 1, "{lost}: {:?}", table.versions());
        assert_eq!(seen(&table.link()).1, [1], "{lost}");
    }
    assert_eq!(table.publish(&batch, 2, 0).expect("published").number, 4);
}

#[test]
fn a_damaged_file_is_corrupt_and_is_not_linked_into_the_next_version() {
    let damages: [(&str, Deed); 3] = [
        ("a flipped bit", |path| {
            let mut bytes = fs::read(path).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        }),
        ("a lost tail", |path| {
            let bytes = fs::read(path).expect("a file");
            fs::write(path, &bytes[..bytes.len() - 1]).expect("written");
        }),
        ("a lost file", |path| fs::remove_file(path).expect("removed")),
    ];
    for (name, damage) in damages {
        let mut table = Table::new();
        let batch = marked(0..300, 1);
        let version = table.publish(&batch, 1, 0).expect("published");
        damage(&version.paths()[0]);
        assert_eq!(table.store.read().expect_err(name).kind(), ErrorKind::Corrupt, "{name}");
        table.publish(&batch, 2, 0).expect("published");
        let read = table.store.read().expect(name);
        assert_eq!(concat_batches(&ids_schema(), &read).expect("one schema"), batch, "{name}");
    }
}

#[test]
fn a_damaged_manifest_is_corrupt_and_the_next_publication_heals_it() {
    for text in [None, Some(""), Some("{}")] {
        let mut table = Table::new();
        let version = table.publish(&marked(0..3, 1), 1, 0).expect("published");
        let manifest = version.directory.join("_current.json");
        match text {
            Some(text) => fs::write(&manifest, text).expect("written"),
            None => fs::remove_file(&manifest).expect("removed"),
        }
        assert_eq!(table.store.current().expect_err("damaged").kind(), ErrorKind::Corrupt, "{text:?}");
        assert_eq!(table.publish(&marked(0..3, 1), 1, 0).expect("published").number, 2);
        assert_eq!(seen(&table.link()).0, [0, 1, 2]);
    }
}

#[test]
fn a_path_that_something_else_occupies_is_refused_and_left_alone() {
    let occupations: [(&str, Deed); 4] = [
        ("a directory", |home| fs::create_dir_all(home.join(PATH)).expect("created")),
        ("a file", |home| {
            fs::create_dir_all(home.join("kpi")).expect("created");
            fs::write(home.join(PATH), "x").expect("written");
        }),
        ("a foreign link", |home| {
            fs::create_dir_all(home.join("kpi")).expect("created");
            std::os::unix::fs::symlink("elsewhere", home.join(PATH)).expect("linked");
        }),
        ("a table above", |home| {
            let mut above = TableStore::open(home, Path::new("kpi")).expect("open");
            above.publish(&[], &ids_schema(), &[], &meta(1), 0).expect("published");
        }),
    ];
    for (name, occupy) in occupations {
        let table = Table::new();
        let (home, mut store) = (table.home, table.store);
        occupy(home.path());
        let before = fs::symlink_metadata(home.path().join(PATH)).map(|found| found.ino()).ok();
        assert_eq!(open(home.path()).expect_err(name).kind(), ErrorKind::Definition, "{name}");
        let refused = store.publish(&[], &ids_schema(), &["id".to_owned()], &meta(1), 0);
        assert_eq!(refused.expect_err(name).kind(), ErrorKind::Definition, "{name}");
        assert_eq!(fs::symlink_metadata(home.path().join(PATH)).map(|found| found.ino()).ok(), before, "{name}");
    }
}

#[test]
fn a_moved_home_still_has_its_tables() {
    let mut table = Table::new();
    table.publish(&marked(0..3, 1), 1, 0).expect("published");
    let outer = TempDir::new().expect("a directory");
    let moved = outer.path().join("moved");
    fs::rename(table.home.path(), &moved).expect("moved");
    assert_eq!(seen(&moved.join(PATH)).0, [0, 1, 2]);
    assert_eq!(open(&moved).expect("open").read().expect("read").len(), 1);
}

#[test]
fn a_column_without_a_parquet_form_is_refused_before_anything_is_written() {
    let mut table = Table::new();
    let schema =
        Arc::new(Schema::new(vec![Field::new("lasted", DataType::Interval(IntervalUnit::MonthDayNano), true)]));
    let error = table.store.publish(&[], &schema, &[], &meta(1), 0).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.to_string().contains("`lasted`"), "{error}");
    assert_eq!(fs::read_dir(table.home.path()).expect("a directory").count(), 0);
}

#[test]
fn files_say_how_they_are_sorted_and_written() {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut table = Table::new();
    let version = table.publish(&marked(0..100, 1), 4, 0).expect("published");
    let path = version.paths().remove(0);
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).expect("a file")).expect("Parquet");
    let metadata = builder.metadata();
    assert!(metadata.num_row_groups() > 1);
    for group in metadata.row_groups() {
        let sorting = group.sorting_columns().expect("sorted");
        assert_eq!(
            sorting.iter().map(|column| (column.column_idx, column.descending)).collect::<Vec<_>>(),
            [(0, false)]
        );
        assert!(group.num_rows() <= 30);
        for column in group.columns() {
            assert!(column.statistics().is_some_and(|statistics| statistics.min_bytes_opt().is_some()));
            assert!(matches!(column.compression(), parquet::basic::Compression::ZSTD(_)));
        }
    }
    let values = metadata.file_metadata().key_value_metadata().expect("key values");
    let value = |key: &str| values.iter().find(|value| value.key == key).and_then(|value| value.value.clone());
    assert_eq!(value("milepost.job").as_deref(), Some("kpi_dispatch_sla"));
    assert_eq!(value("milepost.written_epoch").as_deref(), Some("4"));
    assert_eq!(value("milepost.written_watermark_us"), None);
    assert_eq!(value("ARROW:schema"), None);
}
