//! Large pages for large outputs. Memory fresh from the system costs a fault a page: with pages of 4 KiB that takes longer
//! than most kernels do, and an allocator that gives freed memory back pays it at each call.

/// Outputs of at least this many bytes ask for large pages: two of them on most machines.
#[cfg(target_os = "linux")]
const LEAST_BYTES: usize = 4 << 20;

/// Asks the system to back this memory with large pages, where it has any. It may not listen; nothing depends on it.
#[cfg(target_os = "linux")]
pub fn ask_for_large_ones(memory: *mut u8, bytes: usize) {
    const PAGE: usize = 4096;
    if bytes < LEAST_BYTES {
        return;
    }
    let first = memory.align_offset(PAGE);
    let whole = (bytes - first.min(bytes)) / PAGE * PAGE;
    // SAFETY: the pages lie inside of an allocation of ours, and advice changes nothing of what they hold.
    unsafe { libc::madvise(memory.add(first).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub fn ask_for_large_ones(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_of_any_size_and_alignment_stays_what_it_is() {
        for (start, len) in [(0, 0), (1, 100), (3, 4 << 20), (4095, 9 << 20)] {
            let mut memory = vec![7u8; start + len];
            super::ask_for_large_ones(memory[start..].as_mut_ptr(), len);
            assert!(memory.iter().all(|v| *v == 7));
            memory.fill(9);
            assert!(memory.iter().all(|v| *v == 9));
        }
    }
}
