//! How much memory the process may use: the limit of its cgroup, if there is one.

use std::path::Path;

/// Where Linux mounts the groups.
const ROOT: &str = "/sys/fs/cgroup";
/// cgroup v1 writes this or more for "no limit".
const NO_LIMIT: u64 = 1 << 60;

/// In bytes; `None` without a limit or without cgroups.
pub(super) fn limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    least(Path::new(ROOT), &own)
}

/// The lowest limit of the groups that `own` names and of those above them: `memory.max` of cgroup v2 (`0::/path`), or
/// `memory.limit_in_bytes` of v1 (`7:memory:/path`).
fn least(root: &Path, own: &str) -> Option<u64> {
    let groups = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (folder, file) = match controllers {
            "" => ("", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => ("memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        Some((root.join(folder), Path::new(path.trim_start_matches('/')), file))
    });
    let files = groups.flat_map(|(root, path, file)| path.ancestors().map(move |group| root.join(group).join(file)));
    let limits = files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|bytes| *bytes < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = |own: &str| least(root.path(), own);
        assert_eq!(found("0::/a/b\n"), None);
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "268435456\n");
        assert_eq!(found("0::/a/b\n"), Some(256 << 20));
        // In a container the group is the root.
        put("memory.max", "1048576\n");
        assert_eq!((found("0::/\n"), found("0::/a/b\n")), (Some(1 << 20), Some(1 << 20)));
        put("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/memory.limit_in_bytes", "4096\n");
        assert_eq!(found("9:cpu,cpuacct:/c\n7:memory:/c\n"), Some(4096));
        assert_eq!(found("9:cpu:/c\nnonsense\n"), None);
    }
}
