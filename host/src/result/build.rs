//! Builds record batches out of columns, a batch at a time.

use super::schema::{NOTIONAL, PRICE, schema, time, with_coverage, word};
use crate::query::{Bar, RowId, Series};
use crate::store::{Columns, Coverage, EventColumns, Loss, QuoteColumns, TradeColumns};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Int32Array, RecordBatch,
    StringArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;
use wiretape_core::event::{UNDEF_PRICE, UNDEF_TIMESTAMP};

/// Rows of a batch.
pub const BATCH_ROWS: usize = 65_536;

/// Batches, built one after the other as they are asked for.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// An answer: its schema, which carries the coverage, and its batches.
pub struct Answer {
    /// The schema of every batch.
    pub schema: SchemaRef,
    /// Rows in all.
    pub rows: usize,
    /// The batches.
    pub batches: Batches,
}

/// Whose rows a series holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The symbol.
    pub symbol: String,
    /// The worker.
    pub worker: String,
    /// Its feed: two feeds may have instruments of one symbol.
    pub feed: u16,
}

/// Series of several instruments, and the order of their rows.
pub struct Selected<C> {
    /// The rows.
    pub series: Vec<Series<C>>,
    /// Whose they are, by series.
    pub owners: Vec<Owner>,
    /// The order: series and row.
    pub order: Vec<(usize, RowId)>,
}

impl<C: Columns> Selected<C> {
    fn column<T: Copy>(&self, rows: &[(usize, RowId)], pick: impl Fn(&C) -> &[T]) -> Vec<T> {
        let value =
            |&(index, id): &(usize, RowId)| pick(self.series[index].columns(id))[id.row as usize];
        rows.iter().map(value).collect()
    }

    fn epochs(&self, rows: &[(usize, RowId)]) -> ArrayRef {
        let epochs = rows.iter().map(|&(index, id)| self.series[index].position(id).epoch);
        Arc::new(UInt64Array::from_iter_values(epochs))
    }
}

/// What tells the rows of a series from those of others, made once and shared by all batches.
struct Words {
    symbols: Distinct,
    workers: Distinct,
    feeds: Vec<u16>,
    letters: ArrayRef,
}

/// A word for each series. Each stands once in the dictionary: to some readers the words of one
/// are categories, which must differ.
struct Distinct {
    words: ArrayRef,
    /// The place of each series' word.
    keys: Vec<i32>,
}

impl Distinct {
    fn new<'o>(of: impl Iterator<Item = &'o String>) -> Distinct {
        let mut places: HashMap<&str, i32> = HashMap::new();
        let mut words: Vec<&str> = Vec::new();
        let place = |word: &'o String| {
            *places.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() as i32 - 1
            })
        };
        let keys = of.map(place).collect();
        Distinct { words: Arc::new(StringArray::from(words)), keys }
    }

    /// The column of rows of these series.
    fn of(&self, series: impl Iterator<Item = usize>) -> Result<ArrayRef, ArrowError> {
        let keys = Int32Array::from_iter_values(series.map(|index| self.keys[index]));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, self.words.clone())?))
    }
}

impl Words {
    fn new(owners: &[Owner]) -> Words {
        let letters = ('A'..='Z').map(String::from);
        Words {
            symbols: Distinct::new(owners.iter().map(|owner| &owner.symbol)),
            workers: Distinct::new(owners.iter().map(|owner| &owner.worker)),
            feeds: owners.iter().map(|owner| owner.feed).collect(),
            letters: Arc::new(StringArray::from_iter_values(letters)),
        }
    }

    /// Whose rows of these series are, but for the symbol.
    fn source(
        &self,
        series: impl Iterator<Item = usize> + Clone,
    ) -> Result<[ArrayRef; 2], ArrowError> {
        let feeds = UInt16Array::from_iter_values(series.clone().map(|index| self.feeds[index]));
        Ok([Arc::new(feeds), self.workers.of(series)?])
    }

    fn letter(&self, letters: &[u8]) -> Result<ArrayRef, ArrowError> {
        let key = |&letter: &u8| letter.is_ascii_uppercase().then(|| i32::from(letter - b'A'));
        let keys: Int32Array = letters.iter().map(key).collect();
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, self.letters.clone())?))
    }
}

/// The series of rows.
fn series(rows: &[(usize, RowId)]) -> impl Iterator<Item = usize> + Clone {
    rows.iter().map(|row| row.0)
}

fn times(values: Vec<u64>) -> ArrayRef {
    let value = |time: u64| i64::try_from(time).ok();
    let array: TimestampNanosecondArray = values.into_iter().map(value).collect();
    Arc::new(array.with_timezone("UTC"))
}

fn decimals(values: impl Iterator<Item = Option<i128>>, kind: DataType) -> ArrayRef {
    Arc::new(values.collect::<Decimal128Array>().with_data_type(kind))
}

fn prices(values: Vec<i64>) -> ArrayRef {
    let value = |price: i64| (price != UNDEF_PRICE).then_some(i128::from(price));
    decimals(values.into_iter().map(value), PRICE)
}

/// Splits `rows` rows into batches that `build` makes of a range each. There is always one batch,
/// so that an empty answer has its columns.
fn batches(
    rows: usize,
    build: impl Fn(std::ops::Range<usize>) -> Result<RecordBatch, ArrowError> + Send + 'static,
) -> Batches {
    let count = rows.div_ceil(BATCH_ROWS).max(1);
    Box::new((0..count).map(move |i| build(i * BATCH_ROWS..((i + 1) * BATCH_ROWS).min(rows))))
}

const NOT_NULL: bool = false;
const NULL: bool = true;

/// Market-by-order records.
pub fn events(selected: Selected<EventColumns>, coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", word(), NOT_NULL),
        ("ts_event", time(), NULL),
        ("ts_recv", time(), NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("sequence", DataType::UInt64, NOT_NULL),
        ("action", word(), NULL),
        ("side", word(), NULL),
        ("price", PRICE, NULL),
        ("size", DataType::UInt32, NOT_NULL),
        ("order_id", DataType::UInt64, NOT_NULL),
        ("flags", DataType::UInt8, NOT_NULL),
        ("venue_sequence", DataType::UInt32, NOT_NULL),
        ("ts_in_delta", DataType::Int32, NOT_NULL),
        ("publisher_id", DataType::UInt16, NOT_NULL),
        ("channel_id", DataType::UInt8, NOT_NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", word(), NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let (shared, words, rows) =
        (schema.clone(), Words::new(&selected.owners), selected.order.len());
    let build = move |range: std::ops::Range<usize>| {
        let (s, at) = (&selected, &selected.order[range]);
        let mut columns: Vec<ArrayRef> = vec![
            words.symbols.of(series(at))?,
            times(s.column(at, |c| &c.ts_event)),
            times(s.column(at, |c| &c.ts_recv)),
            s.epochs(at),
            Arc::new(UInt64Array::from(s.column(at, |c| &c.sequence))),
            words.letter(&s.column(at, |c| &c.action))?,
            words.letter(&s.column(at, |c| &c.side))?,
            prices(s.column(at, |c| &c.price)),
            Arc::new(UInt32Array::from(s.column(at, |c| &c.size))),
            Arc::new(UInt64Array::from(s.column(at, |c| &c.order_id))),
            Arc::new(UInt8Array::from(s.column(at, |c| &c.flags))),
            Arc::new(UInt32Array::from(s.column(at, |c| &c.venue_sequence))),
            Arc::new(Int32Array::from(s.column(at, |c| &c.ts_in_delta))),
            Arc::new(UInt16Array::from(s.column(at, |c| &c.publisher_id))),
            Arc::new(UInt8Array::from(s.column(at, |c| &c.channel_id))),
        ];
        columns.extend(words.source(series(at))?);
        RecordBatch::try_new(shared.clone(), columns)
    };
    Answer { schema, rows, batches: batches(rows, build) }
}

/// Trades.
pub fn trades(selected: Selected<TradeColumns>, coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", word(), NOT_NULL),
        ("ts_event", time(), NULL),
        ("ts_recv", time(), NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("sequence", DataType::UInt64, NOT_NULL),
        ("price", PRICE, NULL),
        ("size", DataType::UInt32, NOT_NULL),
        ("side", word(), NULL),
        ("flags", DataType::UInt8, NOT_NULL),
        ("venue_sequence", DataType::UInt32, NOT_NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", word(), NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let (shared, words, rows) =
        (schema.clone(), Words::new(&selected.owners), selected.order.len());
    let build = move |range: std::ops::Range<usize>| {
        let at = &selected.order[range];
        let mut columns = trade_columns(&selected, &words, at)?;
        columns.push(Arc::new(UInt8Array::from(selected.column(at, |c| &c.flags))));
        columns.push(Arc::new(UInt32Array::from(selected.column(at, |c| &c.venue_sequence))));
        columns.extend(words.source(series(at))?);
        RecordBatch::try_new(shared.clone(), columns)
    };
    Answer { schema, rows, batches: batches(rows, build) }
}

fn trade_columns(
    s: &Selected<TradeColumns>,
    words: &Words,
    at: &[(usize, RowId)],
) -> Result<Vec<ArrayRef>, ArrowError> {
    Ok(vec![
        words.symbols.of(series(at))?,
        times(s.column(at, |c| &c.ts_event)),
        times(s.column(at, |c| &c.ts_recv)),
        s.epochs(at),
        Arc::new(UInt64Array::from(s.column(at, |c| &c.sequence))),
        prices(s.column(at, |c| &c.price)),
        Arc::new(UInt32Array::from(s.column(at, |c| &c.size))),
        words.letter(&s.column(at, |c| &c.side))?,
    ])
}

/// Best bid and offer, as it changed.
pub fn quotes(selected: Selected<QuoteColumns>, coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", word(), NOT_NULL),
        ("ts_event", time(), NULL),
        ("ts_recv", time(), NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("sequence", DataType::UInt64, NOT_NULL),
        ("bid_price", PRICE, NULL),
        ("bid_size", DataType::UInt64, NOT_NULL),
        ("bid_count", DataType::UInt32, NOT_NULL),
        ("ask_price", PRICE, NULL),
        ("ask_size", DataType::UInt64, NOT_NULL),
        ("ask_count", DataType::UInt32, NOT_NULL),
        ("flags", DataType::UInt8, NOT_NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", word(), NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let (shared, words, rows) =
        (schema.clone(), Words::new(&selected.owners), selected.order.len());
    let build = move |range: std::ops::Range<usize>| {
        let (s, at) = (&selected, &selected.order[range]);
        let mut columns: Vec<ArrayRef> = vec![
            words.symbols.of(series(at))?,
            times(s.column(at, |c| &c.ts_event)),
            times(s.column(at, |c| &c.ts_recv)),
            s.epochs(at),
            Arc::new(UInt64Array::from(s.column(at, |c| &c.sequence))),
            prices(s.column(at, |c| &c.bid_price)),
            Arc::new(UInt64Array::from(s.column(at, |c| &c.bid_size))),
            Arc::new(UInt32Array::from(s.column(at, |c| &c.bid_count))),
            prices(s.column(at, |c| &c.ask_price)),
            Arc::new(UInt64Array::from(s.column(at, |c| &c.ask_size))),
            Arc::new(UInt32Array::from(s.column(at, |c| &c.ask_count))),
            Arc::new(UInt8Array::from(s.column(at, |c| &c.flags))),
        ];
        columns.extend(words.source(series(at))?);
        RecordBatch::try_new(shared.clone(), columns)
    };
    Answer { schema, rows, batches: batches(rows, build) }
}

/// Trades, each with the quote before it.
///
/// `quotes` and `found` go by the series of `trades`; `found` holds the quote of each row of the
/// series, in the series' order, so `ordinal` gives the row's place there.
pub struct Joined {
    /// The trades, in the order of the answer.
    pub trades: Selected<TradeColumns>,
    /// The quotes of each series of trades.
    pub quotes: Vec<Series<QuoteColumns>>,
    /// For each row of the answer, its quote.
    pub found: Vec<Option<RowId>>,
}

impl Joined {
    fn column<T: Copy>(
        &self,
        range: std::ops::Range<usize>,
        pick: impl Fn(&QuoteColumns) -> &[T],
    ) -> Vec<Option<T>> {
        let at = self.trades.order[range.clone()].iter().zip(&self.found[range]);
        let value = |(&(index, _), found): (&(usize, RowId), &Option<RowId>)| {
            found.map(|id| pick(self.quotes[index].columns(id))[id.row as usize])
        };
        at.map(value).collect()
    }
}

/// As-of join of trades with quotes.
pub fn joined(joined: Joined, coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", word(), NOT_NULL),
        ("ts_event", time(), NULL),
        ("ts_recv", time(), NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("sequence", DataType::UInt64, NOT_NULL),
        ("price", PRICE, NULL),
        ("size", DataType::UInt32, NOT_NULL),
        ("side", word(), NULL),
        ("bid_price", PRICE, NULL),
        ("bid_size", DataType::UInt64, NULL),
        ("ask_price", PRICE, NULL),
        ("ask_size", DataType::UInt64, NULL),
        ("quote_ts_event", time(), NULL),
        ("quote_ts_recv", time(), NULL),
        ("quote_sequence", DataType::UInt64, NULL),
        ("quote_flags", DataType::UInt8, NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", word(), NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let (shared, words) = (schema.clone(), Words::new(&joined.trades.owners));
    let rows = joined.trades.order.len();
    let build = move |range: std::ops::Range<usize>| {
        let at = &joined.trades.order[range.clone()];
        let price = |values: Vec<Option<i64>>| {
            prices(values.into_iter().map(|price| price.unwrap_or(UNDEF_PRICE)).collect())
        };
        let time = |values: Vec<Option<u64>>| {
            times(values.into_iter().map(|time| time.unwrap_or(UNDEF_TIMESTAMP)).collect())
        };
        let mut columns = trade_columns(&joined.trades, &words, at)?;
        columns.extend([
            price(joined.column(range.clone(), |c| &c.bid_price)),
            Arc::new(UInt64Array::from(joined.column(range.clone(), |c| &c.bid_size))) as ArrayRef,
            price(joined.column(range.clone(), |c| &c.ask_price)),
            Arc::new(UInt64Array::from(joined.column(range.clone(), |c| &c.ask_size))),
            time(joined.column(range.clone(), |c| &c.ts_event)),
            time(joined.column(range.clone(), |c| &c.ts_recv)),
            Arc::new(UInt64Array::from(joined.column(range.clone(), |c| &c.sequence))),
            Arc::new(UInt8Array::from(joined.column(range, |c| &c.flags))),
        ]);
        columns.extend(words.source(series(at))?);
        RecordBatch::try_new(shared.clone(), columns)
    };
    Answer { schema, rows, batches: batches(rows, build) }
}

/// Bars, each with the index of its owner.
pub fn bars(owners: Vec<Owner>, bars: Vec<(usize, Bar)>, coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", word(), NOT_NULL),
        ("start", time(), NOT_NULL),
        ("end", time(), NOT_NULL),
        ("open", PRICE, NOT_NULL),
        ("high", PRICE, NOT_NULL),
        ("low", PRICE, NOT_NULL),
        ("close", PRICE, NOT_NULL),
        ("volume", DataType::UInt64, NOT_NULL),
        ("trades", DataType::UInt64, NOT_NULL),
        ("vwap", PRICE, NULL),
        ("notional", NOTIONAL, NULL),
        ("first", time(), NOT_NULL),
        ("last", time(), NOT_NULL),
        ("closed", DataType::Boolean, NOT_NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("sequence", DataType::UInt64, NOT_NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", word(), NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let (shared, words, rows) = (schema.clone(), Words::new(&owners), bars.len());
    let build = move |range: std::ops::Range<usize>| {
        let part = &bars[range];
        let series = part.iter().map(|bar| bar.0);
        let time = |pick: fn(&Bar) -> u64| times(part.iter().map(|(_, bar)| pick(bar)).collect());
        let price = |pick: fn(&Bar) -> i64| prices(part.iter().map(|(_, bar)| pick(bar)).collect());
        let count = |pick: fn(&Bar) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(part.iter().map(|(_, bar)| pick(bar))))
        };
        // A decimal of 38 digits: beyond that a sum is shown as absent rather than cut.
        let fits = |sum: i128| (sum.unsigned_abs() < 10u128.pow(38)).then_some(sum);
        let vwap = part.iter().map(|(_, bar)| bar.vwap().map(i128::from));
        let mut columns: Vec<ArrayRef> = vec![
            words.symbols.of(series.clone())?,
            time(|bar| bar.start),
            time(|bar| bar.end),
            price(|bar| bar.open),
            price(|bar| bar.high),
            price(|bar| bar.low),
            price(|bar| bar.close),
            count(|bar| bar.volume),
            count(|bar| bar.trades),
            decimals(vwap, PRICE),
            decimals(part.iter().map(|(_, bar)| fits(bar.notional)), NOTIONAL),
            time(|bar| bar.first),
            time(|bar| bar.last),
            Arc::new(part.iter().map(|(_, bar)| Some(bar.closed)).collect::<BooleanArray>()),
            count(|bar| bar.through.epoch),
            count(|bar| bar.through.sequence),
        ];
        columns.extend(words.source(series)?);
        RecordBatch::try_new(shared.clone(), columns)
    };
    Answer { schema, rows, batches: batches(rows, build) }
}

/// One line about an instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstrumentLine {
    /// Whose it is.
    pub owner: Owner,
    /// Rows of events, trades and quotes held.
    pub rows: [u64; 3],
    /// Exchange time of the first and the last event held.
    pub span: Option<(u64, u64)>,
}

/// The instruments of the store.
pub fn instruments(lines: &[InstrumentLine], coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("symbol", DataType::Utf8, NOT_NULL),
        ("feed", DataType::UInt16, NOT_NULL),
        ("worker", DataType::Utf8, NOT_NULL),
        ("events", DataType::UInt64, NOT_NULL),
        ("trades", DataType::UInt64, NOT_NULL),
        ("quotes", DataType::UInt64, NOT_NULL),
        ("first", time(), NULL),
        ("last", time(), NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let count = |index: usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(lines.iter().map(|line| line.rows[index])))
    };
    let time = |pick: fn((u64, u64)) -> u64| {
        times(lines.iter().map(|line| line.span.map_or(UNDEF_TIMESTAMP, pick)).collect())
    };
    let text = |pick: fn(&Owner) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(|line| pick(&line.owner))))
    };
    let columns = vec![
        text(|owner| &owner.symbol),
        Arc::new(UInt16Array::from_iter_values(lines.iter().map(|line| line.owner.feed))),
        text(|owner| &owner.worker),
        count(0),
        count(1),
        count(2),
        time(|span| span.0),
        time(|span| span.1),
    ];
    let rows = columns[0].len();
    let batch = RecordBatch::try_new(schema.clone(), columns);
    Answer { schema, rows, batches: Box::new(std::iter::once(batch)) }
}

/// What is missing, a line for each loss.
pub fn losses(coverage: &Coverage) -> Answer {
    let fields = schema(&[
        ("worker", DataType::Utf8, NOT_NULL),
        ("reason", DataType::Utf8, NOT_NULL),
        ("epoch", DataType::UInt64, NOT_NULL),
        ("first", DataType::UInt64, NOT_NULL),
        ("end", DataType::UInt64, NOT_NULL),
        ("first_message", DataType::UInt64, NULL),
        ("end_message", DataType::UInt64, NULL),
        ("what", DataType::Utf8, NULL),
        ("after", time(), NULL),
        ("before", time(), NULL),
        ("merged", DataType::UInt64, NOT_NULL),
    ]);
    let schema = with_coverage(&fields, coverage);
    let lines: Vec<(&str, &Loss)> = coverage
        .workers
        .iter()
        .flat_map(|worker| worker.lost.iter().map(|loss| (worker.worker.as_str(), loss)))
        .collect();
    let count = |pick: fn(&Loss) -> Option<u64>| -> ArrayRef {
        Arc::new(lines.iter().map(|(_, loss)| pick(loss)).collect::<UInt64Array>())
    };
    let time = |pick: fn(&Loss) -> Option<u64>| {
        times(lines.iter().map(|(_, loss)| pick(loss).unwrap_or(UNDEF_TIMESTAMP)).collect())
    };
    let what = |loss: &Loss| match (&loss.rows, &loss.feed) {
        (Some(rows), _) => Some(format!("{} {} of {}", rows.rows, rows.kind, rows.symbol)),
        (None, Some((feed, session))) => Some(format!("feed {feed} session {session}")),
        (None, None) => None,
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(lines.iter().map(|line| line.0))),
        Arc::new(StringArray::from_iter_values(lines.iter().map(|line| line.1.reason.as_str()))),
        count(|loss| Some(loss.epoch)),
        count(|loss| Some(loss.first)),
        count(|loss| Some(loss.end)),
        count(|loss| loss.messages.map(|messages| messages.0)),
        count(|loss| loss.messages.map(|messages| messages.1)),
        Arc::new(lines.iter().map(|(_, loss)| what(loss)).collect::<StringArray>()),
        time(|loss| loss.receive.0),
        time(|loss| loss.receive.1),
        count(|loss| Some(loss.count)),
    ];
    let rows = lines.len();
    let batch = RecordBatch::try_new(schema.clone(), columns);
    Answer { schema, rows, batches: Box::new(std::iter::once(batch)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;

    #[test]
    fn series_that_share_a_word_share_its_place_in_the_dictionary() {
        let owner = |symbol: &str, feed| Owner {
            symbol: symbol.to_owned(),
            worker: "itch".to_owned(),
            feed,
        };
        let words = Words::new(&[owner("AAPL", 0), owner("AMZN", 0), owner("AAPL", 1)]);
        for (column, keys, distinct) in [
            (&words.symbols, [1, 0, 0], vec!["AAPL", "AMZN"]),
            (&words.workers, [0; 3], vec!["itch"]),
        ] {
            let column = column.of([1, 2, 0].into_iter()).unwrap();
            let column = column.as_dictionary::<Int32Type>();
            assert_eq!(column.keys().values(), &keys);
            let found: Vec<_> = column.values().as_string::<i32>().iter().flatten().collect();
            assert_eq!(found, distinct);
        }
        let [feeds, _] = words.source([1, 2, 0].into_iter()).unwrap();
        assert_eq!(feeds.as_primitive::<arrow_array::types::UInt16Type>().values(), &[0, 1, 0]);
    }
}
