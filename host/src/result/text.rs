//! Values of a record batch as text.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{
    Array, BooleanArray, Decimal128Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::DataType;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeStyle {
    /// `2012-06-21 09:30:00.004241176`, in a zone that the reader has been told.
    Plain,
    /// `2012-06-21T09:30:00.004241176-04:00`: RFC 3339.
    Offset,
}

/// A column whose type is known.
pub enum Column<'a> {
    /// A decimal with this many digits behind the point.
    Decimal(&'a Decimal128Array, u32),
    /// UTC nanoseconds.
    Time(&'a TimestampNanosecondArray),
    /// Whole numbers.
    U64(&'a UInt64Array),
    /// Whole numbers.
    U32(&'a UInt32Array),
    /// Whole numbers.
    U16(&'a UInt16Array),
    /// Whole numbers.
    U8(&'a UInt8Array),
    /// Whole numbers.
    I32(&'a Int32Array),
    /// Yes or no.
    Bool(&'a BooleanArray),
    /// Text.
    Text(&'a StringArray),
    /// Text from a dictionary.
    Word(&'a Int32Array, &'a StringArray),
    /// A type that this build does not know.
    Other(&'a dyn Array),
}

impl<'a> Column<'a> {
    /// The columns of `batch`.
    pub fn all(batch: &'a RecordBatch) -> Vec<Column<'a>> {
        batch.columns().iter().map(|array| Column::new(array.as_ref())).collect()
    }

    fn new(array: &'a dyn Array) -> Column<'a> {
        match array.data_type() {
            DataType::Decimal128(_, scale) => {
                Column::Decimal(array.as_primitive::<Decimal128Type>(), (*scale).max(0) as u32)
            }
            DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, _) => {
                Column::Time(array.as_primitive::<TimestampNanosecondType>())
            }
            DataType::UInt64 => Column::U64(array.as_primitive::<UInt64Type>()),
            DataType::UInt32 => Column::U32(array.as_primitive::<UInt32Type>()),
            DataType::UInt16 => Column::U16(array.as_primitive::<UInt16Type>()),
            DataType::UInt8 => Column::U8(array.as_primitive::<UInt8Type>()),
            DataType::Int32 => Column::I32(array.as_primitive::<Int32Type>()),
            DataType::Boolean => Column::Bool(array.as_boolean()),
            DataType::Utf8 => Column::Text(array.as_string::<i32>()),
            DataType::Dictionary(key, value)
                if **key == DataType::Int32 && **value == DataType::Utf8 =>
            {
                let dictionary = array.as_dictionary::<Int32Type>();
                Column::Word(dictionary.keys(), dictionary.values().as_string::<i32>())
            }
            _ => Column::Other(array),
        }
    }

    /// Whether the value is absent.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Decimal(array, _) => array.is_null(row),
            Column::Time(array) => array.is_null(row),
            Column::U64(array) => array.is_null(row),
            Column::U32(array) => array.is_null(row),
            Column::U16(array) => array.is_null(row),
            Column::U8(array) => array.is_null(row),
            Column::I32(array) => array.is_null(row),
            Column::Bool(array) => array.is_null(row),
            Column::Text(array) => array.is_null(row),
            Column::Word(keys, _) => keys.is_null(row),
            Column::Other(array) => array.is_null(row),
        }
    }

    /// Whether the value is a number (or a truth value): to the right in a table.
    pub fn is_number(&self) -> bool {
        !matches!(self, Column::Time(_) | Column::Text(_) | Column::Word(..) | Column::Other(_))
    }

    /// Whether JSON has the value without quotes. Decimals have them: most readers would make floats
    /// of them, which do not hold every price.
    pub fn is_bare_in_json(&self) -> bool {
        self.is_number() && !matches!(self, Column::Decimal(..))
    }

    /// Appends the value as text; nothing if it is absent.
    pub fn write(&self, row: usize, zone: &TimeZone, style: TimeStyle, out: &mut String) {
        if self.is_null(row) {
            return;
        }
        // Writing to a string cannot fail.
        let _ = match self {
            Column::Decimal(array, scale) => {
                decimal(array.value(row), *scale, out);
                Ok(())
            }
            Column::Time(array) => {
                time(array.value(row), zone, style, out);
                Ok(())
            }
            Column::U64(array) => write!(out, "{}", array.value(row)),
            Column::U32(array) => write!(out, "{}", array.value(row)),
            Column::U16(array) => write!(out, "{}", array.value(row)),
            Column::U8(array) => write!(out, "{}", array.value(row)),
            Column::I32(array) => write!(out, "{}", array.value(row)),
            Column::Bool(array) => write!(out, "{}", array.value(row)),
            Column::Text(array) => out.write_str(array.value(row)),
            Column::Word(keys, words) => {
                let key = keys.value(row) as usize;
                out.write_str(if key < words.len() { words.value(key) } else { "?" })
            }
            Column::Other(array) => write!(out, "({})", array.data_type()),
        };
    }
}

/// Appends `value` / 10^`scale`, exact, with two digits behind the point or as many as it takes.
pub fn decimal(value: i128, scale: u32, out: &mut String) {
    let unit = 10u128.pow(scale.min(38));
    let (whole, part) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
    let sign = if value < 0 { "-" } else { "" };
    let _ = write!(out, "{sign}{whole}");
    if scale > 0 {
        let _ = write!(out, ".{part:0width$}", width = scale as usize);
        let shortest = out.len() - (scale as usize).saturating_sub(2);
        while out.len() > shortest && out.ends_with('0') {
            out.pop();
        }
    }
}

/// Appends a price in 1e-9.
pub fn price(value: i64, out: &mut String) {
    decimal(i128::from(value), 9, out);
}

/// Appends UTC nanoseconds as a time in `zone`.
pub fn time(nanoseconds: i64, zone: &TimeZone, style: TimeStyle, out: &mut String) {
    let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(nanoseconds)) else {
        let _ = write!(out, "{nanoseconds}");
        return;
    };
    let (offset, t) = {
        let offset = zone.to_offset(timestamp);
        (offset, offset.to_datetime(timestamp))
    };
    let separator = if style == TimeStyle::Plain { ' ' } else { 'T' };
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}.{:09}",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.subsec_nanosecond()
    );
    if style == TimeStyle::Offset {
        let seconds = offset.seconds();
        let _ = match seconds {
            0 => out.write_char('Z'),
            _ => {
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.unsigned_abs() / 60;
                write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(value: i128) -> String {
        let mut out = String::new();
        decimal(value, 9, &mut out);
        out
    }

    #[test]
    fn decimals_are_exact_and_short() {
        assert_eq!(shown(585_330_000_000), "585.33");
        assert_eq!(shown(585_000_000_000), "585.00");
        assert_eq!(shown(-1), "-0.000000001");
        assert_eq!(shown(0), "0.00");
        assert_eq!(shown(i128::from(i64::MIN)), "-9223372036.854775808");
    }

    #[test]
    fn times_stand_in_the_zone_asked_for() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let mut out = String::new();
        time(1_340_285_400_004_241_176, &zone, TimeStyle::Offset, &mut out);
        assert_eq!(out, "2012-06-21T09:30:00.004241176-04:00");
        out.clear();
        time(1_340_285_400_004_241_176, &TimeZone::UTC, TimeStyle::Offset, &mut out);
        assert_eq!(out, "2012-06-21T13:30:00.004241176Z");
    }

    proptest! {
        #[test]
        fn a_decimal_reads_back_as_the_same_number(value in any::<i64>()) {
            let text = shown(i128::from(value));
            let (whole, part) = text.split_once('.').unwrap();
            let digits = format!("{whole}{part:0<9}");
            prop_assert_eq!(digits.parse::<i128>().unwrap(), i128::from(value));
        }
    }
}
