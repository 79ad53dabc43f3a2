//! Time zones by name.

use std::collections::HashMap;

use arrow::array::StringViewArray;
use chrono_tz::Tz;
use datafusion::common::{Result, exec_datafusion_err};

/// A column of IANA names, each parsed once a batch.
pub(super) struct Zones<'a> {
    function: &'static str,
    names: &'a StringViewArray,
    known: HashMap<&'a str, Tz>,
}

impl<'a> Zones<'a> {
    /// The zones that `names` holds; `function` is named in errors.
    pub(super) fn new(function: &'static str, names: &'a StringViewArray) -> Self {
        Self { function, names, known: HashMap::new() }
    }

    /// The zone at a place of the column, which must not be null.
    pub(super) fn get(&mut self, index: usize) -> Result<Tz> {
        let name = self.names.value(index);
        if let Some(zone) = self.known.get(name) {
            return Ok(*zone);
        }
        let zone = name.parse().map_err(|_| {
            exec_datafusion_err!("{}: `{}` is not a time zone of the IANA database", self.function, name.escape_debug())
        })?;
        self.known.insert(name, zone);
        Ok(zone)
    }
}
