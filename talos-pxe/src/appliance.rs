//! The one place where the parts are made and joined.
