//! Boots real Debian guests for end-to-end tests.
