//! `percent_encode(text)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{StringViewArray, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::utils::take_function_args;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::SECTION;
use super::arguments::{Call, text_type};

/// Text as one token of a key or of a subject.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PercentEncode {
    signature: Signature,
}

impl PercentEncode {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for PercentEncode {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for PercentEncode {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [text] = take_function_args(NAME, arg_types)?;
        Ok(vec![text_type(NAME, "text", text)?])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::<1>::new(NAME, args)?;
        call.finish(Arc::new(evaluate(&call)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn evaluate(call: &Call<1>) -> Result<StringViewArray> {
    let [text] = &call.arguments;
    let texts = text.strings()?;
    let mut results = StringViewBuilder::with_capacity(call.rows);
    let mut encoded = String::new();
    for row in 0..call.rows {
        if text.is_null(row) {
            results.append_null();
            continue;
        }
        encoded.clear();
        encoded.extend(utf8_percent_encode(texts.value(text.index(row)), RESERVED));
        results.append_value(&encoded);
    }
    Ok(results.finish())
}

const NAME: &str = "percent_encode";

/// Everything but letters, digits, `_` and `-`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        SECTION,
        "The text with every byte of its UTF-8 form except A-Z, a-z, 0-9, `_` and `-` written as `%` and two \
         upper-case hexadecimal digits, so that it can stand between the `/` of a key or the `.` of a subject. \
         Distinct texts stay distinct; the empty text stays empty.\n\n\
         Null if the text is null.\n\n\
         Errors: anything but a string (when planned).",
        "percent_encode(text)",
    )
    .with_sql_example("```sql\n> SELECT percent_encode('SO 4711/1');   -- SO%204711%2F1\n```")
    .with_argument("text", "a string")
    .build()
});

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_error, on_rows};

    #[test]
    fn every_byte_but_letters_digits_underscore_and_hyphen_is_encoded() {
        let cases = [
            ("'AZaz09_-'", "AZaz09_-"),
            ("'SO 4711/1'", "SO%204711%2F1"),
            ("'a.b*c>d%e~f'", "a%2Eb%2Ac%3Ed%25e%7Ef"),
            ("'ä€'", "%C3%A4%E2%82%AC"),
            ("''", ""),
            ("null", "NULL"),
            (
                "'a longer text that no longer fits into a view'",
                "a%20longer%20text%20that%20no%20longer%20fits%20into%20a%20view",
            ),
        ];
        for (argument, expected) in cases {
            check(&format!("percent_encode({argument})"), expected);
        }
    }

    #[test]
    fn columns_of_every_string_type_are_taken() {
        let rows = "('a/b'), (null), ('')";
        for kind in ["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)"] {
            check(&on_rows(&format!("percent_encode(arrow_cast(a, '{kind}'))"), "a", rows), "a%2Fb,NULL,");
        }
        check_error("percent_encode(1)", "`text` of percent_encode must be a string");
    }
}
