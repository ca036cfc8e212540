//! How many connections the process's file descriptors allow.
//!
//! In: what is configured. Out: that, or less where the system allows less, so that a door says 503 while there are
//! descriptors left for the admin door, the stores and Upwork. It changes no limit of the system.

/// Descriptors for all but connections: listeners, runtimes, the admin door, stores, Upwork; a quarter where there are
/// few in all.
const KEPT: usize = 128;

/// `configured`, or as many connections as there are descriptors for: each may have one to the app beside its own.
pub(super) fn connections(configured: usize) -> usize {
    // Linux only; elsewhere the configuration is believed.
    let Some(soft) = std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(soft_limit) else {
        return configured;
    };
    let most = room(soft);
    if most < configured {
        tracing::warn!(
            descriptors = soft,
            connections = most,
            "public.limits.connections is {configured}, and the system allows fewer open files: raise `ulimit -n` (systemd: LimitNOFILE)"
        );
    }
    configured.min(most)
}

fn room(soft: usize) -> usize {
    ((soft - KEPT.min(soft / 4)) / 2).max(1)
}

/// `Max open files            1024                 524288               files`
fn soft_limit(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_or_128_are_kept_and_a_connection_may_need_two() {
        assert_eq!([4, 100, 1024, 20_480].map(room), [1, 37, 448, 10_176]);
    }

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let text =
            "Max processes  1 2 processes\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
    }
}
