//! Whose path is it?
