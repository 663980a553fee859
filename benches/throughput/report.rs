//! The tables, and the line for programs.
//!
//! The rule it keeps: a figure that misses its goal is marked.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::meter::Meter;

/// Rounds with one prefetch, in turn.
pub struct Pair {
    pub prefetch: u16,
    pub bare: Vec<Meter>,
    pub worker: Vec<Meter>,
}

/// Times from publish to event at fifty jobs a second.
#[derive(Default)]
pub struct Paced {
    pub bare: Vec<Duration>,
    pub worker: Vec<Duration>,
}

pub struct Report {
    pub jobs: u64,
    pub pairs: Vec<Pair>,
    pub paced: Paced,
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

fn quantile(values: &[Duration], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort();
    let place = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(place - 1).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
}

impl Pair {
    fn ratio(&self) -> f64 {
        median(self.bare.iter().zip(&self.worker).map(|(bare, worker)| worker.rate / bare.rate))
    }

    fn of(&self, figure: impl Fn(&Meter) -> f64) -> f64 {
        median(self.worker.iter().map(figure))
    }
}

impl Report {
    fn worst(&self, figure: impl Fn(&Meter) -> f64 + Copy) -> f64 {
        self.pairs.iter().map(|pair| pair.of(figure)).fold(0.0, f64::max)
    }

    /// Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let rounds = self.pairs.first().map_or(0, |pair| pair.bare.len());
        let _ = writeln!(
            text,
            "{} jobs a round, {rounds} rounds of each in turn, 7 or 9 calls a job; medians.\n",
            self.jobs
        );
        let _ = writeln!(
            text,
            "| prefetch | bare loop, jobs/s | worker, jobs/s | ratio | CPU a job (bare) | syncs a job | batches a job | \
             writes a job | bytes to disk a job | peak memory (bare) |\n|---|---|---|---|---|---|---|---|---|---|"
        );
        for pair in &self.pairs {
            let bare = |figure: fn(&Meter) -> f64| median(pair.bare.iter().map(figure));
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} | **{:.2}** | {:.0} µs ({:.0}) | {:.2} | {:.1} | {:.1} | {:.0} | {:.0} MiB ({:.0}) |",
                pair.prefetch,
                bare(|meter| meter.rate),
                pair.of(|meter| meter.rate),
                pair.ratio(),
                pair.of(|meter| meter.cpu_us),
                bare(|meter| meter.cpu_us),
                pair.of(|meter| meter.syncs),
                pair.of(|meter| meter.batches),
                pair.of(|meter| meter.writes),
                pair.of(|meter| meter.disk_bytes),
                pair.of(|meter| meter.peak_mib),
                bare(|meter| meter.peak_mib),
            );
        }
        let _ = writeln!(
            text,
            "\n| processor time a job | prefetch | the loop | broker | stand-in |\n|---|---|---|---|---|"
        );
        for pair in &self.pairs {
            for (name, meters) in [("bare loop", &pair.bare), ("worker", &pair.worker)] {
                let of = |figure: fn(&Meter) -> f64| median(meters.iter().map(figure));
                let _ = writeln!(
                    text,
                    "| {name} | {} | {:.0} µs | {:.0} µs | {:.0} µs |",
                    pair.prefetch,
                    of(|meter| meter.cpu_us),
                    of(|meter| meter.others_cpu_us[0]),
                    of(|meter| meter.others_cpu_us[1]),
                );
            }
        }
        let _ = writeln!(text, "\n| fifty jobs a second, publish to event | p50 | p99 |\n|---|---|---|");
        for (name, times) in [("bare loop", &self.paced.bare), ("worker", &self.paced.worker)] {
            let _ = writeln!(text, "| {name} | {:.1} ms | {:.1} ms |", quantile(times, 0.5), quantile(times, 0.99));
        }
        let _ = writeln!(text, "\n| goal | measured | |\n|---|---|---|");
        for (goal, measured, is_met) in self.goals() {
            let _ = writeln!(text, "| {goal} | {measured} | {} |", if is_met { "met" } else { "**missed**" });
        }
        text
    }

    fn goals(&self) -> Vec<(String, String, bool)> {
        let mut goals = Vec::new();
        for pair in &self.pairs {
            let ratio = pair.ratio();
            goals.push((format!("ratio at {} at least 0.70", pair.prefetch), format!("{ratio:.2}"), ratio >= 0.70));
        }
        for (share, most) in [(0.5, 6.0), (0.99, 15.0)] {
            let (bare, worker) = (quantile(&self.paced.bare, share), quantile(&self.paced.worker, share));
            let name = if share == 0.5 { "p50" } else { "p99" };
            goals.push((format!("{name} at most {most:.0} ms"), format!("{worker:.1} ms"), worker <= most));
            let times = worker / bare;
            goals.push((format!("{name} at most 1.5 × the bare loop's"), format!("{times:.2} ×"), times <= 1.5));
        }
        let (cpu, peak) = (self.worst(|meter| meter.cpu_us), self.worst(|meter| meter.peak_mib));
        goals.push(("CPU at most 300 µs a job".to_owned(), format!("{cpu:.0} µs"), cpu <= 300.0));
        goals.push(("memory at most 96 MiB".to_owned(), format!("{peak:.0} MiB"), peak <= 96.0));
        goals
    }

    /// For programs.
    pub fn line(&self) -> String {
        let ratio = |prefetch| self.pairs.iter().find(|pair| pair.prefetch == prefetch).map_or(f64::NAN, Pair::ratio);
        format!(
            "throughput ratio_64={:.3} ratio_256={:.3} p50_ms={:.2} p99_ms={:.2} cpu_us_per_job={:.0} syncs_per_job={:.3} peak_mib={:.1}",
            ratio(64),
            ratio(256),
            quantile(&self.paced.worker, 0.5),
            quantile(&self.paced.worker, 0.99),
            self.worst(|meter| meter.cpu_us),
            self.worst(|meter| meter.syncs),
            self.worst(|meter| meter.peak_mib),
        )
    }

    /// Replaces the text between the two marks of the page.
    pub fn write(&self, page: &Path) {
        const BEGIN: &str = "<!-- throughput: begin -->";
        const END: &str = "<!-- throughput: end -->";
        let text = std::fs::read_to_string(page).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the page has the first mark");
        let (_, after) = rest.split_once(END).expect("the page has the last mark");
        std::fs::write(page, format!("{before}{BEGIN}\n{}\n{END}{after}", self.tables().trim())).unwrap();
    }
}
