//! Deadlines, long results and what a session is worth afterwards.
