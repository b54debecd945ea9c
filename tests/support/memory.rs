//! What a process needs of the machine: memory, processor time, context switches.

/// The most that a process has held so far, in KiB.
pub fn peak_kib(process: u32) -> u64 {
    number_of(&format!("/proc/{process}/status"), "VmHWM:")
}

/// A number of a status file.
///
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn number_of(file: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(file).unwrap();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// How often the threads of a process gave the processor away because they waited, all together.
pub fn context_switches(process: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let switches = |thread: std::io::Result<std::fs::DirEntry>| {
        let status = thread.unwrap().path().join("status");
        number_of(status.to_str().unwrap(), "voluntary_ctxt_switches:")
    };
    threads.map(switches).sum()
}

/// The processor time that a process has had, all its threads together.
pub fn processor_time(process: u32) -> std::time::Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let ran = |thread: std::io::Result<std::fs::DirEntry>| {
        let statistics = std::fs::read_to_string(thread.unwrap().path().join("schedstat"));
        let nanoseconds = statistics.unwrap();
        let nanoseconds = nanoseconds
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        std::time::Duration::from_nanos(nanoseconds)
    };
    threads.map(ran).sum()
}
