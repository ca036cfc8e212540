//! Who may do what: pure, and tested as a table.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;

/// Who may enter: CONTRACT "access". Held against every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `user.id`s that may enter.
    pub users: BTreeSet<String>,
    /// Who-am-I's `organization.id`s whose people may enter.
    pub organizations: BTreeSet<String>,
    /// Anyone who can sign in to Upwork may.
    pub anyone: bool,
    /// Sessions of this user that began before this moment are over.
    pub not_before: BTreeMap<String, Timestamp>,
}
