//! The ring of keys: the first seals, all open.
