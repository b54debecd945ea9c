//! How much memory a process holds, and for how long it ran.

/// The most that a process has held so far, in KiB.
pub fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
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
