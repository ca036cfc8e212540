//! Answers that are odd, and answers that are errors.
