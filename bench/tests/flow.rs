//! The flow is held against a second book that knows only what the steps say.

use std::collections::HashMap;

use wiretape_bench::flow::{Change, Flow, FlowSpec, PlainBook, Step};
use wiretape_core::event::Side;

/// Applies a step to the books; panics where a matching engine would have objected.
fn apply(books: &mut [PlainBook], step: &Step) {
    let Some(i) = step.instrument else { return };
    let book = &mut books[i];
    match step.change {
        Change::Add(order, _) => {
            book.add(order.reference, order.side, order.shares, order.price).unwrap();
        }
        Change::Execute { order, shares, .. }
        | Change::ExecuteAt { order, shares, .. }
        | Change::Reduce { order, shares } => {
            let before = book.take(order.reference, shares).unwrap();
            assert_eq!(
                (before.side, before.price, before.shares),
                (order.side, order.price, order.shares)
            );
        }
        Change::Delete(order) => {
            book.remove(order.reference).unwrap();
        }
        Change::Replace { old, new } => {
            book.replace(old.reference, new.reference, new.shares, new.price).unwrap();
        }
        _ => {}
    }
    assert!(!book.is_crossed(), "{step:?} crossed the book");
}

fn kind(change: &Change) -> &'static str {
    match change {
        Change::Add(..) => "add",
        Change::Delete(..) => "delete",
        Change::Execute { .. } => "execute",
        Change::ExecuteAt { .. } => "execute at",
        Change::HiddenTrade { .. } => "hidden",
        Change::Reduce { .. } => "reduce",
        Change::Replace { .. } => "replace",
        _ => "other",
    }
}

#[test]
fn the_flow_is_one_that_a_matching_engine_could_have_made() {
    for seed in 1..=4 {
        let spec = FlowSpec { seed, messages: Some(60_000), ..FlowSpec::default() };
        let mut flow = Flow::new(&spec).unwrap();
        let mut books = vec![PlainBook::new(); spec.symbols.len()];
        let (mut last_ns, mut match_numbers) = (0, HashMap::new());
        for step in flow.by_ref() {
            assert!(step.at_ns >= last_ns, "time runs backwards at {step:?}");
            last_ns = step.at_ns;
            apply(&mut books, &step);
            if let Change::Execute { match_number, .. } | Change::HiddenTrade { match_number, .. } =
                step.change
            {
                assert_eq!(match_numbers.insert(match_number, step), None);
            }
        }
        assert_eq!(flow.refused(), None);
        for (i, book) in books.iter().enumerate() {
            let levels = |book: &PlainBook, side| book.levels(side).collect::<Vec<_>>();
            for side in [Side::Bid, Side::Ask] {
                assert_eq!(levels(book, side), levels(flow.final_book(i), side));
            }
            assert!(
                book.orders()
                    .map(|o| (o.reference, o.shares))
                    .eq(flow.final_book(i).orders().map(|o| (o.reference, o.shares)))
            );
        }
    }
}

#[test]
fn the_mix_the_rate_and_the_depth_are_those_of_a_real_day() {
    let spec =
        FlowSpec { messages: Some(400_000), duration_ns: 3_600_000_000_000, ..FlowSpec::default() };
    let mut flow = Flow::new(&spec).unwrap();
    let (mut counts, mut total) = (HashMap::new(), 0.0);
    let (mut first_ns, mut end_ns) = (None, 0);
    for step in flow.by_ref() {
        if step.at_ns > spec.open_ns {
            first_ns.get_or_insert(step.at_ns);
            end_ns = step.at_ns;
            *counts.entry(kind(&step.change)).or_insert(0.0) += 1.0;
            total += 1.0;
        }
    }
    let share = |kind: &str| 100.0 * counts.get(kind).copied().unwrap_or(0.0) / total;
    let wanted = [
        ("add", 43.0..47.5),
        ("delete", 36.0..40.0),
        ("execute", 7.5..10.5),
        ("hidden", 3.0..5.0),
        ("reduce", 2.0..4.0),
        ("replace", 1.0..3.0),
        ("execute at", 0.01..0.5),
    ];
    for (kind, _) in &wanted {
        println!("{kind}: {:.2} %", share(kind));
    }
    for (kind, range) in wanted {
        assert!(range.contains(&share(kind)), "{kind}: {:.2} %", share(kind));
    }
    let seconds = (end_ns - first_ns.unwrap()) as f64 * 1e-9;
    let rate = total / seconds;
    assert!((8_500.0..11_500.0).contains(&rate), "{rate:.0} messages a second");
    for i in 0..spec.symbols.len() {
        let book = flow.final_book(i);
        assert!((200..900).contains(&book.order_count()), "{} orders rest", book.order_count());
        let (bid, ask) = (book.best(Side::Bid).unwrap(), book.best(Side::Ask).unwrap());
        let spread = f64::from(ask - bid) / f64::from(bid);
        assert!(spread < 0.005, "instrument {i}: a spread of {spread:.4}");
        for (side, best) in [(Side::Bid, bid), (Side::Ask, ask)] {
            // Half of the shares rest within a hundred ticks of the touch.
            let (mut near, mut all) = (0, 0);
            for (price, level) in book.levels(side) {
                all += level.shares;
                near += if price.abs_diff(best) <= 10_000 { level.shares } else { 0 };
            }
            assert!(near * 2 > all, "instrument {i}: {near} of {all} shares near the touch");
        }
    }
}

#[test]
fn equal_seeds_give_equal_days_and_other_seeds_give_others() {
    let steps = |seed| {
        let spec = FlowSpec { seed, messages: Some(5_000), ..FlowSpec::default() };
        Flow::new(&spec).unwrap().collect::<Vec<_>>()
    };
    assert_eq!(steps(1), steps(1));
    assert_ne!(steps(1), steps(2));
}

#[test]
fn odd_days_hold_too() {
    let names = |n| FlowSpec::invented_symbols(n);
    let days = [
        FlowSpec {
            symbols: names(1),
            resting_orders: 10,
            messages: Some(20_000),
            ..FlowSpec::default()
        },
        FlowSpec {
            symbols: names(300),
            resting_orders: 12,
            messages: Some(20_000),
            ..FlowSpec::default()
        },
        FlowSpec { duration_ns: 0, ..FlowSpec::default() },
        FlowSpec { messages: Some(0), ..FlowSpec::default() },
        FlowSpec { messages_per_second: 1e6, duration_ns: 50_000_000, ..FlowSpec::default() },
        FlowSpec {
            messages_per_second: 0.5,
            duration_ns: 3_600_000_000_000,
            ..FlowSpec::default()
        },
    ];
    for spec in days {
        let mut flow = Flow::new(&spec).unwrap();
        let mut books = vec![PlainBook::new(); spec.symbols.len()];
        flow.by_ref().for_each(|step| apply(&mut books, &step));
        assert_eq!(flow.refused(), None, "{spec:?}");
    }
}
