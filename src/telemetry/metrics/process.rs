//! `process_*`, with the names that all Prometheus client libraries use, as Linux accounts for the process. None on
//! other systems.

use std::fmt::Write;
use std::fs;

/// `USER_HZ`, the unit in which Linux reports times to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn render(text: &mut String) {
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // A String takes everything.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    };
    let stat = Stat::read();
    let stat = |place: usize| stat.as_ref().and_then(|stat| stat.number(place));
    let seconds = |ticks: Option<f64>| ticks.map(|ticks| ticks / TICKS_PER_SECOND);
    let cpu = stat(UTIME).zip(stat(STIME)).map(|(user, system)| user + system);
    metric("process_cpu_seconds_total", "counter", "CPU time, of user and system, in seconds.", seconds(cpu));
    metric("process_resident_memory_bytes", "gauge", "Resident memory.", status("VmRSS:"));
    metric("process_virtual_memory_bytes", "gauge", "Virtual memory.", stat(VSIZE));
    metric("process_threads", "gauge", "Threads.", stat(THREADS));
    metric("process_open_fds", "gauge", "Open file descriptors.", open_fds());
    metric("process_max_fds", "gauge", "File descriptors that the process may open.", max_fds());
    let started = seconds(stat(START)).zip(booted()).map(|(after, boot)| after + boot);
    metric("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", started);
}

// Fields of /proc/self/stat behind the program's name: proc_pid_stat(5), less 3.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START: usize = 19;
const VSIZE: usize = 20;

struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name is in parentheses, and may contain some itself.
        text.rsplit_once(") ").map(|(_, fields)| Self(fields.to_owned()))
    }

    fn number(&self, place: usize) -> Option<f64> {
        self.0.split(' ').nth(place)?.trim().parse().ok()
    }
}

/// A value of /proc/self/status, in bytes.
fn status(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?;
    kilobytes.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// When the system started, in seconds since 1970.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "no process has 2^53 descriptors")]
fn open_fds() -> Option<f64> {
    // One of them is the open folder itself.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "no process may open 2^53 descriptors")]
fn max_fds() -> Option<f64> {
    rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft as f64)
}
