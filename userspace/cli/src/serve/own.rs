//! What this process itself takes.

use dsascope_export::prometheus::Own;

pub(super) fn now() -> Own<'static> {
    Own { version: env!("CARGO_PKG_VERSION"), cpu_seconds: cpu_seconds(), memory_bytes: memory_bytes() }
}

fn cpu_seconds() -> Option<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage(2) of this process writes one rusage, for which there is room; all zeros are a valid one.
    let usage = unsafe {
        (libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) == 0).then(|| usage.assume_init())
    }?;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_takes_something() {
        let own = now();
        assert!(own.cpu_seconds.is_some_and(|seconds| seconds > 0.0));
        assert!(own.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
