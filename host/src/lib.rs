//! Reader library, in-memory store, queries and the wiretape command.
