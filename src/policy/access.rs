//! Admission by user and by organization.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;

/// Who is admitted: docs/configuration.md "access". Checked for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Admitted `user.id`s.
    pub users: BTreeSet<String>,
    /// Admitted `organization.id`s.
    pub organizations: BTreeSet<String>,
    /// Anyone who can sign in to Upwork is admitted.
    pub anyone: bool,
    /// Sessions of these users that began before this time have ended.
    pub not_before: BTreeMap<String, Timestamp>,
}

impl Access {
    /// Whether this user, acting for this organization, is admitted.
    pub(crate) fn admits(&self, user: &str, organization: Option<&str>) -> bool {
        self.anyone
            || self.users.contains(user)
            || organization.is_some_and(|organization| self.organizations.contains(organization))
    }

    /// Whether a session of `user` that began at `began_at` was ended by `access.not_before`.
    pub(crate) fn ended(&self, user: &str, began_at: Timestamp) -> bool {
        self.not_before.get(user).is_some_and(|moment| began_at < *moment)
    }
}
