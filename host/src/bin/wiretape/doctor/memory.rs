//! Huge pages for packet memory and books.

use super::finding::{Finding, Fix, Step, Verdict};
use super::machine::Machine;
use super::worker::Worker;

const HUGE_PAGE: u64 = 2 << 20;
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// All checks.
pub fn check(machine: &Machine, workers: &[Worker]) -> Vec<Finding> {
    vec![reserved(machine, workers), transparent(machine)]
}

fn reserved(machine: &Machine, workers: &[Worker]) -> Finding {
    let name = "vm.nr_hugepages";
    let wanted: u64 = workers
        .iter()
        .filter(|worker| worker.huge_pages)
        .map(|worker| worker.umem_bytes.div_ceil(HUGE_PAGE) * worker.queues.len() as u64)
        .sum();
    let should = format!("at least {wanted}, for the workers' packet memory");
    match machine.value::<u64>(HUGE_PAGES) {
        Ok(pages) if workers.is_empty() => {
            Finding::unknown(name, format!("{pages}; no worker is configured"), "as workers need")
        }
        Ok(pages) if pages >= wanted => {
            Finding::new(name, Verdict::Good, pages.to_string(), should)
        }
        Ok(pages) => Finding::new(name, Verdict::Notable, pages.to_string(), should)
            .mend(format!("sysctl -w vm.nr_hugepages={wanted}"))
            .fix(Fix::of_write(HUGE_PAGES, &wanted.to_string(), &pages.to_string())),
        Err(error) => Finding::unknown(name, error, should),
    }
}

/// The books' memory asks for huge pages by madvise.
fn transparent(machine: &Machine) -> Finding {
    let (name, should) = ("transparent_hugepage", "madvise or always, for the books");
    match machine.chosen(TRANSPARENT) {
        Ok(chosen) if chosen != "never" => Finding::new(name, Verdict::Good, chosen, should),
        Ok(chosen) => Finding::new(name, Verdict::Notable, chosen, should)
            .mend(format!("echo madvise > {TRANSPARENT}"))
            .fix(Fix {
                steps: vec![Step::write(TRANSPARENT, "madvise")],
                undo: vec![Step::write(TRANSPARENT, "never")],
            }),
        Err(error) => Finding::unknown(name, error, should),
    }
}
