//! Which mappings CRIU itself would leave for later (`vma_entry_can_be_lazy` in its source): private memory without a
//! file, not locked, not of huge pages. Also not a shadow stack.

/// Smaller mappings cost CRIU nothing.
pub const LEAST: u64 = 1 << 20;

/// The mappings of a frozen process that may be hidden: where each begins and ends.
pub fn of_process(pid: i32) -> Vec<(u64, u64)> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    if may_be_hidden(&read("status")) { large(&read("maps")).collect() } else { Vec::new() }
}

/// From `/proc/PID/status`.
fn may_be_hidden(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("VmLck:") == Some("0 kB") && !field("x86_Thread_features:").is_some_and(|features| features.contains("shstk"))
}

/// From `/proc/PID/maps`: `from-to rwxp offset device inode path`.
fn large(maps: &str) -> impl Iterator<Item = (u64, u64)> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let is_private = words.next()?.ends_with('p');
        let has_no_file = words.nth(2)? == "0";
        let name = words.next().unwrap_or_default();
        let is_anonymous = name.is_empty() || name == "[heap]" || name.starts_with("[anon:");
        (is_private && has_no_file && is_anonymous && to.checked_sub(from)? >= LEAST).then_some((from, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0200000 rw-p 00000000 00:00 0          [heap]
7f0000000000-7f0040000000 rw-p 00000000 00:00 0 
7f0050000000-7f0060000000 rw-p 00000000 00:00 0          [anon:a pool]
7f0061000000-7f0061001000 rw-p 00000000 00:00 0 
7f0070000000-7f0080000000 rw-s 00000000 00:01 1024       /dev/zero (deleted)
7f0090000000-7f00a0000000 rw-p 00000000 00:0f 4711       /anon_hugepage (deleted)
7f00b0000000-7f00c0000000 rw-p 00000000 08:01 99         /usr/lib/libx.so
7ffc00000000-7ffc00200000 rw-p 00000000 00:00 0          [stack]
nonsense
";

    #[test]
    fn large_private_memory_without_a_file_is_hidden_and_nothing_else() {
        let heap = (0x55d0_c000_0000, 0x55d0_c020_0000);
        let plain = (0x7f00_0000_0000, 0x7f00_4000_0000);
        let named = (0x7f00_5000_0000, 0x7f00_6000_0000);
        assert_eq!(large(MAPS).collect::<Vec<_>>(), [heap, plain, named]);
    }

    #[test]
    fn a_process_is_looked_at() {
        let held = vec![1_u8; 8 << 20];
        let start = held.as_ptr() as u64;
        let own = of_process(std::process::id().cast_signed());
        assert!(own.iter().any(|&(from, to)| from <= start && start + (8 << 20) <= to), "{own:x?}");
    }

    #[test]
    fn a_process_that_locks_memory_or_has_shadow_stacks_is_left_to_criu() {
        assert!(may_be_hidden("Name:\tx\nVmLck:\t       0 kB\nx86_Thread_features:\t\n"));
        assert!(!may_be_hidden("VmLck:\t      64 kB\n"));
        assert!(!may_be_hidden("VmLck:\t       0 kB\nx86_Thread_features:\tshstk wrss\n"));
        assert!(!may_be_hidden(""), "a kernel that does not say");
    }
}
