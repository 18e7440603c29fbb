//! A hardened HTTP server that runs named programs for callers without credentials.
